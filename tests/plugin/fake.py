"""A cluster without Ray that dies and recovers within a second, and the hook that puts it under the plugin."""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Literal, TypeVar

from pytest_serve_chaos import clock
from pytest_serve_chaos.analysis.configuration import Setup
from pytest_serve_chaos.cluster import serve_config
from pytest_serve_chaos.cluster.base import ClusterSpec, NodeInfo, Progress
from pytest_serve_chaos.cluster.capabilities import (
    FREEZES_NODES,
    HAS_REDIS,
    KILLS_ACTORS,
    KILLS_NODES,
    KNOWS_ITS_SETUP,
    SETS_HEALTH_FLAGS,
    SHARES_REDIS,
    SHOWS_CONTROLLER_LOG,
    SIGNALS_PROCESSES,
    STREAMS_LOGS,
    Capabilities,
    Capability,
    KeptLogs,
    Offer,
)
from pytest_serve_chaos.cluster.rest import ActorRow, Dashboard, NodeRow, ReplicaRow, ServeStatus
from pytest_serve_chaos.errors import ClusterStartError, CommandFailed, NoSuchTarget, ObservationError, Unsupported
from pytest_serve_chaos.model import HEAD, ClusterDescription, Component, Evidence, Identity, Json
from tests.plugin.fake_server import FakeServer, Front, Reply
from tests.plugin.fake_world import DEPLOYMENT, REDIS, REPLICAS, FakeBehaviour, Part, Slot, World

T = TypeVar("T")

__all__ = ["FakeBackend", "FakeBehaviour", "FakeCluster"]


class FakeDashboard(Dashboard):
    """What the head of a fake says of it."""

    def __init__(self, world: World) -> None:
        self._world = world

    def close(self) -> None:
        """Has nothing to close."""

    def ray_version(self) -> str:
        """The newest one."""
        return "2.60.0"

    def actors(self, *, class_name: str | None = None) -> tuple[ActorRow, ...]:
        """All actors, as far as the GCS knows."""
        with self._asked():
            return tuple(row for row in self._world.actor_rows() if class_name in (None, row.class_name))

    def nodes(self) -> tuple[NodeRow, ...]:
        """All nodes, the DEAD ones too."""
        with self._asked():
            return tuple(self._world.node_rows.values())

    def serve(self) -> ServeStatus:
        """What the controller says."""
        with self._asked(controller=True):
            world = self._world
            controller = next(p.actor_id for p in world.of("controller"))
            apps = set(world.routes().values())
            healthy = {p.slot.node: "HEALTHY" for p in world.of("proxy")}
            return ServeStatus(
                apps=dict.fromkeys(apps, "RUNNING"),
                targets=world.targets(),
                deployments=dict.fromkeys(world.targets(), "HEALTHY"),
                messages=dict.fromkeys(apps, ""),
                replicas=(*(_replica_row(part) for part in world.of("replica")), *_canary_rows(world)),
                proxies=healthy,
                controller=controller,
                options=world.options(),
            )

    def put_serve(self, config: Mapping[str, Json], *, timeout: float = 20.0) -> None:
        """Takes a config."""
        try:
            with self._asked(controller=True):
                self._world.config = dict(config)
        except ObservationError as error:
            raise CommandFailed(f"the Serve config was not taken: {error}") from error

    @contextmanager
    def _asked(self, *, controller: bool = False) -> Iterator[None]:
        world = self._world
        world.tick()
        with world.lock:
            if not (world.controller_works() if controller else world.gcs_answers()):
                raise ObservationError(f"the fake {'controller' if controller else 'GCS'} does not answer")
            yield


@dataclass(frozen=True)
class FakeLogs:
    """The log of the fake world since then."""

    world: World
    since: float
    directory: Path

    def keep(self) -> None:
        """Writes it."""
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / "world.log").write_text("\n".join(self.world.lines(self.since, None)))

    def close(self) -> None:
        """Has nothing to end."""


class FakeCluster:
    """Three nodes without Ray: implements `cluster.base.Cluster` and all its capabilities.

    Attributes:
        kind_of_world: What lives in it.
    """

    kind_of_world: ClassVar[type[World]] = World

    def __init__(self, spec: ClusterSpec, behaviour: FakeBehaviour | None = None) -> None:
        self.spec = spec
        self.behaviour = behaviour or FakeBehaviour()
        self.closed = False
        self.world = self.kind_of_world(spec, self.behaviour)
        self._turns: defaultdict[str, Iterator[int]] = defaultdict(itertools.count)
        self._server = FakeServer(Front(self._proxies, self._serve, self._retired, self._wait))
        self._dashboard = FakeDashboard(self.world)

    # -- cluster.base.Cluster -----------------------------------------------------------------------------------

    @property
    def description(self) -> ClusterDescription:
        """What is under test."""
        spec = self.spec
        gcs = "redis 7.0" if spec.gcs == "redis" else "none"
        return ClusterDescription("fake", "2.60.0", spec.workers, gcs, spec.app, spec.profile, REPLICAS, self.url)

    @property
    def url(self) -> str:
        """Where the first app answers."""
        return f"http://127.0.0.1:{self._server.port}{serve_config.first_route(self.world.config)}"

    @property
    def dashboard(self) -> Dashboard:
        """What the head says."""
        return self._dashboard

    @property
    def serve_config(self) -> dict[str, Json]:
        """The config that it should run."""
        return dict(self.world.config)

    def apply_serve_config(self, config: Mapping[str, Json]) -> None:
        """Submits it."""
        self._dashboard.put_serve(config)

    def nodes(self) -> tuple[NodeInfo, ...]:
        """Head first."""
        with self.world.lock:
            return tuple(self._node(name) for name in self.world.node_names)

    def components(self) -> tuple[Component, ...]:
        """All that lives."""
        self.world.tick()
        with self.world.lock:
            return tuple(part.component for part in self.world.parts.values())

    def proxy_of(self, client: tuple[str, int]) -> Identity | None:
        """Who took that connection."""
        pid = self._server.owner(client)
        with self.world.lock:
            return next((p.identity for p in self.world.of("proxy") if p.pid == pid), None)

    def ask_proxy(self, proxy: Component, path: str, *, timeout: float) -> tuple[int, str]:
        """Asks one proxy alone."""
        self.world.tick()
        with self.world.lock:
            part = self.world.by_identity(proxy.identity)
            if part is None or part.frozen:
                raise ObservationError(f"{proxy.name} does not answer {path}")
        reply = self._answer(part.pid, path)
        return reply.status, reply.body

    def log_excerpt(self, since: float, *, pattern: str | None = None, lines: int = 40) -> tuple[str, ...]:
        """The log of the fake world."""
        return self.world.lines(since, pattern)[-lines:]

    def close(self) -> None:
        """Ends the server."""
        self._server.close()
        self.closed = True

    def capability(self, wanted: Capability[T]) -> T | None:
        """What can do that."""
        return Capabilities(*self.offers()).get(wanted)

    def offers(self) -> tuple[Offer, ...]:
        """What it can do."""
        return (
            FREEZES_NODES.by(self),
            HAS_REDIS.by(self),
            KILLS_ACTORS.by(self),
            KILLS_NODES.by(self),
            KNOWS_ITS_SETUP.by(self),
            SETS_HEALTH_FLAGS.by(self),
            SHARES_REDIS.by(self),
            SHOWS_CONTROLLER_LOG.by(self),
            SIGNALS_PROCESSES.by(self),
            STREAMS_LOGS.by(self),
        )

    # -- capabilities -------------------------------------------------------------------------------------------

    def kill_node(self, name: str, *, how: Literal["kill", "stop"], hold: bool) -> Sequence[Evidence]:
        """Ends all that is on it."""
        if self.behaviour.harmless:
            return ()
        with self.world.lock:
            self.world.held |= {name} if hold else set()
            self.world.kill_node(name)
        return (Evidence(clock.now(), "victim", f"no process of {name} is left"),)

    def restore_node(self, name: str) -> None:
        """It may come back."""
        self.world.held.discard(name)

    def freeze_node(self, name: str) -> Sequence[Evidence]:
        """Stops all that is on it."""
        if self.behaviour.harmless:
            return ()
        count = self.world.freeze_node(name, frozen=True)
        return (Evidence(clock.now(), "victim", f"all {count} processes of {name} are stopped"),)

    def thaw_node(self, name: str) -> None:
        """Lets it go on."""
        self.world.freeze_node(name, frozen=False)

    def signal_process(self, identity: Identity, signal: int) -> None:
        """Sends a signal to one process."""
        if not self.behaviour.harmless:
            self.world.signal(identity, signal)

    def kill_actor(self, actor_id: str, *, no_restart: bool) -> float:
        """Does what `ray.kill` does."""
        with self.world.lock:
            part = next((p for p in self.world.parts.values() if p.actor_id == actor_id), None)
            if part is None:
                raise NoSuchTarget(f"there is no actor {actor_id}")
            asked = clock.now()
            if not self.behaviour.harmless:
                self.world.kill([part.slot], new_controller=no_restart and part.slot.role == "controller")
            return asked

    @property
    def redis_namespace(self) -> str:
        """The namespace of the GCS."""
        return "fake"

    def kill_redis(self, *, how: Literal["kill", "stop"], hold: bool) -> Sequence[Evidence]:
        """Ends Redis, and with it the head: the GCS exits without its store."""
        self._check_redis()
        if self.behaviour.harmless:
            return ()
        with self.world.lock:
            self.world.held |= {REDIS} if hold else set()
            self.world.kill([Slot("redis", REDIS)])
            self.world.kill_node(HEAD)
        return (Evidence(clock.now(), "victim", "Redis is gone"),)

    def restore_redis(self) -> None:
        """It may come back."""
        self.world.held.discard(REDIS)

    def redis_keys(self) -> tuple[str, ...]:
        """What the GCS wrote."""
        self._check_redis()
        with self.world.lock:
            if all(part.frozen for part in self.world.of("redis")):
                raise ObservationError("Redis does not answer")
        return ("RAYfake@KV", "RAYfake@NODE")

    def start_beside(self, namespace: str | None = None) -> FakeCluster:
        """A head alone, which knows nothing of this cluster."""
        del namespace
        return HeadAlone(self.spec)

    def set_health_flag(self, replica: Component, mode: Literal["raise", "hang"]) -> None:
        """Its health check fails from now on."""
        if not self.behaviour.harmless:
            self.world.fail_check(replica.identity, mode)

    def clear_health_flag(self, replica: Component) -> None:
        """There is no flag: the replica with it is gone."""

    def controller_log(self, *, pattern: str, since: float) -> tuple[str, ...]:
        """The log of the fake world."""
        return self.world.lines(since, pattern)

    def stream_logs(self, directory: Path) -> KeptLogs:
        """What is logged from now on, where a test fails."""
        return FakeLogs(self.world, clock.now(), directory)

    def setup(self) -> Setup:
        """As the test wants it."""
        return self.behaviour.setup

    # -- the server's side --------------------------------------------------------------------------------------

    def _node(self, name: str) -> NodeInfo:
        part = next((p for p in (*self.world.of("head"), *self.world.of("worker")) if p.slot.node == name), None)
        return NodeInfo(name, self.world.address(name), part is not None, part.identity if part else None)

    def _check_redis(self) -> None:
        if self.spec.gcs != "redis":
            raise Unsupported("this cluster has no Redis")

    def _proxies(self) -> dict[int, bool]:
        self.world.tick()
        with self.world.lock:
            return {part.pid: part.frozen for part in self.world.of("proxy")}

    def _retired(self, pid: int) -> bool:
        with self.world.lock:
            return any(part.pid == pid for part in self.world.retired)

    def _wait(self, path: str) -> float:
        """Seconds that a client waits for an answer."""
        del path
        return 0.0

    def _serve(self, pid: int, path: str) -> Reply:
        """Answers a request of a client, who suffers from an outage as nobody does who asks a proxy itself."""
        with self.world.lock:
            self.world.load()
            if self.world.to_fail:
                self.world.to_fail -= 1
                return Reply(503, "unavailable")
        reply = self._answer(pid, path)
        return replace(reply, headers=(*reply.headers, ("connection", "close"))) if self._retired(pid) else reply

    def _answer(self, pid: int, path: str) -> Reply:
        with self.world.lock:
            proxies = (*self.world.of("proxy"), *self.world.retired)
            proxy = next((part for part in proxies if part.pid == pid), None)
            if proxy is None:
                return Reply(503, "unavailable")
            if path == "/-/routes":
                return Reply(200, json.dumps({route: route for route in sorted(self.world.heard_by(proxy))}))
            app = self.world.routes().get(path)
            if app is not None and serve_config.CANARY in app:  # it has no part of its own in this world
                known = 1 if proxy.slot.node == self.behaviour.outdated else self.world.canaries()[app]
                return Reply(200, f"{app}#Canary#{next(self._turns[app]) % known}")
            deployment = f"{app}#{DEPLOYMENT}"
            replicas = [p for p in self.world.of("replica") if not p.frozen and p.slot.deployment == deployment]
        if not replicas:
            return Reply(503 if app else 404, "nobody")
        replicas = replicas[1:] if self.world.forgetful else replicas
        part = replicas[next(self._turns[deployment]) % len(replicas)]
        headers = () if self.behaviour.anonymous else (("x-serve-chaos-replica", part.name),)
        return Reply(200, "nonsense" if self.world.wrong else str(part.pid), headers)


class HeadWorld(World):
    """A GCS and nothing else."""

    def slots(self) -> list[Slot]:
        """The node and its GCS."""
        return [slot for slot in super().slots() if slot.role in ("head", "gcs")]


class HeadAlone(FakeCluster):
    """A head on which nothing is deployed."""

    kind_of_world = HeadWorld

    def __init__(self, spec: ClusterSpec) -> None:
        super().__init__(replace(spec, gcs="none"))
        self._dashboard = NothingDeployed(self.world)


class NothingDeployed(FakeDashboard):
    """What a head says on which Serve does not run."""

    def serve(self) -> ServeStatus:
        """There is nothing."""
        return ServeStatus({}, {}, {}, {}, (), {}, None)


@dataclass
class FakeBackend:
    """A plugin for pytest that starts fake clusters, and keeps them to be looked at.

    Attributes:
        behaviour: What is wrong with them.
        cluster: Which kind of cluster.
        clusters: All that were started.
    """

    behaviour: FakeBehaviour = field(default_factory=FakeBehaviour)
    cluster: type[FakeCluster] = FakeCluster
    clusters: list[FakeCluster] = field(default_factory=list)

    def pytest_serve_chaos_start_cluster(self, spec: ClusterSpec, directory: Path, progress: Progress) -> FakeCluster:
        """Starts one."""
        if self.behaviour.start_error:
            raise ClusterStartError(self.behaviour.start_error, checked=[str(directory)])
        progress("a fake cluster is up")
        self.clusters.append(self.cluster(spec, self.behaviour))
        return self.clusters[-1]


def _replica_row(part: Part) -> ReplicaRow:
    app, _, deployment = part.slot.deployment.partition("#")
    return ReplicaRow(part.replica_id, app, deployment, "RUNNING", part.actor_id, None, part.pid)


def _canary_rows(world: World) -> list[ReplicaRow]:
    return [
        ReplicaRow(str(number), app, "Canary", "RUNNING", None, None, None)
        for app, count in world.canaries().items()
        for number in range(count)
    ]
