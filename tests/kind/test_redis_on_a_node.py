"""Redis on the node of a worker: that is warned about before, and when the node is lost, it is said to be the cause."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.kind_cluster import start_kind_cluster
from pytest_serve_chaos.cluster.kind_rayservice import KindRayService
from pytest_serve_chaos.cluster.kuberay import names
from pytest_serve_chaos.errors import ObservationError
from pytest_serve_chaos.experiment import Experiment, FaultChoice
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.load import Load
from pytest_serve_chaos.report.terminal import explained
from pytest_serve_chaos.run import Run
from tests.kind.needs import kind_settings, needs_kind

pytestmark = needs_kind

RATE = float(os.environ.get("SERVE_CHAOS_RATE", "20"))


@pytest.fixture(scope="module")
def said() -> list[str]:
    return []


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory, said: list[str]) -> Iterator[Rig]:
    settings = kind_settings()
    created: list[str] = []

    def start(spec: ClusterSpec, directory: Path, progress: object) -> KindRayService:
        cluster = start_kind_cluster(spec, settings, directory, say, on_create=created.append)
        try:
            move_redis(cluster, created[0], directory / "kubeconfig", settings.redis_image)
        except BaseException:
            cluster.close()
            raise
        return cluster

    def say(line: str) -> None:
        said.append(line)
        print(line)

    run = Run(tmp_path_factory.mktemp("redis-on-a-node"), start, seed=1, progress=say)
    try:
        yield run.rig_for(ClusterSpec())
    finally:
        run.close()


def move_redis(cluster: KindRayService, name: str, kubeconfig: Path, image: str) -> None:
    """Puts Redis on the machine of worker-1; it forgets all it had, so head and workers restart."""
    machine = cluster.setup().machines["worker-1"]
    before = {c.identity for c in cluster.components() if c.role == "gcs"}
    call("kind", "load", "docker-image", image, "--name", name, "--nodes", machine)
    there = {"nodeSelector": {"pytest-serve-chaos/role": None, "kubernetes.io/hostname": machine}}
    patch = json.dumps({"spec": {"template": {"spec": there}}})
    kubectl = ("kubectl", "--kubeconfig", str(kubeconfig), "--namespace", names.NAMESPACE)
    call(*kubectl, "patch", "deployment", names.REDIS, "--patch", patch)
    call(*kubectl, "rollout", "status", f"deployment/{names.REDIS}", "--timeout=90s")

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


def call(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=120.0)


def test_it_is_warned_about_before_anything_is_broken(rig: Rig, said: list[str]) -> None:
    cluster = rig.cluster
    assert isinstance(cluster, KindRayService)
    setup = cluster.setup()
    assert setup.redis_machine == setup.machines["worker-1"]
    assert any(f"warning: Redis is on {setup.redis_machine}, the node of worker-1" in line for line in said)


def test_the_loss_of_that_node_is_an_outage_with_that_cause(rig: Rig) -> None:
    rig.experiment = "redis_lost_with_its_node"
    rig.watcher.belongs_to(rig.experiment)
    lost = FaultChoice("node_failure", {"how": "kill", "which": "worker-1"})
    result = Experiment(rig, Load(rate=RATE), lost).sending(send_lag_limit=1.0).measure(redundancy_back="300s")

    assert result.outcome == "failed", result.verdict
    assert result.longest_outage > 2.0
    assert result.replaced("head"), "it lost its Redis"
    assert "redis_on_ray_node" in [warning.code for warning in result.warnings]
    assert any("warned about before: Redis is on" in line for line in explained(result))
