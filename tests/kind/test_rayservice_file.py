"""A RayService file like that of the guide on a real kind cluster: it comes up, and loses its head, as others do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.cluster.base import Progress
from pytest_serve_chaos.cluster.capabilities import HAS_REDIS, KNOWS_ITS_SETUP
from pytest_serve_chaos.cluster.kubernetes.install.file_workload import OwnRayService
from pytest_serve_chaos.cluster.kubernetes.install.rayservice_file import read_own_file
from pytest_serve_chaos.cluster.kubernetes.kind.start import start_kind_cluster
from pytest_serve_chaos.cluster.kubernetes.rayservice.cluster import RayServiceCluster
from pytest_serve_chaos.faults.catalogue import BUILT_IN
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.suite.on_kubernetes import DEAD_HEAD
from tests.capabilities import part
from tests.kind.needs import cluster_of, experiment, kind_settings, needs_kind, rig_on

pytestmark = needs_kind

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="module")
def said() -> list[str]:
    return []


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory, said: list[str]) -> Iterator[Rig]:
    settings = kind_settings()
    file = read_own_file(DATA / "k8s_config.yaml")
    own = OwnRayService(file, settings.ray_image, settings.redis_image, (DATA,))

    def start(directory: Path, progress: Progress) -> RayServiceCluster:
        return start_kind_cluster(file.spec, settings, directory, progress, own=own)

    with rig_on(file.spec, tmp_path_factory.mktemp("rayservice-file"), said, start) as rig:
        yield rig


def test_it_answers_through_the_node_port_with_the_code_from_alongside_the_file(rig: Rig, said: list[str]) -> None:
    answer = httpx.get(rig.cluster.url, timeout=5.0, trust_env=False)
    assert answer.status_code == 200
    assert int(answer.text) > 0
    assert any("sleepy_pid.py" in line for line in said)
    assert any("headGroupSpec.replicas is left out" in line for line in said)


def test_every_ray_pod_is_alone_on_a_node_and_redis_is_on_none_of_theirs(rig: Rig) -> None:
    setup = part(cluster_of(rig), KNOWS_ITS_SETUP).setup()
    assert len(set(setup.machines.values())) == 3
    assert setup.redis_machine is not None
    assert setup.redis_machine not in setup.machines.values()


def test_its_redis_is_asked_with_the_password_of_the_rayservice(rig: Rig) -> None:
    cluster = cluster_of(rig)
    assert part(cluster, HAS_REDIS).redis_namespace
    assert any(part(cluster, HAS_REDIS).redis_namespace in key for key in part(cluster, HAS_REDIS).redis_keys())


def test_losing_its_head_keeps_its_workers(rig: Rig) -> None:
    # Its replicas want no CPU and have no limit per node, so some may be on the head, and are lost with it.
    lost = experiment(rig, "head_lost", BUILT_IN.choose("head_failure", {"how": "kill"}))
    result = lost.run(**DEAD_HEAD)
    assert result.replaced("head")
    assert result.kept("worker")
    assert result.kept("replicas", on="workers")


def test_its_redis_can_be_held_away_and_comes_back(rig: Rig) -> None:
    cluster = cluster_of(rig)
    signs = part(cluster, HAS_REDIS).kill_redis(how="kill", hold=True)
    assert {sign.side for sign in signs} == {"cluster", "victim"}
    assert not [c for c in cluster.components() if c.role == "redis"]
    part(cluster, HAS_REDIS).restore_redis()

    def back() -> bool | NotYet:
        return any(c.role == "redis" for c in cluster.components()) or NotYet("no Redis")

    clock.wait_until("Redis to be back", back, timeout=120.0, interval=0.5)
