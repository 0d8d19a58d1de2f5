"""Exact figures of many requests: percentiles as observed, without histogram or interpolation, and bounds.

The bounds say how much a number of requests can say about availability: binomial ones, and the rule of three.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction

from pytest_serve_chaos.errors import SettingsError
from pytest_serve_chaos.model import Latency, Request

_HALVINGS = 60
"""Bisection steps: the bounds are then exact to the last digits of a float."""


def percentile(ordered: Sequence[float], share: float) -> float:
    """The nearest-rank percentile: the least observed value that `share` of all values do not exceed.

    Args:
        ordered: The values in ascending order, at least one.
        share: 0.99 for the 99th percentile.
    """
    # Rounded first, since 0.07 * 100 is a little more than 7 in floats.
    rank = math.ceil(round(share * len(ordered), 9))
    return ordered[min(max(rank, 1), len(ordered)) - 1]


def latency(requests: Iterable[Request]) -> Latency | None:
    """The latencies of these requests in seconds from their scheduled times; None without any.

    A lost request counts as infinitely slow, or an app that refuses everything at once would be the fastest of all.
    """
    return latency_of(math.inf if request.lost else request.latency for request in requests)


def latency_of(seconds: Iterable[float]) -> Latency | None:
    """The latencies of these; None without any."""
    ordered = sorted(seconds)
    if not ordered:
        return None
    return Latency(percentile(ordered, 0.50), percentile(ordered, 0.95), percentile(ordered, 0.99), ordered[-1])


def availability_interval(lost: int, sent: int, confidence: float = 0.95) -> tuple[float, float]:
    """The two-sided Clopper-Pearson interval of the availability.

    Args:
        lost: Requests without a good answer.
        sent: All requests; with none, nothing is known, and the interval is (0, 1).
        confidence: How sure the interval is, between 0 and 1.

    Raises:
        SettingsError: `confidence` is not between 0 and 1.
        ValueError: `lost` is negative or more than `sent`.
    """
    _check(lost, sent, confidence)
    tail = (1 - confidence) / 2
    return 1 - _most_loss(lost, sent, tail), 1 - _least_loss(lost, sent, tail)


def lower_bound(lost: int, sent: int, confidence: float = 0.95) -> float:
    """The availability that is exceeded with that confidence (one-sided Clopper-Pearson bound).

    Nothing lost of 3750 gives 0.9992 at 0.95, three lost of 3750 give 0.9979.

    Raises:
        SettingsError: `confidence` is not between 0 and 1.
        ValueError: `lost` is negative or more than `sent`.
    """
    _check(lost, sent, confidence)
    return 1 - _most_loss(lost, sent, 1 - confidence)


def chance_of_more(lost: int, sent: int, rate: float) -> float:
    """The probability that as many are lost as were, or more, where each is lost with probability `rate`.

    Args:
        lost: How many were lost.
        sent: Of how many.
        rate: The share of losses that is usual, above 0 and below 1.
    """
    return 1.0 if lost == 0 else 1 - _at_most(lost - 1, sent, rate)


def requests_needed(availability: float, confidence: float | None = None) -> int:
    """The least number of requests on which a demand can be judged.

    By the rule of three, n requests of which none is lost show an availability of 1 - 3/n at 95 %. With `confidence`
    it is at least the number at which the lower bound of a run without loss reaches the demand.

    Args:
        availability: The share of good answers that is demanded, from 0 to less than 1.
        confidence: The confidence of the lower bound, where the demand is judged by it.

    Raises:
        SettingsError: `availability` is 1 (which no number of requests shows), or not a share;
            or `confidence` is not between 0 and 1.
    """
    if not 0 <= availability <= 1:
        raise SettingsError(
            f"availability: {availability!r} is not a share of requests",
            fix=["write it between 0 and 1: availability=0.999"],
        )
    if availability == 1:
        raise SettingsError(
            "availability: no number of requests shows an availability of 1",
            fix=[
                "demand a share below 1: 0.999 needs 3000 requests in the window, 0.9999 needs 30000",
                "or demand lost_beyond_in_flight=0, which allows no loss except of requests in flight",
            ],
        )
    # Through its decimal text, since 3 / (1 - 0.9) is a little more than 30 in floats.
    needed = math.ceil(Fraction(3) / (1 - Fraction(str(availability))))
    if confidence is not None and availability > 0:
        _check_confidence(confidence)
        needed = max(needed, math.ceil(math.log(1 - confidence) / math.log(availability)))
    return needed


def _check(lost: int, sent: int, confidence: float) -> None:
    _check_confidence(confidence)
    if not 0 <= lost <= sent:
        raise ValueError(f"{lost} lost of {sent} sent")


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise SettingsError(f"confidence: {confidence!r} is not between 0 and 1", fix=["write confidence=0.95"])


def _most_loss(lost: int, sent: int, tail: float) -> float:
    """The loss rate at which `lost` or fewer have the probability `tail`."""
    if lost == sent:
        return 1.0
    return _bisect(lambda rate: _at_most(lost, sent, rate) > tail)


def _least_loss(lost: int, sent: int, tail: float) -> float:
    """The loss rate at which `lost` or more have the probability `tail`."""
    if lost == 0:
        return 0.0
    return _bisect(lambda rate: _at_most(lost - 1, sent, rate) > 1 - tail)


def _bisect(too_low: Callable[[float], bool]) -> float:
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if too_low(middle):
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _at_most(k: int, n: int, rate: float) -> float:
    """The probability of `k` or fewer of `n`, for 0 <= k < n and 0 < rate < 1.

    Sums the tail that does not hold the mean: its terms fall from the first one on, so that some multiple of
    sqrt(n) terms is enough.
    """
    if k < n * rate:
        return _tail(k, n, rate)
    return 1 - _tail(n - k - 1, n, 1 - rate)


def _tail(k: int, n: int, rate: float) -> float:
    """The probability of `k` or fewer of `n`, where `k` is below the mean or next to it."""
    if rate in (0.0, 1.0):
        return 0.0 if rate else 1.0
    log_term = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    log_term += k * math.log(rate) + (n - k) * math.log1p(-rate)
    total = share = 1.0
    odds = (1 - rate) / rate
    for i in range(k, 0, -1):
        share *= i / (n - i + 1) * odds
        total += share
        if share < 1e-17 * total:
            break
    return math.exp(log_term) * total
