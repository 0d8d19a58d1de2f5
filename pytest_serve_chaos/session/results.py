"""The results of the experiments, in the order in which they were judged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import pytest

from pytest_serve_chaos.analysis.result import Result
from pytest_serve_chaos.events import LogsExcerpted, Repeatable, RunAgain, TrialEnded
from pytest_serve_chaos.history import History
from pytest_serve_chaos.report.registry import Reporters


class Results:
    """The results of all tests, for the table, the JSON document and JUnit.

    Args:
        reporters: Say which properties a test case gets with a result.
    """

    def __init__(self, reporters: Reporters) -> None:
        self._reporters = reporters
        self._results: list[Result] = []
        self._properties: set[str] = set()

    def __len__(self) -> int:
        return len(self._results)

    def since(self, number: int) -> tuple[Result, ...]:
        """All but the first so many."""
        return tuple(self._results[number:])

    def keeper(self, item: pytest.Item) -> Callable[[Result], None]:
        """Takes the results of a test."""

        def keep(result: Result) -> None:
            self._results.append(result)
            properties = self._reporters.properties(result)
            self._properties |= {name for name, _ in properties}
            item.user_properties.extend(properties)

        return keep

    def discount(self, since: int, history: History) -> None:
        """Notes that those of a test do not count, because it is run again.

        Args:
            since: How many results there were before the test.
            history: Of the run.
        """
        for number, result in enumerate(self._results[since:], since):
            if not result.run_again:
                event = history.add(RunAgain("its test is run again", experiment=result.experiment))
                self._results[number] = replace(result, events=(*result.events, event))

    def complete(self, since: int, history: History) -> None:
        """Adds to the results of a test what the history got after they were judged: log lines, and its command.

        Args:
            since: How many results there were before the test.
            history: Of the run.
        """
        for number, result in enumerate(self._results[since:], since):
            later = (one for one in history.of(result.experiment) if isinstance(one, (LogsExcerpted, Repeatable)))
            added = tuple(one for one in later if one not in result.events)
            self._results[number] = replace(result, events=(*result.events, *added))

    def note_trial(self, since: int, history: History, trial: TrialEnded, names: Sequence[str]) -> None:
        """Notes of which trial the results of a test are.

        Args:
            since: How many results there were before the trial.
            history: Of the run.
            trial: The trial.
            names: What the experiments of the first trial were called, by which all trials are found.
        """
        for number, result in enumerate(self._results[since:], since):
            of = names[number - since] if number - since < len(names) else result.experiment
            event = history.add(replace(trial, experiment=result.experiment, of=of))
            self._results[number] = replace(result, events=(*result.events, event))

    def without_properties(self, properties: Iterable[tuple[str, object]]) -> list[tuple[str, object]]:
        """The properties of a test case, without those that reporters have given it."""
        return [pair for pair in properties if pair[0] not in self._properties]
