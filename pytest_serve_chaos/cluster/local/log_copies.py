"""Copies of what a local cluster logged during a test that failed: its own files go with the cluster."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from pytest_serve_chaos.cluster.test_logs import MOST_BYTES, name_of_file

_LOG = re.compile(r".+\.(log|out|err)(\.\d+)?")
_SESSION = "session_"
_NO_LOGS = "runtime_resources"
"""Ray's directory for the packages of apps, which may be large."""


class LogCopies:
    """What is logged from now on, copied when it is wanted. Implements `cluster.capabilities.KeptLogs`.

    Args:
        source: The cluster's directory.
        nodes: The name of each node's directory there -> the node.
        directory: Where the copies go.
        most: Bytes that are kept of a file, the last ones; the copy says what is left out.
    """

    def __init__(self, source: Path, nodes: Mapping[str, str], directory: Path, *, most: int = MOST_BYTES) -> None:
        self._source = source
        self._nodes = nodes
        self._directory = directory
        self._most = most
        self._had = {_inode(status): status.st_size for _, status in _logs(source)}

    def keep(self) -> None:
        """Copies what was added to the logs since the beginning; overwrites earlier copies.

        Raises:
            OSError: It could not be written.
        """
        for path, status in _logs(self._source):
            had = self._had.get(_inode(status), 0)
            if status.st_size > had:
                with contextlib.suppress(FileNotFoundError):  # it was taken away meanwhile
                    self._copy(path, had, status.st_size)

    def close(self) -> None:
        """Does nothing: the copies are there, or were not wanted."""

    def _copy(self, path: Path, had: int, size: int) -> None:
        target = self._directory / self._place(path)
        start = max(had, size - self._most)
        with path.open("rb") as logged:
            logged.seek(start)
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as copy:
                if start > had:
                    copy.write(f"[serve-chaos: {start - had} bytes of this test are left out]\n".encode())
                shutil.copyfileobj(logged, copy)

    def _place(self, path: Path) -> Path:
        """``head_session_2026-11-22.../serve/proxy.log``: the node, which start of it, and the file."""
        node, *parts = path.relative_to(self._source).parts
        if not parts:
            return Path(node)
        parts = [part for part in parts if part != "logs"]
        session = f"_{parts.pop(0)}" if parts[0].startswith(_SESSION) and len(parts) > 1 else ""
        return Path(name_of_file(self._nodes.get(node, node) + session), *parts)


def _logs(source: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """The log files there; links, as Ray's to its newest session, are not followed."""
    for directory, directories, names in os.walk(source):
        directories[:] = [name for name in directories if name != _NO_LOGS]
        for name in filter(_LOG.fullmatch, names):
            path = Path(directory) / name
            with contextlib.suppress(FileNotFoundError):  # it has just gone
                status = path.lstat()
                if stat.S_ISREG(status.st_mode):
                    yield path, status


def _inode(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
