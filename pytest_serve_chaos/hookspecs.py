"""The hooks of this plugin, for plugins that add to it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_serve_chaos.backends import Backend
    from pytest_serve_chaos.checks.base import Check
    from pytest_serve_chaos.cluster.base import Cluster, ClusterSpec, Progress
    from pytest_serve_chaos.faults.spec import FaultSpec
    from pytest_serve_chaos.report import Reporter
    from pytest_serve_chaos.settings import Settings


@pytest.hookspec
def pytest_serve_chaos_faults() -> Iterable[FaultSpec[object]]:  # type: ignore[empty-body]
    """Adds faults. Each has a marker of its name, and everything else that the built-in ones have.

    For example, in a plugin or in the root `conftest.py`::

        def pytest_serve_chaos_faults():
            from my_project.partition import FAULT  # here, so that other runs do not pay for it

            return [FAULT]

    pytest calls this in every run, also without `--serve-chaos`, to know the markers.
    """


@pytest.hookspec(historic=True)
def pytest_serve_chaos_backends() -> Sequence[Backend] | None:
    """Returns backends, which `--serve-chaos-backend` then takes by their names, with their options and their doctors.

    For example, in a plugin, or in the root `conftest.py`::

        from pytest_serve_chaos import Backend

        def start(spec, settings, directory, progress):
            return FarmCluster(spec)  # implements pytest_serve_chaos.Cluster

        def pytest_serve_chaos_backends():
            return [Backend(name="farm", description="machines of the farm", start=start)]

    pytest calls this in every run, also without `--serve-chaos`, to know the options: import what is heavy in `start`.
    """


@pytest.hookspec
def pytest_serve_chaos_reporters() -> Sequence[Reporter] | None:
    r"""Returns reporters, whose files each run writes, and whose names `serve-chaos analyse --format` takes.

    For example, in a plugin, or in the root `conftest.py`::

        from pytest_serve_chaos import Reporter

        def verdicts(outcomes):
            return "".join(f"{result.experiment}: {result.outcome}\n" for result in outcomes.results)

        def pytest_serve_chaos_reporters():
            return [Reporter(name="verdicts", description="a line each", text=verdicts, file="verdicts.txt")]
    """


@pytest.hookspec(firstresult=True)
def pytest_serve_chaos_start_cluster(
    spec: ClusterSpec, settings: Settings, directory: Path, progress: Progress
) -> Cluster | None:
    """Makes a cluster, or connects to one, instead of the built-in backends; None leaves it to them.

    For example, in a `conftest.py`::

        def pytest_serve_chaos_start_cluster(spec, settings, directory, progress):
            return MyCluster(spec)  # implements pytest_serve_chaos.cluster.base.Cluster

    Args:
        spec: Which cluster the test wants.
        settings: All settings of the run.
        directory: The run's directory, for logs.
        progress: Prints a line for people.
    """


@pytest.hookspec
def pytest_serve_chaos_checks(item: pytest.Item) -> Iterable[Check]:  # type: ignore[empty-body]
    """Adds checks to the experiments of a test, in addition to those that it gives to `experiment.run` itself.

    For example, in a `conftest.py`::

        def pytest_serve_chaos_checks(item):
            return [P999(limit=0.5)]  # implements pytest_serve_chaos.Check

    Args:
        item: The test.
    """
