"""The requests of an experiment as a page holds them: columns of numbers, deflated, as text.

A page draws 100,000 requests without effort. Of more, those that would be drawn on top of each other are left out;
every figure counts all of them.
"""

from __future__ import annotations

import base64
import math
import sys
import zlib
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from pytest_serve_chaos.report.timeline import Requests, Strips

MOST = 100_000
"""Requests that a page draws one by one."""

UNIT = 1e-5
"""Seconds that times are rounded to in the columns."""

_MOST_IN_COLUMN = 2**32 - 1
_CELLS = 200
"""Cells on top of each other between the shortest and the longest latency, for what may be left out."""


@dataclass(frozen=True, slots=True)
class Packed:
    """Columns of whole numbers as one text.

    Attributes:
        text: For each column, the lowest bytes of all its numbers, then the next ones, four times: what is alike is
            together. All of it deflated (zlib) and in base64.
        names: The columns, in their order.
        rows: How many numbers each has.
    """

    text: str
    names: tuple[str, ...]
    rows: int


def pack(columns: Mapping[str, array[int]]) -> Packed:
    """Columns of the same length as text; each number is from 0 to 2**32 - 1."""
    rows = {len(column) for column in columns.values()}
    assert len(rows) == 1, "columns of one table have the same length"
    deflate = zlib.compressobj(9)
    pieces = [deflate.compress(plane) for column in columns.values() for plane in _planes(column)]
    packed = b"".join([*pieces, deflate.flush()])
    return Packed(base64.b64encode(packed).decode("ascii"), tuple(columns), rows.pop())


def _planes(column: array[int]) -> list[bytes]:
    wide = array("I", column)
    if sys.byteorder == "big":
        wide.byteswap()
    flat = wide.tobytes()
    return [flat[place :: wide.itemsize] for place in range(4)]


def pack_requests(requests: Requests, slow_after: float | None) -> Packed:
    """The requests in order of their scheduled times, each time as the difference to the one before.

    Args:
        requests: All of them.
        slow_after: Seconds after which an answer is late, so that it is never left out.
    """
    order = drawn(requests, slow_after)
    scheduled = [_units(requests.scheduled[i] - requests.scheduled[order[0]]) for i in order]
    steps = array("I", scheduled[:1])
    steps.extend(later - earlier for earlier, later in pairwise(scheduled))
    columns = {
        "scheduled": steps,
        "latency": array("I", (_units(requests.latency[i]) for i in order)),
        **{
            name: array("I", (column[i] for i in order))
            for name, column in (
                ("outcome", requests.outcome),
                ("way", requests.way),
                ("replica", requests.replica),
                ("app", requests.app),
                ("name", requests.name),
                ("number", requests.number),
                ("requestId", requests.request_id),
                ("kept", requests.kept),
            )
        },
    }
    return pack(columns)


def _units(seconds: float) -> int:
    return min(_MOST_IN_COLUMN, max(0, round(seconds / UNIT)))


def drawn(requests: Requests, slow_after: float | None, *, most: int = MOST) -> Sequence[int]:
    """The indexes of those that are drawn, in order of their scheduled times.

    Of more than `most`, one is drawn for each outcome and each cell of a fine grid of time and latency, and all that
    were lost or late as far as there are no more than half of `most` of them.
    """
    order = sorted(range(len(requests)), key=requests.scheduled.__getitem__)
    if len(order) <= most:
        return order
    slow = math.inf if slow_after is None else slow_after
    outcome, latency = requests.outcome, requests.latency
    special = [i for i in order if outcome[i] or latency[i] > slow]
    if len(special) > most // 2:
        special = _thinned(requests, special, most // 2)
    others = [i for i in order if not outcome[i] and latency[i] <= slow]
    return sorted([*special, *_thinned(requests, others, most - len(special))], key=requests.scheduled.__getitem__)


def _thinned(requests: Requests, chosen: Sequence[int], most: int) -> list[int]:
    """Of those that would be drawn in the same place the first one, in order of time; no more than `most`."""
    if len(chosen) <= most:
        return list(chosen)
    begin = requests.scheduled[chosen[0]]
    seconds = max(requests.scheduled[chosen[-1]] - begin, 1e-9)
    columns = max(1, most // 4)
    while True:
        seen: set[tuple[int, int, int, int]] = set()
        found: list[int] = []
        for i in chosen:
            across = int(columns * (requests.scheduled[i] - begin) / seconds)
            cell = (across, _height(requests.latency[i]), requests.outcome[i], requests.kept[i])
            if cell not in seen:
                seen.add(cell)
                found.append(i)
        if len(found) <= most or columns == 1:
            return found[:most]
        columns = max(1, columns // 2)


def _height(latency: float) -> int:
    """The cell of a latency on a logarithmic scale, from 0.1 ms to 1000 s."""
    return int(_CELLS * math.log10(max(latency, 1e-4) / 1e-4) / 7)


def pack_strips(strips: Strips) -> Packed:
    """What became of the requests in each strip of time."""
    return pack({"sent": strips.sent, "lost": strips.lost, "late": strips.late})
