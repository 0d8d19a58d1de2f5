"""What may not be the app's fault, and the record of a run in which it did not happen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
from pytest_serve_chaos.analysis.record import Record
from pytest_serve_chaos.analysis.words import latency, number
from pytest_serve_chaos.checks.base import Observation
from pytest_serve_chaos.checks.unsent import not_sent
from pytest_serve_chaos.model import Measurement, Request

_BEYOND_ITS_LAG = 10
"""An outage that lasted that many times as long as the generator was late around it is not the generator's doing."""


def in_its_favour(record: Record, measurement: Measurement) -> tuple[str, Observation | None]:
    """What may not be the app's fault, as a clause, and how the experiment went at best; "" and None for nothing."""
    found = tuple(_doubtful(record, measurement))
    at_best = record
    for _, in_favour in found:
        at_best = in_favour(at_best)
    why = " and ".join(text for text, _ in found)
    return why, Observation(at_best, measure_record(at_best), at_best=True) if found else None


def despite_lag(record: Record, measurement: Measurement) -> Record | None:
    """The record of a run in which only the outages are left that a late generator cannot have made.

    They begin later and end earlier by as much as the generator was late around them. None where no outage is that
    long. What waits counts from when it was sent, and longer than the generator may have slept through its answer.
    """
    asked = record.asked
    if asked is None:
        return None
    too_long = record.slowness.after
    sure: list[tuple[float, float, float]] = []
    for outage in measurement.outages:
        begin, end = outage.start, record.end if outage.end is None else outage.end
        first, last = around(outage)
        lags = (r.lag for r in record.fresh if r.sent is not None and first <= r.scheduled <= last)
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


def _doubtful(record: Record, measurement: Measurement) -> Iterator[tuple[str, Callable[[Record], Record]]]:
    if measurement.not_sent:
        yield not_sent(measurement), with_unsent_as_good  # what was not sent was not lost either
    usual = usual_waits(record)
    if usual.requests:
        waited = f"{number(len(usual.requests), 'request')} waited longer than {latency(measurement.slow_after or 0.0)}"
        text = (
            f"{waited} now and then, as others may have before the fault ({usual.before} of {usual.steady} did; say "
            "slow_after, and a longest_outage that is no shorter)"
        )
        yield text, lambda at_best: with_waits_as_good(at_best, usual.requests)
    slowed = _slowed_by_our_own_check(record)
    if slowed:
        waited = f"{number(len(slowed), 'request')} waited longer than {latency(measurement.slow_after or 0.0)}"
        if any(request.lost for request in slowed):
            waited += ", or were lost,"
        text = f"{waited} while the post-recovery check started replicas (call wait_settled after assert_available)"
        yield text, lambda at_best: with_waits_as_good(at_best, slowed)


def _slowed_by_our_own_check(record: Record) -> frozenset[Request]:
    checks, slowness = record.own_checks, record.slowness
    if not checks:
        return frozenset()

    def is_slowed(request: Request) -> bool:
        """Whether it was not away yet when a check began, and had not ended."""
        met = [c for c in checks if c.begin < request.finished and request.scheduled < c.end]
        if request.lost:
            return any(check.replaces and request.scheduled + slowness.after >= check.begin for check in met)
        return is_late(request, slowness) and any(request.scheduled + slowness.after > check.begin for check in met)

    return frozenset(request for request in record.fresh if is_slowed(request))
