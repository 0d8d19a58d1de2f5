"""What a fault works with: the cluster, who watches it, what runs on it, and the seed's choices."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

from pytest_serve_chaos.cluster.base import Cluster, Progress
from pytest_serve_chaos.cluster.capabilities import WATCHES, AnyCapability, Capability
from pytest_serve_chaos.cluster.profiles import Timing, timing
from pytest_serve_chaos.cluster.waits import Waits, waits_of
from pytest_serve_chaos.errors import NoSuchTarget, Unsupported, WatchEnded
from pytest_serve_chaos.faults.injections import Injections
from pytest_serve_chaos.faults.live_traffic import LiveTraffic
from pytest_serve_chaos.faults.registry import FaultRegistry
from pytest_serve_chaos.history import ExperimentLog, History
from pytest_serve_chaos.model import Component, ConfigWarning, Json, Topology
from pytest_serve_chaos.observe.health import Health
from pytest_serve_chaos.observe.observer import Observer
from pytest_serve_chaos.observe.pressure import MachineWatch
from pytest_serve_chaos.observe.watcher import Watcher

T = TypeVar("T")
Record: TypeAlias = Callable[[str, str], Callable[[], None]]


@dataclass(frozen=True, slots=True)
class OfTheRun:
    """What the clusters of one run have in common.

    Attributes:
        random: Makes all choices, by the seed.
        progress: Prints a line for people.
        faults: All faults that the run knows.
        warned: What the check of the configuration has said in this run.
        canaries: The numbers of canary apps; each is taken once.
        sources: The numbers of traffic; each is taken once.
        record: Writes into the undo journal what only people can repair, and how; returns what removes that entry.
        updates: The numbers of new versions of apps; each is taken once.
    """

    random: random.Random
    progress: Progress
    faults: FaultRegistry
    warned: set[ConfigWarning] = field(default_factory=set)
    canaries: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    sources: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    updates: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    record: Record = lambda _text, _command: lambda: None


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


class Current:
    """The test that has the cluster, and the experiment that its events belong to now.

    Args:
        history: Where events are written.
        watcher: Writes what it sees under the same name.

    Attributes:
        history: Where events are written.
        test: The name of the test.
        experiment: The name under which events are written now: that of the test, or of one of its experiments.
        asked_for: What the test says of the cluster that it wants: the keywords of its `serve_cluster` markers.
        total_loss_allowed: Whether the fault that is injected now may leave nothing of what it takes away.
    """

    def __init__(self, history: History, watcher: Watcher) -> None:
        self.history = history
        self.test = ""
        self.experiment = ""
        self.asked_for: frozenset[str] = frozenset()
        self.total_loss_allowed = False
        self._watcher = watcher
        self._by_hand = ""

    @property
    def log(self) -> ExperimentLog:
        """The events of what runs now."""
        return ExperimentLog(self.history, self.experiment)

    def begin_test(self, test: str, asked_for: frozenset[str]) -> None:
        """A test begins, with an experiment of the same name."""
        self.test, self.asked_for = test, asked_for
        self.begin(test)

    def begin(self, experiment: str) -> None:
        """From now on events belong to that experiment."""
        self.experiment, self._by_hand = experiment, ""
        self._watcher.belongs_to(experiment)

    @contextmanager
    def allowing_total_loss(self, allowed: bool) -> Iterator[None]:
        """What is injected meanwhile may leave nothing of what it takes away, if `allowed` here or around it."""
        before = self.total_loss_allowed
        self.total_loss_allowed = before or allowed
        try:
            yield
        finally:
            self.total_loss_allowed = before

    def end(self, by_hand: str) -> None:
        """The experiment is over: what the test does by hand from now on is not part of it, and gets that name."""
        self._by_hand = by_hand

    def begin_by_hand(self) -> None:
        """The test does something by hand; after an experiment its events get a name of their own."""
        if self._by_hand:
            self.begin(self._by_hand)


@dataclass(frozen=True, slots=True)
class Rig:
    """One cluster and all that is around it while experiments run on it.

    It only holds these together. Each part says for itself what changes, and is the only one that changes it.

    Attributes:
        cluster: The cluster.
        run: What it has in common with the other clusters of the run.
        watcher: Sees who is alive.
        health: Decides whether the cluster is whole.
        current: What runs now, and the log of its events.
        traffic: What is known of the traffic while it runs.
        serve_config: The Serve config of the steady state.
        machine: Sees what the processors of this machine do.
        injections: What was injected and is not healed yet.
        soundness: Whether the cluster can be used for the next experiment as it is.
    """

    cluster: Cluster
    run: OfTheRun
    watcher: Watcher
    health: Health
    current: Current
    traffic: LiveTraffic
    serve_config: Mapping[str, Json] = field(repr=False)
    machine: MachineWatch
    injections: Injections = field(default_factory=Injections)
    soundness: Soundness = field(default_factory=Soundness)

    @property
    def random(self) -> random.Random:
        """Makes all choices, by the seed."""
        return self.run.random

    @property
    def observer(self) -> Observer:
        """Asks Ray and Serve."""
        return self.watcher.observer

    @property
    def history(self) -> History:
        """The requests and events of the run."""
        return self.current.history

    @property
    def log(self) -> ExperimentLog:
        """The events of what runs now."""
        return self.current.log

    @property
    def timing(self) -> Timing:
        """The periods of the cluster's profile."""
        return timing(self.cluster.spec.profile)

    def dead_watches(self) -> tuple[str, ...]:
        """Which threads that watch the cluster ended although nobody stopped them, in words."""
        watches = self.cluster.capability(WATCHES)
        own = (*self.watcher.dead, *filter(None, (self.machine.dead,)))
        return own if watches is None else (*own, *watches.dead_watches())

    def check_watches(self) -> None:
        """Makes sure that the cluster is watched: else what was seen says nothing, and the next test needs a new one.

        Raises:
            WatchEnded: A thread that watches it has ended.
        """
        dead = self.dead_watches()
        if dead:
            self.soundness.taint("what watches it has ended")
            raise WatchEnded(
                "a thread or process that watches the cluster has ended, so it is unknown what happened to the cluster"
                " since then",
                checked=dead,
                fix=["unless somebody killed a process of the plugin, report this error with the run's directory"],
            )

    @property
    def progress(self) -> Progress:
        """Prints a line for people."""
        return self.run.progress

    @property
    def waits(self) -> Waits:
        """How long the plugin waits for the cluster."""
        return waits_of(self.cluster)

    def sign_within(self, seconds: float) -> float:
        """Seconds to wait for a sign of a fault: those given, or fewer where the cluster is known to be quick."""
        return min(seconds, self.waits.signs_within)

    def heal_all(self) -> None:
        """Heals all that was injected; see `Injections.heal_all`."""
        self.injections.heal_all(self.progress)

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
