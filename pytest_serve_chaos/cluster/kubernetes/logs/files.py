"""The logs of one container as files of this machine, and their lines by time."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from bisect import bisect_left
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

from pytest_serve_chaos import clock
from pytest_serve_chaos.cluster.test_logs import MOST_BYTES, name_of_file

_MOST_READ = 2_000_000
"""Bytes of a file, the last ones, that are looked at for lines."""
_MANY_PIECES = 512
"""Pieces of a file after each of which those are forgotten that are not read any more."""
_STAMP_WITHIN = 120
"""Characters at the beginning of a line in which its time stands, if it has one."""
_TRUNCATED = 0.001
"""Seconds by which a time may be too early, since it is written with milliseconds."""

# "2026-11-22 18:04:11,123" in local time, as Ray and Serve write it; "2026-11-22T18:04:11.123456789Z" from Kubernetes.
_STAMP = re.compile(r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(?:[.,](\d{1,6})\d*)?(Z|[+-]\d\d:\d\d)?")


class Line(NamedTuple):
    """A line of a log.

    Attributes:
        at: When it was written, monotonic seconds; where it does not say that, when it came.
        file: Its file as the container has it: ``serve/controller_123.log``.
    """

    at: float
    file: str
    text: str


class _Piece(NamedTuple):
    """What came at one time."""

    at: float
    offset: int
    length: int


@dataclass(slots=True)
class _File:
    path: Path
    size: int = 0
    full: bool = False
    pieces: list[_Piece] = field(default_factory=list)


class LogFiles:
    """What one container logs. Safe to use from several threads.

    Args:
        directory: Where to; it is made with the first line.
        most: Bytes that are kept of a file; the file itself says so when it is full.
    """

    def __init__(self, directory: Path, *, most: int = MOST_BYTES) -> None:
        self._directory = directory
        self._most = most
        self._lock = threading.Lock()
        self._files: dict[str, _File] = {}
        self._ahead = clock.now() - time.time()
        self._told: float | None = None
        self._east = 0.0

    def tell_clock(self, wall: float, east: float) -> None:
        """Says what the container's clock showed a moment ago, and by how much its local time is ahead of UTC."""
        ahead = clock.now() - wall
        # The way here takes time, so the smallest of all reported values is the most accurate.
        self._told = ahead if self._told is None else min(self._told, ahead)
        self._ahead, self._east = self._told, east

    def add(self, file: str, text: str) -> None:
        """Appends what has just come, usually whole lines; what cannot be written is lost."""
        data = text.encode("utf-8", "replace")
        with self._lock:
            known = self._files.get(file)
            if known is None:
                parts = [name_of_file(part) for part in file.split("/") if part.strip(".")]
                known = self._files[file] = _File(self._directory.joinpath(*parts[-2:] or ["_"]))
            if known.full:
                return
            with contextlib.suppress(OSError):
                self._append(known, data)

    def _append(self, file: _File, data: bytes) -> None:
        if file.size + len(data) > self._most:
            file.full = True
            data = f"[serve-chaos: this file is cut off after {self._most / 1e6:g} MB]\n".encode()
        file.path.parent.mkdir(parents=True, exist_ok=True)
        with file.path.open("ab") as opened:
            offset = opened.tell()
            opened.write(data)
        file.size += len(data)
        file.pieces.append(_Piece(clock.now(), offset, len(data)))
        if len(file.pieces) >= _MANY_PIECES and len(file.pieces) % _MANY_PIECES == 0:
            del file.pieces[: _first_by_size(file)]  # nobody reads them any more, and a run may last for hours

    def lines(self, patterns: Collection[str], since: float) -> list[Line]:
        """The lines since then (monotonic seconds) of the files that match, in their order in each file.

        A line without a time is as old as the line before it.
        """
        with self._lock:
            files = [
                (name, file.path, file.pieces[_first(file, since) :])
                for name, file in self._files.items()
                if any(fnmatch(name, pattern) for pattern in patterns)
            ]
        return [line for name, path, pieces in files for line in self._read(name, path, pieces, since)]

    def _read(self, name: str, path: Path, pieces: list[_Piece], since: float) -> list[Line]:
        found: list[Line] = []
        if not pieces:
            return found
        try:
            with path.open("rb") as file:
                for piece in pieces:
                    file.seek(piece.offset)
                    at = piece.at
                    for text in file.read(piece.length).decode("utf-8", "replace").splitlines():
                        at = self._time_of(text, at)
                        if at + _TRUNCATED >= since:
                            found.append(Line(at, name, text))
        except OSError:
            pass  # somebody has taken the directory away
        return found

    def _time_of(self, line: str, before: float) -> float:
        match = _STAMP.search(line[:_STAMP_WITHIN])
        if match is None:
            return before
        date, second, fraction, zone = match.groups()
        try:
            stamp = datetime.fromisoformat(f"{date}T{second}{(zone or '+00:00').replace('Z', '+00:00')}")
        except ValueError:
            return before
        wall = stamp.timestamp() + float(f"0.{fraction or 0}") - (0.0 if zone else self._east)
        return wall + self._ahead


def _first(file: _File, since: float) -> int:
    """The first piece that may have lines since then: none came before it was written."""
    by_time = bisect_left([piece.at for piece in file.pieces], since)
    if not file.pieces:
        return 0
    return max(by_time, _first_by_size(file))


def _first_by_size(file: _File) -> int:
    """The first piece that is near enough to the end of the file to be read."""
    last = file.pieces[-1]
    return bisect_left([piece.offset for piece in file.pieces], last.offset + last.length - _MOST_READ)
