"""A RayService whose Ray answers only those who have its token (`authOptions`), on a real kind cluster."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.cluster.base import Progress
from pytest_serve_chaos.cluster.capabilities import UPGRADES_RAY_SERVICE
from pytest_serve_chaos.cluster.kubernetes.install.file_workload import OwnRayService
from pytest_serve_chaos.cluster.kubernetes.install.rayservice_file import read_own_file
from pytest_serve_chaos.cluster.kubernetes.kind.start import start_kind_cluster
from pytest_serve_chaos.cluster.kubernetes.rayservice.cluster import RayServiceCluster
from pytest_serve_chaos.faults.catalogue import BUILT_IN
from pytest_serve_chaos.faults.rig import Rig
from tests.capabilities import part
from tests.kind.needs import cluster_of, experiment, kind_settings, needs_kind, rig_on

pytestmark = needs_kind

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    directory = tmp_path_factory.mktemp("token")
    guide = (DATA / "k8s_config.yaml").read_text()
    path = directory / "k8s_config.yaml"
    path.write_text(guide.replace("  rayClusterConfig:\n", "  rayClusterConfig:\n    authOptions: {mode: token}\n"))
    settings, file = kind_settings(), read_own_file(path)
    own = OwnRayService(file, settings.ray_image, settings.redis_image, (DATA,))

    def start(directory: Path, progress: Progress) -> RayServiceCluster:
        return start_kind_cluster(file.spec, settings, directory, progress, own=own)

    with rig_on(file.spec, directory, [], start) as rig:
        yield rig


def test_without_its_token_ray_says_nothing(rig: Rig) -> None:
    def refused() -> bool | NotYet:
        try:
            answer = httpx.get(f"{rig.cluster.dashboard.url}/api/v0/actors", timeout=5.0, trust_env=False)
        except httpx.HTTPError as error:
            return NotYet(str(error))
        return answer.status_code == 401

    assert clock.wait_until("an answer", refused, timeout=30.0)
    actors = clock.wait_until("Ray to answer", clock.patient(rig.cluster.dashboard.actors), timeout=30.0)
    assert [actor for actor in actors if actor.class_name == "ServeController"]


def test_an_actor_is_killed_and_the_aftershock_passed(rig: Rig) -> None:
    lost = experiment(rig, "controller_lost", BUILT_IN.choose("controller_failure", {"how": "kill"}))
    assert lost.run().replaced("controller")


def test_the_next_ray_cluster_has_another_token(rig: Rig) -> None:
    upgrades = part(cluster_of(rig), UPGRADES_RAY_SERVICE)
    before = upgrades.serving()
    upgrades.upgrade()
    assert upgrades.serving() != before
    nodes = clock.wait_until("Ray to answer", clock.patient(rig.cluster.dashboard.nodes), timeout=30.0)
    assert [node for node in nodes if node.state == "ALIVE"]
