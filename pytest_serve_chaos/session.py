"""What lives as long as a pytest run with ``--serve-chaos``: the run, its results, and what pytest reports of them."""

from __future__ import annotations

import json
import os
import shlex
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from pytest_serve_chaos import backends
from pytest_serve_chaos.analysis.record import warnings_of
from pytest_serve_chaos.analysis.result import Result
from pytest_serve_chaos.cluster.base import Cluster, ClusterSpec, Progress
from pytest_serve_chaos.cluster.capabilities import IsBorrowed
from pytest_serve_chaos.cluster.kept_logs import LogsOfTest
from pytest_serve_chaos.errors import Inconclusive, Judgement, ServeChaosError, SettingsError, Unsupported
from pytest_serve_chaos.experiment import Experiment, FaultChoice
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.fixtures import wants_cluster
from pytest_serve_chaos.kinds import Flag
from pytest_serve_chaos.load import Load
from pytest_serve_chaos.markers import FaultRequest, cluster_keywords, cluster_request, fault_request, fault_requests
from pytest_serve_chaos.options import OPTIONS
from pytest_serve_chaos.report.document import summary_document
from pytest_serve_chaos.report.junit import properties
from pytest_serve_chaos.report.log_lines import without_repetitions
from pytest_serve_chaos.report.terminal import header_line, summary_table, timeline_excerpt, warning_lines
from pytest_serve_chaos.restore import restore
from pytest_serve_chaos.run import Run
from pytest_serve_chaos.settings import Settings

if TYPE_CHECKING:
    from _pytest._code import Traceback
    from _pytest._code.code import ExceptionChainRepr, ReprExceptionInfo

OUTCOME = "serve_chaos_outcome"

_LOG_LINES = 1000
"""Lines that are read for the excerpt of a failed test; those that say the same are shown once."""


class ChaosSession:
    """The part of the plugin that is there only with ``--serve-chaos``."""

    def __init__(self, config: pytest.Config, settings: Settings) -> None:
        self.config = config
        self.settings = settings
        self.results: list[Result] = []
        self.collected = 0
        self._run: Run | None = None
        self._logs: LogsOfTest | None = None
        self._held = ExitStack()
        self._given: Settings | None = None
        self._begun: set[str] = set()
        self._names: set[str] = set()
        self._said_header = False
        self._interrupted = False
        self._not_ended = ""

    @property
    def run(self) -> Run:
        """The run; its directory and history are made when a test first needs them."""
        if self._run is None:
            self._held.enter_context(backends.lock(self.settings))  # first: nothing is made, or mended, without it
            directory = self._directory()
            backends.undo_leftovers(self.settings, self.say)
            self._run = Run(directory, self._start_cluster, seed=self.settings.seed, progress=self.say)
        return self._run

    @property
    def load(self) -> Load:
        """What is sent, as the settings say."""
        s = self.settings
        return Load(
            rate=s.rate,
            kept_rate=s.kept_rate,
            timeout=s.request_timeout,
            method=s.method,
            headers=dict(s.headers),
            body=s.body.encode() if s.body is not None else None,
            url=s.url,
            send_lag_limit=s.send_lag_limit,
        )

    def say(self, text: str) -> None:
        """Prints a line of progress, whatever pytest captures."""
        self._show(f"serve-chaos: {text}")

    def _show(self, line: str) -> None:
        reporter = self.config.pluginmanager.get_plugin("terminalreporter")
        capture = self.config.pluginmanager.get_plugin("capturemanager")
        if reporter is None:
            return
        if capture is None:
            reporter.write_line(line)
            return
        with capture.global_and_fixture_disabled():
            reporter.ensure_newline()
            reporter.write_line(line)

    # -- what fixtures use --------------------------------------------------------------------------------------

    def spec_of(self, item: pytest.Item) -> ClusterSpec:
        """The cluster that a test wants; what it does not say is as set, or as the user's own RayService is."""
        return self._asked_for(item.iter_markers(), item.path.parent)

    def _asked_for(self, markers: Iterable[pytest.Mark], directory: Path) -> ClusterSpec:
        if self._given is None:
            self._given = backends.as_it_is(self.settings)
        return cluster_request(markers, self._given, directory=directory)

    def fault_of(self, item: pytest.Item) -> FaultRequest | None:
        """The fault that a test is marked with."""
        return fault_request(item.iter_markers())

    def lend_rig(self, item: pytest.Item) -> Iterator[Rig]:
        """The rig for a test; afterwards the cluster has its first shape again, or is built anew."""
        rig = self.run.rig_for(self.spec_of(item))
        self._say_header(rig)
        _refuse_what_must_not_be(rig, item)
        rig.experiment = self._name(item)
        rig.lent = True
        self._begun.add(item.nodeid)
        rig.watcher.belongs_to(rig.experiment)
        test, judged_before = rig.experiment, len(self.results)
        self._logs = logs = LogsOfTest(rig.cluster, self.run.directory, test)
        try:
            yield rig
        finally:
            try:
                if not self._interrupted:  # nobody waits for a cluster that ends now
                    restore(rig)
                    rig.lent = False
            finally:
                logs.close()
            self._record_logs(logs, {test, *(result.experiment for result in self.results[judged_before:])})

    def _record_logs(self, logs: LogsOfTest, experiments: set[str]) -> None:
        if logs.directory is not None and not self._interrupted:
            for name in sorted(experiments):
                self.run.history.add("logs", logs.place, experiment=name, data={"directory": logs.place})

    def experiment(self, item: pytest.Item, rig: Rig) -> Experiment:
        """The experiment of a marked test."""
        fault = self._marked_fault(item)

        def keep(result: Result) -> None:
            self.results.append(result)
            item.user_properties.extend(properties(result))

        return Experiment(rig, self.load, FaultChoice(fault.kind, fault.options), on_result=keep)

    def _marked_fault(self, item: pytest.Item) -> FaultRequest:
        fault = self.fault_of(item)
        if fault is None:
            raise SettingsError(
                "the test uses the fixture `experiment`, and no marker says what it breaks",
                mend=["mark it, for example with @pytest.mark.head_failure", "or use the fixtures chaos and traffic"],
            )
        return fault

    def _name(self, item: pytest.Item) -> str:
        name = item.name.removeprefix("test_")
        unique = next(n for n in (name, *(f"{name}-{i}" for i in range(2, 10_000))) if n not in self._names)
        self._names.add(unique)
        return unique

    def _say_header(self, rig: Rig) -> None:
        if not self._said_header:
            self._said_header = True
            self._show(header_line(rig.cluster.description, self.settings.rate, self.settings.seed))

    def _directory(self) -> Path:
        base = self.config.rootpath / self.settings.report_dir
        stamp = time.strftime("%Y-%m-%dT%H-%M-%S")
        for suffix in ("", *(f"-{i}" for i in range(2, 100))):
            directory = base / f"{stamp}{suffix}"
            try:
                directory.mkdir(parents=True)
            except FileExistsError:  # another run began in the same second
                continue
            return directory
        raise SettingsError(f"no new directory can be made under {base}")

    def _start_cluster(self, spec: ClusterSpec, directory: Path, progress: Progress) -> Cluster:
        given = self.config.hook.pytest_serve_chaos_start_cluster(
            spec=spec, settings=self.settings, directory=directory, progress=progress
        )
        if given is not None:
            return cast(Cluster, given)
        return backends.start_cluster(spec, self.settings, directory, progress)

    # -- hooks --------------------------------------------------------------------------------------------------

    def pytest_itemcollected(self) -> None:
        """Counts tests before any are deselected."""
        self.collected += 1

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Checks the markers of our tests, and orders them so that each cluster is built once."""
        wanted: dict[str, ClusterSpec] = {}  # in the order of their first use
        for item in items:
            if not wants_cluster(item):
                continue
            try:
                spec = self.spec_of(item)
                if "experiment" in getattr(item, "fixturenames", ()):
                    self._marked_fault(item)
            except ServeChaosError as error:  # a marker that says nonsense, or a RayService that cannot be looked at
                raise pytest.UsageError(f"{item.nodeid}: {error}") from error
            wanted[item.nodeid] = spec
        specs = [None, *self._in_order(wanted.values())]
        items.sort(key=lambda item: specs.index(wanted.get(item.nodeid)))

    def _in_order(self, specs: Iterable[ClusterSpec]) -> list[ClusterSpec]:
        """Each cluster once; where the last is kept, that is the one of tests which ask for nothing."""
        each: list[ClusterSpec] = []
        for spec in specs:  # which cannot be hashed
            if spec not in each:
                each.append(spec)
        if each and self.settings.keep:
            usual = self._asked_for((), self.config.rootpath)
            each.sort(key=lambda spec: spec == usual)
        return each

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, object, object]:
        """Skips a test whose cluster this backend cannot give."""
        return (yield from _skipping_the_impossible(item))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Skips a test whose fault this backend, or this cluster, cannot inject."""
        return (yield from _skipping_the_impossible(item))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Gives a report our own outcome, and adds what happened around the fault."""
        report = yield
        if call.excinfo is None or not wants_cluster(item):
            return report
        error = call.excinfo.value
        if isinstance(error, Inconclusive) and hasattr(report, "wasxfail"):
            # Whoever expects a failure does not expect that nothing is shown.
            del report.wasxfail
            report.outcome = "failed"
        if report.skipped and isinstance(error.__context__, Unsupported):
            file, line, _ = report.location
            report.longrepr = (file, (line or 0) + 1, f"Skipped: {error.__context__.what}")
        if not report.failed:
            return report
        if isinstance(error, Inconclusive):
            setattr(report, OUTCOME, "inconclusive")
        elif isinstance(error, ServeChaosError) and not isinstance(error, Judgement):
            setattr(report, OUTCOME, "error")
        if isinstance(error, ServeChaosError) and self.config.getoption("tbstyle") == "auto":
            report.longrepr = _short(call.excinfo, item)
        report.sections.extend(self._sections(item))
        return report

    def _sections(self, item: pytest.Item) -> list[tuple[str, str]]:
        rig = None if self._run is None else self._run.rig
        if rig is None or item.nodeid not in self._begun:
            return []
        events = rig.history.of(rig.experiment)
        if not events:
            return []
        sections = [
            ("serve chaos: events", "\n".join(timeline_excerpt(rig.history, rig.experiment))),
            ("serve chaos: logs", "\n".join([_logs(rig, since=events[0].at), *_kept(self._logs)])),
        ]
        seed = f"--serve-chaos-seed={self.settings.seed}"
        file = os.path.relpath(item.path, self.config.invocation_params.dir)
        test = "::".join([file, *item.nodeid.partition("::")[2:]])
        again = shlex.join(["pytest", "--serve-chaos", seed, *_given_options(self.config), test])
        return [*sections, ("serve chaos: run it again", again)]

    def pytest_report_teststatus(
        self, report: pytest.TestReport
    ) -> tuple[str, str, tuple[str, dict[str, bool]]] | None:
        """Inconclusive is neither a pass nor a failure; a broken rig is an error."""
        outcome = getattr(report, OUTCOME, None)
        if outcome == "inconclusive":
            return "inconclusive", "?", ("INCONCLUSIVE", {"yellow": True})
        if outcome == "error" and report.when == "call":
            return "error", "E", ("ERROR", {"red": True})
        return None

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
        if self._run is None:
            return
        terminalreporter.section("serve chaos")
        for line in [*summary_table(self.results), *warning_lines(warnings_of(self._run.history))]:
            terminalreporter.line(line)
        if self._not_ended:
            terminalreporter.line(f"ERROR: the cluster could not be ended: {self._not_ended}", red=True)
        terminalreporter.line(f"report: {self._run.directory}")

    def pytest_keyboard_interrupt(self) -> None:
        """From now on nothing is waited for but the end of the cluster."""
        self._interrupted = True

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Ends the cluster and writes the summary, however the run ended. Without the first no run is green."""
        if self._run is None:
            return
        try:
            self._run.close()
        except ServeChaosError as error:  # to raise it here would cost the summary
            self._not_ended = str(error)
            session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED
        finally:
            self._held.close()
            document = summary_document(self._run.history, self.results)
            (self._run.directory / "summary.json").write_text(json.dumps(document, indent=2) + "\n")


def _skipping_the_impossible(item: pytest.Item) -> Generator[None, object, object]:
    try:
        return (yield)
    except Unsupported as error:
        if not wants_cluster(item):
            raise
        pytest.skip(error.what)


def _refuse_what_must_not_be(rig: Rig, item: pytest.Item) -> None:
    """Skips a test before it begins, where somebody else's cluster does not allow its fault."""
    if isinstance(rig.cluster, IsBorrowed):
        asked_for = cluster_keywords(item.iter_markers())
        for fault in fault_requests(item.iter_markers()):
            reason = rig.cluster.why_not(fault.kind, fault.options, asked_for)
            if reason:
                raise Unsupported(reason)


def _short(excinfo: pytest.ExceptionInfo[BaseException], item: pytest.Item) -> ReprExceptionInfo | ExceptionChainRepr:
    """The lines of the test and the error's own words: the way through the plugin helps nobody."""

    def in_the_test(excinfo: pytest.ExceptionInfo[BaseException]) -> Traceback:
        return excinfo.traceback.filter(lambda entry: entry.path == item.path) or excinfo.traceback[-1:]

    shown = excinfo.getrepr(style="short", chain=False, tbfilter=in_the_test)
    if shown.reprcrash is not None:  # what the short summary shows, in one line
        shown.reprcrash.message = str(excinfo.value)
    return shown


def _logs(rig: Rig, since: float) -> str:
    try:
        lines = rig.cluster.log_excerpt(since, pattern=r"ERROR|WARNING|Exception|Error", lines=_LOG_LINES)
    except (ServeChaosError, OSError) as error:
        return f"they cannot be read: {error}"
    return "\n".join(without_repetitions(lines)) or "no errors or warnings"


def _kept(logs: LogsOfTest | None) -> list[str]:
    """Where all of the failed test's logs are."""
    if logs is None:
        return []
    try:
        logs.keep()
    except OSError as error:
        return [f"the files cannot be kept: {error}"]
    return [f"all of them: {logs.directory}"] if logs.directory is not None else []


def _given_options(config: pytest.Config) -> list[str]:
    """Our options as they stood on the command line, without the seed and without what is secret."""
    given: list[str] = []
    for row in OPTIONS:
        value = config.getoption(row.ini)
        if value is None or row.name == "seed":
            continue
        values = value if isinstance(value, list) else [value]
        shown = ["..."] if row.secret else [str(one) for one in values]
        given += [row.flag] if isinstance(row.kind, Flag) else [f"{row.flag}={one}" for one in shown]
    return given
