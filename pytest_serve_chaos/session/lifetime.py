"""From the lock on the cluster to the end of all that was started."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import cast

import pytest

from pytest_serve_chaos.backends.registry import Backends
from pytest_serve_chaos.cluster.base import Cluster, ClusterSpec, Progress
from pytest_serve_chaos.cluster.dry_run import DryRunCluster
from pytest_serve_chaos.errors import SafetyError, ServeChaosError, SettingsError, in_one_line
from pytest_serve_chaos.faults.registry import FaultRegistry
from pytest_serve_chaos.options import option
from pytest_serve_chaos.run import Run
from pytest_serve_chaos.runs.directory import point_to_latest
from pytest_serve_chaos.safety.journal import BY_HAND, Journal
from pytest_serve_chaos.settings import Settings
from pytest_serve_chaos.termination import EndingSignals


class RunLifetime:
    """The beginning and the end of the run.

    Args:
        config: Of pytest.
        settings: What a user set.
        backends: Undo what earlier runs left; the one that is set starts the clusters.
        faults: All faults that tests may inject.
        progress: Prints a line for people.
        signals: What the signals do that end the run.

    Attributes:
        ended: Whether the end has begun.
        signals: What the signals do that end the run.
        problems: What went wrong at the end, in words.
    """

    def __init__(
        self,
        config: pytest.Config,
        settings: Settings,
        backends: Backends,
        faults: FaultRegistry,
        progress: Progress,
        signals: EndingSignals,
    ) -> None:
        self.ended = False
        self.signals = signals
        self.problems: list[str] = []
        self._config = config
        self._settings = settings
        self._backends = backends
        self._backend = backends[settings.backend]
        self._faults = faults
        self._progress = progress
        self._begun: Run | None = None
        self._held = ExitStack()
        self._started = False

    @property
    def begun(self) -> Run | None:
        """The run, if a test has needed it."""
        return self._begun

    @property
    def run(self) -> Run:
        """The run; its directory and history are made when a test first needs them.

        Raises:
            SettingsError: They cannot be written.
        """
        if self._begun is None:
            with ExitStack() as held:
                held.enter_context(self._backend.locked(self._settings))  # first: nothing is made, or undone, without
                self._begun = self._begin()
                self._held = held.pop_all()
        return self._begun

    def _begin(self) -> Run:
        settings = self._settings
        directory = self._directory()
        self._undo_what_others_left()
        start, seed = self._start_cluster, settings.seed
        try:
            run = Run(directory, start, seed=seed, progress=self._progress, faults=self._faults, record=self._record)
        except OSError as error:
            raise _not_writable(directory, error) from error
        if not settings.dry_run:
            with suppress(SafetyError, OSError):  # the run does not need it
                point_to_latest(directory)
        return run

    def _undo_what_others_left(self) -> None:
        """Undoes what earlier runs with these reports, or on this backend, have left; names what it does not undo."""
        settings = self._settings
        if settings.dry_run:
            for _, entry in settings.journal.left():
                self._progress(f"dry run: a run that is not dry would first undo: {entry.text}")
            return
        allowed = [] if settings.allow_context is None else [settings.allow_context]
        reports, backend = settings.report_dir, settings.backend
        for failure in self._backends.undo(reports, self._progress, allowed=allowed, backend=backend):
            self._progress(f"could not be undone: {failure}")
        tried, all_left = dict(settings.journal.left()), Journal(settings.journal.directory).left()
        others = [e for path, e in all_left if path not in tried and e.verb not in self._backend.undo]
        if others:
            where = ", ".join(sorted({entry.reports for entry in others}))
            self._progress(f"`serve-chaos undo` has {len(others)} more to undo, of runs with reports in {where}")

    def _record(self, text: str, command: str) -> Callable[[], None]:
        """Writes into the undo journal what only people can repair; returns what removes that entry."""
        journal = self._settings.journal
        entry = journal.write(BY_HAND, text, command=command)
        return lambda: journal.done(entry)

    def _directory(self) -> Path:
        base = self._config.rootpath / self._settings.report_dir
        try:
            return self._new_directory(base)
        except OSError as error:
            raise _not_writable(base, error) from error

    def _new_directory(self, base: Path) -> Path:
        if base.name == str(option("report_dir").default) and not base.exists():
            base.mkdir(parents=True)
            # An undo journal, and whatever an app has logged, is not for others.
            (base / ".gitignore").write_text("# Created by pytest-serve-chaos.\n*\n", encoding="utf-8")
        stamp = time.strftime("%Y-%m-%dT%H-%M-%S")
        for suffix in ("", *(f"-{i}" for i in range(2, 100))):
            directory = base / f"{stamp}{suffix}"
            try:
                directory.mkdir(mode=0o700, parents=True)  # whatever an app logs is not for others
            except FileExistsError:  # another run began in the same second
                continue
            return directory
        raise SettingsError(
            f"no new directory can be made under {base}: a hundred runs began in this second",
            checked=[f"{base / stamp} to {base / stamp}-99"],
            fix=["start fewer runs at once", "or give each a directory of its own: --serve-chaos-report-dir"],
        )

    def _start_cluster(self, spec: ClusterSpec, directory: Path, progress: Progress) -> Cluster:
        cluster = self._start(spec, directory, progress)
        return DryRunCluster(cluster) if self._settings.dry_run else cluster

    def _start(self, spec: ClusterSpec, directory: Path, progress: Progress) -> Cluster:
        given = self._config.hook.pytest_serve_chaos_start_cluster(
            spec=spec, settings=self._settings, directory=directory, progress=progress
        )
        if given is not None:
            return cast(Cluster, given)
        self._started = True
        return self._backend.start(spec, self._settings, directory, progress)

    def heal_at_once(self) -> None:
        """Heals what takes one call. Call it when the run is interrupted: what comes next may take long, or hang."""
        rig = None if self._begun is None else self._begun.rig
        if rig is not None:
            with suppress(KeyboardInterrupt):  # what fails, or is broken off, is tried again at the end
                rig.injections.heal_at_once(self._progress)
        self.signals.healed()

    def end(self) -> None:
        """Ends the cluster, and what the clusters shared, once; it does nothing where no test needed a run.

        Call it in `signals.ending`. It raises nothing: what goes wrong is in `problems`, and the rest is ended all the
        same.
        """
        if self._begun is None or self.ended:
            return
        self.ended = True
        self._attempt("what was broken could not be healed at once", self.heal_at_once)
        self._attempt("the cluster could not be ended", self._begun.close)
        if self._started:
            end = partial(self._backend.end, self._settings, self._begun.directory, self._progress)
            self._attempt("what the clusters shared could not be ended", end)
        self.problems += [f"not healed: {text}\n  see `serve-chaos undo`" for text in self._begun.not_healed]
        self._attempt("the lock on the cluster could not be released", self._held.close)

    def _attempt(self, what: str, end: Callable[[], None]) -> None:
        try:
            with self.signals.step():
                end()
        except KeyboardInterrupt:
            self.problems.append(f"{what}: it was interrupted")
        except BaseException as error:  # to raise it here would cost all that comes after it
            text = str(error) if isinstance(error, ServeChaosError) else in_one_line(error)
            self.problems.append(f"{what}: {text}")


def _not_writable(directory: Path, error: OSError) -> SettingsError:
    return SettingsError(
        f"the run cannot write its report, so nothing is started: {error}",
        checked=[str(directory)],
        fix=["make room there, and let this user write to it", "or name another directory: --serve-chaos-report-dir"],
    )
