"""A lock that keeps two runs off the same cluster."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator

from pytest_serve_chaos import locks
from pytest_serve_chaos.errors import Locked


@contextlib.contextmanager
def cluster_lock(cluster: str) -> Iterator[None]:
    """Holds the lock of a cluster; the kernel gives it back however this process ends.

    Args:
        cluster: What names the cluster on this machine: ``kind/NAME``, ``CONTEXT/NAMESPACE/RAYSERVICE``.

    Raises:
        Locked: Another run has it.
        SafetyError: There is no directory that only this user can write to.
    """
    name = f"cluster-{hashlib.sha256(cluster.encode()).hexdigest()[:16]}.lock"
    try:
        lock = locks.acquire(name)
    except Locked as held:
        raise Locked(
            f"another run is using the cluster {cluster}",
            checked=held.checked,
            fix=["wait for it, or end it", "or use a cluster of your own"],
        ) from None
    try:
        yield
    finally:
        lock.release()
