"""What a fault is to an injection: it strikes, shows signs, and heals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from pytest_serve_chaos.model import Component, Evidence


@dataclass(frozen=True, slots=True)
class Strike:
    """What a fault did at once.

    Attributes:
        asked: When the first signal could have hit, or before that: an error in it must be on the early side.
        evidence: The signs from the victim's side.
        hit: When a victim that ends slowly ended: what is on its way through it until then is cut. None: at once.
    """

    asked: float
    evidence: Sequence[Evidence]
    hit: float | None = None


def ended(signs: Sequence[Evidence]) -> float | None:
    """When a victim that ends slowly ended, by its own last sign; None without one."""
    return max((sign.at for sign in signs if sign.side == "victim"), default=None)


class Fault(Protocol):
    """One way to break one target that has been chosen."""

    @property
    def kind(self) -> str:
        """The marker's name: ``head_failure``."""
        ...

    @property
    def options(self) -> Mapping[str, object]:
        """What its marker would say: ``how``, and what tells who is lost (``which``, ``deployment``, ``hold``)."""
        ...

    @property
    def text(self) -> str:
        """What it does, for people: ``SIGKILL to all processes of head``."""
        ...

    @property
    def victims(self) -> tuple[Component, ...]:
        """What it hits."""
        ...

    @property
    def serves(self) -> bool:
        """Whether the victims answer requests themselves, so that some must have answered before."""
        ...

    @property
    def sick(self) -> tuple[Component, ...]:
        """Victims that live on when it has landed: redundancy is not back as long as one of them is there."""
        ...

    @property
    def sign_within(self) -> float:
        """Seconds in which the cluster's own sign must be seen."""
        ...

    def strike(self) -> Strike:
        """Breaks it, and waits for the victim's own sign."""
        ...

    def sign(self, struck: float) -> Evidence | None:
        """The cluster's sign that it broke, if it can be seen now; `struck` is when the victim's own sign was."""
        ...

    def heal(self) -> None:
        """Puts back what the platform does not put back by itself. May be called twice."""
        ...


@runtime_checkable
class LooksAfterwards(Protocol):
    """A fault that can say at the end what has become of what it hit, where no component shows that."""

    def afterwards(self) -> Iterable[str]:
        """What has become of it, a sentence each."""
        ...


@runtime_checkable
class TakesTime(Protocol):
    """A fault that goes on when it has landed: redundancy is not back before it is over."""

    def unfinished(self) -> list[str]:
        """What of it is not over yet, in words."""
        ...
