"""Who is alive in a Serve cluster on Kubernetes: pods, the actors that the GCS knows, and what Serve wants."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from pytest_serve_chaos import clock
from pytest_serve_chaos.cluster.kuberay.rayservice import KubeRayCluster, PodPlace
from pytest_serve_chaos.cluster.rest import ActorRow, Dashboard
from pytest_serve_chaos.errors import ObservationError
from pytest_serve_chaos.model import Component, Identity, Role, Topology

# Class names of Serve's actors; ray/serve/_private/{controller,proxy,haproxy,replica}.py of Ray 2.60.0.
_CONTROLLER = "ServeController"
_PROXIES = ("ProxyActor", "HAProxyManager")
_REPLICA = "ServeReplica:"
_REPLICA_NAME = "SERVE_REPLICA::"


def observe_pods(cluster: KubeRayCluster) -> Topology:
    """Asks the API server, then the GCS, then Serve, and puts the answers together.

    While the head is away only the pods answer: the topology then has nodes, GCS and Redis, no actors, and says so in
    `sources`.

    Raises:
        ObservationError: The API server gave no usable answer.
    """
    at = clock.now()
    pods = cluster.snapshot()
    components, sources = list(pods.components), ["pods"]
    pending: dict[str, int] = {}
    try:
        actors = _actors(cluster.dashboard, pods.places)
        components += actors
        sources.append("actors")
        pending = _pending(cluster.dashboard, actors)
        sources.append("serve")
    except ObservationError:
        pass  # what is missing shows in the sources
    return Topology(at, tuple(components), tuple(sources), pending)


def _actors(dashboard: Dashboard, places: Mapping[str, PodPlace]) -> list[Component]:
    rows = [row for row in dashboard.actors() if row.state == "ALIVE"]
    addresses = {row.node_id: row.address for row in dashboard.nodes()}
    found = [_component(row, places.get(addresses.get(row.node_id, ""))) for row in rows]
    return [component for component in found if component is not None]


def _component(row: ActorRow, place: PodPlace | None) -> Component | None:
    role = _role(row.class_name)
    # An actor whose pod is gone died with it; the GCS hears of that later.
    if role is None or place is None:
        return None
    deployment, _, replica = row.name.removeprefix(_REPLICA_NAME).rpartition("#")
    is_replica = role == "replica"
    return Component(
        role,
        place.name,
        Identity("actor", (row.actor_id, str(row.pid), place.uid)),
        pid=row.pid or None,
        actor_id=row.actor_id,
        deployment=deployment if is_replica else None,
        replica=replica if is_replica else None,
        state=row.state,
    )


def _role(class_name: str) -> Role | None:
    if class_name == _CONTROLLER:
        return "controller"
    if class_name in _PROXIES:
        return "proxy"
    return "replica" if class_name.startswith(_REPLICA) else None


def _pending(dashboard: Dashboard, actors: Sequence[Component]) -> dict[str, int]:
    running = Counter(actor.deployment for actor in actors if actor.role == "replica")
    targets = dashboard.serve().targets
    missing = {deployment: wanted - running[deployment] for deployment, wanted in targets.items()}
    return {deployment: number for deployment, number in missing.items() if number > 0}
