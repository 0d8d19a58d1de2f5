"""Who was replaced by the fault, and who is the same as before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from pytest_serve_chaos.analysis import identities
from pytest_serve_chaos.analysis.words import listing
from pytest_serve_chaos.checks.base import Check, Missed, Objection, Observation, Unknown
from pytest_serve_chaos.model import Expectations


@dataclass(frozen=True, slots=True)
class Identities:
    """Components that selectors (``replica@workers``) choose were replaced, or kept their identities."""

    replaced: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    name: ClassVar[str] = "identities"
    on_requests: ClassVar[bool] = False

    def needs(self, seen: Observation) -> Iterator[str]:
        """Who was alive before and after."""
        unseen = seen.record.components.unseen
        if unseen:
            demands = [f"{selector} {word}" for selector, word in self._demands()]
            yield f"{unseen}. Demanded: {listing(demands, most=9)}."

    def judge(self, seen: Observation) -> Iterator[Objection]:
        """Missed by each selector for which it does not hold; unknown where it selects nobody."""
        components = seen.record.components
        if components.before is None or components.after is None:
            return
        for selector, word in self._demands():
            nobody = identities.nobody(components.before, selector, victims=components.victims)
            if nobody:
                yield Unknown(f"{nobody}, so there is nothing to compare. Demanded: {selector} {word}.")
                continue
            finding = components.replaced(selector) if word == "replaced" else components.kept(selector)
            if not finding.holds:
                yield Missed(f"{finding.reason}. Demanded: {selector} {word}.")

    def _demands(self) -> Iterator[tuple[str, str]]:
        yield from ((selector, "replaced") for selector in self.replaced)
        yield from ((selector, "kept") for selector in self.kept)


def demanded(expected: Expectations) -> Iterator[Check]:
    """The check for `replaced` and `kept`, if they are demanded."""
    if expected.replaced or expected.kept:
        yield Identities(expected.replaced, expected.kept)
