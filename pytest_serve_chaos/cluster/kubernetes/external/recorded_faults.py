"""Faults in the pods of an external RayService: as far as its policy allows, and on record until they are healed.

They are recorded before they begin: if the run ends by force, the record says which pods must be restored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from signal import SIGCONT, SIGKILL, SIGSTOP
from typing import Literal, TypeAlias

from pytest_serve_chaos.cluster.capabilities import FreezesNodes, KillsNodes, SetsHealthFlags, SignalsProcesses
from pytest_serve_chaos.cluster.kubernetes.client.records import Pod
from pytest_serve_chaos.cluster.kubernetes.external.admission import Admission
from pytest_serve_chaos.cluster.kubernetes.rayservice.pods import RayPods
from pytest_serve_chaos.errors import NoSuchTarget, Unsupported
from pytest_serve_chaos.model import Component, Evidence, Identity

Record: TypeAlias = Callable[[Pod], Callable[[], None]]
"""Records that something in that pod must be restored; returns what removes that record."""


class Ledger:
    """What is broken in pods now.

    Args:
        record: Puts a pod on record.
    """

    def __init__(self, record: Record) -> None:
        self._record = record
        self._open: dict[str, Callable[[], None]] = {}

    def begin(self, what: str, pod: Pod) -> None:
        """Call it before that is broken in that pod."""
        if what not in self._open:
            self._open[what] = self._record(pod)

    def end(self, what: str) -> None:
        """Call it when there is nothing to restore any more, or never was."""
        done = self._open.pop(what, None)
        if done is not None:
            done()


@dataclass(frozen=True, slots=True)
class UndoRecords:
    """Where changes of an external cluster are on record until they are undone.

    Attributes:
        broken: Called with a pod before something in it is stopped or flagged; returns what takes it off.
        cordoned: Called with a node's name and UID before it is cordoned.
        uncordoned: Called with that name when there is nothing to undo any more.
        stale: Called before proxies lose their controller for good; returns what takes that off.
        note: What the annotation of a node says that is cordoned: whose pods were to leave it.
    """

    broken: Record = lambda _: lambda: None
    cordoned: Callable[[str, str], None] = lambda _name, _uid: None
    uncordoned: Callable[[str], None] = lambda _: None
    stale: Callable[[], Callable[[], None]] = lambda: lambda: None
    note: str = ""


class AdmittedDeletions:
    """Takes Ray nodes down that may be lost. Has the capability `KillsNodes`.

    Args:
        deletions: Takes them down.
        admission: Says which may be lost.
    """

    def __init__(self, deletions: KillsNodes, admission: Admission) -> None:
        self._deletions = deletions
        self._admission = admission

    def kill_node(self, name: str, *, how: Literal["kill", "stop"], hold: bool) -> Sequence[Evidence]:
        """Deletes the node's pod, if the policy allows it.

        Raises:
            Unsupported: It must not be done to this cluster.
        """
        self._admission.admit_loss(name, how, hold=hold)
        return self._deletions.kill_node(name, how=how, hold=hold)

    def restore_node(self, name: str) -> None:
        """Does nothing: no node is ever held."""
        self._deletions.restore_node(name)


class RecordedFreezes:
    """Stops Ray nodes that may be lost. Has the capability `FreezesNodes`.

    Args:
        freezes: Stops them.
        admission: Says which may be lost.
        ledger: Where they are on record.
        pods: The pods.
    """

    def __init__(self, freezes: FreezesNodes, admission: Admission, ledger: Ledger, pods: RayPods) -> None:
        self._freezes = freezes
        self._admission = admission
        self._ledger = ledger
        self._pods = pods

    def freeze_node(self, name: str, *, lasts: float | None = None) -> Sequence[Evidence]:
        """Stops the node's processes, where the policy allows it; it is on record until it is thawed.

        Raises:
            Unsupported: It must not be done to this cluster.
        """
        self._admission.admit_loss(name, "freeze")
        self._ledger.begin(name, self._pods.running(name))
        return self._freezes.freeze_node(name, lasts=lasts)

    def thaw_node(self, name: str) -> None:
        """Resumes them."""
        self._freezes.thaw_node(name)
        self._ledger.end(name)


class RecordedSignals:
    """Sends signals to processes in pods. Has the capability `SignalsProcesses`.

    Args:
        signals: Sends them.
        ledger: Where stopped processes are on record.
        pods: The pods.
    """

    def __init__(self, signals: SignalsProcesses, ledger: Ledger, pods: RayPods) -> None:
        self._signals = signals
        self._ledger = ledger
        self._pods = pods

    def signal_process(self, identity: Identity, signal: int, *, lasts: float | None = None) -> None:
        """Sends the signal; what is stopped is on record until it goes on, or is gone."""
        if signal == SIGSTOP and identity.kind == "process":
            self._ledger.begin(str(identity), self._pods.with_process(identity))
        try:
            self._signals.signal_process(identity, signal, lasts=lasts)
        except NoSuchTarget:
            self._ledger.end(str(identity))
            raise
        if signal in (SIGCONT, SIGKILL):
            self._ledger.end(str(identity))


class RecordedFlags:
    """Sets health flags. Has the capability `SetsHealthFlags`.

    Args:
        flags: Sets them.
        ledger: Where they are on record.
        pods: The pods.
    """

    def __init__(self, flags: SetsHealthFlags, ledger: Ledger, pods: RayPods) -> None:
        self._flags = flags
        self._ledger = ledger
        self._pods = pods

    def set_health_flag(
        self, replica: Component, mode: Literal["raise", "hang"], *, lasts: float | None = None
    ) -> None:
        """Writes the flag; it is on record until it is removed."""
        flag = f"flag of {replica.identity}"
        self._ledger.begin(flag, self._pods.with_process(replica.identity))
        try:
            self._flags.set_health_flag(replica, mode, lasts=lasts)
        except Unsupported:
            self._ledger.end(flag)
            raise

    def clear_health_flag(self, replica: Component) -> None:
        """Removes the flag."""
        self._flags.clear_health_flag(replica)
        self._ledger.end(f"flag of {replica.identity}")
