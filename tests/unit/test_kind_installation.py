"""What a kind cluster is made of is read and looked at before it is made, and said when it is loaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from pytest_serve_chaos.backends.kind import KIND
from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.kubernetes.install.workload import our_workload
from pytest_serve_chaos.cluster.kubernetes.kind import installation as kind_installation
from pytest_serve_chaos.cluster.kubernetes.kind import start as kind_cluster
from pytest_serve_chaos.cluster.kubernetes.kind.installation import KindInstallation
from pytest_serve_chaos.cluster.kubernetes.kind.nodes import KindNodes
from pytest_serve_chaos.cluster.kubernetes.kind.settings import KindSettings
from pytest_serve_chaos.cluster.kubernetes.logs.operator import read_manifests
from pytest_serve_chaos.errors import ClusterStartError, CommandFailed, SettingsError
from pytest_serve_chaos.settings import Settings
from tests.unit.kind_runs import CONTROL_PLANE, OPERATOR, SPEC, KindMachines, Runs, fake_runs

DEFINITION, DEPLOYMENT = OPERATOR.split("---\n")


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    return fake_runs(tmp_path, monkeypatch)


# -- the operator's manifests --


@pytest.mark.parametrize(
    ("text", "lacking"),
    [
        (DEPLOYMENT, "lack the CustomResourceDefinition rayservices.ray.io"),
        (DEFINITION, "lack a Deployment of the operator"),
        (DEFINITION.replace("rayservices", "rayjobs") + "---\n" + DEPLOYMENT, "lack the CustomResourceDefinition"),
        ("<!DOCTYPE html>\n<html>", "rayservices.ray.io and a Deployment of the operator"),
        ("", "rayservices.ray.io and a Deployment of the operator"),
    ],
)
def test_manifests_that_are_not_those_of_kuberay_are_refused_before_anything_is_made(
    runs: Runs, text: str, lacking: str
) -> None:
    runs.operator = text
    with pytest.raises(SettingsError, match=lacking) as caught:
        runs.start()
    assert str(runs.directory / "operator.yaml") in caught.value.checked
    assert caught.value.fix
    assert runs.machines.taken() == []


def test_a_licence_before_the_first_object_is_no_object(runs: Runs) -> None:
    runs.operator = "# Copyright, and so on\n---\n" + OPERATOR
    assert "install operator" in runs.run()


def test_what_cannot_be_rendered_is_said_with_where_it_is() -> None:
    def kustomize(source: str) -> str:
        raise CommandFailed("kubectl failed", checked=["no such host"])

    with pytest.raises(ClusterStartError, match="manifests cannot be read: kubectl failed") as caught:
        read_manifests("github.com/ray-project/kuberay", kustomize)
    assert caught.value.checked == ("github.com/ray-project/kuberay", "no such host")


@pytest.mark.parametrize(
    ("keep", "is_there", "read"), [(False, False, 1), (True, False, 1), (True, True, 0)], ids=["new", "keep", "kept"]
)
def test_an_address_is_read_before_machines_are_made_and_not_for_those_that_may_have_it(
    keep: bool, is_there: bool, read: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources: list[str] = []

    def remember(source: str, _: object) -> str:
        sources.append(source)
        return OPERATOR

    monkeypatch.setattr(kind_installation, "read_manifests", remember)
    machines, settings = KindMachines(), KindSettings(keep=keep)
    machines.states = {CONTROL_PLANE: "running"} if is_there else {}
    work = our_workload(ClusterSpec(), settings.ray_image, settings.redis_image, {})
    KindInstallation(cast("KindNodes", machines), settings, work, {}, number=3, progress=print)
    assert sources == [settings.kuberay_manifests] * read


# -- images --


def test_the_image_that_the_manifests_name_is_loaded_where_none_was_given(runs: Runs) -> None:
    runs.settings = replace(runs.settings, operator_image=None)
    runs.run()
    assert runs.machines.loaded[0] == ("registry.example/operator:v1.7.0", CONTROL_PLANE)
    assert runs.run() == []
    runs.machines.ids["registry.example/operator:v1.7.0"] = "2e"
    assert "install operator" in runs.run()


@pytest.mark.parametrize(("given", "image"), [({}, None), ({"operator_image": "mine:1"}, "mine:1")])
def test_manifests_of_the_users_own_bring_their_operator(
    given: dict[str, str], image: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[KindSettings] = []

    def start(_: object, settings: KindSettings, *__: object, **___: object) -> None:
        seen.append(settings)

    monkeypatch.setattr(kind_cluster, "start_kind_cluster", start)
    settings = Settings(backend="kind", kuberay_manifests="mine.yaml", report_dir=tmp_path, **given)  # type: ignore[arg-type]
    KIND.start(SPEC, settings, tmp_path, print)
    assert [(s.kuberay_manifests, s.operator_image) for s in seen] == [("mine.yaml", image)]


def test_what_is_loaded_is_said_before_it_takes_its_time(runs: Runs) -> None:
    runs.machines.fails["load"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        runs.start()
    assert "kind: loading quay.io/kuberay/operator:v1.6.2, redis:7.0 onto 1 node" in runs.said
    assert not [line for line in runs.said if "redis:7.0 on 1 node after" in line]


def test_an_image_that_docker_lacks_is_not_said_to_be_there(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs.machines, "load", lambda images, nodes: ("redis:7.0",))
    runs.run()
    (there,) = [line for line in runs.said if line.startswith("kind: quay.io/kuberay/operator:v1.6.2 on 1 node after")]
    assert "redis" not in there
    assert "kind: Docker does not have redis:7.0; the nodes will pull it" in runs.said
