"""Logs of a pod that is gone, on a real kind cluster: they were streamed while it was there."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_serve_chaos import clock
from pytest_serve_chaos.cluster.kuberay.rayservice import KubeRayCluster
from pytest_serve_chaos.experiment import Experiment
from pytest_serve_chaos.handle import ServeCluster
from tests.kind.needs import needs_kind

pytestmark = needs_kind


def directories(logs: Path, node: str) -> list[Path]:
    """Those of the node's containers, the oldest first: the next one writes only when the one before is gone."""
    found = [path for path in logs.iterdir() if path.name.startswith(f"{node}_")]
    return sorted(found, key=lambda path: min(file.stat().st_mtime for file in path.rglob("*.*")))


def logs_of(experiment: Experiment) -> Path:
    """Where the logs of this test are."""
    path = experiment.rig.history.path
    assert path is not None
    return path.parent / "logs" / experiment.rig.experiment


@pytest.mark.worker_failure(which="worker-1")
def test_a_pod_that_is_gone_leaves_its_logs(experiment: Experiment, serve_cluster: ServeCluster) -> None:
    cluster, logs = serve_cluster.backend, logs_of(experiment)
    assert isinstance(cluster, KubeRayCluster)
    begun = clock.now()

    result = experiment.measure()

    assert result.replaced("worker", on="victims")
    old, new = directories(logs, "worker-1")
    # What its raylet wrote between the test's first moment and its own last; it is gone, and is found.
    *_, last = (old / "raylet.out").read_text().splitlines()
    assert f"worker-1: raylet.out: {last}" in cluster.log_excerpt(begun, lines=1_000_000)

    # Both wrote what `ray start` prints; of the new one there is all from its first line on.
    for directory in (old, new):
        assert "ray" in (directory / "container.log").read_text().lower()
    assert (new / "raylet.out").stat().st_size > 0
    for other in ("head", "worker-2", "redis", "operator"):
        (directory,) = directories(logs, other)
        assert (directory / "container.log").stat().st_size > 0, other
    assert (directories(logs, "head")[0] / "gcs_server.out").exists()


@pytest.mark.gcs_failure
def test_a_container_that_was_started_again_has_files_of_its_own(experiment: Experiment) -> None:
    logs = logs_of(experiment)

    result = experiment.measure()

    assert result.replaced("gcs")
    before, after = directories(logs, "head")
    assert after.name.startswith(f"{before.name.partition('_restart-')[0]}_restart-"), "the same pod"
    # The one before wrote little from the test's first moment on; of the one after there is all.
    assert (before / "raylet.out").stat().st_size > 0
    assert (after / "gcs_server.out").stat().st_size > 0
    assert list((after / "serve").glob("controller_*.log"))
