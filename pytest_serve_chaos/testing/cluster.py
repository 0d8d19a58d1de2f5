"""A cluster without Ray that dies and recovers within a second."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, TypeVar

from pytest_serve_chaos.cluster import serve_config
from pytest_serve_chaos.cluster.base import ClusterSpec, NodeInfo
from pytest_serve_chaos.cluster.capabilities import (
    FREEZES_NODES,
    HAS_REDIS,
    KILLS_ACTORS,
    KILLS_NODES,
    KNOWS_ITS_SETUP,
    SEES_CHILDREN,
    SETS_HEALTH_FLAGS,
    SHARES_REDIS,
    SHOWS_CONTROLLER_LOG,
    SHOWS_USAGE,
    SIGNALS_PROCESSES,
    STREAMS_LOGS,
    AnyCapability,
    Capabilities,
    Capability,
    Offer,
)
from pytest_serve_chaos.cluster.rest import Dashboard
from pytest_serve_chaos.cluster.waits import HAS_OWN_WAITS
from pytest_serve_chaos.errors import ObservationError
from pytest_serve_chaos.model import ClusterDescription, Component, Identity, Json
from pytest_serve_chaos.testing.behaviour import FakeBehaviour
from pytest_serve_chaos.testing.capabilities import (
    FakeHealthChecks,
    FakeNodes,
    FakeProcesses,
    FakeRecords,
    FakeRedis,
)
from pytest_serve_chaos.testing.dashboard import RAY_VERSION, DashboardWithoutServe, FakeDashboard
from pytest_serve_chaos.testing.plan import Slot
from pytest_serve_chaos.testing.proxies import FakeProxies
from pytest_serve_chaos.testing.server import FakeServer, Handler
from pytest_serve_chaos.testing.usage import FakeUsage
from pytest_serve_chaos.testing.world import World

T = TypeVar("T")


class FakeCluster:
    """A head and workers without Ray: implements `pytest_serve_chaos.Cluster`.

    It has most capabilities; `offers` lists them. To add one, or to change one, extend `offers` in a subclass:
    ``(*super().offers(), KILLS_NODES.by(MyNodes(self.world)))``.

    Args:
        spec: The cluster that the test wants.
        behaviour: What is wrong with it; by default nothing.

    Attributes:
        world_class: The class of what lives in it.
        proxies_class: The class of what its proxies answer.
        world: What lives in it.
        proxies: What its proxies answer.
        hidden: Capabilities that it does not have, although it offers them.
        closed: Whether it was closed.
    """

    world_class: ClassVar[type[World]] = World
    proxies_class: ClassVar[type[FakeProxies]] = FakeProxies

    def __init__(self, spec: ClusterSpec, behaviour: FakeBehaviour | None = None) -> None:
        self.spec = spec
        self.behaviour = behaviour or FakeBehaviour()
        self.closed = False
        self.hidden: set[AnyCapability] = set(self.behaviour.lacks)
        self.world = self.world_class(spec, self.behaviour)
        self.proxies = proxies = self.proxies_class(self.world)
        self._server = FakeServer(
            Handler(proxies.alive, proxies.serve, proxies.is_retired, proxies.wait, proxies.refuse)
        )
        self._dashboard: Dashboard = FakeDashboard(self.world)

    # -- pytest_serve_chaos.Cluster -----------------------------------------------------------------------------

    @property
    def description(self) -> ClusterDescription:
        """What is under test."""
        spec = self.spec
        gcs = "redis 7.0" if spec.gcs == "redis" else spec.gcs
        return ClusterDescription(
            "fake", RAY_VERSION, spec.workers, gcs, spec.app, spec.profile, self.behaviour.replicas, self.url
        )

    @property
    def url(self) -> str:
        """Where the first app answers."""
        return f"http://127.0.0.1:{self._server.port}{serve_config.first_route(self.world.plan.config)}"

    @property
    def dashboard(self) -> Dashboard:
        """What the head answers."""
        return self._dashboard

    @property
    def serve_config(self) -> dict[str, Json]:
        """The config that it should run."""
        return dict(self.world.plan.config)

    def apply_serve_config(self, config: Mapping[str, Json]) -> None:
        """Submits a config."""
        self._dashboard.put_serve(config)

    def nodes(self) -> tuple[NodeInfo, ...]:
        """All nodes, head first."""
        with self.world.lock:
            return tuple(self._node(name) for name in self.world.plan.node_names)

    def components(self) -> tuple[Component, ...]:
        """All that lives."""
        self.world.tick()
        with self.world.lock:
            return tuple(part.component for part in self.world.parts.values())

    def proxy_of(self, client: tuple[str, int]) -> Identity | None:
        """The proxy that has the connection from that address and port."""
        pid = self._server.owner(client)
        with self.world.lock:
            return next((p.identity for p in self.world.parts.of("proxy") if p.pid == pid), None)

    def ask_proxy(self, proxy: Component, path: str, *, timeout: float) -> tuple[int, str]:
        """Sends a request to one proxy alone."""
        self.world.tick()
        with self.world.lock:
            part = self.world.parts.by_identity(proxy.identity)
            if part is None or part.frozen:
                raise ObservationError(f"{proxy.name} does not answer {path}")
        reply = self.proxies.answer(part.pid, path)
        return reply.status, reply.body

    def log_excerpt(self, since: float, *, pattern: str | None = None, lines: int = 40) -> tuple[str, ...]:
        """The last lines of its log."""
        return self.world.lines(since, pattern)[-lines:]

    def close(self) -> None:
        """Ends the server."""
        self._server.close()
        self.closed = True

    def capability(self, wanted: Capability[T]) -> T | None:
        """The object that has a capability."""
        return Capabilities(*(offer for offer in self.offers() if offer.key not in self.hidden)).get(wanted)

    def offers(self) -> tuple[Offer, ...]:
        """Its capabilities; of two for the same one the later counts."""
        nodes, processes, checks = FakeNodes(self.world), FakeProcesses(self.world), FakeHealthChecks(self.world)
        redis = FakeRedis(self.world, lambda: FakeHead(self.spec))
        records = FakeRecords(self.world, self.behaviour)
        return (
            FREEZES_NODES.by(nodes),
            HAS_OWN_WAITS.by(records),
            HAS_REDIS.by(redis),
            KILLS_ACTORS.by(processes),
            KILLS_NODES.by(nodes),
            KNOWS_ITS_SETUP.by(records),
            SEES_CHILDREN.by(processes),
            SETS_HEALTH_FLAGS.by(checks),
            SHARES_REDIS.by(redis),
            SHOWS_CONTROLLER_LOG.by(checks),
            SHOWS_USAGE.by(FakeUsage(self.world)),
            SIGNALS_PROCESSES.by(processes),
            STREAMS_LOGS.by(records),
        )

    def _node(self, name: str) -> NodeInfo:
        part = next((p for p in self.world.parts.of("head", "worker") if p.slot.node == name), None)
        return NodeInfo(name, self.world.plan.address(name), part is not None, part.identity if part else None)


class _HeadWorld(World):
    """A GCS and nothing else."""

    def slots(self) -> list[Slot]:
        """The node and its GCS."""
        return [slot for slot in super().slots() if slot.role in ("head", "gcs")]


class FakeHead(FakeCluster):
    """A head alone, on which nothing is deployed."""

    world_class = _HeadWorld

    def __init__(self, spec: ClusterSpec) -> None:
        super().__init__(replace(spec, gcs="none"))
        self._dashboard = DashboardWithoutServe(self.world)
