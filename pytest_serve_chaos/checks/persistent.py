"""How many requests on persistent connections were answered well."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

from pytest_serve_chaos.analysis.demands import LENIENT
from pytest_serve_chaos.analysis.statistics import availability_interval, requests_needed
from pytest_serve_chaos.analysis.words import limit_percent, number
from pytest_serve_chaos.checks.base import Check, Missed, Objection, Observation, Unknown
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
        """Missed if more were lost; on few requests, if that is not chance, and unknown if much is demanded."""
        sent, lost = seen.measurement.persistent_sent or 0, seen.measurement.persistent_lost or 0
        allowed = 1 - Fraction(str(self.share))
        if not sent:
            return
        enough = self.share < 1 and sent >= requests_needed(self.share)
        if lost > allowed * sent and (enough or self._is_no_chance(lost, sent)):
            yield Missed(
                f"{lost} of {number(sent, 'request')} on persistent connections lost. "
                f"Allowed: {limit_percent(float(allowed))} (persistent_availability)."
            )
        elif not enough and self.share > LENIENT:
            yield Unknown(self._too_few(lost, sent))

    def _is_no_chance(self, lost: int, sent: int) -> bool:
        """Whether so many of a few requests are lost that more of them would not have made it good."""
        if self.share <= LENIENT:
            return availability_interval(lost, sent, 0.9)[1] < self.share
        # One loss is among those that so high a share allows, and it is one of the few requests of some part.
        return lost > 1 and availability_interval(lost, sent, 0.99)[1] < self.share

    def _too_few(self, lost: int, sent: int) -> str:
        found = f"{number(sent, 'request')} on persistent connections, {lost} of them lost"
        if self.share >= 1:
            return f"no number of requests shows a persistent_availability of 100 %; there were {found}"
        return (
            f"too few requests: {found}. A persistent_availability of {limit_percent(self.share)} is judged on "
            f"{requests_needed(self.share)} or more: send more of them, or for longer"
        )


def demanded(expected: Expectations) -> Iterator[Check]:
    """The check for `persistent_availability`, which demands no more than `availability` does."""
    if expected.on_persistent_connections is not None:
        yield PersistentAvailability(expected.on_persistent_connections)
