"""Repairs an external RayService by what the cluster itself shows: no journal is needed, and nobody who was there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from pytest_serve_chaos.cluster.base import Progress
from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.client.drain import CordonNote, reopen
from pytest_serve_chaos.cluster.kubernetes.client.errors import FORBIDDEN, NOT_FOUND, status_of
from pytest_serve_chaos.cluster.kubernetes.client.records import Pod, name_of, ray_clusters_of
from pytest_serve_chaos.cluster.kubernetes.external.stale_proxies import replace_stale
from pytest_serve_chaos.cluster.kubernetes.rayservice.existing import read_ray_service
from pytest_serve_chaos.cluster.kubernetes.rayservice.programs import tidy
from pytest_serve_chaos.cluster.serve_config import serve_port
from pytest_serve_chaos.errors import CommandFailed, ObservationError, in_one_line
from pytest_serve_chaos.model import Json


class Repairs:
    """Repairs one RayService.

    Args:
        api: The Kubernetes API in its namespace; its guard lets nothing else be changed.
        name: The RayService.
        owns: Whether a pod of that name is the RayService's.
        progress: Prints a line about each thing that is repaired.

    Attributes:
        failed: What could not be repaired, in words.
    """

    def __init__(self, api: KubeApi, name: str, owns: Callable[[str], bool], progress: Progress) -> None:
        self.failed: list[str] = []
        self._api = api
        self._name = name
        self._owns = owns
        self._progress = progress

    def repair_all(self) -> None:
        """Repairs what is quick to repair first; whatever becomes of one thing, the others are repaired.

        Of a RayService that is gone, drained nodes may be left.

        Raises:
            ObservationError: The RayService cannot be read, so nothing would be found to repair.
        """
        item = self._read()
        pods = self._pods(item)
        for pod in pods:
            self._attempt(f"the pod {pod.name}", partial(self._tidy, pod))
        self._attempt("nodes", partial(self._uncordon_all, pods))
        if item:
            self._attempt("proxies", partial(self.replace_stale_proxies, item))

    def _read(self) -> Mapping[str, Json]:
        try:
            return self._api.ray_service(self._name)
        except ObservationError as error:
            if status_of(error) != NOT_FOUND:
                raise
            self._progress(f"undo: there is no RayService {self._api.namespace}/{self._name} any more")
            return {}

    def _tidy(self, pod: Pod) -> None:
        for line in tidy(self._api, pod):
            self._progress(f"undo: {line}")

    def _uncordon_all(self, pods: Sequence[Pod]) -> None:
        """Uncordons the nodes that were drained for it, unless somebody else has cordoned them since."""
        ours = f"{self._api.namespace}/{self._name}"
        for node in self._nodes(pods):
            note = CordonNote.of(node)
            if note is not None and note.rayservice == ours:
                self._attempt(f"the node {name_of(node)}", partial(self._uncordon, name_of(node)))

    def _uncordon(self, node: str) -> None:
        self._progress(f"undo: {reopen(self._api, node) or f'the node {node} was cordoned'}")

    def _nodes(self, pods: Sequence[Pod]) -> Sequence[Mapping[str, Json]]:
        """All nodes, or where this user may not list them, those under the pods."""
        try:
            return self._api.nodes.items()
        except CommandFailed as error:
            if status_of(error) != FORBIDDEN:
                raise
        under = {node: self._node(node) for node in sorted({pod.node for pod in pods} - {""})}
        seen = {name: node for name, node in under.items() if node is not None}
        if seen:
            self.failed.append(
                f"a drained node without a pod of it: this user may not list nodes, so only {', '.join(seen)} could be"
                f" looked at; `kubectl get nodes` shows others as SchedulingDisabled, with the annotation {names.UNDO}"
            )
        else:
            self._progress("undo: no node was looked at: this user may not read nodes, and so has drained none")
        return list(seen.values())

    def _node(self, name: str) -> Mapping[str, Json] | None:
        try:
            return self._api.nodes.read(name)
        except CommandFailed as error:
            if status_of(error) != FORBIDDEN:
                raise
            return None

    def replace_stale_proxies(self, item: Mapping[str, Json]) -> None:
        """Replaces proxies that do not hear their controller since a run has killed the one before.

        Args:
            item: The RayService.

        Raises:
            ClusterError: It could not be done.
        """
        port = serve_port(read_ray_service(item).serve_config)
        replace_stale(self._api, self._pods(item), port, self._progress)

    def _pods(self, item: Mapping[str, Json]) -> list[Pod]:
        clusters = [cluster for cluster in ray_clusters_of(item) if cluster]
        pods = [pod for cluster in clusters for pod in self._api.pods(f"{names.RAY_CLUSTER}={cluster}")]
        return [pod for pod in pods if pod.runs and self._owns(pod.name)]

    def _attempt(self, what: str, repair: Callable[[], None]) -> None:
        try:
            repair()
        except Exception as error:  # whatever it is, the others are still broken
            self.failed.append(f"{what} of RayService {self._api.namespace}/{self._name}: {in_one_line(error)}")
