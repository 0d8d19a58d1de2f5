"""Whether a cluster can be used for the next experiment as it is."""

from __future__ import annotations


class Soundness:
    """What is known against a cluster. This is the only place where that is written."""

    def __init__(self) -> None:
        self._tainted = ""
        self._lent = False

    @property
    def tainted(self) -> str:
        """Why the cluster must be rebuilt before the next experiment, the latest reason; "" if there is none."""
        return self._tainted

    @property
    def is_sound(self) -> bool:
        """Whether the cluster is known to be as it was at first: no test has it, and nothing is known against it."""
        return not self._lent and not self._tainted

    def taint(self, reason: str) -> None:
        """Notes why the cluster must be rebuilt."""
        self._tainted = reason

    def clear(self) -> None:
        """Notes that what was known against the cluster was repaired."""
        self._tainted = ""

    def lend(self) -> None:
        """Notes that a test has the cluster."""
        self._lent = True

    def take_back(self) -> None:
        """Notes that the test has given the cluster back."""
        self._lent = False
