"""What the nodes of a local cluster log: lines chosen by time and pattern, and copies for a test that failed."""

from __future__ import annotations

import re
import time
from datetime import datetime
from pathlib import Path

from pytest_serve_chaos.cluster.capabilities import KeptLogs
from pytest_serve_chaos.cluster.local.commands import temp_directory
from pytest_serve_chaos.cluster.local.log_copies import LogCopies
from pytest_serve_chaos.cluster.local.plan import Plan, node_name
from pytest_serve_chaos.model import Component

# Python logs begin with "2026-11-22 18:04:11,123", Serve's with a level before it, C++ logs with "[2026-11-22 ...".
_TIME = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3})")
_MOST_BYTES = 2_000_000


class NodeLogs:
    """What Ray and Serve log. Has the capabilities `ShowsControllerLog`, `ShowsReplicaLogs` and `StreamsLogs`.

    Args:
        plan: What the supervisor runs.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
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
        nodes = {temp_directory(self._plan, index).name: node_name(index) for index in range(self._plan.workers + 1)}
        return LogCopies(self._directory, nodes, directory)


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
    match = _TIME.search(line[:60])
    if match is None:
        return previous
    return datetime.strptime(match[1], "%Y-%m-%d %H:%M:%S,%f").timestamp()


def _tail(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _MOST_BYTES))
            return file.read().decode(errors="replace").splitlines()
    except OSError:
        return []
