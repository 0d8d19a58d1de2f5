"""Whether what a process uses grows without end after a fault, by samples of it.

Healthy processes grow too: they warm up, collect garbage late, and fill caches in steps. So a slope alone does not show
a leak. It counts as one only if all of these hold:

- its interval lies above zero, and what it adds over the time is worth talking about;
- the lowest values of eight parts of that time rise from each to the next, and each rise is at least 60 % of their
  mean, so that neither a sawtooth nor a few steps count;
- the second half rises by at least 60 % of what the first does, so that what levels off does not count;
- the same did not grow as fast before the fault.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from pytest_serve_chaos.analysis.theil_sen import Slope, theil_sen
from pytest_serve_chaos.analysis.words import listing, number
from pytest_serve_chaos.events import UsageSeen
from pytest_serve_chaos.model import Identity

LEAST_SAMPLES = 20
"""Samples of a process without which its slope says nothing."""

LEAST_GROWTH: Mapping[str, float] = {
    "memory": 4 * 2**20,
    "processor": 0.1,
    "descriptors": 8.0,
    "threads": 4.0,
    "connections": 8.0,
}
"""By how much a figure must have grown over the time: bytes, processors, numbers."""

_CONFIDENCE = 0.999
"""Of the intervals: a run has some fifty series, and any of them could be a false alarm."""

_PARTS = 8
_EVEN = 0.6
"""Parts of the time, and the least share that each rise must have of their mean, and that of the second half of the
first. `tools/leak_alarms.py` says what other values would cost."""

_MOST_SAMPLES = 120
"""Samples of one series that are looked at: the slope takes the square of their number."""

_COVERED = 0.8
"""The share of the time that the samples of a process must cover."""

Samples: TypeAlias = Sequence[tuple[float, float]]
"""Seconds and values."""


@dataclass(frozen=True, slots=True)
class Trend:
    """How one figure of a process went after recovery. Slopes in units per minute: bytes, processors, numbers.

    Attributes:
        process: Which, for people.
        figure: One of `LEAST_GROWTH`.
        last: Its last value.
        slope: Theil and Sen's.
        low, high: The 99.9 % interval; None: it has no bound on that side.
        before: The slope before the fault of the same process, or of those in its place; None: unknown.
        grows: Whether it grows without end.
        grew_before: Whether it grew as fast before the fault, so that it is not the fault's doing.
    """

    process: str
    figure: str
    last: float
    slope: float
    low: float | None
    high: float | None
    before: float | None
    grows: bool = False
    grew_before: bool = False

    @property
    def text(self) -> str:
        """``12 MiB of memory a minute (11.8 to 12.3)``."""
        amounts = (_amount(self.figure, value) for value in (self.low, self.high))
        interval = " to ".join("unknown" if amount is None else amount for amount in amounts)
        unit = {"memory": "MiB of memory", "processor": "processors"}.get(self.figure, self.figure)
        return f"{_amount(self.figure, self.slope)} {unit} a minute ({interval})"


@dataclass(frozen=True, slots=True)
class WatchedUsage:
    """What was seen of processes while they were watched after recovery.

    Attributes:
        seconds: For how long.
        samples: How often.
        processes: How many processes were there all the time.
        trends: The figures that changed.
    """

    seconds: float
    samples: int
    processes: int
    trends: tuple[Trend, ...] = field(default=())

    @property
    def leaks(self) -> tuple[str, ...]:
        """The processes that leak since the fault, each with what grows, in words."""
        return _by_process(trend for trend in self.trends if trend.grows and not trend.grew_before)

    @property
    def old_leaks(self) -> tuple[str, ...]:
        """Those that grow as they did before the fault."""
        return _by_process(trend for trend in self.trends if trend.grew_before)

    @property
    def text(self) -> str:
        """That they were watched, and that nothing leaked."""
        return f"{number(self.processes, 'process', 'processes')} watched for {self.seconds:.0f} s"


def watched_usage(seen: Iterable[UsageSeen], *, asked: float, begun: float) -> WatchedUsage:
    """What the processes used after recovery, against what they used before the fault.

    Args:
        seen: The samples, in order of time.
        asked: The moment of the fault, in monotonic seconds as all times.
        begun: Since when processes were watched after recovery.
    """
    samples = tuple(seen)
    after = [one for one in samples if one.at >= begun]
    if len(after) < 2:
        return WatchedUsage(0.0, len(after), 0)
    seconds = after[-1].at - after[0].at
    before = _series([one for one in samples if one.at < asked])
    whole = {key: found for key, found in _series(after).items() if _covers(found, seconds)}
    trends = (_trend(key, found, before) for key, found in whole.items())
    processes = len({key.identity for key in whole})
    return WatchedUsage(seconds, len(after), processes, tuple(one for one in trends if one is not None))


@dataclass(frozen=True, slots=True)
class _Key:
    """A figure of a process; two are the same if process and figure are."""

    identity: Identity
    figure: str
    place: str = field(compare=False)
    pid: int = field(compare=False)


def _series(samples: Sequence[UsageSeen]) -> dict[_Key, list[tuple[float, float]]]:
    """The values of each figure of each process; of processor time, how much of it in each second."""
    found: dict[_Key, list[tuple[float, float]]] = {}
    used: dict[Identity, tuple[float, float]] = {}
    for sample in samples:
        for index, (identity, place, pid) in enumerate(zip(sample.processes, sample.places, sample.pids, strict=False)):
            for figure in LEAST_GROWTH:
                column: Sequence[float] = getattr(sample, figure)
                if index >= len(column):
                    continue
                value = float(column[index])
                if figure == "processor":
                    earlier, used[identity] = used.get(identity), (sample.at, value)
                    if earlier is None or sample.at <= earlier[0]:
                        continue
                    value = (value - earlier[1]) / (sample.at - earlier[0])
                found.setdefault(_Key(identity, figure, place, pid), []).append((sample.at, value))
    return found


def _covers(found: Samples, seconds: float) -> bool:
    return len(found) >= LEAST_SAMPLES - 1 and found[-1][0] - found[0][0] >= _COVERED * seconds


def _trend(key: _Key, found: Samples, before: Mapping[_Key, Samples]) -> Trend | None:
    """The trend of a series; None where nothing changed."""
    if len({value for _, value in found}) == 1:
        return None
    slope = _slope(found)
    grows = _rises_to_the_end(found) and _matters(slope, found, LEAST_GROWTH[key.figure])
    earlier = _earlier(key, before)
    steepest = max(earlier, key=lambda one: one.value, default=None)
    return Trend(
        process=f"{key.place} (PID {key.pid})",
        figure=key.figure,
        last=found[-1][1],
        slope=slope.value * 60,
        low=_finite(slope.low),
        high=_finite(slope.high),
        before=None if steepest is None else steepest.value * 60,
        grows=grows,
        grew_before=grows and any(one.low > 0 and one.high >= slope.low for one in earlier),
    )


def _earlier(key: _Key, before: Mapping[_Key, Samples]) -> list[Slope]:
    """The slopes before the fault: of that process, or where it was not there, of those of its kind."""
    if key in before:
        alike = [before[key]]
    else:
        kind = key.place.partition(" on ")[0]
        alike = [s for k, s in before.items() if k.figure == key.figure and k.place.partition(" on ")[0] == kind]
    return [_slope(found) for found in alike if len(found) > 2]


def _slope(found: Samples) -> Slope:
    step = math.ceil(len(found) / _MOST_SAMPLES)
    thinned = found[::step]
    return theil_sen([at for at, _ in thinned], [value for _, value in thinned], _CONFIDENCE)


def grows_without_end(found: Samples, least: float) -> bool:
    """Whether a series grows, by at least so much over its time, and will go on to; see the module.

    Args:
        found: In order of time.
        least: In units of the values.
    """
    return _rises_to_the_end(found) and _matters(_slope(found), found, least)


def _rises_to_the_end(found: Samples) -> bool:
    if len(found) < LEAST_SAMPLES - 1:
        return False
    lows = _lowest_of_parts(found)
    rises = [later - earlier for earlier, later in itertools.pairwise(lows)]
    if len(lows) < _PARTS or sum(rises) <= 0 or min(rises) < _EVEN * sum(rises) / len(rises):
        return False
    middle = _PARTS // 2
    return lows[-1] - lows[middle] >= _EVEN * (lows[middle - 1] - lows[0])


def _matters(slope: Slope, found: Samples, least: float) -> bool:
    return slope.low > 0 and slope.value * (found[-1][0] - found[0][0]) >= least


def _lowest_of_parts(found: Samples) -> list[float]:
    begin, end = found[0][0], found[-1][0]
    lows: dict[int, float] = {}
    for at, value in found:
        part = min(_PARTS - 1, int((at - begin) / (end - begin) * _PARTS))
        lows[part] = min(value, lows.get(part, math.inf))
    return [lows[part] for part in sorted(lows)]


def _by_process(trends: Iterable[Trend]) -> tuple[str, ...]:
    found: dict[str, list[str]] = {}
    for trend in trends:
        found.setdefault(trend.process, []).append(trend.text)
    return tuple(f"{process} grows by {listing(texts)}" for process, texts in found.items())


def _finite(slope: float) -> float | None:
    return slope * 60 if math.isfinite(slope) else None


def _amount(figure: str, value: float | None) -> str | None:
    if value is None:
        return None
    amount = value / 2**20 if figure == "memory" else value
    return f"{amount:.0f}" if abs(amount) >= 100 else f"{amount:.3g}"
