"""Outages as a client sees them: from the first request that is lost or waits too long until answers come promptly."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

from pytest_serve_chaos.model import Outage, Request, Slowness

GOOD_FOR = 1.0
"""Seconds of only prompt answers that end an outage."""

_SPACINGS = 3
"""Where requests are far apart, so many gaps between them must be good to end an outage: of every second request
that is lost, at one a second, no good second tells."""

_AROUND = 10
"""Requests before and after one that show how far apart they are there, where they come in stages or by chance."""

_TOGETHER = 0.05
"""Seconds within which answers came at the same moment, as they do when something that stood still goes on."""

_SENT_APART = 0.3
"""Requests that are answered at the same moment, though sent this many seconds apart, are not answered so by chance."""

_NOISE, _NOISE_SHARE = 0.02, 0.02
"""Seconds by which an answer may take longer than is usual: at most this, and this share of what is too long."""

_Span = tuple[float, float | None]


def find_outages(
    requests: Iterable[Request],
    *,
    asked: float = -math.inf,
    slowness: Slowness | None = None,
    merge_gap: float | None = None,
) -> tuple[Outage, ...]:
    """The outages among these requests, in order of time.

    A request is away if it is lost or waits longer than `slowness.after`. An outage begins at the scheduled time of the
    first such request, but never before `asked`, and ends when a request that was due later is answered promptly. The
    time of its answer counts, less the typical latency: of requests that all wait and are all answered at once, the
    last ones waited for a moment only, and yet nobody got an answer before. Outages with less than `merge_gap` seconds
    of only prompt answers between them are one: a third of all requests lost for 24 s is one outage of 24 s, and not
    hundreds of 20 ms.

    A time in which nobody at all gets an answer, far longer than any before the fault, is an outage as well, however
    long a single request of that app may take.

    Args:
        requests: Those of one stream, in any order.
        asked: The moment of the fault. What had ended by then does not count.
        slowness: What is too long. None: only lost requests count.
        merge_gap: Seconds of only prompt answers that end an outage. None: one, or three times the spacing of requests
            where that is more; and where requests come unevenly, no fewer than three prompt answers.
    """
    slowness = slowness or Slowness()
    # Of requests with the same scheduled time a good one comes first, so that it ends no outage of the others.
    ordered = sorted(requests, key=lambda request: (request.scheduled, request.lost, request.finished))
    least_good = 0 if merge_gap is not None else _SPACINGS
    if merge_gap is None:
        merge_gap = merge_gap_of(ordered)
    exposed = [request for request in ordered if is_exposed(request, asked)]
    away = _away(exposed, slowness, merge_gap)
    spans = [*_spans(exposed, away, asked, slowness), *_silences(exposed, asked, slowness)]
    starts = [max(request.scheduled, asked) for request in exposed]
    outages = []

    def one(ended: float, begins: float) -> bool:
        """Whether what begins then is one outage with what ended before it."""
        return begins - ended < merge_gap or bisect_left(starts, begins) - bisect_left(starts, ended) < least_good

    for start, end in _merged(spans, one):
        inside = exposed[bisect_left(starts, start) : None if end is None else bisect_left(starts, end)]
        lost = sum(request.lost for request in inside)
        late = sum(is_late(request, slowness) for request in inside)
        outages.append(Outage(start, end, lost=lost, sent=len(inside), late=late))
    return tuple(outages)


def is_exposed(request: Request, asked: float) -> bool:
    """Whether a request can have met the fault: it was due from then on, or had not ended by then."""
    return request.scheduled >= asked or request.finished > asked


def is_late(request: Request, slowness: Slowness) -> bool:
    """Whether a request got a good answer, and too late."""
    return not request.lost and request.latency > slowness.after


def spacing(ordered: Sequence[Request]) -> float:
    """Seconds between two requests of an ordered stream; 0.0 where there are fewer than two."""
    if len(ordered) < 2:
        return 0.0
    return (ordered[-1].scheduled - ordered[0].scheduled) / (len(ordered) - 1)


def merge_gap_of(ordered: Sequence[Request]) -> float:
    """Seconds of only prompt answers that end an outage among such requests."""
    return max(GOOD_FOR, _SPACINGS * spacing(ordered))


def is_over(end: float, requests: Sequence[Request], *, good_for: float = GOOD_FOR) -> bool:
    """Whether what is lost or late from now on is another outage than the one that ended then.

    Args:
        end: Since when all answers are prompt.
        requests: All of the stream so far, ordered.
        good_for: Seconds of only prompt answers that end an outage.
    """
    since = len(requests) - bisect_left(requests, end, key=lambda request: request.scheduled)
    quiet = requests[-1].scheduled - end if requests else 0.0
    return since >= _SPACINGS and quiet >= max(good_for, _SPACINGS * spacing(requests))


def length(outage: Outage, until: float) -> float:
    """Seconds that an outage lasted; `until` stands for the end of one that has none."""
    return max(0.0, (until if outage.end is None else outage.end) - outage.start)


def _away(exposed: Sequence[Request], slowness: Slowness, merge_gap: float) -> list[bool]:
    """Which of these requests are away: lost, late, or held up together with one that was late.

    What stands still and goes on answers all that wait at the same moment. Those that came last waited less than the
    limit. A request is one of them if another that waited was due not long before it. An answer that takes a little
    longer than usual, while late answers to requests of long ago still come, does not count.
    """
    unusual = slowness.usual + min(_NOISE, _NOISE_SHARE * max(0.0, slowness.after - slowness.usual))
    away: list[bool] = []
    waiting: deque[tuple[float, float]] = deque()
    """When requests that waited were due, and the moment at which what they waited for went on."""
    for request in exposed:
        while waiting and request.scheduled - waiting[0][0] >= merge_gap:
            waiting.popleft()
        moment = request.finished if is_late(request, slowness) else None
        if moment is None and not request.lost and request.latency > unusual:
            together = [(due, at) for due, at in waiting if abs(request.finished - at) <= _TOGETHER]
            # Late answers that come one after the other, as their requests did, do not end a stall: what is answered
            # then was due long after them, or they were due at nearly the same moment.
            if together and (
                request.scheduled - together[-1][0] < (slowness.after - slowness.usual) / 2
                or together[-1][0] - together[0][0] > _SENT_APART
            ):
                moment = together[-1][1]
        if moment is not None:
            waiting.append((request.scheduled, moment))
        away.append(request.lost or moment is not None)
    return away


def _spans(exposed: Sequence[Request], away: Sequence[bool], asked: float, slowness: Slowness) -> list[_Span]:
    """For each request that is away, from when it was due until a later one was answered promptly."""
    spans: list[_Span] = []
    prompt_at: float | None = None
    last_due = exposed[-1].scheduled if exposed else 0.0
    for request, is_away in zip(reversed(exposed), reversed(away), strict=True):
        if is_away:
            end = prompt_at
            if end is None and not request.lost and last_due - request.scheduled < GOOD_FOR:
                # Traffic ends here, so nothing later can show that answers are prompt again; it was answered itself.
                end = request.finished
            spans.append((max(request.scheduled, asked), end))
        elif request.scheduled > asked:
            answered = max(request.scheduled, request.finished - slowness.typical)
            prompt_at = answered if prompt_at is None else min(prompt_at, answered)
    return spans


def _silences(exposed: Sequence[Request], asked: float, slowness: Slowness) -> list[_Span]:
    """The times in which nobody got a good answer, though some waited for one, far longer than any before the fault.

    When traffic ends nobody asks any more, and that no answers come then says nothing.
    """
    if not exposed or math.isinf(asked) or math.isinf(slowness.gap) or math.isinf(slowness.after):
        return []
    least = max(GOOD_FOR / 2, slowness.after - slowness.usual, _SPACINGS * slowness.gap)
    scheduled = [request.scheduled for request in exposed]
    answers = [asked, *sorted(request.finished for request in exposed if not request.lost)]
    last_expected = scheduled[-1] + slowness.typical
    silent = slowness.silent_for(len(exposed))
    silences: list[_Span] = []
    for begin, end in pairwise(answers):
        if min(end, last_expected) - begin <= least:
            continue
        limit = max(least, silent * _spacing_at(scheduled, begin, end))
        if min(end, last_expected) - begin > limit:
            waiting = (r.scheduled for r in exposed if r.lost or r.finished > begin)
            due = [at for at in waiting if begin - slowness.typical < at < end - limit]
            # Where requests come unevenly, so many must have been due, and not only so many spacings have passed.
            if due and bisect_left(scheduled, end) - bisect_left(scheduled, due[0]) >= silent:
                silences += [(max(asked, due[0]), end - slowness.typical)]
    return [(begin, end) for begin, end in silences if end is None or end > begin]


def _spacing_at(scheduled: Sequence[float], begin: float, end: float) -> float:
    """Seconds between two requests around that span of time."""
    first = max(0, bisect_left(scheduled, begin) - _AROUND)
    last = min(len(scheduled) - 1, bisect_left(scheduled, end) + _AROUND)
    return (scheduled[last] - scheduled[first]) / (last - first) if last > first else 0.0


def _merged(spans: Iterable[_Span], one: Callable[[float, float], bool]) -> list[_Span]:
    merged: list[_Span] = []
    for start, end in sorted(spans, key=lambda span: span[0]):
        if not merged:
            merged.append((start, end))
            continue
        last_start, last_end = merged[-1]
        if last_end is None:
            continue
        if one(last_end, start):
            merged[-1] = (last_start, None if end is None else max(last_end, end))
        else:
            merged.append((start, end))
    return merged


def traffic_back(outages: Iterable[Outage], at: float) -> float | None:
    """Seconds from `at` (the moment of the fault) to the end of the last outage after it.

    Returns:
        0.0 if there was no outage after `at`, None if one has no end.
    """
    ends = [outage.end for outage in outages if outage.end is None or outage.end > at]
    known = [end for end in ends if end is not None]
    if len(known) < len(ends):
        return None
    return max(known) - at if known else 0.0
