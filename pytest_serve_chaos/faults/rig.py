"""What a fault works with: the cluster, who watches it, where it is written down, and the seed's choices."""

from __future__ import annotations

import itertools
import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from pytest_serve_chaos.analysis.configuration import ConfigWarning
from pytest_serve_chaos.cluster.base import Cluster, Progress
from pytest_serve_chaos.cluster.capabilities import HAS_PROXY_ENDPOINTS, IS_EXTERNAL, AnyCapability, Capability
from pytest_serve_chaos.cluster.profiles import Timing, timing
from pytest_serve_chaos.cluster.waits import Waits, waits_of
from pytest_serve_chaos.errors import NoSuchTarget, NotHealed, ServeChaosError, Unsupported, in_one_line
from pytest_serve_chaos.faults.registry import FaultRegistry
from pytest_serve_chaos.history import History
from pytest_serve_chaos.model import Component, Json, Slowness, Topology
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
        test: The name of the test that has it.
        experiment: The name under which events are written now: that of the test, or of one of its experiments.
        by_hand: The name for what a test breaks by hand after an experiment; "" as long as there was none.
        first_shape: The shape with which the cluster began.
        shape: The steady state's shape, which a recovery must reach again; a test that deploys more changes it.
        serve_config: The Serve config of the steady state.
        faults: All faults that the run knows.
        steady_since: From when on answers count as given before the fault, monotonic seconds.
        slowness: How long requests take in steady state, and what is too long.
        source: Whose requests are judged live: the experiment's own, or those of the first traffic of a test by hand.
        injections: All that was injected, until `heal_all` has healed it.
        injected: How many faults were injected in this run.
        tainted: Why the cluster must be rebuilt before the next experiment; "" if there is no reason.
        asked_for: What the test says of the cluster that it wants: the keywords of its `serve_cluster` markers.
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
    serve_config: dict[str, Json] = field(repr=False)
    faults: FaultRegistry
    test: str = ""
    experiment: str = ""
    by_hand: str = ""
    shape: Shape = field(init=False)
    steady_since: float = 0.0
    slowness: Slowness = field(default_factory=Slowness)
    source: str = ""
    _running: list[str] = field(default_factory=list)
    injections: list[Healable] = field(default_factory=list)
    injected: int = 0
    tainted: str = ""
    asked_for: frozenset[str] = frozenset()
    lent: bool = False
    warned: set[ConfigWarning] = field(default_factory=set)
    canaries: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    sources: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        self.shape = self.first_shape

    def begin_by_hand(self) -> None:
        """What a test does by hand after an experiment is not part of that: its events get a name of their own."""
        if self.by_hand:
            self.experiment, self.by_hand = self.by_hand, ""
            self.watcher.belongs_to(self.experiment)

    def admit(self, kind: str, options: Mapping[str, object]) -> None:
        """What every fault passes before anything is changed, whether a marker names it or a test injects it by hand.

        Args:
            kind: The name of the fault's marker.
            options: What the marker would say.

        Raises:
            SettingsError: There is no such fault, or its marker cannot say that.
            Unsupported: The cluster is external, and it cannot or must not be broken in that way.
        """
        external = self.cluster.capability(IS_EXTERNAL)
        if external is not None:
            external.admit(self.faults.choose(kind, options).touch(), self.asked_for)

    def new_source(self) -> str:
        """A name for the requests of one traffic, which no other has in this run."""
        return f"traffic-{next(self.sources)}"

    def begin_traffic(self, source: str) -> None:
        """Notes that traffic begins. What is judged live is the first of all that runs at the same time."""
        if not self._running:
            self.source = source
            self.slowness = Slowness()
        self._running.append(source)

    def end_traffic(self, source: str) -> None:
        """Notes that traffic ends."""
        self._running = [one for one in self._running if one != source]

    @property
    def sound(self) -> bool:
        """Whether the cluster is known to be as it was at first."""
        return not self.lent and not self.tainted

    @property
    def timing(self) -> Timing:
        """The periods of the cluster's profile."""
        return timing(self.cluster.spec.profile)

    @property
    def waits(self) -> Waits:
        """How long the plugin waits for the cluster."""
        return waits_of(self.cluster)

    def sign_within(self, seconds: float) -> float:
        """Seconds to wait for a sign of a fault: those given, or fewer where the cluster is known to be quick."""
        return min(seconds, self.waits.signs_within)

    def heal_all(self) -> None:
        """Heals all that was injected, the last first. What could not be healed stays on the list, for another try.

        Raises:
            ServeChaosError: Something could not be healed, for whatever reason; the rest was.
            KeyboardInterrupt: That, or the like, came in the middle; what it did not meet was healed.
        """
        failed: list[BaseException] = []
        for injection in reversed(tuple(self.injections)):
            try:
                injection.close()
            except BaseException as error:  # whatever it is, the others are still broken
                failed.append(error)
                self.progress(f"not healed: {in_one_line(error)}")
            else:
                self.injections.remove(injection)
        if failed:
            raise _as_one(failed)

    def capability(self, wanted: Capability[T], verb: str) -> T:
        """The object of the cluster that has the capability.

        Raises:
            Unsupported: None has.
        """
        found = self.cluster.capability(wanted)
        if found is None:
            raise self._cannot(verb, (wanted,))
        return found

    def require(self, capabilities: tuple[AnyCapability, ...], verb: str) -> None:
        """Makes sure that the cluster has one of the capabilities.

        Raises:
            Unsupported: It has none.
        """
        if all(one.of(self.cluster) is None for one in capabilities):
            raise self._cannot(verb, capabilities)

    def _cannot(self, verb: str, capabilities: tuple[AnyCapability, ...]) -> Unsupported:
        return Unsupported(
            f"the {self.cluster.description.backend} backend cannot {verb}",
            checked=[f"{type(self.cluster).__name__} has no {' or '.join(one.name for one in capabilities)}"],
        )

    def choose(self, candidates: Sequence[Component], what: str, topology: Topology) -> Component:
        """One of the candidates, by the seed; the choice is printed.

        Raises:
            NoSuchTarget: There are none.
        """
        if not candidates:
            raise NoSuchTarget(
                f"there is no {what} to break", checked=[f"{c.name} (PID {c.pid})" for c in topology.components]
            )
        ordered = sorted(candidates, key=lambda c: (c.node, c.deployment or "", c.replica or "", str(c.identity)))
        chosen = self.random.choice(ordered)
        if len(ordered) > 1:
            self.progress(f"chose {chosen.name} (PID {chosen.pid}) of {len(ordered)} by the seed")
        return chosen

    def serving(self, candidates: Sequence[Component]) -> list[Component]:
        """Those of the candidates that answers of the traffic name; all of them where no answer names any."""
        good = [r for r in self.history.requests_since(self.steady_since) if not r.lost] if self._running else []
        named = {name for r in good for name in (*r.replicas, r.path)}
        return [c for c in candidates if (c.replica if c.role == "replica" else c.name) in named] or list(candidates)

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

    def only_probed(self, victims: Collection[Component], *, since: float) -> bool:
        """Whether none of the requests that are judged is known to have gone through these, but probes have.

        Where each proxy has an address of its own, persistent connections go to it, wherever the user's URL leads. On a
        shared address they show where that leads to.
        """
        good = [r for r in self.history.requests_since(since) if not r.lost]
        if self.cluster.capability(HAS_PROXY_ENDPOINTS) is None:
            return False
        names = {c.replica for c in victims if c.role == "replica"}
        proxies = {c.name for c in victims if c.role == "proxy"}
        judged = any(not r.kept and not names.isdisjoint(r.replicas) for r in good)
        return not judged and any(r.kept and (r.path in proxies or not names.isdisjoint(r.replicas)) for r in good)


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
        else f"{len(texts)} faults could not be healed: {texts[0]}; ...",
        checked=texts,
    )  # fmt: skip
    summary.__cause__ = first
    return summary
