"""What the events of a test tell of it so far."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pytest_serve_chaos.events import WORKERS, ComponentCame, ComponentGone, Demanded, Event, Phase, PhaseBegan
from pytest_serve_chaos.model import Component


@dataclass(frozen=True, slots=True)
class Gone:
    """A process or node that is gone.

    Attributes:
        component: Which.
        since: From when on, monotonic seconds.
    """

    component: Component
    since: float


@dataclass(slots=True)
class Story:
    """What has happened since a test got its cluster.

    Attributes:
        begun: When what is timed now began: the test, or the latest of its experiments. Monotonic seconds.
        phase: Of the experiment; None outside of one.
        entered: When that phase began; 0.0: none has.
        gone: Who went and has no successor, the first to go first.
    """

    begun: float
    phase: Phase | None = None
    entered: float = 0.0
    gone: list[Gone] = field(default_factory=list)
    _inside: bool = False
    _more: Counter[tuple[str, str]] = field(default_factory=Counter)

    def tell(self, events: Iterable[Event]) -> bool:
        """Takes in what happened next; whether an experiment began with it."""
        began = False
        for event in events:
            if isinstance(event, Demanded):
                began |= self._demanded(event)
            elif isinstance(event, PhaseBegan):
                self._entered(event)
            elif isinstance(event, ComponentGone):
                self._went(Gone(event.component, event.at))
            elif isinstance(event, ComponentCame):
                self._came(event.component)
        return began

    def _demanded(self, event: Demanded) -> bool:
        """Whether an experiment begins with these demands; others adapt those of the same, or are of other traffic."""
        if event.source or self._inside:
            return False
        self.begun, self.phase, self._inside = event.at, None, True
        self._more.clear()
        return True

    def _entered(self, event: PhaseBegan) -> None:
        if self._inside:  # traffic of a test by hand has a steady state, too
            self.phase, self.entered, self._inside = event.phase, event.at, event.phase is not Phase.DONE

    def _went(self, gone: Gone) -> None:
        place = _place(gone.component)
        if self._more[place]:  # its successor came first, as in an update
            self._more[place] -= 1
        else:
            self.gone.append(gone)

    def _came(self, newcomer: Component) -> None:
        place = _place(newcomer)
        for one in self.gone:
            if _place(one.component) == place:
                self.gone.remove(one)
                return
        self._more[place] += 1

    def missing(self, lacking: Mapping[str, int]) -> list[Gone]:
        """Who is gone and must come back, as far as that is known.

        Args:
            lacking: How many fewer there are than there should be, of the replicas of each deployment and of
                ``workers``. Who went because there are to be fewer is not missing.
        """
        found: list[Gone] = []
        left = dict(lacking)
        for one in reversed(self.gone):
            group = _group(one.component)
            if group is None or left.get(group, 0) > 0:
                found.append(one)
                if group is not None:
                    left[group] -= 1
        fewer = {one.component.node for one in self.gone if one.component.role == "worker" and one not in found}
        return [one for one in reversed(found) if one.component.node not in fewer]


def _place(component: Component) -> tuple[str, str]:
    """What a successor fills again. Serve may start a replica, or the controller, on another node."""
    if component.role == "replica":
        return component.role, component.deployment or ""
    return component.role, "" if component.role == "controller" else component.node


def _group(component: Component) -> str | None:
    """Whose number may change: that of the replicas of its deployment, or that of the workers."""
    if component.role == "replica":
        return component.deployment or ""
    return WORKERS if component.role == "worker" else None
