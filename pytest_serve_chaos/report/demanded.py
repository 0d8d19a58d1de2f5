"""What was demanded of an experiment, and what was seen, side by side.

The verdict is not made here: it has doubts and intervals that two figures side by side do not show.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from pytest_serve_chaos.analysis.growth import WatchedUsage
from pytest_serve_chaos.analysis.result import Result
from pytest_serve_chaos.analysis.words import duration, latency, limit, limit_percent, percent
from pytest_serve_chaos.checks.surviving import survivors
from pytest_serve_chaos.errors import SettingsError
from pytest_serve_chaos.model import Checked, Expectations, Measurement


@dataclass(frozen=True, slots=True)
class Demand:
    """One demand.

    Attributes:
        what: What it is about: ``availability``, ``kept replica@workers``.
        demanded: What was demanded, in words.
        seen: What was seen, in words; "" if nothing was.
        met: Whether what was seen meets it; None where that is unknown.
    """

    what: str
    demanded: str
    seen: str = ""
    met: bool | None = None


def demands(result: Result) -> tuple[Demand, ...]:
    """All demands of an experiment, those on requests first."""
    expected, seen = result.expectations, result.measurement
    found = [
        *_of_requests(expected, seen),
        *_of_recovery(result),
        *(_identity(result, selector, kept=False) for selector in expected.replaced),
        *(_identity(result, selector, kept=True) for selector in expected.kept),
        *_surviving(result),
        *(_own(checked) for checked in result.checks),
    ]
    return tuple(found)


def _of_requests(expected: Expectations, seen: Measurement) -> Iterator[Demand]:
    if expected.availability is not None:
        bound = "" if expected.confidence is None else f", with {limit_percent(expected.confidence)} confidence"
        yield Demand(
            "availability",
            f"at least {limit_percent(expected.availability)} in {limit(expected.window)}{bound}",
            "" if seen.availability is None else percent(seen.availability),
            _availability_met(expected, seen),
        )
    if expected.lost_beyond_in_flight is not None:
        yield _at_most("lost beyond those in flight", expected.lost_beyond_in_flight, seen.lost_beyond_in_flight)
    if expected.longest_outage is not None:
        longest = seen.longest_outage if seen.sent else None
        shown = "" if longest is None else "none" if longest == 0 else duration(longest)
        yield Demand(
            "longest outage",
            f"at most {limit(expected.longest_outage)}",
            shown,
            _below(longest, expected.longest_outage),
        )
    if expected.p99_ratio is not None and seen.before is not None and seen.during is not None:
        usual = seen.before.p99  # of a steady state in which requests were lost there is none
        ratio = seen.during.p99 / usual if usual and math.isfinite(usual) else None
        shown = f"{latency(seen.before.p99)}, then {latency(seen.during.p99)}"
        yield Demand(
            "p99 latency", f"at most {expected.p99_ratio:g} times that before", shown, _below(ratio, expected.p99_ratio)
        )
    if expected.on_persistent_connections is not None and seen.persistent_sent:
        share = 1 - (seen.persistent_lost or 0) / seen.persistent_sent
        least = expected.on_persistent_connections
        yield Demand("persistent connections", f"at least {limit_percent(least)}", percent(share), share >= least)


def _of_recovery(result: Result) -> Iterator[Demand]:
    expected = result.expectations
    if expected.traffic_back is not None:
        back = result.traffic_back if result.sent else None
        shown = "never away" if back == 0 else _after(back, never=bool(result.sent))
        met = _below(back, expected.traffic_back) if back is not None or not result.sent else False
        yield Demand("traffic back", f"within {limit(expected.traffic_back)}", shown, met)
    if expected.redundancy_back is not None:
        back = result.redundancy_back
        met = False if result.never_redundant else _below(back, expected.redundancy_back)
        shown = _after(back, never=result.never_redundant)
        yield Demand("redundancy back", f"within {limit(expected.redundancy_back)}", shown, met)
    if expected.settled:
        met = False if result.never_settled else None if result.settled is None else True
        yield Demand("post-recovery check", "passed", _after(result.settled, never=result.never_settled), met)
    if expected.leaks is not None:
        yield _of_leaks(result.watched, expected.leaks)


def _of_leaks(watched: WatchedUsage | None, most: int) -> Demand:
    if watched is None or not watched.processes:
        return _at_most("processes that leak", most, None)
    return _at_most("processes that leak", most, len(watched.leaks))


def _identity(result: Result, selector: str, *, kept: bool) -> Demand:
    what = f"{'unchanged' if kept else 'replaced'}: {selector}"
    try:
        found = result.was_kept(selector) if kept else result.was_replaced(selector)
    except SettingsError as error:  # of a newer version
        return Demand(what, "all", str(error))
    return Demand(what, "all", found.reason, found.holds if result.landed else None)


def _surviving(result: Result) -> Iterator[Demand]:
    share = result.expectations.surviving
    if share is None:
        return
    found = survivors(result.components) if result.landed else None
    shown, met = "", None
    if found is not None:
        shown, met = f"{found.left} of {found.victims}", found.left >= found.needed(share)
    yield Demand("surviving replicas", f"at least {limit_percent(share)}, and one may always be gone", shown, met)


def _availability_met(expected: Expectations, seen: Measurement) -> bool | None:
    share = seen.availability
    if expected.confidence is not None:  # the check judges by a bound of its own
        return None if share is None or share >= (expected.availability or 0.0) else False
    return None if share is None else share >= (expected.availability or 0.0) - 1e-12


def _at_most(what: str, most: int, seen: int | None) -> Demand:
    return Demand(what, f"at most {most}", "" if seen is None else str(seen), None if seen is None else seen <= most)


def _below(seen: float | None, most: float) -> bool | None:
    return None if seen is None else seen <= most


def _after(seconds: float | None, *, never: bool) -> str:
    return "never" if never and seconds is None else "" if seconds is None else f"after {duration(seconds)}"


def _own(checked: Checked) -> Demand:
    """A check that the test brought: what it demands is its own business."""
    met = False if checked.missed else None if checked.unknown else True
    return Demand(checked.check, "", "; ".join((*checked.missed, *checked.unknown)), met)
