"""The fault `controller_failure`: Serve's controller is killed or frozen."""

from __future__ import annotations

import functools
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.cluster.capabilities import KILLS_ACTORS, RECORDS_STALE_PROXIES, SIGNALS_PROCESSES
from pytest_serve_chaos.cluster.policy import Touch
from pytest_serve_chaos.errors import NotHealed, WaitTimeout
from pytest_serve_chaos.faults.actors import ActorKilled, ActorTarget, choose_component
from pytest_serve_chaos.faults.admission import admit, kill_replica, require_its_owner_left_it_alone
from pytest_serve_chaos.faults.defaults import unless_frozen, with_profile
from pytest_serve_chaos.faults.fault import Strike
from pytest_serve_chaos.faults.injection import Injection
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.faults.spec import FaultSpec, Need, freeze_for, keyword
from pytest_serve_chaos.kinds import Choice
from pytest_serve_chaos.model import Component, Expectations
from pytest_serve_chaos.observe.external_check import settle
from pytest_serve_chaos.observe.healthy import healthy
from pytest_serve_chaos.observe.post_recovery import PostRecoveryCheck
from pytest_serve_chaos.prediction import serve_rules

NAME = "controller_failure"
Replacement = Literal["same_actor", "new_actor"]


class ControllerKilled(ActorKilled):
    """The controller is killed; with `no_restart` for good, and a new actor takes its place."""

    _off_record: Callable[[], None] | None = None

    @property
    def options(self) -> Mapping[str, object]:
        """The verb, and what takes the place of the controller."""
        return {"how": "kill", "replacement": "new_actor" if self.no_restart else "same_actor"}

    def strike(self) -> Strike:
        """Kills it and waits until its process is gone. Proxies that will not hear the next one are on record first."""
        records = self.rig.cluster.capability(RECORDS_STALE_PROXIES) if self.no_restart else None
        if records is not None:
            self._off_record = records.stale_after(self.victim, self.rig.watcher.sample().of("proxy"))
        return super().strike()

    def heal(self) -> None:
        """Ray restarts the controller; this replaces only the proxies that do not hear a new one."""
        if self.no_restart:
            _replace_stale(self.rig)
        if self._off_record is not None:
            self._off_record()
            self._off_record = None


@dataclass(frozen=True)
class ControllerTarget(ActorTarget):
    """The controller: ``chaos.controller``."""

    def kill(self, *, replacement: Replacement = "same_actor", must_land: bool = True) -> Injection:
        """Kills the controller.

        Args:
            replacement: ``same_actor``: SIGKILL, and the GCS restarts the actor under its id. ``new_actor``:
                `ray.kill(no_restart=True)`, as in the guide, and KubeRay (or this plugin) submits the Serve
                config again, which makes another one.
            must_land: Whether it is an error if nothing shows that it died.

        Raises:
            NotLanded: Nothing shows that it died.
        """
        new = replacement == "new_actor"
        fault = ControllerKilled(self.rig, self.kind, self.victim, "ray" if new else "signal", no_restart=new)
        return Injection(self.rig, fault, must_land=must_land)


def _replace_stale(rig: Rig) -> None:
    """Replaces the stale proxies. A cluster whose handles may be stale too stays tainted.

    Raises:
        OwnerChangedIt: Its owner has changed the cluster, so its proxies are left alone. They stay on record.
    """
    require_its_owner_left_it_alone(rig)
    result = _settle(rig)
    if result.passed:
        return
    stale = result.stale
    if result.unknown:  # any of them may be stale
        stale = rig.watcher.sample().of("proxy")
    processes = rig.cluster.capability(SIGNALS_PROCESSES)
    if processes is None:
        raise NotHealed("proxies that do not hear their controller cannot be replaced here", checked=[result.text])
    for proxy in stale:
        require_its_owner_left_it_alone(rig)
        rig.progress(f"replace {proxy.name}, which does not hear the new controller")
        with rig.current.allowing_total_loss(True):  # what a stale proxy takes, it will hang
            admit(rig, "proxy_failure", {"how": "kill"}, (proxy,), heals=True)
        processes.signal_process(proxy.identity, signal.SIGKILL)
        _wait_replaced(rig, proxy)
    deployments = [c.deployment or "" for c in rig.watcher.topology.of("replica")]
    composed = len(set(deployments)) > len({name.partition("#")[0] for name in deployments})
    if not composed and _settle(rig).passed:
        rig.soundness.clear()


def _settle(rig: Rig) -> PostRecoveryCheck:
    nodes = rig.health.proxy_nodes()
    kill = functools.partial(kill_replica, rig, heals=True)
    return settle(rig.cluster, rig.watcher, rig.run.canaries, nodes=nodes, kill=kill, messages=rig.traffic.asked)


def _wait_replaced(rig: Rig, stale: Component) -> None:
    """Waits for the proxy that takes the place of a stale one: until then another one has to take the requests."""

    def replaced() -> bool | NotYet:
        topology = rig.watcher.sample()
        if topology.find(stale.identity) is not None:
            return NotYet(f"{stale.name} is still there")
        taking = healthy(topology, rig.watcher.report).proxies
        return True if any(one.node == stale.node for one in taking) else NotYet(f"no proxy on {stale.node} is healthy")

    try:
        clock.wait_until("the stale proxy to be replaced", replaced, timeout=60.0)
    except WaitTimeout as error:
        raise NotHealed(f"the stale proxies could not be replaced: {error}") from error


# -- the fault ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ControllerKeywords:
    """What its marker can say."""

    replacement: Replacement = keyword(Choice("same_actor", "new_actor"), "same_actor", verbs=["kill"])
    for_: float = freeze_for()


def target(rig: Rig) -> ControllerTarget:
    """The controller: ``chaos.controller``."""
    return ControllerTarget(rig, NAME, choose_component(rig, "controller"))


def _inject(rig: Rig, how: str, given: ControllerKeywords, must_land: bool) -> Injection:
    if how == "freeze":
        return target(rig).freeze(given.for_, must_land=must_land)
    return target(rig).kill(replacement=given.replacement, must_land=must_land)


def _touch(how: str, given: ControllerKeywords) -> Touch:
    return Touch(actions=("run in pods",), new_controller=given.replacement == "new_actor")


FAULT = FaultSpec(
    name=NAME,
    breaks="the Serve controller",
    verbs=("kill", "freeze"),
    keywords=ControllerKeywords,
    inject=_inject,
    expectations=Expectations(replaced=("controller",), kept=("head", "gcs", "replica", "proxy")),
    adapt=unless_frozen(with_profile),
    needs=(
        Need((SIGNALS_PROCESSES,), "send signals to processes", verbs=("freeze",)),
        Need((SIGNALS_PROCESSES,), "send signals to processes", verbs=("kill",), only={"replacement": "same_actor"}),
        Need((KILLS_ACTORS,), "kill actors", verbs=("kill",), only={"replacement": "new_actor"}),
    ),
    external=_touch,
    target="chaos.controller",
    effect="Serve's controller",
    dry_run=True,
    predict=serve_rules.controller,
)
