"""How many of the victims' replicas are unchanged afterwards."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from pytest_serve_chaos.analysis.components import Components
from pytest_serve_chaos.analysis.words import limit_percent, number
from pytest_serve_chaos.checks.base import Check, Missed, Objection, Observation, Unknown
from pytest_serve_chaos.model import Expectations


@dataclass(frozen=True, slots=True)
class Surviving:
    """That share of the replicas among the victims is unchanged afterwards, where one may always be gone."""

    share: float
    name: ClassVar[str] = "surviving"
    on_requests: ClassVar[bool] = False

    def needs(self, seen: Observation) -> Iterator[str]:
        """Who was alive before and after."""
        unseen = seen.record.components.unseen
        if unseen:
            yield f"{unseen}. Demanded: surviving={self.share:g}."

    def judge(self, seen: Observation) -> Iterator[Objection]:
        """Missed where more are gone, but for as many as an autoscaler may have stopped; unknown without victims."""
        components = seen.record.components
        if components.before is None or components.after is None:
            return
        found = survivors(components)
        if found is None:
            yield Unknown(f"no replica was among the victims. Demanded: surviving={self.share:g}.")
        elif found.left < found.needed(self.share):
            without = f" of those that Serve did not scale away ({found.stopped})" if found.stopped else ""
            yield Missed(
                f"{found.left} of {number(found.victims, 'replica')} of before the fault are left. Demanded: "
                f"{found.needed(self.share)}{without} ({limit_percent(self.share)}, and one may always be gone)."
            )


@dataclass(frozen=True, slots=True)
class Survivors:
    """How many of the victims' replicas are unchanged.

    Attributes:
        left: How many.
        victims: Of how many.
        stopped: How many of those that are gone an autoscaler may have stopped.
    """

    left: int
    victims: int
    stopped: int

    def needed(self, share: float) -> int:
        """How many must be left."""
        staying = self.victims - self.stopped
        return least(staying, share) if staying else 0


def survivors(components: Components) -> Survivors | None:
    """Who survived; None where no replica was a victim, or nobody saw who was alive before and after."""
    if components.before is None or components.after is None:
        return None
    victims = [c for c in components.before.of("replica") if c.identity in components.victims]
    alive = {c.identity for c in components.after.components} - components.gone
    dead = Counter(c.deployment or "" for c in victims if c.identity not in alive)
    stopped = sum(min(n, components.scaling.stopped.get(name, 0)) for name, n in dead.items())
    return Survivors(len(victims) - dead.total(), len(victims), stopped) if victims else None


def least(replicas: int, share: float) -> int:
    """How many of so many replicas must be unchanged."""
    return replicas - max(1, math.floor((1 - share) * replicas + 1e-9))


def demanded(expected: Expectations) -> Iterator[Check]:
    """The check for `surviving`, if it is demanded."""
    if expected.surviving is not None:
        yield Surviving(expected.surviving)
