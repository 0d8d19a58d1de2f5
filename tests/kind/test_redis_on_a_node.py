"""Redis on the node of a worker: that is warned about before, and when the node is lost, it is said to be the cause."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.cluster.base import ClusterSpec, Progress
from pytest_serve_chaos.cluster.capabilities import KNOWS_ITS_SETUP
from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.cluster.kubernetes.kind.settings import KindSettings
from pytest_serve_chaos.cluster.kubernetes.kind.start import start_kind_cluster
from pytest_serve_chaos.cluster.kubernetes.rayservice.cluster import RayServiceCluster
from pytest_serve_chaos.cluster.private_files import PRIVATE
from pytest_serve_chaos.errors import ObservationError
from pytest_serve_chaos.faults.catalogue import BUILT_IN
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.report.terminal import explained
from tests.capabilities import part
from tests.kind.needs import cluster_of, experiment, kind_settings, needs_kind, rig_on, run

pytestmark = needs_kind


@pytest.fixture(scope="module")
def said() -> list[str]:
    return []


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory, said: list[str]) -> Iterator[Rig]:
    settings = kind_settings()

    def start(directory: Path, progress: Progress) -> RayServiceCluster:
        cluster = start_kind_cluster(ClusterSpec(), settings, directory, progress)
        try:
            move_redis(cluster, settings, directory / PRIVATE / "kubeconfig")
        except BaseException:
            cluster.close()
            raise
        return cluster

    with rig_on(ClusterSpec(), tmp_path_factory.mktemp("redis-on-a-node"), said, start) as rig:
        yield rig


def move_redis(cluster: RayServiceCluster, settings: KindSettings, kubeconfig: Path) -> None:
    """Puts Redis on the machine of worker-1; it forgets all it had, so head and workers restart."""
    machine = part(cluster, KNOWS_ITS_SETUP).setup().machines["worker-1"]
    before = {c.identity for c in cluster.components() if c.role == "gcs"}
    run("kind", "load", "docker-image", settings.redis_image, "--name", str(settings.name), "--nodes", machine)
    there = {"nodeSelector": {"pytest-serve-chaos/role": None, "kubernetes.io/hostname": machine}}
    patch = json.dumps({"spec": {"template": {"spec": there}}})
    kubectl = ("kubectl", "--kubeconfig", str(kubeconfig), "--namespace", names.NAMESPACE)
    run(*kubectl, "patch", "deployment", names.REDIS, "--patch", patch)
    run(*kubectl, "rollout", "status", f"deployment/{names.REDIS}", "--timeout=90s")

    def whole() -> bool | NotYet:
        components = cluster.components()
        if before & {c.identity for c in components}:
            return NotYet("the GCS has not restarted")
        try:
            running = [r for r in cluster.dashboard.serve().replicas if r.state == "RUNNING"]
        except ObservationError as error:
            return NotYet(str(error))
        return len(running) == 6 or NotYet(f"{len(running)} replicas run")

    clock.wait_until("the cluster to be back on its new Redis", whole, timeout=240.0, interval=2.0)


def test_it_is_warned_about_before_anything_is_broken(rig: Rig, said: list[str]) -> None:
    setup = part(cluster_of(rig), KNOWS_ITS_SETUP).setup()
    assert setup.redis_machine == setup.machines["worker-1"]
    assert any(f"warning: Redis is on {setup.redis_machine}, the node of worker-1" in line for line in said)


def test_the_loss_of_that_node_is_an_outage_with_that_cause(rig: Rig) -> None:
    lost = experiment(
        rig, "redis_lost_with_its_node", BUILT_IN.choose("node_failure", {"how": "kill", "which": "worker-1"})
    )
    result = lost.sending(send_lag_limit=1.0).measure(redundancy_back="300s")

    assert result.outcome == "failed", result.verdict
    assert result.longest_outage is not None
    assert result.longest_outage > 2.0
    assert result.replaced("head"), "it lost its Redis"
    assert "redis_on_ray_node" in [warning.code for warning in result.warnings]
    assert any("warned about before: Redis is on" in line for line in explained(result))
