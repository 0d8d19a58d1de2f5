"""Two reports tell whether what was under test is the same: Kubernetes, KubeRay's operator and Redis have versions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import pytest

from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.logs.operator import SELECTOR
from pytest_serve_chaos.cluster.kubernetes.rayservice.setup import versions
from pytest_serve_chaos.cluster.local.preflight import redis_version
from pytest_serve_chaos.errors import ObservationError
from pytest_serve_chaos.events import ClusterReady
from pytest_serve_chaos.history import History
from pytest_serve_chaos.model import Json
from pytest_serve_chaos.report.document import summary_document
from pytest_serve_chaos.results import result_of
from tests.unit.api_server import api_server
from tests.unit.histories import node_failure
from tests.unit.kind_runs import SPEC, fake_runs
from tests.unit.rayservices import KubeCalls


@dataclass
class Seen(KubeCalls):
    """An API server that has one image for the pods of each namespace and selector, and shows no others."""

    images: Mapping[tuple[str | None, str], str] = field(default_factory=dict)
    kubernetes: str = "v1.34.2"

    def version(self) -> str:
        if not self.kubernetes:
            raise ObservationError("Kubernetes' version: timed out")
        return self.kubernetes

    def raw_pods(self, selector: str, *, namespace: str | None) -> tuple[dict[str, Json], ...]:
        if namespace == "not ours to see":
            raise ObservationError("pods: forbidden")
        image = self.images.get((namespace, selector))
        return () if image is None else ({"spec": {"containers": [{"image": image}, {"image": "sidecar"}]}},)


def seen(api: Seen, *, operator_namespace: str | None = None, redis: str | None = None) -> dict[str, Json]:
    return versions(cast("KubeApi", api), operator_namespace=operator_namespace, redis=redis)


def test_what_a_rayservice_runs_on_is_told_from_the_pods() -> None:
    api = Seen({("kuberay", SELECTOR): "quay.io/kuberay/operator:v1.6.2", (None, "part=redis"): "redis:7.0"})
    assert seen(api, operator_namespace="kuberay", redis="part=redis") == {
        "kubernetes version": "v1.34.2",
        "operator image": "quay.io/kuberay/operator:v1.6.2",
        "redis image": "redis:7.0",
    }


@pytest.mark.parametrize("namespace", [None, "not ours to see"])
def test_what_cannot_be_seen_is_left_out(namespace: str | None) -> None:
    assert seen(Seen(), operator_namespace=namespace) == {"kubernetes version": "v1.34.2"}
    assert seen(Seen(kubernetes=""), operator_namespace=namespace) == {}


def test_the_version_of_kubernetes_is_asked_where_every_user_may_ask(tmp_path: Path) -> None:
    with api_server() as server:
        server.objects = {"/version/": {"major": "1", "minor": "34", "gitVersion": "v1.34.2"}}
        api = KubeApi(server.kubeconfig(tmp_path), namespace="ml")
        assert api.objects.version() == "v1.34.2"
        api.close()
    assert [(asked.method, asked.path) for asked in server.asked] == [("GET", "/version/")]


def test_a_kind_cluster_has_all_of_them_and_without_redis_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = fake_runs(tmp_path, monkeypatch)
    details = runs.start().of.description.details
    assert details["kubernetes version"] == "v1.34.2"
    assert details["operator image"] == "operator-in-kuberay:v1.6.2"
    assert details["redis image"] == "redis:7.0"
    assert "redis image" not in runs.start(replace(SPEC, gcs="none")).of.description.details


@pytest.mark.parametrize(
    ("prints", "version"),
    [
        ("Redis server v=7.2.4 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=1f", "Redis 7.2.4"),
        ("Valkey server v=8.0.1 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=2e", "Valkey 8.0.1"),
        ("something else", None),
    ],
)
def test_a_program_for_redis_says_its_version(prints: str, version: str | None, tmp_path: Path) -> None:
    program = tmp_path / "redis-server"
    program.write_text(f"#!/bin/sh\n[ $1 = --version ] && echo '{prints}'\n")
    program.chmod(0o755)
    assert redis_version(program) == version


def test_a_program_for_redis_that_cannot_be_run_has_none(tmp_path: Path) -> None:
    assert redis_version(tmp_path / "redis-server") is None


def test_the_summary_has_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    description = fake_runs(tmp_path, monkeypatch).start().of.description
    history, story = History(), node_failure()
    history.add(ClusterReady("a cluster", at=0.0, description=description))
    story.add_to(history)
    document = summary_document(history, [result_of(history, story.experiment)])
    (experiment,) = cast("list[dict[str, dict[str, dict[str, Json]]]]", document["experiments"])
    assert experiment["cluster"]["details"]["kubernetes version"] == "v1.34.2"
