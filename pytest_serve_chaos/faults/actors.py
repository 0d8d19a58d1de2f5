"""Faults on Serve's actors: the controller, a proxy, a replica."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Literal

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import NotYet, seconds
from pytest_serve_chaos.cluster.capabilities import KillsActors, SetsHealthFlags, ShowsControllerLog, SignalsProcesses
from pytest_serve_chaos.cluster.rest import seconds_of
from pytest_serve_chaos.errors import NoSuchTarget, NotHealed, WaitTimeout
from pytest_serve_chaos.faults import signs
from pytest_serve_chaos.faults.injection import Injection, Strike
from pytest_serve_chaos.faults.nodes import FREEZE_FOR
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.model import Component, Evidence
from pytest_serve_chaos.observe.settling import settle

Replacement = Literal["same_actor", "new_actor"]
_GONE_WITHIN = 10.0


class _OnOneActor:
    victim: Component

    @property
    def victims(self) -> tuple[Component, ...]:
        """The actor."""
        return (self.victim,)

    @property
    def serves(self) -> bool:
        """Proxies and replicas do."""
        return self.victim.role in ("proxy", "replica")


@dataclass
class ActorKilled(_OnOneActor):
    """An actor is killed, by a signal to its process or by `ray.kill`.

    Attributes:
        by: ``signal``, or ``ray`` (with `no_restart`).
    """

    rig: Rig
    kind: str
    victim: Component
    by: Literal["signal", "ray"]
    no_restart: bool = False
    sick: tuple[Component, ...] = ()
    sign_within: float = 30.0

    @property
    def text(self) -> str:
        """What it does."""
        means = "SIGKILL to" if self.by == "signal" else f"ray.kill(no_restart={self.no_restart}) of"
        return f"{means} the {self.victim.name} (PID {self.victim.pid})"

    def strike(self) -> Strike:
        """Kills it and waits until its process is gone."""
        if self.by == "signal":
            cluster = self.rig.capability(SignalsProcesses, "send signals to processes")  # type: ignore[type-abstract]
            asked = clock.now()
            cluster.signal_process(self.victim.identity, signal.SIGKILL)
        else:
            if self.victim.actor_id is None:
                raise NoSuchTarget(f"the actor id of {self.victim.name} is not known, for the state API did not answer")
            killer = self.rig.capability(KillsActors, "kill actors")  # type: ignore[type-abstract]
            asked = killer.kill_actor(self.victim.actor_id, no_restart=self.no_restart)
        return Strike(asked, self._wait_gone())

    def sign(self, struck: float) -> Evidence | None:
        """The GCS says that it is not ALIVE any more; while it is away, the traffic says so."""
        found = signs.actor_is_gone(self.rig, self.victim) if self.victim.actor_id else None
        return found or (signs.nobody_answers(self.rig, self.victims, struck) if self.serves else None)

    def heal(self) -> None:
        """Serve replaces what was killed; only those that a new controller left deaf are replaced here."""
        if self.no_restart and self.victim.role == "controller":
            _replace_deaf(self.rig)

    def _wait_gone(self) -> tuple[Evidence, ...]:
        def gone() -> Evidence | NotYet:
            if self.rig.watcher.sample().find(self.victim.identity) is not None:
                return NotYet(f"{self.victim.identity} is there")
            return Evidence(clock.now(), "victim", f"the process of {self.victim.name} (PID {self.victim.pid}) is gone")

        try:
            return (clock.wait_until("the process to be gone", gone, timeout=_GONE_WITHIN, interval=0.02),)
        except WaitTimeout:
            return ()


@dataclass
class ActorFrozen(_OnOneActor):
    """The process of an actor is stopped for a while."""

    rig: Rig
    kind: str
    victim: Component
    sick: tuple[Component, ...] = ()
    sign_within: float = 15.0

    @property
    def text(self) -> str:
        """What it does."""
        return f"SIGSTOP to the {self.victim.name} (PID {self.victim.pid})"

    def strike(self) -> Strike:
        """Stops it."""
        asked = clock.now()
        self._signal(signal.SIGSTOP)

        def stopped() -> Evidence | NotYet:
            seen = self.rig.watcher.sample().find(self.victim.identity)
            if seen is None or seen.state != "frozen":
                return NotYet(f"its state is {seen.state if seen else 'gone'}")
            return Evidence(clock.now(), "victim", f"the process of {self.victim.name} is stopped (state T)")

        return Strike(asked, (clock.wait_until("the process to stop", stopped, timeout=5.0, interval=0.02),))

    def sign(self, struck: float) -> Evidence | None:
        """It does not answer."""
        if self.victim.role == "controller":
            return signs.controller_is_silent(self.rig)
        if self.victim.role == "proxy":
            return signs.proxy_is_silent(self.rig, self.victim)
        return signs.nobody_answers(self.rig, self.victims, struck)

    def heal(self) -> None:
        """Lets it go on, if it is still there."""
        try:
            self._signal(signal.SIGCONT)
        except NoSuchTarget:
            self.rig.progress(f"{self.victim.name} was replaced while it was frozen")

    def _signal(self, number: int) -> None:
        cluster = self.rig.capability(SignalsProcesses, "send signals to processes")  # type: ignore[type-abstract]
        cluster.signal_process(self.victim.identity, number)


@dataclass
class HealthCheckFails:
    """The health check of one replica raises, or hangs."""

    rig: Rig
    victim: Component
    mode: Literal["raise", "hang"]
    kind: str = "health_check_failure"
    serves: bool = True

    @property
    def victims(self) -> tuple[Component, ...]:
        """The replica."""
        return (self.victim,)

    @property
    def sick(self) -> tuple[Component, ...]:
        """The replica, which lives until the controller has seen its check fail often enough."""
        return (self.victim,)

    @property
    def text(self) -> str:
        """What it does."""
        return f"the health check of the {self.victim.name} (PID {self.victim.pid}) {self.mode}s"

    @property
    def sign_within(self) -> float:
        """The third failure: REPLICA_HEALTH_CHECK_UNHEALTHY_THRESHOLD of ray/serve/_private/constants.py, and room.

        The periods are those of its deployment, where Serve says them.
        """
        serve, profile = self.rig.watcher.report.serve, self.rig.timing
        own = {} if serve is None else serve.options.get(self.victim.deployment or "", {})
        period = seconds_of(own, "health_check_period_s", profile.health_check_period)
        timeout = seconds_of(own, "health_check_timeout_s", profile.health_check_timeout)
        return 3 * (period + timeout) + 10.0

    def strike(self) -> Strike:
        """Sets the flag."""
        cluster = self.rig.capability(SetsHealthFlags, "make a health check fail")  # type: ignore[type-abstract]
        asked = clock.now()
        cluster.set_health_flag(self.victim, self.mode)
        return Strike(asked, (Evidence(clock.now(), "victim", f"its check_health {self.mode}s from now on"),))

    def sign(self, struck: float) -> Evidence | None:
        """The controller's log says that the check of this replica failed."""
        cluster = self.rig.capability(ShowsControllerLog, "show the controller's log")  # type: ignore[type-abstract]
        name = (self.victim.replica or "").rpartition("#")[2]
        pattern = rf"(?i)(health.?check.*{name}|{name}.*health.?check)"
        lines = cluster.controller_log(pattern=pattern, since=struck) if name else ()
        return Evidence(clock.now(), "cluster", lines[0][:300]) if lines else None

    def heal(self) -> None:
        """Takes the flag away."""
        self.rig.capability(SetsHealthFlags, "mend a health check").clear_health_flag(self.victim)  # type: ignore[type-abstract]


@dataclass(frozen=True)
class ActorTarget:
    """An actor of Serve that can be broken."""

    rig: Rig
    kind: str
    victim: Component

    def freeze(self, for_: float | str = FREEZE_FOR) -> Injection:
        """SIGSTOP for so many seconds."""
        return Injection(self.rig, ActorFrozen(self.rig, self.kind, self.victim), hold_for=seconds(for_, name="for_"))


@dataclass(frozen=True)
class ControllerTarget(ActorTarget):
    """The controller: ``chaos.controller``."""

    def kill(self, *, replacement: Replacement = "same_actor") -> Injection:
        """Kills it.

        Args:
            replacement: ``same_actor``: SIGKILL, and the GCS restarts the actor under its id. ``new_actor``:
                `ray.kill(no_restart=True)`, as in the guide, and whoever submits the Serve config makes another one.
        """
        new = replacement == "new_actor"
        fault = ActorKilled(self.rig, self.kind, self.victim, "ray" if new else "signal", no_restart=new)
        return Injection(self.rig, fault)


@dataclass(frozen=True)
class ServingTarget(ActorTarget):
    """A proxy or a replica: ``chaos.proxy(...)``, ``chaos.replica(...)``."""

    def kill(self, *, by: Literal["signal", "ray"] = "signal") -> Injection:
        """Kills it with SIGKILL, or with `ray.kill` as the guide does."""
        fault = ActorKilled(self.rig, self.kind, self.victim, by, no_restart=self.victim.role == "replica")
        return Injection(self.rig, fault)


@dataclass(frozen=True)
class ReplicaTarget(ServingTarget):
    """A replica."""

    def fail_health_check(self, mode: Literal["raise", "hang"] = "raise") -> Injection:
        """Makes its `check_health` raise or hang, where the app reads our flag (`apps.answers.HealthSwitch`)."""
        return Injection(self.rig, HealthCheckFails(self.rig, self.victim, mode))


def _replace_deaf(rig: Rig) -> None:
    """Replaces the proxies that a new controller left deaf; a cluster whose handles may be deaf too stays spoilt."""
    result = settle(rig.cluster, rig.watcher, rig.canaries)
    if result.passed:
        return
    deaf = result.deaf
    if result.untold:  # then it may be any of them
        deaf = rig.watcher.sample().of("proxy")
    if not isinstance(rig.cluster, SignalsProcesses):
        raise NotHealed("proxies that do not hear their controller cannot be replaced here", looked_at=[result.text])
    for proxy in deaf:
        rig.progress(f"replace {proxy.name}, which does not hear the new controller")
        rig.cluster.signal_process(proxy.identity, signal.SIGKILL)

    def replaced() -> bool | NotYet:
        now = rig.watcher.sample().of("proxy")
        old = [proxy.name for proxy in deaf if any(c.identity == proxy.identity for c in now)]
        missing = {c.node for c in deaf} - {c.node for c in now}
        return NotYet(f"still there: {old}; no proxy on {sorted(missing)}") if old or missing else True

    try:
        clock.wait_until("the deaf proxies to be replaced", replaced, timeout=60.0)
    except WaitTimeout as error:
        raise NotHealed(f"the deaf proxies could not be replaced: {error}") from error
    deployments = [c.deployment or "" for c in rig.watcher.topology.of("replica")]
    composed = len(set(deployments)) > len({name.partition("#")[0] for name in deployments})
    if not composed and settle(rig.cluster, rig.watcher, rig.canaries).passed:
        rig.spoilt = ""
