"""Stable names for Ray's pods: ``head``, ``worker-1``, ... A replacement takes the name of the pod that it replaces."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Mapping, Sequence

from pytest_serve_chaos.cluster.kubernetes.client.records import Pod
from pytest_serve_chaos.cluster.kubernetes.names import RAY_NODE_TYPE
from pytest_serve_chaos.model import HEAD


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
    names = {pod.uid: before[pod.uid] for pod in pods if pod.uid in before}
    for pod in pods:
        if pod.uid not in names:
            names[pod.uid] = HEAD if _is_head(pod) else _name_for_worker(names, pods, workers)
    return names


def _name_for_worker(names: Mapping[str, str], pods: Sequence[Pod], workers: int) -> str:
    taken = {names[pod.uid] for pod in pods if pod.uid in names}
    staying = {names[pod.uid] for pod in pods if pod.uid in names and not pod.deleting}
    expected = expected_names(workers)[1:]
    for unavailable in (taken, staying):
        for name in expected:
            if name not in unavailable:
                return name
    further = (f"worker-{number}" for number in itertools.count(workers + 1))
    return next(name for name in further if name not in taken)


def _is_head(pod: Pod) -> bool:
    return pod.labels.get(RAY_NODE_TYPE) == HEAD


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
