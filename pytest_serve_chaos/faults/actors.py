"""What the faults on one process have in common: how it is chosen, killed or frozen, and what proves that."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import NotYet, seconds
from pytest_serve_chaos.cluster.capabilities import KILLS_ACTORS, SIGNALS_PROCESSES, SignalsProcesses
from pytest_serve_chaos.errors import NoSuchTarget, WaitTimeout
from pytest_serve_chaos.faults import signs
from pytest_serve_chaos.faults.defaults import FREEZE_FOR
from pytest_serve_chaos.faults.fault import Strike
from pytest_serve_chaos.faults.injection import Injection
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.faults.spec import Need, keyword
from pytest_serve_chaos.kinds import Choice, NodeName
from pytest_serve_chaos.model import MANAGER_FROZEN, Component, Evidence, Identity, Role

_GONE_WITHIN = 10.0
_STOPS_WITHIN = 5.0


Part = Literal["haproxy", "manager"]
"""Of a proxy with HAProxy: the process that takes the requests, or Serve's manager of it."""


class _OnOneActor:
    rig: Rig
    victim: Component
    part: Part | None

    @property
    def victims(self) -> tuple[Component, ...]:
        """The actor."""
        return (self.victim,)

    @property
    def serves(self) -> bool:
        """Proxies and replicas do."""
        return self.victim.role in ("proxy", "replica")

    @property
    def who(self) -> str:
        """Which process it is, for people."""
        process = self.process(self.victim)
        if self.victim.serving is None:
            return f"{self.victim.name} (PID {self.victim.pid})"
        what = "HAProxy" if process == self.victim.serving else "manager"
        return f"{what} of the {self.victim.name} (PID {process.pid})"

    def process(self, victim: Component) -> Identity:
        """The process that is to be hit."""
        return victim.identity if self.part == "manager" else victim.serving or victim.identity

    def process_now(self) -> Identity:
        """The same, after a reload of HAProxy another one.

        Raises:
            NoSuchTarget: The victim is gone.
        """
        now = self.rig.watcher.sample().find(self.victim.identity)
        if now is None:
            raise NoSuchTarget(f"{self.victim.name} is gone", checked=[str(self.victim.identity)])
        return self.process(now)


@dataclass
class ActorKilled(_OnOneActor):
    """An actor is killed, by a signal to its process or by `ray.kill`.

    Attributes:
        by: ``signal``, or ``ray`` (with `no_restart`).
        part: Which process of a proxy with HAProxy; None: the one that takes the requests, and by ``ray`` its manager.
    """

    rig: Rig
    kind: str
    victim: Component
    by: Literal["signal", "ray"]
    no_restart: bool = False
    part: Part | None = None
    sick: tuple[Component, ...] = ()
    sign_within: float = 30.0

    @property
    def options(self) -> Mapping[str, object]:
        """How it is killed, and of which deployment it is."""
        return {"how": "kill", "by": self.by, **deployment_of(self.victim), **_of_part(self.part)}

    @property
    def text(self) -> str:
        """A description of the fault, for people."""
        if self.by == "signal":
            return f"SIGKILL to the {self.who}"
        return f"ray.kill(no_restart={self.no_restart}) of the {self.victim.name} (PID {self.victim.pid})"

    def strike(self) -> Strike:
        """Kills it and waits until its process is gone."""
        if self.by == "signal":
            cluster = self.rig.capability(SIGNALS_PROCESSES, "send signals to processes")
            process = self.process_now()
            asked = clock.now()
            cluster.signal_process(process, signal.SIGKILL)
        else:
            if self.victim.actor_id is None:
                raise NoSuchTarget(
                    f"the actor id of {self.victim.name} is unknown, because the state API did not answer"
                )
            killer = self.rig.capability(KILLS_ACTORS, "kill actors")
            asked = killer.kill_actor(self.victim.actor_id, no_restart=self.no_restart)
        return Strike(asked, self._wait_gone())

    def sign(self, struck: float) -> Evidence | None:
        """The GCS says that it is not ALIVE any more; while it is away, the traffic says so."""
        found = signs.actor_is_gone(self.rig, self.victim) if self.victim.actor_id else None
        return found or (signs.nobody_answers(self.rig, self.victims, struck) if self.serves else None)

    def heal(self) -> None:
        """Ray or Serve replaces what was killed."""

    def _wait_gone(self) -> tuple[Evidence, ...]:
        gone = f"the process of {self.victim.name} (PID {self.victim.pid}) is gone"
        if self.victim.serving is not None and self.by == "signal":
            gone = f"the {self.who} is gone, and no other took over"
        return signs.wait_process_gone(self.rig, self.victim, gone, within=_GONE_WITHIN)


@dataclass
class ActorFrozen(_OnOneActor):
    """The process of an actor is stopped for a while."""

    rig: Rig
    kind: str
    victim: Component
    lasts: float = FREEZE_FOR
    part: Part | None = None
    sick: tuple[Component, ...] = ()
    stopped: Identity | None = None
    heals_at_once: ClassVar[bool] = True

    @property
    def serves(self) -> bool:
        """Proxies and replicas do; the manager of a HAProxy does not."""
        return self.part != "manager" and super().serves

    @property
    def options(self) -> Mapping[str, object]:
        """For how long it is stopped, and of which deployment it is."""
        return {"how": "freeze", "for_": self.lasts, **deployment_of(self.victim), **_of_part(self.part)}

    @property
    def sign_within(self) -> float:
        """Seconds for the cluster's sign: 15, but never longer than it stands still, when there is none any more."""
        return min(15.0, self.lasts)

    @property
    def text(self) -> str:
        """A description of the fault, for people."""
        return f"SIGSTOP to the {self.who}"

    def strike(self) -> Strike:
        """Stops it, and waits until it stands still; without a sign where it goes on."""
        self.stopped = self.process_now()
        expected = MANAGER_FROZEN if self.part == "manager" else "frozen"
        asked = clock.now()
        self._signals().signal_process(self.stopped, signal.SIGSTOP, lasts=self.lasts)

        def stopped() -> Evidence | NotYet:
            seen = self.rig.watcher.sample().find(self.victim.identity)
            if seen is None or seen.state != expected:
                return NotYet(f"its state is {seen.state if seen else 'gone'}")
            what = f"process of {self.victim.name}" if self.victim.serving is None else self.who
            return Evidence(clock.now(), "victim", f"the {what} is stopped (state T)")

        within = self.rig.sign_within(_STOPS_WITHIN)
        try:
            return Strike(asked, (clock.wait_until("the process to stop", stopped, timeout=within, interval=0.02),))
        except WaitTimeout:
            return Strike(asked, ())

    def sign(self, struck: float) -> Evidence | None:
        """It does not answer."""
        if self.part == "manager":
            return signs.proxy_is_not_healthy(self.rig, self.victim)
        if self.victim.role == "controller":
            return signs.controller_is_silent(self.rig)
        if self.victim.role == "proxy":
            return signs.proxy_is_silent(self.rig, self.victim)
        return signs.nobody_answers(self.rig, self.victims, struck)

    def heal(self) -> None:
        """Resumes the process, if it is still there."""
        if self.stopped is None:
            return
        try:
            self._signals().signal_process(self.stopped, signal.SIGCONT)
        except NoSuchTarget:
            self.rig.progress(f"{self.victim.name} was replaced while it was frozen")

    def _signals(self) -> SignalsProcesses:
        return self.rig.capability(SIGNALS_PROCESSES, "send signals to processes")


def _of_part(part: Part | None) -> Mapping[str, str]:
    """What a marker says of the part of a proxy."""
    return {} if part is None else {"part": part}


def deployment_of(victim: Component) -> Mapping[str, str]:
    """What a marker says of the deployment of a victim that is a replica."""
    return {} if victim.deployment is None else {"deployment": victim.deployment}


def choose_component(rig: Rig, role: Role, *, on: str | None = None, deployment: str | None = None) -> Component:
    """One component of a role, of a deployment where one is named, on a node where one is named; the seed decides.

    Raises:
        NoSuchTarget: There is none.
    """
    topology = rig.watcher.sample()
    candidates = topology.of(role, on=on, deployment=deployment)
    if role == "replica":
        staying = {c.identity for c in rig.health.in_service()}  # others would go, or do not serve yet, without a fault
        candidates = tuple(c for c in candidates if c.identity in staying) or candidates
    what = role + (f" of {deployment}" if deployment else "") + (f" on {on}" if on else "")
    if not candidates:
        raise NoSuchTarget(
            f"there is no {what}",
            checked=[f"{c.name} (PID {c.pid})" for c in topology.of(role)] or [f"no {role}"],
            fix=[f"name what is there: on='...'{', deployment=...' if deployment else ''}", "or leave it to the seed"],
        )
    return rig.choose(rig.traffic.serving(candidates), what, topology)


@dataclass(frozen=True)
class ActorTarget:
    """One process that can be broken.

    Attributes:
        part: Which process of a proxy with HAProxy; None: the one that takes the requests.
    """

    rig: Rig
    kind: str
    victim: Component
    part: Part | None = None

    def freeze(self, for_: float | str = FREEZE_FOR, *, must_land: bool = True) -> Injection:
        """SIGSTOP for so many seconds.

        Raises:
            NotLanded: Nothing shows that it stands still, and it must (`must_land`).
        """
        hold_for = seconds(for_, name="for_")
        fault = ActorFrozen(self.rig, self.kind, self.victim, lasts=hold_for, part=self.part)
        return Injection(self.rig, fault, hold_for=hold_for, must_land=must_land)


By = Literal["signal", "ray"]


def by() -> By:
    """The keyword `by`: a signal to the process, or `ray.kill` as in the guide."""
    return keyword(Choice("signal", "ray"), "signal", verbs=["kill"])


ON = NodeName("head", "workers")
SERVING_NEEDS = (
    Need((SIGNALS_PROCESSES,), "send signals to processes", verbs=("freeze",)),
    Need((SIGNALS_PROCESSES,), "send signals to processes", verbs=("kill",), only={"by": "signal"}),
    Need((KILLS_ACTORS,), "kill actors", verbs=("kill",), only={"by": "ray"}),
)


@dataclass(frozen=True)
class ServingTarget(ActorTarget):
    """A proxy or a replica: ``chaos.proxy(...)``, ``chaos.replica(...)``."""

    def kill(self, *, by: By = "signal", must_land: bool = True, allow_total_loss: bool = False) -> Injection:
        """Kills it with SIGKILL, or with `ray.kill` as the guide does.

        Args:
            by: ``signal``, or ``ray``.
            must_land: Whether it is an error if nothing shows that it died.
            allow_total_loss: Whether it may be the last that runs on an external cluster.

        Raises:
            NotLanded: Nothing shows that it died, and it must (`must_land`).
        """
        no_restart = self.victim.role == "replica"
        fault = ActorKilled(self.rig, self.kind, self.victim, by, no_restart=no_restart, part=self.part)
        with self.rig.current.allowing_total_loss(allow_total_loss):
            return Injection(self.rig, fault, must_land=must_land)

    def freeze(
        self, for_: float | str = FREEZE_FOR, *, must_land: bool = True, allow_total_loss: bool = False
    ) -> Injection:
        """SIGSTOP for so many seconds.

        Args:
            for_: Seconds, or text with a unit.
            must_land: Whether it is an error if nothing shows that it stands still.
            allow_total_loss: Whether it may be the last that runs on an external cluster.

        Raises:
            NotLanded: Nothing shows that it stands still, and it must (`must_land`).
        """
        with self.rig.current.allowing_total_loss(allow_total_loss):
            return super().freeze(for_, must_land=must_land)


def break_serving(target: ServingTarget, how: str, *, by: By, for_: float, must_land: bool) -> Injection:
    """Does to a proxy or a replica what a marker says."""
    if how == "freeze":
        return target.freeze(for_, must_land=must_land)
    return target.kill(by=by, must_land=must_land)
