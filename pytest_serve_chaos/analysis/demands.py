"""What is demanded: the user's values put in place of a fault's defaults, and what requests cannot show."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace

from pytest_serve_chaos.analysis.identities import parse_selector
from pytest_serve_chaos.analysis.statistics import requests_needed
from pytest_serve_chaos.analysis.words import limit, limit_percent
from pytest_serve_chaos.clock import seconds
from pytest_serve_chaos.errors import SettingsError, nearest
from pytest_serve_chaos.model import Expectations
from pytest_serve_chaos.schedule import Schedule

DURATIONS = ("window", "longest_outage", "slow_after", "traffic_back", "redundancy_back", "watch_for")
SHARES = ("availability", "persistent_availability", "surviving")

LENIENT = 0.9
"""The share of good answers on persistent connections that is demanded by default. It must not be shown by enough
requests, as a higher one must: few are sent on these connections, which are there to tell the proxies apart."""

_SPACINGS = 2
"""An outage is measured to within the spacing of requests: one of less than two spacings may not show at all."""


def with_demands(defaults: Expectations, demands: Mapping[str, object]) -> Expectations:
    """The expectations with what the user demands otherwise.

    Raises:
        SettingsError: There is no such demand, or its value cannot be used.
    """
    valid = [field.name for field in fields(Expectations) if field.name != "send_lag_limit"]
    unknown = sorted(set(demands) - set(valid))
    if unknown:
        meant = nearest(unknown[0], valid)
        raise SettingsError(
            f"there is no expectation {unknown[0]!r}",
            fix=[f"write {meant}"] if meant else [f"the expectations are {', '.join(valid)}"],
        )
    values: dict[str, object] = dict(demands)
    for name in DURATIONS:
        if values.get(name) is not None:
            values[name] = _duration(name, values[name])
    for name in ("replaced", "kept"):
        if name in values:
            chosen = values[name]
            selectors = (chosen,) if isinstance(chosen, str) else tuple(chosen)  # type: ignore[arg-type]
            for selector in selectors:
                parse_selector(selector)
            values[name] = selectors
    for name in SHARES:
        share = values.get(name)
        if share is not None and not (isinstance(share, float | int) and 0 < share <= 1):
            raise SettingsError(f"{name}={share!r} is not a share", fix=["give a number from 0 to 1: 0.999"])
    most = values.get("leaks")
    if most is not None and not (isinstance(most, int) and most >= 0):
        raise SettingsError(
            f"leaks={most!r} is not a number of processes", fix=["give how many may leak at most: leaks=0"]
        )
    if most is not None:
        values["leaks"] = int(most)  # False is none too
        if values.get("watch_for") == 0:
            raise SettingsError("watch_for=0 shows no leak", fix=["give a time, or leave it out: watch_for='2m'"])
    return replace(defaults, **values)  # type: ignore[arg-type]


def _duration(name: str, value: object) -> float:
    found = seconds(value, name=name)  # type: ignore[arg-type]
    if name == "window" and not found:
        raise SettingsError("window=0 judges nothing", fix=["give the seconds from the fault on: window='20s'"])
    return found


def not_shown(
    expected: Expectations, *, schedule: Schedule, timeout: float, since: float = 0.0, persistent_rate: float = 0.0
) -> Iterator[str]:
    """The demands that such traffic cannot show, each with the way out.

    Args:
        expected: What is demanded.
        schedule: Of the requests.
        timeout: Seconds after which a request is lost.
        since: When the fault comes, in seconds since the stages began.
        persistent_rate: Requests per second on all persistent connections together; 0: there are none.
    """
    yield from _not_shown_on_persistent_connections(expected, persistent_rate)
    share = expected.availability
    if share is not None:
        needed, sent = requests_needed(share, expected.confidence), schedule.surely(expected.window, since)
        if sent < needed:
            yield (
                f"{sent} requests in a window of {limit(expected.window)} cannot show an availability of "
                f"{limit_percent(share)}: that takes {needed} (3 / (1 - availability)). Give a window of "
                f"{schedule.seconds_for(needed, since):.0f} s or more, or a higher rate"
            )
    spacing = schedule.spacing(expected.window, since)
    up_to = "" if schedule.even else "up to "
    for name in ("longest_outage", "traffic_back"):
        allowed = getattr(expected, name)
        if allowed is not None and allowed < _SPACINGS * spacing:
            yield (
                f"requests that are {up_to}{limit(round(spacing, 3))} apart cannot show {name}={limit(allowed)}: allow "
                f"{limit(round(_SPACINGS * spacing, 3))} or more, or send {_more(schedule, allowed)}"
            )
    slow = expected.slow_after
    if slow is not None and slow >= timeout:
        yield f"slow_after={limit(slow)} is never reached: a request is lost after {limit(timeout)}"
    if slow is not None and expected.longest_outage is not None and slow > expected.longest_outage:
        yield (
            f"longest_outage={limit(expected.longest_outage)} cannot be shown where a request may wait "
            f"{limit(slow)} (slow_after)"
        )


def _not_shown_on_persistent_connections(expected: Expectations, rate: float) -> Iterator[str]:
    share = expected.on_persistent_connections
    if not rate or share is None or share <= LENIENT:
        return
    needed, sent = requests_needed(share), int(rate * expected.window)
    if sent < needed:
        yield (
            f"{sent} requests on persistent connections in a window of {limit(expected.window)} cannot show a "
            f"persistent_availability of {limit_percent(share)}: that takes {needed}. Give a window of "
            f"{math.ceil(needed / rate)} s or more, a higher persistent_rate, or demand less"
        )


def _more(schedule: Schedule, allowed: float) -> str:
    """How many requests would show it."""
    if not schedule.even:
        return "more requests, evenly spaced"
    return f"{_SPACINGS / allowed if allowed else 0:.3g} requests a second or more"


def shows(allowed: float, spacing: float) -> bool:
    """Whether requests that far apart can show that an outage was no longer than that."""
    return allowed >= _SPACINGS * spacing - 1e-9


def can_show(expected: Expectations, schedule: Schedule, since: float = 0.0) -> Expectations:
    """The defaults of a fault with outages that such requests can show: fewer requests see less.

    Args:
        expected: The defaults.
        schedule: Of the requests.
        since: When the fault comes, in seconds since the stages began.
    """
    least = _SPACINGS * schedule.spacing(expected.window, since)
    longest, back = expected.longest_outage, expected.traffic_back
    return replace(
        expected,
        longest_outage=None if longest is None else max(longest, least),
        traffic_back=None if back is None else max(back, least),
    )


def window_for(expected: Expectations, schedule: Schedule, since: float = 0.0) -> float:
    """The window that has the requests that the demanded availability takes, in seconds.

    Args:
        expected: What is demanded.
        schedule: Of the requests.
        since: When the fault comes, in seconds since the stages began.
    """
    return max(expected.window, seconds_needed(expected, schedule, since))


def seconds_needed(expected: Expectations, schedule: Schedule, since: float = 0.0) -> float:
    """Seconds that it takes to send the requests that the demanded availability takes; see `window_for`."""
    if expected.availability is None or expected.availability >= 1:
        return 0.0
    took = schedule.seconds_for(requests_needed(expected.availability, expected.confidence), since)
    return took + max(1.0, 2 / schedule.least(since, took))


def patience(usual: float) -> float:
    """Whole seconds by which what is looked at is longer where answers take so long; 0.0 where they take no second.

    What a fault does to an answer is seen when it is due, and that of the first requests after it no earlier.

    Args:
        usual: What answers took before the fault, seconds.
    """
    return float(math.ceil(usual)) if usual >= 1 else 0.0
