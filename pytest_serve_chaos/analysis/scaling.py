"""What autoscalers did since the steady state: neither what they take away nor what they add is the fault's doing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pytest_serve_chaos.events import WORKERS, Event, RedundancyBack, Rescaled, of_kind
from pytest_serve_chaos.model import HEAD, Component, Identity, Topology


@dataclass(frozen=True, slots=True)
class Scaling:
    """What autoscalers may have done.

    Attributes:
        deployments: The deployments (``app#Deployment``) that Serve scales.
        stopped: How many replicas Serve may have stopped, of each of these, because it wanted fewer.
        needed: How many replicas there must be, of each of these: the fewest that Serve wanted since all that it
            wanted was there. What it wanted only later may still be on its way.
        workers_stopped: How many workers Ray's autoscaler may have removed.
    """

    deployments: frozenset[str] = frozenset()
    stopped: Mapping[str, int] = field(default_factory=dict)
    needed: Mapping[str, int] = field(default_factory=dict)
    workers_stopped: int = 0

    def lost(
        self,
        matched: Collection[Component],
        before: Topology,
        alive: Collection[Identity],
        victims: Collection[Identity],
    ) -> list[Component]:
        """Those of the components that are not alive, and that no autoscaler took away.

        Who of several was taken away, and who was lost, nobody can tell afterwards: all of them are lost if more are
        gone than an autoscaler wanted fewer.

        Args:
            matched: Components of the steady state.
            before: All of that steady state.
            alive: Who is alive.
            victims: What the fault was aimed at. No autoscaler took that away.
        """
        gone = [c for c in before.components if c.identity not in alive and c.identity not in victims]
        workers = {c.node for c in gone if c.role == "worker"}
        removed = workers if len(workers) <= self.workers_stopped else set()
        count = Counter(c.deployment for c in gone if c.role == "replica" and c.node not in removed)
        scaled_down = {name for name, n in count.items() if name and n <= self.stopped.get(name, 0)}
        emptied = self._emptied(before, alive, scaled_down)
        taken = {
            c.identity
            for c in gone
            if c.node in removed or c.deployment in scaled_down or (c.role == "proxy" and c.node in emptied)
        }
        return [c for c in matched if c.identity not in alive and c.identity not in taken]

    def _emptied(self, before: Topology, alive: Collection[Identity], scaled_down: Collection[str]) -> set[str]:
        """The nodes whose replicas were all taken away: Serve ends the proxy of a node without replicas."""
        nodes = {c.node for c in before.of("replica")} - {HEAD}
        return {
            node
            for node in nodes
            if all(c.identity not in alive and c.deployment in scaled_down for c in before.of("replica", on=node))
        }


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
    fewer = taken_away(changes, before)
    back = max((e.at for e in of_kind(RedundancyBack, events)), default=None)
    wanted = {} if after is None else after.wanted
    needed = {
        name: min([wanted[name], *(n for e in changes if _since(back, e, name) for n in (e.before, e.now))])
        for name in autoscaled
        if name in wanted
    }
    return Scaling(
        frozenset(autoscaled),
        {name: fewer[name] for name in autoscaled if fewer[name]},
        needed,
        fewer[WORKERS],
    )


def taken_away(changes: Iterable[Rescaled], before: Topology | None) -> Counter[str]:
    """How many replicas of each deployment, and how many workers, an autoscaler may have taken away.

    Args:
        changes: What it wanted otherwise since `before`.
        before: Who was alive. Of what was there in addition to what was wanted, the rest was on its way out.
    """
    fewer: Counter[str] = Counter()
    for change in changes:
        fewer[change.what] += max(0, change.before - change.now)
    there = Counter() if before is None else Counter(c.deployment or "" for c in before.of("replica"))
    for name, number in ({} if before is None else before.wanted).items():
        living = len(before.of("worker")) if before is not None and name == WORKERS else there[name]
        fewer[name] += max(0, living - number)
    return fewer


def _since(back: float | None, change: Rescaled, name: str) -> bool:
    """Whether that number was changed after all that was wanted had been there."""
    return back is not None and change.at > back and change.what == name
