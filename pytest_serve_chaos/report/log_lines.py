"""Log lines for people: repeated lines are shown once, with how often they occurred."""

from __future__ import annotations

import re
from collections.abc import Iterable

WIDTH = 300
"""Characters of a line that are shown."""

_DIFFERENT_EACH_TIME = re.compile(r"'[^']*'|\b[0-9a-f]{6,}(?:-[0-9a-f]+)*\b|\b(?=[a-z]*\d)[a-z0-9]{8}\b|\d+")


def without_repetitions(lines: Iterable[str], *, most: int = 30) -> list[str]:
    """The first of all lines that differ only in numbers, ids and quoted names, with how many there are.

    Args:
        lines: In order of time.
        most: How many to show; the rest is counted.
    """
    first: dict[str, str] = {}
    times: dict[str, int] = {}
    for line in lines:
        shape = _DIFFERENT_EACH_TIME.sub("#", line)
        first.setdefault(shape, line)
        times[shape] = times.get(shape, 0) + 1
    shown = [_cut(line) + (f"  (x {times[shape]})" if times[shape] > 1 else "") for shape, line in first.items()]
    left_out = len(shown) - most
    return [*shown[:most], f"... and {left_out} more that differ"] if left_out > 0 else shown


def _cut(line: str) -> str:
    return line if len(line) <= WIDTH else f"{line[:WIDTH]}..."
