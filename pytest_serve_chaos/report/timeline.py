"""One experiment as a picture shows it: requests as columns, faults, outages, and a lane for each process.

Every graphic report begins here, so that they agree. All times are seconds from the fault, or from the beginning of
the experiment where nothing was broken; `Timeline.zero` says when that was. What a history does not have, as one of an
older version, is left out: its field is empty.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from pytest_serve_chaos.analysis.faults import was_cut_off
from pytest_serve_chaos.analysis.known_defects import Match, Seen, matching
from pytest_serve_chaos.analysis.result import Result
from pytest_serve_chaos.events import (
    SERVE,
    SERVE_IS_SILENT,
    ChildrenSeen,
    EvidenceSeen,
    FaultAsked,
    FaultHealed,
    FaultLanded,
    HAProxyReloaded,
    LogsExcerpted,
    MachineSeen,
    Phase,
    PhaseBegan,
    Predicted,
    Repeatable,
    ServeSaid,
    TopologySeen,
    UsageSeen,
    VictimEnded,
    of_kind,
)
from pytest_serve_chaos.history import History
from pytest_serve_chaos.model import LogLine, Outage, Outcome, Request
from pytest_serve_chaos.predicted import Prediction
from pytest_serve_chaos.report.demanded import Demand, demands
from pytest_serve_chaos.report.lanes import ProcessLane, lanes_of, seen_components
from pytest_serve_chaos.report.view import Moment, Span, View

STRIP = 0.1
"""Seconds of a strip of `Timeline.strips`."""

GOOD = ""
"""The outcome of a request that was answered well."""

_LARGEST = 2**32 - 1
"""What a column of whole numbers can have."""

_MOST_STRIPS = 20_000
"""Strips of an experiment; of one that lasts longer than half an hour they are wider."""

E = TypeVar("E", FaultLanded, FaultHealed)

_DETAIL = (
    ChildrenSeen,
    TopologySeen,
    MachineSeen,
    UsageSeen,
    ServeSaid,
    HAProxyReloaded,
    LogsExcerpted,
    Predicted,
    Repeatable,
)
"""Events that have a place of their own in the picture, or none."""


# -- requests ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Requests:
    """The requests of the judged traffic as columns of the same length, in the order in which they ended.

    The outcome, the way and all that follows are indexes into the tuples of words.

    Attributes:
        scheduled: When each was due.
        latency: Seconds from then to its end.
        lag: Seconds by which the generator sent it late.
        outcome: What became of it: 0 is `GOOD`, the others are error classes (``ReadTimeout``, ``HTTP 500``).
        way: Which way it took: ``proxies`` (the shared address), or the name of the proxy of a persistent connection.
        replica: The replica that answered; 0 is "": the answer does not say, or there was none.
        app: The app that it asked.
        name: What its kind of request is called.
        request_id: The id by which logs name it; 0 is "": it was not lost, or nothing carries one.
        number: Its number in its stream.
        kept: 1 where it went over a persistent connection. Only the others are judged for the figures of the verdict.
        outcomes: The words of `outcome`.
        ways: The words of `way`.
        replicas: The words of `replica`.
        apps: The words of `app`.
        names: The words of `name`.
        request_ids: The words of `request_id`.
    """

    scheduled: array[float]
    latency: array[float]
    lag: array[float]
    outcome: array[int]
    way: array[int]
    replica: array[int]
    app: array[int]
    name: array[int]
    number: array[int]
    request_id: array[int]
    kept: array[int]
    outcomes: tuple[str, ...]
    ways: tuple[str, ...]
    replicas: tuple[str, ...]
    apps: tuple[str, ...]
    names: tuple[str, ...]
    request_ids: tuple[str, ...]

    def __len__(self) -> int:
        """How many there are."""
        return len(self.scheduled)


@dataclass(frozen=True, slots=True)
class Strips:
    """What became of the requests on fresh connections that were due in each strip of time.

    Attributes:
        begin: When the first strip begins.
        width: Seconds of each.
        sent: All requests that were due in it.
        lost: Those of them without a good answer.
        late: Those of them whose good answer came too late.
    """

    begin: float
    width: float
    sent: array[int]
    lost: array[int]
    late: array[int]


# -- what happened -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    Attributes:
        name: The name of its marker: ``head_failure``.
        text: What was broken and how.
        asked: When it was asked for.
        landed: None: it did not land, or nobody knows (`was_cut_off`).
        healed: When what it broke was restored; None: it was not, or need not be.
        ended: When a victim that ends slowly ended.
        victims: The names of the components that it was aimed at, as far as they were seen.
        evidence: The signs that it landed.
        was_cut_off: Whether the history ends before it shows whether it landed.
    """

    name: str
    text: str
    asked: float
    landed: float | None = None
    healed: float | None = None
    ended: float | None = None
    victims: tuple[str, ...] = ()
    evidence: tuple[Moment, ...] = ()
    was_cut_off: bool = False


@dataclass(frozen=True, slots=True)
class StatusLane:
    """What Serve said of one thing.

    Attributes:
        subject: ``app default``, ``deployment default#Echo``, ``proxy on head``; ``Serve`` for whether it answered.
        spans: Its statuses in Serve's own words. There is none while Serve did not answer.
    """

    subject: str
    spans: tuple[Span, ...]


# -- all of it ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Timeline:
    """One experiment, for a picture.

    Attributes:
        experiment: Its name.
        outcome: The verdict.
        reasons: Why.
        fault: What was broken and how, in words; "" if nothing was.
        zero: The monotonic second (on the clock of the history) from which all times count.
        begin: When the steady state began.
        end: When it was judged, or all that is known of it ends.
        judged_until: When the observation ended; what came then starts and ends replicas.
        requests: Those of the judged traffic; none in an outline.
        strips: The same, counted.
        measured: Whether anything is known of what the fault cost requests.
        slow_after: Seconds after which an answer is late.
        faults: All faults, in order of time.
        outages: As the verdict has them, in these seconds.
        phases: The phases of the experiment.
        lanes: Nodes and processes, in the order of `model.ROLES`.
        statuses: What Serve said over time.
        events: All other events, in order of time.
        demands: What was demanded, and what was seen.
        warnings: What foresaw it.
        remarks: What the reader of the verdict must know.
        traffic_back: Seconds from the fault until traffic was back; None: it never came back, or was not measured.
        redundancy_back: Seconds from the fault until redundancy was back; None likewise.
        settled: Seconds from the fault until the post-recovery check passed; None likewise.
        logs: Lines that were logged around the fault, in order of time.
        logs_left_out: How many lines of the same time are not among them.
        predictions: What each fault was expected to cost, as far as somebody computed it.
        known: The known defects that it looks like.
    """

    experiment: str
    outcome: Outcome
    reasons: tuple[str, ...]
    fault: str
    zero: float
    begin: float
    end: float
    judged_until: float
    requests: Requests = field(default_factory=lambda: columns_of((), 0.0))
    strips: Strips = field(default_factory=lambda: Strips(0.0, STRIP, array("I"), array("I"), array("I")))
    measured: bool = False
    slow_after: float | None = None
    faults: tuple[Fault, ...] = ()
    outages: tuple[Outage, ...] = ()
    phases: tuple[Span, ...] = ()
    lanes: tuple[ProcessLane, ...] = ()
    statuses: tuple[StatusLane, ...] = ()
    events: tuple[Moment, ...] = ()
    demands: tuple[Demand, ...] = ()
    warnings: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    traffic_back: float | None = None
    redundancy_back: float | None = None
    settled: float | None = None
    logs: tuple[LogLine, ...] = ()
    logs_left_out: int = 0
    predictions: tuple[Prediction, ...] = ()
    known: tuple[Match, ...] = ()


def timeline_of(result: Result, history: History) -> Timeline:
    """The picture of an experiment.

    Requests are read one after the other, so that those of a long experiment need not be in memory.

    Args:
        result: What it gave, of this run or from a file.
        history: The same history.

    Raises:
        HistoryError: Some requests are in the file alone, and it was changed.
    """
    view, outline = View.of(result), outline_of(result)
    lost: list[Request] = []
    found = history.requests_between(view.begin, view.end, view.source)
    requests = columns_of(_noting_losses(found, lost), view.zero)
    seen = Seen(result.events, tuple(lost), view.judged_until, result.description)
    return replace(
        outline,
        requests=requests,
        strips=_strips(requests, outline.begin, outline.end, outline.slow_after),
        known=matching(seen),
    )


def _noting_losses(found: Iterable[Request], lost: list[Request]) -> Iterator[Request]:
    for request in found:
        if request.lost and not request.kept:
            lost.append(request)
        yield request


def outline_of(result: Result) -> Timeline:
    """The picture of an experiment without its requests, and what only they can show: it takes no time."""
    view, measured = View.of(result), result.measurement
    # A request that was due before the last event may have ended after it.
    end = max([view.end - view.zero, *(outage.end - view.zero for outage in measured.outages if outage.end)])
    return Timeline(
        experiment=result.experiment,
        outcome=result.outcome,
        reasons=result.reasons,
        fault=result.fault,
        zero=view.zero,
        begin=view.begin - view.zero,
        end=end,
        judged_until=view.judged_until - view.zero,
        measured=bool(measured.sent),
        slow_after=measured.slow_after,
        faults=tuple(_faults(result, view.zero)),
        outages=tuple(_shifted(outage, view.zero) for outage in measured.outages),
        phases=tuple(_phases(result, view)),
        lanes=lanes_of(result, view),
        statuses=_statuses(result, view),
        events=tuple(
            Moment(event.at - view.zero, event.kind, event.text)
            for event in result.events
            if not isinstance(event, _DETAIL) and event.at <= view.end
        ),
        demands=demands(result),
        warnings=tuple(warning.line for warning in result.warnings),
        remarks=result.remarks,
        traffic_back=result.traffic_back,
        redundancy_back=result.redundancy_back,
        settled=result.settled,
        logs=tuple(line for event in of_kind(LogsExcerpted, result.events) for line in event.lines),
        logs_left_out=sum(event.left_out for event in of_kind(LogsExcerpted, result.events)),
        predictions=tuple(event.prediction for event in of_kind(Predicted, result.events)),
    )


def _shifted(outage: Outage, zero: float) -> Outage:
    return replace(outage, start=outage.start - zero, end=None if outage.end is None else outage.end - zero)


# -- requests ----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Words:
    """Texts that are repeated, each as a number."""

    numbers: dict[str, int] = field(default_factory=lambda: {"": 0})

    def number(self, text: str) -> int:
        return self.numbers.setdefault(text, len(self.numbers))

    @property
    def words(self) -> tuple[str, ...]:
        return tuple(self.numbers)


def columns_of(found: Iterable[Request], zero: float) -> Requests:
    """The columns of these requests. There may be a million of them, so none is kept.

    Args:
        found: The requests.
        zero: The moment from which their times count.
    """
    scheduled, latency, lag = array("d"), array("d"), array("f")
    outcome, way, replica, app, name, number, request_id = (array("I") for _ in range(7))
    kept = array("B")
    outcomes, ways, replicas, apps, names, request_ids = (_Words() for _ in range(6))
    for request in found:
        scheduled.append(request.scheduled - zero)
        latency.append(request.finished - request.scheduled)
        lag.append(request.lag)
        outcome.append(outcomes.number(request.error or GOOD))
        way.append(ways.number(request.path))
        replica.append(replicas.number(request.replica or ""))
        app.append(apps.number(request.app))
        name.append(names.number(request.name))
        number.append(min(max(request.index, 0), _LARGEST))
        request_id.append(request_ids.number(request.request_id))
        kept.append(request.kept)
    words = (outcomes.words, ways.words, replicas.words, apps.words, names.words, request_ids.words)
    return Requests(scheduled, latency, lag, outcome, way, replica, app, name, number, request_id, kept, *words)


def _strips(requests: Requests, begin: float, end: float, slow_after: float | None) -> Strips:
    width = STRIP
    while (end - begin) / width > _MOST_STRIPS:
        width *= 10
    number = max(1, math.ceil((end - begin) / width + 1e-9))
    sent, lost, late = (array("I", bytes(4 * number)) for _ in range(3))
    slow = math.inf if slow_after is None else slow_after
    columns = zip(requests.scheduled, requests.latency, requests.outcome, requests.kept, strict=True)
    for at, latency, outcome, kept in columns:
        strip = int((at - begin) / width)
        if not kept and 0 <= strip < number:
            sent[strip] += 1
            if outcome:
                lost[strip] += 1
            elif latency > slow:
                late[strip] += 1
    return Strips(begin, width, sent, lost, late)


# -- faults and phases -------------------------------------------------------------------------------------------------


def _faults(result: Result, zero: float) -> Iterator[Fault]:
    """Each fault with what became of it; in a history of an older version, in their order."""
    landed, healed = of_kind(FaultLanded, result.events), of_kind(FaultHealed, result.events)
    asked = of_kind(FaultAsked, result.events)
    named = {one.identity: one.name for one in seen_components(result)}
    for number, event in enumerate(asked):
        until = asked[number + 1].at if number + 1 < len(asked) else math.inf
        own = _own(landed, event.injection, number)
        undone = _own(healed, event.injection, number)
        ended = [one.at for one in of_kind(VictimEnded, result.events) if event.at <= one.at < until]
        signs = [one for one in of_kind(EvidenceSeen, result.events) if event.at <= one.at < until]
        yield Fault(
            name=event.fault,
            text=event.text,
            asked=event.at - zero,
            landed=None if own is None else own.at - zero,
            healed=None if undone is None else undone.at - zero,
            ended=ended[0] - zero if ended else None,
            victims=() if own is None else tuple(named.get(victim, str(victim)) for victim in own.victims),
            evidence=tuple(Moment(one.at - zero, one.side, one.text) for one in signs),
            was_cut_off=own is None and was_cut_off(event, result.events),
        )


def _own(events: Sequence[E], injection: int | None, number: int) -> E | None:
    """What became of a fault: by its number in the run, or by its place where the history has no numbers."""
    if injection is not None and all(event.injection is not None for event in events):
        return next((event for event in events if event.injection == injection), None)
    return events[number] if number < len(events) else None


_PHASES = {
    Phase.STEADY: "steady state",
    Phase.INJECT: "fault",
    Phase.WATCH: "recovery",
    Phase.POST_RECOVERY: "post-recovery check",
    Phase.GROWTH: "watch for leaks",
    Phase.HANDLES: "check of handles",
}
"""What phases are called; one of another version is called as its history calls it."""


def _phases(result: Result, view: View) -> Iterator[Span]:
    found = [event for event in of_kind(PhaseBegan, result.events) if event.at <= view.end]
    for number, event in enumerate(found):
        end = found[number + 1].at - view.zero if number + 1 < len(found) else view.end - view.zero
        if event.phase is not Phase.DONE:
            name = event.text if event.phase is None else _PHASES[event.phase]
            yield Span(event.at - view.zero, end, name)


# -- what Serve said ---------------------------------------------------------------------------------------------------


def _statuses(result: Result, view: View) -> tuple[StatusLane, ...]:
    """What Serve said of each thing, in the order in which it was first named; while it is silent it says nothing."""
    spans: dict[str, list[Span]] = {}
    last: dict[str, str] = {}
    events = [event for event in of_kind(ServeSaid, result.events) if event.at <= view.end]
    for event in events:
        at = max(event.at, view.begin) - view.zero
        before = dict(last)
        last |= event.statuses
        silent, was_silent = (SERVE_IS_SILENT in (one.get(SERVE, ""),) for one in (last, before))
        for subject, word in last.items():
            hidden = silent and subject != SERVE
            shown, was = "" if hidden else word, "" if was_silent and subject != SERVE else before.get(subject, "")
            own = spans.setdefault(subject, [])
            if shown != was and own and own[-1].end is None:
                own[-1] = replace(own[-1], end=at)
            if shown and shown != was:
                own.append(Span(at, None, shown))
    return tuple(StatusLane(subject, tuple(own)) for subject, own in spans.items() if own)
