"""Outages as a client sees them: the spans in which requests were lost."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

from pytest_serve_chaos.model import Outage, Request


def find_outages(requests: Iterable[Request], *, merge_gap: float = 1.0) -> tuple[Outage, ...]:
    """The outages among these requests, in order of time.

    An outage begins at the scheduled time of the first lost request and ends at that of the next good one. Outages
    with less than `merge_gap` seconds of only good answers between them are one: a third of all requests lost for 24 s
    is one outage of 24 s, and not hundreds of 20 ms.

    Args:
        requests: In any order.
        merge_gap: Seconds of only good answers that end an outage.
    """
    # At the same scheduled time a good one comes first, so that each outage has a span that holds its lost requests.
    ordered = sorted(requests, key=lambda request: (request.scheduled, request.lost))
    times = [request.scheduled for request in ordered]
    outages = []
    for start, end in _merged(_runs(ordered), merge_gap):
        inside = ordered[bisect_left(times, start) : None if end is None else bisect_left(times, end)]
        outages.append(Outage(start, end, lost=sum(request.lost for request in inside), sent=len(inside)))
    return tuple(outages)


def until_the_first_in_flight(requests: Iterable[Request]) -> tuple[Request, ...]:
    """The requests of one stream up to the first that has not ended, which is not among them.

    What a silent node swallowed says nothing until it times out, while those after it are long answered by others: a
    quiet time that reaches beyond it is none yet.

    Args:
        requests: Those that have ended; their indexes count up from one to the next, and begin anew with new traffic.
    """
    found: list[Request] = []
    for request in sorted(requests, key=lambda request: request.scheduled):
        if found and request.index not in (0, found[-1].index + 1):
            break
        found.append(request)
    return tuple(found)


def length(outage: Outage, until: float) -> float:
    """Seconds that an outage lasted; `until` stands for the end of one that has none."""
    return max(0.0, (until if outage.end is None else outage.end) - outage.start)


def _runs(ordered: Iterable[Request]) -> list[tuple[float, float | None]]:
    runs: list[tuple[float, float | None]] = []
    start: float | None = None
    for request in ordered:
        if request.lost and start is None:
            start = request.scheduled
        elif not request.lost and start is not None:
            runs.append((start, request.scheduled))
            start = None
    if start is not None:
        runs.append((start, None))
    return runs


def _merged(runs: Iterable[tuple[float, float | None]], merge_gap: float) -> list[tuple[float, float | None]]:
    merged: list[tuple[float, float | None]] = []
    for start, end in runs:
        last_end = merged[-1][1] if merged else None
        if last_end is not None and start - last_end < merge_gap:
            merged[-1] = (merged[-1][0], end)
        else:
            merged.append((start, end))
    return merged
