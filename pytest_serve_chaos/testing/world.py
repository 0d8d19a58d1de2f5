"""What lives in a fake cluster: how it dies, and how a platform and a controller bring it back."""

from __future__ import annotations

import itertools
import re
import signal
import threading

from pytest_serve_chaos import clock
from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.errors import NoSuchTarget
from pytest_serve_chaos.model import HEAD, Identity, Json
from pytest_serve_chaos.testing.behaviour import FakeBehaviour
from pytest_serve_chaos.testing.gcs import GcsTables
from pytest_serve_chaos.testing.parts import Part, Parts
from pytest_serve_chaos.testing.plan import Plan, Slot
from pytest_serve_chaos.testing.restarts import Restarts
from pytest_serve_chaos.testing.rollouts import Rollouts

_TICK = 0.03


class World:
    """All that lives in a fake cluster. Time passes when somebody looks: `tick` does what is due.

    Its methods are safe to call from several threads. It has one method for each thing that can happen to it, so a
    subclass can change what that one does.

    Args:
        spec: The cluster that the test wants.
        behaviour: What is wrong with it.

    Attributes:
        plan: What should be there.
        gcs: What the GCS has recorded.
        parts: What is there.
        held: Nodes that do not come back until somebody lets them.
        retired: Proxies that get no more connections, and answer on those that they have.
        rollouts: How updates of apps reach their replicas.
        log: What happened, with monotonic seconds.
        struck: When the first fault was; None before it.
        to_fail: How many of the next requests fail.
    """

    def __init__(self, spec: ClusterSpec, behaviour: FakeBehaviour) -> None:
        self.lock = threading.RLock()
        self.spec = spec
        self.behaviour = behaviour
        self.plan = Plan(spec, behaviour)
        self.gcs = GcsTables(self.plan, behaviour)
        self.parts = Parts()
        self.held: set[str] = set()
        self.retired: list[Part] = []
        self.log: list[tuple[float, str]] = []
        self.struck: float | None = None
        self.to_fail = 0
        self.rollouts = Rollouts(self.plan, behaviour)
        self._restarts = Restarts(self.plan, behaviour, self.parts, self.gcs, self.rollouts)
        self._requests = itertools.count()
        self._failing: dict[Slot, tuple[float, str]] = {}
        self._next_tick = 0.0
        for slot in self.slots():
            self._restarts.fill(slot)

    def slots(self) -> list[Slot]:
        """All places that should be filled, in the order in which they are filled."""
        return self.plan.slots()

    def lines(self, since: float, pattern: str | None) -> tuple[str, ...]:
        """The lines of the log since then that match."""
        with self.lock:
            return tuple(text for at, text in self.log if at >= since and re.search(pattern or "", text))

    # -- time ---------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Does what is due: failing replicas die, and empty slots are filled."""
        now = clock.now()
        if now < self._next_tick:
            return
        with self.lock:
            self._next_tick = now + _TICK
            for slot, mode in [(slot, mode) for slot, (due, mode) in self._failing.items() if now >= due]:
                name = self.parts[slot].replica_id
                self.log.append((now, f"WARNING Health check for replica {name} failed, for it {mode}s"))
                self.kill([slot])
            lonely = self._restarts.lonely_workers(now)
            if lonely is not None:
                self.kill([slot for slot in self.parts if slot.node in lonely])
            self._restarts.restart_children(now)
            wanted = self.slots()
            for slot in self.parts.keys() - set(wanted):
                del self.parts[slot]
            for slot in self.rollouts.outdated(self.parts, wanted) if self.parts.controller_works else []:
                del self.parts[slot]
            for slot in self.rollouts.unhealthy(self.parts, now):
                self.kill([slot])
            self._restarts.refill(wanted, self.held, now)

    # -- requests -----------------------------------------------------------------------------------------------

    def takes_request(self) -> bool:
        """Notes a request of a client; False where it fails."""
        with self.lock:
            self.plan.scaled_up = self.plan.scaled_up or self.behaviour.autoscales == "with traffic"
            if self.to_fail:
                self.to_fail -= 1
                return False
            lossy = self.struck is not None and clock.now() < self.struck + self.behaviour.lossy_for
            return not lossy or next(self._requests) % 2 == 0

    # -- what can happen to it ----------------------------------------------------------------------------------

    def strike(self) -> None:
        """Notes a fault, with the first of which the behaviour may change. All that breaks something calls it."""
        with self.lock:
            self.struck = clock.now() if self.struck is None else self.struck
            if self.behaviour.autoscales in ("with a fault", "down with a fault"):
                self.plan.scaled_up = self.behaviour.autoscales == "with a fault"

    def kill(self, slots: list[Slot], *, new_controller: bool = False) -> None:
        """Ends the parts in these slots.

        Args:
            slots: Their places.
            new_controller: Whether the next controller is another actor, as after `ray.kill`.
        """
        with self.lock:
            self.strike()
            for slot in [*slots, *self._taken_along(slots)]:
                part = self.parts.pop(slot)
                self._failing.pop(slot, None)
                self.log.append((clock.now(), f"ERROR {part.component.name} (PID {part.pid}) died"))
                self.gcs.end(part)
            if new_controller:
                self._restarts.new_controller()
                for proxy in self.parts.of("proxy") if self.behaviour.stale_proxies else []:
                    proxy.stale_routes = frozenset(self.plan.routes())

    def _taken_along(self, slots: list[Slot]) -> list[Slot]:
        if [slot.role for slot in slots] != ["replica"]:
            return []
        others = [p.slot for p in self.parts.of("replica") if p.slot.deployment == slots[0].deployment]
        return [slot for slot in others if slot not in slots][: self.behaviour.takes_along]

    def kill_node(self, node: str) -> None:
        """Ends all that is on a node; without its head, a cluster without a store loses its workers too."""
        with self.lock:
            nodes = self.plan.node_names if node == HEAD and self.spec.gcs == "none" else (node,)
            self.kill([slot for slot in self.parts if slot.node in nodes])
            if node == HEAD:
                self.to_fail = self.behaviour.outage

    def update(self, config: dict[str, Json]) -> None:
        """Takes a Serve config; replicas of code that it changes are replaced one by one."""
        with self.lock:
            if self.rollouts.changes(config):
                self.strike()
            for name in self.rollouts.take(config):
                self.log.append((clock.now(), f"INFO Updating 1 replicas of {name} with outdated deployment configs."))

    def replace_all(self) -> None:
        """Replaces all but Redis from one moment to the next, as where a second cluster takes over."""
        with self.lock:
            self.strike()
            self.retired += self.parts.of("proxy")
            self.gcs.nodes.clear()
            self._restarts.new_controller()
            for slot in self.slots():
                if slot.role != "redis":
                    self._restarts.fill(slot)

    def signal(self, identity: Identity, number: int) -> None:
        """Sends a signal to one process; the head goes with its GCS, and each node with its raylet.

        Raises:
            NoSuchTarget: The process is gone.
        """
        with self.lock:
            replica = self.parts.with_child(identity)
            if replica is not None:
                self._signal_child(replica, number)
                return
            part = self.parts.by_identity(identity)
            if part is None:
                raise NoSuchTarget(f"{identity} is gone")
            if number in (signal.SIGSTOP, signal.SIGCONT):
                part.frozen = number == signal.SIGSTOP
                if part.frozen:
                    self.strike()
            elif part.slot.role in ("gcs", "raylet"):
                self.kill_node(part.slot.node)
            else:
                self.kill([part.slot])

    def _signal_child(self, replica: Part, number: int) -> None:
        if number in (signal.SIGSTOP, signal.SIGCONT):
            replica.child_frozen = number == signal.SIGSTOP
        else:
            replica.child, replica.child_frozen, replica.child_died = 0, False, clock.now()
        if number != signal.SIGCONT:
            self.strike()
        if not replica.child and self.behaviour.engine == "dying":
            self.kill([replica.slot])

    def freeze_node(self, node: str, *, frozen: bool) -> int:
        """Stops all processes of a node, or resumes them; returns how many."""
        with self.lock:
            parts = [part for part in self.parts.values() if part.slot.node == node]
            for part in parts:
                part.frozen = frozen
            if frozen:
                self.strike()
            return len(parts)

    def fail_check(self, identity: Identity, mode: str) -> None:
        """The health check of a replica fails from now on; the third failure ends it."""
        with self.lock:
            self.strike()
            part = self.parts.by_identity(identity)
            if part is not None:
                self._failing[part.slot] = (clock.now() + self.behaviour.back_after, mode)
