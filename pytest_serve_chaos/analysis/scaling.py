"""What autoscalers did since the steady state: neither what they take away nor what they add is the fault's doing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from pytest_serve_chaos.events import (
    WORKERS,
    ComponentCame,
    ComponentGone,
    Event,
    FaultLanded,
    RedundancyBack,
    Rescaled,
    of_kind,
)
from pytest_serve_chaos.model import HEAD, Component, Identity, Topology


@dataclass(frozen=True, slots=True)
class Scaling:
    """What autoscalers, and updates that change a number of replicas, may have done.

    Attributes:
        deployments: The deployments (``app#Deployment``) that Serve scales, or whose number an update changed.
        stopped: How many replicas Serve may have stopped, of each of these, because it wanted fewer.
        needed: How many replicas there must be, of each of these: the fewest that Serve wanted since all that it
            wanted was there. What it wanted only later may still be on its way.
        workers_stopped: How many workers Ray's autoscaler may have removed.
        spared: The victims of faults that leave them alive, as an update that changes options does: an autoscaler may
            have stopped some of them, as it may have stopped all others.
    """

    deployments: frozenset[str] = frozenset()
    stopped: Mapping[str, int] = field(default_factory=dict)
    needed: Mapping[str, int] = field(default_factory=dict)
    workers_stopped: int = 0
    spared: frozenset[Identity] = frozenset()

    def lost(
        self,
        matched: Collection[Component],
        before: Topology,
        living: Collection[Component],
        victims: Collection[Identity],
    ) -> list[Component]:
        """Those of the components that are not alive, and that no autoscaler took away.

        Who of several was taken away, and who was lost, nobody can tell afterwards: all of them are lost if more are
        gone than an autoscaler wanted fewer.

        Args:
            matched: Components of the steady state.
            before: All of that steady state.
            living: Who is alive.
            victims: What the fault was aimed at. Unless it spared that, no autoscaler took it away.
        """
        alive = {c.identity for c in living}
        hit = set(victims) - self.spared
        gone = [c for c in before.components if c.identity not in alive and c.identity not in hit]
        workers = {c.node for c in gone if c.role == "worker"}
        removed = workers if len(workers) <= self.workers_stopped else set()
        count = Counter(c.deployment for c in gone if c.role == "replica" and c.node not in removed)
        scaled_down = {name for name, n in count.items() if name and n <= self.stopped.get(name, 0)}
        emptied = self._emptied(before, living, hit, scaled_down)
        taken = {
            c.identity
            for c in gone
            if c.node in removed or c.deployment in scaled_down or (c.role == "proxy" and c.node in emptied)
        }
        return [c for c in matched if c.identity not in alive and c.identity not in taken]

    def _emptied(
        self,
        before: Topology,
        living: Collection[Component],
        hit: Collection[Identity],
        scaled_down: Collection[str],
    ) -> set[str]:
        """The nodes whose replicas were all taken away: Serve ends the proxy of a node without replicas.

        A victim whose deployment has fewer replicas now may have a successor elsewhere, or none.
        """
        alive = {c.identity for c in living}
        serving = {c.node for c in living if c.role == "replica"}

        def taken(replica: Component) -> bool:
            name = replica.deployment or ""
            fewer = bool(self.stopped.get(name)) if replica.identity in hit else name in scaled_down
            return fewer and replica.identity not in alive

        nodes = {c.node for c in before.of("replica")} - {HEAD} - serving
        return {node for node in nodes if all(map(taken, before.of("replica", on=node)))}


NO_SCALING = Scaling()


def scaling_of(
    autoscaled: Collection[str], events: Sequence[Event], before: Topology | None, after: Topology | None
) -> Scaling:
    """What autoscalers did, as far as it was seen.

    Args:
        autoscaled: The deployments that Serve scales.
        events: What happened since the steady state was seen, up to `after`.
        before: Who was alive in that steady state. None: that was not seen.
        after: Who is alive now, or was at the end. None: that was not seen.
    """
    changes = of_kind(Rescaled, events)
    scaled = {*autoscaled, *(change.what for change in changes)} - {WORKERS}
    fewer = taken_away(events, before)
    back = max((e.at for e in of_kind(RedundancyBack, events)), default=None)
    wanted = {} if after is None else after.wanted
    needed = {
        name: min([wanted[name], *(n for e in changes if _since(back, e, name) for n in (e.before, e.now))])
        for name in scaled
        if name in wanted
    }
    return Scaling(
        frozenset(scaled),
        {name: fewer[name] for name in scaled if fewer[name]},
        needed,
        fewer[WORKERS],
        frozenset(victim for e in of_kind(FaultLanded, events) if e.spared for victim in e.victims),
    )


def taken_away(events: Sequence[Event], before: Topology | None) -> Counter[str]:
    """How many replicas of each deployment, and how many workers, an autoscaler may have taken away.

    A step down takes away what is there in addition to the new number, and no more than the step. So one that follows a
    step up takes away nothing as long as nothing came of that: it takes back what was wanted, and was not there yet.

    Args:
        events: What happened since `before`.
        before: Who was alive. Of what was there in addition to what was wanted, the rest was on its way out. None: that
            was not seen, so all that was wanted counts as there.
    """
    victims = {victim for event in of_kind(FaultLanded, events) if not event.spared for victim in event.victims}
    there: dict[str, int] = {}
    came, lost, fewer = Counter[str](), Counter[str](), Counter[str]()
    if before is not None:
        there = Counter(map(_scaled, before.components))
        fewer.update({name: max(0, there[name] - number) for name, number in before.wanted.items()})
    for event in sorted(events, key=lambda event: event.at):
        if isinstance(event, ComponentCame):
            came[_scaled(event.component)] += 1
        elif isinstance(event, ComponentGone) and event.component.identity in victims:
            lost[_scaled(event.component)] += 1
        elif isinstance(event, Rescaled):
            what = event.what
            at_first = there.setdefault(what, event.before) if before is None else there[what]
            # The first that come succeed the victims.
            living = at_first + max(0, came[what] - lost[what]) - fewer[what]
            fewer[what] += min(max(0, event.before - event.now), max(0, living - event.now))
    return fewer


def _scaled(component: Component) -> str:
    """Of whose number it is one: its deployment's, the workers', or nobody's ("")."""
    return WORKERS if component.role == "worker" else component.deployment or ""


def _since(back: float | None, change: Rescaled, name: str) -> bool:
    """Whether that number was changed after all that was wanted had been there."""
    return back is not None and change.at > back and change.what == name
