"""The components before and after a fault: who was replaced, who was kept, and who an autoscaler took away."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from pytest_serve_chaos.analysis import identities
from pytest_serve_chaos.analysis.identities import Finding
from pytest_serve_chaos.analysis.scaling import NO_SCALING, Scaling, scaling_of
from pytest_serve_chaos.events import ComponentCame, ComponentGone, Event, Moment, TopologySeen, of_kind
from pytest_serve_chaos.model import Identity, Topology


@dataclass(frozen=True, slots=True)
class Components:
    """Who was alive in steady state and when all was over, with what is known of those in between.

    Attributes:
        before: Who was alive in steady state; None: that was not seen.
        after: Who was alive when all was over; None: that was not seen.
        gone: What was seen to go, and did not come again, until `after` was taken.
        victims: What the faults were aimed at.
        scaling: What autoscalers did between the two.
    """

    before: Topology | None = None
    after: Topology | None = None
    gone: frozenset[Identity] = frozenset()
    victims: tuple[Identity, ...] = ()
    scaling: Scaling = NO_SCALING

    @property
    def unseen(self) -> str:
        """What was not seen of the two topologies, as a clause; "" if both were."""
        if self.before is not None and self.after is not None:
            return ""
        return f"it was not seen who was alive {'before the fault' if self.before is None else 'after it'}"

    def replaced(self, selector: str) -> Finding:
        """Whether none of those that the selector chooses is alive afterwards, and as many are there again.

        Raises:
            SettingsError: There is no such role.
        """
        identities.parse_selector(selector)
        if self.before is None or self.after is None:
            return Finding(False, self.unseen)
        return identities.replaced(
            self.before, self.after, selector, self.gone, victims=self.victims, scaling=self.scaling
        )

    def kept(self, selector: str) -> Finding:
        """Whether each of those that the selector chooses is alive afterwards, with the same identity.

        Raises:
            SettingsError: There is no such role.
        """
        identities.parse_selector(selector)
        if self.before is None or self.after is None:
            return Finding(False, self.unseen)
        return identities.kept(self.before, self.after, selector, self.gone, victims=self.victims, scaling=self.scaling)


def components_of(
    events: Sequence[Event], *, end: float, autoscaled: Collection[str], victims: tuple[Identity, ...]
) -> Components:
    """What the events of one experiment say of the components.

    Args:
        events: In order of time.
        end: When the observation ended; until then counts what is not in a topology afterwards.
        autoscaled: The deployments that Serve's autoscaler scales.
        victims: What the faults were aimed at.
    """
    seen = of_kind(TopologySeen, events)
    first = next((event for event in seen if event.moment is Moment.BEFORE), None)
    last = next((event for event in reversed(seen) if event.moment is Moment.AFTER), None)
    before, begin = (None, -math.inf) if first is None else (first.topology, first.at)
    after, until = (None, end) if last is None else (last.topology, last.at)
    inside = [event for event in events if begin <= event.at <= until]
    scaling = scaling_of(autoscaled, inside, before, after)
    return Components(before, after, _gone(events, until), victims, scaling)


def _gone(events: Sequence[Event], until: float) -> frozenset[Identity]:
    """What went and did not come again by then; what goes later goes because the cluster gets its first shape back."""
    there: dict[Identity, bool] = {}
    for event in events:
        if isinstance(event, (ComponentGone, ComponentCame)) and event.at <= until:
            there[event.component.identity] = isinstance(event, ComponentCame)
    return frozenset(identity for identity, is_there in there.items() if not is_there)
