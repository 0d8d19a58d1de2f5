"""What is asked past the client, and what a user has no right to ask."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import cast

import pytest

from pytest_serve_chaos.cluster.capabilities import STREAMS_LOGS, Endpoint
from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.client.records import Pod
from pytest_serve_chaos.cluster.kubernetes.external import rights
from pytest_serve_chaos.cluster.kubernetes.external.start import unkept_logs
from pytest_serve_chaos.cluster.kubernetes.rayservice.probe import Probe, ask
from pytest_serve_chaos.errors import CommandFailed, ObservationError, SafetyError
from pytest_serve_chaos.model import Json
from pytest_serve_chaos.traffic.request import Message
from tests.capabilities import part
from tests.unit.external_services import WithFlags, external, ray_service
from tests.unit.kube_calls import KubeCalls
from tests.unit.test_kind_programs import KUBECONFIG
from tests.unit.test_kuberay_pods import pod

# -- requests past the client ------------------------------------------------------------------------------------------


def test_the_guard_stands_before_every_request(tmp_path: Path) -> None:
    (tmp_path / "kubeconfig").write_text(KUBECONFIG)
    asked: list[tuple[str, str]] = []

    def permit(method: str, path: str) -> None:
        asked.append((method, path))
        raise SafetyError("no")

    api = KubeApi(tmp_path / "kubeconfig", namespace="ml", permit=permit)
    for change in (
        lambda: api.delete_pod("a", "uid", grace=0),
        lambda: api.patch_ray_service("ranker", {}),
        lambda: api.nodes.patch("n", {}, what="n"),
        lambda: api.run("a", "c", ["true"]),
        lambda: api.pods(),
    ):
        with pytest.raises(SafetyError, match="no"):
            change()
    api.close()
    assert asked == [
        ("DELETE", "/api/v1/namespaces/ml/pods/a"),
        ("PATCH", "/apis/ray.io/v1/namespaces/ml/rayservices/ranker"),
        ("PATCH", "/api/v1/nodes/n"),
        ("EXEC", "/api/v1/namespaces/ml/pods/a/exec"),
        ("GET", "/api/v1/namespaces/ml/pods"),
    ]


def test_a_token_is_sent_with_what_goes_through_the_api_server(tmp_path: Path) -> None:
    (tmp_path / "kubeconfig").write_text(KUBECONFIG)
    api = KubeApi(tmp_path / "kubeconfig", namespace="ml")
    way = api.access()
    api.close()
    assert (way.server, dict(way.headers())) == ("http://127.0.0.1:9", {"Authorization": "Bearer none"})


class Answering(BaseHTTPRequestHandler):
    """Says which replica it is, and keeps what it was asked."""

    asked: list[tuple[str, str, str | None]]
    status = 200

    def do_POST(self) -> None:
        self.asked.append((self.path, self.headers["X-Request-ID"], self.headers["Authorization"]))
        self.send_response(self.status)
        self.send_header("x-serve-chaos-replica", "ranker#Ranker#abc")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def answering(status: int) -> Iterator[tuple[str, list[tuple[str, str, str | None]]]]:
    handler = type("Handler", (Answering,), {"asked": [], "status": status})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/rank", handler.asked  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(("status", "replica"), [(200, "ranker#Ranker#abc"), (503, "")])
def test_a_proxy_is_asked_as_the_traffic_does(status: int, replica: str) -> None:
    with answering(status) as (url, asked):
        probe = Probe("POST", {"Accept": "*/*"}, b"{}", 5.0, path="/rank")
        (message,) = probe.asking.source({}).one_of_each_app
        assert (
            ask(Endpoint(url.removesuffix("/rank"), {"Authorization": "Bearer t"}), probe, message, "id-1") == replica
        )
        assert asked == [("/rank", "id-1", "Bearer t")]


def test_nobody_there_is_no_answer() -> None:
    assert ask(Endpoint("http://127.0.0.1:9/"), Probe(timeout=1.0), Message(), "id") == ""


# -- rights ------------------------------------------------------------------------------------------------------------


class Reviews(KubeCalls):
    """An API server that allows some rights."""

    namespace = "ml"

    def __init__(self, *allowed: str) -> None:
        self.allowed = allowed
        self.asked: list[Json] = []

    def call(self, method: str, *arguments: object, what: str, **options: object) -> dict[str, Json]:
        if method != "create_self_subject_access_review":
            raise CommandFailed(what)
        (body,) = cast("tuple[dict[str, dict[str, dict[str, str]]]]", arguments)
        spec = body["spec"]["resourceAttributes"]
        self.asked.append(cast("Json", spec))
        return {"status": {"allowed": f"{spec['verb']} {spec['resource']}/{spec['subresource']}" in self.allowed}}


def test_each_right_is_reviewed_by_the_api_server() -> None:
    api = Reviews("delete pods/", "get pods/exec")
    lacking = rights.missing(cast("KubeApi", api), [rights.DELETE, *rights.RUN, rights.DRAIN[1]])
    assert lacking == (rights.RUN[1], rights.DRAIN[1])
    assert api.asked[0] == {"verb": "delete", "resource": "pods", "subresource": "", "group": "", "namespace": "ml"}
    assert "namespace" not in cast("dict[str, Json]", api.asked[-1])


@pytest.mark.parametrize(
    ("lacking", "notes"),
    [
        ([rights.DELETE], []),
        ([rights.LOGS], ["what containers write to their output will not be kept: this user may not get pods/log"]),
        ([rights.RUN[1]], ["Ray's and Serve's log files will not be kept: this user may not create pods/exec"]),
    ],
)
def test_logs_that_will_be_lost_are_said_beforehand(lacking: list[rights.Right], notes: list[str]) -> None:
    assert unkept_logs(lacking) == notes
    assert unkept_logs(lacking, "kuberay-system") == notes


def test_a_right_in_another_namespace_is_asked_for_there() -> None:
    api = Reviews("list pods/")
    wanted = rights.operator_log("kuberay-system")
    assert rights.missing(cast("KubeApi", api), wanted) == (wanted[1],)
    assert {cast("dict[str, Json]", asked)["namespace"] for asked in api.asked} == {"kuberay-system"}
    assert str(wanted[1]) == "get pods/log in namespace kuberay-system"
    assert rights.operator_log(None) == ()


@pytest.mark.parametrize(("lacking", "output", "files"), [([rights.LOGS], 0, 1), ([rights.RUN[0]], 1, 0), ([], 1, 1)])
def test_only_the_logs_that_this_user_may_read_are_streamed(
    lacking: list[rights.Right], output: int, files: int, tmp_path: Path
) -> None:
    class Api(WithFlags):
        namespace = "ml"
        opened = programs = 0

        def pods(self, selector: str = "", *, namespace: str | None = None) -> tuple[Pod, ...]:
            return () if "operator" in selector else (pod("h", "head", "10.0.0.1"),)

        def ray_service(self, name: str) -> dict[str, Json]:
            return ray_service()

        @property
        def pod_logs(self) -> Api:
            return self

        def open(self, *arguments: object, **options: object) -> None:
            self.opened += 1
            raise ObservationError("no")

        def follow(self, *arguments: object, **options: object) -> Iterator[str]:
            self.programs += 1
            raise CommandFailed("no")

    api = Api()
    stream = part(external(lacking=lacking, api=api), STREAMS_LOGS).stream_logs(tmp_path)
    stream.close()
    assert (min(api.opened, 1), min(api.programs, 1)) == (output, files)
