"""Lines below the cursor of a terminal, which come and go and leave everything else as it is."""

from __future__ import annotations

import os
import select
from collections.abc import Sequence

_DOWN = "\x1bD"
"""A line down in the same column; on the last line of the screen, everything moves up."""
_UP = "\x1b[{}A"
_SAVE, _RESTORE = "\x1b7", "\x1b8"
_CLEAR_LINE, _CLEAR_BELOW = "\x1b[K", "\x1b[J"

_SIZE_UNKNOWN = os.terminal_size((80, 24))


class LinesBelow:
    """Lines below the cursor, which stays where it is and is never hidden.

    So the next writer goes on where the last one stopped, also in the middle of a line. All that is below the cursor
    is cleared, also where a narrower window has made more lines of it. A process that is killed leaves no mode of the
    terminal behind.

    Args:
        descriptor: An open file descriptor of a terminal. Nobody else writes to the terminal while lines are shown.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._shown = False

    @property
    def size(self) -> os.terminal_size:
        """The size of the window now."""
        try:
            size = os.get_terminal_size(self._descriptor)
        except OSError:
            return _SIZE_UNKNOWN
        return size if size.columns and size.lines else _SIZE_UNKNOWN

    @property
    def takes_more(self) -> bool:
        """Whether lines may be shown now: not in the background of a shell, nor while Ctrl-S holds the output."""
        try:
            if os.tcgetpgrp(self._descriptor) != os.getpgrp():
                return False
        except OSError:  # it is not the terminal of a shell
            pass
        return bool(select.select([], [self._descriptor], [], 0)[1])

    def show(self, lines: Sequence[str]) -> None:
        """Shows these in place of those that are shown.

        Args:
            lines: Each is narrower than the window; there are fewer than the window has lines.

        Raises:
            OSError: The terminal is gone.
        """
        if not lines:
            self.clear()
            return
        room = _DOWN * len(lines) + _UP.format(len(lines))
        below = "".join(f"\r\n{line}{_CLEAR_LINE}" for line in lines)
        self._shown = True
        self._write(f"{room}{_SAVE}{below}{_CLEAR_BELOW}{_RESTORE}")

    def clear(self) -> None:
        """Shows nothing any more.

        Raises:
            OSError: The terminal is gone.
        """
        if self._shown:
            self._write(f"{_SAVE}\r{_DOWN}{_CLEAR_BELOW}{_RESTORE}")
            self._shown = False

    def _write(self, text: str) -> None:
        left = text.encode()
        while left:
            left = left[os.write(self._descriptor, left) :]
