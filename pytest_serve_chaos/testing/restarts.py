"""How the platform and the controller of a fake cluster bring back what died."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable

from pytest_serve_chaos.model import HEAD, Role
from pytest_serve_chaos.testing.behaviour import FakeBehaviour
from pytest_serve_chaos.testing.gcs import GcsTables
from pytest_serve_chaos.testing.parts import Part, Parts
from pytest_serve_chaos.testing.plan import Plan, Slot
from pytest_serve_chaos.testing.rollouts import Rollouts

_STARTED_BY_THE_PLATFORM: tuple[Role, ...] = ("redis", "head", "worker", "raylet", "gcs")
"""Parts that need their time from when they may start; actors that fell with them wait for no more than these."""


class Restarts:
    """Fills the slots of a fake cluster, at first and again. The caller holds the lock of the world.

    Args:
        plan: What should be there.
        behaviour: What is wrong with the cluster.
        parts: What is there.
        gcs: What the GCS has recorded.
        rollouts: How updates of apps reach their replicas.
    """

    def __init__(self, plan: Plan, behaviour: FakeBehaviour, parts: Parts, gcs: GcsTables, rollouts: Rollouts) -> None:
        self._plan = plan
        self._behaviour = behaviour
        self._parts = parts
        self._gcs = gcs
        self._rollouts = rollouts
        self._pids = itertools.count(1001)
        self._ids = itertools.count(1)
        self._children = itertools.count(50_001)
        self._controller_id = ""
        self._empty_since: dict[Slot, float] = {}
        self._without_gcs_since: float | None = None

    def new_controller(self) -> None:
        """The next controller is another actor."""
        self._controller_id = ""

    def fill(self, slot: Slot) -> None:
        """Starts a part in a slot."""
        number = next(self._ids)
        part = Part(slot, next(self._pids), None, f"r{number:03}")
        part.child = next(self._children) if slot.role == "replica" else 0
        if slot.role == "replica":
            self._rollouts.stamp(part)
        if slot.role in ("head", "worker"):
            self._gcs.add_node(number, slot.node)
        elif slot.role == "controller":
            self._controller_id = self._controller_id or f"{number:032x}"
            part.actor_id = self._controller_id
        elif slot.needs_controller:
            part.actor_id = f"{number:032x}"
        self._parts[slot] = part
        self._empty_since.pop(slot, None)

    def refill(self, wanted: Iterable[Slot], held: Collection[str], now: float) -> None:
        """Fills the slots that are empty for long enough.

        Args:
            wanted: All that should be filled, in their order.
            held: Nodes that do not come back yet.
            now: Monotonic seconds.
        """
        for slot in wanted:
            if slot in self._parts:
                continue
            ready = self._can_fill(slot, held)
            if not ready and slot.role in _STARTED_BY_THE_PLATFORM:
                self._empty_since.pop(slot, None)
            elif now - self._empty_since.setdefault(slot, now) >= self._behaviour.back_after and ready:
                self.fill(slot)

    def restart_children(self, now: float) -> None:
        """Gives replicas whose child has died another one, where they restart it."""
        for part in self._parts.of("replica") if self._behaviour.engine == "restarted" else []:
            if not part.child and now - part.child_died >= self._behaviour.back_after:
                part.child = next(self._children)

    def lonely_workers(self, now: float) -> set[str] | None:
        """The workers that end because they have waited for a GCS for too long; None as long as none has."""
        if self._parts.of("gcs"):
            self._without_gcs_since = None
            return None
        since = self._without_gcs_since = now if self._without_gcs_since is None else self._without_gcs_since
        late = now - since >= self._behaviour.workers_wait
        return {part.slot.node for part in self._parts.of("worker")} if late else None

    def _can_fill(self, slot: Slot, held: Collection[str]) -> bool:
        if slot.role in ("head", "worker", "redis"):
            return slot.node not in held
        node = Slot("head" if slot.node == HEAD else "worker", slot.node)
        if node not in self._parts or (slot.role == "replica" and self._behaviour.keeps_holes):
            return False
        if slot.role == "raylet":
            return True
        if slot.role == "replica" and not self._rollouts.can_start(slot.deployment):
            return False
        if slot.role == "gcs":
            return self._plan.spec.gcs != "redis" or bool(self._parts.of("redis"))
        return self._parts.controller_works if slot.needs_controller else self._parts.gcs_answers
