"""The pods of a RayService: those of the RayCluster that serves, and Redis'; which live, and their names.

A name is stable: ``head``, ``worker-1``, ... A replacement takes the name of the pod that it replaces.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.client.pod_watch import PodWatch
from pytest_serve_chaos.cluster.kubernetes.client.records import Container, Pod
from pytest_serve_chaos.cluster.kubernetes.rayservice.ray_containers import with_ray_container
from pytest_serve_chaos.errors import NoSuchTarget, ObservationError
from pytest_serve_chaos.model import HEAD, NOT_READY, Component, Identity


def expected_names(workers: int) -> tuple[str, ...]:
    """The names of all nodes of a cluster, head first."""
    return (HEAD, *(f"worker-{number}" for number in range(1, workers + 1)))


def number_of(worker: str) -> int:
    """The number in the name of a worker."""
    return int(worker.rpartition("-")[2])


def assign_names(before: Mapping[str, str], pods: Sequence[Pod], workers: int) -> dict[str, str]:
    """Gives each pod a name and leaves those alone that have one.

    A new worker takes the lowest name that no pod has; where all are taken, that of a pod which is being deleted.

    Args:
        before: Pod UID -> name, as it was.
        pods: All Ray pods, oldest first.
        workers: Number of workers that the cluster should have.

    Returns:
        Pod UID -> name, for those pods only.
    """
    given = {pod.uid: before[pod.uid] for pod in pods if pod.uid in before}
    for pod in pods:
        if pod.uid not in given:
            given[pod.uid] = HEAD if _is_head(pod) else _name_for_worker(given, pods, workers)
    return given


def _name_for_worker(given: Mapping[str, str], pods: Sequence[Pod], workers: int) -> str:
    taken = {given[pod.uid] for pod in pods if pod.uid in given}
    staying = {given[pod.uid] for pod in pods if pod.uid in given and not pod.deleting}
    expected = expected_names(workers)[1:]
    for unavailable in (taken, staying):
        for name in expected:
            if name not in unavailable:
                return name
    further = (f"worker-{number}" for number in itertools.count(workers + 1))
    return next(name for name in further if name not in taken)


def _is_head(pod: Pod) -> bool:
    return pod.labels.get(names.RAY_NODE_TYPE) == HEAD


class PodNames:
    """The names given so far. Safe to use from several threads.

    Args:
        workers: Number of workers that the cluster should have.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._names: dict[str, str] = {}
        self._lock = threading.Lock()

    def of(self, pods: Sequence[Pod]) -> dict[str, str]:
        """Pod UID -> name, for the Ray pods that are there now, oldest first."""
        with self._lock:
            self._names = assign_names(self._names, pods, self._workers)
            return dict(self._names)


@dataclass(frozen=True, slots=True)
class RayServiceRef:
    """Which RayService a cluster is.

    Attributes:
        spec: Which cluster was wanted.
        ray_service: The RayService's name.
        ray_cluster: The name of the RayCluster that KubeRay made for it.
        redis_selector: Labels of the Redis pod; None where there is none, or it is not ours.
        worker_range: The least and the most workers where Ray's autoscaler scales them; None: always as in the spec.
        ray_containers: Group -> the name of its Ray container; of others it is the one that KubeRay has marked.
    """

    spec: ClusterSpec
    ray_service: str
    ray_cluster: str
    redis_selector: str | None = None
    worker_range: tuple[int, int] | None = None
    ray_containers: Mapping[str, str] = field(default_factory=dict)


class RayPods:
    """The pods of a RayService.

    Args:
        api: The Kubernetes API, in its namespace.
        ref: The RayService.
        watch: Tells which pods there are; None asks the API server each time.

    Attributes:
        ray_cluster: The RayCluster that is looked at: the one to which KubeRay sends traffic.
    """

    def __init__(self, api: KubeApi, ref: RayServiceRef, watch: PodWatch | None = None) -> None:
        self.ray_cluster = ref.ray_cluster
        self._api = api
        self._redis_selector = ref.redis_selector
        self._ray_containers = ref.ray_containers
        self._watch = watch
        self._names = PodNames(ref.spec.workers)
        self._lost: frozenset[str] = frozenset()
        self._stopped: frozenset[str] = frozenset()

    # -- which pods there are ---------------------------------------------------------------------------------

    def of(self, ray_cluster: str) -> tuple[Pod, ...]:
        """The Ray pods of a RayCluster."""
        if self._watch is None:
            pods = self._api.pods(f"{names.RAY_CLUSTER}={ray_cluster},{names.RAY_NODES}")
        else:
            labelled = self._watch.pods({names.RAY_CLUSTER: ray_cluster})
            pods = tuple(pod for pod in labelled if pod.labels.get(names.RAY_NODE_TYPE) in ("head", "worker"))
        return tuple(with_ray_container(pod, self._ray_containers) for pod in pods)

    def named(self) -> list[tuple[str, Pod]]:
        """Ray's pods with their names, head first."""
        pods = self.of(self.ray_cluster)
        pod_names = self._names.of(pods)
        return sorted(((pod_names[pod.uid], pod) for pod in pods), key=lambda named: (named[0] != HEAD, named[0]))

    def redis(self) -> tuple[Pod, ...]:
        """Redis' pods."""
        if self._redis_selector is None:
            return ()
        if self._watch is None:
            return self._api.pods(self._redis_selector)
        return self._watch.pods(dict([self._redis_selector.split("=", 1)]))

    # -- which of them live -----------------------------------------------------------------------------------

    def live(self, pod: Pod) -> Container | None:
        """The container of a pod that runs, as far as is known; None if it does not."""
        container = pod.main
        return container if container is not None and container.running and container.id not in self._lost else None

    def live_named(self) -> list[tuple[str, Pod, Container]]:
        """Ray's pods that run, with their names and containers, head first."""
        return [(name, pod, container) for name, pod in self.named() if (container := self.live(pod))]

    def state(self, pod: Pod, container: Container) -> str:
        """Kubernetes' word for a pod whose container runs; ``frozen`` where it is known to be stopped."""
        if container.id in self._stopped:
            return "frozen"
        if pod.deleting:
            return "Terminating"
        return "Ready" if container.ready and pod.ready is not False else NOT_READY

    def lose(self, containers: Collection[str]) -> None:
        """These containers (ids) went with their machine, whatever Kubernetes says."""
        self._lost |= frozenset(containers)

    def stop(self, container: str, *, stopped: bool) -> None:
        """The first process of that container (id) is stopped, or continues."""
        self._stopped = self._stopped | {container} if stopped else self._stopped - {container}

    # -- one of them ------------------------------------------------------------------------------------------

    def running(self, name: str) -> Pod:
        """The pod of a Ray node.

        Raises:
            NoSuchTarget: It does not run.
        """
        named = self.named()
        running = [pod for n, pod in named if n == name and not pod.deleting and self.live(pod)]
        if not running:
            raise NoSuchTarget(
                f"{name} is not running",
                checked=[f"{n}: {pod.summary}" for n, pod in named] or ["no Ray pod at all"],
            )
        return running[-1]

    def running_redis(self) -> Pod:
        """The pod of Redis.

        Raises:
            NoSuchTarget: It does not run.
        """
        pods = self.redis()
        running = [pod for pod in pods if not pod.deleting and self.live(pod)]
        if not running:
            raise NoSuchTarget("Redis is not running", checked=[pod.summary for pod in pods] or ["no Redis pod"])
        return running[-1]

    def with_process(self, identity: Identity) -> Pod:
        """The Ray pod in whose container a process was started.

        Raises:
            NoSuchTarget: That container does not run any more.
        """
        for _, pod, container in self.live_named():
            if (pod.uid, container.id[:12]) == identity.parts[:2]:
                return pod
        raise NoSuchTarget(f"{identity} is gone: its container does not run any more")

    def with_container(self, identity: Identity) -> tuple[Pod, Container]:
        """A pod of Ray or of Redis, and its container.

        Raises:
            NoSuchTarget: That container does not run any more.
        """
        for pod in (*(pod for _, pod in self.named()), *self.redis()):
            container = self.live(pod)
            if container is not None and (pod.uid, container.id[:12]) == identity.parts[:2]:
                return pod, container
        raise NoSuchTarget(f"{identity} is gone")

    def with_proxy(self, proxy: Component) -> Pod:
        """The pod of a proxy.

        Raises:
            ObservationError: It is gone.
        """
        pods = [pod for name, pod in sorted(self.named(), key=newest_last) if name == proxy.node]
        # The identity has the pod's UID where it came from pods; where it came from the GCS, the name has to do.
        own = [pod for pod in pods if pod.uid in proxy.identity.parts] or pods
        if not own:
            raise ObservationError(f"{proxy.name}: its pod is gone", checked=[str(proxy.identity)])
        return own[-1]


def newest_last(pair: tuple[str, Pod]) -> tuple[bool, str]:
    """Sorts named pods: those that are being deleted first, then by age."""
    _, pod = pair
    return not pod.deleting, pod.created
