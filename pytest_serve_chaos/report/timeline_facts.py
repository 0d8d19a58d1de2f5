"""What the picture of an experiment shows, as sentences: for who reads a log, or cannot see the picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pytest_serve_chaos.analysis.words import away, duration, listing, number
from pytest_serve_chaos.events import SERVE
from pytest_serve_chaos.model import Outage
from pytest_serve_chaos.report.lanes import ProcessLane
from pytest_serve_chaos.report.timeline import Fault, StatusLane, Timeline

_MANY = 6
"""Processes that are named one by one."""

_SINCE = -5.0
"""What went or came earlier has nothing to do with the fault."""


def facts_of(timeline: Timeline) -> tuple[str, ...]:
    """One sentence for each thing that the picture shows, in order of time where there is one."""
    said = what_serve_said(timeline)
    return (
        *(map(_fault, timeline.faults) if timeline.faults else ("No fault was injected.",)),
        *_outages(timeline),
        *_processes(timeline.lanes),
        *_recovery(timeline),
        *(f"While {one.what}, Serve said: {one}." for one in said[:1]),
    )


def seconds(at: float) -> str:
    """A moment, in seconds from the fault: ``+2.7 s``, ``-0.3 s``."""
    return f"{at:+.1f} s" if abs(at) >= 0.05 else "0.0 s"


# -- what Serve said ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Said:
    """What Serve said of one thing in a time: its statuses in order; empty where it said nothing."""

    subject: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.subject} {', then '.join(self.words) or 'not named'}"


@dataclass(frozen=True, slots=True)
class SaidMeanwhile:
    """What Serve said while something was wrong.

    Attributes:
        what: What was wrong, as a clause.
        begin: From when on, in seconds from the fault.
        end: Until when; None: until the end.
        said: What Serve said of each thing.
    """

    what: str
    begin: float
    end: float | None
    said: tuple[Said, ...]

    def __str__(self) -> str:
        return listing((str(one) for one in self.said), most=8)


def what_serve_said(timeline: Timeline) -> tuple[SaidMeanwhile, ...]:
    """What Serve said during each outage, and after a proxy had become stale; nothing where the history has nothing."""
    if not timeline.statuses:
        return ()
    times = [*_wrong_by_requests(timeline), *_wrong_by_marks(timeline)]
    return tuple(
        SaidMeanwhile(what, begin, end, tuple(_said(timeline.statuses, begin, timeline.end if end is None else end)))
        for what, begin, end in times
    )


def what_serve_said_since_the_fault(timeline: Timeline) -> SaidMeanwhile:
    """What Serve said from the fault until the observation ended."""
    said = tuple(_said(timeline.statuses, 0.0, timeline.judged_until))
    return SaidMeanwhile("no outage and no stale proxy", 0.0, timeline.judged_until, said)


def _wrong_by_requests(timeline: Timeline) -> Iterator[tuple[str, float, float | None]]:
    for outage in timeline.outages:
        yield _wrong(outage), outage.start, outage.end


def _wrong(outage: Outage) -> str:
    """What went wrong, as a clause."""
    sent, late = number(outage.sent, "request"), outage.late
    if outage.lost:
        others = f" and {late} answered too late" if late else ""
        return f"{outage.lost} of {sent} {'was' if outage.lost == 1 else 'were'} lost{others}"
    return f"{late} of {sent} {'was' if late == 1 else 'were'} answered too late" if late else "nobody got an answer"


def _wrong_by_marks(timeline: Timeline) -> Iterator[tuple[str, float, float | None]]:
    stale = [(mark.at, lane) for lane in timeline.lanes for mark in lane.marks if mark.kind == "proxy_deaf"]
    if stale:
        names = listing(dict.fromkeys(lane.name for _, lane in stale))
        first = min(at for at, _ in stale)
        gone = [life.end for _, lane in stale for life in lane.lives if life.end is not None and life.end > first]
        yield f"{names} no longer received the controller's updates", first, min(gone, default=None)


def _said(lanes: Sequence[StatusLane], begin: float, end: float) -> Iterator[Said]:
    for lane in lanes:
        spans = [span for span in lane.spans if span.begin < end and (span.end is None or span.end > begin)]
        words = tuple(dict.fromkeys(span.text for span in spans))
        if lane.subject != SERVE or words != ("answers",):
            yield Said(lane.subject, words)


# -- the others --------------------------------------------------------------------------------------------------------


def _fault(fault: Fault) -> str:
    missing = "the history ends before it shows whether it landed" if fault.was_cut_off else "it did not land"
    landed = f"; {missing}" if fault.landed is None else f", landed at {seconds(fault.landed)}"
    healed = "" if fault.healed is None else f", undone at {seconds(fault.healed)}"
    return f"Fault at {seconds(fault.asked)}: {fault.text}{landed}{healed}."


def _outages(timeline: Timeline) -> Iterator[str]:
    for outage in timeline.outages:
        end = "to the end" if outage.end is None else f"to {seconds(outage.end)}"
        lasted = "" if outage.end is None else f" ({duration(outage.end - outage.start)})"
        yield f"Outage from {seconds(outage.start)} {end}{lasted}: {away(outage)}."
    if not timeline.outages and timeline.measured:
        yield "There was no outage."


def _processes(lanes: Sequence[ProcessLane]) -> Iterator[str]:
    """Who was replaced and when; the others only by their number."""
    changed = [lane for lane in lanes if _lives(lane)]
    for lane in changed[:_MANY]:
        yield f"{lane.name}: {_lives(lane)}."
    if len(changed) > _MANY:
        yield f"{listing(lane.name for lane in changed[_MANY:])} went or came, too."
    same = len(lanes) - len(changed)
    if changed and same:
        yield f"{number(same, 'other process or node', 'other processes and nodes')} stayed the same."


def _lives(lane: ProcessLane) -> str:
    told = []
    for life in lane.lives:
        who = "" if life.pid is None else f" PID {life.pid}"
        if not life.was_there and life.begin >= _SINCE:
            told.append(f"there{who} since {seconds(life.begin)}")
        if life.end is not None and life.end >= _SINCE:
            told.append(f"gone{who} at {seconds(life.end)}")
    return ", ".join(told)


def _recovery(timeline: Timeline) -> Iterator[str]:
    back = [
        f"{what} after {duration(at)}"
        for what, at in (
            ("traffic was back", timeline.traffic_back),
            ("redundancy was back", timeline.redundancy_back),
            ("the post-recovery check passed", timeline.settled),
        )
        if at
    ]
    if back:
        text = listing(back)
        yield f"{text[:1].upper()}{text[1:]}."
