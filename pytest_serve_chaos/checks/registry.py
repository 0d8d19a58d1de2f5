"""Which checks judge an experiment. A new one is a module with a function `demanded`, and a line here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from pytest_serve_chaos.checks import (
    availability,
    identity,
    known,
    latency,
    load_generator,
    outage,
    persistent,
    redundancy,
    served,
    settled,
    shape,
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
)
"""What makes the checks from the demands, in the order in which reports have their reasons."""


def checks_for(expected: Expectations) -> tuple[Check, ...]:
    """The checks of this package that these demands ask for."""
    return tuple(check for demanded in DEMANDED for check in demanded(expected))


def punctual(expected: Expectations, own: Sequence[Check] = ()) -> Check:
    """How punctual the generator must have been, by the demands and by the checks that a test brings."""
    latest = expected.latest
    if expected.send_lag_limit is None and any(check.on_requests for check in own):
        latest = min(latest, PUNCTUAL)  # what such a check measures may be milliseconds
    return Punctual(latest)
