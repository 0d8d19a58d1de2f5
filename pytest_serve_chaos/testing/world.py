"""What lives in a fake cluster: how it dies, and how a platform and a controller bring it back."""

from __future__ import annotations

import itertools
import re
import signal
import threading

from pytest_serve_chaos import clock
from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.rest import ActorRow
from pytest_serve_chaos.errors import NoSuchTarget
from pytest_serve_chaos.model import HEAD, Identity, Json, Role
from pytest_serve_chaos.testing.behaviour import FakeBehaviour
from pytest_serve_chaos.testing.gcs import GcsTables, Part
from pytest_serve_chaos.testing.plan import Plan, Slot
from pytest_serve_chaos.testing.rollouts import Rollouts

_TICK = 0.03

_STARTED_BY_THE_PLATFORM: tuple[Role, ...] = ("redis", "head", "worker", "raylet", "gcs")
"""Parts that need their time from when they may start; actors that fell with them wait for no more than these."""


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
        self.gcs = GcsTables()
        self.parts: dict[Slot, Part] = {}
        self.held: set[str] = set()
        self.retired: list[Part] = []
        self.log: list[tuple[float, str]] = []
        self.struck: float | None = None
        self.to_fail = 0
        self.rollouts = Rollouts(self.plan, behaviour)
        self._requests = itertools.count()
        self._pids = itertools.count(1001)
        self._ids = itertools.count(1)
        self._children = itertools.count(50_001)
        self._controller_id = ""
        self._empty_since: dict[Slot, float] = {}
        self._failing: dict[Slot, tuple[float, str]] = {}
        self._next_tick = 0.0
        self._without_gcs_since: float | None = None
        for slot in self.slots():
            self._fill(slot)

    def slots(self) -> list[Slot]:
        """All places that should be filled, in the order in which they are filled."""
        return self.plan.slots()

    # -- what is there ------------------------------------------------------------------------------------------

    def of(self, role: Role, node: str | None = None) -> list[Part]:
        """The parts of a role."""
        return [p for p in self.parts.values() if p.slot.role == role and node in (None, p.slot.node)]

    def by_identity(self, identity: Identity) -> Part | None:
        """The part with that identity, if it is alive."""
        return next((p for p in self.parts.values() if p.identity == identity), None)

    def gcs_answers(self) -> bool:
        """Whether the state API can be asked."""
        return any(not p.frozen for p in self.of("gcs"))

    def controller_works(self) -> bool:
        """Whether Serve's REST can be asked, and dead actors are replaced."""
        return self.gcs_answers() and any(not p.frozen for p in self.of("controller"))

    def with_child(self, identity: Identity) -> Part | None:
        """The replica that has that child."""
        return next((p for p in self.of("replica") if p.child and p.child_identity == identity), None)

    def routes_of(self, proxy: Part) -> frozenset[str]:
        """The routes that a proxy serves."""
        return frozenset(self.plan.routes()) if proxy.stale_routes is None else proxy.stale_routes

    def actor_rows(self) -> tuple[ActorRow, ...]:
        """The actors that the GCS knows."""
        return self.gcs.actors((part, self._address(part)) for part in self.parts.values() if part.actor_id is not None)

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
            self._end_lonely_workers(now)
            self._restart_children(now)
            wanted = self.slots()
            for slot in self.parts.keys() - set(wanted):
                del self.parts[slot]
            for slot in self.rollouts.outdated(self.parts, wanted) if self.controller_works() else []:
                del self.parts[slot]
            for slot in self.rollouts.unhealthy(self.parts, now):
                self.kill([slot])
            for slot in wanted:
                if slot in self.parts:
                    continue
                ready = self._can_fill(slot)
                if not ready and slot.role in _STARTED_BY_THE_PLATFORM:
                    self._empty_since.pop(slot, None)
                elif now - self._empty_since.setdefault(slot, now) >= self.behaviour.back_after and ready:
                    self._fill(slot)

    def _end_lonely_workers(self, now: float) -> None:
        """Ends the workers that have waited for a GCS for too long."""
        if self.of("gcs"):
            self._without_gcs_since = None
            return
        since = self._without_gcs_since = now if self._without_gcs_since is None else self._without_gcs_since
        if now - since >= self.behaviour.workers_wait:
            workers = {part.slot.node for part in self.of("worker")}
            self.kill([slot for slot in self.parts if slot.node in workers])

    def _restart_children(self, now: float) -> None:
        """Gives replicas whose child has died another one, where they restart it."""
        for part in self.of("replica") if self.behaviour.engine == "restarted" else []:
            if not part.child and now - part.child_died >= self.behaviour.back_after:
                part.child = next(self._children)

    def _can_fill(self, slot: Slot) -> bool:
        if slot.role in ("head", "worker", "redis"):
            return slot.node not in self.held
        node = Slot("head" if slot.node == HEAD else "worker", slot.node)
        if node not in self.parts or (slot.role == "replica" and self.behaviour.keeps_holes):
            return False
        if slot.role == "raylet":
            return True
        if slot.role == "replica" and not self.rollouts.can_start(slot.deployment):
            return False
        if slot.role == "gcs":
            return self.spec.gcs != "redis" or bool(self.of("redis"))
        return self.controller_works() if slot.needs_controller else self.gcs_answers()

    def _fill(self, slot: Slot) -> None:
        number = next(self._ids)
        part = Part(slot, next(self._pids), None, f"r{number:03}")
        part.child = next(self._children) if slot.role == "replica" else 0
        if slot.role == "replica":
            self.rollouts.stamp(part)
        if slot.role in ("head", "worker"):
            self.gcs.add_node(number, self.plan.address(slot.node), slot.node)
        elif slot.role == "controller":
            self._controller_id = self._controller_id or f"{number:032x}"
            part.actor_id = self._controller_id
        elif slot.needs_controller:
            part.actor_id = f"{number:032x}"
        self.parts[slot] = part
        self._empty_since.pop(slot, None)

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
                self._record_death(part)
            if new_controller:
                self._controller_id = ""
                for proxy in self.of("proxy") if self.behaviour.stale_proxies else []:
                    proxy.stale_routes = frozenset(self.plan.routes())

    def _taken_along(self, slots: list[Slot]) -> list[Slot]:
        if [slot.role for slot in slots] != ["replica"]:
            return []
        others = [p.slot for p in self.of("replica") if p.slot.deployment == slots[0].deployment]
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
            self.retired += self.of("proxy")
            self.gcs.nodes.clear()
            self._controller_id = ""
            for slot in self.slots():
                if slot.role != "redis":
                    self._fill(slot)

    def signal(self, identity: Identity, number: int) -> None:
        """Sends a signal to one process; the head goes with its GCS, and each node with its raylet.

        Raises:
            NoSuchTarget: The process is gone.
        """
        with self.lock:
            replica = self.with_child(identity)
            if replica is not None:
                self._signal_child(replica, number)
                return
            part = self.by_identity(identity)
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
            part = self.by_identity(identity)
            if part is not None:
                self._failing[part.slot] = (clock.now() + self.behaviour.back_after, mode)

    def _record_death(self, part: Part) -> None:
        address = self._address(part)
        if self.behaviour.blind_gcs:
            self.gcs.haunt(part, address)
            return
        if part.slot.role in ("head", "worker"):
            self.gcs.end_node(address)
        if self.behaviour.leaks and part.slot.role == "replica":
            self.gcs.leak(part, address)

    def _address(self, part: Part) -> str:
        """The address of its node; "" for Redis, which is on none."""
        return self.plan.address(part.slot.node) if part.slot.node in self.plan.node_names else ""
