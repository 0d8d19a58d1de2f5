"""The log of KubeRay's operator, which may be in another namespace than the external RayService."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_serve_chaos.cluster.capabilities import STREAMS_LOGS
from pytest_serve_chaos.cluster.kubernetes.client.records import mapped
from pytest_serve_chaos.cluster.kubernetes.logs.operator import SELECTOR
from pytest_serve_chaos.model import Json
from tests.capabilities import part
from tests.unit.api_server import ApiServer
from tests.unit.test_external_start import PODS, changes, external, server, settings
from tests.unit.test_log_stream import wait_for
from tests.unit.test_undo_in_external_pods import running

__all__ = ["server"]  # the fixture

NAMESPACE = "kuberay-system"
THERE = f"/api/v1/namespaces/{NAMESPACE}/pods"
LOST = "kubernetes: the log of KubeRay's operator will not be kept: "


@pytest.fixture
def operator(server: ApiServer) -> None:
    """The operator in its namespace, which has written a line; the RayService's namespace has none."""
    pod = running("kuberay-operator-1")
    status: Json = {"name": "manager", "ready": True, "state": {"running": {}}, "containerID": "containerd://op"}
    pod["spec"] = {"nodeName": "node-1", "containers": [{"name": "manager", "image": "operator:1"}]}
    pod["status"] = {**mapped(pod["status"]), "containerStatuses": [status]}
    server.objects[THERE] = {"items": [pod]}
    server.objects[f"{THERE}/kuberay-operator-1/log"] = "2026-11-22T18:04:11Z reconciled\n"
    server.objects[PODS] = {"items": []}


def asked_there(server: ApiServer) -> set[tuple[str, str]]:
    """Methods and paths of what was asked in the operator's namespace."""
    return {(asked.method, asked.path.removeprefix(THERE)) for asked in server.asked if NAMESPACE in asked.path}


@pytest.mark.usefixtures("operator")
def test_it_is_kept_where_the_user_says_where_it_is_and_nothing_is_changed_there(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    given = settings(server, tmp_path, monkeypatch, operator_namespace=NAMESPACE)
    cluster = external(given, tmp_path, told.append)
    stream = part(cluster, STREAMS_LOGS).stream_logs(tmp_path / "logs")
    file = tmp_path / "logs" / "operator_kuberay-operator-1" / "container.log"
    wait_for(lambda: file.exists() and "reconciled" in file.read_text())
    stream.close()
    cluster.close()
    assert not [line for line in told if line.startswith(LOST)]
    assert cluster.description.details["operator image"] == "operator:1"
    assert asked_there(server) == {("GET", ""), ("GET", "/kuberay-operator-1/log")}
    assert changes(server) == []


@pytest.mark.usefixtures("operator")
@pytest.mark.parametrize("right", ["list pods", "get pods/log"])
def test_without_the_right_to_it_that_is_said_and_nothing_is_asked_there(
    server: ApiServer, right: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.lacking.add(f"{right} in {NAMESPACE}")
    told: list[str] = []
    given = settings(server, tmp_path, monkeypatch, operator_namespace=NAMESPACE)
    cluster = external(given, tmp_path, told.append)
    part(cluster, STREAMS_LOGS).stream_logs(tmp_path / "logs").close()
    cluster.close()
    lost = [line for line in told if line.startswith(LOST)]
    assert lost == [f"{LOST}this user may not {right} in namespace {NAMESPACE}"]
    assert asked_there(server) == set()


def test_where_it_is_not_that_is_said(server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.objects[THERE] = {"items": []}
    told: list[str] = []
    external(settings(server, tmp_path, monkeypatch, operator_namespace=NAMESPACE), tmp_path, told.append).close()
    assert told[-1] == f"{LOST}no pod in namespace {NAMESPACE} has the label {SELECTOR}"


@pytest.mark.usefixtures("operator")
def test_unless_it_is_said_no_other_namespace_is_looked_at(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = external(settings(server, tmp_path, monkeypatch), tmp_path)
    part(cluster, STREAMS_LOGS).stream_logs(tmp_path / "logs").close()
    cluster.close()
    assert asked_there(server) == set()
