"""What one request over HTTPS comes to."""

from __future__ import annotations

import asyncio
import functools
import shutil
import ssl
import subprocess
import threading
from collections.abc import Callable

import anyio
import pytest

from pytest_serve_chaos.traffic.request import RequestSpec
from pytest_serve_chaos.traffic.transports.http import FreshConnections, KeptConnection
from tests.unit.http_servers import answers, never_shakes_hands, serving
from tests.unit.test_client import send


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The contexts of a server with a certificate of its own making, and of a client that trusts it."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs the program openssl to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    options = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=test"
    subprocess.run(
        [openssl, *options.split(), "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
        check=True,
        capture_output=True,
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    return server, ssl.create_default_context(cafile=certificate)


def test_https_works_with_the_context_that_is_given(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    server, client = tls
    with serving(answers(), tls=server) as url:
        assert send(RequestSpec(url, ssl_context=client)).error is None
        assert send(RequestSpec(url)).error == "ConnectError"


def test_a_kept_connection_over_https_knows_its_address(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    async def address(spec: RequestSpec) -> object:
        connection = KeptConnection(spec)
        await connection.send()
        kept_address = connection.local_address
        await connection.close()
        return kept_address

    server, client = tls
    with serving(answers(), tls=server) as url:
        assert asyncio.run(address(RequestSpec(url, ssl_context=client))) is not None


@pytest.mark.parametrize("kind", [FreshConnections, KeptConnection])
def test_a_connection_is_closed_whose_handshake_took_too_long(
    kind: type[FreshConnections] | type[KeptConnection], monkeypatch: pytest.MonkeyPatch
) -> None:
    deadlines: list[Callable[[], object]] = []

    def passes_when_called(delay: float) -> anyio.CancelScope:
        scope = anyio.CancelScope()
        deadlines.append(functools.partial(asyncio.get_running_loop().call_soon_threadsafe, scope.cancel))
        return scope

    monkeypatch.setattr(anyio, "move_on_after", passes_when_called)
    closed = threading.Event()

    async def is_greeted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        (passes,) = deadlines
        passes()
        await never_shakes_hands(closed)(reader, writer)

    async def cut_short(spec: RequestSpec) -> str | None:
        outcome = await kind(spec).send()
        # While the loop still runs: its end would close the connection too, with a ResourceWarning.
        assert await asyncio.to_thread(closed.wait, 5.0)
        return outcome.error

    with serving(is_greeted) as url:
        spec = RequestSpec(url.replace("http:", "https:"))
        assert asyncio.run(cut_short(spec)) == "ConnectTimeout"
