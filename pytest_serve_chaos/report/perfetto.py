"""A run as a trace for https://ui.perfetto.dev: requests in slots, processes and faults, by the time of day."""

from __future__ import annotations

import heapq
import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone

from pytest_serve_chaos.analysis.words import away
from pytest_serve_chaos.errors import HistoryError
from pytest_serve_chaos.history import History
from pytest_serve_chaos.model import Outage
from pytest_serve_chaos.report.base import Outcomes
from pytest_serve_chaos.report.lanes import Life
from pytest_serve_chaos.report.ray_timeline import RayTask, RayTimeline
from pytest_serve_chaos.report.time_of_day import unix_nanoseconds
from pytest_serve_chaos.report.timeline import Fault, Requests, Timeline, timeline_of
from pytest_serve_chaos.report.track_events import NO_ARROWS, About, Arrows, TraceWriter, Track, Value


def perfetto_trace(outcomes: Outcomes) -> bytes:
    """The trace of all experiments of a run, compressed with gzip, as Perfetto opens it.

    Its times are times of day (Unix time). The files of two runs may be put together with ``cat``.

    Raises:
        HistoryError: Some requests are in the history's file alone, and it was changed.
    """
    return _trace(outcomes).finish()


def perfetto_trace_with_ray(outcomes: Outcomes, ray: RayTimeline) -> bytes:
    """The same, with what ``ray timeline`` recorded meanwhile.

    Raises:
        HistoryError: The history does not say at which time of day it began, or nothing of the other was at its time.
    """
    history = outcomes.history
    if history.began is None:
        raise HistoryError(
            "the history does not say when it began, so nothing can be merged with it",
            fix=["leave --ray-timeline out", "or take the history of a run of version 0.1 or newer"],
        )
    writer = _trace(outcomes)
    if not ray.tasks:
        raise HistoryError(
            f"{ray.name} has no events",
            fix=["set RAY_PROFILING=1 for all nodes before the run: without it Ray records nothing for `ray timeline`"],
        )
    begin, end = _span(history)
    if not any(task.begin <= end and task.end >= begin for task in ray.tasks):
        raise HistoryError(
            f"nothing of {ray.name} happened during this run",
            checked=[f"the run: {_in_words(begin)} to {_in_words(end)}", f"{ray.name}: {_span_in_words(ray)}"],
            fix=["give the file that `ray timeline` wrote on this cluster, before it ended"],
        )
    _draw_ray(writer, ray)
    return writer.finish()


def _trace(outcomes: Outcomes) -> TraceWriter:
    history = outcomes.history
    began = unix_nanoseconds(history)
    writer = TraceWriter(f"pytest-serve-chaos {began}", began)
    # Perfetto shows tracks without a parent in the order of their names, and those of one name as one.
    run = writer.track("serve-chaos" if history.began is None else f"serve-chaos {_in_words(began)}")
    for result in outcomes.results:
        timeline = timeline_of(result, history)
        _draw(_Drawing(writer, run, timeline, unix_nanoseconds(history, timeline.zero)))
    return writer


def _span(history: History) -> tuple[int, int]:
    """The Unix times of its first and its last event, in nanoseconds."""
    moments = [event.at for event in history.events] or [history.origin]
    return unix_nanoseconds(history, min(moments)), unix_nanoseconds(history, max(moments))


def _in_words(nanoseconds: int) -> str:
    return datetime.fromtimestamp(nanoseconds / 1e9, timezone.utc).isoformat(timespec="seconds")


def _span_in_words(ray: RayTimeline) -> str:
    return f"{_in_words(min(one.begin for one in ray.tasks))} to {_in_words(max(one.end for one in ray.tasks))}"


# -- an experiment -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Chain:
    """What arrows lead to from a fault.

    Attributes:
        arrow: Its number.
        lost: The first request that was lost after the fault, as its place in the columns.
        in_flight: Whether that was in flight when the fault came, so that only its end is after it.
        outage: The outage that it belongs to, if that had not ended when it was lost.
    """

    arrow: int
    lost: int
    in_flight: bool
    outage: Outage | None

    @property
    def arrows(self) -> Arrows:
        return Arrows(through=(self.arrow,))


@dataclass
class _Drawing:
    """What is drawn of one experiment, and where.

    Attributes:
        writer: Of the trace.
        run: The track that has all experiments.
        of: The experiment.
        zero: The Unix time, in nanoseconds, from which its times count.
        group: The track that has all its tracks.
        chains: By the number of the fault.
    """

    writer: TraceWriter
    run: Track
    of: Timeline
    zero: int
    group: Track = field(init=False)
    chains: Mapping[int, _Chain] = field(init=False)

    def __post_init__(self) -> None:
        name = f"{self.of.experiment}: {self.of.outcome}"
        self.group = self.writer.track(name, under=self.run, description=self.of.fault)
        self.chains = dict(_chains(self.of, self.writer))

    def at(self, seconds: float | None) -> int:
        """The Unix time in nanoseconds; of what did not end, that of the end of the experiment."""
        return self.zero + round((self.of.end if seconds is None else seconds) * 1e9)

    def track(self, name: str) -> Track:
        return self.writer.track(name, under=self.group)

    def slice(self, track: Track, begin: float, end: float | None, about: About) -> None:
        self.writer.slice(track, self.at(begin), max(self.at(begin), self.at(end)), about)

    def instant(self, track: Track, at: float, about: About, arrows: Arrows = NO_ARROWS) -> None:
        self.writer.instant(track, self.at(at), about, arrows)


def _draw(drawing: _Drawing) -> None:
    """Adds all tracks of an experiment, in the order in which they are shown."""
    _draw_experiment(drawing)
    _draw_faults(drawing)
    _draw_outages(drawing)
    _draw_counters(drawing)
    _draw_losses(drawing)
    _draw_statuses(drawing)
    _draw_processes(drawing)
    _draw_events(drawing)
    _draw_requests(drawing)


def _draw_experiment(drawing: _Drawing) -> None:
    of, about = drawing.of, drawing.writer.about
    texts = {"reasons": of.reasons, "remarks": of.remarks, "warnings": of.warnings}
    arguments = {"verdict": of.outcome, "fault": of.fault, **{name: "\n".join(lines) for name, lines in texts.items()}}
    shown = about(of.experiment, "experiment", {name: text for name, text in arguments.items() if text})
    drawing.slice(drawing.group, of.begin, of.end, shown)
    phases = drawing.track("phases")
    for phase in of.phases:
        drawing.slice(phases, phase.begin, phase.end, about(phase.text, "phase"))


def _draw_faults(drawing: _Drawing) -> None:
    """Each fault as a slice from when it was asked for; in it, how far it was."""
    writer = drawing.writer
    slots = _Slots(writer, drawing.group, "fault")
    for number, fault in enumerate(drawing.of.faults):
        end = max(at for at in (fault.asked, fault.landed, fault.ended, fault.healed) if at is not None)
        chain = drawing.chains.get(number)
        track = slots.free(drawing.at(fault.asked), drawing.at(end))
        about = writer.about(fault.text, "fault", _of_fault(fault))
        writer.begin(track, drawing.at(fault.asked), about, NO_ARROWS if chain is None else chain.arrows)
        drawing.slice(track, fault.asked, end if fault.landed is None else fault.landed, writer.about("asked", "fault"))
        if fault.landed is not None and end > fault.landed:
            drawing.slice(track, fault.landed, end, writer.about("landed", "fault"))
        moments = (("landed", fault.landed), ("the victim ended", fault.ended), ("healed", fault.healed))
        for at, word in sorted((at, word) for word, at in moments if at is not None):
            drawing.instant(track, at, writer.about(word, "fault"))
        writer.end(track, drawing.at(end))


def _of_fault(fault: Fault) -> dict[str, Value]:
    found: dict[str, Value] = {"fault": fault.name}
    if not fault.was_cut_off:
        found["landed"] = fault.landed is not None
    if fault.victims:
        found["victims"] = ", ".join(fault.victims)
    for number, sign in enumerate(fault.evidence, start=1):
        found[f"evidence {number}"] = f"{sign.at:.2f} s, {sign.kind}: {sign.text}"
    return found


def _draw_outages(drawing: _Drawing) -> None:
    of, about = drawing.of, drawing.writer.about
    outages, recovery = drawing.track("outages"), drawing.track("recovery")
    for one in of.outages:
        drawing.slice(outages, one.start, one.end, about(away(one), "outage"))
        if one.end is not None:
            last = tuple(chain.arrow for chain in drawing.chains.values() if chain.outage is one)
            drawing.instant(recovery, one.end, about("traffic is back", "recovery"), Arrows(last=last))
    for word, at in (("redundancy is back", of.redundancy_back), ("settled", of.settled)):
        if at is not None:
            drawing.instant(recovery, at, about(word, "recovery"))


def _draw_counters(drawing: _Drawing) -> None:
    strips = drawing.of.strips
    edges = [strips.begin + strips.width * edge for edge in range(len(strips.sent) + 1)]
    flying = drawing.writer.counter("requests in flight", "requests", under=drawing.group)
    _count(drawing, flying, zip(edges, _in_flight(drawing.of.requests, edges), strict=True))
    answered = drawing.writer.counter("availability", "%", under=drawing.group)
    columns = zip(edges[:-1], strips.sent, strips.lost, strips.late, strict=True)
    shares = ((at, 100 * (1 - (lost + late) / sent)) for at, sent, lost, late in columns if sent)
    _count(drawing, answered, shares)


def _count(drawing: _Drawing, track: Track, values: Iterable[tuple[float, float]]) -> None:
    """Writes each number that is another one than before."""
    before = math.nan
    for at, value in values:
        if value != before:
            drawing.writer.count(track, drawing.at(at), value)
        before = value


def _in_flight(requests: Requests, moments: Iterable[float]) -> Iterator[int]:
    """How many requests had been sent at each moment and had not ended."""
    sent = sorted(due + lag for due, lag in zip(requests.scheduled, requests.lag, strict=True))
    ended = sorted(due + took for due, took in zip(requests.scheduled, requests.latency, strict=True))
    return (max(0, bisect_right(sent, at) - bisect_right(ended, at)) for at in moments)


def _draw_losses(drawing: _Drawing) -> None:
    """Each lost request at the moment at which it was lost."""
    requests, writer = drawing.of.requests, drawing.writer
    track = drawing.track("lost requests")
    passing = {chain.lost: chain.arrows for chain in drawing.chains.values() if chain.in_flight}
    for i in sorted(_lost(requests), key=lambda i: requests.scheduled[i] + requests.latency[i]):
        about = writer.about(requests.outcomes[requests.outcome[i]], "loss", _of_loss(requests, i))
        drawing.instant(track, requests.scheduled[i] + requests.latency[i], about, passing.get(i, NO_ARROWS))


def _draw_statuses(drawing: _Drawing) -> None:
    if drawing.of.statuses:
        group = drawing.track("what Serve said")
        for lane in drawing.of.statuses:
            track = drawing.writer.track(lane.subject, under=group)
            for span in lane.spans:
                drawing.slice(track, span.begin, span.end, drawing.writer.about(span.text, "status"))


def _draw_processes(drawing: _Drawing) -> None:
    group = drawing.track("processes")
    for lane in drawing.of.lanes:
        track = drawing.writer.track(lane.name, under=group)
        for life in lane.lives:
            name = life.identity if life.pid is None else f"PID {life.pid}"
            drawing.slice(track, life.begin, life.end, drawing.writer.about(name, lane.role, _of_life(life)))
        for mark in lane.marks:
            drawing.instant(track, mark.at, drawing.writer.about(mark.text, mark.kind))


def _of_life(life: Life) -> dict[str, Value]:
    found: dict[str, Value] = {"identity": life.identity, "victim": life.victim, "began before": life.was_there}
    return found | {name: text for name, text in (("machine", life.machine), ("replica", life.replica)) if text}


def _draw_events(drawing: _Drawing) -> None:
    track = drawing.track("events")
    for event in drawing.of.events:
        drawing.instant(track, event.at, drawing.writer.about(event.text or event.kind, event.kind))


def _draw_requests(drawing: _Drawing) -> None:
    """Each request from its scheduled time to its end, in the first slot that is free."""
    requests, writer = drawing.of.requests, drawing.writer
    group = drawing.track("requests")
    slots = [_Slots(writer, group, "fresh connections"), _Slots(writer, group, "persistent connections")]
    passing = {chain.lost: chain.arrows for chain in drawing.chains.values() if not chain.in_flight}
    known: dict[tuple[int, ...], About] = {}
    for i in sorted(range(len(requests)), key=requests.scheduled.__getitem__):
        key = (requests.outcome[i], requests.replica[i], requests.way[i], requests.app[i], requests.name[i])
        about = known.get(key)
        if about is None:
            name = requests.outcomes[requests.outcome[i]] or "good"
            about = known[key] = writer.about(name, "request", _of_request(requests, i))
        begin = drawing.at(requests.scheduled[i])
        end = begin + round(requests.latency[i] * 1e9)
        writer.slice(slots[requests.kept[i]].free(begin, end), begin, end, about, passing.get(i, NO_ARROWS))


def _of_request(requests: Requests, i: int) -> dict[str, str]:
    found = {
        "replica": requests.replicas[requests.replica[i]],
        "way": requests.ways[requests.way[i]],
        "app": requests.apps[requests.app[i]],
        "name": requests.names[requests.name[i]],
    }
    return {name: text for name, text in found.items() if text}


def _of_loss(requests: Requests, i: int) -> dict[str, Value]:
    found: dict[str, Value] = {**_of_request(requests, i), "number": requests.number[i]}
    request_id = requests.request_ids[requests.request_id[i]]
    return found | {"x-request-id": request_id} if request_id else found


def _lost(requests: Requests) -> list[int]:
    """Those of the fresh connections that were lost, in the order in which they were due."""
    lost = [i for i, outcome in enumerate(requests.outcome) if outcome and not requests.kept[i]]
    return sorted(lost, key=requests.scheduled.__getitem__)


def _chains(of: Timeline, writer: TraceWriter) -> Iterator[tuple[int, _Chain]]:
    """Of each fault that cost requests, what its arrow leads to."""
    requests, lost = of.requests, _lost(of.requests)
    for number, fault in enumerate(of.faults):
        until = of.faults[number + 1].asked if number + 1 < len(of.faults) else math.inf
        later = next((i for i in lost if fault.asked <= requests.scheduled[i] < until), None)
        caught = next((i for i in lost if _was_in_flight(requests, i, fault.asked)), None)
        first = caught if later is None else later
        if first is not None:
            moment = max(fault.asked, requests.scheduled[first])
            seen = moment if later is not None else requests.scheduled[first] + requests.latency[first]
            inside = (one for one in of.outages if one.start <= moment and (one.end is None or seen <= one.end))
            arrow = writer.arrow(f"{of.experiment} {of.zero} {number}")
            yield number, _Chain(arrow, first, later is None, next(inside, None))


def _was_in_flight(requests: Requests, i: int, moment: float) -> bool:
    return requests.scheduled[i] < moment <= requests.scheduled[i] + requests.latency[i]


# -- slots -------------------------------------------------------------------------------------------------------------


class _Slots:
    """Tracks for what overlaps: what begins gets the first in which nothing goes on.

    Args:
        writer: Of the trace.
        under: The track that has them.
        name: What they are called; each has a number, too.
    """

    def __init__(self, writer: TraceWriter, under: Track, name: str) -> None:
        self._writer = writer
        self._under = under
        self._name = name
        self._tracks: list[Track] = []
        self._free: list[int] = []
        self._busy: list[tuple[int, int]] = []

    def free(self, begin: int, end: int) -> Track:
        """A track for what begins and ends then; calls come in the order of `begin`."""
        while self._busy and self._busy[0][0] <= begin:
            heapq.heappush(self._free, heapq.heappop(self._busy)[1])
        if self._free:
            slot = heapq.heappop(self._free)
        else:
            slot = len(self._tracks)
            self._tracks.append(self._writer.track(f"{self._name} {slot + 1}", under=self._under))
        heapq.heappush(self._busy, (end, slot))
        return self._tracks[slot]


# -- ray timeline ------------------------------------------------------------------------------------------------------


def _draw_ray(writer: TraceWriter, ray: RayTimeline) -> None:
    """What Ray recorded: a track for each node, and in it the slots of each worker."""
    group = writer.track("ray timeline", description=ray.name)
    nodes: dict[str, Track] = {}
    workers: dict[tuple[str, str], _Slots] = {}
    for task in sorted(ray.tasks, key=lambda one: one.begin):
        node = nodes.get(task.node) or nodes.setdefault(task.node, writer.track(task.node, under=group))
        key = (task.node, task.worker)
        slots = workers.get(key) or workers.setdefault(key, _Slots(writer, node, task.worker))
        writer.slice(slots.free(task.begin, task.end), task.begin, task.end, _about_task(writer, task))


def _about_task(writer: TraceWriter, task: RayTask) -> About:
    return writer.about(task.name, task.category, task.arguments)
