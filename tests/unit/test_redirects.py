"""No client takes credentials along to where a redirect leads."""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path

import pytest

from pytest_serve_chaos.cluster.capabilities import Endpoint
from pytest_serve_chaos.cluster.http_client import download, get_if
from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.rayservice.head_service import dashboard_behind
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


def by_a_watch(url: str, directory: Path) -> None:
    list(_api(url, directory).pod_changes.since("1", seconds=1))


def by_a_log(url: str, directory: Path) -> None:
    _api(url, directory).pod_logs.open("a", "ml", container="c", wait=5.0, follow=True)


def by_a_review_of_rights(url: str, directory: Path) -> None:
    _api(url, directory).objects.review_access({}, what="a review")


def by_the_dashboard_behind_the_api_server(url: str, directory: Path) -> None:
    dashboard_behind(_api(url, directory), "head-svc").ray_version()


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
    by_a_watch,
    by_a_log,
    by_a_review_of_rights,
    by_the_dashboard_behind_the_api_server,
]
SPEAKS_HTTP = {
    "cluster/http_client.py": "get_if and download, below",
    "cluster/kubernetes/client/connection.py": "by the Kubernetes client, its proxies, watches and websockets",
    "cluster/rest.py": "by the dashboard",
    "traffic/transports/http.py": "by traffic, and on persistent connections",
    "traffic/transports/network.py": "connections alone",
}
"""Each module that has a client of HTTP, and by which tests here it is covered."""


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


def test_no_other_module_has_a_client_of_http() -> None:
    package = resources.files("pytest_serve_chaos")
    assert isinstance(package, Path)
    libraries = r"httpx|httpcore|kubernetes|requests|urllib3|urllib\.request|http\.client|aiohttp|websockets?"
    imports = re.compile(rf"^\s*(?:import|from) (?:{libraries})\b|import_module\(\"(?:{libraries})\b", re.MULTILINE)
    sources = [file for file in package.rglob("*.py") if "in_pod" not in file.parts]
    found = {str(file.relative_to(package)) for file in sources if imports.search(_without_type_checking(file))}
    assert found == set(SPEAKS_HTTP)


def _without_type_checking(file: Path) -> str:
    """The text of a module without what only annotations import."""
    return re.sub(r"(?m)^if TYPE_CHECKING:\n(?:(?:    .*)?\n)+", "", file.read_text(encoding="utf-8"))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2"])
def test_what_serves_on_this_machine_leads_nowhere(host: str) -> None:
    there: list[str] = []
    here: list[str] = []
    with (
        server(host, None, there) as elsewhere,
        server("127.0.0.1", f"http://{host}:{elsewhere}/", here) as asked,
    ):
        assert get_if(f"http://127.0.0.1:{asked}/", lambda _: True, timeout=5.0) == (307, "")
    assert there == []


def test_a_download_follows_and_takes_no_credentials_along() -> None:
    there: list[str] = []
    here: list[str] = []
    with (
        server("127.0.0.2", None, there) as elsewhere,
        server("127.0.0.1", f"http://127.0.0.2:{elsewhere}/", here) as asked,
    ):
        download(f"http://somebody:{TOKEN}@127.0.0.1:{asked}/manifest.yaml", timeout=5.0)
    assert here[0].startswith("GET /manifest.yaml Basic ")
    assert there == ["GET / None"]
