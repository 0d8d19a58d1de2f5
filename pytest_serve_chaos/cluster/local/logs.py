"""Log lines of the nodes of a local cluster, chosen by time and pattern."""

from __future__ import annotations

import re
import time
from datetime import datetime
from pathlib import Path

# Python logs begin with "2026-11-22 18:04:11,123", Serve's with a level before it, C++ logs with "[2026-11-22 ...".
_TIME = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3})")
_MOST_BYTES = 2_000_000


def excerpt(
    directory: Path, since: float, *, pattern: str | None, lines: int, files: str = "**/*.log"
) -> tuple[str, ...]:
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
