"""Paths at the API server are made of checked segments, and requests stay below the URL that they are for."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import pytest

from pytest_serve_chaos.backends.kubernetes import KUBERNETES
from pytest_serve_chaos.cluster.capabilities import HAS_PROXY_ENDPOINTS
from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.client.api_path import api_path, check_path, proxy_path
from pytest_serve_chaos.cluster.kubernetes.rayservice.probe import Probe, ask
from pytest_serve_chaos.errors import SafetyError, SettingsError
from pytest_serve_chaos.model import Component, Identity, Json
from pytest_serve_chaos.traffic.request import Message, RequestSpec
from pytest_serve_chaos.traffic.request_kind import RequestKind
from pytest_serve_chaos.traffic.transports.http import FreshConnections, KeptConnection
from pytest_serve_chaos.traffic.url_path import leads_elsewhere
from tests.capabilities import part
from tests.unit.api_server import ApiServer, api_server
from tests.unit.external_services import running
from tests.unit.test_external_start import PODS, external, server, settings

__all__ = ["server"]  # the fixture

RAY_SERVICE = "/apis/ray.io/v1/namespaces/ml/rayservices/ranker"
OUT = [
    "/../../..",
    "/rank/..",
    "/%2e%2e/x",
    "/%2E%2E/x",
    "/.%2e/x",
    "/%252e%252e/x",
    "/..%2fx",
    "/..;a/x",
    "/.",
    "/..\\x",
]


@pytest.mark.parametrize("path", OUT)
def test_a_path_that_climbs_is_seen_in_every_spelling(path: str) -> None:
    assert leads_elsewhere(path)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/rank",
        "/rank/",
        "/rank?x=/../y",
        "/.well-known/x",
        "/a..b/...",
        "/a%20b",
        "/50%25",
        "/a%2Fb",
        "//x",
        "/a;b",
    ],
)
def test_an_ordinary_path_leads_where_it_says(path: str) -> None:
    assert leads_elsewhere(path) == ""


@pytest.mark.parametrize("segment", ["", ".", "..", "a/b", "a%2fb", "a b", "-a", "a\n", "ä", "a?b", "a#b"])
def test_what_is_not_a_name_is_no_segment(segment: str) -> None:
    with pytest.raises(SafetyError, match="is not a name"):
        api_path("api", "v1", "namespaces", segment)
    with pytest.raises(SafetyError, match="is not a name"):
        proxy_path(segment, "pods", "a", 8000)


def test_a_path_of_names_is_sent() -> None:
    path = proxy_path("ml", "pods", "ranker-abcde-head-xyz12", 8000)
    assert path == "/api/v1/namespaces/ml/pods/ranker-abcde-head-xyz12:8000/proxy"
    for one in (path, f"{path}/rank", "/version/", "/apis/ray.io/v1/namespaces/ml/rayservices/ranker"):
        check_path(one)


@pytest.mark.parametrize("name", ["../../namespaces/ml", "a/exec", "..", "a%2f..%2fb", "a?b"])
def test_no_name_leads_the_client_elsewhere_with_or_without_a_guard(name: str, tmp_path: Path) -> None:
    with api_server() as there:
        api = KubeApi(there.kubeconfig(tmp_path), namespace="ml")
        for send in (
            lambda: api.delete_pod(name, "uid", grace=0),
            lambda: api.ray_service(name),
            lambda: api.nodes.read(name),
            lambda: api.run(name, "ray-head", ["true"]),
            lambda: api.proxy_get(name, 8000, "/", timeout=1.0),
        ):
            with pytest.raises(SafetyError):
                send()
        with pytest.raises(SafetyError):
            api.proxy_get("head", 8000, "/../../../secrets", timeout=1.0)
        api.close()
    assert there.asked == []


# -- traffic -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", OUT)
def test_no_request_climbs(path: str) -> None:
    with pytest.raises(SettingsError, match="which some servers take for a way up"):
        RequestKind(path=path)
    with pytest.raises(SafetyError, match="leads out of"):
        RequestSpec("http://127.0.0.1:9/base").url_of(Message(path))


def test_no_request_changes_the_host_by_its_path() -> None:
    with pytest.raises(SafetyError, match="leads out of"):
        RequestSpec("http://127.0.0.1").url_of(Message("@example.com/"))


def test_a_request_that_must_not_be_sent_is_an_outcome_and_is_not_sent(server: ApiServer) -> None:
    def permit(method: str, path: str) -> None:
        raise SafetyError(f"no {method} {path}")

    async def send() -> list[str | None]:
        spec = RequestSpec(server.address, permit=permit)
        kept = KeptConnection(spec)
        outcomes = [await FreshConnections(spec).send(Message("/rank")), await kept.send(Message("/rank"))]
        await kept.close()
        return [outcome.error for outcome in outcomes]

    assert asyncio.run(send()) == ["SafetyError", "SafetyError"]
    assert server.asked == []


# -- an owner whose route leads out of the pod -------------------------------------------------------------------------


@pytest.fixture
def proxy(server: ApiServer) -> Component:
    """The proxy on the head, which runs."""
    server.objects[PODS] = {"items": [running("head")]}
    return Component("proxy", "head", Identity("process", ("head", "container-head", "113", "7")), 113)


@pytest.mark.parametrize("route", OUT)
def test_a_route_that_leads_out_of_the_pod_is_refused_before_anything_is_sent_there(
    server: ApiServer, route: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = cast("dict[str, dict[str, Json]]", server.objects[RAY_SERVICE])
    found["spec"]["serveConfigV2"] = f"applications: [{{name: ranker, route_prefix: '{route}', import_path: 'r:app'}}]"
    with pytest.raises(SettingsError, match="which some servers take for a way up"):
        KUBERNETES.adapt(settings(server, tmp_path, monkeypatch, method="DELETE"))
    assert {asked.method for asked in server.asked} == {"GET"}


def test_requests_to_one_proxy_pass_the_guard(
    server: ApiServer, proxy: Component, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = external(settings(server, tmp_path, monkeypatch), tmp_path)
    endpoint = part(cluster, HAS_PROXY_ENDPOINTS).proxy_endpoint(proxy)
    assert urlsplit(endpoint.url).path == f"{PODS}/head:8000/proxy"
    ask(endpoint, Probe(), Message("/rank", method="POST"), "id")
    assert (server.asked[-1].method, server.asked[-1].path) == ("POST", f"{PODS}/head:8000/proxy/rank")
    spec = RequestSpec(endpoint.url, permit=endpoint.permit)
    before = len(server.asked)
    for path in ("/rank//x", "/%2f/x"):
        with pytest.raises(SafetyError, match="refused"):
            spec.url_of(Message(path))
        ask(endpoint, Probe(), Message(path, method="DELETE"), "id")
    assert len(server.asked) == before
    cluster.close()


def test_a_proxy_in_somebody_elses_pod_is_not_asked(
    server: ApiServer, proxy: Component, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = running("head")
    cast("dict[str, Json]", theirs["metadata"])["ownerReferences"] = []
    server.objects[PODS] = {"items": [theirs]}
    cluster = external(settings(server, tmp_path, monkeypatch), tmp_path)
    with pytest.raises(SafetyError, match="it is not a pod of that RayService"):
        part(cluster, HAS_PROXY_ENDPOINTS).proxy_endpoint(proxy)
    cluster.close()
