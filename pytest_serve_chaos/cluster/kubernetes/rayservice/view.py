"""What all parts of a RayService cluster work with: its API, its pods, and the means by which it is looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.client.pod_watch import PodWatch
from pytest_serve_chaos.cluster.kubernetes.logs.pod_logs import PodLogs
from pytest_serve_chaos.cluster.kubernetes.logs.sources import LogSources, OtherClusters
from pytest_serve_chaos.cluster.kubernetes.logs.stream import LogAccess
from pytest_serve_chaos.cluster.kubernetes.rayservice.pods import RayPods, RayServiceRef
from pytest_serve_chaos.cluster.kubernetes.rayservice.process_watch import ProcessWatch
from pytest_serve_chaos.cluster.kubernetes.rayservice.removal import ContainerProbe, Removals
from pytest_serve_chaos.cluster.kubernetes.rayservice.topology import PodTopology
from pytest_serve_chaos.cluster.rest import Dashboard
from pytest_serve_chaos.model import Json


@dataclass(frozen=True, slots=True)
class Sight:
    """By which means a RayService is looked at.

    Attributes:
        pods: Tells which pods there are; None asks the API server each time.
        processes: Tells which processes run in Ray's containers; None where nothing may be run in them.
        logs: Which logs may be read.
        container_probe: Looks at containers on their node, where that can be done.
    """

    pods: PodWatch | None = None
    processes: ProcessWatch | None = None
    logs: LogAccess = field(default_factory=LogAccess)
    container_probe: ContainerProbe | None = None


class RayServiceView:
    """A RayService as the parts of its cluster see it.

    Args:
        api: The Kubernetes API, in its namespace.
        dashboard: The dashboard of its head.
        ref: The RayService.
        sight: By which means it is looked at.

    Attributes:
        api, dashboard, ref: As given.
        pods: Its pods.
        removals: Watches pods go.
        topology: Who is alive.
        logs: What its pods log.
    """

    def __init__(self, api: KubeApi, dashboard: Dashboard, ref: RayServiceRef, sight: Sight) -> None:
        self.api = api
        self.dashboard = dashboard
        self.ref = ref
        self.pods = RayPods(api, ref, sight.pods)
        self.removals = Removals(api, dashboard, sight.pods, sight.container_probe)
        workers = ref.spec.workers if ref.worker_range is None else ref.worker_range[0]
        scaled, haproxy = ref.worker_range is not None, ref.spec.ingress == "haproxy"
        self.topology = PodTopology(self.pods, workers, sight.processes, scaled=scaled, haproxy=haproxy)
        self.logs = self._logs(sight.logs)
        self._watches = [watch for watch in (sight.processes, sight.pods) if watch is not None]

    def _logs(self, access: LogAccess) -> PodLogs:
        pods = self.pods
        sources = LogSources(
            self.api,
            access.operator_namespace,
            ray_pods=pods.named,
            others=OtherClusters(self.api, self.ref.ray_service, lambda: pods.ray_cluster, pods.of),
            redis_pods=pods.redis,
            live=pods.live,
        )
        return PodLogs(self.api, access, sources=sources.all, ray_pods=pods.named, live=pods.live)

    def redis_items(self) -> Sequence[Mapping[str, Json]]:
        """Redis' pods as plain data, where they are known."""
        return self.api.raw_pods(self.ref.redis_selector) if self.ref.redis_selector is not None else ()

    def dead_watches(self) -> tuple[str, ...]:
        """Which threads that watch it ended although nobody stopped them. Has the capability `Watches`."""
        return (*self.logs.dead, *(why for watch in self._watches for why in watch.dead))

    def close(self) -> None:
        """Ends the watches of pods, processes and logs; what is made for the cluster stays."""
        self.logs.close()
        for watch in self._watches:
            watch.close()
