"""What is put onto the nodes of a kind cluster: images, KubeRay's operator, and all that is above it."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from pytest_serve_chaos import clock, manifests
from pytest_serve_chaos.analysis.words import number
from pytest_serve_chaos.cluster.base import Progress
from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.cluster.kubernetes.install import render
from pytest_serve_chaos.cluster.kubernetes.install.kuberay import ROCKSDB_GATE, wants_rocksdb
from pytest_serve_chaos.cluster.kubernetes.install.stack import Stack
from pytest_serve_chaos.cluster.kubernetes.install.workload import Workload
from pytest_serve_chaos.cluster.kubernetes.kind.nodes import KindNodes
from pytest_serve_chaos.cluster.kubernetes.kind.record import Record, Wishes, fingerprint
from pytest_serve_chaos.cluster.kubernetes.kind.settings import KindSettings
from pytest_serve_chaos.cluster.kubernetes.logs.operator import check_manifests, read_manifests
from pytest_serve_chaos.manifests import Manifest
from pytest_serve_chaos.model import Json
from pytest_serve_chaos.progress import still


class KindInstallation:
    """All that a kind cluster gets, in the order in which it gets it.

    Args:
        nodes: Its nodes.
        settings: What it is made of.
        workload: The RayService, and what must be there before it.
        labels: On all that is made.
        number: Number of Ray pods.
        progress: Prints a line about the images.

    Raises:
        SettingsError: There is more code than a ConfigMap holds, or the operator's manifests are not KubeRay's.
        ClusterStartError: These cannot be read.
    """

    def __init__(
        self,
        nodes: KindNodes,
        settings: KindSettings,
        workload: Workload,
        labels: Mapping[str, str],
        *,
        number: int,
        progress: Progress,
    ) -> None:
        self._nodes = nodes
        self._settings = settings
        self._workload = workload
        self._labels = labels
        self._number = number
        self._progress = progress
        self._code = render.code_config_map(workload.code, labels)  # now: it may be more than one can hold
        self._manifests_are_here = Path(settings.kuberay_manifests).exists()
        if self._manifests_are_here or not (settings.keep and nodes.exists()):
            _ = self._operator_manifests  # now: nothing is made yet; but a cluster that is kept may need none

    @functools.cached_property
    def wishes(self) -> Wishes:
        """What should be in a cluster that is kept."""
        nodes, settings, work = self._nodes, self._settings, self._workload
        # What an address leads to would take longer to fetch than all else, so it counts by its name.
        operator, operator_image = settings.kuberay_manifests, settings.operator_image
        if self._manifests_are_here:
            operator, operator_image = self._operator_manifests, self._operator_image
        images = [i for i in (operator_image, *work.redis_images, *work.ray_images) if i is not None]
        image = settings.node_image
        which = f"{image} ({nodes.images.id_of(image)})" if image else f"the image of {nodes.kind_version()}"
        record = Record(
            machines=f"of {which}",
            base=fingerprint([operator, *self._gates, *(f"{image} {nodes.images.id_of(image)}" for image in images)]),
            service=fingerprint(manifests.dump(documents) for documents in self._documents.values()),
        )
        return Wishes(record, work.ray_service, work.redis, number=self._number)

    def install(self, stack: Stack, *, base: bool) -> None:
        """Installs all, or with the `base` of images and operator in place only what is above it."""
        work, documents = self._workload, self._documents
        if base:
            # Cluster DNS must not go with a node that a fault takes away: every name in the cluster hangs on it.
            dns: Json = {"spec": {"template": {"spec": {"nodeSelector": {names.ROLE: "services"}}}}}
            self._nodes.kubectl("-n", "kube-system", "patch", "deployment", "coredns", "-p", json.dumps(dns))
            self._load([self._operator_image, *work.redis_images], [self._nodes.control_plane])
            stack.install_operator(self._operator_manifests)
        others = [name for name in work.namespaces if name not in (names.NAMESPACE, *names.OF_KUBERNETES)]
        if others:
            stack.install("namespaces", [render.namespace(self._labels, name) for name in others])
        stack.check([*work.before, work.ray_service])
        if "redis" in documents:
            stack.install_redis(documents["redis"])
        if base:
            self._load(work.ray_images, self._nodes.docker.ray_nodes())
        stack.wait_for_operator()
        if work.redis is not None:
            stack.wait_for_redis()
        self._nodes.docker.limit_processors()
        stack.install("services", documents["services"])
        stack.install("rayservice", documents["rayservice"])

    @functools.cached_property
    def _operator_image(self) -> str | None:
        return self._settings.operator_image or render.operator_image(self._operator_manifests) or None

    @functools.cached_property
    def _operator_manifests(self) -> str:
        source = self._settings.kuberay_manifests
        read = read_manifests(source, lambda where: self._nodes.kubectl("kustomize", where))
        check_manifests(read, source)
        image, labels = self._settings.operator_image, self._labels
        return render.operator_manifests(read, image=image, labels=labels, gates=self._gates)

    @property
    def _gates(self) -> tuple[str, ...]:
        """The feature gates that the operator must have on for the RayService."""
        return (ROCKSDB_GATE,) if wants_rocksdb(self._workload.ray_service) else ()

    @functools.cached_property
    def _documents(self) -> dict[str, tuple[Manifest, ...]]:
        """All that is installed above the operator, by the name of its file."""
        work = self._workload
        return {
            **({"redis": work.before} if work.before else {}),
            "services": (*render.services(self._labels, work.serve_service), self._code),
            "rayservice": (work.ray_service,),
        }

    def _load(self, images: Sequence[str | None], nodes: Sequence[str]) -> None:
        began, where = clock.now(), number(len(nodes), "node")
        wanted = [image for image in images if image is not None]
        if not wanted:
            return
        self._progress(f"kind: loading {', '.join(wanted)} onto {where}")
        with still(f"loading {', '.join(wanted)}", self._progress, who="kind"):
            absent = self._nodes.images.load(wanted, nodes)
        there = [image for image in wanted if image not in absent]
        if there:  # not "loaded": kind leaves out the nodes that have them
            self._progress(f"kind: {', '.join(there)} on {where} after {clock.now() - began:.1f} s")
        if absent:
            self._progress(f"kind: Docker does not have {', '.join(absent)}; the nodes will pull it")
