"""What lives as long as a pytest run with ``--serve-chaos``: the run, its results, and what pytest reports of them."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from pytest_serve_chaos import fixtures
from pytest_serve_chaos.analysis.result import Result
from pytest_serve_chaos.backends.registry import Backends
from pytest_serve_chaos.checks.base import Check
from pytest_serve_chaos.cluster.base import Cluster, ClusterSpec, Progress
from pytest_serve_chaos.cluster.test_logs import LogsOfTest
from pytest_serve_chaos.errors import Inconclusive, Judgement, ServeChaosError, SettingsError, Unsupported, in_one_line
from pytest_serve_chaos.events import (
    BrokenOff,
    Demanded,
    FaultAsked,
    Judged,
    LogsKept,
    RunAgain,
    Skipped,
    TrafficBegan,
    has,
)
from pytest_serve_chaos.experiment import Experiment
from pytest_serve_chaos.faults.registry import FaultRegistry
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.faults.spec import FaultChoice
from pytest_serve_chaos.fixtures import wants_cluster
from pytest_serve_chaos.history import ExperimentLog, History
from pytest_serve_chaos.kinds import Flag
from pytest_serve_chaos.load import Load, raise_unless_passed, write_expectations
from pytest_serve_chaos.markers import cluster_keywords, cluster_request, fault_request, fault_requests
from pytest_serve_chaos.model import NO_DEMANDS
from pytest_serve_chaos.options import option
from pytest_serve_chaos.report.base import Outcomes
from pytest_serve_chaos.report.log_lines import without_repetitions
from pytest_serve_chaos.report.registry import Reporters
from pytest_serve_chaos.report.terminal import header_line, timeline_excerpt
from pytest_serve_chaos.restore import restore
from pytest_serve_chaos.results import is_experiment, result_of, unfinished
from pytest_serve_chaos.run import Run
from pytest_serve_chaos.settings import Settings
from pytest_serve_chaos.termination import ignore_from_now_on

if TYPE_CHECKING:
    from _pytest._code import Traceback
    from _pytest._code.code import ExceptionChainRepr, ReprExceptionInfo

OUTCOME = "serve_chaos_outcome"

_LOG_LINES = 1000
"""Lines that are read for the excerpt of a failed test; those that say the same are shown once."""


@dataclass(frozen=True, slots=True)
class _Running:
    """The test that has the rig now, or had it last.

    Attributes:
        nodeid: Which test.
        names_before: The experiments that the history had before it.
        results_before: How many results there were before it.
    """

    nodeid: str
    names_before: frozenset[str]
    results_before: int

    def names(self, history: History) -> list[str]:
        """Its own experiments, in the order in which they began; without what only looked at the cluster."""
        names = [name for name in history.experiments() if name not in self.names_before]
        return [name for name in names if is_experiment(history.of(name))]


class ChaosSession:
    """The part of the plugin that is there only with ``--serve-chaos``."""

    def __init__(
        self,
        config: pytest.Config,
        settings: Settings,
        faults: FaultRegistry,
        backends: Backends,
        reporters: Reporters,
    ) -> None:
        self.config = config
        self.settings = settings
        self.faults = faults
        self.backends = backends
        self.backend = backends[settings.backend]
        self.reporters = reporters
        self.results: list[Result] = []
        self.collected = 0
        self._run: Run | None = None
        self._logs: LogsOfTest | None = None
        self._held = ExitStack()
        self._started = False
        self._given: Settings | None = None
        self._asking = ""
        self._test: _Running | None = None
        self._broken_rig: BaseException | None = None
        self._ended_by = ""
        self._skipped = ""
        self._run_again = ""
        self._names: set[str] = set()
        self._said_header = False
        self._interrupted = False
        self._ended = False
        self._shown: list[str] = []
        self._problems: list[str] = []
        self._properties: set[str] = set()

    @property
    def run(self) -> Run:
        """The run; its directory and history are made when a test first needs them."""
        if self._run is None:
            self._held.enter_context(self.backend.locked(self.settings))  # first: nothing is made, or undone, without
            directory = self._directory()
            allowed = [] if self.settings.allow_context is None else [self.settings.allow_context]
            for failure in self.backends.undo(self.settings.report_dir, self.say, allowed=allowed):
                self.say(f"could not be undone: {failure}")
            seed = self.settings.seed
            self._run = Run(directory, self._start_cluster, seed=seed, progress=self.say, faults=self.faults)
        return self._run

    @property
    def load(self) -> Load:
        """What is sent, as the settings say."""
        s = self.settings
        return Load(
            rate=s.rate,
            persistent_rate=s.persistent_rate,
            timeout=s.request_timeout,
            method=s.method,
            headers=dict(s.headers),
            body=s.body.encode() if s.body is not None else None,
            url=s.url,
            slow_after=s.slow_after,
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
        with suppress(OSError):  # the terminal may be lost, and this line is the least that matters then
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
            self._given = self.backend.adapt(self.settings)
        return cluster_request(markers, self._given, directory=directory)

    def fault_of(self, item: pytest.Item) -> FaultChoice | None:
        """The fault that a test is marked with."""
        return fault_request(item.iter_markers(), self.faults)

    def lend_rig(self, item: pytest.Item) -> Iterator[Rig]:
        """The rig for a test; afterwards the cluster has its first shape again, or is rebuilt."""
        self._asking, self._test, self._ended_by, self._skipped = item.nodeid, None, "", ""
        # pytest keeps them when a test is run again.
        item.user_properties[:] = self._without_ours(item.user_properties)
        rig = self.run.rig_for(self.spec_of(item), test=item.nodeid)
        self._say_header(rig)
        rig.current.begin_test(self._name(item), cluster_keywords(item.iter_markers()))
        for fault in fault_requests(item.iter_markers(), rig.run.faults):
            rig.admit(fault.kind, fault.options)  # so that a test whose fault is refused is skipped before it begins
        rig.soundness.lend()
        self._test = running = _Running(item.nodeid, frozenset(rig.history.experiments()), len(self.results))
        self._logs = logs = LogsOfTest(rig.cluster, self.run.directory, rig.current.test)
        try:
            yield rig
        finally:
            try:
                if not self._interrupted:  # nobody waits for a cluster that ends now
                    names = running.names(rig.history)
                    if names and rig.current.experiment not in names:
                        rig.current.begin(names[-1])  # nothing was broken by hand after the last of them
                    restore(rig)
                    rig.soundness.take_back()
                    for name in running.names(rig.history):
                        if not has(Judged, rig.history.of(name)):
                            self._keep_unjudged(item, rig, name)
            except Exception as error:
                self._broken_rig = error
                raise
            finally:
                logs.close()
            self._record_logs(logs, {rig.current.test, *running.names(rig.history)})

    def _keep_unjudged(self, item: pytest.Item, rig: Rig, name: str) -> None:
        """Puts into the table what the test broke and did not judge."""
        log = ExperimentLog(rig.history, name)
        if self._skipped and not log.has(FaultAsked):
            log.add(Skipped(self._skipped))
            return
        if log.has(Demanded):  # an error kept it from its verdict
            if self._ended_by:
                log.add(BrokenOff(f"an error ended it before its verdict: {self._ended_by}"))
            self.keeper(item)(unfinished(rig.history, name))
            return
        source = next((event.source for event in log.of(TrafficBegan)), "")
        write_expectations(log, NO_DEMANDS, autoscaled=rig.health.shape.autoscaled, source=source)
        result = result_of(rig.history, name)
        log.add(Judged(result.outcome))
        self.keeper(item)(result)

    def _record_logs(self, logs: LogsOfTest, experiments: set[str]) -> None:
        if logs.directory is not None and not self._interrupted:
            for name in sorted(experiments):
                self.run.history.add(LogsKept(logs.place, experiment=name, directory=logs.place))

    def experiment(self, item: pytest.Item, rig: Rig) -> Experiment:
        """The experiment of a marked test."""
        fault = self._marked_fault(item)
        return Experiment(rig, self.load, fault, on_result=self.keeper(item), checks=self._checks_for(item))

    def _checks_for(self, item: pytest.Item) -> list[Check]:
        """The checks that plugins add to the experiments of a test."""
        added: list[Iterable[Check]] = item.ihook.pytest_serve_chaos_checks(item=item)
        return [check for checks in added for check in checks]

    def keeper(self, item: pytest.Item) -> Callable[[Result], None]:
        """Takes the results of a test, for the table, the JSON document and JUnit."""

        def keep(result: Result) -> None:
            self.results.append(result)
            properties = self.reporters.properties(result)
            self._properties |= {name for name, _ in properties}
            item.user_properties.extend(properties)

        return keep

    def _without_ours(self, properties: Iterable[tuple[str, object]]) -> list[tuple[str, object]]:
        """The properties of a test case, without those that reporters have given it."""
        return [pair for pair in properties if pair[0] not in self._properties]

    def _marked_fault(self, item: pytest.Item) -> FaultChoice:
        fault = self.fault_of(item)
        if fault is None:
            raise SettingsError(
                "the test uses the fixture `experiment`, and no marker says what it breaks",
                fix=["mark it, for example with @pytest.mark.head_failure", "or use the fixtures chaos and traffic"],
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
        if base.name == str(option("report_dir").default) and not base.exists():
            base.mkdir(parents=True)
            # An undo journal, and whatever an app has logged, is not for others.
            (base / ".gitignore").write_text("# Created by pytest-serve-chaos.\n*\n", encoding="utf-8")
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
        self._started = True
        return self.backend.start(spec, self.settings, directory, progress)

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
        self._check_apps(wanted)
        specs = [None, *self._in_order(wanted.values())]
        items.sort(key=lambda item: specs.index(wanted.get(item.nodeid)))

    def _check_apps(self, wanted: Mapping[str, ClusterSpec]) -> None:
        """Refuses an app that does not exist before a cluster is started for it."""
        others = self.config.hook.pytest_serve_chaos_start_cluster.get_hookimpls()  # which say what an app is
        if others or self.config.option.collectonly:
            return
        checked: list[ClusterSpec] = []
        for nodeid, spec in wanted.items():
            app = ClusterSpec(app=spec.app, env=spec.env)
            if app in checked:
                continue
            checked.append(app)
            where = nodeid if spec.app != self.settings.app else f"--serve-chaos-app from {self.settings.source('app')}"
            try:
                self.backend.check_app(app, self.settings, self.say)
            except SettingsError as error:
                raise pytest.UsageError(f"{where}: {error}") from error

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
        self._broken_rig = None
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
                self._broken_rig = error
            raise

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Gives a report our own outcome, and adds what happened around the fault."""
        report = yield
        # A fixture that was asked for by `getfixturevalue` is not among those of the test.
        if call.excinfo is None or not (wants_cluster(item) or self._asking == item.nodeid):
            return report
        excinfo: pytest.ExceptionInfo[BaseException] = call.excinfo
        unmeasured = self._unmeasured(item, call.excinfo.value) if call.when == "call" else None
        if unmeasured is not None:
            excinfo = pytest.ExceptionInfo.from_exception(unmeasured)
            report.longrepr = item.repr_failure(excinfo)
        error = excinfo.value
        outcome = self._outcome_of(error)
        if outcome and hasattr(report, "wasxfail"):
            # A test that expects a failure expects neither that nothing is shown nor that the rig breaks.
            del report.wasxfail
            report.outcome = "failed"
        if report.skipped and isinstance(error.__context__, Unsupported):
            self._skipped = error.__context__.what
            file, line, _ = report.location
            report.longrepr = (file, (line or 0) + 1, f"Skipped: {error.__context__.what}")
        if not report.failed:
            return report
        if outcome:
            setattr(report, OUTCOME, outcome)
        if call.when == "call":
            self._ended_by = _one_line(error)
        if isinstance(error, ServeChaosError) and self.config.getoption("tbstyle") == "auto":
            report.longrepr = _short(excinfo, item)
        report.sections.extend(self._sections(item))
        return report

    def _outcome_of(self, error: BaseException) -> str:
        """What a test shows that ends with that exception, where pytest has no word for it; else ""."""
        if isinstance(error, Inconclusive):
            return "inconclusive"
        broke = isinstance(error, ServeChaosError) and not isinstance(error, Judgement)
        return "error" if broke or error is self._broken_rig else ""

    def _unmeasured(self, item: pytest.Item, error: BaseException) -> Inconclusive | None:
        """The error to raise instead of a TypeError about a figure that is None, because nothing was measured."""
        if not isinstance(error, TypeError) or "NoneType" not in str(error) or not self._has_rig(item):
            return None
        results = self.results[self._test.results_before :] if self._test is not None else []
        if not results or results[-1].outcome != "inconclusive":
            return None
        try:
            raise_unless_passed(results[-1])
        except Inconclusive as inconclusive:
            text = f"{inconclusive.what}\n  so a figure that the test uses was not measured: {error}"
            return Inconclusive(text).with_traceback(error.__traceback__)
        return None

    def _has_rig(self, item: pytest.Item) -> bool:
        return self._test is not None and self._test.nodeid == item.nodeid

    def _sections(self, item: pytest.Item) -> list[tuple[str, str]]:
        rig = None if self._run is None else self._run.rig
        if rig is None or self._test is None or not self._has_rig(item):
            return []
        # After a measurement the rig has another name for what follows, under which nothing may have happened.
        names = self._test.names(rig.history)
        shown = names[-1] if names else rig.current.experiment
        events = rig.history.of(shown)
        if not events:
            return []
        sections = [
            ("serve chaos: events", "\n".join(timeline_excerpt(rig.history, shown))),
            ("serve chaos: logs", "\n".join([_logs(rig, since=events[0].at), *_kept(self._logs)])),
        ]
        raised = [t for r in self.results[self._test.results_before :] for t in r.verdict.tracebacks]
        if raised:
            sections.append(("serve chaos: checks that raised an exception", "\n".join(raised)))
        seed = f"--serve-chaos-seed={self.settings.seed}"
        file = os.path.relpath(item.path, self.config.invocation_params.dir)
        test = "::".join([file, *item.nodeid.partition("::")[2:]])
        again = shlex.join(["pytest", "--serve-chaos", seed, *self._given_options(), test])
        return [*sections, ("serve chaos: run it again", again)]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """What a plugin runs again does not count: only the last run of a test does, in every report."""
        outcome: str = report.outcome
        if outcome == "rerun":
            self._run_again = report.nodeid
            self._discount(report.nodeid)
        elif report.when == "setup":
            self._run_again = ""
        if self._run_again == report.nodeid:
            report.user_properties[:] = self._without_ours(report.user_properties)

    def _discount(self, nodeid: str) -> None:
        """Notes that the experiments of the test's last run do not count."""
        if self._run is None or self._test is None or self._test.nodeid != nodeid:
            return
        for number, result in enumerate(self.results[self._test.results_before :], self._test.results_before):
            if not result.run_again:
                event = self._run.history.add(RunAgain("its test is run again", experiment=result.experiment))
                self.results[number] = replace(result, events=(*result.events, event))

    def _given_options(self) -> list[str]:
        """Our options as they stood on the command line, without the seed and without what is secret."""
        given: list[str] = []
        for row in self.backends.options:
            value = self.config.getoption(row.ini)
            if value is None or row.name == "seed":
                continue
            values = value if isinstance(value, list) else [value]
            shown = ["..."] if row.secret else [str(one) for one in values]
            given += [row.flag] if isinstance(row.kind, Flag) else [f"{row.flag}={one}" for one in shown]
        return given

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
        where = _where_to_look(self._run, reported=bool(self.results or self._problems or self._has_experiments))
        if not self._shown and not where:
            return
        terminalreporter.section("serve chaos")
        for line in self._shown:
            terminalreporter.line(line)
        for problem in self._problems:
            terminalreporter.line(f"ERROR: {problem}", red=True)
        for line in where:
            terminalreporter.line(line)

    @property
    def _has_experiments(self) -> bool:
        history = None if self._run is None else self._run.history
        return history is not None and any(is_experiment(history.of(name)) for name in history.experiments())

    def pytest_keyboard_interrupt(self) -> None:
        """From now on nothing is waited for but the end of the cluster."""
        self._interrupted = True

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, object, object]:
        """Ends the cluster and writes the reports, however the run ended. Without these no run is green.

        It does so also where another plugin, or the teardown of a user's fixture, raises here.
        """
        try:
            return (yield)
        finally:
            self._end()
            if self._problems:
                session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED

    def pytest_unconfigure(self) -> None:
        """Ends what was not ended, should pytest not come to the end of its session."""
        self._end()

    def _end(self) -> None:
        if self._run is None or self._ended:
            return
        self._ended = True
        ignore_from_now_on()
        try:
            self._attempt(self._run.close)
            if self._started:
                self._attempt(partial(self.backend.end, self.settings, self._run.directory, self.say))
        finally:
            self._problems += [f"not healed: {text}\n  see `serve-chaos undo`" for text in self._run.not_healed]
            self._held.close()
            self._report(self._run)

    def _attempt(self, end: Callable[[], None]) -> None:
        try:
            end()
        except Exception as error:  # to raise it here would cost the summary
            text = str(error) if isinstance(error, ServeChaosError) else in_one_line(error)
            self._problems.append(f"the cluster could not be ended: {text}")

    def _report(self, run: Run) -> None:
        """Makes the reports. One that cannot be made fails the run, and costs no other."""
        if run.history.unwritten:
            self._problems.append(f"the history is not complete: {run.history.unwritten}")
        outcomes = Outcomes(run.history, tuple(self.results))
        self._shown, failed = self.reporters.terminal(outcomes)
        self._problems += dict.fromkeys([*failed, *self.reporters.write(outcomes, run.directory)])


def _where_to_look(run: Run, *, reported: bool) -> list[str]:
    """The line with the run's directory, where something in it is worth a look."""
    if reported:
        return [f"report: {run.directory}"]
    return [f"logs: {run.directory}"] if run.failed_starts else []


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
