"""HTTP requests that are not traffic."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pytest_serve_chaos.cluster.http_client import download, get_if
from pytest_serve_chaos.cluster.kubernetes.logs.operator import read_manifests
from pytest_serve_chaos.cluster.local import processes
from pytest_serve_chaos.cluster.local.proxies import PortProxies
from pytest_serve_chaos.errors import ClusterStartError, ObservationError
from pytest_serve_chaos.model import Component, Identity
from tests.unit.http_servers import answers, refusing, response, serving

OTHER = """
import socket, sys
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
listener.bind(("127.0.0.1", int(sys.argv[1])))
listener.listen(1000)
print("listening", flush=True)
while True:
    connection, _ = listener.accept()
    if connection.recv(4096):
        connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 5\\r\\n\\r\\nother")
    connection.close()
"""


@contextmanager
def another_on(port: int) -> Iterator[int]:
    """A process that shares the port; gives its PID."""
    process = subprocess.Popen([sys.executable, "-c", OTHER, str(port)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    try:
        yield process.pid
    finally:
        process.kill()
        process.communicate()


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2].partition("/")[0])


def proxies_on(port: int, *pids: int) -> PortProxies:
    return PortProxies(("127.0.0.1", port), lambda: {pid: proxy_with(pid).identity for pid in pids})


def proxy_with(pid: int) -> Component:
    process = processes.read(pid)
    assert process is not None
    return Component("proxy", "head", process.identity, pid)


# -- one proxy of many on a port --


def test_one_proxy_of_two_on_a_port_is_asked() -> None:
    with serving(answers(response(b"mine"))) as url, another_on(port_of(url)) as other:
        proxies = proxies_on(port_of(url), os.getpid(), other)
        for _ in range(10):
            assert proxies.ask(proxy_with(os.getpid()), "/x", timeout=10.0) == (200, "mine")
            assert proxies.ask(proxy_with(other), "/x", timeout=10.0) == (200, "other")


def test_a_proxy_that_refuses_connections_is_not_observed() -> None:
    with refusing() as url, pytest.raises(ObservationError, match="to answer /x; last seen: ConnectError"):
        proxies_on(port_of(url)).ask(proxy_with(os.getpid()), "/x", timeout=0.1)


def test_a_proxy_that_is_gone_is_not_asked() -> None:
    gone = Component("proxy", "head", Identity("process", ("boot", "1", "1")), 1)
    with pytest.raises(ObservationError, match="is gone"):
        proxies_on(1).ask(gone, "/x", timeout=0.1)


def test_on_a_connection_that_does_not_suit_nothing_is_sent() -> None:
    clients: list[tuple[str, int]] = []

    def suits(client: tuple[str, int]) -> bool:
        clients.append(client)
        return False

    with serving(answers()) as url:
        assert get_if(url, suits, timeout=5.0) is None
    assert clients[0][0] == "127.0.0.1"


# -- downloads --


def test_a_download_takes_the_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(answers(response(b"from the proxy"))) as proxy:
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("http_proxy", proxy.removesuffix("/route"))
        assert download("http://example.invalid/operator.yaml", timeout=5.0) == "from the proxy"


def test_a_download_follows_redirects() -> None:
    with serving(answers(response("Größe".encode()))) as there:
        moved = response(status="302 Found", headers=f"Location: {there}\r\n")
        with serving(answers(moved)) as url:
            assert download(url, timeout=5.0) == "Größe"


@pytest.mark.parametrize("reply", [response(status="404 Not Found"), response(b"\xff")], ids=["status", "text"])
def test_manifests_that_cannot_be_downloaded_are_an_error_that_names_them(reply: bytes) -> None:
    with serving(answers(reply)) as url:
        with pytest.raises(ClusterStartError, match="KubeRay's manifests cannot be read") as raised:
            read_manifests(f"{url}.yaml", lambda _: "")
        assert raised.value.checked == (f"{url}.yaml",)


def test_a_proxy_that_nobody_can_use_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("all_proxy", "nonsense://127.0.0.1:1")
    with pytest.raises(ClusterStartError, match="KubeRay's manifests cannot be read"):
        read_manifests("http://example.invalid/operator.yaml", lambda _: "")


def test_only_three_modules_know_an_http_library() -> None:
    package = Path(__file__).parents[2] / "pytest_serve_chaos"
    library = re.compile(r"^(import|from) (urllib\.request|http\.client|httpx|requests|aiohttp)\b", re.MULTILINE)
    found = {str(path.relative_to(package)) for path in package.rglob("*.py") if library.search(path.read_text())}
    assert found == {"cluster/http_client.py", "cluster/rest.py", "traffic/transports/http.py"}
