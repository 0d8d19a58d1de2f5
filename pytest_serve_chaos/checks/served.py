"""Whether the fault hit something that served."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from pytest_serve_chaos.analysis.components import Components
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
        record = seen.record
        if record.faults.idle(None if self.of_any_traffic else record.demanded.source):
            yield Unknown(f"{_victims(record.components)} answered nothing before the fault, so nothing was tested")


def _victims(components: Components) -> str:
    before = components.before
    found = [before.find(victim) if before else None for victim in components.victims]
    names = listing(victim.name for victim in found if victim is not None)
    return f"the victim ({names})" if names else "the victim"


def demanded(expected: Expectations) -> Iterator[Check]:
    """The check, which every experiment has."""
    yield VictimsServed(of_any_traffic=not expected.demands_traffic)
