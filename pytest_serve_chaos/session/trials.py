"""Runs a test several times: each trial has a verdict of its own, and the test has one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from _pytest.runner import runtestprotocol

from pytest_serve_chaos.analysis.trials import Series, TrialOutcome
from pytest_serve_chaos.analysis.words import number as number_of
from pytest_serve_chaos.errors import SettingsError
from pytest_serve_chaos.events import TrialEnded
from pytest_serve_chaos.fixtures import wants_cluster
from pytest_serve_chaos.markers import trials_request
from pytest_serve_chaos.session.lending import Lending
from pytest_serve_chaos.session.results import Results
from pytest_serve_chaos.session.statuses import OUTCOME
from pytest_serve_chaos.session.terminal import Terminal
from pytest_serve_chaos.settings import Settings

_NOTHING = ("inconclusive", "unfinished")
"""Outcomes of experiments that showed nothing."""

_SECTION = "serve chaos: trials"
_PROPERTY = "serve_chaos_trials"


@dataclass(frozen=True, slots=True)
class _Trial:
    """One run of the test.

    Attributes:
        reports: Those of setup, call and teardown.
        outcome: What it showed; None where it was skipped, or an error ended it, as it would end all others.
    """

    reports: Sequence[pytest.TestReport]
    outcome: TrialOutcome | None


class Trials:
    """Takes the place of pytest, and of plugins that run tests again, for the tests that are run several times.

    Args:
        lending: Lends the rig to each trial.
        results: Of all experiments.
        terminal: Where each trial's verdict is printed.
        settings: How often a test is run whose marker does not say it.
    """

    def __init__(self, lending: Lending, results: Results, terminal: Terminal, settings: Settings) -> None:
        self._lending = lending
        self._results = results
        self._terminal = terminal
        self._settings = settings
        self._names: list[str] = []

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Refuses markers that cannot be used."""
        for item in items:
            if wants_cluster(item):
                try:
                    trials_request(item.iter_markers(), self._settings)
                except SettingsError as error:
                    raise pytest.UsageError(f"{item.nodeid}: {error}") from error

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        """Runs all trials of a test, and reports the test once."""
        if not wants_cluster(item) or self._settings.dry_run:
            return None
        series = trials_request(item.iter_markers(), self._settings)
        if series.planned == 1:
            return None
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for report in self._reports(item, nextitem, series):
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def _reports(self, item: pytest.Item, nextitem: pytest.Item | None, series: Series) -> list[pytest.TestReport]:
        """Runs the trials until more cannot change the verdict; returns the reports of the test."""
        trials: list[_Trial] = []
        properties = list(item.user_properties)
        while True:
            item.user_properties[:] = properties  # pytest keeps those of each trial, and what it printed
            item._report_sections.clear()
            trial = self._trial(item, series)
            trials.append(trial)
            if trial.outcome is None:
                reports = list(trial.reports)
                break
            series = series.and_then(trial.outcome)
            if series.verdict is not None:
                reports = self._decided(item, series, trials)
                break
            if item.session.shouldfail or item.session.shouldstop:
                reports = self._decided(item, series, trials)
                break
        return [*reports, *_end_of_shared_fixtures(item, nextitem)]

    def _trial(self, item: pytest.Item, series: Series) -> _Trial:
        number = len(series.outcomes) + 1
        self._lending.trial, before = number, len(self._results)
        try:
            # Its parent as the next one: what the test shares with others stays for the next trial.
            reports = runtestprotocol(item, log=False, nextitem=item.parent)  # type: ignore[arg-type]
        except BaseException:  # Ctrl-C; what was shown so far is not lost
            if series.outcomes:
                self._terminal.say(
                    f"{item.name}: interrupted after {number - 1} of {series.planned} trials: {series.text}"
                )
            raise
        finally:
            self._lending.trial = 1
        outcome = _outcome(reports)
        if outcome == "passed" and any(result.outcome in _NOTHING for result in self._results.since(before)):
            outcome = "inconclusive"  # the test did not ask
        if outcome is not None:
            self._note(item, series.and_then(outcome), before)
        return _Trial(reports, outcome)

    def _note(self, item: pytest.Item, series: Series, before: int) -> None:
        """Writes the trial's verdict into the history, and prints it."""
        number, outcome = len(series.outcomes), series.outcomes[-1]
        use = self._lending.use_of(item)
        if use is not None:
            text = f"trial {number} of {series.planned}: {outcome}"
            trial = TrialEnded(text, number=number, planned=series.planned, allowed=series.allowed, outcome=outcome)
            if number == 1 or not self._names:  # one that ended before its experiment has none
                self._names = [result.experiment for result in self._results.since(before)]
            self._results.note_trial(before, use.rig.history, trial, self._names)
        self._terminal.say(f"{item.name}: trial {number} of {series.planned}: {outcome}; so far {series.text}")

    def _decided(self, item: pytest.Item, series: Series, trials: Sequence[_Trial]) -> list[pytest.TestReport]:
        """The reports of the last trial that had the verdict of the test, with those of all trials."""
        verdict = series.verdict or "inconclusive"  # the run ends before there is one
        last = [trial for trial in trials if trial.outcome == verdict] or trials
        text = f"{item.name}: {verdict}: {series.text}{_when_it_ended(series)}"
        self._terminal.say(text)
        listed = [f"trial {number}: {outcome}" for number, outcome in enumerate(series.outcomes, 1)]
        reports = list(last[-1].reports)
        for report in reports:
            report.user_properties.append((_PROPERTY, series.text))  # JUnit takes those of the last report
            if report.when == "call":
                report.duration = sum(one.duration for trial in trials for one in trial.reports if one.when == "call")
                report.sections.insert(0, (_SECTION, "\n".join([text, *listed])))
                if verdict == "inconclusive" and report.passed:
                    report.outcome, report.longrepr = "failed", text
                    setattr(report, OUTCOME, "inconclusive")
        return reports


def _when_it_ended(series: Series) -> str:
    """What becomes of the trials that were not run; "" if all were."""
    left = series.planned - len(series.outcomes)
    if series.verdict is None:
        return f"; the run ends before the other {number_of(left, 'trial')}"
    return f"; {number_of(left, 'more trial')} could not change that" if left else ""


def _outcome(reports: Sequence[pytest.TestReport]) -> TrialOutcome | None:
    """What a trial showed; None where it was skipped, or the rig or a fixture broke."""
    failed = [report for report in reports if report.failed]
    if failed and all(getattr(report, OUTCOME, "") == "inconclusive" for report in failed):
        return "inconclusive"
    call = next((report for report in reports if report.when == "call"), None)
    if call is None or any(report is not call or hasattr(report, OUTCOME) for report in failed):
        return None
    if failed:
        return "failed"
    if call.skipped:
        return "failed" if hasattr(call, "wasxfail") else None
    return "passed"


def _end_of_shared_fixtures(item: pytest.Item, nextitem: pytest.Item | None) -> list[pytest.TestReport]:
    """Tears down what the next test does not share with this one; returns the report of what went wrong."""
    session = item.session
    following = None if session.shouldfail or session.shouldstop else nextitem
    call = pytest.CallInfo.from_call(lambda: session._setupstate.teardown_exact(following), when="teardown")
    if call.excinfo is None:
        return []
    report: pytest.TestReport = item.ihook.pytest_runtest_makereport(item=item, call=call)
    return [report]
