"""When traffic was back."""

from __future__ import annotations

from collections.abc import Iterable

from pytest_serve_chaos.model import Outage


def traffic_back(outages: Iterable[Outage], at: float) -> float | None:
    """Seconds from `at` (the moment of the fault) to the end of the last outage after it.

    Returns:
        0.0 if there was no outage after `at`, None if one has no end.
    """
    ends = [outage.end for outage in outages if outage.end is None or outage.end > at]
    known = [end for end in ends if end is not None]
    if len(known) < len(ends):
        return None
    return max(known) - at if known else 0.0
