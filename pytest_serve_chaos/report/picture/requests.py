"""The requests of an experiment in a picture: latencies, losses by outcome, and the share that was answered well."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from pytest_serve_chaos.report.picture.canvas import Canvas, Scale, fitted
from pytest_serve_chaos.report.timeline import Timeline

CELL = 3
"""Pixels of a square of the latency scatter, and of a column of the strip."""

_PANEL = 150
_ROW = 14
_STRIP = 26
_MOST_OUTCOMES = 5
_DENSE = ((20, "d4"), (5, "d3"), (2, "d2"), (1, "d1"))


def draw_latencies(canvas: Canvas, timeline: Timeline, scale: Scale, top: float) -> float:
    """Draws the latencies of answered requests on a logarithmic scale; returns where it ends."""
    low, high = _range(timeline)
    bottom = top + _PANEL

    def y(seconds: float) -> float:
        share = (math.log10(min(max(seconds, low), high)) - math.log10(low)) / (math.log10(high) - math.log10(low))
        return bottom - share * _PANEL

    for power in range(round(math.log10(low)), round(math.log10(high)) + 1):
        at = y(10.0**power)
        canvas.line(scale.left, at, scale.right, at, "grid")
        canvas.text(scale.left - 52, at + 4, f"{10**power} s" if power >= 0 else f"{10 ** (power + 3)} ms", "dim")
    canvas.text(12, top + 12, "latency", "ink strong")
    canvas.text(12, top + 27, "of good answers,", "dim")
    canvas.text(12, top + 41, "by when each was", "dim")
    canvas.text(12, top + 55, "due", "dim")
    for style, cells in _cells(timeline, scale, y).items():
        canvas.path("".join(f"M{x} {top_of:.0f}h{CELL}v{CELL}h-{CELL}z" for x, top_of in cells), style)
    slow = timeline.slow_after
    if slow is not None and low < slow < high:
        canvas.line(scale.left, y(slow), scale.right, y(slow), "limit")
    return bottom


def _range(timeline: Timeline) -> tuple[float, float]:
    """Powers of ten around all latencies, and around what is late."""
    shown = [
        value
        for value, outcome in zip(timeline.requests.latency, timeline.requests.outcome, strict=True)
        if not outcome
    ]
    shown += [] if timeline.slow_after is None or math.isinf(timeline.slow_after) else [timeline.slow_after]
    positive = [value for value in shown if value > 0] or [0.01]
    low = math.floor(math.log10(max(min(positive), 0.001)) + 1e-9)
    high = math.ceil(math.log10(max(positive)) - 1e-9)
    return 10.0**low, 10.0 ** max(high, low + 1)


def _cells(timeline: Timeline, scale: Scale, y: Callable[[float], float]) -> Mapping[str, list[tuple[int, float]]]:
    """The squares of each style: how many requests are in one decides how dense it is."""
    slow = math.inf if timeline.slow_after is None else timeline.slow_after
    counts: Counter[tuple[int, float, bool]] = Counter()
    columns = timeline.requests
    for at, took, outcome, kept in zip(columns.scheduled, columns.latency, columns.outcome, columns.kept, strict=True):
        if not outcome and not kept and scale.shows(at):
            counts[int(scale.x(at)) // CELL * CELL, y(took) // CELL * CELL, took > slow] += 1
    found: dict[str, list[tuple[int, float]]] = {}
    for (x, top, is_late), number in counts.items():
        dense = next(style for least, style in _DENSE if number >= least)
        found.setdefault(f"{'late' if is_late else 'good'} {dense}", []).append((x, top))
    return found


def draw_losses(canvas: Canvas, timeline: Timeline, scale: Scale, top: float) -> float:
    """Draws a mark for each lost request, in a row for each outcome; returns where it ends."""
    rows = list(_losses(timeline, scale))
    if not rows:
        canvas.text(12, top + 11, "no request was lost", "dim")
        return top + _ROW
    for name, moments in rows:
        canvas.text(12, top + 11, fitted(f"{len(moments)} {name}", scale.left - 20, 11), "bad", title=name)
        shown = dict.fromkeys(round(scale.x(at)) for at in moments)
        canvas.path("".join(f"M{x} {top + 2:.0f}v{_ROW - 4}" for x in shown), "lost-line")
        top += _ROW
    return top


def _losses(timeline: Timeline, scale: Scale) -> Iterator[tuple[str, list[float]]]:
    """What was lost in the time that is shown, the most frequent outcome first: when each was due."""
    columns = timeline.requests
    by_name: dict[str, list[float]] = {}
    for at, outcome, kept in zip(columns.scheduled, columns.outcome, columns.kept, strict=True):
        if outcome and scale.shows(at):
            name = "on persistent connections" if kept else columns.outcomes[outcome]
            by_name.setdefault(name, []).append(at)
    ordered = sorted(by_name.items(), key=lambda item: (-len(item[1]), item[0]))
    yield from ordered[:_MOST_OUTCOMES]
    others = [at for _, moments in ordered[_MOST_OUTCOMES:] for at in moments]
    if others:
        yield "of other kinds", others


def _column(timeline: Timeline, scale: Scale) -> int:
    """Pixels of a column that has two requests, so that no column is empty by chance."""
    sent = sum(timeline.strips.sent)
    seconds = len(timeline.strips.sent) * timeline.strips.width
    return max(CELL, math.ceil(2 * scale.per_second * seconds / sent)) if sent else CELL


def draw_answered(canvas: Canvas, timeline: Timeline, scale: Scale, top: float) -> float:
    """Draws the shares of good, late and lost requests over time; returns where it ends."""
    strips, wide = timeline.strips, _column(timeline, scale)
    columns: dict[int, list[int]] = {}
    for number, (sent, lost, late) in enumerate(zip(strips.sent, strips.lost, strips.late, strict=True)):
        at = strips.begin + (number + 0.5) * strips.width
        if sent and scale.shows(at):
            column = columns.setdefault(int(scale.x(at) - scale.left) // wide * wide, [0, 0, 0])
            for place, value in enumerate((sent, lost, late)):
                column[place] += value
    pieces: dict[str, list[str]] = {"answered": [], "late": [], "lost": []}
    for begin, (sent, lost, late) in columns.items():
        x, y = scale.left + begin, top
        width = min(wide, scale.right - x)
        for style, share in (("lost", lost / sent), ("late", late / sent), ("answered", (sent - lost - late) / sent)):
            height = share * _STRIP
            if height:
                pieces[style].append(f"M{x:.0f} {y:.1f}h{width:.0f}v{height:.1f}h-{width:.0f}z")
            y += height
    for style, parts in pieces.items():
        canvas.path("".join(parts), style)
    canvas.text(12, top + 11, "what answered", "ink strong")
    canvas.text(12, top + 24, "good, late, lost", "dim")
    return top + _STRIP
