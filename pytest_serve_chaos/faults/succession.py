"""Who is there after a fault: the very same as before, successors, or nobody."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pytest_serve_chaos import clock
from pytest_serve_chaos.analysis.identities import Finding, kept, nobody, replaced
from pytest_serve_chaos.analysis.scaling import scaling_of
from pytest_serve_chaos.clock import NotYet, seconds
from pytest_serve_chaos.errors import Inconclusive, WaitTimeout
from pytest_serve_chaos.events import Rescaled
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.history import ExperimentLog
from pytest_serve_chaos.model import Component, Topology


@dataclass(frozen=True, slots=True)
class Succession:
    """Compares who is alive with who was before a fault.

    Attributes:
        rig: The cluster under test, and what is recorded about it.
        log: Where Serve's and Ray's scaling since then is written.
        before: Who was alive before the fault.
        victims: What it hit.
    """

    rig: Rig
    log: ExperimentLog
    before: Topology
    victims: tuple[Component, ...]

    def replaced(self, selectors: Sequence[str], on: str | None) -> bool:
        """Whether all of these have new identities.

        Raises:
            Inconclusive: Nobody is named, or a selector selects nobody.
        """
        return self._all(replaced, selectors, on)

    def kept(self, selectors: Sequence[str], on: str | None) -> bool:
        """Whether all of these are the very same as before the fault.

        Raises:
            Inconclusive: Nobody is named, or a selector selects nobody.
        """
        return self._all(kept, selectors, on)

    def _all(self, holds: Callable[..., Finding], selectors: Sequence[str], on: str | None) -> bool:
        victims = frozenset(victim.identity for victim in self.victims)
        chosen = self._chosen(selectors, on)
        if self.rig.health.scales:
            self.rig.watcher.ask()  # an autoscaler may have wanted fewer just now
        now, gone = self.rig.watcher.sample(), self.rig.watcher.gone
        events = self.log.since(self.before.at)
        scaling = scaling_of(self.rig.health.shape.autoscaled, events, self.before, now)
        return all(holds(self.before, now, one, gone, victims=victims, scaling=scaling).holds for one in chosen)

    def _chosen(self, selectors: Sequence[str], on: str | None) -> list[str]:
        """The selectors, of which each selects somebody."""
        if not selectors:
            raise Inconclusive("no selector, so there is nothing to compare", fix=['name a role: kept("replicas")'])
        chosen = [name if on is None else f"{name}@{on}" for name in selectors]
        victims = frozenset(victim.identity for victim in self.victims)
        for one in chosen:
            if reason := nobody(self.before, one, victims=victims):
                raise Inconclusive(f"{reason}, so there is nothing to compare")
        return chosen

    def nobody_comes(self, duration: float | str) -> bool:
        """Whether no successor of the victims comes for that long; returns as soon as one does.

        Raises:
            Inconclusive: It is unknown what the fault hit.
        """
        had = {c.identity for c in self.before.components}
        wanted = {place(victim) for victim in self.victims}
        if not wanted:
            raise Inconclusive("it is unknown what the fault hit, so nothing can be missing")

        def successor() -> bool | NotYet:
            came = Counter(place(c) for c in self.rig.watcher.sample().components if c.identity not in had)
            more = Counter[tuple[str, str]]()  # those that come because Serve scales up succeed nobody
            for change in self.log.of(Rescaled, since=self.before.at):
                more["replica", change.what] += max(0, change.now - change.before)
            return any(came[where] > more[where] for where in wanted) or NotYet("no successor")

        try:
            clock.wait_until("a successor", successor, timeout=seconds(duration))  # looks at the end as well
        except WaitTimeout:
            return True
        return False


def place(component: Component) -> tuple[str, str]:
    """What a successor fills again: a deployment, the controller, or that role on that node."""
    if component.role == "replica":
        return component.role, component.deployment or ""
    return component.role, "" if component.role == "controller" else component.node
