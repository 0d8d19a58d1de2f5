"""Which KubeRay a run installs, and what that KubeRay, and the Ray of the pods, must know for a RayService."""

from __future__ import annotations

import re
from collections.abc import Mapping

from pytest_serve_chaos.cluster.base import Gcs
from pytest_serve_chaos.cluster.kubernetes.client.records import inner, text
from pytest_serve_chaos.cluster.kubernetes.install.file_rules import ray_container
from pytest_serve_chaos.cluster.kubernetes.install.render import version_of
from pytest_serve_chaos.cluster.storage import FIRST_RAY, ROCKSDB
from pytest_serve_chaos.errors import SettingsError
from pytest_serve_chaos.model import Json

ROCKSDB_GATE = "GCSFaultToleranceEmbeddedStorage"
"""KubeRay's feature gate for ``backend: rocksdb``, which is off by default (1.7, alpha)."""
_FIRST_WITH_ROCKSDB = (1, 7)


def kuberay_version(operator_image: str | None, manifests: str) -> tuple[int, int] | None:
    """Major and minor number of the KubeRay that a run installs; None where nothing says it.

    Args:
        operator_image: The operator's image; None: that of the manifests.
        manifests: Where the manifests come from: ``github.com/...?ref=v1.6.2``, or a path.
    """
    found = re.search(r"[:=/]v?(\d+)\.(\d+)\.\d+", operator_image or manifests)
    return (int(found[1]), int(found[2])) if found else None


def check_storage(
    gcs: Gcs,
    kuberay: tuple[int, int] | None,
    ray_version: str | None,
    *,
    redis: str = "--serve-chaos-gcs=redis",
) -> None:
    """Makes sure that KubeRay and Ray know a storage of the GCS, where their versions are known.

    Args:
        gcs: The storage.
        kuberay: What `kuberay_version` gave.
        ray_version: The Ray of the pods: ``2.60.0``.
        redis: How the user gets Redis in its place.

    Raises:
        SettingsError: One of them does not; nothing has been made yet.
    """
    if gcs != "rocksdb":
        return
    problems, fixes = [], []
    if kuberay is not None and kuberay < _FIRST_WITH_ROCKSDB:
        problems.append(f"KubeRay 1.7 is the first that knows it, and the run installs {_dotted(kuberay)}")
        fixes.append("give --serve-chaos-kuberay-manifests and --serve-chaos-operator-image of KubeRay 1.7")
    found = re.match(r"(\d+)\.(\d+)\.", ray_version or "")
    ray = (int(found[1]), int(found[2])) if found else None
    if ray is not None and ray < FIRST_RAY:
        problems.append(f"Ray {_dotted(FIRST_RAY)} is the first that knows it, and the pods have {ray_version}")
        fixes.append("take a newer Ray: --serve-chaos-ray-version")
    if problems:
        raise SettingsError(
            f"the GCS cannot keep its state in RocksDB here: {problems[0]}",
            checked=problems[1:],
            fix=[*fixes, f"or take Redis: {redis}"],
        )


def check_file(ray_service: Mapping[str, Json], kuberay: tuple[int, int] | None, ray_version: str | None) -> None:
    """The same for a RayService of a file.

    Args:
        ray_service: The object.
        kuberay: What `kuberay_version` gave.
        ray_version: The Ray of the pods, where the options say so; None: that of the file.

    Raises:
        SettingsError: KubeRay or Ray does not know what it says; nothing has been made yet.
    """
    cluster = inner(ray_service, "spec", "rayClusterConfig")
    options = inner(cluster, "gcsFaultToleranceOptions")
    ray = ray_version or version_of(text(ray_container(inner(cluster, "headGroupSpec")), "image"))
    if text(options, "backend") == ROCKSDB:
        instead = "put one into the file, with `redisAddress` in place of `backend`"
        check_storage("rocksdb", kuberay, ray or text(cluster, "rayVersion"), redis=instead)
    new = [field for field in ("backend", "storage") if field in options]
    if new and kuberay is not None and kuberay < _FIRST_WITH_ROCKSDB:
        raise SettingsError(
            f"KubeRay {_dotted(kuberay)}, which the run installs, does not know"
            f" gcsFaultToleranceOptions.{' and '.join(new)}",
            fix=["leave it out", "or give --serve-chaos-kuberay-manifests and --serve-chaos-operator-image of 1.7"],
        )


def wants_rocksdb(ray_service: Mapping[str, Json]) -> bool:
    """Whether KubeRay is to give the GCS a RocksDB, for which its feature gate must be on."""
    return text(inner(ray_service, "spec", "rayClusterConfig", "gcsFaultToleranceOptions"), "backend") == ROCKSDB


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))
