"""When all nodes, replicas and proxies were there again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from pytest_serve_chaos.analysis import identities
from pytest_serve_chaos.analysis.record import Record
from pytest_serve_chaos.analysis.words import duration, limit
from pytest_serve_chaos.checks.base import Check, Missed, Objection, Observation, Unknown
from pytest_serve_chaos.events import Problem, RedundancyMissing, TopologySeen, has
from pytest_serve_chaos.model import Expectations


@dataclass(frozen=True, slots=True)
class RedundancyBack:
    """Redundancy was back that many seconds after the fault at the latest."""

    allowed: float
    name: ClassVar[str] = "redundancy_back"
    on_requests: ClassVar[bool] = False

    def needs(self, seen: Observation) -> Iterator[str]:
        """It needs nothing."""
        yield from ()

    def judge(self, seen: Observation) -> Iterator[Objection]:
        """Missed if it came back later; unknown while it still had time."""
        back = seen.measurement.redundancy_back
        if back is None:
            yield from self._not_back(seen)
        elif back > self.allowed:
            reason = f"redundancy was back {duration(back)} after the fault. Allowed: {limit(self.allowed)}."
            yield Missed(reason, whatever_the_load=self._was_late_before(seen.record))

    def _not_back(self, seen: Observation) -> Iterator[Objection]:
        observed, lacking = seen.measurement.observed, _lacking(seen.record)
        allowed = f"Allowed: {limit(self.allowed)}."
        if observed >= self.allowed:
            reason = f"redundancy never came back in {duration(observed)} of observation{lacking}. {allowed}"
            yield Missed(reason, whatever_the_load=self._was_late_before(seen.record))
        elif not all(has(kind, seen.record.events) for kind in (RedundancyMissing, Problem)):  # which say the same
            yield Unknown(
                f"redundancy was not back{lacking} when the observation ended, {duration(observed)} after the fault. "
                f"{allowed}"
            )

    def _was_late_before(self, record: Record) -> bool:
        """Whether its time was over before others' work on the machine held anything up."""
        return record.asked is not None and record.asked + self.allowed <= record.interference.began


def _lacking(record: Record) -> str:
    """The names of what was there before and is not yet again, for the end of a clause."""
    before, seen = record.components.before, record.of(TopologySeen)
    if before is None or not seen:
        return ""
    lacking = identities.missing(before, seen[-1].topology, record.components.scaling)
    return f" (missing: {lacking})" if lacking else ""


def demanded(expected: Expectations) -> Iterator[Check]:
    """The check for `redundancy_back`, if it is demanded."""
    if expected.redundancy_back is not None:
        yield RedundancyBack(expected.redundancy_back)
