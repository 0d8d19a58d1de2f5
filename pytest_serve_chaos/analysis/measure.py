"""The figures of one experiment, computed from its events and requests."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from pytest_serve_chaos.analysis.outages import find_outages, is_exposed, is_late, length, merge_gap_of, traffic_back
from pytest_serve_chaos.analysis.record import Record, read_record
from pytest_serve_chaos.analysis.spacing import TIE
from pytest_serve_chaos.analysis.statistics import (
    availability_interval,
    chance_of_more,
    latency,
    lower_bound,
    percentile,
)
from pytest_serve_chaos.analysis.steady_state import on_time
from pytest_serve_chaos.events import ComponentGone, FaultHealed, NotSettled, RedundancyBack, RedundancyMissing, Settled
from pytest_serve_chaos.history import History
from pytest_serve_chaos.model import Latency, Measurement, Outage, Request, Slowness

NOT_SENT = "NotSent"
"""The error of a scheduled request that the generator never sent."""

AFTER_RECOVERY = 5.0
"""Seconds after redundancy is back from which persistent connections to proxies that the fault hit must work again: the
request that finds the proxy gone is lost, and only then is its successor looked up."""

_SLICE = 10.0
"""Seconds in which 1 % of the requests may be sent late: over a long observation 1 % is a standstill that hides an
outage."""

_AROUND = 1.0

_MOST_WAITS = 0.1
"""The share of requests up to which it may be usual that they wait too long, however few were sent before the fault."""

_PARTS = (1, 2, 4, 8)
"""A stretch of time in which waits may be too many is this part of the time that makes two outages one."""

_UNLIKELY = 0.05
"""What chance makes less often than this is not its doing."""


def measure(history: History, experiment: str) -> Measurement:
    """The figures of an experiment.

    The moment of the fault is when it was asked for. A request is exposed to the fault if it is scheduled from then on,
    or if it was scheduled before and had not ended. The window has all exposed requests scheduled up to its end.

    Raises:
        HistoryError: The history has nothing of that experiment.
    """
    return measure_record(read_record(history, experiment))


def measure_record(record: Record) -> Measurement:
    """The figures of an experiment whose record was read. Before a fault has landed nothing is known of its cost."""
    fresh = record.fresh
    steady = record.steady
    slowness = steady.slowness
    generator = Measurement(
        before=steady.latency,
        slow_after=slowness.after,
        send_lag_p99=_worst_lag(fresh),
        most_in_flight=_most_in_flight(fresh),
        window=record.expectations.window,
        scheduled=len(fresh),
        not_sent=sum(request.error == NOT_SENT for request in fresh),
        observed=0.0 if record.asked is None else max(0.0, record.end - record.asked),
    )
    if record.asked is None:
        return generator
    recovery = replace(
        generator,
        redundancy_back=_redundancy_back(record),
        settled=None if _last_says_no(record) else record.after_fault(Settled),
        healed=record.after_fault(FaultHealed),
    )
    return _with_requests(record, record.asked, fresh, slowness, recovery) if record.faults.have_landed else recovery


def sent_in_window(record: Record) -> int:
    """How many requests the window has; `Measurement.sent` is more where an outage ended after it."""
    asked, until = record.asked, record.expectations.window + (record.asked or 0.0)
    return 0 if asked is None else sum(is_exposed(r, asked) and r.scheduled <= until + TIE for r in record.fresh)


def with_unsent_as_good(record: Record) -> Record:
    """The record of a run in which each request that was never sent had been answered at once.

    What fails even so failed: the more completely an app hangs, the more requests find no socket to be sent on.
    """
    requests = tuple(as_good(request) if request.error == NOT_SENT else request for request in record.requests)
    return replace(record, requests=requests)


def with_waits_as_good(record: Record, waits: Collection[Request]) -> Record:
    """The record of a run in which each of these requests had been answered at once."""
    requests = tuple(as_good(request) if request in waits else request for request in record.requests)
    return replace(record, requests=requests)


def as_good(request: Request) -> Request:
    """The request as if it had been answered at once."""
    return replace(request, sent=request.scheduled, finished=request.scheduled, status=200, error=None)


@dataclass(frozen=True, slots=True)
class UsualWaits:
    """Requests that waited too long now and then, as others may have before the fault.

    Attributes:
        requests: Those after the fault.
        before: How many waited as long in the steady seconds.
        steady: Of how many.
    """

    requests: frozenset[Request]
    before: int
    steady: int


def usual_waits(record: Record) -> UsualWaits:
    """The late requests that are no more frequent around their time than they may have been before the fault.

    Of an app that makes one user in 200 wait, the steady seconds may have shown nobody, and their p99 never does. Where
    the test says what is too long, each such request counts.
    """
    asked, slowness = record.asked, record.slowness
    steady = [on_time(request) for request in record.steady.requests if not request.lost]
    if asked is None or not steady or record.expectations.slow_after is not None:
        return UsualWaits(frozenset(), 0, len(steady))
    # Those that wait when the fault comes have not ended, and are not among the others.
    since, until = min(request.scheduled for request in steady), asked - slowness.after
    steady += [r for r in record.fresh if since <= r.scheduled < until and r.finished > asked]
    before = sum(request.latency > slowness.after for request in steady)
    around, due = merge_gap_of(record.fresh), [request.scheduled for request in record.fresh]
    long = (slowness.usual + slowness.after) / 2
    away = [0, *accumulate(request.lost or request.latency > long for request in record.fresh)]
    most = min(_MOST_WAITS, 1 - lower_bound(before, len(steady)))

    def is_usual(request: Request) -> bool:
        """Whether no stretch around it, long or short, has more of them than chance makes of what is usual."""
        for part in _PARTS:
            near = around / part
            first, last = bisect_left(due, request.scheduled - near), bisect_right(due, request.scheduled + near)
            # There are more of the short stretches, so that each must be less likely.
            if chance_of_more(away[last] - away[first], last - first, most) < _UNLIKELY / part**2:
                return False
        return True

    late = (r for r in record.fresh if is_exposed(r, asked) and is_late(r, slowness))
    found = frozenset(request for request in late if is_usual(request))
    return UsualWaits(found, before, len(steady))


def _with_requests(
    record: Record, asked: float, fresh: Sequence[Request], slowness: Slowness, recovery: Measurement
) -> Measurement:
    outages = find_outages(fresh, asked=asked, slowness=slowness)
    lag = _lag_that_matters(fresh, asked, recovery.window, outages)
    recovery = _with_persistent(record, asked, replace(recovery, outages=outages, send_lag_p99=lag))
    exposed = [request for request in fresh if is_exposed(request, asked)]
    if not exposed:
        return recovery
    share = _lowest_share(exposed, asked, recovery.window, outages, slowness)
    if not share.sent:  # where requests are far apart, none may be due in a short window
        return recovery
    all_lost = [request for request in exposed if request.lost]
    in_flight = sum(_was_in_flight(request, record.hit) for request in all_lost)
    return replace(
        recovery,
        sent=share.sent,
        lost=share.lost,
        late=share.late,
        seconds=share.seconds,
        in_flight=in_flight,
        lost_beyond_in_flight=len(all_lost) - in_flight,
        availability=share.good / share.sent,
        interval=availability_interval(share.sent - share.good, share.sent),
        longest_outage=_longest(outages, exposed, slowness),
        during=_slowest(exposed, (asked + share.seconds, asked + recovery.window)),
        traffic_back=traffic_back(outages, asked),
        errors=share.errors,
        traffic_observed=max(0.0, exposed[-1].scheduled - asked),
    )


# -- the share of good answers -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Share:
    """How many requests of the first `seconds` after the fault were answered well and in time."""

    seconds: float
    sent: int
    lost: int
    late: int
    errors: dict[str, int]

    @property
    def good(self) -> int:
        return self.sent - self.lost - self.late


def _share(exposed: Iterable[Request], asked: float, seconds: float, slowness: Slowness) -> _Share:
    inside = [request for request in exposed if request.scheduled <= asked + seconds + TIE]
    lost = [request for request in inside if request.lost]
    late = sum(is_late(request, slowness) for request in inside)
    return _Share(
        seconds, len(inside), len(lost), late, dict(Counter(request.error or "" for request in lost).most_common())
    )


def _lowest_share(
    exposed: Sequence[Request], asked: float, window: float, outages: Sequence[Outage], slowness: Slowness
) -> _Share:
    """That of the window, or that up to the end of the last outage where it is lower: no outage is left out of it."""
    in_window = _share(exposed, asked, window, slowness)
    if not outages or not in_window.sent:
        return in_window
    end = exposed[-1].scheduled if outages[-1].end is None else outages[-1].end
    if end - asked <= window + TIE:
        return in_window
    longer = _share(exposed, asked, end - asked, slowness)
    return longer if longer.good * in_window.sent < in_window.good * longer.sent else in_window


def _slowest(exposed: Sequence[Request], ends: Sequence[float]) -> Latency | None:
    """The latencies up to that end with which they are the worst: more seconds make a slow window look quick."""
    found = [latency(request for request in exposed if request.scheduled <= end + TIE) for end in ends]
    return max((one for one in found if one is not None), key=lambda one: one.p99, default=None)


def _longest(outages: Iterable[Outage], exposed: Iterable[Request], slowness: Slowness) -> float:
    """The longest outage; one without an end lasted at least until its last request was given up."""
    until = max((r.finished for r in exposed if r.lost or is_late(r, slowness)), default=0.0)
    return max((length(outage, until) for outage in outages), default=0.0)


def _was_in_flight(request: Request, hit: float | None) -> bool:
    """Whether a request was on its way through a victim when that was hit: sent before, and ended then or after."""
    return request.sent is not None and hit is not None and request.sent <= hit <= request.finished


# -- persistent connections ----------------------------------------------------------------------------------------


def _with_persistent(record: Record, asked: float, recovery: Measurement) -> Measurement:
    """The figures with how many requests on persistent connections were sent and lost, and how many are judged."""
    exposed = [r for r in record.requests if r.kept and is_exposed(r, asked)]
    until = asked + recovery.window + TIE
    inside = [request for request in exposed if request.scheduled <= until]
    back = math.inf if recovery.redundancy_back is None else asked + recovery.redundancy_back + AFTER_RECOVERY
    hit, taken = _hit_paths(record), _taken_away(record)
    judged = [
        r
        for r in exposed
        if (r.scheduled >= back if r.path in hit else r.scheduled <= until) and r.finished < taken.get(r.path, math.inf)
    ]
    return replace(
        recovery,
        kept_sent=len(inside),
        kept_lost=sum(request.lost for request in inside),
        persistent_sent=len(judged),
        persistent_lost=sum(request.lost for request in judged),
    )


def _hit_paths(record: Record) -> frozenset[str]:
    """The names of the proxies that the faults hit: they are away until they are replaced."""
    before, hit = record.components.before, record.components.victims
    if before is None:
        return frozenset()
    victims = [component for component in before.components if component.identity in hit]
    nodes = {component.node for component in victims if component.role in ("head", "worker", "proxy")}
    return frozenset(proxy.name for proxy in before.of("proxy") if proxy.node in nodes)


def _taken_away(record: Record) -> Mapping[str, float]:
    """The proxies that ended because Serve took all replicas of their nodes away -> when they were gone."""
    seen = record.components
    if seen.before is None or seen.after is None or not seen.scaling.stopped:
        return {}
    living = [c for c in seen.after.components if c.identity not in seen.gone]
    alive = {c.identity for c in living}
    gone = [proxy for proxy in seen.before.of("proxy") if proxy.identity not in alive]
    lost = seen.scaling.lost(gone, seen.before, living, seen.victims)
    at = {event.component.identity: event.at for event in record.of(ComponentGone)}
    return {proxy.name: at.get(proxy.identity, -math.inf) for proxy in gone if proxy not in lost}


# -- the generator -------------------------------------------------------------------------------------------------


def _worst_lag(requests: Iterable[Request], since: float = 0.0) -> float:
    """The worst 99th percentile of the send lag over slices of ten seconds."""
    slices: dict[int, list[float]] = {}
    for request in requests:
        if request.error != NOT_SENT:
            slices.setdefault(math.floor((request.scheduled - since) / _SLICE), []).append(request.lag)
    return max((percentile(sorted(lags), 0.99) for lags in slices.values()), default=0.0)


def _lag_that_matters(fresh: Iterable[Request], asked: float, window: float, outages: Sequence[Outage]) -> float:
    """How late the generator was in the window and around the outages."""
    spans = [(asked, asked + window)]
    spans += [around(outage) for outage in outages]
    inside = (r for r in fresh if any(begin <= r.scheduled <= end for begin, end in spans))
    return _worst_lag(inside, since=asked)


def around(outage: Outage) -> tuple[float, float]:
    """The seconds in which the generator's lateness may have to do with an outage."""
    return outage.start - _AROUND, math.inf if outage.end is None else outage.end + _AROUND


def _most_in_flight(requests: Iterable[Request]) -> int:
    changes = [change for r in requests if r.sent is not None for change in ((r.sent, 1), (r.finished, -1))]
    most = current = 0
    for _, step in sorted(changes):
        current += step
        most = max(most, current)
    return most


def _redundancy_back(record: Record) -> float | None:
    """When redundancy was back for good: what died again afterwards, and was replaced again, moves it."""
    back, missing = record.of(RedundancyBack), record.of(RedundancyMissing)
    if missing and (not back or missing[-1].at > back[-1].at):
        return None
    return record.after_fault(RedundancyBack, last=True)


def _last_says_no(record: Record) -> bool:
    """Whether the last word on the post-recovery check is that it was not passed."""
    words = [event for event in record.events if isinstance(event, (Settled, NotSettled))]
    return bool(words) and isinstance(words[-1], NotSettled)
