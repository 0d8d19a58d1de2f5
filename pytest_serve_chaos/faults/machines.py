"""Faults on the machine under a Ray node: where a backend has none, the Ray node itself, which then stays away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import seconds
from pytest_serve_chaos.cluster.capabilities import DeletesMachines, DrainsMachines, FreezesMachines, KillsMachines
from pytest_serve_chaos.faults import signs
from pytest_serve_chaos.faults.injection import Injection, Strike
from pytest_serve_chaos.faults.nodes import FREEZE_FOR, NodeFrozen, NodeTarget
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.model import Component, Evidence

_COLLECTED_WITHIN = 180.0
"""Seconds for the pods of a deleted node to go. Kubernetes' pod GC leaves them alone for 40 s, then looks every 20 s
(pkg/controller/podgc), and the containers follow."""

_WORDS = {
    "kill": "the power of the machine under {} goes",
    "stop": "the machine under {} is shut down",
    "delete": "the Kubernetes node under {} is deleted",
    "drain": "the Kubernetes node under {} is drained",
}


@dataclass
class MachineGone:
    """What all losses of a machine have in common: it stays away until it is healed.

    Attributes:
        ids: The ids under which the GCS knows the Ray node on it.
    """

    rig: Rig
    node: str
    victims: tuple[Component, ...]
    ids: frozenset[str]
    kind: str = "node_failure"
    serves: bool = True
    sick: tuple[Component, ...] = ()
    hold: bool = True
    # A machine that says nothing any more: the GCS asks five times (65 s with Ray's own periods).
    sign_within: float = 90.0

    def sign(self, struck: float) -> Evidence | None:
        """The GCS says DEAD; while it is away, the traffic says so."""
        return signs.node_is_dead(self.rig, self.node, self.ids) or signs.nobody_answers(self.rig, self.victims, struck)


@dataclass
class MachineDown(MachineGone):
    """A machine is lost, or shut down.

    Attributes:
        how: ``kill`` or ``stop``.
    """

    how: Literal["kill", "stop"] = "kill"

    @property
    def text(self) -> str:
        """What it does."""
        return _WORDS[self.how].format(self.node)

    def strike(self) -> Strike:
        """Takes it away."""
        cluster = self.rig.capability(KillsMachines, "take a machine away")  # type: ignore[type-abstract]
        asked = clock.now()
        evidence = cluster.kill_machine(self.node, how=self.how)
        return Strike(asked, _asked_to_stop(self.node, asked, evidence) if self.how == "stop" else evidence)

    def heal(self) -> None:
        """Starts it again."""
        self.rig.capability(KillsMachines, "start a machine").revive_machine(self.node)  # type: ignore[type-abstract]


@dataclass
class MachineDeleted(MachineGone):
    """The Kubernetes node is deleted. It landed when its pods are gone, which takes a minute.

    Attributes:
        within: Seconds after which the node is registered again, whatever has become of its pods.
    """

    within: float | None = None

    @property
    def text(self) -> str:
        """What it does."""
        for_ = "" if self.within is None else f" for {self.within:g} s"
        return _WORDS["delete"].format(self.node) + for_

    def strike(self) -> Strike:
        """Deletes it and waits for the end of its pods; a node that has to come back before that has lost nothing."""
        cluster = self.rig.capability(DeletesMachines, "delete a node")  # type: ignore[type-abstract]
        asked = clock.now()
        limit = _COLLECTED_WITHIN if self.within is None else min(self.within, _COLLECTED_WITHIN)
        evidence = cluster.delete_machine(self.node, within=limit)
        if not evidence:
            self.rig.progress(f"the pods of {self.node} are there {limit:g} s after its Kubernetes node was deleted")
            self.heal()
        return Strike(asked, evidence)

    def heal(self) -> None:
        """Makes it register again."""
        cluster = self.rig.capability(DeletesMachines, "register a node")  # type: ignore[type-abstract]
        cluster.register_machine(self.node)


@dataclass
class MachineDrained(MachineGone):
    """The Kubernetes node is cordoned and its pods are evicted, as for maintenance."""

    @property
    def text(self) -> str:
        """What it does."""
        return _WORDS["drain"].format(self.node)

    def strike(self) -> Strike:
        """Drains it, and waits until its pods have ended."""
        cluster = self.rig.capability(DrainsMachines, "drain a node")  # type: ignore[type-abstract]
        asked = clock.now()
        return Strike(asked, _asked_to_stop(self.node, asked, cluster.drain_machine(self.node)))

    def heal(self) -> None:
        """Lets pods onto it again."""
        self.rig.capability(DrainsMachines, "uncordon a node").reopen_machine(self.node)  # type: ignore[type-abstract]


@dataclass
class MachineFrozen(NodeFrozen):
    """Everything on a machine is stopped for a while, what watches over its pods included."""

    @property
    def text(self) -> str:
        """What it does."""
        return f"everything on the machine under {self.node} is stopped"

    def strike(self) -> Strike:
        """Stops it."""
        cluster = self.rig.capability(FreezesMachines, "freeze a machine")  # type: ignore[type-abstract]
        asked = clock.now()
        return Strike(asked, cluster.freeze_machine(self.node))

    def heal(self) -> None:
        """Lets it go on."""
        self.rig.capability(FreezesMachines, "let a machine go on").thaw_machine(self.node)  # type: ignore[type-abstract]


@dataclass(frozen=True)
class MachineTarget(NodeTarget):
    """The machine under a Ray node: ``chaos.node(...)``. Arguments: those of `NodeTarget`."""

    def kill(self, *, hold: bool = True) -> Injection:
        """Takes its power (kind: `docker kill`); where there is no machine, the Ray node is killed. It stays away."""
        return self._lose("kill") or super().kill(hold=hold)

    def stop(self, *, hold: bool = True) -> Injection:
        """Shuts it down (kind: `docker stop`); where there is no machine, the Ray node is stopped. It stays away."""
        return self._lose("stop") or super().stop(hold=hold)

    def freeze(self, for_: float | str = FREEZE_FOR) -> Injection:
        """Stops everything on it for so many seconds (kind: `docker pause`), or in the Ray node."""
        if not isinstance(self.rig.cluster, FreezesMachines):
            return super().freeze(for_)
        fault = MachineFrozen(self.rig, self.kind, self.node, self._victims())
        return Injection(self.rig, fault, hold_for=seconds(for_, name="for_"))

    def delete(self, *, for_: float | str | None = None) -> Injection:
        """Deletes the Kubernetes node.

        Args:
            for_: Seconds after which it registers again; None: when it is healed. Until its pods are gone, which takes
                a minute, nothing has happened: a node that comes back before is no fault that landed.

        Raises:
            Unsupported: There are no Kubernetes nodes, or they are not ours to delete.
        """
        self.rig.capability(DeletesMachines, "delete a Kubernetes node")  # type: ignore[type-abstract]
        within = None if for_ is None else seconds(for_, name="for_")
        fault = MachineDeleted(self.rig, self.node, self._victims(), self._ids(), within=within)
        return Injection(self.rig, fault, hold_for=within)

    def drain(self) -> Injection:
        """Cordons the Kubernetes node and evicts its pods, which end in their grace period, until it is healed.

        Raises:
            Unsupported: There are no Kubernetes nodes, or they are not ours to drain.
        """
        self.rig.capability(DrainsMachines, "drain a Kubernetes node")  # type: ignore[type-abstract]
        return Injection(self.rig, MachineDrained(self.rig, self.node, self._victims(), self._ids()))

    def _lose(self, how: Literal["kill", "stop"]) -> Injection | None:
        if not isinstance(self.rig.cluster, KillsMachines):
            return None
        return Injection(self.rig, MachineDown(self.rig, self.node, self._victims(), self._ids(), how=how))

    def _ids(self) -> frozenset[str]:
        return signs.node_ids(self.rig, self.node)


def _asked_to_stop(node: str, asked: float, evidence: Sequence[Evidence]) -> Sequence[Evidence]:
    """A graceful end excuses nothing: no request counts as in flight on a node that was asked to go."""
    return (Evidence(asked, "victim", f"{node} was asked to stop"), *evidence) if evidence else evidence
