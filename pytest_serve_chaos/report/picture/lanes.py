"""Nodes and processes in a picture, and what Serve said of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from pytest_serve_chaos.analysis.words import number
from pytest_serve_chaos.report.lanes import Life, ProcessLane
from pytest_serve_chaos.report.picture.canvas import Canvas, Scale, fitted, width_of
from pytest_serve_chaos.report.timeline import StatusLane, Timeline

_ROW = 15
_BAR = 11
_MOST_LANES = 24
_MOST_STATUSES = 10
_SIZE = 11
_FINE = frozenset({"RUNNING", "HEALTHY", "answers"})
"""What Serve says of what works."""

_PLURALS = {"proxy": "proxies", "head": "heads", "redis": "Redis", "gcs": "GCS", "child": "children"}


def draw_statuses(canvas: Canvas, timeline: Timeline, scale: Scale, top: float) -> float:
    """Draws what Serve said of each thing; returns where it ends."""
    if not timeline.statuses:
        return top
    canvas.text(12, top + 11, "what Serve said", "ink strong")
    top += _ROW
    for lane in timeline.statuses[:_MOST_STATUSES]:
        canvas.text(12, top + 10, fitted(lane.subject, scale.left - 20, _SIZE), "dim", title=lane.subject)
        for span in lane.spans:
            end = scale.end if span.end is None else span.end
            if end > scale.begin and span.begin < scale.end:
                _bar(canvas, scale, span.begin, end, top, "fine" if span.text in _FINE else "other", span.text)
        top += _ROW
    return _rest(canvas, timeline.statuses[_MOST_STATUSES:], top)


def draw_lanes(canvas: Canvas, timeline: Timeline, scale: Scale, top: float) -> float:
    """Draws a lane for each process that went, came or was struck, and one for all others of a role."""
    if not timeline.lanes:
        return top
    canvas.text(12, top + 11, "nodes and processes", "ink strong")
    top += _ROW
    changed = [lane for lane in timeline.lanes if _changed(lane) and _is_seen(lane, scale)]
    for lane in changed[:_MOST_LANES]:
        _lane(canvas, lane, scale, top)
        top += _ROW
    top = _rest(canvas, changed[_MOST_LANES:], top)
    same = sorted((lane for lane in timeline.lanes if not _changed(lane)), key=_order)
    for role, lanes in groupby(same, key=lambda lane: lane.role):
        names = [lane.name for lane in lanes]
        label = names[0] if len(names) == 1 else number(len(names), role, _PLURALS.get(role))
        canvas.text(12, top + 10, fitted(label, scale.left - 20, _SIZE), "dim", title=", ".join(names))
        _bar(canvas, scale, scale.begin, scale.end, top, "old", "unchanged")
        top += _ROW
    return top


def _order(lane: ProcessLane) -> str:
    return lane.role


def _changed(lane: ProcessLane) -> bool:
    if any(mark.kind == "proxy_deaf" for mark in lane.marks):
        return True
    return any(life.end is not None or not life.was_there or life.victim for life in lane.lives)


def _is_seen(lane: ProcessLane, scale: Scale) -> bool:
    return any(life.begin < scale.end and (life.end is None or life.end > scale.begin) for life in lane.lives)


def _label(lane: ProcessLane) -> str:
    """Its name, and of a replica without its app where there is no room for it."""
    return lane.name.partition("#")[2] if lane.role == "replica" and "#" in lane.name else lane.name


def _lane(canvas: Canvas, lane: ProcessLane, scale: Scale, top: float) -> None:
    canvas.text(12, top + 10, fitted(_label(lane), scale.left - 20, _SIZE), "ink", title=lane.name)
    for life in lane.lives:
        end = scale.end if life.end is None else life.end
        if end <= scale.begin or life.begin >= scale.end:
            continue
        style = "victim" if life.victim else "old" if life.was_there else "new"
        _bar(canvas, scale, life.begin, end, top, style, _who(life), title=f"{lane.name}: {life.identity}")
        if life.end is not None and scale.shows(life.end):
            x = scale.x(life.end)
            canvas.line(x, top, x, top + _BAR + 2, "fault-line")
    for mark in lane.marks:
        if scale.shows(mark.at):
            x = scale.x(mark.at)
            stale = mark.kind == "proxy_deaf"
            canvas.line(x, top if stale else top + _BAR - 2, x, top + _BAR + 2, "stale" if stale else "mark")


def _who(life: Life) -> str:
    return "" if life.pid is None else f"PID {life.pid}"


def _bar(
    canvas: Canvas, scale: Scale, begin: float, end: float, top: float, style: str, text: str, *, title: str = ""
) -> None:
    """A bar with a text in it, where the text has room."""
    x, width = scale.x(begin), scale.x(end) - scale.x(begin)
    canvas.rect(x, top + 1, width, _BAR, style, title=title or text)
    if width_of(text, _SIZE) + 8 <= width:
        canvas.text(x + 4, top + 10, text, "ink")


def _rest(canvas: Canvas, lanes: Sequence[ProcessLane | StatusLane], top: float) -> float:
    if not lanes:
        return top
    names = ", ".join(_names(lanes))
    canvas.text(12, top + 10, f"and {number(len(lanes), 'more lane')}", "dim", title=names)
    return top + _ROW


def _names(lanes: Iterable[ProcessLane | StatusLane]) -> Iterable[str]:
    return (lane.name if isinstance(lane, ProcessLane) else lane.subject for lane in lanes)
