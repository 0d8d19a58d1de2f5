"""Which containers log for a RayService: those of all its RayClusters, of Redis and of KubeRay's operator."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

from pytest_serve_chaos import clock
from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.client.records import Container, Pod, ray_clusters_of
from pytest_serve_chaos.cluster.kubernetes.logs.followers import Source
from pytest_serve_chaos.cluster.kubernetes.logs.operator import SELECTOR
from pytest_serve_chaos.errors import ObservationError

_CLUSTERS_EVERY = 3.0
"""Seconds between two looks for a RayCluster that is to serve: its pods are followed from their start all the same."""

_OPERATOR_EVERY = 15.0
"""Seconds between two looks for the operator's pods."""


class OtherClusters:
    """The RayClusters of a RayService other than the one that serves: the next one, and earlier ones.

    Args:
        api: The Kubernetes API, in the RayService's namespace.
        ray_service: Its name.
        serving: Returns the name of the RayCluster that serves.
        pods_of: Returns the Ray pods of a RayCluster.
    """

    def __init__(
        self, api: KubeApi, ray_service: str, serving: Callable[[], str], pods_of: Callable[[str], Sequence[Pod]]
    ) -> None:
        self._api = api
        self._ray_service = ray_service
        self._serving = serving
        self._pods_of = pods_of
        self._known: set[str] = set()
        self._stated: frozenset[str] = frozenset()
        self._looked = 0.0

    def pods(self) -> list[tuple[str, Pod]]:
        """Their Ray pods, by names that no pod of the serving one has: ``worker of serve-chaos-x2v7q``.

        Raises:
            ObservationError: The API server gave no usable answer.
        """
        self._look()
        serving = self._serving()
        self._known |= {serving, *self._stated}
        found: list[tuple[str, Pod]] = []
        for cluster in sorted(self._known - {serving}):
            pods = self._pods_of(cluster)
            if not pods and cluster not in self._stated:
                self._known.discard(cluster)
            found += [(f"{pod.labels.get(names.RAY_NODE_TYPE)} of {cluster}", pod) for pod in pods]
        return found

    def _look(self) -> None:
        if clock.now() - self._looked > _CLUSTERS_EVERY:
            self._looked = clock.now()
            with contextlib.suppress(ObservationError):
                item = self._api.ray_service(self._ray_service)
                self._stated = frozenset(ray_clusters_of(item)) - {""}


class LogSources:
    """The containers whose logs are wanted.

    Args:
        api: The Kubernetes API, in the RayService's namespace.
        operator_namespace: Where KubeRay's operator is; None: perhaps in that namespace.
        ray_pods: Returns Ray's pods of the RayCluster that serves, with their names.
        others: Its other RayClusters.
        redis_pods: Returns Redis' pods.
        live: Returns the first container of a pod if it runs, as far as is known; else None.
    """

    def __init__(
        self,
        api: KubeApi,
        operator_namespace: str | None,
        *,
        ray_pods: Callable[[], Sequence[tuple[str, Pod]]],
        others: OtherClusters,
        redis_pods: Callable[[], Sequence[Pod]],
        live: Callable[[Pod], Container | None],
    ) -> None:
        self._api = api
        self._operator_namespace = operator_namespace
        self._ray_pods = ray_pods
        self._others = others
        self._redis_pods = redis_pods
        self._live = live
        self._served: dict[str, str] = {}
        self._operator: Sequence[Pod] = ()
        self._operator_looked = 0.0

    def all(self) -> list[Source]:
        """Those that run, and those that have ended in a pod that is there.

        Raises:
            ObservationError: The API server gave no usable answer.
        """
        found: list[Source] = []
        for name, pod in self._all_ray_pods():
            found += self._of(pod, name, has_files=True)
        for pod in self._redis_pods():
            found += self._of(pod, "redis")
        for pod in self._operators():
            found += self._of(pod, "operator", namespace=self._operator_namespace)
        return found

    def _all_ray_pods(self) -> list[tuple[str, Pod]]:
        serving = list(self._ray_pods())
        self._served |= {pod.uid: name for name, pod in serving}
        there = {pod.uid for _, pod in serving}
        # A pod that has served keeps its name, under which its lines are asked for.
        others = [(self._served.get(p.uid, name), p) for name, p in self._others.pods() if p.uid not in there]
        return [*serving, *others]

    def _of(self, pod: Pod, name: str, *, has_files: bool = False, namespace: str | None = None) -> Iterator[Source]:
        for container in (*pod.init_containers, *pod.containers):
            is_main = container is pod.main
            if not container.id or (is_main and container.running and self._live(pod) is None):
                continue  # the latter: its machine is lost, and the API server does not know it yet
            yield Source(
                name,
                pod.name,
                container.name,
                container.id,
                container.restarts,
                has_files=has_files and is_main,
                namespace=namespace,
                is_main=is_main,
                ended=not container.running,
                pod_uid=pod.uid,
            )

    def _operators(self) -> Sequence[Pod]:
        """The operator's pods, where they can be seen."""
        if clock.now() - self._operator_looked > _OPERATOR_EVERY:
            self._operator_looked = clock.now()
            try:
                self._operator = self._api.pods(SELECTOR, namespace=self._operator_namespace)
            except ObservationError:
                self._operator = ()
        return self._operator
