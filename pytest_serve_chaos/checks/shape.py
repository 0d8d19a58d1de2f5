"""What was wrong with the cluster and no figure shows: leaks, replicas without requests, all of them on one node."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from pytest_serve_chaos.checks.base import Check, Missed, Objection, Observation, Unknown
from pytest_serve_chaos.events import Doubt, Problem
from pytest_serve_chaos.model import Expectations


@dataclass(frozen=True, slots=True)
class Shape:
    """The experiment saw no problem with the cluster, and could look everywhere."""

    name: ClassVar[str] = "shape"
    on_requests: ClassVar[bool] = False

    def needs(self, seen: Observation) -> Iterator[str]:
        """It needs nothing."""
        yield from ()

    def judge(self, seen: Observation) -> Iterator[Objection]:
        """Missed by each problem; unknown where nobody could look."""
        yield from map(Unknown, seen.record.texts(Doubt))
        yield from map(Missed, seen.record.texts(Problem))


def demanded(expected: Expectations) -> Iterator[Check]:
    """Always; `spread` decides whether replicas that are all on one node are a problem."""
    yield Shape()
