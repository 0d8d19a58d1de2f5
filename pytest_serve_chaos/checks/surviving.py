"""How many of the victims' replicas are unchanged afterwards."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

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
        victims = [c for c in components.before.of("replica") if c.identity in components.victims]
        if not victims:
            yield Unknown(f"no replica was among the victims. Demanded: surviving={self.share:g}.")
            return
        alive = {c.identity for c in components.after.components} - components.gone
        dead = Counter(c.deployment or "" for c in victims if c.identity not in alive)
        stopped = sum(min(n, components.scaling.stopped.get(name, 0)) for name, n in dead.items())
        staying = len(victims) - stopped
        left, needed = len(victims) - dead.total(), least(staying, self.share) if staying else 0
        if left < needed:
            without = f" of those that Serve did not scale away ({stopped})" if stopped else ""
            yield Missed(
                f"{left} of {number(len(victims), 'replica')} of before the fault are left. Demanded: {needed}{without}"
                f" ({limit_percent(self.share)}, and one may always be gone)."
            )


def least(replicas: int, share: float) -> int:
    """How many of so many replicas must be unchanged."""
    return replicas - max(1, math.floor((1 - share) * replicas + 1e-9))


def demanded(expected: Expectations) -> Iterator[Check]:
    """The check for `surviving`, if it is demanded."""
    if expected.surviving is not None:
        yield Surviving(expected.surviving)
