"""Whether the requests show what happened in the window after the fault."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from pytest_serve_chaos.analysis.demands import shows
from pytest_serve_chaos.analysis.record import Record
from pytest_serve_chaos.analysis.spacing import TIE
from pytest_serve_chaos.analysis.words import duration, latency, limit
from pytest_serve_chaos.model import Measurement

_NEARLY = 0.99
"""What a spacing is multiplied with that need not be exact to be enough."""


def none_sent(record: Record, measurement: Measurement) -> Iterator[str]:
    """The reason, if no request was sent after the fault."""
    if not measurement.sent:
        yield f"no requests were sent in the {limit(record.expectations.window)} after the fault"


def incomplete(record: Record, measurement: Measurement) -> Iterator[str]:
    """The reason, if requests were sent, but not from the fault to the end of the window without a gap."""
    missing = _missing(record) if measurement.sent else None
    if missing is not None:
        yield f"too few requests: {_where(missing, record)} {limit(record.expectations.window)} was over"


def not_all_of_it(record: Record, measurement: Measurement) -> Iterator[str]:
    """The reasons, if the requests are not those of the whole window."""
    yield from none_sent(record, measurement)
    missing = tuple(incomplete(record, measurement))
    if missing:
        yield from (*missing, *none_after_the_hit(record))


def doubts(record: Record, measurement: Measurement) -> Iterator[str]:
    """The reasons why what the requests show may not be all that happened."""
    yield from incomplete(record, measurement)
    yield from none_after_the_hit(record)


def none_after_the_hit(record: Record) -> Iterator[str]:
    """The reason, if no request can have met a victim that ended slowly."""
    if record.hit is not None and record.fresh and record.fresh[-1].scheduled < record.hit:
        yield "no requests were sent after the victim had ended, so nothing was tested"


def too_far_apart(record: Record, name: str, allowed: float, seen: float = 0.0) -> Iterator[str]:
    """The reason, if the requests are too far apart to show an outage of that many seconds.

    An experiment refuses that before it breaks anything; a test by hand cannot.

    Args:
        record: With the requests.
        name: Of the demand.
        allowed: What it allows, seconds.
        seen: What was measured. If that is more than what is allowed, by less than the gaps that there were, it may be
            the doing of a gap.
    """
    spacing = record.spacing
    apart = spacing.apart if seen <= allowed + TIE else spacing.widest
    if not shows(allowed, _NEARLY * apart):
        sent = f"requests that are {'up to ' if spacing.uneven or apart > spacing.apart else ''}{latency(apart)} apart"
        yield f"{sent} do not show {name}={limit(allowed)}: send more, or allow more"


def certainly_longer_than(record: Record, allowed: float) -> float:
    """Seconds beyond which an outage was certainly longer than allowed, by requests that may be far apart."""
    apart = record.spacing.widest
    return allowed + (TIE if shows(allowed, _NEARLY * apart) else 2 * apart)


def _where(missing: tuple[float, float], record: Record) -> str:
    begin, end = missing
    if end >= record.expectations.window - TIE:
        return f"they end {duration(max(0.0, begin))} after the fault, before the window of"
    return f"from {duration(begin)} to {duration(end)} after the fault none was sent, and the window of"


def _missing(record: Record) -> tuple[float, float] | None:
    """The first time in the window in which no requests were due for more than two of their gaps, or a second.

    Of an uneven schedule: for longer than it ever leaves between two requests.
    """
    if record.asked is None:
        return None
    window, asked = record.expectations.window, record.asked
    spacing = record.spacing
    fresh = spacing.requests
    # Requests that are due at the same moment, as those of two apps may be, leave no smaller gaps than one would.
    moments = len({r.scheduled for r in fresh})
    gap = (fresh[-1].scheduled - fresh[0].scheduled) / moments if fresh else 0.0
    if spacing.uneven is not None:
        gap = spacing.uneven.spacing(window, spacing.stage_time)
    longest = max(1.0, 2 * gap) + TIE
    due = [0.0, *(r.scheduled - asked for r in fresh if 0 <= r.scheduled - asked <= window), window]
    return next(((a, b) for a, b in pairwise(due) if b - a > longest), None)
