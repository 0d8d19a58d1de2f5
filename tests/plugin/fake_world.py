"""The inside of a cluster without Ray: its parts, how they die, and how a platform and a controller bring them back."""

from __future__ import annotations

import itertools
import re
import signal
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, cast

from pytest_serve_chaos import clock
from pytest_serve_chaos.analysis.configuration import Setup
from pytest_serve_chaos.cluster import serve_config
from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.rest import ActorRow, NodeRow
from pytest_serve_chaos.errors import NoSuchTarget
from pytest_serve_chaos.model import HEAD, Component, Identity, Json, Role

REDIS = "redis"
DEPLOYMENT = "SleepyPid"
REPLICAS = 4
MOST_REPLICAS = 6

_TICK = 0.03

_STARTED_BY_THE_PLATFORM: tuple[Role, ...] = ("redis", "head", "worker", "gcs")
"""Parts that need their time from when they may start; actors that fell with them wait for no more than these."""

_CLASSES: dict[Role, str] = {"controller": "ServeController", "proxy": "ProxyActor", "replica": "ServeReplica:{}"}


@dataclass(frozen=True, slots=True)
class FakeBehaviour:
    """What is wrong with the cluster; by default nothing. Times are seconds.

    Attributes:
        start_error: The cluster does not come up, and says that.
        back_after: Until what died is there again, or may be: actors do not come before the node and the GCS that they
            need.
        outage: How many requests fail after the head was killed: the next ones, however long they take to come.
        harmless: Faults do nothing.
        anonymous: Answers do not say which replica gave them.
        garbles: From the first fault on, answers are well-formed and wrong.
        forgets: From the first fault on, the proxies send nothing to one of the replicas.
        deafens: Proxies never hear of a controller that is a new actor.
        outdated: The node whose proxy knows routes, but of each the first replica only.
        leaks: Whenever something dies, the GCS gains an actor that nothing stands behind.
        keeps_holes: Dead replicas are not replaced.
        blind_gcs: The GCS never notices that something died.
        autoscales: Serve scales the app, from `REPLICAS` to `MOST_REPLICAS`, with the first request of a client or with
            the first fault.
        setup: How it is set up.
    """

    start_error: str = ""
    back_after: float = 0.3
    outage: int = 0
    harmless: bool = False
    anonymous: bool = False
    garbles: bool = False
    forgets: bool = False
    deafens: bool = False
    outdated: str = ""
    leaks: bool = False
    keeps_holes: bool = False
    blind_gcs: bool = False
    autoscales: Literal["", "with traffic", "with a fault"] = ""
    setup: Setup = field(default_factory=Setup)


@dataclass(frozen=True, slots=True)
class Slot:
    """A place that one part fills at a time: the second replica of a deployment, the proxy of a node."""

    role: Role
    node: str
    deployment: str = ""
    number: int = 0

    @property
    def needs_controller(self) -> bool:
        """Whether it is the controller that fills it again."""
        return self.role in ("proxy", "replica")


@dataclass(slots=True)
class Part:
    """What fills a slot now."""

    slot: Slot
    pid: int
    actor_id: str | None
    replica_id: str
    frozen: bool = False
    deaf_to: frozenset[str] | None = None
    """The routes that a deaf proxy still has; None hears."""

    @property
    def identity(self) -> Identity:
        """Unlike that of every part before it."""
        return Identity("process", ("fake", str(self.pid), str(10 * self.pid)))

    @property
    def component(self) -> Component:
        """As the process table would show it: without actor ids."""
        state = "frozen" if self.frozen else "running"
        slot = self.slot
        return Component(slot.role, slot.node, self.identity, self.pid, deployment=slot.deployment or None, state=state)

    @property
    def name(self) -> str:
        """``app#Deployment#id``, as answers name their replica."""
        return f"{self.slot.deployment}#{self.replica_id}"


class World:
    """All that lives. Time passes when somebody looks: `tick` does what is due.

    Its methods are safe to call from several threads.
    """

    def __init__(self, spec: ClusterSpec, behaviour: FakeBehaviour) -> None:
        self.lock = threading.RLock()
        self.spec = spec
        self.behaviour = behaviour
        self.config = serve_config.serve_config(spec)
        self.held: set[str] = set()
        self.to_fail = 0
        self.wrong = False
        self.forgetful = False
        self.scaled_up = False
        self.log: list[tuple[float, str]] = []
        self.parts: dict[Slot, Part] = {}
        self.retired: list[Part] = []
        """Proxies that get no more connections, and answer what comes on those that they have."""
        self.node_rows: dict[str, NodeRow] = {}
        self.ghosts: list[ActorRow] = []
        self._pids = itertools.count(1001)
        self._ids = itertools.count(1)
        self._controller_id = ""
        self._empty_since: dict[Slot, float] = {}
        self._failing: dict[Slot, tuple[float, str]] = {}
        self._next_tick = 0.0
        for slot in self.slots():
            self._fill(slot)

    # -- what should be there -----------------------------------------------------------------------------------

    @property
    def node_names(self) -> tuple[str, ...]:
        """All nodes, head first."""
        return (HEAD, *(f"worker-{n}" for n in range(1, self.spec.workers + 1)))

    def address(self, node: str) -> str:
        """The address of a node."""
        return f"10.0.0.{self.node_names.index(node) + 1}"

    def routes(self) -> dict[str, str]:
        """Route -> app, as the controller wants them."""
        return {str(app["route_prefix"]): str(app["name"]) for app in serve_config.applications(self.config)}

    def targets(self) -> dict[str, int]:
        """``app#Deployment`` -> replicas wanted. The canary's have no parts here: see `canaries`."""
        apps = [app for app in serve_config.applications(self.config) if serve_config.CANARY not in str(app["name"])]
        more = MOST_REPLICAS - REPLICAS if self.scaled_up else 0
        return {f"{app['name']}#{DEPLOYMENT}": _replicas(app) + more for app in apps}

    def options(self) -> dict[str, dict[str, Json]]:
        """``app#Deployment`` -> its options, as far as the controller tells them: the range of what it scales."""
        scaling: dict[str, Json] = {"min_replicas": REPLICAS, "max_replicas": MOST_REPLICAS}
        return {name: {"autoscaling_config": scaling} for name in self.targets()} if self.behaviour.autoscales else {}

    def canaries(self) -> dict[str, int]:
        """Canary app -> its replicas, which are there at once."""
        apps = [app for app in serve_config.applications(self.config) if serve_config.CANARY in str(app["name"])]
        return {str(app["name"]): _replicas(app) for app in apps}

    def slots(self) -> list[Slot]:
        """All places, in the order in which they are filled."""
        nodes = self.node_names
        found = [Slot("redis", REDIS)] if self.spec.gcs == "redis" else []
        found += [Slot("head" if node == HEAD else "worker", node) for node in nodes]
        found += [Slot("gcs", HEAD), Slot("controller", HEAD)]
        found += [Slot("proxy", node) for node in nodes]
        for deployment, count in self.targets().items():
            found += [Slot("replica", nodes[1 + n % self.spec.workers], deployment, n) for n in range(count)]
        return found

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

    def heard_by(self, proxy: Part) -> frozenset[str]:
        """The routes that a proxy serves."""
        return frozenset(self.routes()) if proxy.deaf_to is None else proxy.deaf_to

    def actor_rows(self) -> tuple[ActorRow, ...]:
        """What the GCS has."""
        return (*self.ghosts, *(self._row(p) for p in self.parts.values() if p.actor_id is not None))

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
            wanted = self.slots()
            for slot in self.parts.keys() - set(wanted):
                del self.parts[slot]
            for slot in wanted:
                if slot in self.parts:
                    continue
                ready = self._can_fill(slot)
                if not ready and slot.role in _STARTED_BY_THE_PLATFORM:
                    self._empty_since.pop(slot, None)
                elif now - self._empty_since.setdefault(slot, now) >= self.behaviour.back_after and ready:
                    self._fill(slot)

    def _can_fill(self, slot: Slot) -> bool:
        if slot.role in ("head", "worker", "redis"):
            return slot.node not in self.held
        node = Slot("head" if slot.node == HEAD else "worker", slot.node)
        if node not in self.parts or (slot.role == "replica" and self.behaviour.keeps_holes):
            return False
        if slot.role == "gcs":
            return self.spec.gcs == "none" or bool(self.of("redis"))
        return self.controller_works() if slot.needs_controller else self.gcs_answers()

    def _fill(self, slot: Slot) -> None:
        number = next(self._ids)
        part = Part(slot, next(self._pids), None, f"r{number:03}")
        if slot.role in ("head", "worker"):
            row = NodeRow(f"{number:056x}", self.address(slot.node), "ALIVE", slot.node == HEAD)
            self.node_rows[row.node_id] = row
        elif slot.role == "controller":
            self._controller_id = self._controller_id or f"{number:032x}"
            part.actor_id = self._controller_id
        elif slot.needs_controller:
            part.actor_id = f"{number:032x}"
        self.parts[slot] = part
        self._empty_since.pop(slot, None)

    # -- what can happen to it ----------------------------------------------------------------------------------

    def kill(self, slots: list[Slot], *, new_controller: bool = False) -> None:
        """Ends the parts in these slots."""
        with self.lock:
            self.wrong = self.wrong or self.behaviour.garbles
            self.forgetful = self.forgetful or self.behaviour.forgets
            self.scaled_up = self.scaled_up or self.behaviour.autoscales == "with a fault"
            for slot in slots:
                part = self.parts.pop(slot)
                self._failing.pop(slot, None)
                self.log.append((clock.now(), f"ERROR {part.component.name} (PID {part.pid}) died"))
                self._tell_gcs(part)
            if new_controller:
                self._controller_id = ""
                for proxy in self.of("proxy") if self.behaviour.deafens else []:
                    proxy.deaf_to = frozenset(self.routes())

    def load(self) -> None:
        """A client sends a request, which an autoscaled app may be too small for."""
        self.scaled_up = self.scaled_up or self.behaviour.autoscales == "with traffic"

    def kill_node(self, node: str) -> None:
        """Ends all that is on a node; without its head, a cluster without a store loses its workers too."""
        with self.lock:
            nodes = self.node_names if node == HEAD and self.spec.gcs == "none" else (node,)
            self.kill([slot for slot in self.parts if slot.node in nodes])
            if node == HEAD:
                self.to_fail = self.behaviour.outage

    def renew(self) -> None:
        """All but Redis is another one, from one moment to the next, as where a second cluster takes over."""
        with self.lock:
            self.retired += self.of("proxy")
            self.node_rows.clear()
            self._controller_id = ""
            for slot in self.slots():
                if slot.role != "redis":
                    self._fill(slot)

    def signal(self, identity: Identity, number: int) -> None:
        """What a signal does to one process; the head goes with its GCS."""
        with self.lock:
            part = self.by_identity(identity)
            if part is None:
                raise NoSuchTarget(f"{identity} is gone")
            if number in (signal.SIGSTOP, signal.SIGCONT):
                part.frozen = number == signal.SIGSTOP
            elif part.slot.role == "gcs":
                self.kill_node(HEAD)
            else:
                self.kill([part.slot])

    def freeze_node(self, node: str, *, frozen: bool) -> int:
        """Stops all processes of a node, or lets them go on; returns how many."""
        with self.lock:
            parts = [part for part in self.parts.values() if part.slot.node == node]
            for part in parts:
                part.frozen = frozen
            return len(parts)

    def fail_check(self, identity: Identity, mode: str) -> None:
        """The health check of a replica fails from now on; the third failure ends it."""
        with self.lock:
            part = self.by_identity(identity)
            if part is not None:
                self._failing[part.slot] = (clock.now() + self.behaviour.back_after, mode)

    def lines(self, since: float, pattern: str | None) -> tuple[str, ...]:
        """The log since then, as far as it matches."""
        with self.lock:
            return tuple(text for at, text in self.log if at >= since and re.search(pattern or "", text))

    def _tell_gcs(self, part: Part) -> None:
        if self.behaviour.blind_gcs:
            self.ghosts += [self._row(part)] if part.actor_id is not None else []
            return
        if part.slot.role in ("head", "worker"):
            address = self.address(part.slot.node)
            for row in self.node_rows.values():
                if row.address == address:
                    self.node_rows[row.node_id] = replace(row, state="DEAD")
        if self.behaviour.leaks and part.slot.role == "replica":
            self.ghosts.append(replace(self._row(part), actor_id="1eaf" * 8, pid=part.pid + 5000))

    def _row(self, part: Part) -> ActorRow:
        slot = part.slot
        class_name = _CLASSES[slot.role].format(slot.deployment.replace("#", ":"))
        address = self.address(slot.node)
        node = next((r.node_id for r in reversed(self.node_rows.values()) if r.address == address), "")
        name = f"SERVE_REPLICA::{part.name}" if slot.role == "replica" else slot.role
        return ActorRow(part.actor_id or "", class_name, name, "ALIVE", node, part.pid)


def _replicas(app: Mapping[str, Json]) -> int:
    deployments = cast("list[dict[str, Json]]", app.get("deployments") or [])
    changed = next((d["num_replicas"] for d in deployments if "num_replicas" in d), None)
    return int(cast("int", changed)) if changed is not None else REPLICAS
