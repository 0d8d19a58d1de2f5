"""The statuses of tests: inconclusive, error and skipped are not what pytest alone would say."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

import pytest

from pytest_serve_chaos import fixtures
from pytest_serve_chaos.errors import Inconclusive, Judgement, OwnerChangedIt, ServeChaosError, Unsupported
from pytest_serve_chaos.faults.admission import look_at_its_owner
from pytest_serve_chaos.fixtures import wants_cluster
from pytest_serve_chaos.load import raise_unless_passed
from pytest_serve_chaos.printable import printable
from pytest_serve_chaos.session.lending import Lending
from pytest_serve_chaos.session.results import Results
from pytest_serve_chaos.session.sections import Sections

if TYPE_CHECKING:
    from _pytest._code import Traceback
    from _pytest._code.code import ExceptionChainRepr, ReprExceptionInfo

OUTCOME = "serve_chaos_outcome"


class Statuses:
    """Says how each test ended.

    Args:
        lending: Knows which test has the rig.
        results: Of all experiments.
        sections: What is added to the report of a failed test.
    """

    def __init__(self, lending: Lending, results: Results, sections: Sections) -> None:
        self._lending = lending
        self._results = results
        self._sections = sections
        self._run_again = ""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, object, object]:
        """Skips a test whose cluster this backend cannot give."""
        return (yield from _skipping_the_impossible(item))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Skips a test whose fault this backend, or this cluster, cannot inject."""
        return (yield from _skipping_the_impossible(item))

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[object]) -> Generator[None, object, object]:
        """Notes what one of our own fixtures raises: then it is the rig that broke, whatever it raises."""
        try:
            return (yield)
        except Exception as error:
            if fixturedef.func.__module__ == fixtures.__name__:
                self._lending.test.broken_rig = error
            raise

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Gives a report our own outcome, and adds what happened around the fault."""
        report = yield
        test = self._lending.test
        # A fixture that was asked for by `getfixturevalue` is not among those of the test.
        if call.excinfo is None or not (wants_cluster(item) or test.nodeid == item.nodeid):
            return report
        excinfo: pytest.ExceptionInfo[BaseException] = call.excinfo
        unmeasured = self._unmeasured(item, call.excinfo.value) if call.when == "call" else None
        if unmeasured is not None:
            excinfo = pytest.ExceptionInfo.from_exception(unmeasured)
            report.longrepr = item.repr_failure(excinfo)
        error = excinfo.value
        if isinstance(error, AssertionError) and call.when == "call":
            error, excinfo = self._blamed_on_the_owner(item, report, excinfo)
        outcome = self._outcome_of(error)
        if outcome and hasattr(report, "wasxfail"):
            # A test that expects a failure expects neither that nothing is shown nor that the rig breaks.
            del report.wasxfail
            report.outcome = "failed"
        if report.skipped and isinstance(error.__context__, Unsupported):
            test.skipped = error.__context__.what
            file, line, _ = report.location
            report.longrepr = (file, (line or 0) + 1, printable(f"Skipped: {error.__context__.what}"))
        if not report.failed:
            return report
        if outcome:
            setattr(report, OUTCOME, outcome)
        if call.when == "call":
            test.ended_by = _one_line(error)
        if isinstance(error, ServeChaosError) and item.config.getoption("tbstyle") == "auto":
            report.longrepr = _short(excinfo, item)
        report.sections.extend(self._sections.of(item))
        return report

    def _outcome_of(self, error: BaseException) -> str:
        """What a test shows that ends with that exception, where pytest has no word for it; else ""."""
        if isinstance(error, Inconclusive):
            return "inconclusive"
        broke = isinstance(error, ServeChaosError) and not isinstance(error, Judgement)
        return "error" if broke or self._blind or error is self._lending.test.broken_rig else ""

    @property
    def _blind(self) -> bool:
        """Whether a thread that watches the test's cluster has ended: then no failure says anything of the app."""
        use = self._lending.test.use
        return use is not None and bool(use.rig.dead_watches())

    def _blamed_on_the_owner(
        self, item: pytest.Item, report: pytest.TestReport, excinfo: pytest.ExceptionInfo[BaseException]
    ) -> tuple[BaseException, pytest.ExceptionInfo[BaseException]]:
        """What a test shows that fails on a cluster which its owner has changed meanwhile: nothing."""
        use = self._lending.use_of(item)
        changed = "" if use is None else look_at_its_owner(use.rig)
        if not changed:
            return excinfo.value, excinfo
        found = OwnerChangedIt(f"{_one_line(excinfo.value)}\n  {changed}, so the reason may be that and not the app")
        found = found.with_traceback(excinfo.value.__traceback__)
        blamed = pytest.ExceptionInfo.from_exception(found)
        report.longrepr = item.repr_failure(blamed)
        return found, blamed

    def _unmeasured(self, item: pytest.Item, error: BaseException) -> Inconclusive | None:
        """The error to raise instead of a TypeError about a figure that is None, because nothing was measured."""
        use = self._lending.use_of(item)
        if use is None or not isinstance(error, TypeError) or "NoneType" not in str(error):
            return None
        results = self._results.since(use.results_before)
        if not results or results[-1].outcome != "inconclusive":
            return None
        try:
            raise_unless_passed(results[-1])
        except Inconclusive as inconclusive:
            text = f"{inconclusive.what}\n  so a figure that the test uses was not measured: {error}"
            return Inconclusive(text).with_traceback(error.__traceback__)
        return None

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """What a plugin runs again does not count: only the last run of a test does, in every report."""
        outcome: str = report.outcome
        if outcome == "rerun":
            self._run_again = report.nodeid
            test = self._lending.test
            if test.use is not None and test.nodeid == report.nodeid:
                self._results.discount(test.use.results_before, test.use.rig.history)
        elif report.when == "setup":
            self._run_again = ""
        if self._run_again == report.nodeid:
            report.user_properties[:] = self._results.without_properties(report.user_properties)

    def pytest_report_teststatus(
        self, report: pytest.TestReport
    ) -> tuple[str, str, tuple[str, dict[str, bool]]] | None:
        """Inconclusive is neither a pass nor a failure; a broken rig is an error."""
        # Of a test that is run again, the report that does not count is neither passed nor failed.
        outcome = getattr(report, OUTCOME, None) if report.failed else None
        if outcome == "inconclusive":
            return "inconclusive", "?", ("INCONCLUSIVE", {"yellow": True})
        if outcome == "error" and report.when == "call":
            return "error", "E", ("ERROR", {"red": True})
        return None


def _skipping_the_impossible(item: pytest.Item) -> Generator[None, object, object]:
    try:
        return (yield)
    except Unsupported as error:
        if not wants_cluster(item):
            raise
        pytest.skip(error.what)


def _short(excinfo: pytest.ExceptionInfo[BaseException], item: pytest.Item) -> ReprExceptionInfo | ExceptionChainRepr:
    """The lines of the test and the error's own words: the way through the plugin helps nobody."""

    def in_the_test(excinfo: pytest.ExceptionInfo[BaseException]) -> Traceback:
        return excinfo.traceback.filter(lambda entry: entry.path == item.path) or excinfo.traceback[-1:]

    shown = excinfo.getrepr(style="short", chain=False, tbfilter=in_the_test)
    if shown.reprcrash is not None:  # what the short summary shows, in one line
        shown.reprcrash.message = str(excinfo.value)
    return shown


def _one_line(error: BaseException) -> str:
    if isinstance(error, ServeChaosError):
        return error.what
    return (str(error).splitlines() or [type(error).__name__])[0]
