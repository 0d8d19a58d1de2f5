"""The hooks of this plugin, for those who bring a backend of their own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_serve_chaos.cluster.base import Cluster, ClusterSpec, Progress
    from pytest_serve_chaos.settings import Settings


@pytest.hookspec(firstresult=True)
def pytest_serve_chaos_start_cluster(
    spec: ClusterSpec, settings: Settings, directory: Path, progress: Progress
) -> Cluster | None:
    """Makes (or borrows) a cluster instead of the built-in backends; None leaves it to them.

    For example, in a `conftest.py`::

        def pytest_serve_chaos_start_cluster(spec, settings, directory, progress):
            return MyCluster(spec)  # implements pytest_serve_chaos.cluster.base.Cluster

    Args:
        spec: Which cluster the test wants.
        settings: All settings of the run.
        directory: The run's directory, for logs.
        progress: Prints a line for people.
    """
