"""The replicas that an update of an app concerns: which of them are new, and what shape the new version gives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from pytest_serve_chaos import clock
from pytest_serve_chaos.cluster.app_updates import SCALING, Planned
from pytest_serve_chaos.cluster.rest import ReplicaRow, ServeStatus, autoscaled
from pytest_serve_chaos.model import Component, Evidence, Topology
from pytest_serve_chaos.observe.shape import Shape


@dataclass(frozen=True, slots=True)
class UpdatedReplicas:
    """Tells the replicas of an update from those that were there before.

    Attributes:
        planned: The update.
        old: The replicas of before.
        known: Serve's ids of these.
        targets: How many replicas of each deployment Serve wanted before.
    """

    planned: Planned
    old: tuple[Component, ...]
    known: frozenset[str]
    targets: Mapping[str, int]

    def sign(self, now: Topology) -> Evidence | None:
        """That one of the old has ended or a new one has started; None as long as neither is so."""
        gone = [c for c in self.old if now.find(c.identity) is None]
        if gone:
            return Evidence(clock.now(), "victim", f"{gone[0].name} (PID {gone[0].pid}) has ended")
        new = self.came(now)
        return Evidence(clock.now(), "victim", f"{new[0].name} (PID {new[0].pid}) has started") if new else None

    def came(self, now: Topology) -> list[Component]:
        """Those that came since the update."""
        old = {c.identity for c in self.old}
        new = [c for c in now.of("replica") if self._concerns(c.deployment or "") and c.identity not in old]
        return [c for c in new if c.replica is None or c.replica not in self.known]

    def listed_since(self, status: ServeStatus) -> list[ReplicaRow]:
        """Those that Serve lists and did not list before; none if they may be those of a scale-up alone.

        While Serve imports the new version, it goes on with scaling the old one.
        """
        new = [r for r in status.replicas if r.replica_id not in self.known]
        new = [r for r in new if self._concerns(f"{r.app}#{r.deployment}")]
        scaled = autoscaled(status)
        count = Counter(f"{r.app}#{r.deployment}" for r in new)
        of_the_update = {
            name
            for name, n in count.items()
            if name not in scaled
            or status.deployments.get(name) not in ("HEALTHY", *SCALING)
            or n > max(0, status.targets.get(name, 0) - self.targets.get(name, 0))
        }
        return [r for r in new if f"{r.app}#{r.deployment}" in of_the_update]

    def _concerns(self, deployment: str) -> bool:
        return deployment in self.planned.deployments


def is_complete(status: ServeStatus | None, deployment: str) -> bool:
    """Whether Serve scales a deployment, and says that all of its replicas are of the version that it wants.

    A replica that came while an update began may be of the old version, if Serve scaled up just then.
    """
    return status is not None and deployment in autoscaled(status) and status.deployments.get(deployment) == "HEALTHY"


def planned_shape(shape: Shape, planned: Planned) -> Shape:
    """The shape of a cluster whose app has the number of replicas that the update wants."""
    changed = planned.new.replicas
    placement = {name: counts for name, counts in shape.placement.items() if name not in changed}
    return replace(shape, replicas={**shape.replicas, **changed}, placement=placement)


def shape_of_new_code(shape: Shape, planned: Planned, status: ServeStatus) -> Shape:
    """The shape with as many replicas as the new version has, or with the numbers between which Serve scales it.

    Serve has them from the config or from the code, which it imports first: until the app runs, the shape is the same.
    """
    runs = status.apps.get(planned.new.app) == "RUNNING" and not planned.new.accepted(status)
    if planned.wanted.change != "code" or planned.wanted.bad is not None or not runs:
        return shape
    app, ranges = f"{planned.new.app}#", autoscaled(status)
    numbers = {name: n for name, n in status.targets.items() if name.startswith(app)}
    others = {name: n for name, n in shape.replicas.items() if not name.startswith(app)}
    scaled = {name: between for name, between in shape.autoscaled.items() if not name.startswith(app)}
    scaled |= {name: between for name, between in ranges.items() if name.startswith(app)}
    same = [name for name in shape.placement if name not in numbers or shape.replicas.get(name) == numbers[name]]
    placement = {name: counts for name, counts in shape.placement.items() if name in same}
    return replace(shape, replicas={**others, **numbers}, autoscaled=scaled, placement=placement)
