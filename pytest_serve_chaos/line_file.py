"""A file of lines that a thread writes, so that nobody who adds a line waits for a disk."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

Line: TypeAlias = Callable[[], str]
"""Makes a line, without its end; called in the thread that writes."""

_EVERY = 0.25
"""Seconds after which lines are in the file that nobody asked to be there at once."""

_PROC = Path("/proc/self/fd")
"""Where Linux shows the files of this process, those that somebody has removed too."""

_CLOSED_WITHIN = 60.0
"""Seconds after which a file is given up that cannot be closed."""


class LineFile:
    """Lines in the order in which they were added. A file that cannot be written is given up.

    A disk that is busy with something else can take seconds for one line. The load generator must not wait for it.

    Args:
        path: The file, which is overwritten. Its directory is created if it does not exist.

    Attributes:
        problem: Why the last lines are missing in the file, as on a full disk; "" if none are.
        lines: How many lines are in the file for sure, and can be read there.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.problem = ""
        self.lines = 0
        self._path = path
        self._file = path.open("w", encoding="utf-8")
        self._lines: deque[Line] = deque()
        self._wake = threading.Event()
        self._closing = False
        self._writing = threading.Lock()
        self._thread = threading.Thread(target=self._run, name=f"writes {path.name}", daemon=True)
        self._thread.start()

    def add(self, line: Line, *, at_once: bool = False) -> None:
        """Appends a line, which is in the file a quarter of a second later at the latest.

        Args:
            line: Makes it.
            at_once: Whether the thread is woken for it.
        """
        if self._closing:
            return
        self._lines.append(line)
        if at_once:
            self._wake.set()

    def flush(self) -> None:
        """Waits until all lines that were added are in the file, or it is given up."""
        with self._writing:
            self._write()

    def read(self, begin: int, end: int) -> bytes:
        """What the file has from one place to another, also if somebody has removed it meanwhile.

        Args:
            begin: In bytes.
            end: In bytes.

        Raises:
            OSError: It cannot be read.
        """
        with self._writing:
            still_open = not self._file.closed
            path = Path(f"/proc/self/fd/{self._file.fileno()}") if still_open and _PROC.is_dir() else self._path
            return read_bytes(path, begin, end)

    def close(self) -> None:
        """Writes what is left, and closes the file. May be called twice."""
        self._closing = True
        self._wake.set()
        self._thread.join(_CLOSED_WITHIN)
        if self._thread.is_alive():
            self.problem = f"{self._path}: the disk has not taken it for {_CLOSED_WITHIN:g} s"
            return
        self.flush()
        self._try(self._file.close)

    def _run(self) -> None:
        while not self._closing:
            self._wake.wait(_EVERY)
            self._wake.clear()
            self.flush()

    def _write(self) -> None:
        """Empties the queue, also of a file that was given up."""
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        for line in lines:
            self._try(lambda line=line: self._file.write(f"{line()}\n"))  # type: ignore[misc]
        if lines:
            self._try(self._file.flush)
        if not self.problem:
            self.lines += len(lines)

    def _try(self, what: Callable[[], object]) -> None:
        try:
            if not self.problem:
                what()
        except Exception as error:  # whatever it is, nothing more can be added to the file
            self.problem = f"{self._path}: {error}"
            with contextlib.suppress(OSError):
                self._file.close()


def read_bytes(path: Path, begin: int, end: int) -> bytes:
    """What a file has from one place to another, in bytes.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        file.seek(begin)
        return file.read(end - begin)
