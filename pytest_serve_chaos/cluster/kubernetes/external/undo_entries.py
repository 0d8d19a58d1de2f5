"""Which pods must be restored if this run ends by force: recorded before they are broken, until they are healed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

Record: TypeAlias = Callable[[str], Callable[[], None]]
"""Records that something in the pod of that name must be restored; returns what removes that record."""


class Ledger:
    """What is broken in pods now.

    Args:
        record: Puts a pod on record.
    """

    def __init__(self, record: Record) -> None:
        self._record = record
        self._open: dict[str, Callable[[], None]] = {}

    def begin(self, what: str, pod: str) -> None:
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
        broken: Called with a pod's name before something in it is stopped or flagged; returns what takes it off.
        cordoned: Called with a node's name before it is cordoned.
        uncordoned: Called with that name when there is nothing to undo any more.
    """

    broken: Record = lambda _: lambda: None
    cordoned: Callable[[str], None] = lambda _: None
    uncordoned: Callable[[str], None] = lambda _: None
