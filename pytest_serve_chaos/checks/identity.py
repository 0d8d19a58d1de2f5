"""Who was replaced by the fault, and who is the same as before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from pytest_serve_chaos.analysis import identities
from pytest_serve_chaos.analysis.record import Record
from pytest_serve_chaos.analysis.words import listing
from pytest_serve_chaos.checks.base import Check, Missed, Objection, Observation, Unknown
from pytest_serve_chaos.model import Expectations, Topology


@dataclass(frozen=True, slots=True)
class Identities:
    """Components that selectors (``replica@workers``) choose were replaced, or kept their identities."""

    replaced: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    name: ClassVar[str] = "identities"
    on_requests: ClassVar[bool] = False

    def needs(self, seen: Observation) -> Iterator[str]:
        """Who was alive before and after."""
        before, after = seen.record.before, seen.record.after
        if before is None or after is None:
            demands = [f"{selector} {word}" for selector, word in self._demands()]
            when = "before the fault" if before is None else "after it"
            yield f"it was not seen who was alive {when}. Demanded: {listing(demands, most=9)}."

    def judge(self, seen: Observation) -> Iterator[Objection]:
        """Missed by each selector for which it does not hold; unknown where it selects nobody."""
        before, after = seen.record.before, seen.record.after
        if before is None or after is None:
            return
        for selector, word in self._demands():
            nobody = identities.nobody(before, selector, victims=seen.record.victims)
            if nobody:
                yield Unknown(f"{nobody}, so there is nothing to compare. Demanded: {selector} {word}.")
                continue
            finding = _finding(before, after, selector, word, seen.record)
            if not finding.holds:
                yield Missed(f"{finding.reason}. Demanded: {selector} {word}.")

    def _demands(self) -> Iterator[tuple[str, str]]:
        yield from ((selector, "replaced") for selector in self.replaced)
        yield from ((selector, "kept") for selector in self.kept)


def _finding(before: Topology, after: Topology, selector: str, word: str, record: Record) -> identities.Finding:
    find = identities.replaced if word == "replaced" else identities.kept
    return find(before, after, selector, record.gone, victims=record.victims, scaling=record.scaling)


def demanded(expected: Expectations) -> Iterator[Check]:
    """The check for `replaced` and `kept`, if they are demanded."""
    if expected.replaced or expected.kept:
        yield Identities(expected.replaced, expected.kept)
