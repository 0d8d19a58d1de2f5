"""What the processors of the machine did, and whether others' work held the cluster up."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pytest_serve_chaos.analysis.words import limit_percent, number
from pytest_serve_chaos.events import MachineSeen
from pytest_serve_chaos.model import Outage

_TOGETHER = 3.0
"""Seconds of load that are looked at together: in a single second others may work without harm."""

_OTHERS = 0.2
"""The share of all processors that others must have used, at least, to be the reason that something took long."""

_WAITING = 0.3
"""The share of the time in which some process must have waited for a processor, at least."""

_DELAYED = 0.3
"""Seconds per second that threads of the run must have waited for a processor, where the kernel does not say that."""

_TOO_SMALL = 0.75
"""The share of the time in which some process waits for a processor, at least, on a machine that is too small."""

_OURS = 0.5
"""The share of all processors that the run uses there, at least: processes of which each may use only a part of one
wait on a machine with room, too (Linux: cpu.max)."""

_SHOWN = 0.05
"""Processors that a hypervisor must have given away, at least, to be worth a word."""


@dataclass(frozen=True, slots=True)
class MachineUse:
    """What the processors of this machine did over a time: means, in processors.

    Attributes:
        processors: How many there are.
        ours: Those that the run used, with all of a cluster that is on this machine.
        others: Those that all other processes used.
        stolen: Those that the hypervisor gave to other machines.
        waiting: The share of the time, 0 to 1, in which some process waited for a processor; None: unknown.
        delayed: Seconds per second, added up, in which threads of the run waited for one; None: unknown.
    """

    processors: int
    ours: float
    others: float
    stolen: float
    waiting: float | None
    delayed: float | None


def use_of(seen: Sequence[MachineSeen]) -> MachineUse | None:
    """What the processors did over all that time; None where nothing was seen."""
    if not seen:
        return None

    def mean(values: Sequence[float | None]) -> float | None:
        known = [0.0 if value is None else value for value in values]
        return None if all(value is None for value in values) else round(_mean(seen, known), 3)

    return MachineUse(
        processors=seen[0].processors,
        ours=round(_mean(seen, [one.ours for one in seen]), 3),
        others=round(_mean(seen, [one.others for one in seen]), 3),
        stolen=round(_mean(seen, [one.stolen for one in seen]), 3),
        waiting=mean([one.waiting for one in seen]),
        delayed=mean([one.delayed for one in seen]),
    )


def held_up(seen: Iterable[MachineSeen], begin: float, end: float) -> str:
    """How others' work on this machine held the cluster up in that time, as a clause; "" if it did not.

    Only where the cluster is on this machine, so that what it uses itself is known: an app, or a Ray that starts, may
    use all processors, and that is not others' doing. Steal time is others' doing.

    Args:
        seen: What the processors did.
        begin: Monotonic seconds.
        end: Monotonic seconds.
    """
    busy = _busy(seen, begin, end)
    if not busy:
        return ""
    worst = max(busy, key=_others)
    waiting = _mean(worst, [one.waiting or 0.0 for one in worst])
    waited = f", and processes waited for one {limit_percent(round(waiting, 2))} of the time" if waiting else ""
    processors = number(worst[0].processors, "processor")
    return f"other processes used {_others(worst):.1f} of {processors} of this machine{waited}"


def too_small(seen: Iterable[MachineSeen], begin: float, end: float) -> str:
    """How long this run itself waited for processors in that time, as a clause; "" where it did not, or others did.

    Args:
        seen: What the processors did.
        begin: Monotonic seconds.
        end: Monotonic seconds.
    """
    inside = [one for one in seen if one.has_cluster and one.at > begin and one.at - one.seconds < end]
    use = use_of(inside)
    if use is None or use.waiting is None or sum(one.seconds for one in inside) < _TOGETHER:
        return ""
    waits = use.waiting >= _TOO_SMALL and use.ours >= _OURS * use.processors
    if not waits or held_up(inside, begin, end):
        return ""
    processors = number(use.processors, "processor")
    waited = limit_percent(round(use.waiting, 2))
    return f"this run used {use.ours:.1f} of {processors}, and processes waited for one {waited} of the time"


def at_work(seen: Iterable[MachineSeen], begin: float, end: float) -> str:
    """Who used the processors in that time, as a clause; "" where nothing was seen of it.

    Args:
        seen: What the processors did.
        begin: Monotonic seconds.
        end: Monotonic seconds.
    """
    use = use_of([one for one in seen if one.at > begin and one.at - one.seconds < end])
    if use is None:
        return ""
    stolen = f", and its hypervisor gave {use.stolen:.1f} to other machines" if use.stolen >= _SHOWN else ""
    processors = number(use.processors, "processor")
    ours = f"this run used {use.ours:.1f} of {processors} of this machine then"
    return f"{ours}, other processes {use.others:.1f}{stolen}"


def held_up_since(seen: Iterable[MachineSeen], begin: float) -> float:
    """When others' work began to hold the cluster up, in monotonic seconds; infinity if it never did.

    Args:
        seen: What the processors did.
        begin: Monotonic seconds; what was before does not count.
    """
    busy = _busy(seen, begin, math.inf)
    return min((max(begin, part[0].at - part[0].seconds) for part in busy), default=math.inf)


@dataclass(frozen=True, slots=True)
class Interference:
    """How others' work on the machine held the cluster up in an experiment.

    Attributes:
        seen: What the processors did.
        begin: When its steady state began; monotonic seconds, as all times.
        asked: The moment of the fault; None: there was none.
        end: When the observation ended.
    """

    seen: tuple[MachineSeen, ...]
    begin: float
    asked: float | None
    end: float

    @property
    def before(self) -> str:
        """How it did before the fault, as a clause; "" if it did not."""
        return held_up(self.seen, self.begin, self.end if self.asked is None else self.asked)

    @property
    def too_small(self) -> str:
        """How the machine was too small for the cluster before the fault already, as a clause; "" if it was not."""
        return too_small(self.seen, self.begin, self.end if self.asked is None else self.asked)

    def in_outage(self, outage: Outage) -> str:
        """How the machine was too small for the cluster in an outage, as a clause; "" if it was not."""
        return too_small(self.seen, outage.start, self.end if outage.end is None else outage.end)

    @property
    def since_fault(self) -> str:
        """How it did since the fault, as a clause; "" if it did not."""
        return "" if self.asked is None else held_up(self.seen, self.asked, math.inf)

    @property
    def began(self) -> float:
        """The monotonic second at which it began to after the fault; else infinity."""
        return math.inf if self.asked is None else held_up_since(self.seen, self.asked)


def _busy(seen: Iterable[MachineSeen], begin: float, end: float) -> list[Sequence[MachineSeen]]:
    inside = [one for one in seen if one.has_cluster and one.at > begin and one.at - one.seconds < end]
    return [part for part in _parts(inside) if _is_busy(part)]


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
