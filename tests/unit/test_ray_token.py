"""Where Ray wants a token, it is read in a pod of the RayCluster that is asked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import httpx
import pytest

from pytest_serve_chaos.cluster.kubernetes.client.api import ExecResult, KubeApi
from pytest_serve_chaos.cluster.kubernetes.rayservice import ray_token
from pytest_serve_chaos.cluster.kubernetes.rayservice.existing import read_ray_service
from pytest_serve_chaos.cluster.kubernetes.rayservice.head_service import dashboard_behind
from pytest_serve_chaos.cluster.kubernetes.rayservice.ray_token import RayToken, wants_token
from pytest_serve_chaos.errors import CommandFailed, ObservationError
from tests.unit.api_server import api_server
from tests.unit.external_services import ray_service
from tests.unit.rayservices import FakeApi, pod


class Tokens(FakeApi):
    """Pods that have the token of their RayCluster; that of the head says ``no`` as often as a test wants."""

    token = "t1"
    refusals = 0

    def run(
        self, name: str, container: str, command: Sequence[str], *, timeout: float = 30.0, stdin: str | None = None
    ) -> ExecResult:
        self.asked.append((name, container))
        if self.refusals:
            self.refusals -= 1
            raise CommandFailed(f"pod {name} runs nothing")
        return ExecResult(f"{self.token}\n", "", 0)


def token(api: FakeApi, *clusters: str) -> RayToken:
    """That of these RayClusters, one after the other."""
    names = list(clusters)
    return RayToken(cast("KubeApi", api), lambda: names.pop(0) if len(names) > 1 else names[0])


def test_ray_wants_a_token_where_the_ray_cluster_says_so() -> None:
    assert wants_token({"authOptions": {"mode": "token"}})
    assert not wants_token({"authOptions": {"mode": "disabled"}})
    assert not wants_token({})
    assert read_ray_service(ray_service(authOptions={"mode": "token"})).wants_token


def test_it_is_read_once_in_the_first_pod_that_runs() -> None:
    api = Tokens(pod("h", "head", "10.0.0.1", running=False), pod("w", "worker", "10.0.0.2"))
    found = token(api, "a")
    assert [found.headers() for _ in range(2)] == [{"x-ray-authorization": "Bearer t1"}] * 2
    assert api.asked == [("pod-w", "ray-worker")]


def test_a_pod_that_runs_nothing_is_passed_over() -> None:
    api = Tokens(pod("h", "head", "10.0.0.1"), pod("w", "worker", "10.0.0.2"))
    api.refusals = 1
    assert token(api, "a").headers() == {"x-ray-authorization": "Bearer t1"}


def test_after_an_upgrade_it_is_that_of_the_new_ray_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_token, "_LOOK_EVERY", -1.0)
    api = Tokens(pod("h", "head", "10.0.0.1"))
    found = token(api, "old", "new")
    assert found.headers() == {"x-ray-authorization": "Bearer t1"}
    api.token = "t2"
    assert found.headers() == {"x-ray-authorization": "Bearer t2"}


def test_where_there_is_none_the_pods_are_said() -> None:
    api = Tokens(pod("h", "head", "10.0.0.1", running=False), pod("w", "worker", "10.0.0.2"))
    api.token = ""
    with pytest.raises(ObservationError, match=r"RayCluster a: pod-h: Error; pod-w has no RAY_AUTH_TOKEN"):
        token(api, "a").headers()


def test_it_travels_alongside_what_the_api_server_wants(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[httpx.Headers] = []

    def transport(request: httpx.Request) -> httpx.Response:
        sent.append(request.headers)
        return httpx.Response(200, json={"ray_version": "2.60.0"})

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", lambda _, request: transport(request))
    with api_server() as server:
        api = KubeApi(server.kubeconfig(tmp_path), namespace="ml")
        behind = dashboard_behind(api, "head", token=token(Tokens(pod("h", "head", "10.0.0.1")), "a"))
        assert behind.ray_version() == "2.60.0"
        api.close()
    assert (sent[0]["authorization"], sent[0]["x-ray-authorization"]) == ("Bearer none", "Bearer t1")
