"""What a drain is made of, past an API server that speaks HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_serve_chaos.cluster.kubernetes.client import drain
from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.client.drain import cordon, evict_all, reopen, uncordon
from pytest_serve_chaos.cluster.kubernetes.client.records import mapped
from pytest_serve_chaos.errors import CommandFailed, WaitTimeout
from pytest_serve_chaos.model import Json
from tests.unit.api_server import ApiServer, Asked, api_server
from tests.unit.external_services import cordoned_by
from tests.unit.rayservices import pod

A, B = pod("a", "worker", "10.0.0.2"), pod("b", "worker", "10.0.0.3")
TOO_MANY = 429
NODE = "/api/v1/nodes/node-1"


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with api_server() as server:
        yield server


@pytest.fixture
def api(server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KubeApi]:
    monkeypatch.setattr(drain, "_ASK_AGAIN_AFTER", 0.01)
    api = KubeApi(server.kubeconfig(tmp_path), namespace="ml")
    yield api
    api.close()


def eviction(name: str) -> str:
    return f"/api/v1/namespaces/ml/pods/{name}/eviction"


def asked(server: ApiServer) -> list[str]:
    return [one.path.split("/")[-2] for one in server.asked]


def test_what_a_disruption_budget_refuses_is_asked_for_again_and_keeps_no_other_pod(
    server: ApiServer, api: KubeApi
) -> None:
    server.refusals = {eviction("pod-a"): [TOO_MANY, TOO_MANY]}
    evict_all(api, [A, B], within=5.0)
    assert asked(server) == ["pod-a", "pod-b", "pod-a", "pod-a"]


def test_what_a_disruption_budget_never_allows_is_said(server: ApiServer, api: KubeApi) -> None:
    server.refusals = {eviction("pod-a"): [TOO_MANY] * 1000}
    with pytest.raises(WaitTimeout, match="last seen: eviction of pod pod-a: status 429: refused"):
        evict_all(api, [A, B], within=0.1)
    assert asked(server).count("pod-b") == 1


def test_a_pod_that_went_by_itself_needs_no_eviction(server: ApiServer, api: KubeApi) -> None:
    server.refusals = {eviction("pod-a"): [404]}
    evict_all(api, [A], within=5.0)
    assert asked(server) == ["pod-a"]


def test_another_refusal_is_final(server: ApiServer, api: KubeApi) -> None:
    server.refusals = {eviction("pod-a"): [403]}
    with pytest.raises(CommandFailed, match="status 403"):
        evict_all(api, [A], within=5.0)
    assert asked(server) == ["pod-a"]


def test_a_node_that_an_autoscaler_has_removed_needs_no_opening(server: ApiServer, api: KubeApi) -> None:
    server.refusals = {NODE: [404]}
    uncordon(api, "node-1")
    assert [one.path for one in server.asked] == [NODE]


def test_a_node_that_may_not_be_opened_is_said(server: ApiServer, api: KubeApi) -> None:
    server.refusals = {NODE: [403]}
    with pytest.raises(CommandFailed, match="uncordoning of node-1: status 403"):
        uncordon(api, "node-1")


def test_a_node_is_opened_where_the_cordon_is_ours(server: ApiServer, api: KubeApi) -> None:
    server.objects[NODE] = cordoned_by("pytest-serve-chaos")
    assert reopen(api, "node-1") == ""
    assert [(one.method, one.body) for one in server.asked if one.method != "GET"] == [
        ("PATCH", {"spec": {"unschedulable": None}, "metadata": {"annotations": {"pytest-serve-chaos/undo": None}}})
    ]


def test_a_cordon_that_somebody_sets_meanwhile_is_left_to_them(
    server: ApiServer, api: KubeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = cordoned_by("pytest-serve-chaos")
    server.objects[NODE] = {**node, "metadata": {**mapped(node["metadata"]), "resourceVersion": "7"}}
    answer = server.answer

    def changed_before_the_patch(asked: Asked) -> tuple[int, Json]:
        if asked.method == "PATCH":
            server.objects[NODE] = cordoned_by("maintenance")
            server.refusals = {NODE: [409]}
        return answer(asked)

    monkeypatch.setattr(server, "answer", changed_before_the_patch)
    assert reopen(api, "node-1").endswith("stays cordoned, now by maintenance")
    (patch,) = [one.body for one in server.asked if one.method == "PATCH"]
    assert mapped(patch)["metadata"] == {"annotations": {"pytest-serve-chaos/undo": None}, "resourceVersion": "7"}


@pytest.mark.parametrize(
    ("managers", "whose"),
    [
        (["kubectl-cordon"], "kubectl-cordon"),
        (["maintenance", "pytest-serve-chaos"], "maintenance"),
        ([], "somebody without a name"),
    ],
)
def test_a_cordon_that_is_not_ours_alone_is_left(
    server: ApiServer, api: KubeApi, managers: list[str], whose: str
) -> None:
    server.objects[NODE] = cordoned_by(*managers)
    assert reopen(api, "node-1").endswith(f"stays cordoned, now by {whose}")
    assert [one.method for one in server.asked] == ["GET"]


def test_the_cordon_and_what_says_whose_it_is_come_in_one_request(server: ApiServer, api: KubeApi) -> None:
    cordon(api, "node-1", note="for ml/ranker")
    annotations = {"pytest-serve-chaos/undo": "for ml/ranker"}
    assert [one.body for one in server.asked] == [
        {"spec": {"unschedulable": True}, "metadata": {"annotations": annotations}}
    ]


def test_a_node_that_goes_between_two_requests_is_gone(server: ApiServer, api: KubeApi) -> None:
    server.objects[NODE] = cordoned_by("pytest-serve-chaos")
    server.refusals = {NODE: [404]}
    assert reopen(api, "node-1") == ""
