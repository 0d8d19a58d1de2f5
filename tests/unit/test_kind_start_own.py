"""Starts of a kind cluster with a RayService of the user's own."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_serve_chaos.cluster.kubernetes.client.records import name_of
from pytest_serve_chaos.cluster.kubernetes.install.file_workload import OwnRayService
from pytest_serve_chaos.cluster.kubernetes.install.rayservice_file import read_own_file
from pytest_serve_chaos.errors import SettingsError
from tests.unit.kind_runs import ABOVE, ALL, Runs, fake_runs
from tests.unit.reused_cluster import CONTROL_PLANE, WORKER


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    return fake_runs(tmp_path, monkeypatch)


DATA = Path(__file__).parents[1] / "kind" / "data"


def own_rayservice(directory: Path, **changes: str) -> OwnRayService:
    """That of the file, with one worker, and other values for some of its keys."""
    content = (DATA / "k8s_config.yaml").read_text()
    for key, value in {"replicas": "1", "minReplicas": "1", "maxReplicas": "1", **changes}.items():
        content = re.sub(rf"\b{key}: \d+", f"{key}: {value}", content)
    path = directory / "k8s_config.yaml"
    path.write_text(content)
    return OwnRayService(read_own_file(path), "rayproject/ray:2.60.0", "redis:7.0", (DATA,))


def test_a_rayservice_of_the_users_own_is_checked_and_then_installed_with_all_that_belongs_to_it(
    runs: Runs, tmp_path: Path
) -> None:
    runs.settings = replace(runs.settings, keep=False)
    own = own_rayservice(tmp_path)
    cluster = runs.start(own.file.spec, own)
    machines = runs.machines
    assert machines.taken() == ["create", *ALL]
    assert runs.said[0] == f"k8s_config.yaml: app sleepy_pid:app: its code travels to the pods: sleepy_pid.py of {DATA}"
    assert machines.loaded[1:] == [("redis:7.0", CONTROL_PLANE), ("rayproject/ray:2.60.0", WORKER)]
    assert [name_of(item) for item in machines.documents["redis"]] == ["redis-settings", "store", "store-of-the-gcs"]
    assert name_of(machines.documents["services"][0]) == "rayservice-of-the-guide-serve-svc"
    assert machines.followed == ["rayservice-of-the-guide"]
    assert cluster.of.ref.ray_service == "rayservice-of-the-guide"
    assert cluster.of.redis is not None
    assert cluster.of.redis.name == "store-of-the-gcs"
    assert str(cluster.of.description.details["rayservice file"]).endswith("k8s_config.yaml")


def test_a_kept_rayservice_of_the_users_own_is_taken_over_until_its_file_is_another(runs: Runs, tmp_path: Path) -> None:
    own = own_rayservice(tmp_path)
    assert runs.run(own.file.spec, own) == ["create", *ALL]
    assert runs.run(own.file.spec, own) == []
    assert runs.run() == ["remove", *ABOVE]
    another = own_rayservice(tmp_path, num_replicas="4")
    assert runs.run(another.file.spec, another) == ["remove", *ABOVE]


def test_code_that_cannot_travel_is_refused_before_anything_is_made(runs: Runs, tmp_path: Path) -> None:
    (tmp_path / "sleepy_pid.py").write_text("#" * 1_000_000)
    own = replace(own_rayservice(tmp_path), directories=(tmp_path,))
    with pytest.raises(SettingsError, match="a ConfigMap holds"):
        runs.start(own.file.spec, own)
    assert runs.machines.taken() == []
