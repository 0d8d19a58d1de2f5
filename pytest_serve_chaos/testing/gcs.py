"""What the GCS of a fake cluster has recorded, which may be wrong about what lives."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from pytest_serve_chaos.cluster.rest import ActorRow, NodeRow
from pytest_serve_chaos.model import HEAD, Component, Identity, Role
from pytest_serve_chaos.testing.plan import Slot

_CLASSES: dict[Role, str] = {"controller": "ServeController", "proxy": "ProxyActor", "replica": "ServeReplica:{}"}


@dataclass(slots=True)
class Part:
    """What fills a slot now.

    Attributes:
        slot: Its place.
        pid: Unlike that of every part before it.
        actor_id: Of a controller, proxy or replica.
        replica_id: The id of a replica.
        frozen: Whether its process is stopped.
        stale_routes: The routes of a proxy that receives no updates any more; None: it receives them.
        child: The PID of the process that a replica has started; 0: there is none.
        child_frozen: Whether that is stopped.
        child_died: When it died last, monotonic seconds.
        version: The version of the code of a replica.
        bad: What is wrong with that version; "" if nothing.
    """

    slot: Slot
    pid: int
    actor_id: str | None
    replica_id: str
    frozen: bool = False
    stale_routes: frozenset[str] | None = None
    version: str = ""
    bad: str = ""
    child: int = 0
    child_frozen: bool = False
    child_died: float = 0.0

    @property
    def child_identity(self) -> Identity:
        """Unlike that of every child before it."""
        return Identity("process", ("fake", str(self.child), str(10 * self.child)))

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


class GcsTables:
    """The nodes and actors that the GCS knows.

    Attributes:
        nodes: By node id; dead nodes stay in it.
        ghosts: Actors without a process.
    """

    def __init__(self) -> None:
        self.nodes: dict[str, NodeRow] = {}
        self.ghosts: list[ActorRow] = []

    def add_node(self, number: int, address: str, node: str) -> None:
        """Records that a node has started."""
        row = NodeRow(f"{number:056x}", address, "ALIVE", node == HEAD)
        self.nodes[row.node_id] = row

    def end_node(self, address: str) -> None:
        """Records that the node at an address is dead."""
        for row in self.nodes.values():
            if row.address == address:
                self.nodes[row.node_id] = replace(row, state="DEAD")

    def haunt(self, part: Part, address: str) -> None:
        """Keeps the actor of a part that died."""
        if part.actor_id is not None:
            self.ghosts.append(self._row(part, address))

    def leak(self, part: Part, address: str) -> None:
        """Gains an actor that no process stands behind."""
        row = self._row(part, address)
        self.ghosts.append(replace(row, actor_id="1eaf" * 8, pid=part.pid + 5000))

    def actors(self, living: Iterable[tuple[Part, str]]) -> tuple[ActorRow, ...]:
        """All actors that it knows.

        Args:
            living: The parts that live, each with the address of its node.
        """
        return (*self.ghosts, *(self._row(part, address) for part, address in living if part.actor_id is not None))

    def _row(self, part: Part, address: str) -> ActorRow:
        slot = part.slot
        class_name = _CLASSES[slot.role].format(slot.deployment.replace("#", ":"))
        node = next((r.node_id for r in reversed(self.nodes.values()) if r.address == address), "")
        name = f"SERVE_REPLICA::{part.name}" if slot.role == "replica" else slot.role
        return ActorRow(part.actor_id or "", class_name, name, "ALIVE", node, part.pid)
