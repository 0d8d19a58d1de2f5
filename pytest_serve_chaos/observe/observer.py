"""Merges what the backend sees by itself with what Ray and Serve say into one topology.

The backend's own view (processes, pods) decides who is alive. The state API adds actor ids, Serve's REST adds replica
ids and what Serve wants. While the head is away, what was known of those who are still alive stays known.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from pytest_serve_chaos import clock
from pytest_serve_chaos.cluster.base import Cluster, NodeInfo
from pytest_serve_chaos.cluster.capabilities import AUTOSCALES_WORKERS, SEES_PROCESSES
from pytest_serve_chaos.cluster.rest import ActorRow, NodeRow, ServeStatus
from pytest_serve_chaos.cluster.serve_config import CANARY
from pytest_serve_chaos.errors import ObservationError
from pytest_serve_chaos.events import WORKERS
from pytest_serve_chaos.model import Component, Identity, Role, Topology

_CLASSES: tuple[tuple[str, Role], ...] = (
    ("ServeController", "controller"),
    ("ProxyActor", "proxy"),
    ("HAProxyManager", "proxy"),
    ("ServeReplica:", "replica"),
)


_REPLICA_NAME = "SERVE_REPLICA::"
"""What stands before ``app#Deployment#id`` in the name of a replica's actor (ray/serve/_private/common.py)."""

_FALLBACK_NAME = "SERVE_PROXY_ACTOR-fallback-"


@dataclass(frozen=True, slots=True)
class Report:
    """What Ray and Serve said, and when.

    Attributes:
        actors: Serve's actors that are not DEAD; None: the state API did not answer.
        nodes: Node id -> row; None: the state API did not answer.
        serve: None: Serve's REST did not answer.
        seen: Who had been seen before Ray and Serve were asked, so that they can know of them.
        error: Why one of them did not answer; None where both did.
        workers: How many Ray workers Ray's autoscaler wants; None: nothing scales them, or it is not known.
        last_serve: The last that Serve's REST answered, this time or before; None: it never did.
    """

    at: float = 0.0
    actors: tuple[ActorRow, ...] | None = None
    nodes: Mapping[str, NodeRow] | None = None
    serve: ServeStatus | None = None
    seen: frozenset[Identity] = frozenset()
    error: Exception | None = None
    workers: int | None = None
    last_serve: ServeStatus | None = None


@dataclass(slots=True)
class _Known:
    """What is remembered of a component: it cannot change while its identity is the same."""

    actor_id: str | None = None
    replica: str | None = None


@dataclass(slots=True)
class _Memory:
    by_identity: dict[Identity, _Known] = field(default_factory=dict)
    addresses: dict[str, str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    actors: tuple[ActorRow, ...] = ()


class Observer:
    """Looks at one cluster. Safe to use from several threads."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._lock = threading.Lock()
        self._memory = _Memory()
        self._report = Report()
        self._seen: frozenset[Identity] = frozenset()

    @property
    def lacks_haproxy(self) -> bool:
        """Whether HAProxy should take the requests and Serve runs its own proxies, as an older Ray does."""
        rows = (self._report.actors or ()) if self._cluster.spec.ingress == "haproxy" else ()
        return any(row.class_name == "ProxyActor" and row.state == "ALIVE" for row in rows)

    @property
    def report(self) -> Report:
        """The last that Ray and Serve said."""
        return self._report

    def node_name(self, node_id: str) -> str:
        """The name of the node with that id; "" if it is not known."""
        with self._lock:
            return self._memory.names.get(self._memory.addresses.get(node_id, ""), "")

    def refresh(self) -> Report:
        """Asks Ray and Serve; takes up to three request timeouts when they hang.

        Whatever goes wrong, the one that was asked did not answer: `Report.error` says why.
        """
        report = self._ask(clock.now())
        with self._lock:
            self._report = report
            if report.actors is not None:
                self._memory.actors = report.actors
        return report

    def _ask(self, at: float) -> Report:
        with self._lock:
            report = Report(at, seen=self._seen, last_serve=self._report.last_serve)
        try:
            dashboard = self._cluster.dashboard
            # The state API first: it answers at once also with a dead or frozen controller, where Serve's REST hangs.
            nodes = {row.node_id: row for row in dashboard.nodes()}
            actors = tuple(row for row in dashboard.actors() if _role(row) is not None and not _is_fallback(row))
            report = replace(report, actors=actors, nodes=nodes)
            report = replace(report, workers=self._workers_wanted())
            serve = dashboard.serve()
            return replace(report, serve=serve, last_serve=serve)
        except Exception as error:  # an odd answer of theirs must not end the caller
            return replace(report, error=error)

    def _workers_wanted(self) -> int | None:
        scaled = self._cluster.capability(AUTOSCALES_WORKERS)
        try:
            return None if scaled is None else scaled.workers_wanted()
        except ObservationError:
            return None

    def look(self) -> Topology:
        """Who is alive now: the backend's own view, with what is known from Ray and Serve."""
        at = clock.now()
        own, nodes = self._cluster.components(), self._cluster.nodes()
        with self._lock:
            report = self._report
            components = self._merge(own, nodes, report)
            self._seen = frozenset(component.identity for component in components)
        sources = ["backend"]
        sources += ["actors"] if report.actors is not None else []
        sources += ["serve"] if report.serve is not None else []
        down = {node.name: node.state for node in nodes if not node.alive and node.state}
        wanted = _wanted(report.serve)
        workers = {} if report.workers is None else {WORKERS: report.workers}
        pending = _pending(wanted, components)
        return Topology(at, tuple(components), tuple(sources), pending, down, {**wanted, **workers})

    def see(self) -> Topology:
        """Asks Ray and Serve, then looks."""
        self.refresh()
        return self.look()

    # -- merging ------------------------------------------------------------------------------------------------

    def _merge(self, own: tuple[Component, ...], nodes: tuple[NodeInfo, ...], report: Report) -> list[Component]:
        components = [c for c in own if not (c.deployment or "").startswith(CANARY)]
        if report.nodes is not None:
            self._memory.addresses |= {node.node_id: node.address for node in report.nodes.values()}
        names = {node.address: node.name for node in nodes if node.address}
        self._memory.names |= names
        by_place = {(c.node, c.pid): c for c in components if c.role in ("controller", "proxy", "replica")}
        seen = self._cluster.capability(SEES_PROCESSES)
        ask_the_gcs = not by_place and not (seen is not None and seen.sees_processes)
        alive = {c.node for c in components if c.role in ("head", "worker")}
        for row in self._memory.actors:
            node = names.get(self._memory.addresses.get(row.node_id, ""), "")
            if not node or row.state != "ALIVE" or row.class_name.startswith(f"ServeReplica:{CANARY}"):
                continue
            component = by_place.get((node, row.pid))
            if component is not None and component.role == _role(row):
                self._remember(component.identity, row)
            elif ask_the_gcs and node in alive:  # a backend that sees pods, not processes
                components.append(_from_actor(row, node))
                self._remember(components[-1].identity, row)
        return [self._with_known(component) for component in components]

    def _remember(self, identity: Identity, row: ActorRow) -> None:
        known = self._memory.by_identity.setdefault(identity, _Known())
        known.actor_id = row.actor_id
        if row.name.startswith(_REPLICA_NAME):
            known.replica = row.name.removeprefix(_REPLICA_NAME)

    def _with_known(self, component: Component) -> Component:
        known = self._memory.by_identity.get(component.identity)
        if known is None:
            return component
        return replace(
            component, actor_id=component.actor_id or known.actor_id, replica=component.replica or known.replica
        )


def _role(row: ActorRow) -> Role | None:
    return next((role for prefix, role in _CLASSES if row.class_name.startswith(prefix)), None)


def _is_fallback(row: ActorRow) -> bool:
    """Whether it is Serve's own proxy on the head, which HAProxy calls where there is no replica: no user calls it."""
    return row.name.startswith(_FALLBACK_NAME)


def _from_actor(row: ActorRow, node: str) -> Component:
    role = _role(row)
    assert role is not None
    deployment = None
    if role == "replica":
        _, app, name = row.class_name.split(":", 2)
        deployment = f"{app}#{name}"
    # An actor that is restarted keeps its id and gets a new PID.
    identity = Identity("actor", (row.actor_id, str(row.pid), row.node_id))
    return Component(role, node, identity, row.pid, row.actor_id, deployment, state=row.state)


def _wanted(serve: ServeStatus | None) -> dict[str, int]:
    """How many replicas Serve wants."""
    return {} if serve is None else {name: n for name, n in serve.targets.items() if not name.startswith(CANARY)}


def _pending(wanted: Mapping[str, int], components: list[Component]) -> dict[str, int]:
    """How many of these are not there."""
    there = Counter(c.deployment for c in components if c.role == "replica")
    return {name: n - there[name] for name, n in wanted.items() if n > there[name]}
