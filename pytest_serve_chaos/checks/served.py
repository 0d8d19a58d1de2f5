"""Whether the fault hit something that served."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from pytest_serve_chaos.analysis.record import Record
from pytest_serve_chaos.analysis.words import listing
from pytest_serve_chaos.checks.base import Check, Objection, Observation, Unknown
from pytest_serve_chaos.model import Expectations


@dataclass(frozen=True, slots=True)
class VictimsServed:
    """Victims that answer requests had answered some before the fault.

    Attributes:
        of_any_traffic: Whether it does not matter to which traffic of the test, as where nothing is demanded of any.
    """

    of_any_traffic: bool = False
    name: ClassVar[str] = "victims_served"
    on_requests: ClassVar[bool] = False

    def needs(self, seen: Observation) -> Iterator[str]:
        """It needs nothing."""
        yield from ()

    def judge(self, seen: Observation) -> Iterator[Objection]:
        """Unknown if a fault hit nobody who served."""
        if seen.record.idle_faults(of_any_traffic=self.of_any_traffic):
            yield Unknown(f"{_victims(seen.record)} answered nothing before the fault, so nothing was tested")


def _victims(record: Record) -> str:
    found = [record.before.find(victim) if record.before else None for victim in record.victims]
    names = listing(victim.name for victim in found if victim is not None)
    return f"the victim ({names})" if names else "the victim"


def demanded(expected: Expectations) -> Iterator[Check]:
    """The check, which every experiment has."""
    yield VictimsServed(of_any_traffic=not expected.demands_traffic)
