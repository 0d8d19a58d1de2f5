"""Which pods have to be mended if this run ends by force: on record before they are broken, until they are healed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

Record: TypeAlias = Callable[[str], Callable[[], None]]
"""Puts on record that something in the pod of that name has to be mended; gives what takes it off the record again."""


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
        """Call it when that needs no mending any more, or never did."""
        done = self._open.pop(what, None)
        if done is not None:
            done()
