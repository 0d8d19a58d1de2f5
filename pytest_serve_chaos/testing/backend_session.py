"""One cluster of a backend, for the tests of `BackendConformance`, and a run that is killed."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from pytest_serve_chaos.backends import Backend
from pytest_serve_chaos.backends.registry import BUILT_IN, Backends
from pytest_serve_chaos.cluster.base import Cluster, ClusterSpec, Progress
from pytest_serve_chaos.cluster.http_client import get_if
from pytest_serve_chaos.doctor import CommandLine
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.markers import cluster_request
from pytest_serve_chaos.options import option
from pytest_serve_chaos.run import Run
from pytest_serve_chaos.settings import Settings, resolve
from pytest_serve_chaos.testing.whole import still_wrong

KILLED_TEST = """
import os
import signal
from pathlib import Path

def test_the_run_is_killed(serve_cluster):
    Path("url").write_text(serve_cluster.url)
    os.kill(os.getpid(), signal.SIGKILL)
"""
"""A test that kills its own run, once there is a cluster."""


@dataclass(frozen=True)
class BackendChoice:
    """A backend as the command line would choose it.

    Attributes:
        plugin: The module of the plugin that adds it; "" for those of this package.
        name: Its name.
        options: Settings by name: ``{"farm_host": "farm.example.com"}``.
    """

    plugin: str
    name: str
    options: Mapping[str, str]

    @property
    def backends(self) -> Backends:
        """Those of this package, and those that the plugin adds."""
        if not self.plugin:
            return BUILT_IN
        return BUILT_IN.and_those(importlib.import_module(self.plugin).pytest_serve_chaos_backends())

    @property
    def backend(self) -> Backend:
        """The one that is chosen."""
        return self.backends[self.name]

    def settings(self, report_dir: Path) -> Settings:
        """The settings of a run.

        Args:
            report_dir: The directory of its reports.
        """
        values = {**self.options, "backend": self.name, "report_dir": str(report_dir)}
        return resolve(CommandLine(values), {}, self.backends)

    def arguments(self, report_dir: Path) -> Iterable[str]:
        """The same on the command line of pytest."""
        yield "--serve-chaos"
        yield f"{option('backend').flag}={self.name}"
        yield f"{option('report_dir').flag}={report_dir}"
        for name, value in self.options.items():
            flag = "--serve-chaos-" + name.replace("_", "-")
            yield flag if value == "on" else f"{flag}={value}"


class BackendSession:
    """A cluster of a backend with everything around it, until `close`.

    Args:
        choice: The backend.

    Attributes:
        rig: The cluster and what is around it.
        settings: The settings with which it was started.
    """

    def __init__(self, choice: BackendChoice) -> None:
        self._ends = ExitStack()
        with ExitStack() as undo:  # last first, where the start fails
            report_dir = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="conformance-")))
            given = choice.settings(report_dir)
            backend = choice.backend
            undo.enter_context(backend.locked(given))
            self.settings = backend.adapt(given)
            directory = report_dir / "run"
            directory.mkdir()
            undo.callback(backend.end, given, directory, print)

            def start(spec: ClusterSpec, inside: Path, progress: Progress) -> Cluster:
                return backend.start(spec, given, inside, progress)

            run = Run(directory, start, seed=1, progress=print)
            undo.callback(run.close)
            self.rig: Rig = run.rig_for(cluster_request((), self.settings, directory=Path.cwd()))
            self.rig.current.begin_test("conformance", frozenset())
            self._ends = undo.pop_all()

    def wait_whole(self, timeout: float) -> str:
        """Waits until all is there again that was there at first; returns what is missing in the end."""
        return still_wrong(self.rig, self.rig.health.wrong, within=timeout, interval=0.2)

    def entries(self) -> list[str]:
        """What the undo journal has, in the words of its entries."""
        return entries_of(self.settings)

    def close(self) -> None:
        """Ends the cluster, and what the clusters of a run share."""
        self._ends.close()


def entries_of(settings: Settings) -> list[str]:
    """What runs with that report directory have in the undo journal, in the words of the entries."""
    return [entry.text for _, entry in settings.journal.entries()]


def answers(url: str, *, timeout: float = 2.0) -> bool:
    """Whether anything answers at a URL."""
    try:
        return get_if(url, lambda _: True, timeout=timeout) is not None
    except OSError:
        return False


def killed_run(choice: BackendChoice, directory: Path) -> str:
    """Runs pytest in a process of its own, which is killed as soon as it has a cluster.

    Args:
        choice: The backend.
        directory: Where it runs; its reports are in ``reports``.

    Returns:
        Where the app answered.

    Raises:
        AssertionError: It ended before it had a cluster.
    """
    (directory / "test_killed.py").write_text(KILLED_TEST)
    plugins = ["-p", "pytest_serve_chaos.plugin", *(["-p", choice.plugin] if choice.plugin else [])]
    options = ["-p", "no:cacheprovider", f"--rootdir={directory}", *choice.arguments(directory / "reports")]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "SERVE_CHAOS"))}
    environment |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", *plugins, *options, "test_killed.py"],
        cwd=directory,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert (directory / "url").exists(), f"the run had no cluster:\n{ran.stdout}"
    return (directory / "url").read_text()
