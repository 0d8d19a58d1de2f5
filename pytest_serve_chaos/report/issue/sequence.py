"""What happened, a line each, in seconds from the fault."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from pytest_serve_chaos.analysis.words import away, duration, listing
from pytest_serve_chaos.report.issue.subject import Subject
from pytest_serve_chaos.report.markdown_text import fenced
from pytest_serve_chaos.report.timeline import Timeline

_KINDS = {
    "asked": "fault",
    "hit": "victim ended",
    "evidence": "evidence",
    "healed": "undone",
    "gone": "gone",
    "came": "came",
    "rescaled": "rescaled",
    "redundancy_back": "redundancy",
    "redundancy_missing": "redundancy",
    "proxy_deaf": "stale proxy",
    "settled": "post-recovery",
    "unsettled": "post-recovery",
    "untold": "post-recovery",
    "problem": "problem",
    "doubt": "doubt",
    "broken_off": "broken off",
}
"""The kinds of events that are shown -> what they are called here."""

_TOGETHER = 0.5
"""Seconds within which components that went, or came, stand in one line."""

_WIDTH = 160

_SAID = re.compile(r" (?:is gone|is there|does not hear the controller)(?= |,|$)|^healed: ")
"""What the kind of a line says already."""


@dataclass(frozen=True, slots=True)
class _Entry:
    at: float
    kind: str
    text: str


def sequence(subject: Subject, most: int) -> list[str]:
    """A block of at most so many lines, in order of time; what is in the middle is left out first."""
    entries = sorted(_entries(subject.timeline), key=lambda entry: entry.at)
    lines = [_line(entry) for entry in _joined(entries)]
    if len(lines) > most:
        head = 2 * most // 3
        lines[head : len(lines) - (most - head)] = [f"{'':13}({len(lines) - most} more)"]
    return fenced(lines) if lines else []


def _line(entry: _Entry) -> str:
    text = _SAID.sub("", entry.text)
    text = text if len(text) <= _WIDTH else f"{text[:_WIDTH]}..."
    return f"{entry.at:+9.2f} s  {entry.kind:<13}  {text}"


def _entries(timeline: Timeline) -> Iterator[_Entry]:
    for event in timeline.events:
        if event.kind in _KINDS:
            yield _Entry(event.at, _KINDS[event.kind], event.text)
    for outage in timeline.outages:
        yield _Entry(outage.start, "outage", f"begins: {away(outage)}")
        if outage.end is not None:
            yield _Entry(outage.end, "outage", f"ends after {duration(outage.end - outage.start)}")
    for lane in timeline.statuses:
        for number, span in enumerate(lane.spans):
            if number or span.begin > timeline.begin + 1.0:
                yield _Entry(span.begin, "Serve says", f"{lane.subject}: {span.text}")
    if timeline.traffic_back:
        yield _Entry(timeline.traffic_back, "traffic", "is back")
    if timeline.judged_until < timeline.end:
        yield _Entry(
            timeline.judged_until, "judged", "until here; what follows is the post-recovery check and the healing"
        )


def _joined(entries: list[_Entry]) -> Iterator[_Entry]:
    """The entries, of which those that went or came, or that Serve said, at about the same time are one."""
    group: list[_Entry] = []
    for entry in entries:
        if group and (entry.kind != group[0].kind or entry.at - group[0].at > _TOGETHER):
            yield _one(group)
            group = []
        if entry.kind in ("gone", "came", "Serve says", "stale proxy"):
            group.append(entry)
        else:
            yield entry
    if group:
        yield _one(group)


def _one(group: list[_Entry]) -> _Entry:
    first = group[0]
    if len(group) == 1:
        return first
    return _Entry(first.at, first.kind, listing((entry.text for entry in group), most=4))
