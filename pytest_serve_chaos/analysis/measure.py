"""The figures of one experiment, computed from its events and requests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from pytest_serve_chaos.analysis.outages import find_outages, length
from pytest_serve_chaos.analysis.percentiles import latency, percentile
from pytest_serve_chaos.analysis.record import Record, read_record
from pytest_serve_chaos.analysis.recovery import traffic_back
from pytest_serve_chaos.analysis.statistics import availability_interval
from pytest_serve_chaos.history import History
from pytest_serve_chaos.model import Measurement, Outage, Request

NOT_SENT = "NotSent"
"""The error of a scheduled request that the generator never sent."""


def measure(history: History, experiment: str) -> Measurement:
    """The figures of an experiment.

    The moment of the fault is when it was asked for. A request is exposed to the fault if it is scheduled from then on,
    or if it was scheduled before and had not ended. The window has all exposed requests scheduled up to its end.

    Raises:
        HistoryError: The history has nothing of that experiment.
    """
    return measure_record(read_record(history, experiment))


def measure_record(record: Record) -> Measurement:
    """The figures of an experiment whose record was read."""
    fresh = [request for request in record.requests if not request.kept]
    window = record.expectations.window
    lags = sorted(request.lag for request in fresh if request.error != NOT_SENT)
    generator = Measurement(
        before=latency(fresh) if record.asked is None else None,
        send_lag_p99=percentile(lags, 0.99) if lags else 0.0,
        most_in_flight=_most_in_flight(fresh),
        window=window,
        scheduled=len(fresh),
        not_sent=sum(request.error == NOT_SENT for request in fresh),
    )
    return generator if record.asked is None else _with_fault(record, record.asked, fresh, generator)


def _with_fault(record: Record, asked: float, fresh: Sequence[Request], generator: Measurement) -> Measurement:
    until = asked + generator.window
    exposed = _exposed(fresh, asked)
    inside = [request for request in exposed if request.scheduled <= until]
    lost = [request for request in inside if request.lost]
    all_lost = [request for request in exposed if request.lost]
    in_flight = [request for request in all_lost if _was_in_flight(request, record.struck)]
    kept = [r for r in _exposed([r for r in record.requests if r.kept], asked) if r.scheduled <= until]
    outages = find_outages(exposed)
    return Measurement(
        sent=len(inside),
        lost=len(lost),
        in_flight=len(in_flight),
        lost_beyond_in_flight=len(all_lost) - len(in_flight),
        availability=1 - len(lost) / len(inside) if inside else 0.0,
        interval=availability_interval(len(lost), len(inside)),
        outages=outages,
        longest_outage=_longest(outages, all_lost),
        before=latency(request for request in fresh if request.finished <= asked and request.scheduled < asked),
        during=latency(inside),
        traffic_back=traffic_back(outages, asked) if exposed else None,
        redundancy_back=record.after_fault("redundancy_back"),
        settled=None if _last_says_no(record) else record.after_fault("settled"),
        healed=record.after_fault("healed"),
        kept_sent=len(kept),
        kept_lost=sum(request.lost for request in kept),
        errors=dict(Counter(request.error or "" for request in lost).most_common()),
        send_lag_p99=generator.send_lag_p99,
        most_in_flight=generator.most_in_flight,
        window=generator.window,
        scheduled=generator.scheduled,
        not_sent=generator.not_sent,
        observed=max(0.0, record.end - asked),
        traffic_observed=max(0.0, exposed[-1].scheduled - asked) if exposed else 0.0,
    )


def _exposed(requests: Iterable[Request], asked: float) -> list[Request]:
    return [request for request in requests if request.scheduled >= asked or request.finished > asked]


def _was_in_flight(request: Request, struck: float | None) -> bool:
    return request.sent is not None and struck is not None and request.sent <= struck


def _longest(outages: Iterable[Outage], lost: Iterable[Request]) -> float:
    """The longest outage; one without an end lasted at least until its last request was given up."""
    until = max((request.finished for request in lost), default=0.0)
    return max((length(outage, until) for outage in outages), default=0.0)


def _last_says_no(record: Record) -> bool:
    """Whether the last word on the aftershock is that it was not passed."""
    words = [event.kind for event in record.events if event.kind in ("settled", "unsettled")]
    return bool(words) and words[-1] == "unsettled"


def _most_in_flight(requests: Iterable[Request]) -> int:
    changes = [change for r in requests if r.sent is not None for change in ((r.sent, 1), (r.finished, -1))]
    most = current = 0
    for _, step in sorted(changes):
        current += step
        most = max(most, current)
    return most
