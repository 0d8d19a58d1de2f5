"""The fault `node_failure`: the machine under a Ray node goes, and stays away until it is healed.

Where a backend has no machines, it is the Ray node itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import seconds
from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.capabilities import (
    DELETES_MACHINES,
    DRAINS_MACHINES,
    FREEZES_MACHINES,
    FREEZES_NODES,
    KILLS_MACHINES,
    KILLS_NODES,
)
from pytest_serve_chaos.cluster.policy import Touch
from pytest_serve_chaos.faults import head, signs, worker
from pytest_serve_chaos.faults.defaults import (
    freeze_seconds,
    when_frozen,
    while_down,
    with_profile,
    without_head,
)
from pytest_serve_chaos.faults.fault import Strike, ended
from pytest_serve_chaos.faults.injection import Injection
from pytest_serve_chaos.faults.nodes import NodeFrozen, NodeTarget, choose_worker, for_so_long, hold_seconds
from pytest_serve_chaos.faults.reconnect import inject_without_gcs
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.faults.spec import FaultSpec, Need, keyword
from pytest_serve_chaos.kinds import Duration, NodeName
from pytest_serve_chaos.model import HEAD, Component, Evidence, Expectations
from pytest_serve_chaos.prediction import node_rules

NAME = "node_failure"

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
    kind: str = NAME
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
        lasts: Seconds after which it is started again; None: when it is healed.
    """

    how: Literal["kill", "stop"] = "kill"
    lasts: float | None = None

    @property
    def options(self) -> Mapping[str, object]:
        """How it is lost, which machine it is, and for how long."""
        return {"how": self.how, "which": self.node, **({} if self.lasts is None else {"for_": self.lasts})}

    @property
    def text(self) -> str:
        """A description of the fault, for people."""
        return _WORDS[self.how].format(self.node) + for_so_long(self.lasts)

    def strike(self) -> Strike:
        """Takes it away."""
        cluster = self.rig.capability(KILLS_MACHINES, "take a machine away")
        asked = clock.now()
        evidence = cluster.kill_machine(self.node, how=self.how, lasts=self.lasts)
        return _slow_strike(self.node, asked, evidence) if self.how == "stop" else Strike(asked, evidence)

    def heal(self) -> None:
        """Starts it again."""
        self.rig.capability(KILLS_MACHINES, "start a machine").revive_machine(self.node)


@dataclass
class MachineDeleted(MachineGone):
    """The Kubernetes node is deleted. It landed when its pods are gone, which takes a minute.

    Attributes:
        within: Seconds after which the node is registered again, whatever has become of its pods.
    """

    within: float | None = None

    @property
    def options(self) -> Mapping[str, object]:
        """Which machine the fault hits."""
        return {"how": "delete", "which": self.node}

    @property
    def text(self) -> str:
        """A description of the fault, for people."""
        for_ = "" if self.within is None else f" for {self.within:g} s"
        return _WORDS["delete"].format(self.node) + for_

    def strike(self) -> Strike:
        """Deletes it and waits for the end of its pods; a node that has to come back before that has lost nothing."""
        cluster = self.rig.capability(DELETES_MACHINES, "delete a node")
        asked = clock.now()
        limit = _COLLECTED_WITHIN if self.within is None else min(self.within, _COLLECTED_WITHIN)
        evidence = cluster.delete_machine(self.node, within=limit)
        if not evidence:
            self.rig.progress(f"the pods of {self.node} are there {limit:g} s after its Kubernetes node was deleted")
            self.heal()
        return Strike(asked, evidence, ended(evidence))

    def heal(self) -> None:
        """Makes it register again."""
        cluster = self.rig.capability(DELETES_MACHINES, "register a node")
        cluster.register_machine(self.node)


@dataclass
class MachineDrained(MachineGone):
    """The Kubernetes node is cordoned and its pods are evicted, as for maintenance."""

    heals_at_once: ClassVar[bool] = True

    @property
    def options(self) -> Mapping[str, object]:
        """Which machine the fault hits."""
        return {"how": "drain", "which": self.node}

    @property
    def text(self) -> str:
        """A description of the fault, for people."""
        return _WORDS["drain"].format(self.node)

    def strike(self) -> Strike:
        """Drains it, and waits until its pods have ended."""
        cluster = self.rig.capability(DRAINS_MACHINES, "drain a node")
        asked = clock.now()
        return _slow_strike(self.node, asked, cluster.drain_machine(self.node))

    def heal(self) -> None:
        """Lets pods onto it again."""
        self.rig.capability(DRAINS_MACHINES, "uncordon a node").reopen_machine(self.node)


@dataclass
class MachineFrozen(NodeFrozen):
    """Everything on a machine is stopped for a while, what watches over its pods included."""

    @property
    def text(self) -> str:
        """A description of the fault, for people."""
        return f"everything on the machine under {self.node} is stopped"

    def strike(self) -> Strike:
        """Stops it."""
        cluster = self.rig.capability(FREEZES_MACHINES, "freeze a machine")
        asked = clock.now()
        return Strike(asked, cluster.freeze_machine(self.node, lasts=self.lasts))

    def heal(self) -> None:
        """Resumes the stopped processes."""
        self.rig.capability(FREEZES_MACHINES, "resume a machine").thaw_machine(self.node)


@dataclass(frozen=True)
class MachineTarget(NodeTarget):
    """The machine under a Ray node: ``chaos.node(...)``. Arguments: those of `NodeTarget`.

    `kill` takes its power (kind: `docker kill`), `stop` shuts it down (kind: `docker stop`), and it stays away until it
    is healed, or for so many seconds (`for_`). `freeze` stops everything on it (kind: `docker pause`). On `local`,
    which has no machines, they do that to the Ray node.
    """

    def delete(
        self, *, for_: float | str | None = None, must_land: bool = True, allow_total_loss: bool = False
    ) -> Injection:
        """Deletes the Kubernetes node.

        Args:
            for_: Seconds after which it registers again; None: when it is healed. Until its pods are gone, which takes
                a minute, nothing has happened: if the node comes back before, the fault has not landed.
            must_land: Whether that is an error.
            allow_total_loss: Whether it may be the last that runs on an external cluster.

        Raises:
            NotLanded: Its pods did not go.
            Unsupported: There are no Kubernetes nodes, or they are not ours to delete.
        """
        self.rig.capability(DELETES_MACHINES, "delete a Kubernetes node")
        within = None if for_ is None else seconds(for_, name="for_")
        fault = MachineDeleted(self.rig, self.node, self._victims(), self._ids(), within=within)
        with self.rig.current.allowing_total_loss(allow_total_loss):
            return Injection(self.rig, fault, hold_for=within, must_land=must_land)

    def drain(self, *, must_land: bool = True, allow_total_loss: bool = False) -> Injection:
        """Cordons the Kubernetes node and evicts its pods, which end in their grace period, until it is healed.

        Raises:
            NotLanded: Its pods did not go, and they must (`must_land`).
            Unsupported: There are no Kubernetes nodes, or they are not ours to drain.
        """
        self.rig.capability(DRAINS_MACHINES, "drain a Kubernetes node")
        fault = MachineDrained(self.rig, self.node, self._victims(), self._ids())
        with self.rig.current.allowing_total_loss(allow_total_loss):
            return Injection(self.rig, fault, must_land=must_land)

    def _down(self, how: Literal["kill", "stop"], hold: bool, for_: float | str | None, must_land: bool) -> Injection:
        if self.rig.cluster.capability(KILLS_MACHINES) is None:
            return super()._down(how, hold, for_, must_land)
        lasts = hold_seconds(for_, hold=True)
        fault = MachineDown(self.rig, self.node, self._victims(), self._ids(), how=how, lasts=lasts)
        if self.node == HEAD:
            return inject_without_gcs(self.rig, fault, lasts, must_land=must_land)
        return Injection(self.rig, fault, hold_for=lasts, must_land=must_land)

    def _frozen(self, lasts: float) -> NodeFrozen:
        if self.rig.cluster.capability(FREEZES_MACHINES) is None:
            return super()._frozen(lasts)
        return MachineFrozen(self.rig, self.kind, self.node, self._victims(), lasts)

    def _ids(self) -> frozenset[str]:
        return signs.node_ids(self.rig, self.node)


def _slow_strike(node: str, asked: float, evidence: Sequence[Evidence]) -> Strike:
    """What is asked to go ends later: only what its end cuts was in flight on it."""
    if not evidence:
        return Strike(asked, evidence)
    return Strike(asked, (Evidence(asked, "victim", f"{node} was asked to stop"), *evidence), ended(evidence))


# -- the fault ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NodeKeywords:
    """What its marker can say. Without `for_` a node stays away, and a frozen one goes on after 20 s."""

    which: str = keyword(NodeName("most_replicas", "random", "head"), "most_replicas")
    for_: float | None = keyword(Duration(), None, verbs=["kill", "stop", "freeze", "delete"])


def target(rig: Rig, which: str) -> MachineTarget:
    """The machine under a worker, or under the ``head``: ``chaos.node(which)``."""
    return MachineTarget(rig, NAME, HEAD if which == HEAD else choose_worker(rig, which), stays_down=True)


def _inject(rig: Rig, how: str, given: NodeKeywords, must_land: bool) -> Injection:
    node = target(rig, given.which)
    if how == "freeze":
        return node.freeze(freeze_seconds(given.for_), must_land=must_land)
    if how == "drain":
        return node.drain(must_land=must_land)
    return {"kill": node.kill, "stop": node.stop, "delete": node.delete}[how](for_=given.for_, must_land=must_land)


def _adapt(expected: Expectations, cluster: ClusterSpec, how: str, given: NodeKeywords) -> Expectations:
    """The machine under the head takes the head with it."""
    if how == "freeze":
        return when_frozen(cluster, freeze_seconds(given.for_))
    found = without_head(head.EXPECTED, cluster) if given.which == HEAD else with_profile(expected, cluster)
    return found if given.for_ is None else while_down(found, given.for_)


def _touch(how: str, given: NodeKeywords) -> Touch:
    if how != "drain":
        return Touch(refused=f"how={how!r} needs the machines under a cluster of your own; how='drain' works here")
    return Touch(actions=("drain nodes",), loses=("head",) if given.which == HEAD else ())


FAULT = FaultSpec(
    name=NAME,
    breaks="the machine under a worker, until it is healed",
    verbs=("kill", "stop", "freeze", "delete", "drain"),
    keywords=NodeKeywords,
    inject=_inject,
    expectations=worker.EXPECTED,
    adapt=_adapt,
    needs=(
        Need((KILLS_MACHINES, KILLS_NODES), "take a node down", verbs=("kill", "stop")),
        Need((FREEZES_MACHINES, FREEZES_NODES), "freeze a node", verbs=("freeze",)),
        Need((DELETES_MACHINES,), "delete a Kubernetes node", verbs=("delete",)),
        Need((DRAINS_MACHINES,), "drain a Kubernetes node", verbs=("drain",)),
    ),
    external=_touch,
    loses=("worker", "Ray node", "replica", "machine"),
    target="chaos.node(which)",
    effect="the machine under a Ray node; it stays away",
    dry_run=True,
    predict=node_rules.node,
)
