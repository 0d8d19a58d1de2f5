"""The reports at the end of the run."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import suppress

import pytest

from pytest_serve_chaos.errors import SafetyError, ServeChaosError, in_one_line
from pytest_serve_chaos.printable import printable
from pytest_serve_chaos.report.base import Outcomes
from pytest_serve_chaos.report.registry import Reporters
from pytest_serve_chaos.results import is_experiment
from pytest_serve_chaos.run import Run
from pytest_serve_chaos.runs.directory import write_index
from pytest_serve_chaos.session.lifetime import RunLifetime
from pytest_serve_chaos.session.results import Results


class Summary:
    """Ends the run, writes its reports, and shows them on the terminal.

    Args:
        lifetime: Of the run.
        results: Of all experiments.
        reporters: Make the reports.
        send: Sends the run elsewhere, and says what it sent; None: it stays here.
    """

    def __init__(
        self,
        lifetime: RunLifetime,
        results: Results,
        reporters: Reporters,
        *,
        send: Callable[[Outcomes], str] | None = None,
    ) -> None:
        self._lifetime = lifetime
        self._send = send
        self._results = results
        self._reporters = reporters
        self._shown: list[str] = []
        self._not_written: list[str] = []
        self._not_sent = ""

    @property
    def _problems(self) -> list[str]:
        """Those with which no run is green."""
        return [*self._lifetime.problems, *self._not_written]

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """The table of all experiments, and where the report is."""
        inconclusive = terminalreporter.stats.get("inconclusive", [])
        for report in inconclusive:
            terminalreporter.section(f"inconclusive: {report.head_line or report.nodeid}", sep="_")
            terminalreporter.line(report.longreprtext)
            for title, text in report.sections:
                if title.startswith("serve chaos"):
                    terminalreporter.section(title, sep="-")
                    terminalreporter.line(text)
        run = self._lifetime.begun
        if run is None:
            return
        where = _where_to_look(run, reported=bool(self._results or self._problems or _has_experiments(run)))
        if not self._shown and not where and not self._not_sent:
            return
        terminalreporter.section("serve chaos")
        for line in self._shown:
            terminalreporter.line(printable(line))
        for problem in self._problems:
            terminalreporter.line(printable(f"ERROR: {problem}"), red=True)
        if self._not_sent:
            terminalreporter.line(printable(f"WARNING: {self._not_sent}"), yellow=True)
        for line in where:
            terminalreporter.line(printable(line))

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, object, object]:
        """Ends the cluster and writes the reports, however the run ended. Without these no run is green.

        It does so also where another plugin, or the teardown of a user's fixture, raises here.
        """
        try:
            return (yield)
        finally:
            self.end()
            if self._problems:
                session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED

    def pytest_unconfigure(self) -> None:
        """Ends what was not ended, should pytest not come to the end of its session."""
        self.end()

    def end(self) -> None:
        """Ends the run and makes its reports, once. It may be called whenever pytest ends."""
        run = self._lifetime.begun
        if run is None or self._lifetime.ended:
            return
        with self._lifetime.signals.ending():
            self._lifetime.end()
            self._report(run)

    def _report(self, run: Run) -> None:
        """Makes the reports. One that cannot be made fails the run, and costs no other."""
        if run.history.unwritten:
            self._not_written.append(f"the history is not complete: {run.history.unwritten}")
        outcomes = Outcomes(run.history, self._results.since(0))
        self._shown, failed = self._reporters.terminal(outcomes)
        self._not_written += dict.fromkeys([*failed, *self._reporters.write(outcomes, run.directory)])
        if self._send is not None and outcomes.results:
            try:
                self._shown.append(self._send(outcomes))
            except Exception as error:  # also of a library; the run has its files all the same, and can be sent again
                self._not_sent = str(error) if isinstance(error, ServeChaosError) else in_one_line(error)
        with suppress(SafetyError, OSError):  # it has nothing of this run that its own reports do not have
            write_index(run.directory.parent)


def _has_experiments(run: Run) -> bool:
    return any(is_experiment(run.history.of(name)) for name in run.history.experiments())


def _where_to_look(run: Run, *, reported: bool) -> list[str]:
    """The line with the run's directory, where something in it is worth a look."""
    if reported:
        return [f"report: {run.directory}"]
    return [f"logs: {run.directory}"] if run.failed_starts else []
