"""What the nodes of a local cluster log: lines chosen by time and pattern, and copies for a test that failed."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from types import MappingProxyType

from pytest_serve_chaos import clock
from pytest_serve_chaos.cluster.capabilities import KeptLogs
from pytest_serve_chaos.cluster.local.commands import temp_directory
from pytest_serve_chaos.cluster.local.layout import Layout
from pytest_serve_chaos.cluster.local.plan import HEAD_INDEX, Plan, node_name
from pytest_serve_chaos.cluster.test_logs import MOST_BYTES, name_of_file
from pytest_serve_chaos.model import Component, LogLine

# Python logs begin with "2026-11-22 18:04:11,123", Serve's with a level before it, C++ logs with "[2026-11-22 ...".
_TIME = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3})")
_TIME_WITHIN = 200
"""Characters at the beginning of a line in which its time stands; in JSON, other fields are before it."""
_MOST_READ = 2_000_000
"""Bytes at the end of a file in which lines are looked for."""

_LOG = re.compile(r".+\.(log|out|err)(\.\d+)?")
_SESSION = "session_"
_NO_LOGS = "runtime_resources"
"""Ray's directory for the packages of apps, which may be large."""


class NodeLogs:
    """What Ray and Serve log. Has the capabilities `ShowsControllerLog`, `ShowsReplicaLogs` and `StreamsLogs`.

    Args:
        plan: What the supervisor runs.
        layout: The addresses of its nodes.
    """

    def __init__(self, plan: Plan, layout: Layout) -> None:
        self._plan = plan
        self._layout = layout
        self._directory = Path(plan.directory)

    def excerpt(self, since: float, *, pattern: str | None = None, lines: int = 40) -> tuple[str, ...]:
        """The last log lines of all nodes after `since` (monotonic seconds) that match `pattern`."""
        return _excerpt(self._directory, since, pattern=pattern, lines=lines, files="**/*.log")

    def controller_log(self, *, pattern: str, since: float) -> tuple[str, ...]:
        """Lines of the controllers' logs after `since` (monotonic seconds) that match `pattern`."""
        return _excerpt(self._directory, since, pattern=pattern, lines=1000, files="**/serve/controller_*.log")

    def replica_log(self, replica: Component, *, since: float) -> tuple[str, ...]:
        """Lines of that replica's log after `since` (monotonic seconds)."""
        name = (replica.replica or "").rpartition("#")[2]
        files = f"**/serve/replica_*_{name}.log"
        return _excerpt(self._directory, since, pattern=None, lines=2000, files=files) if name else ()

    def stream_logs(self, directory: Path) -> KeptLogs:
        """What is logged from now on is copied there if the test fails; until then it stands in files anyway."""
        indices = range(self._plan.workers + 1)
        nodes = {temp_directory(self._plan, index).name: node_name(index) for index in indices}
        addresses = {self._layout.address(index): node_name(index) for index in indices}
        return LogCopies(self._directory, nodes, directory, shared_by=addresses if self._plan.one_directory else {})


def _excerpt(directory: Path, since: float, *, pattern: str | None, lines: int, files: str) -> tuple[str, ...]:
    """The last lines of Ray's logs under `directory` that were written after `since` (monotonic seconds).

    Lines without a time (of a traceback, say) have that of the line before them.
    """
    offset = time.time() - time.monotonic()
    wanted = re.compile(pattern) if pattern else None
    found: list[tuple[float, str]] = []
    for path in sorted(directory.glob(files)):
        if path.is_symlink() or any(part == "session_latest" for part in path.parts):
            continue
        at = 0.0
        for line in _tail(path):
            at = _time_of(line, at)
            if at - offset >= since and (wanted is None or wanted.search(line)):
                found.append((at, f"{path.stem}: {line}"))
    found.sort(key=lambda entry: entry[0])
    return tuple(line for _, line in found[-lines:])


def _time_of(line: str, previous: float) -> float:
    match = _TIME.search(line[:_TIME_WITHIN])
    if match is None:
        return previous
    return datetime.fromisoformat(match[1].replace(",", ".")).timestamp()


def _tail(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _MOST_READ))
            return file.read().decode(errors="replace").splitlines()
    except OSError:
        return []


class LogCopies:
    """What is logged from now on, copied when it is wanted. Implements `cluster.capabilities.KeptLogs`.

    Args:
        source: The cluster's directory.
        nodes: The name of each node's directory there -> the node.
        directory: Where the copies go.
        shared_by: The address of each node -> the node, if all log into the directory of the head.
        most: Bytes that are kept of a file, the last ones; the copy says what is left out.
    """

    def __init__(
        self,
        source: Path,
        nodes: Mapping[str, str],
        directory: Path,
        *,
        shared_by: Mapping[str, str] = MappingProxyType({}),
        most: int = MOST_BYTES,
    ) -> None:
        self._source = source
        self._nodes = nodes
        self._shared_by = shared_by
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

    def around(self, moment: float, *, before: float, after: float) -> list[LogLine]:
        """Lines that the nodes logged around a moment, in order of time; of files that were written since then."""
        ahead = time.time() - clock.now()
        found: list[LogLine] = []
        for path, status in _logs(self._source):
            if status.st_mtime >= moment + ahead - before:
                found += [line for line in self._lines(path, moment + ahead) if -before <= line.seconds <= after]
        return sorted(found, key=lambda line: line.seconds)

    def _lines(self, path: Path, moment: float) -> Iterator[LogLine]:
        """The lines at the end of a file, each with its time from the moment; without one, that of the line before."""
        directory, *rest = self._place(path).parts
        node, file = directory.partition(f"_{_SESSION}")[0].removesuffix(".log"), "/".join(rest) or directory
        if self._shared_by and rest:
            node = _node_of(file, self._shared_by)
        at = 0.0
        for text in _tail(path):
            at = _time_of(text, at)
            yield LogLine(at - moment, node, file, text)

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


def _node_of(file: str, addresses: Mapping[str, str]) -> str:
    """The node whose file that is, as far as its name tells; else ""."""
    if re.match(r"gcs_server|serve/controller_\d+\.log", file):
        return node_name(HEAD_INDEX)
    return next((node for address, node in addresses.items() if f"_{address}." in file), "")


def _inode(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
