"""A terminal as its user sees it: an emulator at the other end of a real pseudo-terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pyte

from pytest_serve_chaos import clock

LIMIT = 120.0
"""Seconds within which a program ends, on a busy machine."""


_LAST = b"\0"
"""What a terminal does nothing for."""


class Terminal:
    """An emulated terminal.

    Args:
        rows: Of its window.
        columns: Of its window.

    Attributes:
        there: The descriptor that a program writes to.
        screen: What its user sees.
        raw: All that was written to it.
    """

    def __init__(self, rows: int, columns: int) -> None:
        self.here, self.there = pty.openpty()
        self.screen = pyte.HistoryScreen(columns, rows, history=1000)
        self.raw = b""
        self._stream = pyte.ByteStream(self.screen)
        self.resize(rows, columns)

    def resize(self, rows: int, columns: int) -> None:
        """Makes the window another size."""
        fcntl.ioctl(self.there, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.screen.resize(rows, columns)

    def write(self, text: str) -> None:
        """Writes to it as a program does."""
        os.write(self.there, text.encode())

    def read(self, timeout: float = 0.0) -> bool:
        """Shows what was written; whether there was something."""
        seen = False
        while select.select([self.here], [], [], timeout)[0]:
            try:
                written = os.read(self.here, 65536)
            except OSError:  # the last program that had it open has ended
                written = b""
            if not written:
                return seen
            self.raw += written
            self._stream.feed(written)
            seen, timeout = True, 0.0
        return seen

    def shown(self) -> list[str]:
        """The lines in the window."""
        return [line.rstrip() for line in self.screen.display]

    def lines(self) -> list[str]:
        """All that can be seen, also by scrolling back, without what is empty at the end."""
        before = self.raw.count(_LAST)
        os.write(self.there, _LAST)  # what was written before comes before it
        while self.raw.count(_LAST) == before:
            self.read(LIMIT)
        above = ["".join(row[n].data for n in range(self.screen.columns)).rstrip() for row in self.screen.history.top]
        return "\n".join([*above, *self.shown()]).rstrip().split("\n")

    def close(self) -> None:
        """Ends it."""
        os.close(self.here)
        os.close(self.there)


@dataclass(slots=True)
class Seen:
    """What the user of a terminal saw of a program.

    Attributes:
        status: With which the program ended.
        frames: What was in the window after each change of it.
        lines: What could be seen when it had ended, also by scrolling back.
        raw: All that it wrote.
        cursor_hidden: Whether the cursor was hidden when it had ended.
    """

    status: int = 0
    frames: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    raw: bytes = b""
    cursor_hidden: bool = False

    def frame_with(self, *texts: str) -> str:
        """The first frame that has all these texts."""
        found = [frame for frame in self.frames if all(text in frame for text in texts)]
        assert found, f"nobody ever saw {texts}; the last frames: {self.frames[-3:]}"
        return found[0]


@dataclass(frozen=True, slots=True)
class Once:
    """Something that the user does as soon as a text is in the window."""

    text: str
    do: Callable[[Terminal, subprocess.Popen[bytes]], None]


def press(key: bytes) -> Callable[[Terminal, subprocess.Popen[bytes]], None]:
    """Presses a key."""

    def pressed(terminal: Terminal, _: subprocess.Popen[bytes]) -> None:
        os.write(terminal.here, key)

    return pressed


def make_it(rows: int, columns: int) -> Callable[[Terminal, subprocess.Popen[bytes]], None]:
    """Makes the window another size."""
    return lambda terminal, _: terminal.resize(rows, columns)


def kill(_: Terminal, process: subprocess.Popen[bytes]) -> None:
    """Kills the program."""
    process.kill()


def run_on_terminal(
    command: Sequence[str], environment: Mapping[str, str], *todo: Once, rows: int = 40, columns: int = 110
) -> Seen:
    """Runs a program on a terminal of its own, and keeps what its user sees."""
    terminal, seen, left = Terminal(rows, columns), Seen(), list(todo)

    def own_terminal() -> None:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs ignore it

    there = terminal.there
    with subprocess.Popen(
        command, stdin=there, stdout=there, stderr=there, env=dict(environment), preexec_fn=own_terminal
    ) as process:
        end = clock.now() + LIMIT
        try:
            while process.poll() is None:
                assert clock.now() < end, "\n".join(terminal.shown())
                if terminal.read(0.1):
                    seen.frames.append("\n".join(terminal.shown()))
                if left and left[0].text in "\n".join(terminal.shown()):
                    left.pop(0).do(terminal, process)
        finally:
            process.kill()
    seen.status, seen.lines, seen.raw = process.returncode, terminal.lines(), terminal.raw
    seen.cursor_hidden = terminal.screen.cursor.hidden
    terminal.close()
    assert not left, f"nobody ever saw {left[0].text}: {seen.frames[-3:]}"
    return seen
