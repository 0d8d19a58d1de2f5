"""Where the GCS of a RayService keeps its state, read from the object: in Redis, in RocksDB on a volume, or nowhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from pytest_serve_chaos.cluster.base import Gcs
from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.cluster.kubernetes.client.records import inner, listed, mapped, text
from pytest_serve_chaos.cluster.storage import KIND, PATH, ROCKSDB
from pytest_serve_chaos.model import Json

DURABLE = ("persistentVolumeClaim", "hostPath", "nfs", "csi", "iscsi")
"""The kinds of volume whose content outlives a pod."""

_REDIS_ADDRESS = "RAY_REDIS_ADDRESS"
_TLS = "rediss"


@dataclass(frozen=True, slots=True)
class GcsStorage:
    """Where it is.

    Attributes:
        gcs: ``redis`` or ``rocksdb`` where the GCS has its state again after the loss of the head's pod, else ``none``.
        lost: What goes with the head's pod; "" where nothing does.
        address: Where its Redis is, ``host:port``; "" where it has none.
        tls: Whether Ray speaks TLS with that Redis.
    """

    gcs: Gcs
    lost: str = ""
    address: str = field(default="", repr=False)
    tls: bool = False


def storage_of(item: Mapping[str, Json]) -> GcsStorage:
    """Reads it from a RayService: KubeRay's options, the older annotation, or Ray's own variables in the head."""
    cluster = inner(item, "spec", "rayClusterConfig")
    options = cluster.get("gcsFaultToleranceOptions")
    if text(mapped(options), "backend") == ROCKSDB:
        return GcsStorage("rocksdb")
    pod = inner(cluster, "headGroupSpec", "template", "spec")
    container = next(iter(listed(pod.get("containers"))), {})
    variables = {text(variable, "name"): text(variable, "value") for variable in listed(container.get("env"))}
    if variables.get(KIND) == ROCKSDB:  # which counts before an address of Redis
        return _in_rocksdb(pod, container, variables.get(PATH, ""))
    annotations = inner(item, "metadata", "annotations")
    if options is None and str(annotations.get(names.FT_ENABLED)).lower() != "true":
        return GcsStorage("none")
    containers = listed(pod.get("containers"))
    given = [text(v, "value") for c in containers for v in listed(c.get("env")) if text(v, "name") == _REDIS_ADDRESS]
    address = next((one for one in (text(mapped(options), "redisAddress"), *given) if one), "")
    scheme, _, rest = address.rpartition("://")
    return GcsStorage("redis", address=rest, tls=scheme == _TLS)


def _in_rocksdb(pod: Mapping[str, Json], container: Mapping[str, Json], path: str) -> GcsStorage:
    volumes = {text(v, "name"): any(kind in v for kind in DURABLE) for v in listed(pod.get("volumes"))}
    mounts = {text(m, "mountPath"): volumes.get(text(m, "name"), False) for m in listed(container.get("volumeMounts"))}
    if not path:  # it comes from somewhere that cannot be read here
        return GcsStorage("rocksdb" if any(mounts.values()) else "none", "" if any(mounts.values()) else "RocksDB")
    around = [mount for mount in mounts if PurePosixPath(path).is_relative_to(mount)]
    if around and mounts[max(around, key=len)]:
        return GcsStorage("rocksdb")
    return GcsStorage("none", f"RocksDB in {path}")
