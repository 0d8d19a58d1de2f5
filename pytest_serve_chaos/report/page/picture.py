"""What the scripts of a page get of one experiment, as JSON: the columns, and all that is drawn around them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

from pytest_serve_chaos.analysis.words import away
from pytest_serve_chaos.model import Json, LogLine
from pytest_serve_chaos.printable import one_line
from pytest_serve_chaos.report.lanes import Life, ProcessLane
from pytest_serve_chaos.report.log_excerpts import process_name
from pytest_serve_chaos.report.page.columns import UNIT, Packed, pack_requests, pack_strips
from pytest_serve_chaos.report.timeline import Requests, Timeline
from pytest_serve_chaos.report.view import Moment, Span

_SHARED = "the address that all proxies share"


def picture(timeline: Timeline) -> dict[str, Json]:
    """Everything that is drawn of an experiment; times are seconds from the fault."""
    requests = timeline.requests
    return {
        "begin": _seconds(timeline.begin),
        "end": _seconds(timeline.end),
        "judgedUntil": _seconds(timeline.judged_until),
        "broken": bool(timeline.faults),
        "slowAfter": _seconds(timeline.slow_after),
        "requests": {
            **_packed(pack_requests(requests, timeline.slow_after)),
            "all": len(requests),
            "counts": _counts(requests, timeline.slow_after),
            "first": _seconds(min(requests.scheduled, default=0.0)),
            "unit": UNIT,
            "words": {
                "outcome": _texts(requests.outcomes),
                "way": _texts(_SHARED if way == "proxies" else way for way in requests.ways),
                "replica": _texts(requests.replicas),
                "app": _texts(requests.apps),
                "name": _texts(requests.names),
                "requestId": _texts(requests.request_ids),
            },
        },
        "strips": {
            **_packed(pack_strips(timeline.strips)),
            "begin": _seconds(timeline.strips.begin),
            "width": timeline.strips.width,
        },
        "faults": [
            {
                "text": one_line(fault.text),
                "asked": _seconds(fault.asked),
                "landed": _seconds(fault.landed),
                "healed": _seconds(fault.healed),
                "ended": _seconds(fault.ended),
            }
            for fault in timeline.faults
        ],
        "outages": [
            {"start": _seconds(one.start), "end": _seconds(one.end), "text": away(one)} for one in timeline.outages
        ],
        "phases": [_span(phase) for phase in timeline.phases],
        "lanes": [_lane(lane) for lane in timeline.lanes],
        "statuses": [
            {"subject": one_line(lane.subject), "spans": [_span(span) for span in lane.spans]}
            for lane in timeline.statuses
        ],
        "events": [_moment(event) for event in timeline.events],
        "logs": [
            {"at": _seconds(line.seconds), "process": one_line(process_name(line)), "text": line_of(line)}
            for line in timeline.logs
        ],
    }


def _counts(requests: Requests, slow_after: float | None) -> dict[str, Json]:
    """How many there are of all, drawn or not: those that were answered, the late ones, and each outcome."""
    found = Counter(zip(requests.outcome, requests.kept, strict=True))
    slow = math.inf if slow_after is None else slow_after
    answers = zip(requests.outcome, requests.latency, strict=True)
    by_outcome = Counter(requests.outcome)
    return {
        "fresh": found[0, 0],
        "kept": found[0, 1],
        "late": sum(not outcome and latency > slow for outcome, latency in answers),
        "outcomes": [by_outcome[number] for number in range(len(requests.outcomes))],
    }


def line_of(line: LogLine) -> str:
    """A log line as it is shown."""
    again = f"  (x {line.times})" if line.times > 1 else ""
    return one_line(line.text) + again


def _seconds(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, 5)


def _texts(words: Iterable[str]) -> list[Json]:
    return [one_line(word) for word in words]


def _packed(packed: Packed) -> dict[str, Json]:
    return {"packed": packed.text, "columns": list(packed.names), "rows": packed.rows}


def _span(span: Span) -> Json:
    return {"begin": _seconds(span.begin), "end": _seconds(span.end), "text": one_line(span.text)}


def _moment(moment: Moment) -> Json:
    return {"at": _seconds(moment.at), "kind": one_line(moment.kind), "text": one_line(moment.text)}


def _lane(lane: ProcessLane) -> Json:
    return {
        "name": one_line(lane.name),
        "role": one_line(lane.role),
        "lives": [_life(life) for life in lane.lives],
        "marks": [_moment(mark) for mark in lane.marks],
    }


def _life(life: Life) -> Json:
    return {
        "identity": one_line(life.identity),
        "pid": life.pid,
        "begin": _seconds(life.begin),
        "end": _seconds(life.end),
        "wasThere": life.was_there,
        "victim": life.victim,
        "machine": None if life.machine is None else one_line(life.machine),
        "replica": None if life.replica is None else one_line(life.replica),
    }
