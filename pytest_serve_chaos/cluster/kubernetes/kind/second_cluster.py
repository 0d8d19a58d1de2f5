"""A second Ray cluster on the Redis of a RayService: a head alone, as a RayCluster that KubeRay makes and cleans up."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pytest_serve_chaos import clock, manifests
from pytest_serve_chaos.cluster.base import ClusterSpec, Progress
from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.client.records import inner
from pytest_serve_chaos.cluster.kubernetes.install.stack import Kubectl
from pytest_serve_chaos.cluster.kubernetes.rayservice.bring_up import BringUp
from pytest_serve_chaos.cluster.kubernetes.rayservice.cluster import Ends, RayServiceCluster, RunningConfig
from pytest_serve_chaos.cluster.kubernetes.rayservice.head_service import dashboard_behind
from pytest_serve_chaos.cluster.kubernetes.rayservice.parts import pod_parts
from pytest_serve_chaos.cluster.kubernetes.rayservice.pods import RayServiceRef
from pytest_serve_chaos.cluster.kubernetes.rayservice.ray_token import RayToken, wants_token
from pytest_serve_chaos.cluster.kubernetes.rayservice.view import RayServiceView, Sight
from pytest_serve_chaos.cluster.private_files import private_directory
from pytest_serve_chaos.cluster.rest import Dashboard
from pytest_serve_chaos.errors import ClusterError, ClusterStartError, CommandFailed, WaitTimeout
from pytest_serve_chaos.manifests import Manifest, merge
from pytest_serve_chaos.model import ClusterDescription, Json

_REMOVED = 180.0
"""Seconds for its pod to end, and for the Job with which KubeRay then deletes its keys from Redis."""

_GRACE = 5
"""Seconds for its pod to end gracefully: it has nothing to drain."""


def lone_head(ray_service: Manifest, name: str, namespace: str | None) -> Manifest:
    """A RayCluster that is the head of a RayService once more, without workers.

    It runs on the machines of Ray's pods: only they have Ray's image, and leave a processor to everything else. It does
    not carry the label of those pods, so that it may share a machine with one, and no Service of ours leads to it.

    Args:
        ray_service: Whose image, code, environment and Redis it has.
        name: Its name.
        namespace: Under which its GCS keeps its keys; None: KubeRay takes its UID.
    """
    head: Json = {
        "template": {
            "metadata": {"labels": {names.PART: None}},
            "spec": {"affinity": None, "terminationGracePeriodSeconds": _GRACE},
        }
    }
    patch: Manifest = {"headGroupSpec": head, "workerGroupSpecs": None}
    metadata, cluster = inner(ray_service, "metadata"), inner(ray_service, "spec", "rayClusterConfig")
    annotations = inner(metadata, "annotations")
    if "gcsFaultToleranceOptions" in cluster:
        patch["gcsFaultToleranceOptions"] = {"externalStorageNamespace": namespace}
    else:
        annotations = merge(annotations, {names.STORAGE_NAMESPACE: namespace})
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayCluster",
        "metadata": {
            "name": name,
            "labels": metadata.get("labels", {}),
            **({"annotations": annotations} if annotations else {}),
        },
        "spec": merge(cluster, patch),
    }


@dataclass(frozen=True, slots=True)
class SecondClusters:
    """Starts additional heads next to a RayService.

    Attributes:
        ray_service: Its manifest, with the Redis that they share.
        kubectl: Runs kubectl.
        kubeconfig: Leads to the API server.
        directory: Where their manifests are kept.
        progress: Prints a line about each phase.
        complaints: What KubeRay's operator complains about.
        timeout: Seconds for each phase.
    """

    ray_service: Manifest = field(repr=False)
    kubectl: Kubectl
    kubeconfig: Path
    directory: Path
    progress: Progress
    complaints: Callable[[], Sequence[str]]
    timeout: float

    @property
    def _namespace(self) -> str:
        """That of the RayService: its Redis is called by names that are good there."""
        return str(inner(self.ray_service, "metadata").get("namespace") or names.NAMESPACE)

    def start(self, spec: ClusterSpec, namespace: str | None) -> RayServiceCluster:
        """Starts one and waits until it answers; closing it deletes it, and waits until Redis is rid of its keys.

        Args:
            spec: What it is described by.
            namespace: Under which its GCS keeps its keys; None: one of its own.

        Raises:
            ClusterStartError: It did not come up; nothing is left of it.
        """
        name = f"{names.RAY_SERVICE}-alongside-{secrets.token_hex(3)}"
        api = KubeApi(self.kubeconfig, namespace=self._namespace)
        wanted = wants_token(inner(self.ray_service, "spec", "rayClusterConfig"))
        token = RayToken(api, lambda: name) if wanted else None
        dashboard = dashboard_behind(api, f"{name}-head-svc", token=token)
        try:
            self._make(name, namespace)
            self._wait(name, api, dashboard)
            return self._head(name, spec, api, dashboard)
        except BaseException as error:
            dashboard.close()
            api.close()
            self._give_up(name)
            if isinstance(error, ClusterError | WaitTimeout):
                what = f"the additional head did not come up: {error.what}"
                raise ClusterStartError(what, checked=error.checked, fix=error.fix) from error
            raise

    def _make(self, name: str, namespace: str | None) -> None:
        file = private_directory(self.directory) / f"{name}.yaml"
        file.write_text(manifests.dump((lone_head(self.ray_service, name, namespace),)), encoding="utf-8")
        options = ("--server-side", f"--field-manager={names.PROJECT}")
        self.kubectl("-n", self._namespace, "apply", *options, "-f", str(file))

    def _wait(self, name: str, api: KubeApi, dashboard: Dashboard) -> None:
        up = BringUp(api, name, progress=self.progress, complaints=self.complaints, timeout=self.timeout)
        up.pods(name, 1)
        up.head(name, dashboard)

    def _head(self, name: str, spec: ClusterSpec, api: KubeApi, dashboard: Dashboard) -> RayServiceCluster:
        description = ClusterDescription(
            backend="kind",
            ray_version=dashboard.ray_version(),
            workers=spec.workers,
            gcs=spec.gcs,
            ingress=spec.ingress,
            app=spec.app,
            profile=spec.profile,
            replicas=0,
            url="",
            details={"ray cluster": name},
        )
        view = RayServiceView(api, dashboard, RayServiceRef(spec, name, name), Sight())
        config = RunningConfig({}, dashboard.put_serve)  # no RayService stands behind this head
        parts = pod_parts(view, config, description.ray_version)
        return RayServiceCluster(view, config, description, parts, Ends(last=lambda: self._delete(name)))

    def _delete(self, name: str) -> None:
        begun = clock.now()
        options = ("--ignore-not-found", "--wait", "--timeout", f"{_REMOVED:g}s")
        self.kubectl("-n", self._namespace, "delete", "raycluster.ray.io", name, *options, timeout=_REMOVED + 10)
        self.progress(f"kuberay: deleted {name} in {clock.now() - begun:.1f} s")

    def _give_up(self, name: str) -> None:
        try:
            self._delete(name)
        except CommandFailed as error:
            self.progress(f"kuberay: {error}")
