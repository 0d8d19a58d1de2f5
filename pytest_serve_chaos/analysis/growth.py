"""Whether what a process uses grows without end after a fault, by samples of it.

Healthy processes grow too: they warm up, collect garbage late, and fill caches in steps. So a slope alone does not show
a leak. It counts as one only if all of these hold:

- its interval lies above zero, and what it adds over the time is worth talking about;
- the lowest values of eight parts of that time rise from each to the next, and each rise is at least 60 % of their
  mean, so that neither a sawtooth nor a few steps count;
- the second half rises by at least 60 % of what the first does, so that what levels off does not count;
- the same did not grow as fast before the fault.

What jumps to a level and stays there has no slope. Of processor time and queues that is as bad: a process that spins
since the fault, or a replica that no longer keeps up. It counts if in each of the eight parts the median is at least
twice as high as before the fault, and by a least number.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median
from typing import TypeAlias

from pytest_serve_chaos.analysis.queues import queue_lengths
from pytest_serve_chaos.analysis.theil_sen import Slope, theil_sen
from pytest_serve_chaos.analysis.words import listing, number
from pytest_serve_chaos.events import UsageSeen
from pytest_serve_chaos.model import Component, Identity, Request

LEAST_LOOKS = 60
"""Looks at each process that are asked for where leaks are judged. While processes warm up, which takes half a minute,
they grow as evenly as a leak does: without this bound half of the healthy runs of `tools/leak_alarms.py` do in 20 s."""

LEAST_SAMPLES = 45
"""Samples of a process without which nobody knows whether it grows: on a busy machine some looks are late."""

_LEAST_OF_LEVEL = 16
"""Samples without which nobody knows whether a level stays: two in each part."""

QUEUE = "queue"

LEAST_GROWTH: Mapping[str, float] = {
    "memory": 4 * 2**20,
    "processor": 0.1,
    "descriptors": 8.0,
    "threads": 4.0,
    "connections": 8.0,
    QUEUE: 5.0,
}
"""By how much a figure must have grown over the time: bytes, processors, numbers."""

LEAST_RISE: Mapping[str, float] = {"processor": 0.25, QUEUE: 5.0}
"""The figures whose level is judged too, and by how much it must be above the one before the fault."""

_SEEN = ("memory", "processor", "descriptors", "threads", "connections")
"""The figures that are read from processes. Queues are known by requests."""

_LEAST_BEFORE = 5
"""Samples before the fault without which nobody knows the usual level."""

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
        level: Its median.
        usual: The same before the fault, the highest of those in its place; None: unknown, or not judged.
        stays_above: Whether it is far above that all the time.
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
    level: float = 0.0
    usual: float | None = None
    stays_above: bool = False

    @property
    def is_leak(self) -> bool:
        """Whether it is one since the fault."""
        return (self.grows and not self.grew_before) or self.stays_above

    @property
    def text(self) -> str:
        """``12 MiB of memory a minute (11.8 to 12.3)``."""
        amounts = (_amount(self.figure, value) for value in (self.low, self.high))
        interval = " to ".join("unknown" if amount is None else amount for amount in amounts)
        return f"{_amount(self.figure, self.slope)} {_UNITS.get(self.figure, self.figure)} a minute ({interval})"

    @property
    def level_text(self) -> str:
        """``has 0.98 processors all the time, 0.05 before the fault``."""
        level, usual = (_amount(self.figure, value) for value in (self.level, self.usual))
        return f"has {level} {_UNITS.get(self.figure, self.figure)} all the time, {usual} before the fault"


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
        return _by_process(trend for trend in self.trends if trend.is_leak)

    @property
    def old_leaks(self) -> tuple[str, ...]:
        """Those that grow as they did before the fault."""
        return _by_process(trend for trend in self.trends if trend.grew_before and not trend.stays_above)

    @property
    def shows_growth(self) -> bool:
        """Whether there were enough looks to tell a leak from a warm-up."""
        return self.samples >= LEAST_SAMPLES

    @property
    def text(self) -> str:
        """That they were watched, and for how long."""
        return f"{number(self.processes, 'process', 'processes')} watched for {self.seconds:.0f} s"


def watched_usage(
    seen: Iterable[UsageSeen],
    *,
    asked: float,
    begun: float,
    requests: tuple[Iterable[Request], Iterable[Request]] = ((), ()),
    replicas: Mapping[str, Component] | None = None,
) -> WatchedUsage:
    """What the processes used after recovery, against what they used before the fault.

    Args:
        seen: The samples, in order of time.
        asked: The moment of the fault, in monotonic seconds as all times.
        begun: Since when processes were watched after recovery.
        requests: Those that were sent before the fault, and those since then.
        replicas: Serve's id -> the replica, of those that are watched.
    """
    samples = tuple(seen)
    after = [one for one in samples if one.at >= begun]
    if len(after) < 2:
        return WatchedUsage(0.0, len(after), 0)
    seconds = after[-1].at - after[0].at
    earlier, later = ([one for one in samples if one.at < asked], requests[0]), (after, requests[1])
    before, since = ({**_series(of), **_queues(sent, of, replicas or {})} for of, sent in (earlier, later))
    whole = {key: found for key, found in since.items() if _covers(found, seconds)}
    trends = (_trend(key, found, before) for key, found in whole.items())
    processes = len({key.identity for key in whole if key.figure != QUEUE})
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
            for figure in _SEEN:
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


def _queues(
    requests: Iterable[Request], samples: Sequence[UsageSeen], replicas: Mapping[str, Component]
) -> dict[_Key, list[tuple[float, float]]]:
    """The queue of each replica at the moments of the samples."""
    return {
        _Key(of.identity, QUEUE, of.name, of.pid or 0): [(at, float(length)) for at, length in lengths]
        for replica, lengths in queue_lengths(requests, [one.at for one in samples]).items()
        if (of := replicas.get(replica)) is not None
    }


def _covers(found: Samples, seconds: float) -> bool:
    return len(found) >= _LEAST_OF_LEVEL - 1 and found[-1][0] - found[0][0] >= _COVERED * seconds


def _trend(key: _Key, found: Samples, before: Mapping[_Key, Samples]) -> Trend | None:
    """The trend of a series; None where nothing changed."""
    alike = _alike(key, before)
    level, usual = median(value for _, value in found), _usual(key.figure, alike)
    above = usual is not None and stays_above(found, usual, LEAST_RISE[key.figure])
    if len({value for _, value in found}) == 1 and not above:
        return None
    slope, earlier = _slope(found), [_slope(one) for one in alike if len(one) > 2]
    grows = _rises_to_the_end(found) and _matters(slope, found, LEAST_GROWTH[key.figure])
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
        level=level,
        usual=usual,
        stays_above=above,
    )


def _alike(key: _Key, before: Mapping[_Key, Samples]) -> list[Samples]:
    """The same before the fault: of that process, or where it was not there, of those of its kind."""
    if key in before:
        return [before[key]]
    kind = key.place.partition(" on ")[0]
    return [s for k, s in before.items() if k.figure == key.figure and k.place.partition(" on ")[0] == kind]


def _usual(figure: str, alike: Iterable[Samples]) -> float | None:
    """The highest level before the fault; None where it is not judged."""
    levels = [usual_level(found) for found in alike if len(found) >= _LEAST_BEFORE]
    return max(levels) if levels and figure in LEAST_RISE else None


def usual_level(found: Samples) -> float:
    """The level of a series; of what is used in bursts, the mean."""
    values = [value for _, value in found]
    return max(median(values), fmean(values))


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


def stays_above(found: Samples, usual: float, least: float) -> bool:
    """Whether a series is far above a level in each part of its time.

    Args:
        found: In order of time.
        usual: The level.
        least: By how much it must be above that, and twice as high.
    """
    parts = _parts(found) if len(found) >= _LEAST_OF_LEVEL - 1 else []
    return len(parts) == _PARTS and min(map(median, parts)) >= max(usual + least, 2 * usual)


def _rises_to_the_end(found: Samples) -> bool:
    if len(found) < LEAST_SAMPLES - 1:
        return False
    lows = [min(values) for values in _parts(found)]
    rises = [later - earlier for earlier, later in itertools.pairwise(lows)]
    if len(lows) < _PARTS or sum(rises) <= 0 or min(rises) < _EVEN * sum(rises) / len(rises):
        return False
    middle = _PARTS // 2
    return lows[-1] - lows[middle] >= _EVEN * (lows[middle - 1] - lows[0])


def _matters(slope: Slope, found: Samples, least: float) -> bool:
    return slope.low > 0 and slope.value * (found[-1][0] - found[0][0]) >= least


def _parts(found: Samples) -> list[list[float]]:
    """The values in each part of the time; a part without any is left out."""
    begin, end = found[0][0], found[-1][0]
    parts: dict[int, list[float]] = {}
    for at, value in found:
        parts.setdefault(min(_PARTS - 1, int((at - begin) / (end - begin) * _PARTS)), []).append(value)
    return [parts[part] for part in sorted(parts)]


def _by_process(trends: Iterable[Trend]) -> tuple[str, ...]:
    """What each process does, in words."""
    found: dict[str, list[Trend]] = {}
    for trend in trends:
        found.setdefault(trend.process, []).append(trend)
    return tuple(f"{process} {', and '.join(_of_process(of_it))}" for process, of_it in found.items())


def _of_process(trends: Sequence[Trend]) -> list[str]:
    growing = [trend.text for trend in trends if trend.grows]
    levels = [trend.level_text for trend in trends if trend.stays_above and not trend.grows]
    return [*([f"grows by {listing(growing)}"] if growing else []), *levels]


_UNITS = {"memory": "MiB of memory", "processor": "processors", QUEUE: "requests in its queue"}


def _finite(slope: float) -> float | None:
    return slope * 60 if math.isfinite(slope) else None


def _amount(figure: str, value: float | None) -> str | None:
    if value is None:
        return None
    amount = value / 2**20 if figure == "memory" else value
    return f"{amount:.0f}" if abs(amount) >= 100 else f"{amount:.3g}"
