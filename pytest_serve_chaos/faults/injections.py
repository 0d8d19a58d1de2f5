"""All faults that were injected into a cluster, until they are healed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from pytest_serve_chaos.errors import NotHealed, ServeChaosError, in_one_line
from pytest_serve_chaos.model import Component, Identity


class Healable(Protocol):
    """Something that was broken and can be put back."""

    @property
    def victims(self) -> Sequence[Component]:
        """What it has broken and not put back."""
        ...

    def close(self) -> None:
        """Puts it back; the second call does nothing."""
        ...

    @property
    def heals_at_once(self) -> bool:
        """Whether that takes one call and waits for nothing."""
        ...

    @property
    def outlives_the_cluster(self) -> bool:
        """Whether what is broken may be outside of the cluster, so that it does not go with it."""
        ...


class Injections:
    """What was injected and is not known to be healed.

    Attributes:
        open: These, in the order in which they were injected.
    """

    def __init__(self) -> None:
        self.open: list[Healable] = []
        self._injected = 0

    def add(self, injection: Healable) -> int:
        """Notes a fault, before anything is broken, so that it is healed whatever happens; returns its number."""
        self.open.append(injection)
        self._injected += 1
        return self._injected

    @property
    def broken(self) -> frozenset[Identity]:
        """Whom they have broken and not put back. A successor has an identity of its own."""
        return frozenset(victim.identity for injection in self.open for victim in injection.victims)

    @property
    def outlive_the_cluster(self) -> bool:
        """Whether something is broken that may not go with the cluster."""
        return any(injection.outlives_the_cluster for injection in self.open)

    def heal_all(self, progress: Callable[[str], None]) -> None:
        """Heals all of them. What could not be healed stays open, for another try.

        First comes what heals at once, so that nothing stays frozen or cordoned for the minutes that the rest may take.
        What of it fails is tried again at the end: perhaps it needed something of the rest.

        Args:
            progress: Prints a line for people.

        Raises:
            ServeChaosError: Something could not be healed, for whatever reason; the rest was.
            KeyboardInterrupt: That, or the like, came in the middle; what it did not meet was healed.
        """
        last_first = self.open[::-1]
        first = self._heal([one for one in last_first if one.heals_at_once], progress)
        failed = [error for error in first if not isinstance(error, Exception)]
        failed += self._heal([one for one in last_first if not one.heals_at_once], progress)
        failed += self._heal([one for one in last_first if one.heals_at_once and one in self.open], progress)
        if failed:
            raise _as_one(failed)

    def heal_at_once(self, progress: Callable[[str], None]) -> None:
        """Heals what heals at once, whatever one of them raises. What could not be healed stays open.

        Args:
            progress: Prints a line for people.
        """
        self._heal([one for one in reversed(self.open) if one.heals_at_once], progress)

    def _heal(self, these: Sequence[Healable], progress: Callable[[str], None]) -> list[BaseException]:
        """Heals these, and returns what they raised."""
        failed: list[BaseException] = []
        for injection in these:
            try:
                injection.close()
            except BaseException as error:  # whatever it is, the others are still broken
                failed.append(error)
                progress(f"not healed: {in_one_line(error)}")
            else:
                self.open.remove(injection)
        return failed


def _as_one(failed: Sequence[BaseException]) -> BaseException:
    """What to raise for several heals that failed: whatever ends the run, else an error that names them all."""
    for error in failed:
        if not isinstance(error, Exception):
            return error
    first = failed[0]
    if len(failed) == 1 and isinstance(first, ServeChaosError):
        return first
    texts = [in_one_line(error) for error in failed]
    summary = NotHealed(
        f"a fault could not be healed: {texts[0]}" if len(texts) == 1
        else f"{len(texts)} faults could not be healed: {'; '.join(texts)}",
        checked=texts,
    )  # fmt: skip
    summary.__cause__ = first
    return summary
