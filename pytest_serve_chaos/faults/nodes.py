"""Faults on whole nodes: the head, a worker, a node that stays away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import seconds
from pytest_serve_chaos.cluster.capabilities import FreezesNodes, KillsNodes
from pytest_serve_chaos.faults import signs
from pytest_serve_chaos.faults.injection import Injection, Strike
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.model import Component, Evidence

FREEZE_FOR = 20.0
"""Seconds: beyond some 60 Ray declares a frozen node dead (65 s measured with Ray 2.60), and the freeze is a kill."""

_SIGNALS = {"kill": "SIGKILL", "stop": "SIGTERM, then SIGKILL after the grace period,"}


@dataclass
class NodeDown:
    """A node is taken down, by force or gracefully."""

    rig: Rig
    kind: str
    node: str
    how: Literal["kill", "stop"]
    hold: bool
    victims: tuple[Component, ...]
    ids: frozenset[str] = field(default_factory=frozenset)
    serves: bool = True
    sick: tuple[Component, ...] = ()

    @property
    def text(self) -> str:
        """What it does."""
        held = ", and it stays down" if self.hold else ""
        return f"{_SIGNALS[self.how]} to all processes of {self.node}{held}"

    @property
    def sign_within(self) -> float:
        """The GCS' own detection, with room for a busy machine."""
        return 90.0 if self.rig.cluster.spec.profile == "guide" else 30.0

    def strike(self) -> Strike:
        """Takes it down and waits until nothing is left of it."""
        cluster = self.rig.capability(KillsNodes, "take a node down")  # type: ignore[type-abstract]
        asked = clock.now()
        evidence: Sequence[Evidence] = cluster.kill_node(self.node, how=self.how, hold=self.hold)
        if self.how == "stop" and evidence:
            # A graceful end excuses nothing: no request counts as in flight on a node that was asked to drain.
            evidence = (Evidence(asked, "victim", f"{self.node} was asked to stop"), *evidence)
        return Strike(asked, evidence)

    def sign(self, struck: float) -> Evidence | None:
        """The GCS says DEAD; while it is away, the traffic says so."""
        return signs.node_is_dead(self.rig, self.node, self.ids) or signs.nobody_answers(self.rig, self.victims, struck)

    def heal(self) -> None:
        """Lets it come back."""
        self.rig.capability(KillsNodes, "bring a node back").restore_node(self.node)  # type: ignore[type-abstract]


@dataclass
class NodeFrozen:
    """All processes of a node are stopped for a while."""

    rig: Rig
    kind: str
    node: str
    victims: tuple[Component, ...]
    serves: bool = True
    sick: tuple[Component, ...] = ()
    sign_within: float = 15.0

    @property
    def text(self) -> str:
        """What it does."""
        return f"SIGSTOP to all processes of {self.node}"

    def strike(self) -> Strike:
        """Stops it."""
        cluster = self.rig.capability(FreezesNodes, "freeze a node")  # type: ignore[type-abstract]
        asked = clock.now()
        return Strike(asked, cluster.freeze_node(self.node))

    def sign(self, struck: float) -> Evidence | None:
        """Its proxy, or for lack of one its replicas, answer nothing."""
        proxy = next((c for c in self.victims if c.role == "proxy"), None)
        if proxy is not None:
            return signs.proxy_is_silent(self.rig, proxy)
        return signs.nobody_answers(self.rig, self.victims, struck)

    def heal(self) -> None:
        """Lets it go on."""
        self.rig.capability(FreezesNodes, "let a node go on").thaw_node(self.node)  # type: ignore[type-abstract]


@dataclass(frozen=True)
class NodeTarget:
    """A node that can be broken: ``chaos.head``, ``chaos.worker(...)``, ``chaos.node(...)``.

    Args:
        rig: Where.
        kind: The marker's name.
        node: The node's name.
        stays_down: Whether it comes back only when it is healed, as a lost machine does.
    """

    rig: Rig
    kind: str
    node: str
    stays_down: bool = False

    def kill(self, *, hold: bool = False) -> Injection:
        """SIGKILL to all its processes (forced deletion of its pod); with `hold` it stays down until it is healed."""
        return self._down("kill", hold)

    def stop(self, *, hold: bool = False) -> Injection:
        """SIGTERM (graceful deletion): it drains, and is killed after the grace period."""
        return self._down("stop", hold)

    def freeze(self, for_: float | str = FREEZE_FOR) -> Injection:
        """SIGSTOP to all its processes for so many seconds."""
        fault = NodeFrozen(self.rig, self.kind, self.node, self._victims())
        return Injection(self.rig, fault, hold_for=seconds(for_, name="for_"))

    def _down(self, how: Literal["kill", "stop"], hold: bool) -> Injection:
        ids = signs.node_ids(self.rig, self.node)
        fault = NodeDown(self.rig, self.kind, self.node, how, hold or self.stays_down, self._victims(), ids)
        return Injection(self.rig, fault)

    def _victims(self) -> tuple[Component, ...]:
        return tuple(c for c in self.rig.watcher.sample().components if c.node == self.node)


def choose_worker(rig: Rig, which: str) -> str:
    """The name of a worker: by its name, ``most_replicas``, or ``random``."""
    topology = rig.watcher.sample()
    workers = topology.of("worker")
    if which == "most_replicas":
        counts = {w.node: len(topology.of("replica", on=w.node)) for w in workers}
        most = max(counts.values(), default=0)
        return rig.choose([w for w in workers if counts[w.node] == most], "worker", topology).node
    if which == "random":
        return rig.choose(workers, "worker", topology).node
    return rig.choose([w for w in workers if w.node == which], f"worker {which!r}", topology).node
