"""Whether this version knows all that was demanded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from pytest_serve_chaos.checks.base import Check, Objection, Observation
from pytest_serve_chaos.model import Expectations


@dataclass(frozen=True, slots=True)
class DemandsKnown:
    """The history has no demand of a newer version."""

    name: ClassVar[str] = "demands_known"
    on_requests: ClassVar[bool] = False

    def needs(self, seen: Observation) -> Iterator[str]:
        """A version that knows them all."""
        yield from (f"this version does not know the demand {name}" for name in seen.record.demanded.unknown)

    def judge(self, seen: Observation) -> Iterator[Objection]:
        """Demands nothing more."""
        yield from ()


def demanded(expected: Expectations) -> Iterator[Check]:
    """The check, which every experiment has."""
    yield DemandsKnown()
