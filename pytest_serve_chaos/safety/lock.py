"""A lock that keeps two runs off the same cluster."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pytest_serve_chaos.errors import Locked


@contextlib.contextmanager
def cluster_lock(cluster: str) -> Iterator[None]:
    """Holds the lock of a cluster; the kernel gives it back however this process ends.

    Args:
        cluster: What names the cluster on this machine: ``kind/NAME``, ``CONTEXT/NAMESPACE/RAYSERVICE``.

    Raises:
        Locked: Another run has it.
    """
    name = hashlib.sha256(cluster.encode()).hexdigest()[:16]
    path = Path(tempfile.gettempdir()) / f"serve-chaos-{os.getuid()}-{name}.lock"
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(handle, 100, 0).decode(errors="replace").strip() or "unknown"
            raise Locked(
                f"another run is using the cluster {cluster}",
                looked_at=[f"{path}, held by PID {owner}"],
                mend=["wait for it, or end it", "use a cluster of your own"],
            ) from None
        os.ftruncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(handle)
