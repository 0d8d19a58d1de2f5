"""The start of a cluster ends when the app answers what the traffic will ask; nobody else may answer for it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from pytest_serve_chaos.backends.kind import KIND
from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.kind import start as kind_cluster
from pytest_serve_chaos.cluster.kubernetes.kind.settings import KindSettings
from pytest_serve_chaos.cluster.kubernetes.rayservice import bring_up
from pytest_serve_chaos.cluster.kubernetes.rayservice.bring_up import BringUp
from pytest_serve_chaos.cluster.kubernetes.rayservice.probe import Probe
from pytest_serve_chaos.errors import WaitTimeout
from pytest_serve_chaos.model import Json
from pytest_serve_chaos.settings import Settings
from pytest_serve_chaos.traffic.request import Answer
from pytest_serve_chaos.traffic.request_kind import RequestKind
from tests.unit.http_servers import Reader, Writer, answers, refusing, response, serving
from tests.unit.kind_runs import SPEC, Runs, fake_runs
from tests.unit.rayservices import KubeCalls

ERROR = "500 Internal Server Error"


class NoWarnings(KubeCalls):
    """The API of a namespace in which nothing happened."""

    namespace = "serve-chaos"

    def warnings(self, *, namespace: str | None = None, limit: int = 6) -> tuple[str, ...]:
        return ()


@dataclass
class Start:
    """The last step of a start.

    Attributes:
        said: All progress.
    """

    said: list[str] = field(default_factory=list)

    def traffic(
        self,
        url: str,
        probe: Probe | None = None,
        *,
        timeout: float = 20.0,
        config: Mapping[str, Json] | None = None,
    ) -> None:
        api = cast("KubeApi", NoWarnings())
        up = BringUp(api, "it", progress=self.said.append, complaints=lambda: (), timeout=timeout, probe=probe)
        up.traffic(url, config)


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Start:
    """One of an app that has no time to warm up."""
    monkeypatch.setattr(bring_up, "_WARM_WITHIN", 0.0)
    return Start()


@dataclass
class App:
    """An app that knows what it wants to be asked.

    Attributes:
        right: Whether a request is the one that it understands, by its first line, its headers and its body.
        replies: What it answers then, one after the other; the last one again and again.
        asked: The first lines of all requests.
    """

    right: Callable[[str, str, bytes], bool] = lambda *_: True
    replies: list[bytes] = field(default_factory=lambda: [response()])
    asked: list[str] = field(default_factory=list)

    async def serve(self, reader: Reader, writer: Writer) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, _, headers = head.partition("\r\n")
        length = [line for line in headers.lower().split("\r\n") if line.startswith("content-length:")]
        body = await reader.readexactly(int(length[0].partition(":")[2])) if length else b""
        self.asked.append(first)
        if not self.right(first, headers, body):
            writer.write(response(status=ERROR))
        else:
            writer.write(self.replies.pop(0) if len(self.replies) > 1 else self.replies[0])
        await writer.drain()


@contextlib.contextmanager
def app(known: App) -> Iterator[str]:
    with serving(known.serve) as url:
        yield url


def test_an_app_that_takes_post_only_is_asked_as_the_traffic_asks(start: Start) -> None:
    def right(first: str, headers: str, body: bytes) -> bool:
        return first.startswith("POST /route ") and "X-Tenant: a\r\n" in headers and body == b'["a",2]'

    known = App(right)
    with app(known) as url:
        start.traffic(url, Probe("POST", {"X-Tenant": "a"}, b'["a",2]'))
    assert known.asked == ["POST /route HTTP/1.1"]
    assert "well" not in " ".join(start.said)


def test_each_app_is_asked_at_its_path(start: Start) -> None:
    known = App()
    apps: list[Json] = [{"name": "a", "route_prefix": "/a"}, {"name": "b", "route_prefix": "/b"}]
    kinds = (RequestKind(app="a", path="/v1/chat", body={}), RequestKind(app="b"))
    with app(known) as url:
        start.traffic(url, Probe(kinds=kinds), config={"applications": apps})
    assert known.asked == ["POST /a/v1/chat HTTP/1.1", "GET /b HTTP/1.1"]


def test_a_wrong_answer_is_not_yet_the_apps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bring_up, "_WARM_WITHIN", 60.0)

    def loaded(answer: Answer) -> bool:
        return answer.body == b"ready"

    known = App(replies=[response(b"loading"), response(b"ready")])
    with app(known) as url:
        Start().traffic(url, Probe(check=loaded))
    assert len(known.asked) == 2


def test_an_app_that_is_warming_up_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bring_up, "_WARM_WITHIN", 60.0)
    start, known = Start(), App(replies=[response(status=ERROR), response()])
    with app(known) as url:
        start.traffic(url)
    assert len(known.asked) == 2
    assert "well" not in " ".join(start.said)


@pytest.mark.parametrize("probe", [Probe(), Probe(check=lambda _: False)], ids=["status", "check"])
def test_an_app_that_never_answers_well_is_reached_all_the_same(start: Start, probe: Probe) -> None:
    known = App(replies=[response() if probe.check else response(status=ERROR)])
    with app(known) as url:
        start.traffic(url, probe)
    error = "WrongAnswer" if probe.check else "HTTP 500"
    assert start.said[-1] == f"kuberay: requests reach the app, and it does not answer GET {url} well: {error}"


def test_a_status_that_is_no_error_of_the_server_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bring_up, "_WARM_WITHIN", 60.0)
    with serving(answers(response(status="404 Not Found"))) as url:
        Start().traffic(url)


def test_a_redirect_is_not_followed(start: Start) -> None:
    known = App()
    with app(known) as elsewhere:
        moved = response(status="302 Found", headers=f"Location: {elsewhere}\r\n")
        with serving(answers(moved)) as url:
            start.traffic(url)
    assert known.asked == []


@pytest.mark.parametrize("status", ["502 Bad Gateway", "503 Service Unavailable", "504 Gateway Timeout"])
def test_a_proxy_that_has_nobody_to_ask_is_no_answer(start: Start, status: str) -> None:
    with serving(answers(response(status=status))) as url, pytest.raises(WaitTimeout, match=f"HTTP {status[:3]}"):
        start.traffic(url, timeout=0.2)


def test_a_proxy_of_the_environment_does_not_answer_for_the_app(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = App(replies=[response(status="403 Forbidden")])
    with app(asked) as proxy, refusing() as nobody:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy)
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        with pytest.raises(WaitTimeout, match="ConnectError"):
            start.traffic(nobody, timeout=0.2)
    assert asked.asked == []


# -- from the settings to the start --


def test_the_start_of_a_kind_cluster_asks_what_the_settings_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[KindSettings] = []

    def remember(_: ClusterSpec, settings: KindSettings, *__: object, **___: object) -> None:
        started.append(settings)

    monkeypatch.setattr(kind_cluster, "start_kind_cluster", remember)
    settings = Settings(
        backend="kind",
        method="POST",
        headers=(("X-Tenant", "a"),),
        body="{}",
        request_timeout=30.0,
        path="/v1/chat",
        seed=7,
        report_dir=tmp_path,
    )
    KIND.start(SPEC, settings, tmp_path, print)
    assert started[0].probe == Probe("POST", {"X-Tenant": "a"}, b"{}", 30.0, path="/v1/chat", seed=7)
    assert "X-Tenant" not in repr(started[0]), "headers may be secret"


def test_the_start_of_a_kind_cluster_waits_with_that_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: Runs = fake_runs(tmp_path, monkeypatch)
    original, probes = vars(kind_cluster)["BringUp"], []

    def remember(*arguments: object, **options: object) -> object:
        probes.append(options["probe"])
        return original(*arguments, **options)

    monkeypatch.setattr(kind_cluster, "BringUp", remember)
    runs.settings = KindSettings(keep=True, node_image="kindest/node:v1.34.2", probe=Probe("POST"))
    runs.start()
    assert probes == [Probe("POST")]
