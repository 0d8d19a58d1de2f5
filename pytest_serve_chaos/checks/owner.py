"""Whether the cluster stayed the same one: without that nothing that was seen of it is the fault's doing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from pytest_serve_chaos.checks.base import Objection, Observation
from pytest_serve_chaos.events import NotStarted, OwnerChanged, has


@dataclass(frozen=True, slots=True)
class LeftAlone:
    """The owner of an external cluster left it alone."""

    name: ClassVar[str] = "left_alone"
    on_requests: ClassVar[bool] = False

    def needs(self, seen: Observation) -> Iterator[str]:
        """That nobody else changed it."""
        if not has(NotStarted, seen.record.events):  # which says it
            yield from dict.fromkeys(seen.record.texts(OwnerChanged))

    def judge(self, seen: Observation) -> Iterator[Objection]:
        """Demands nothing more."""
        yield from ()
