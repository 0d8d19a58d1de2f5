"""The verdict on one experiment, with every reason in words and figures.

First comes whether the rig can be believed: without a fault that landed and a punctual generator nothing is said, and
the verdict is inconclusive. Then a demand that was certainly not met makes it failed, whatever else is in doubt.
Without one, a demand that could not be judged makes it inconclusive. So "passed" means that all was judged, and met.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from pytest_serve_chaos.analysis import identities
from pytest_serve_chaos.analysis.measure import measure_record
from pytest_serve_chaos.analysis.record import Record, read_record
from pytest_serve_chaos.analysis.statistics import lower_bound, requests_needed
from pytest_serve_chaos.analysis.words import (
    counted,
    duration,
    latency,
    limit,
    limit_percent,
    listing,
    number,
    percent,
)
from pytest_serve_chaos.history import History
from pytest_serve_chaos.model import Expectations, Measurement, Verdict

MOST_NOT_SENT = 0.001
"""The share of scheduled requests that may go unsent."""

_ROUNDING = 1e-12


def judge(history: History, experiment: str) -> Verdict:
    """The verdict on an experiment of a history.

    Raises:
        HistoryError: The history has nothing of that experiment.
        SettingsError: A selector in `replaced` or `kept` is none.
    """
    record = read_record(history, experiment)
    return judge_record(record, measure_record(record))


def judge_record(record: Record, measurement: Measurement) -> Verdict:
    """The verdict on an experiment whose record was read and measured."""
    unusable = tuple(_unusable(record, measurement))
    if unusable:
        return Verdict("inconclusive", unusable)
    failures = tuple(_failures(record, measurement))
    doubts = tuple(_doubts(record, measurement))
    if failures:
        return Verdict("failed", failures + doubts)
    return Verdict("inconclusive", doubts) if doubts else Verdict("passed")


# -- the rig cannot be believed ------------------------------------------------------------------------------------


def _unusable(record: Record, measurement: Measurement) -> Iterator[str]:
    for event in record.of("not_started"):
        yield event.text
    if not record.of("not_started"):
        yield from _not_landed(record)
    yield from _late_generator(measurement, record.expectations.latest)


def _not_landed(record: Record) -> Iterator[str]:
    if record.asked is None:
        phases = record.of("phase")
        yield f"no fault was asked for: it ended in the phase {phases[-1].text if phases else 'before the first'}"
    elif not record.of("landed"):
        signs = listing(e.text for e in record.evidence) or "none"
        yield f"the fault did not land within {limit(round(record.end - record.asked, 1))}; signs of it: {signs}"


def _late_generator(measurement: Measurement, latest: float) -> Iterator[str]:
    if measurement.send_lag_p99 > latest:
        yield (
            f"the load generator was late: 1 % of its requests were sent {latency(measurement.send_lag_p99)} or more "
            f"after their time (limit {latency(latest)}); send fewer, or leave it more CPU"
        )
    if measurement.not_sent > MOST_NOT_SENT * measurement.scheduled:
        yield (
            f"the load generator did not send {measurement.not_sent} of {measurement.scheduled} requests "
            f"(limit {limit_percent(MOST_NOT_SENT)}): too many were in flight"
        )


# -- a demand could not be judged ----------------------------------------------------------------------------------


def _doubts(record: Record, measurement: Measurement) -> Iterator[str]:
    expected = record.expectations
    yield from _idle_victims(record)
    if _wants_traffic(expected):
        yield from _too_little_traffic(record, measurement)
    yield from _cut_short(record, measurement)
    if expected.settled and not record.of("settled") and not record.of("unsettled"):
        yield "the aftershock was not run, so it is not known whether all proxies hear their controller"
    if expected.settled:
        yield from (event.text for event in record.of("untold"))
    if (expected.replaced or expected.kept) and (record.before is None or record.after is None):
        when = "before the fault" if record.before is None else "after it"
        demands = (*(f"{s} replaced" for s in expected.replaced), *(f"{s} kept" for s in expected.kept))
        yield f"it was not seen who was alive {when}. Demanded: {listing(demands, most=9)}."


def _idle_victims(record: Record) -> Iterator[str]:
    for event in record.of("landed"):
        served = event.data.get("served")
        if served is not None and served == 0:
            victims = [record.before.find(v) if record.before else None for v in record.victims]
            names = listing(victim.name for victim in victims if victim is not None)
            who = f"the victim ({names})" if names else "the victim"
            yield f"{who} answered nothing before the fault, so nothing was tested"


def _wants_traffic(expected: Expectations) -> bool:
    demands = (expected.availability, expected.longest_outage, expected.lost_beyond_in_flight, expected.p99_ratio)
    return any(demand is not None for demand in (*demands, expected.traffic_back))


def _too_little_traffic(record: Record, measurement: Measurement) -> Iterator[str]:
    expected = record.expectations
    if measurement.sent == 0:
        yield f"no requests were sent in the {limit(expected.window)} after the fault"
        return
    if not _window_is_complete(record, measurement):
        yield (
            f"too few requests: they end {duration(measurement.traffic_observed)} after the fault, before the window "
            f"of {limit(expected.window)} was over"
        )
    elif expected.availability is not None:
        yield from _too_few_requests(expected.availability, measurement, expected)
    if expected.p99_ratio is not None and measurement.before is None:
        yield "no requests were sent before the fault, so there is no p99 to compare with"


def _too_few_requests(availability: float, measurement: Measurement, expected: Expectations) -> Iterator[str]:
    needed = _needed(expected)
    if needed is None:
        if measurement.lost == 0:
            yield (
                f"no number of requests shows an availability of 100 %; {measurement.sent} without loss show "
                f"{percent(lower_bound(0, measurement.sent))}: demand that, or lost_beyond_in_flight=0"
            )
    elif measurement.sent < needed:
        yield (
            f"too few requests: {measurement.sent} in the {limit(expected.window)} after the fault. An availability of "
            f"{limit_percent(availability)} is judged on {needed} or more: {math.ceil(needed / expected.window)} "
            "requests/s, or a longer window."
        )


def _cut_short(record: Record, measurement: Measurement) -> Iterator[str]:
    """What had not come when the observation ended, and still had time."""
    expected, seen = record.expectations, measurement.observed
    traffic = min(seen, measurement.traffic_observed)
    open_outage = measurement.sent > 0 and measurement.traffic_back is None
    if expected.traffic_back is not None and open_outage and traffic < expected.traffic_back:
        yield _too_early("traffic was not back", traffic, expected.traffic_back)
    if expected.redundancy_back is not None and measurement.redundancy_back is None and seen < expected.redundancy_back:
        yield _too_early(f"redundancy was not back{_lacking(record)}", seen, expected.redundancy_back)


def _too_early(what: str, seen: float, allowed: float) -> str:
    return f"{what} when the observation ended, {duration(seen)} after the fault. Allowed: {limit(allowed)}."


# -- a demand was not met ------------------------------------------------------------------------------------------


def _failures(record: Record, measurement: Measurement) -> Iterator[str]:
    expected = record.expectations
    for check in (_availability, _outage, _lost_beyond, _slower, _traffic, _redundancy, _aftershock):
        yield from check(record, measurement, expected)
    for event in record.of("problem"):
        yield event.text
    yield from _identities(record, expected)


def _availability(record: Record, measurement: Measurement, expected: Expectations) -> Iterator[str]:
    if expected.availability is None or not _window_is_complete(record, measurement):
        return
    needed = _needed(expected)
    if needed is not None and measurement.sent < needed:
        return
    low, high = measurement.interval
    lost = (
        f"{measurement.lost} of {measurement.sent} requests lost in the {limit(expected.window)} after the fault "
        f"({counted(measurement.errors)})"
    )
    if expected.confidence is None or needed is None:
        if measurement.availability < expected.availability:
            yield (
                f"{lost}: {percent(measurement.availability)} available (95 % interval {percent(low)} to "
                f"{percent(high)}). Allowed: {limit_percent(1 - expected.availability)} lost."
            )
        return
    bound = lower_bound(measurement.lost, measurement.sent, expected.confidence)
    if bound < expected.availability - _ROUNDING:
        yield (
            f"{lost}: more than {percent(bound)} available at {limit_percent(expected.confidence)} confidence. "
            f"Demanded: {limit_percent(expected.availability)}."
        )


def _outage(record: Record, measurement: Measurement, expected: Expectations) -> Iterator[str]:
    if expected.longest_outage is None or measurement.longest_outage <= expected.longest_outage:
        return
    others = len(measurement.outages) - 1
    more = f", beside {number(others, 'shorter one')}" if others else ""
    lasted = duration(measurement.longest_outage)
    yield f"the longest outage lasted {lasted}{more}. Allowed: {limit(expected.longest_outage)}."


def _lost_beyond(record: Record, measurement: Measurement, expected: Expectations) -> Iterator[str]:
    allowed = expected.lost_beyond_in_flight
    if allowed is not None and measurement.lost_beyond_in_flight > allowed:
        yield (
            f"{number(measurement.lost_beyond_in_flight, 'request')} lost beyond the {measurement.in_flight} that were "
            f"in flight when the fault landed. Allowed: {allowed}."
        )


def _slower(record: Record, measurement: Measurement, expected: Expectations) -> Iterator[str]:
    before, during = measurement.before, measurement.during
    if expected.p99_ratio is None or before is None or during is None or not _window_is_complete(record, measurement):
        return
    if during.p99 > expected.p99_ratio * before.p99:
        ratio = f", {during.p99 / before.p99:.1f} times as long" if before.p99 else ""
        yield (
            f"the p99 latency went from {latency(before.p99)} to {latency(during.p99)}{ratio}. "
            f"Allowed: {expected.p99_ratio:g} times."
        )


def _traffic(record: Record, measurement: Measurement, expected: Expectations) -> Iterator[str]:
    allowed, back = expected.traffic_back, measurement.traffic_back
    if allowed is None or measurement.sent == 0:
        return
    if back is None:
        seen = min(measurement.observed, measurement.traffic_observed)
        if seen >= allowed:
            yield f"traffic never came back in {duration(seen)} of observation. Allowed: {limit(allowed)}."
    elif back > allowed:
        yield f"traffic was back {duration(back)} after the fault. Allowed: {limit(allowed)}."


def _redundancy(record: Record, measurement: Measurement, expected: Expectations) -> Iterator[str]:
    allowed, back = expected.redundancy_back, measurement.redundancy_back
    if allowed is None:
        return
    if back is None:
        if measurement.observed >= allowed:
            seen = duration(measurement.observed)
            yield f"redundancy never came back in {seen} of observation{_lacking(record)}. Allowed: {limit(allowed)}."
    elif back > allowed:
        yield f"redundancy was back {duration(back)} after the fault. Allowed: {limit(allowed)}."


def _aftershock(record: Record, measurement: Measurement, expected: Expectations) -> Iterator[str]:
    if not expected.settled or measurement.settled is not None or not record.of("unsettled"):
        return
    deaf = list(dict.fromkeys(str(event.data.get("proxy") or event.text) for event in record.of("proxy_deaf")))
    reason = record.of("unsettled")[-1].text
    if deaf:
        hears = "does not hear its" if len(deaf) == 1 else "do not hear their"
        yield f"{number(len(deaf), 'proxy', 'proxies')} {hears} controller ({listing(deaf)}): {reason}"
    else:
        yield f"the aftershock was not passed: {reason}"


def _identities(record: Record, expected: Expectations) -> Iterator[str]:
    before, after = record.before, record.after
    if before is None or after is None:
        return
    checks: tuple[tuple[tuple[str, ...], Callable[..., identities.Finding], str], ...] = (
        (expected.replaced, identities.replaced, "replaced"),
        (expected.kept, identities.kept, "kept"),
    )
    for selectors, check, word in checks:
        for selector in selectors:
            finding = check(before, after, selector, record.gone, victims=record.victims)
            if not finding.holds:
                yield f"{finding.reason}. Demanded: {selector} {word}."


# -- what several of them need -------------------------------------------------------------------------------------


def _needed(expected: Expectations) -> int | None:
    """How many requests the demand needs; None: no number shows an availability of 1."""
    availability = expected.availability or 0.0
    return None if availability >= 1 else requests_needed(availability, expected.confidence)


def _window_is_complete(record: Record, measurement: Measurement) -> bool:
    """Whether requests were scheduled until the end of the window, give or take two of their gaps, or a second."""
    if measurement.sent == 0 or record.asked is None:
        return False
    gap = (record.asked + measurement.traffic_observed - record.begin) / measurement.scheduled
    return measurement.traffic_observed >= record.expectations.window - max(1.0, 2 * gap)


def _lacking(record: Record) -> str:
    """The names of what was there before and is not yet again, for the end of a clause."""
    if record.before is None or record.last_seen is None:
        return ""
    lacking = identities.missing(record.before, record.last_seen)
    return f" (missing: {lacking})" if lacking else ""
