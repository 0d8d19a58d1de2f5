"""Faults below Serve: the GCS and its Redis."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import NotYet, seconds
from pytest_serve_chaos.cluster.capabilities import HasRedis, SignalsProcesses
from pytest_serve_chaos.errors import NoSuchTarget, ObservationError, WaitTimeout
from pytest_serve_chaos.faults import signs
from pytest_serve_chaos.faults.actors import ActorFrozen
from pytest_serve_chaos.faults.injection import Injection, Strike
from pytest_serve_chaos.faults.nodes import FREEZE_FOR
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.model import HEAD, Component, Evidence

_DIES_WITHIN = 15.0
_STOPS_WITHIN = 90.0
"""Seconds: after SIGTERM `gcs_server` stays for 61 s, in which it serves nobody (measured with Ray 2.60)."""


@dataclass
class GcsKilled:
    """`gcs_server` gets a signal; `ray start --block` then takes the head down, and it is started again."""

    rig: Rig
    victim: Component
    number: int
    kind: str = "gcs_failure"
    serves: bool = False
    sick: tuple[Component, ...] = ()
    sign_within: float = 75.0
    silent: Evidence | None = None

    @property
    def victims(self) -> tuple[Component, ...]:
        """The GCS, and the head that goes with it."""
        return tuple(c for c in self.rig.watcher.topology.components if c.node == HEAD) or (self.victim,)

    @property
    def text(self) -> str:
        """What it does."""
        return f"{signal.Signals(self.number).name} to gcs_server (PID {self.victim.pid})"

    def strike(self) -> Strike:
        """Sends the signal and waits until the process is gone."""
        cluster = self.rig.capability(SignalsProcesses, "send signals to processes")  # type: ignore[type-abstract]
        asked, stops = clock.now(), self.number == signal.SIGTERM
        cluster.signal_process(self.victim.identity, self.number)

        def gone() -> Evidence | NotYet:
            if self.rig.watcher.sample().find(self.victim.identity) is not None:
                if stops and self.silent is None:
                    self.silent = signs.gcs_is_silent(self.rig)  # before it goes: soon after, the next one answers
                return NotYet("gcs_server is there")
            return Evidence(clock.now(), "victim", f"gcs_server (PID {self.victim.pid}) is gone")

        # What is killed went just now; what stops is a minute about it, in which looking often takes from the traffic.
        within, interval = (_STOPS_WITHIN, 0.2) if stops else (_DIES_WITHIN, 0.02)
        try:
            sign = clock.wait_until("gcs_server to go", gone, timeout=within, interval=interval)
        except WaitTimeout:
            return Strike(asked, ())
        # From SIGTERM on it serves nobody: that is when it was struck, though it stays for a minute.
        stopped = Evidence(asked, "victim", f"gcs_server (PID {self.victim.pid}) was asked to stop")
        return Strike(asked, (stopped, sign) if stops else (sign,))

    def sign(self, struck: float) -> Evidence | None:
        """The state API, which asks the GCS, does not answer; or the head went, as it does without its GCS."""
        return self.silent or signs.gcs_is_silent(self.rig)

    def heal(self) -> None:
        """The head is started again by the platform."""


class GcsFrozen(ActorFrozen):
    """`gcs_server` is stopped for a while."""

    def sign(self, struck: float) -> Evidence | None:
        """The state API does not answer."""
        return signs.gcs_is_silent(self.rig)


@dataclass
class RedisDown:
    """Redis is taken down; without its store the GCS exits."""

    rig: Rig
    how: Literal["kill", "stop"]
    hold: bool
    victims: tuple[Component, ...]
    kind: str = "redis_failure"
    serves: bool = False
    sick: tuple[Component, ...] = ()
    sign_within: float = 60.0

    @property
    def text(self) -> str:
        """What it does."""
        return f"{'SIGKILL' if self.how == 'kill' else 'SIGTERM'} to Redis{', which stays down' if self.hold else ''}"

    def strike(self) -> Strike:
        """Takes it down."""
        cluster = self.rig.capability(HasRedis, "break Redis")  # type: ignore[type-abstract]
        asked = clock.now()
        evidence: Sequence[Evidence] = cluster.kill_redis(how=self.how, hold=self.hold)
        return Strike(asked, evidence)

    def sign(self, struck: float) -> Evidence | None:
        """The GCS does not answer, or the head has a new one: it exits without its store."""
        now = self.rig.watcher.topology.of("gcs")
        if now and all(c.identity not in {v.identity for v in self.victims} for c in now):
            return Evidence(clock.now(), "cluster", "the head has a new GCS")
        return signs.gcs_is_silent(self.rig)

    def heal(self) -> None:
        """Lets it come back."""
        self.rig.capability(HasRedis, "bring Redis back").restore_redis()  # type: ignore[type-abstract]


@dataclass
class RedisFrozen(ActorFrozen):
    """Redis is stopped for a while."""

    def sign(self, struck: float) -> Evidence | None:
        """It does not answer."""
        try:
            self.rig.capability(HasRedis, "ask Redis").redis_keys()  # type: ignore[type-abstract]
        except ObservationError as error:
            return Evidence(clock.now(), "cluster", str(error))
        return None


@dataclass(frozen=True)
class GcsTarget:
    """The GCS: ``chaos.gcs``."""

    rig: Rig
    victim: Component

    def kill(self) -> Injection:
        """SIGKILL to `gcs_server`."""
        return Injection(self.rig, GcsKilled(self.rig, self.victim, signal.SIGKILL))

    def stop(self) -> Injection:
        """SIGTERM to `gcs_server`: the head stays some 60 s without one, then goes."""
        return Injection(self.rig, GcsKilled(self.rig, self.victim, signal.SIGTERM))

    def freeze(self, for_: float | str = FREEZE_FOR) -> Injection:
        """SIGSTOP for so many seconds."""
        fault = GcsFrozen(self.rig, "gcs_failure", self.victim)
        return Injection(self.rig, fault, hold_for=seconds(for_, name="for_"))


@dataclass(frozen=True)
class RedisTarget:
    """Redis: ``chaos.redis``."""

    rig: Rig

    def kill(self, *, hold: bool = False) -> Injection:
        """SIGKILL; with `hold` it stays down until it is healed."""
        return self._down("kill", hold)

    def stop(self, *, hold: bool = False) -> Injection:
        """SIGTERM; with `hold` it stays down until it is healed."""
        return self._down("stop", hold)

    def freeze(self, for_: float | str = FREEZE_FOR) -> Injection:
        """SIGSTOP for so many seconds."""
        topology = self.rig.watcher.sample()
        if not topology.of("redis"):
            raise NoSuchTarget("there is no Redis", mend=["ask for one with @pytest.mark.serve_cluster(gcs='redis')"])
        fault = RedisFrozen(self.rig, "redis_failure", topology.of("redis")[0])
        return Injection(self.rig, fault, hold_for=seconds(for_, name="for_"))

    def _down(self, how: Literal["kill", "stop"], hold: bool) -> Injection:
        topology = self.rig.watcher.sample()
        victims = (*topology.of("redis"), *topology.of("gcs"))
        return Injection(self.rig, RedisDown(self.rig, how, hold, victims))
