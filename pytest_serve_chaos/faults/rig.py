"""What a fault works with: the cluster, who watches it, where it is written down, and the seed's choices."""

from __future__ import annotations

import itertools
import random
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from pytest_serve_chaos.analysis.configuration import ConfigWarning
from pytest_serve_chaos.cluster.base import Cluster, Progress
from pytest_serve_chaos.cluster.profiles import Timing, timing
from pytest_serve_chaos.errors import NoSuchTarget, ServeChaosError, Unsupported
from pytest_serve_chaos.history import History
from pytest_serve_chaos.model import Component, Json, Topology
from pytest_serve_chaos.observe.handles import requests_logged
from pytest_serve_chaos.observe.observer import Observer
from pytest_serve_chaos.observe.shape import Shape
from pytest_serve_chaos.observe.watcher import Watcher

T = TypeVar("T")


class Healable(Protocol):
    """Something that was broken and can be put back."""

    def close(self) -> None:
        """Puts it back; the second call does nothing."""
        ...


@dataclass
class Rig:
    """One cluster and all that is around it while experiments run on it.

    Attributes:
        experiment: The name under which events are written now.
        first_shape: The shape with which the cluster began.
        shape: The steady state's shape, which a recovery must reach again; a test that deploys more changes it.
        serve_config: The Serve config of the steady state.
        steady_since: From when on answers count as given before the fault, monotonic seconds.
        injections: All that was injected since the last `heal_all`, healed or not.
        spoilt: Why the cluster must be rebuilt before the next experiment; empty if it need not.
        lent: Whether a test has it; then it is not known to be as it was at first.
        warned: What the check of the configuration has said in this run, of this cluster or an earlier one.
    """

    cluster: Cluster
    observer: Observer
    watcher: Watcher
    history: History
    random: random.Random
    progress: Progress
    first_shape: Shape
    serve_config: dict[str, Json]
    experiment: str = ""
    shape: Shape = field(init=False)
    steady_since: float = 0.0
    injections: list[Healable] = field(default_factory=list)
    spoilt: str = ""
    lent: bool = False
    warned: set[ConfigWarning] = field(default_factory=set)
    canaries: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        self.shape = self.first_shape

    @property
    def sound(self) -> bool:
        """Whether the cluster is known to be as it was at first."""
        return not self.lent and not self.spoilt

    @property
    def timing(self) -> Timing:
        """The periods of the cluster's profile."""
        return timing(self.cluster.spec.profile)

    def heal_all(self) -> None:
        """Heals all that was injected, the last first.

        Raises:
            ServeChaosError: Something could not be healed; the rest was.
        """
        failed: list[ServeChaosError] = []
        while self.injections:
            try:
                self.injections.pop().close()
            except ServeChaosError as error:
                failed.append(error)
        if failed:
            raise failed[0]

    def capability(self, protocol: type[T], verb: str) -> T:
        """The cluster as one that has the capability.

        Raises:
            Unsupported: It has not.
        """
        if isinstance(self.cluster, protocol):
            return self.cluster
        raise Unsupported(
            f"the {self.cluster.description.backend} backend cannot {verb}",
            looked_at=[f"{type(self.cluster).__name__} has no {protocol.__name__}"],
        )

    def choose(self, candidates: Sequence[Component], what: str, topology: Topology) -> Component:
        """One of the candidates, by the seed; the choice is printed.

        Raises:
            NoSuchTarget: There are none.
        """
        if not candidates:
            raise NoSuchTarget(
                f"there is no {what} to break", looked_at=[f"{c.name} (PID {c.pid})" for c in topology.components]
            )
        ordered = sorted(candidates, key=lambda c: (c.node, c.deployment or "", c.replica or "", str(c.identity)))
        chosen = self.random.choice(ordered)
        if len(ordered) > 1:
            self.progress(f"chose {chosen.name} (PID {chosen.pid}) of {len(ordered)} by the seed")
        return chosen

    def answers_of(self, victims: Collection[Component], *, since: float) -> int:
        """How many good answers requests scheduled since then got from these replicas and proxies.

        Where no answer names the replicas (children of a composed app), their logs say how many requests they had.
        """
        replicas = [c for c in victims if c.role == "replica" and c.replica]
        proxies = {c.name for c in victims if c.role == "proxy"}
        names = {c.replica for c in replicas}
        good = [r for r in self.history.requests_since(since) if not r.lost]
        answered = sum(r.path in proxies or not names.isdisjoint(r.replicas) for r in good)
        return answered or len(requests_logged(self.cluster, replicas, since))
