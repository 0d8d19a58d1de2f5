"""What may not be the app's fault, and the record of a run in which it did not happen."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from pytest_serve_chaos.analysis.measure import (
    around,
    as_good,
    measure_record,
    usual_waits,
    with_unsent_as_good,
    with_waits_as_good,
)
from pytest_serve_chaos.analysis.outages import is_exposed, is_late
from pytest_serve_chaos.analysis.post_recovery import own_checks_of
from pytest_serve_chaos.analysis.record import Record
from pytest_serve_chaos.analysis.words import latency, number
from pytest_serve_chaos.checks.base import Observation
from pytest_serve_chaos.checks.load_generator import not_sent
from pytest_serve_chaos.model import Measurement, Request
from pytest_serve_chaos.traffic.request import TOO_LARGE, WRONG_ANSWER

_OF_A_BUSY_SERVER = ("HTTP 408", "HTTP 429", "HTTP 502", "HTTP 503", "HTTP 504")
"""What a server answers that has nobody to answer, or none in time."""

_BEYOND_ITS_LAG = 10
"""An outage that lasted that many times as long as the generator was late around it is not the generator's doing."""


def in_its_favour(record: Record, measurement: Measurement) -> tuple[str, Observation | None]:
    """What may not be the app's fault, as a clause, and how the experiment went at best; "" and None for nothing."""
    texts: list[str] = []
    at_best = record
    # One after the other: what one of them explains must not make what is left look worse.
    for explain in (_unsent, _held_up, _slowed, _usual):
        text, at_best = explain(at_best, measurement)
        texts += [text] if text else []
    if not texts:
        return "", None
    seen = Observation(at_best, measure_record(at_best), at_best=True, held_up=bool(record.interference.since_fault))
    return " and ".join(texts), seen


def despite_lag(record: Record, measurement: Measurement, whole: Record) -> Record | None:
    """The record of a run in which only the outages are left that a late generator cannot have made.

    They begin later and end earlier by as much as the generator was late around them. None where no outage is that
    long. What waits counts from when it was sent, and longer than the generator may have slept through its answer.

    Args:
        record: Of all requests, or of those of one part.
        measurement: Its figures.
        whole: The record of all requests, which show how late their generator was.
    """
    asked = record.asked
    if asked is None:
        return None
    too_long = record.slowness.after
    sure: list[tuple[float, float, float]] = []
    for outage in measurement.outages:
        begin, end = outage.start, record.end if outage.end is None else outage.end
        first, last = around(outage)
        lags = (r.lag for r in whole.fresh if r.sent is not None and first <= r.scheduled <= last)
        worst = max(lags, default=0.0)
        if end - begin > _BEYOND_ITS_LAG * worst:
            sure.append((begin + worst, end - worst, worst))

    def is_sure(request: Request) -> bool:
        worst = next((lag for begin, end, lag in sure if begin <= request.scheduled < end), None)
        if worst is None or request.kept or request.sent is None:
            return False
        waited = request.finished - request.sent
        if request.lost and not (request.error or "").endswith("Timeout"):
            return True
        return waited > 2 * worst and (request.lost or waited > too_long)

    left = [is_sure(r) or not is_exposed(r, asked) for r in record.requests]
    requests = tuple(r if is_left else as_good(r) for r, is_left in zip(record.requests, left, strict=True))
    return replace(record, requests=requests) if sure else None


def _unsent(record: Record, measurement: Measurement) -> tuple[str, Record]:
    """What was not sent was not lost either."""
    return (not_sent(measurement), with_unsent_as_good(record)) if measurement.not_sent else ("", record)


def _held_up(record: Record, measurement: Measurement) -> tuple[str, Record]:
    """Where others' work held the cluster up, requests may have waited for a processor.

    Not those that were lost, or late already, when that work began.
    """
    why, asked = record.interference.since_fault, record.asked
    if not why or asked is None:
        return "", record

    since, too_long = record.interference.began, record.slowness.after

    def may_have_waited(request: Request) -> bool:
        away_before = min(request.finished, request.scheduled + too_long) <= since
        return is_exposed(request, asked) and not away_before and not _is_own_answer(request)

    waited = frozenset(filter(may_have_waited, record.requests))
    return why, with_waits_as_good(record, waited)


def _is_own_answer(request: Request) -> bool:
    """Whether a request was lost by an answer that the app gave itself, as HTTP 500, or one that the check refuses."""
    error = request.error or ""
    return error in (WRONG_ANSWER, TOO_LARGE) or (error.startswith("HTTP ") and error not in _OF_A_BUSY_SERVER)


def _slowed(record: Record, measurement: Measurement) -> tuple[str, Record]:
    slowed = _slowed_by_our_own_check(record)
    if not slowed:
        return "", record
    waited = _waited(slowed, measurement)
    if any(request.lost for request in slowed):
        waited += ", or were lost,"
    text = f"{waited} while the post-recovery check started replicas (call wait_settled after assert_available)"
    return text, with_waits_as_good(record, slowed)


def _usual(record: Record, measurement: Measurement) -> tuple[str, Record]:
    usual = usual_waits(record)
    if not usual.requests:
        return "", record
    text = (
        f"{_waited(usual.requests, measurement)} now and then, as others may have before the fault "
        f"({usual.before} of {usual.steady} did; say slow_after, and a longest_outage that is no shorter)"
    )
    return text, with_waits_as_good(record, usual.requests)


def _waited(requests: Collection[Request], measurement: Measurement) -> str:
    return f"{number(len(requests), 'request')} waited longer than {latency(measurement.slow_after or 0.0)}"


def _slowed_by_our_own_check(record: Record) -> frozenset[Request]:
    checks, slowness = own_checks_of(record.events), record.slowness
    if not checks:
        return frozenset()

    def is_slowed(request: Request) -> bool:
        """Whether it was not away yet when a check began, and had not ended."""
        met = [c for c in checks if c.begin < request.finished and request.scheduled < c.end]
        if request.lost:
            return any(check.replaces and request.scheduled + slowness.after >= check.begin for check in met)
        return is_late(request, slowness) and any(request.scheduled + slowness.after > check.begin for check in met)

    return frozenset(request for request in record.fresh if is_slowed(request))
