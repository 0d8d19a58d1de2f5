"""Composes the picture of an experiment: a title, moments, requests, what Serve said, processes, and a time axis."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pytest_serve_chaos.analysis.words import duration
from pytest_serve_chaos.report.picture.canvas import Canvas, Scale, document, fitted, width_of
from pytest_serve_chaos.report.picture.lanes import draw_lanes, draw_statuses
from pytest_serve_chaos.report.picture.requests import draw_answered, draw_latencies, draw_losses
from pytest_serve_chaos.report.picture.style import style_sheet
from pytest_serve_chaos.report.timeline import Timeline
from pytest_serve_chaos.report.timeline_facts import facts_of, seconds

WIDTH = 900
_LEFT = 206
_RIGHT = WIDTH - 14
_BEFORE = 5.0
"""Seconds of the steady state that are shown."""

_GAP = 12.0
_LABEL_ROW = 15
_SIZE = 11
_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600)
_TICKS = 12
"""Labels on the time axis at most."""


def timeline_svg(timeline: Timeline, about: str = "") -> str:
    """The picture of an experiment, 900 pixels wide, light or dark as the reader prefers.

    Args:
        timeline: The experiment.
        about: What is under test, in a line.
    """
    scale = _scale(timeline)
    canvas, front = Canvas(), Canvas()
    top = _header(front, timeline, about)
    marks_end = _marks(front, timeline, scale, top)
    top = marks_end + _GAP / 2
    latencies_end = draw_latencies(front, timeline, scale, top)
    losses_end = draw_losses(front, timeline, scale, latencies_end + _GAP / 2)
    answered_end = draw_answered(front, timeline, scale, losses_end + _GAP / 2)
    statuses_end = draw_statuses(front, timeline, scale, answered_end + _GAP / 2)
    lanes_end = draw_lanes(front, timeline, scale, statuses_end + _GAP / 2)
    _bands(canvas, timeline, scale, top, answered_end, lanes_end)
    bottom = _axis(canvas, front, scale, top, lanes_end + 4)
    bottom = _legend(front, timeline, bottom + 20)
    canvas.elements += front.elements
    title = f"{timeline.experiment}: {timeline.outcome}"
    return document(
        canvas, WIDTH, bottom + 12, title=title, description=" ".join(facts_of(timeline)), style=style_sheet()
    )


def _scale(timeline: Timeline) -> Scale:
    begin = max(timeline.begin, -_BEFORE)
    moments = [mark.at for mark in _moments(timeline)] + [mark.at for lane in timeline.lanes for mark in lane.marks]
    outages = [outage.end or timeline.end for outage in timeline.outages]
    end = max([timeline.judged_until, *moments, *outages, begin + 1.0]) + 1.0
    return Scale(begin, min(end, max(timeline.end, begin + 1.0)), _LEFT, _RIGHT)


# -- the title and the moments -----------------------------------------------------------------------------------------


def _header(canvas: Canvas, timeline: Timeline, about: str) -> float:
    width = WIDTH - 24
    title = fitted(f"{timeline.experiment}: {timeline.outcome}", width, 15)
    canvas.text(12, 22, title, "ink big", title=timeline.experiment)
    lines = [timeline.fault or "nothing was broken", about]
    top = 26.0
    for line in filter(None, lines):
        top += 15
        canvas.text(12, top, fitted(line, width, 12), "dim head", title=line)
    return top + 8


@dataclass(frozen=True, slots=True)
class _Mark:
    """A moment with a label above the plots."""

    at: float
    text: str
    bad: bool = False


def _moments(timeline: Timeline) -> Iterator[_Mark]:
    for fault in timeline.faults:
        yield _Mark(fault.asked, "fault" if len(timeline.faults) == 1 else f"fault: {fault.name}", bad=True)
        if fault.landed is not None and fault.landed - fault.asked >= 0.05:
            yield _Mark(fault.landed, "landed", bad=True)
        if fault.healed is not None and fault.healed <= timeline.judged_until:
            yield _Mark(fault.healed, "undone")
    for at, text in (
        (timeline.traffic_back, "traffic back"),
        (timeline.redundancy_back, "redundancy back"),
        (timeline.settled, "post-recovery check passed"),
    ):
        if at:
            yield _Mark(at, text)
    stale = [mark.at for lane in timeline.lanes for mark in lane.marks if mark.kind == "proxy_deaf"]
    if stale:
        yield _Mark(min(stale), "stale proxies found", bad=True)


@dataclass(frozen=True, slots=True)
class _Label:
    """A mark with the place of its text."""

    mark: _Mark
    text: str
    left: float
    right: float
    row: int


def _marks(canvas: Canvas, timeline: Timeline, scale: Scale, top: float) -> float:
    """Draws the labels, each with a line from it down to the plots; returns where they end."""
    labels = _placed([mark for mark in _moments(timeline) if scale.shows(mark.at)], scale)
    bottom = top + _LABEL_ROW * (max((label.row for label in labels), default=-1) + 1)
    for label in labels:
        y, x = bottom - label.row * _LABEL_ROW, scale.x(label.mark.at)
        canvas.line(x, y - 11, x, bottom + _GAP / 2, "fault-line" if label.mark.bad else "mark")
        canvas.text(label.left, y - 2, label.text, "bad" if label.mark.bad else "dim")
    return bottom


def _placed(marks: Sequence[_Mark], scale: Scale) -> list[_Label]:
    """In as many rows as it takes, the lowest first, so that no label is over another.

    They are placed from right to left: what is above a label begins to its left, and so does the line of that.
    """
    labels: list[_Label] = []
    texts = [(mark, f"{mark.text} {seconds(mark.at)}" if mark.at else mark.text) for mark in marks]
    begins = [(min(scale.x(mark.at) + 3, _RIGHT - width_of(text, _SIZE)), mark, text) for mark, text in texts]
    for left, mark, text in sorted(begins, key=lambda begin: -begin[0]):
        wide = width_of(text, _SIZE)
        taken = {label.row for label in labels if label.left < left + wide + 8 and left < label.right + 8}
        row = next(number for number in range(len(labels) + 1) if number not in taken)
        labels.append(_Label(mark, text, left, left + wide, row))
    return labels


# -- behind the plots --------------------------------------------------------------------------------------------------


def _bands(canvas: Canvas, timeline: Timeline, scale: Scale, top: float, requests_end: float, end: float) -> None:
    if timeline.judged_until < scale.end:
        x = scale.x(timeline.judged_until)
        canvas.rect(x, top, scale.right - x, end - top, "after", title="not judged: the post-recovery check")
    for fault in timeline.faults:
        until = fault.healed if fault.healed is not None and fault.healed <= timeline.judged_until else fault.landed
        x = scale.x(fault.asked)
        width = max(2.0, scale.x(fault.asked if until is None else until) - x)
        canvas.rect(x, top, width, end - top, "fault", title=fault.text)
        canvas.line(x, top, x, end, "fault-line")
    for outage in timeline.outages:
        x, right = scale.x(outage.start), scale.x(timeline.end if outage.end is None else outage.end)
        lasted = "" if outage.end is None else f" of {duration(outage.end - outage.start)}"
        canvas.rect(x, top, right - x, requests_end - top, "outage", title=f"outage{lasted}")


def _axis(canvas: Canvas, front: Canvas, scale: Scale, top: float, y: float) -> float:
    span = scale.end - scale.begin
    step = next((one for one in _STEPS if span / one <= _TICKS), span / _TICKS)
    for number in range(math.ceil(scale.begin / step), math.floor(scale.end / step) + 1):
        at = number * step
        x = scale.x(at)
        canvas.line(x, top, x, y, "grid")
        text = f"{at:g} s" if number else "0"
        front.text(min(x + 2, _RIGHT - width_of(text, _SIZE)), y + 12, text, "dim")
    front.line(scale.left, y, scale.right, y, "rule")
    front.text(12, y + 12, "seconds from the fault", "dim")
    return y + 14


def _legend(canvas: Canvas, timeline: Timeline, y: float) -> float:
    entries = [("good", "good answer"), ("late", "late"), ("lost", "lost"), ("outage", "outage"), ("fault", "fault")]
    entries += [("victim", "victim"), ("old", "as before"), ("new", "new process")]
    if timeline.statuses:
        entries += [("fine", "Serve: RUNNING, HEALTHY"), ("other", "Serve: otherwise")]
    if timeline.judged_until < timeline.end:
        entries.append(("after", "no longer judged"))
    return _entries(canvas, entries, y)


def _entries(canvas: Canvas, entries: Sequence[tuple[str, str]], y: float) -> float:
    x = 12.0
    for style, text in entries:
        wide = 16 + width_of(text, _SIZE) + 14
        if x + wide > _RIGHT:
            x, y = 12.0, y + 17
        canvas.rect(x, y - 9, 11, 11, f"{style} edge")
        canvas.text(x + 15, y, text, "dim")
        x += wide
    return y
