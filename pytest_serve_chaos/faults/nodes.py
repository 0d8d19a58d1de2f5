"""What the faults on a whole Ray node have in common: the head, a worker, a node that stays away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import seconds
from pytest_serve_chaos.cluster.capabilities import FREEZES_NODES, KILLS_NODES
from pytest_serve_chaos.errors import SettingsError
from pytest_serve_chaos.faults import signs
from pytest_serve_chaos.faults.defaults import FREEZE_FOR, freeze_seconds
from pytest_serve_chaos.faults.fault import Strike, ended
from pytest_serve_chaos.faults.injection import Injection
from pytest_serve_chaos.faults.reconnect import inject_without_gcs
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.faults.spec import Need
from pytest_serve_chaos.model import HEAD, Component, Evidence

NODE_VERBS = ("kill", "stop", "freeze")
NODE_NEEDS = (
    Need((KILLS_NODES,), "take a node down", verbs=("kill", "stop")),
    Need((FREEZES_NODES,), "freeze a node", verbs=("freeze",)),
)

_SIGNALS = {"kill": "SIGKILL", "stop": "SIGTERM, then SIGKILL after the grace period,"}
_DELETIONS = {"kill": "forced deletion", "stop": "deletion"}
"""Of a pod: its processes get SIGTERM from the kubelet first, also by force, and then have two seconds."""


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
    lasts: float | None = None
    serves: bool = True
    sick: tuple[Component, ...] = ()

    @property
    def options(self) -> Mapping[str, object]:
        """How it goes down, which node it is, whether it stays down, and for how long."""
        return _options(self.kind, self.how, self.node, hold=self.hold, lasts=self.lasts)

    @property
    def text(self) -> str:
        """A description of the fault, for people."""
        held = f", and it stays down{for_so_long(self.lasts)}" if self.hold else ""
        if any(victim.name == self.node and victim.machine for victim in self.victims):
            return f"{_DELETIONS[self.how]} of the pod of {self.node}{held}"
        return f"{_SIGNALS[self.how]} to all processes of {self.node}{held}"

    @property
    def sign_within(self) -> float:
        """The GCS' own detection."""
        return signs.gcs_notices_within(self.rig)

    def strike(self) -> Strike:
        """Takes it down and waits until nothing is left of it."""
        cluster = self.rig.capability(KILLS_NODES, "take a node down")
        asked = clock.now()
        evidence: Sequence[Evidence] = cluster.kill_node(self.node, how=self.how, hold=self.hold)
        if self.how == "stop" and evidence:
            hit = ended(evidence)
            return Strike(asked, (Evidence(asked, "victim", f"{self.node} was asked to stop"), *evidence), hit)
        return Strike(asked, evidence)

    def sign(self, struck: float) -> Evidence | None:
        """The GCS says DEAD; while it is away, the traffic says so."""
        return signs.node_is_dead(self.rig, self.node, self.ids) or signs.nobody_answers(self.rig, self.victims, struck)

    def heal(self) -> None:
        """Lets it come back."""
        self.rig.capability(KILLS_NODES, "bring a node back").restore_node(self.node)


@dataclass
class NodeFrozen:
    """All processes of a node are stopped for a while.

    Attributes:
        lasts: For how many seconds.
    """

    rig: Rig
    kind: str
    node: str
    victims: tuple[Component, ...]
    lasts: float = FREEZE_FOR
    serves: bool = True
    sick: tuple[Component, ...] = ()
    sign_within: float = 15.0
    heals_at_once: ClassVar[bool] = True

    @property
    def options(self) -> Mapping[str, object]:
        """Which node the fault hits."""
        return _options(self.kind, "freeze", self.node)

    @property
    def text(self) -> str:
        """A description of the fault, for people."""
        return f"SIGSTOP to all processes of {self.node}"

    def strike(self) -> Strike:
        """Stops it."""
        cluster = self.rig.capability(FREEZES_NODES, "freeze a node")
        asked = clock.now()
        return Strike(asked, cluster.freeze_node(self.node, lasts=self.lasts))

    def sign(self, struck: float) -> Evidence | None:
        """Its proxy, or for lack of one its replicas, answer nothing."""
        proxy = next((c for c in self.victims if c.role == "proxy"), None)
        if proxy is not None:
            return signs.proxy_is_silent(self.rig, proxy)
        return signs.nobody_answers(self.rig, self.victims, struck)

    def heal(self) -> None:
        """Resumes the stopped processes."""
        self.rig.capability(FREEZES_NODES, "resume a node").thaw_node(self.node)


def _options(kind: str, how: str, node: str, *, hold: bool = False, lasts: float | None = None) -> Mapping[str, object]:
    """What the marker would say: that of the head needs no `which`, and that of a machine always holds."""
    which = {} if kind == "head_failure" else {"which": node}
    held = {"hold": True} if hold and kind != "node_failure" else {}
    return {"how": how, **which, **held, **({} if lasts is None else {"for_": lasts})}


def for_so_long(lasts: float | None) -> str:
    """How long something stays down, behind what it says of that; "" where it is not known yet."""
    return "" if lasts is None else f" for {lasts:g} s"


def hold_seconds(for_: float | str | None, *, hold: bool) -> float | None:
    """Seconds for which something is to stay down; None: until it is healed.

    Raises:
        SettingsError: It is not to stay down at all, or not for any time.
    """
    if for_ is None:
        return None
    if not hold:
        raise SettingsError("for_ goes with hold=True: nothing is kept down without", fix=["add hold=True"])
    lasts = seconds(for_, name="for_")
    if not lasts:
        raise SettingsError("for_=0 keeps nothing down", fix=["give the seconds for which it stays down: for_='90s'"])
    return lasts


@dataclass(frozen=True)
class NodeTarget:
    """A node that can be broken: ``chaos.head``, ``chaos.worker(...)``, ``chaos.node(...)``.

    Args:
        rig: The cluster under test, and what is recorded about it.
        kind: The marker's name.
        node: The node's name.
        stays_down: Whether it comes back only when it is healed, as a lost machine does.
    """

    rig: Rig
    kind: str
    node: str
    stays_down: bool = False

    def kill(
        self,
        *,
        hold: bool = False,
        for_: float | str | None = None,
        must_land: bool = True,
        allow_total_loss: bool = False,
    ) -> Injection:
        """SIGKILL to all its processes (forced deletion of its pod); a machine loses its power.

        Args:
            hold: Whether it stays down until it is healed.
            for_: With `hold`: seconds after which it may come back by itself.
            must_land: Whether it is an error if nothing shows that it went down.
            allow_total_loss: Whether it may be the last that runs on an external cluster.

        Raises:
            NotLanded: Nothing shows that it went down, and it must (`must_land`).
            SettingsError: There is a `for_` without `hold`.
        """
        with self.rig.current.allowing_total_loss(allow_total_loss):
            return self._down("kill", hold, for_, must_land)

    def stop(
        self,
        *,
        hold: bool = False,
        for_: float | str | None = None,
        must_land: bool = True,
        allow_total_loss: bool = False,
    ) -> Injection:
        """SIGTERM (graceful deletion): it drains, and is killed after the grace period; a machine is shut down.

        Arguments: those of `kill`.

        Raises:
            NotLanded: Nothing shows that it went down, and it must (`must_land`).
            SettingsError: There is a `for_` without `hold`.
        """
        with self.rig.current.allowing_total_loss(allow_total_loss):
            return self._down("stop", hold, for_, must_land)

    def freeze(
        self, for_: float | str = FREEZE_FOR, *, must_land: bool = True, allow_total_loss: bool = False
    ) -> Injection:
        """SIGSTOP to all its processes for so many seconds.

        Raises:
            NotLanded: Nothing shows that it stands still, and it must (`must_land`).
        """
        lasts = seconds(for_, name="for_")
        fault = self._frozen(lasts)
        with self.rig.current.allowing_total_loss(allow_total_loss):
            return Injection(self.rig, fault, hold_for=lasts, must_land=must_land)

    def _down(self, how: Literal["kill", "stop"], hold: bool, for_: float | str | None, must_land: bool) -> Injection:
        held = hold or self.stays_down
        lasts = hold_seconds(for_, hold=held)
        ids = signs.node_ids(self.rig, self.node)
        fault = NodeDown(self.rig, self.kind, self.node, how, held, self._victims(), ids, lasts)
        if self.node == HEAD:
            return inject_without_gcs(self.rig, fault, lasts, must_land=must_land)
        return Injection(self.rig, fault, hold_for=lasts, must_land=must_land)

    def _frozen(self, lasts: float) -> NodeFrozen:
        return NodeFrozen(self.rig, self.kind, self.node, self._victims(), lasts)

    def _victims(self) -> tuple[Component, ...]:
        return tuple(c for c in self.rig.watcher.sample().components if c.node == self.node)


def break_node(target: NodeTarget, how: str, *, hold: bool, for_: float | None, must_land: bool) -> Injection:
    """Does to a node what a marker says."""
    if how == "freeze":
        return target.freeze(freeze_seconds(for_), must_land=must_land)
    return (target.kill if how == "kill" else target.stop)(hold=hold, for_=for_, must_land=must_land)


def choose_worker(rig: Rig, which: str) -> str:
    """The name of a worker: by its name, ``most_replicas``, or ``random``."""
    topology = rig.watcher.sample()
    workers = topology.of("worker")
    serving = rig.traffic.serving(rig.health.in_service())
    counts = {w.node: sum(replica.node == w.node for replica in serving) for w in workers}
    if which == "most_replicas":
        most = max(counts.values(), default=0)
        return rig.choose([w for w in workers if counts[w.node] == most], "worker", topology).node
    if which == "random":
        return rig.choose([w for w in workers if counts[w.node]] or workers, "worker", topology).node
    return rig.choose([w for w in workers if w.node == which], f"worker {which!r}", topology).node
