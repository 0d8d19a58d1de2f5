"""How many requests on persistent connections were answered well."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

from pytest_serve_chaos.analysis.statistics import availability_interval, requests_needed
from pytest_serve_chaos.analysis.words import limit_percent, number
from pytest_serve_chaos.checks.base import Check, Missed, Objection, Observation
from pytest_serve_chaos.model import Expectations


@dataclass(frozen=True, slots=True)
class PersistentAvailability:
    """At least that share (0 to 1) of the requests on persistent connections was answered well."""

    share: float
    name: ClassVar[str] = "persistent_availability"
    on_requests: ClassVar[bool] = False

    def needs(self, seen: Observation) -> Iterator[str]:
        """Nothing: without persistent connections nothing is demanded of them."""
        yield from ()

    def judge(self, seen: Observation) -> Iterator[Objection]:
        """Missed if more were lost; on few requests, if that is not chance."""
        sent, lost = seen.measurement.persistent_sent or 0, seen.measurement.persistent_lost or 0
        allowed = 1 - Fraction(str(self.share))
        if not sent or lost <= allowed * sent:
            return
        # With few requests the share says little: then only what cannot be chance fails.
        enough = self.share < 1 and sent >= requests_needed(self.share)
        if enough or availability_interval(lost, sent, 0.9)[1] < self.share:
            yield Missed(
                f"{lost} of {number(sent, 'request')} on persistent connections lost. "
                f"Allowed: {limit_percent(float(allowed))} (persistent_availability)."
            )


def demanded(expected: Expectations) -> Iterator[Check]:
    """The check for `persistent_availability`, which demands no more than `availability` does."""
    if expected.on_persistent_connections is not None:
        yield PersistentAvailability(expected.on_persistent_connections)
