"""Exact percentiles of what was observed: no histogram, no interpolation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from pytest_serve_chaos.model import Latency, Request


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
    ordered = sorted(math.inf if request.lost else request.latency for request in requests)
    if not ordered:
        return None
    return Latency(percentile(ordered, 0.50), percentile(ordered, 0.95), percentile(ordered, 0.99), ordered[-1])
