"""What runs now on a cluster, and under which name its events are written."""

from __future__ import annotations

from pytest_serve_chaos.history import ExperimentLog, History
from pytest_serve_chaos.observe.watcher import Watcher


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
    """

    def __init__(self, history: History, watcher: Watcher) -> None:
        self.history = history
        self.test = ""
        self.experiment = ""
        self.asked_for: frozenset[str] = frozenset()
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

    def end(self, by_hand: str) -> None:
        """The experiment is over: what the test does by hand from now on is not part of it, and gets that name."""
        self._by_hand = by_hand

    def begin_by_hand(self) -> None:
        """The test does something by hand; after an experiment its events get a name of their own."""
        if self._by_hand:
            self.begin(self._by_hand)
