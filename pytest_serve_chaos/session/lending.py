"""The rig is lent to one test at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from pytest_serve_chaos.cluster.test_logs import LogsOfTest
from pytest_serve_chaos.events import BrokenOff, Demanded, FaultAsked, Judged, LogsKept, Skipped, TrafficBegan, has
from pytest_serve_chaos.faults.admission import admit
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.history import ExperimentLog
from pytest_serve_chaos.load import write_expectations
from pytest_serve_chaos.markers import cluster_keywords, fault_requests
from pytest_serve_chaos.model import NO_DEMANDS
from pytest_serve_chaos.restore import restore
from pytest_serve_chaos.results import is_experiment, result_of, unfinished
from pytest_serve_chaos.session.collection import Collection
from pytest_serve_chaos.session.lifetime import RunLifetime
from pytest_serve_chaos.session.log_excerpts import keep_log_lines
from pytest_serve_chaos.session.repeat import Repetition
from pytest_serve_chaos.session.results import Results
from pytest_serve_chaos.session.terminal import Terminal


@dataclass(frozen=True, slots=True)
class RigUse:
    """What a test has had of the rig.

    Attributes:
        rig: The rig itself.
        names_before: The experiments that the history had before the test.
        results_before: How many results there were before it.
    """

    rig: Rig
    names_before: frozenset[str]
    results_before: int

    @property
    def names(self) -> list[str]:
        """The test's own experiments, in the order in which they began; without what only looked at the cluster."""
        history = self.rig.history
        names = [name for name in history.experiments() if name not in self.names_before]
        return [name for name in names if is_experiment(history.of(name))]


@dataclass(slots=True)
class CurrentTest:
    """The test that asked for the rig last.

    Attributes:
        nodeid: Which test; "" before the first.
        use: What it has, or had; None where it did not get the rig.
        logs: Its logs.
        ended_by: The error that ended it, in one line.
        skipped: Why it was skipped.
        broken_rig: The error that shows that the rig is broken, and says nothing of the app.
    """

    nodeid: str = ""
    use: RigUse | None = None
    logs: LogsOfTest | None = None
    ended_by: str = ""
    skipped: str = ""
    broken_rig: BaseException | None = None


class Lending:
    """Lends the rig to tests, and judges what they have not judged themselves.

    Args:
        lifetime: Of the run, which has the rig.
        collection: Says which cluster a test wants.
        results: Of all experiments, also of those that a test has not judged itself.
        terminal: Shows what the cluster is.
        repetition: Knows how a test is run again.

    Attributes:
        test: The test that asked for the rig last.
        trial: Which trial of a test that is run several times is run now; each has choices of its own.
    """

    def __init__(
        self,
        lifetime: RunLifetime,
        collection: Collection,
        results: Results,
        terminal: Terminal,
        repetition: Repetition,
    ) -> None:
        self.test = CurrentTest()
        self.trial = 1
        self._lifetime = lifetime
        self._collection = collection
        self._results = results
        self._terminal = terminal
        self._repetition = repetition
        self._names: set[str] = set()
        self._interrupted = False

    def pytest_keyboard_interrupt(self) -> None:
        """From now on nothing is waited for but the end of the cluster. What heals at once is healed at once."""
        self._interrupted = True
        self._lifetime.heal_at_once()

    def use_of(self, item: pytest.Item) -> RigUse | None:
        """What a test has of the rig, if it has it now or had it last."""
        return self.test.use if self.test.nodeid == item.nodeid else None

    def lend(self, item: pytest.Item) -> Iterator[Rig]:
        """The rig for a test; afterwards the cluster has its first shape again, or is rebuilt."""
        with self._terminal.showing(item.name, self._rig_of_the_run):
            yield from self._lend(item)

    def _rig_of_the_run(self) -> Rig | None:
        run = self._lifetime.begun
        return None if run is None else run.rig

    def _lend(self, item: pytest.Item) -> Iterator[Rig]:
        self.test = test = CurrentTest(item.nodeid)
        # pytest keeps them when a test is run again.
        item.user_properties[:] = self._results.without_properties(item.user_properties)
        run, spec = self._lifetime.run, self._collection.spec_of(item)
        for fault in fault_requests(item.iter_markers(), run.faults):
            fault.check_cluster(spec)  # so that no cluster is started for a test that it must skip
        rig = run.rig_for(spec, test=item.nodeid)
        self._terminal.say_header(rig)
        run.choose_for(item.nodeid if self.trial == 1 else f"{item.nodeid} trial {self.trial}")
        rig.current.begin_test(self._name(item), cluster_keywords(item.iter_markers()))
        for fault in fault_requests(item.iter_markers(), rig.run.faults):
            admit(rig, fault.kind, fault.options)  # so that a test whose fault is refused is skipped before it begins
        rig.soundness.lend()
        test.use = use = RigUse(rig, frozenset(rig.history.experiments()), len(self._results))
        test.logs = logs = LogsOfTest(rig.cluster, run.directory, rig.current.test)
        try:
            yield rig
        finally:
            try:
                if not self._interrupted:  # nobody waits for a cluster that ends now
                    keep_log_lines(rig.history, use.names, logs)
                    self._take_back(item, use)
            except Exception as error:
                test.broken_rig = error
                raise
            finally:
                logs.close()
            for name in use.names:
                rig.history.add(self._repetition.of(item.nodeid, item.path, name))
            self._results.complete(use.results_before, rig.history)
            if not self._interrupted:
                _record(logs, {rig.current.test, *use.names}, rig)

    def _take_back(self, item: pytest.Item, use: RigUse) -> None:
        rig, names = use.rig, use.names
        if names and rig.current.experiment not in names:
            rig.current.begin(names[-1])  # nothing was broken by hand after the last of them
        restore(rig)
        rig.soundness.take_back()
        for name in use.names:
            if not has(Judged, rig.history.of(name)):
                self._keep_unjudged(item, rig, name)
        rig.check_watches()

    def _keep_unjudged(self, item: pytest.Item, rig: Rig, name: str) -> None:
        """Puts into the table what the test broke and did not judge."""
        log = ExperimentLog(rig.history, name)
        if self.test.skipped and not log.has(FaultAsked):
            log.add(Skipped(self.test.skipped))
            return
        keep = self._results.keeper(item)
        if log.has(Demanded):  # an error kept it from its verdict
            if self.test.ended_by:
                log.add(BrokenOff(f"an error ended it before its verdict: {self.test.ended_by}"))
            keep(unfinished(rig.history, name))
            return
        source = next((event.source for event in log.of(TrafficBegan)), "")
        write_expectations(log, NO_DEMANDS, autoscaled=rig.health.shape.autoscaled, source=source)
        result = result_of(rig.history, name)
        log.add(Judged(result.outcome))
        keep(result)

    def _name(self, item: pytest.Item) -> str:
        name = item.name.removeprefix("test_")
        unique = next(n for n in (name, *(f"{name}-{i}" for i in range(2, 10_000))) if n not in self._names)
        self._names.add(unique)
        return unique


def _record(logs: LogsOfTest, experiments: set[str], rig: Rig) -> None:
    """Notes in the history where the logs of a test's experiments are."""
    if logs.directory is not None:
        for name in sorted(experiments):
            rig.history.add(LogsKept(logs.place, experiment=name, directory=logs.place))
