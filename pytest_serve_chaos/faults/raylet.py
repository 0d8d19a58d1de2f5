"""The fault `raylet_failure`: the raylet of a node is killed or frozen; the node goes with a raylet that dies."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import seconds
from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.capabilities import SIGNALS_PROCESSES
from pytest_serve_chaos.cluster.policy import Touch
from pytest_serve_chaos.errors import NoSuchTarget, ObservationError
from pytest_serve_chaos.faults import head, signs, worker
from pytest_serve_chaos.faults.actors import ON, ActorFrozen
from pytest_serve_chaos.faults.defaults import FREEZE_FOR, unless_frozen, with_profile, without_head
from pytest_serve_chaos.faults.fault import Strike
from pytest_serve_chaos.faults.injection import Injection
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.faults.spec import FaultSpec, Need, freeze_for, keyword
from pytest_serve_chaos.model import HEAD, Component, Evidence, Expectations
from pytest_serve_chaos.prediction import node_rules

NAME = "raylet_failure"

_DIES_WITHIN = 15.0


@dataclass
class RayletKilled:
    """A raylet gets SIGKILL: its workers end, `ray start --block` too, and the platform starts the node again.

    Attributes:
        victim: The raylet.
        victims: All that is on its node.
        ids: The ids under which the GCS knows the node.
    """

    rig: Rig
    victim: Component
    victims: tuple[Component, ...]
    ids: frozenset[str]
    kind: str = NAME
    serves: bool = True
    sick: tuple[Component, ...] = ()

    @property
    def options(self) -> Mapping[str, object]:
        """On which node it is."""
        return {"how": "kill", "on": self.victim.node}

    @property
    def text(self) -> str:
        """A description of the fault, for people."""
        return f"SIGKILL to the {self.victim.name} (PID {self.victim.pid})"

    @property
    def sign_within(self) -> float:
        """The GCS' own detection."""
        return signs.gcs_notices_within(self.rig)

    def strike(self) -> Strike:
        """Kills it and waits until its process is gone."""
        cluster = self.rig.capability(SIGNALS_PROCESSES, "send signals to processes")
        asked = clock.now()
        cluster.signal_process(self.victim.identity, signal.SIGKILL)
        gone = f"the {self.victim.name} (PID {self.victim.pid}) is gone"
        return Strike(asked, signs.wait_process_gone(self.rig, self.victim, gone, within=_DIES_WITHIN))

    def sign(self, struck: float) -> Evidence | None:
        """The GCS says that the node is DEAD; while it is away, the traffic says so."""
        node = self.victim.node
        return signs.node_is_dead(self.rig, node, self.ids) or signs.nobody_answers(self.rig, self.victims, struck)

    def heal(self) -> None:
        """The node is started again by the platform."""


@dataclass
class RayletFrozen(ActorFrozen):
    """A raylet is stopped for a while: the actors on its node go on, and none can be started there.

    Attributes:
        silent: How many raylets did not answer before.
    """

    silent: int = 0

    @property
    def options(self) -> Mapping[str, object]:
        """For how long it is stopped, and on which node it is."""
        return {"how": "freeze", "for_": self.lasts, "on": self.victim.node}

    def sign(self, struck: float) -> Evidence | None:
        """One raylet more than before does not answer the state API, which asks each of them."""
        silent = _silent(self.rig)
        if silent is None or silent <= self.silent:
            return None
        more = "" if not self.silent else f", {self.silent} before"
        return Evidence(clock.now(), "cluster", f"{silent} of the raylets that the state API asks do not answer{more}")


def _silent(rig: Rig) -> int | None:
    """How many raylets do not answer; None where nobody can say."""
    try:
        return rig.cluster.dashboard.silent_raylets()
    except ObservationError:
        return None


@dataclass(frozen=True)
class RayletTarget:
    """A raylet: ``chaos.raylet(on=...)``."""

    rig: Rig
    victim: Component

    def kill(self, *, must_land: bool = True, allow_total_loss: bool = False) -> Injection:
        """SIGKILL: all that Ray runs on its node goes, and the node is started again.

        Raises:
            NotLanded: Nothing shows that it died, and it must (`must_land`).
        """
        node = self.victim.node
        victims = tuple(c for c in self.rig.watcher.topology.components if c.node == node)
        fault = RayletKilled(self.rig, self.victim, victims, signs.node_ids(self.rig, node))
        with self.rig.current.allowing_total_loss(allow_total_loss):
            return Injection(self.rig, fault, must_land=must_land)

    def freeze(
        self, for_: float | str = FREEZE_FOR, *, must_land: bool = True, allow_total_loss: bool = False
    ) -> Injection:
        """SIGSTOP for so many seconds: actors on its node go on, until the GCS takes the node for dead.

        Raises:
            NotLanded: Nothing shows that it stands still, and it must (`must_land`).
        """
        lasts = seconds(for_, name="for_")
        fault = RayletFrozen(self.rig, NAME, self.victim, lasts=lasts, silent=_silent(self.rig) or 0)
        with self.rig.current.allowing_total_loss(allow_total_loss):
            return Injection(self.rig, fault, hold_for=lasts, must_land=must_land)


# -- the fault ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RayletKeywords:
    """What its marker can say."""

    on: str = keyword(ON, "workers")
    for_: float = freeze_for()


def target(rig: Rig, on: str | None) -> RayletTarget:
    """A raylet on a node, on one of the ``workers``, or anywhere: ``chaos.raylet(on)``. It prefers nodes that serve.

    Raises:
        NoSuchTarget: There is none.
    """
    topology = rig.watcher.sample()
    raylets = topology.of("raylet", on=on)
    what = "raylet" + (f" on {on}" if on else "")
    if not raylets:
        raise NoSuchTarget(f"there is no {what}", checked=[c.name for c in topology.of("raylet")] or ["no raylet"])
    serving = {c.node for c in rig.traffic.serving(topology.of("replica", on=on))}
    return RayletTarget(rig, rig.choose([c for c in raylets if c.node in serving] or raylets, what, topology))


def _inject(rig: Rig, how: str, given: RayletKeywords, must_land: bool) -> Injection:
    raylet = target(rig, given.on)
    if how == "freeze":
        return raylet.freeze(given.for_, must_land=must_land)
    return raylet.kill(must_land=must_land)


def _adapt(expected: Expectations, cluster: ClusterSpec, how: str, given: RayletKeywords) -> Expectations:
    """The raylet of the head takes the head with it."""
    on_head = unless_frozen(lambda _, spec: without_head(head.EXPECTED, spec))
    return (on_head if given.on == HEAD else unless_frozen(with_profile))(expected, cluster, how, given)


def _touch(how: str, given: RayletKeywords) -> Touch:
    return Touch(actions=("run in pods",), loses=("head",) if given.on == HEAD else ())


FAULT = FaultSpec(
    name=NAME,
    breaks="the raylet of a node",
    verbs=("kill", "freeze"),
    keywords=RayletKeywords,
    inject=_inject,
    expectations=worker.EXPECTED,
    adapt=_adapt,
    needs=(Need((SIGNALS_PROCESSES,), "send signals to processes"),),
    external=_touch,
    loses=("worker", "replica"),
    target="chaos.raylet(on)",
    effect="the raylet of a node, and with it all that Ray runs there",
    dry_run=True,
    predict=node_rules.worker,
)
