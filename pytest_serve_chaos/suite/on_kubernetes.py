"""What a fault costs more on Kubernetes, where a Service goes on sending to a proxy until somebody notices its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from pytest_serve_chaos.cluster.capabilities import HAS_PROXY_ENDPOINTS, KILLS_MACHINES

if TYPE_CHECKING:
    from pytest_serve_chaos.handle import ServeCluster


class Room(TypedDict):
    """What a fault may cost."""

    availability: float
    longest_outage: str


DEAD_PROXY: Room = {"availability": 0.8, "longest_outage": "12s"}
"""KubeRay's readiness probe of a worker asks its proxy every 5 s; then the pod is NotReady, and its endpoint goes."""

DEAD_HEAD: Room = {"availability": 0.65, "longest_outage": "12s"}
"""The kubelet sees the end of a container within a second or two; requests on their way time out after 5 s. When the
first head of a cluster is lost and the controller is back, all requests hang for up to 6.5 s of the 20 s that are
judged (`docs/ray-and-kubernetes.md`)."""

DEAD_GCS: Room = {"availability": 0.85, "longest_outage": "12s"}
"""The kubelet restarts the head's container, and requests on their way time out after 5 s."""

DELETED_WORKER: Room = {"availability": 0.9, "longest_outage": "12s"}
"""Its endpoint goes some 2 s later at most; meanwhile the share of its proxy, a third of the requests, is lost. What
other proxies send to its replicas is lost as well until Ray knows, which takes 6 s or more."""

MOVED: dict[str, object] = {"traffic_back": "240s", "redundancy_back": "240s"}
"""A pod starts on another machine, or when its own is back; until all are there, a single request may be lost again."""

LOST_MACHINE: dict[str, object] = {"availability": 0.5, "longest_outage": "75s"} | MOVED
"""Nobody is left to tell: until the machine is called NotReady (node-monitor-grace-period, 50 s since Kubernetes 1.32),
its share of the requests is lost. Some are lost once more when it is back: its pod is among the Service's endpoints
before Ray runs in it again (`docs/ray-and-kubernetes.md`), and traffic counts as back only after that."""


def behind_a_service(cluster: ServeCluster, room: Room) -> dict[str, object]:
    """That room where proxies stand behind a Service; none elsewhere, which keeps the fault's own demands."""
    return {**room} if cluster.backend.capability(HAS_PROXY_ENDPOINTS) is not None else {}


def room_for(cluster: ServeCluster, behind: Room, elsewhere: Room) -> Room:
    """The room where proxies stand behind a Service, or that of all other clusters."""
    return behind if behind_a_service(cluster, behind) else elsewhere


def on_machines(cluster: ServeCluster, demands: dict[str, object]) -> dict[str, object]:
    """Those demands where there are machines under the nodes that can be lost; none elsewhere."""
    return demands if cluster.backend.capability(KILLS_MACHINES) is not None else {}
