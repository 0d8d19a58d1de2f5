"""Which checks judge an experiment. A new one is a module with a function `demanded`, and a line here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from pytest_serve_chaos.checks import (
    availability,
    identity,
    known,
    latency,
    leaks,
    load_generator,
    outage,
    parts,
    persistent,
    redundancy,
    served,
    settled,
    shape,
    surviving,
    traffic_back,
)
from pytest_serve_chaos.checks.base import Check
from pytest_serve_chaos.checks.load_generator import Punctual
from pytest_serve_chaos.model import PUNCTUAL, Expectations

DEMANDED: tuple[Callable[[Expectations], Iterable[Check]], ...] = (
    load_generator.demanded,
    served.demanded,
    known.demanded,
    availability.demanded,
    outage.demanded,
    availability.demanded_beyond_in_flight,
    latency.demanded,
    traffic_back.demanded,
    persistent.demanded,
    redundancy.demanded,
    settled.demanded,
    shape.demanded,
    identity.demanded,
    surviving.demanded,
    leaks.demanded,
)
"""What makes the checks from the demands, in the order in which reports have their reasons."""


OF_EACH_PART = (
    availability.demanded,
    outage.demanded,
    latency.demanded,
    traffic_back.demanded,
    persistent.demanded,
)
"""What is demanded of each app if several are asked, and of the requests of each name."""

ONLY_OF_EACH_APP = OF_EACH_PART[:-1]
"""What is not demanded of all apps together then: an outage of one after that of another is not one of both."""


def checks_for(expected: Expectations, *, several_apps: bool = False) -> tuple[Check, ...]:
    """The checks of this package that these demands ask for, of all requests together."""
    left_out = ONLY_OF_EACH_APP if several_apps else ()
    return tuple(check for demanded in DEMANDED if demanded not in left_out for check in demanded(expected))


def checks_of_a_part(expected: Expectations) -> tuple[Check, ...]:
    """The checks that these demands ask for, of the requests to one app, or of those of one name."""
    found = tuple(check for demanded in OF_EACH_PART for check in demanded(expected))
    return (*found, *parts.demanded(expected))


def punctual(expected: Expectations, own: Sequence[Check] = ()) -> Check:
    """How punctual the generator must have been, by the demands and by the checks that a test brings."""
    latest = expected.latest
    if expected.send_lag_limit is None and any(check.on_requests for check in own):
        latest = min(latest, PUNCTUAL)  # what such a check measures may be milliseconds
    return Punctual(latest)
