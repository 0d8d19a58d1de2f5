"""From the lock on the cluster to the end of all that was started."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import cast

import pytest

from pytest_serve_chaos.backends.registry import Backends
from pytest_serve_chaos.cluster.base import Cluster, ClusterSpec, Progress
from pytest_serve_chaos.cluster.dry_run import DryRunCluster
from pytest_serve_chaos.errors import ServeChaosError, SettingsError, in_one_line
from pytest_serve_chaos.faults.registry import FaultRegistry
from pytest_serve_chaos.options import option
from pytest_serve_chaos.run import Run
from pytest_serve_chaos.safety.journal import BY_HAND
from pytest_serve_chaos.settings import Settings
from pytest_serve_chaos.termination import ignore_from_now_on


class RunLifetime:
    """The beginning and the end of the run.

    Args:
        config: Of pytest.
        settings: What a user set.
        backends: Undo what earlier runs left; the one that is set starts the clusters.
        faults: All faults that tests may inject.
        progress: Prints a line for people.

    Attributes:
        ended: Whether the end has begun.
        problems: What went wrong at the end, in words.
    """

    def __init__(
        self,
        config: pytest.Config,
        settings: Settings,
        backends: Backends,
        faults: FaultRegistry,
        progress: Progress,
    ) -> None:
        self.ended = False
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
        """The run; its directory and history are made when a test first needs them."""
        if self._begun is None:
            settings = self._settings
            self._held.enter_context(self._backend.locked(settings))  # first: nothing is made, or undone, without
            directory = self._directory()
            allowed = [] if settings.allow_context is None else [settings.allow_context]
            if settings.dry_run:
                for _, entry in settings.journal.left():
                    self._progress(f"dry run: a run that is not dry would first undo: {entry.text}")
            else:
                for failure in self._backends.undo(settings.report_dir, self._progress, allowed=allowed):
                    self._progress(f"could not be undone: {failure}")
            start, seed = self._start_cluster, settings.seed
            self._begun = Run(
                directory, start, seed=seed, progress=self._progress, faults=self._faults, record=self._record
            )
        return self._begun

    def _record(self, text: str, command: str) -> Callable[[], None]:
        """Writes into the undo journal what only people can repair; returns what removes that entry."""
        journal = self._settings.journal
        entry = journal.write(BY_HAND, text, command=command)
        return lambda: journal.done(entry)

    def _directory(self) -> Path:
        base = self._config.rootpath / self._settings.report_dir
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

    def end(self) -> None:
        """Ends the cluster, and what the clusters shared, once; it does nothing where no test needed a run."""
        if self._begun is None or self.ended:
            return
        self.ended = True
        ignore_from_now_on()
        try:
            self._attempt(self._begun.close)
            if self._started:
                self._attempt(partial(self._backend.end, self._settings, self._begun.directory, self._progress))
        finally:
            self.problems += [f"not healed: {text}\n  see `serve-chaos undo`" for text in self._begun.not_healed]
            self._held.close()

    def _attempt(self, end: Callable[[], None]) -> None:
        try:
            end()
        except Exception as error:  # to raise it here would cost the summary
            text = str(error) if isinstance(error, ServeChaosError) else in_one_line(error)
            self.problems.append(f"the cluster could not be ended: {text}")
