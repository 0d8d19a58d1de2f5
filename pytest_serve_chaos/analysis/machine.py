"""Whether others' work on the machine held the cluster up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pytest_serve_chaos.analysis.words import limit_percent, number
from pytest_serve_chaos.events import MachineSeen

_TOGETHER = 3.0
"""Seconds of load that are looked at together: in a single second others may work without harm."""

_OTHERS = 0.2
"""The share of all processors that others must have used, at least, to be the reason that something took long."""

_WAITING = 0.3
"""The share of the time in which some process must have waited for a processor, at least."""

_DELAYED = 0.3
"""Seconds per second that threads of the run must have waited for a processor, where the kernel does not say that."""


def held_up(seen: Iterable[MachineSeen], begin: float, end: float) -> str:
    """How others' work on this machine held the cluster up in that time, as a clause; "" if it did not.

    Only where the cluster is on this machine, so that what it uses itself is known: an app, or a Ray that starts, may
    use all processors, and that is not others' doing. Steal time is others' doing.

    Args:
        seen: What the processors did.
        begin: Monotonic seconds.
        end: Monotonic seconds.
    """
    inside = [one for one in seen if one.has_cluster and one.at > begin and one.at - one.seconds < end]
    busy = [part for part in _parts(inside) if _is_busy(part)]
    if not busy:
        return ""
    worst = max(busy, key=_others)
    waiting = _mean(worst, [one.waiting or 0.0 for one in worst])
    waited = f", and processes waited for one {limit_percent(round(waiting, 2))} of the time" if waiting else ""
    return (
        f"other processes used {_others(worst):.1f} of {number(worst[0].processors, 'processor')} of this machine{waited}"
    )


def _parts(seen: Sequence[MachineSeen]) -> list[Sequence[MachineSeen]]:
    """Each stretch of so many seconds; all of a shorter time."""
    parts = []
    first = 0
    for last in range(len(seen)):
        while first < last and seen[last].at - (seen[first + 1].at - seen[first + 1].seconds) >= _TOGETHER:
            first += 1
        part = seen[first : last + 1]
        if sum(one.seconds for one in part) >= _TOGETHER * 0.9:
            parts.append(part)
    return parts or ([seen] if seen else [])


def _is_busy(part: Sequence[MachineSeen]) -> bool:
    if _others(part) < _OTHERS * part[0].processors:
        return False
    if any(one.waiting is not None for one in part):
        return _mean(part, [one.waiting or 0.0 for one in part]) >= _WAITING
    return _mean(part, [one.delayed or 0.0 for one in part]) >= _DELAYED


def _others(part: Sequence[MachineSeen]) -> float:
    return _mean(part, [one.others + one.stolen for one in part])


def _mean(part: Sequence[MachineSeen], values: Sequence[float]) -> float:
    return sum(value * one.seconds for one, value in zip(part, values, strict=True)) / sum(one.seconds for one in part)
