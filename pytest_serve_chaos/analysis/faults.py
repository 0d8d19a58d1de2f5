"""The faults of an experiment: what was asked for, what landed, and on whom."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pytest_serve_chaos.events import (
    NOT_PROVED,
    BrokenOff,
    Event,
    EvidenceSeen,
    FaultAsked,
    FaultHealed,
    FaultLanded,
    Judged,
    Note,
    PhaseBegan,
    Restored,
    of_kind,
)
from pytest_serve_chaos.model import Evidence, Identity

_NEXT = (PhaseBegan, FaultAsked, FaultHealed, Judged, BrokenOff, Restored)
"""What comes only when nobody waits any more for a fault to land."""


@dataclass(frozen=True, slots=True)
class Faults:
    """All faults of one experiment, in the order in which they were asked for.

    Attributes:
        asked: What was asked for.
        landed: What landed.
        evidence: The signs that it landed.
    """

    asked: tuple[FaultAsked, ...] = ()
    landed: tuple[FaultLanded, ...] = ()
    evidence: tuple[Evidence, ...] = ()

    @property
    def text(self) -> str:
        """What was broken and how, in words; "" if nothing was."""
        return "; ".join(event.text for event in self.asked)

    @property
    def markers(self) -> frozenset[str]:
        """The markers of the faults: ``head_failure``."""
        return frozenset(event.fault for event in self.asked)

    @property
    def victims(self) -> tuple[Identity, ...]:
        """What the faults were aimed at."""
        return tuple(victim for event in self.landed for victim in event.victims)

    @property
    def have_landed(self) -> bool:
        """Whether each fault that was asked for landed, and at least one was."""
        return bool(self.landed) and not self.not_landed

    @property
    def not_landed(self) -> tuple[FaultAsked, ...]:
        """What was asked for, had to land, and did not. Each fault needs evidence of its own.

        A fault that does not have to land (``must_land=False``) is not among them if another one landed.
        """
        numbers = {event.injection for event in self.landed}
        missing = [event for event in self.asked if event.injection not in numbers]
        if None in numbers or any(event.injection is None for event in self.asked):  # a history of an older version
            missing = list(self.asked[len(self.landed) :])
        return tuple(event for event in missing if not self.landed or event.must_land)

    def idle(self, source: str | None) -> int:
        """How many faults landed on victims that had answered nothing.

        Args:
            source: Of the traffic of that source; None: of any traffic.
        """
        if source is None:
            return sum(event.served == 0 and not any(event.served_others.values()) for event in self.landed)
        return sum(event.served_others.get(source, event.served) == 0 for event in self.landed)


def was_cut_off(asked: FaultAsked, events: Iterable[Event]) -> bool:
    """Whether a history ends while the plugin waited for a fault to land, so that nobody knows whether it did."""
    later = [event for event in events if event.at > asked.at]
    is_over = any(event.text.startswith(NOT_PROVED) for event in of_kind(Note, later))
    return not is_over and not any(isinstance(event, (FaultLanded, *_NEXT)) for event in later)


def faults_of(events: Iterable[Event]) -> Faults:
    """The faults among the events of one experiment, which are in order of time."""
    events = tuple(events)
    signs = tuple(event.evidence for event in of_kind(EvidenceSeen, events))
    return Faults(of_kind(FaultAsked, events), of_kind(FaultLanded, events), signs)
