"""What the GCS of a fake cluster has recorded, which may be wrong about what lives."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from pytest_serve_chaos.cluster.rest import ActorRow, NodeRow
from pytest_serve_chaos.model import HEAD, Role
from pytest_serve_chaos.testing.behaviour import FakeBehaviour
from pytest_serve_chaos.testing.parts import Part
from pytest_serve_chaos.testing.plan import Plan

_CLASSES: dict[Role, str] = {"controller": "ServeController", "proxy": "ProxyActor", "replica": "ServeReplica:{}"}


class GcsTables:
    """The nodes and actors that the GCS knows.

    Args:
        plan: What should be there.
        behaviour: What is wrong with the cluster.

    Attributes:
        nodes: By node id; dead nodes stay in it.
        ghosts: Actors without a process.
    """

    def __init__(self, plan: Plan, behaviour: FakeBehaviour) -> None:
        self.nodes: dict[str, NodeRow] = {}
        self.ghosts: list[ActorRow] = []
        self._plan = plan
        self._behaviour = behaviour

    def add_node(self, number: int, node: str) -> None:
        """Records that a node has started."""
        row = NodeRow(f"{number:056x}", self._plan.address(node), "ALIVE", node == HEAD)
        self.nodes[row.node_id] = row

    def end(self, part: Part) -> None:
        """Records that a part has died, as far as the GCS notices that."""
        address = self._address(part)
        if self._behaviour.blind_gcs:
            self.ghosts += [self._row(part)] if part.actor_id is not None else []
            return
        if part.slot.role in ("head", "worker"):
            for row in self.nodes.values():
                if row.address == address:
                    self.nodes[row.node_id] = replace(row, state="DEAD")
        if self._behaviour.leaks and part.slot.role == "replica":
            self.ghosts.append(replace(self._row(part), actor_id="1eaf" * 8, pid=part.pid + 5000))

    def actors(self, living: Iterable[Part]) -> tuple[ActorRow, ...]:
        """All actors that it knows, those among the parts that live too."""
        return (*self.ghosts, *(self._row(part) for part in living if part.actor_id is not None))

    def _row(self, part: Part) -> ActorRow:
        slot, address = part.slot, self._address(part)
        class_name = _CLASSES[slot.role].format(slot.deployment.replace("#", ":"))
        node = next((r.node_id for r in reversed(self.nodes.values()) if r.address == address), "")
        name = f"SERVE_REPLICA::{part.name}" if slot.role == "replica" else slot.role
        return ActorRow(part.actor_id or "", class_name, name, "ALIVE", node, part.pid)

    def _address(self, part: Part) -> str:
        """The address of its node; "" for Redis, which is on none."""
        return self._plan.address(part.slot.node) if part.slot.node in self._plan.node_names else ""
