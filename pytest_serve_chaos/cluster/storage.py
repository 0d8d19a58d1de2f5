"""Where Ray's GCS keeps its state, other than in Redis: variables of the head's environment say it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pytest_serve_chaos.errors import SettingsError, Unsupported

if TYPE_CHECKING:
    from pytest_serve_chaos.cluster.base import Gcs

KIND = "RAY_gcs_storage"
"""``memory``, ``redis`` or ``rocksdb``; Ray reads it in this case only."""
PATH = "RAY_gcs_storage_path"
"""The directory of the RocksDB. One GCS has it open at a time."""
ROCKSDB = "rocksdb"
FIRST_RAY = (2, 57)
"""The first Ray with that storage, which Ray calls alpha."""


def gcs_of(wanted: Gcs, env: Mapping[str, str], *, said: bool = False) -> Gcs:
    """Where the GCS of a cluster will really keep its state.

    Args:
        wanted: What was asked for.
        env: Environment variables that its Ray processes get in addition.
        said: Whether the test itself asked for it, and not only the options of the run.

    Raises:
        SettingsError: The two exclude each other.
    """
    kind = env.get(KIND)
    if kind is None:
        return wanted
    if kind != ROCKSDB:
        if {"memory": "none", "redis": "redis"}.get(kind) == wanted:
            return wanted
        raise SettingsError(
            f"the environment sets {KIND}={kind}, which the plugin sets as `gcs` says",
            checked=[f"gcs={wanted!r}"],
            fix=["leave the variable out, and say gcs='redis', 'rocksdb' or 'none'"],
        )
    if said and wanted == "redis":
        raise SettingsError(
            f"gcs='redis' and {KIND}={ROCKSDB} in the environment exclude each other",
            fix=["leave the variable out", "or say gcs='rocksdb'"],
        )
    return "rocksdb"


def no_redis(gcs: Gcs) -> Unsupported:
    """The error for what needs a Redis, where there is none.

    Args:
        gcs: Where the GCS keeps its state.
    """
    why = {
        "redis": "this cluster has no Redis of its own",
        "rocksdb": "this cluster has no Redis: its GCS keeps its state in RocksDB, on the head's disk",
        "none": "this cluster has no Redis, because its GCS fault tolerance is off",
    }
    return Unsupported(why[gcs], fix=["ask for one with @pytest.mark.serve_cluster(gcs='redis')"])
