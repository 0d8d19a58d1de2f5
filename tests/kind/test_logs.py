"""Logs of a pod that is gone, on a real kind cluster: they were streamed while it was there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.cluster.kubernetes.rayservice.cluster import RayServiceCluster
from pytest_serve_chaos.experiment import Experiment
from pytest_serve_chaos.handle import ServeCluster
from tests.kind.needs import needs_kind, run

pytestmark = needs_kind

WORD = "a word before the end"
FILE = "by-the-test.log"


def directories(logs: Path, node: str) -> list[Path]:
    """Those of the node's containers, the oldest first: the next one writes only when the one before is gone."""
    found = [path for path in logs.iterdir() if path.name.startswith(f"{node}_")]
    return sorted(found, key=lambda path: min(file.stat().st_mtime for file in path.rglob("*.*")))


def logs_of(experiment: Experiment) -> Path:
    """Where the logs of this test are."""
    path = experiment.rig.history.path
    assert path is not None
    return path.parent / "logs" / experiment.rig.current.experiment


def let_every_pod_log(cluster: ServeCluster, logs: Path) -> None:
    """Each of Ray's pods logs a line, which is here when this returns; Ray may have nothing to say for many seconds."""
    (head,) = cluster.of("head")
    assert head.machine is not None
    control_plane = re.sub(r"-worker\d*$", "-control-plane", head.machine)
    kubectl = ["docker", "exec", control_plane, "kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf"]
    kubectl += ["-n", names.NAMESPACE]
    pods = run(*kubectl, "get", "pods", "-l", names.RAY_NODES, "-o", "name").split()
    for pod in pods:
        command = f"date '+%F %T,%3N {WORD}' >> /tmp/ray/session_latest/logs/{FILE}"
        run(*kubectl, "exec", pod, "--", "sh", "-c", command)

    def here() -> bool | NotYet:
        found = [*logs.glob(f"*/{FILE}")]
        return len(found) == len(pods) or NotYet(f"in {found}")

    clock.wait_until("the lines", here, timeout=60.0)


@pytest.mark.worker_failure(which="worker-1")
def test_a_pod_that_is_gone_leaves_its_logs(experiment: Experiment, serve_cluster: ServeCluster) -> None:
    cluster, logs = serve_cluster.backend, logs_of(experiment)
    assert isinstance(cluster, RayServiceCluster)
    begun = clock.now()
    let_every_pod_log(serve_cluster, logs)

    result = experiment.measure()

    assert result.replaced("worker", on="victims")
    old, new = directories(logs, "worker-1")
    # What was logged in it between the test's first moment and its own last; it is gone, and is found.
    (line,) = (old / FILE).read_text().splitlines()
    assert line.endswith(WORD)
    assert f"worker-1: {FILE}: {line}" in cluster.log_excerpt(begun, lines=1_000_000)

    # Both wrote what `ray start` prints; of the new one there is all from its first line on.
    for directory in (old, new):
        assert "ray" in (directory / "container.log").read_text().lower()
    assert (new / "raylet.out").stat().st_size > 0
    for other in ("head", "worker-2", "redis", "operator"):
        (directory,) = directories(logs, other)
        assert (directory / "container.log").stat().st_size > 0, other
    assert (directories(logs, "head")[0] / "gcs_server.out").exists()


@pytest.mark.gcs_failure
def test_a_container_that_was_started_again_has_files_of_its_own(
    experiment: Experiment, serve_cluster: ServeCluster
) -> None:
    logs = logs_of(experiment)
    let_every_pod_log(serve_cluster, logs)

    result = experiment.measure()

    assert result.replaced("gcs")
    # The kubelet starts it more than once where Ray does not come up at the first start.
    before, *again = directories(logs, "head")
    for attempt in again:
        assert attempt.name.startswith(f"{before.name.partition('_restart-')[0]}_restart-"), "the same pod"
        assert not (attempt / FILE).exists()
    # What the one before wrote from the test's first moment on stays its own; of the one after there is all.
    assert (before / FILE).read_text().endswith(f"{WORD}\n")
    after = again[-1]
    assert (after / "gcs_server.out").stat().st_size > 0
    assert list((after / "serve").glob("controller_*.log"))
