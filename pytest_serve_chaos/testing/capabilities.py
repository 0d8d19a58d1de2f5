"""What can be broken in a fake cluster: one class for each group of capabilities."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pytest_serve_chaos import clock
from pytest_serve_chaos.cluster.base import Cluster
from pytest_serve_chaos.cluster.capabilities import KeptLogs
from pytest_serve_chaos.cluster.child_process import ChildProcess
from pytest_serve_chaos.cluster.storage import no_redis
from pytest_serve_chaos.cluster.waits import Waits
from pytest_serve_chaos.errors import NoSuchTarget, ObservationError
from pytest_serve_chaos.model import HEAD, Component, Evidence, Identity, LogLine
from pytest_serve_chaos.testing.behaviour import FakeBehaviour
from pytest_serve_chaos.testing.plan import REDIS, Slot
from pytest_serve_chaos.testing.world import World

ENGINE = "fake-engine"
COMMAND = f"/opt/engine/{ENGINE} --port 8000"
"""The name of the process below each replica."""

_SIGN_OF_NOTHING_WITHIN = 0.3
"""Seconds to wait for the sign of a fault that does nothing."""


@dataclass(frozen=True)
class FakeNodes:
    """Implements `KillsNodes` and `FreezesNodes`.

    Attributes:
        world: What lives in the cluster.
    """

    world: World

    def kill_node(self, name: str, *, how: Literal["kill", "stop"], hold: bool) -> Sequence[Evidence]:
        """Ends all that is on the node."""
        if self.world.behaviour.harmless:
            return ()
        with self.world.lock:
            self.world.held |= {name} if hold else set()
            self.world.kill_node(name)
        return (Evidence(clock.now(), "victim", f"no process of {name} is left"),)

    def restore_node(self, name: str) -> None:
        """Lets the node come back."""
        self.world.held.discard(name)

    def freeze_node(self, name: str, *, lasts: float | None = None) -> Sequence[Evidence]:
        """Stops all that is on the node."""
        if self.world.behaviour.harmless:
            return ()
        count = self.world.freeze_node(name, frozen=True)
        return (Evidence(clock.now(), "victim", f"all {count} processes of {name} are stopped"),)

    def thaw_node(self, name: str) -> None:
        """Resumes all that is on the node."""
        self.world.freeze_node(name, frozen=False)


@dataclass(frozen=True)
class FakeProcesses:
    """Implements `SignalsProcesses`, `SeesChildren` and `KillsActors`.

    Attributes:
        world: What lives in the cluster.
    """

    world: World

    def signal_process(self, identity: Identity, signal: int, *, lasts: float | None = None) -> None:
        """Sends a signal to one process."""
        if not self.world.behaviour.harmless:
            self.world.signal(identity, signal)

    def children(self, parent: Identity) -> tuple[ChildProcess, ...] | None:
        """The engine below each replica."""
        self.world.tick()
        with self.world.lock:
            part = self.world.by_identity(parent)
            if part is None:
                return None
            return (ChildProcess(part.child_identity, part.child, part.pid, ENGINE, COMMAND),) if part.child else ()

    def states(self, identities: Sequence[Identity]) -> Mapping[Identity, str]:
        """Which of these engines are there, and whether they stand still."""
        self.world.tick()
        with self.world.lock:
            parts = {identity: self.world.with_child(identity) for identity in identities}
            return {i: "frozen" if part.child_frozen else "running" for i, part in parts.items() if part is not None}

    def kill_actor(self, actor_id: str, *, no_restart: bool) -> float:
        """Does what `ray.kill` does.

        Raises:
            NoSuchTarget: There is no such actor.
        """
        with self.world.lock:
            part = next((p for p in self.world.parts.values() if p.actor_id == actor_id), None)
            if part is None:
                raise NoSuchTarget(f"there is no actor {actor_id}")
            asked = clock.now()
            if not self.world.behaviour.harmless:
                self.world.kill([part.slot], new_controller=no_restart and part.slot.role == "controller")
            return asked


@dataclass(frozen=True)
class FakeRedis:
    """Implements `HasRedis` and `SharesRedis`.

    Attributes:
        world: What lives in the cluster.
        start_head: Starts a head alone.
    """

    world: World
    start_head: Callable[[], Cluster]

    @property
    def redis_namespace(self) -> str:
        """The namespace under which the GCS keeps its keys."""
        return "fake"

    def kill_redis(self, *, how: Literal["kill", "stop"], hold: bool) -> Sequence[Evidence]:
        """Ends Redis, and with it the head: the GCS exits without its store."""
        self._check()
        if self.world.behaviour.harmless:
            return ()
        with self.world.lock:
            self.world.held |= {REDIS} if hold else set()
            self.world.kill([Slot("redis", REDIS)])
            self.world.kill_node(HEAD)
        return (Evidence(clock.now(), "victim", "Redis is gone"),)

    def restore_redis(self) -> None:
        """Lets Redis come back."""
        self.world.held.discard(REDIS)

    def redis_keys(self) -> tuple[str, ...]:
        """The keys that the GCS wrote.

        Raises:
            ObservationError: Redis does not answer.
        """
        self._check()
        with self.world.lock:
            if all(part.frozen for part in self.world.of("redis")):
                raise ObservationError("Redis does not answer")
        return ("RAYfake@KV", "RAYfake@NODE")

    def start_alongside(self, namespace: str | None = None) -> Cluster:
        """Starts a head alone, which knows nothing of this cluster."""
        del namespace
        return self.start_head()

    def _check(self) -> None:
        if self.world.spec.gcs != "redis":
            raise no_redis(self.world.spec.gcs)


@dataclass(frozen=True)
class FakeHealthChecks:
    """Implements `SetsHealthFlags` and `ShowsControllerLog`.

    Attributes:
        world: What lives in the cluster.
    """

    world: World

    def set_health_flag(
        self, replica: Component, mode: Literal["raise", "hang"], *, lasts: float | None = None
    ) -> None:
        """Makes the health check of that replica fail from now on."""
        if not self.world.behaviour.harmless:
            self.world.fail_check(replica.identity, mode)

    def clear_health_flag(self, replica: Component) -> None:
        """Does nothing: the flag goes with the replica."""

    def controller_log(self, *, pattern: str, since: float) -> tuple[str, ...]:
        """The lines of the log since then that match."""
        return self.world.lines(since, pattern)


@dataclass(frozen=True)
class FakeLogs:
    """What a fake cluster logs from a moment on.

    Attributes:
        world: What lives in the cluster.
        since: The moment, in monotonic seconds.
        directory: Where the log goes.
    """

    world: World
    since: float
    directory: Path

    def keep(self) -> None:
        """Writes it."""
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / "world.log").write_text("\n".join(self.world.lines(self.since, None)))

    def around(self, moment: float, *, before: float, after: float) -> list[LogLine]:
        """Its lines around a moment."""
        with self.world.lock:
            log = [(at - moment, text) for at, text in self.world.log]
        return [LogLine(at, HEAD, "world.log", text) for at, text in log if -before <= at <= after]

    def close(self) -> None:
        """Does nothing: nothing is open."""


@dataclass(frozen=True)
class FakeRecords:
    """Implements `StreamsLogs` and `HasOwnWaits`: what the cluster says about itself.

    Attributes:
        world: What lives in the cluster.
        behaviour: Has its waits.
    """

    world: World
    behaviour: FakeBehaviour

    def stream_logs(self, directory: Path) -> KeptLogs:
        """Begins to collect what is logged, for a test that fails."""
        return FakeLogs(self.world, clock.now(), directory)

    @property
    def waits(self) -> Waits:
        """Those of the behaviour; nobody waits long for the sign of a fault that does nothing."""
        waits = self.behaviour.waits
        return replace(waits, signs_within=_SIGN_OF_NOTHING_WITHIN) if self.behaviour.harmless else waits
