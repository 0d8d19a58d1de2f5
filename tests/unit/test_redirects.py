"""No client takes credentials along to where a redirect leads."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pytest_serve_chaos.cluster.capabilities import Endpoint
from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.rayservice.probe import Probe, ask
from pytest_serve_chaos.cluster.rest import Dashboard
from pytest_serve_chaos.errors import ServeChaosError
from pytest_serve_chaos.traffic.request import Message, RequestSpec
from pytest_serve_chaos.traffic.transports.http import FreshConnections, KeptConnection

TOKEN = "token-of-the-api-server"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}


@contextlib.contextmanager
def server(host: str, location: str | None, asked: list[str]) -> Iterator[int]:
    """Answers each request with a redirect, or with 200; notes what it was asked."""

    class Handler(BaseHTTPRequestHandler):
        timeout = 5.0

        def _any(self) -> None:
            asked.append(f"{self.command} {self.path} {self.headers['Authorization']}")
            self.send_response(200 if location is None else 307)
            if location is not None:
                self.send_header("Location", location)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST = do_PUT = do_DELETE = _any

        def log_message(self, format: str, *args: object) -> None:
            pass

    listening = ThreadingHTTPServer((host, 0), Handler)
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield listening.server_address[1]
    finally:
        listening.shutdown()
        thread.join()
        listening.server_close()


def by_the_post_recovery_check(url: str, _: Path) -> None:
    assert ask(Endpoint(url, HEADERS), Probe(), Message(), "id") == ""


def by_the_dashboard(url: str, _: Path) -> None:
    Dashboard(url, HEADERS).ray_version()


def by_a_deployment(url: str, _: Path) -> None:
    Dashboard(url, HEADERS).put_serve({})


def by_traffic(url: str, _: Path) -> None:
    asyncio.run(FreshConnections(RequestSpec(url, headers=HEADERS)).send())


def by_a_persistent_connection(url: str, _: Path) -> None:
    async def send() -> None:
        connection = KeptConnection(RequestSpec(url, headers=HEADERS))
        await connection.send()
        await connection.close()

    asyncio.run(send())


def by_the_kubernetes_client(url: str, directory: Path) -> None:
    _api(url, directory).pods()


def by_a_deletion(url: str, directory: Path) -> None:
    _api(url, directory).delete_pod("a", "uid", grace=0)


def by_the_proxy_of_the_api_server(url: str, directory: Path) -> None:
    _api(url, directory).proxy_get("a", 8000, "/", timeout=5.0)


def by_a_program_in_a_pod(url: str, directory: Path) -> None:
    _api(url, directory).run("a", "c", ["true"])


def _api(url: str, directory: Path) -> KubeApi:
    kubeconfig = directory / "kubeconfig"
    kubeconfig.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: test\n"
        "contexts: [{name: test, context: {cluster: test, user: test}}]\n"
        f'clusters: [{{name: test, cluster: {{server: "{url}"}}}}]\n'
        f"users: [{{name: test, user: {{token: {TOKEN}}}}}]\n"
    )
    return KubeApi(kubeconfig, namespace="ml")


CLIENTS: list[Callable[[str, Path], None]] = [
    by_the_post_recovery_check,
    by_the_dashboard,
    by_a_deployment,
    by_traffic,
    by_a_persistent_connection,
    by_the_kubernetes_client,
    by_a_deletion,
    by_the_proxy_of_the_api_server,
]


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: str(client.__name__))
@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2"])
def test_a_redirect_is_not_followed(client: Callable[[str, Path], None], host: str, tmp_path: Path) -> None:
    _redirected(client, "http", host, tmp_path)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2"])
def test_the_websocket_of_an_exec_follows_none(host: str, tmp_path: Path) -> None:
    _redirected(by_a_program_in_a_pod, "ws", host, tmp_path)


def _redirected(client: Callable[[str, Path], None], scheme: str, host: str, directory: Path) -> None:
    there: list[str] = []
    here: list[str] = []
    with (
        server(host, None, there) as elsewhere,
        server("127.0.0.1", f"{scheme}://{host}:{elsewhere}/login", here) as asked,
        contextlib.suppress(ServeChaosError),
    ):
        client(f"http://127.0.0.1:{asked}", directory)
    assert len(here) == 1
    assert here[0].endswith(f" Bearer {TOKEN}")
    assert there == []
