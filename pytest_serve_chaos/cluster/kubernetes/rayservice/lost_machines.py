"""The machines that something was done to under a Ray node, until it is undone."""

from __future__ import annotations

import threading
from collections.abc import Callable

from pytest_serve_chaos.errors import ServeChaosError


class TakenMachines:
    """Which machine was under a Ray node when it was taken. Safe to use from several threads.

    A Ray node's name does not tell later: the next ``worker-1`` is on another machine, which may be taken, too.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken: dict[tuple[str, str], list[str]] = {}

    def take(self, how: str, name: str, machine: str) -> None:
        """Keeps in mind that this is done to the machine under a Ray node.

        Args:
            how: What: ``kill``, ``freeze``, ``delete`` or ``drain``.
            name: The Ray node.
            machine: The machine.
        """
        with self._lock:
            self._taken.setdefault((how, name), []).append(machine)

    def give_back(self, how: str, name: str, undo: Callable[[str], None]) -> None:
        """Undoes it for the machine that was taken last; does nothing where none is.

        Where that fails, it stays in mind, and those before it are given back now, so that none is lost behind it.

        Raises:
            ServeChaosError: What `undo` raised.
        """
        failed: ServeChaosError | None = None
        with self._lock:
            taken = self._taken.get((how, name), [])
            for number in reversed(range(len(taken))):
                try:
                    undo(taken[number])
                except ServeChaosError as error:
                    failed = failed or error
                    continue
                del taken[number]
                if failed is None:
                    return
        if failed is not None:
            raise failed

    def left(self, how: str) -> list[str]:
        """The machines to which this was done and which were not given back."""
        with self._lock:
            return sorted(m for (done, _), machines in self._taken.items() if done == how for m in machines)

    def give_all_back(self, how: str, undo: Callable[[str], None]) -> None:
        """Undoes it for all of them, whatever Ray node they were under; one that fails keeps no other.

        Raises:
            ServeChaosError: What `undo` raised first; then some are left.
        """
        failed: ServeChaosError | None = None
        with self._lock:
            names = [name for (done, name), machines in self._taken.items() if done == how for _ in machines]
        for name in names:
            try:
                self.give_back(how, name, undo)
            except ServeChaosError as error:
                failed = failed or error
        if failed is not None:
            raise failed
