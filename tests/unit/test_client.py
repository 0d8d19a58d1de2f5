"""What one request comes to, over HTTP and HTTPS."""

from __future__ import annotations

import asyncio
import errno
import functools
import itertools
import logging
import os
import resource
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import anyio
import httpcore
import httpx
import pytest

from pytest_serve_chaos import clock
from pytest_serve_chaos.errors import SettingsError
from pytest_serve_chaos.traffic.request import Answer, Outcome, RequestSpec
from pytest_serve_chaos.traffic.transports import http as client
from pytest_serve_chaos.traffic.transports.http import FreshConnections, KeptConnection
from tests.unit.http_servers import (
    Manners,
    Reader,
    Writer,
    answers,
    changing,
    deaf,
    drips,
    never_reads,
    never_shakes_hands,
    refusing,
    request_line,
    resets,
    response,
    says,
    serving,
    stalls,
)


def send(spec: RequestSpec) -> Outcome:
    return asyncio.run(FreshConnections(spec).send())


async def _read_late(spec: RequestSpec) -> tuple[Outcome, float]:
    """What became of a request whose answer is read after 0.7 s at the earliest, and how long that took."""
    request = asyncio.create_task(FreshConnections(spec).send())
    begun = clock.now()
    await asyncio.sleep(0.1)
    time.sleep(0.6)
    outcome = await request
    return outcome, outcome.finished - begun


# -- when an answer has arrived --


@pytest.mark.skipif(not hasattr(socket, "TCP_INFO"), reason="this system does not tell when data came")
def test_an_answer_counts_from_when_it_arrived_however_late_it_is_read() -> None:
    with serving(answers(after=0.3)) as url:
        _, seconds = asyncio.run(_read_late(RequestSpec(url)))
    assert 0.3 <= seconds < 0.6  # it was read after 0.7 s


@pytest.mark.skipif(not hasattr(socket, "TCP_INFO"), reason="this system does not tell when data came")
@pytest.mark.parametrize(("after", "error"), [(0.2, None), (0.6, "ReadTimeout")])
def test_an_answer_is_lost_if_it_came_too_late_and_not_if_it_was_read_too_late(after: float, error: str | None) -> None:
    with serving(answers(after=after)) as url:
        outcome, _ = asyncio.run(_read_late(RequestSpec(url, timeout=0.4)))
    assert outcome.error == error


def test_what_is_due_has_its_turn_between_any_two_answers_that_came_at_once() -> None:
    requests = 20
    asked, all_asked = itertools.count(1), threading.Event()
    may_answer = threading.Event()
    written, all_came = itertools.count(1), threading.Event()
    happened: list[str] = []

    async def answers_all_at_once(reader: Reader, writer: Writer) -> None:
        await request_line(reader)
        if next(asked) == requests:
            all_asked.set()
        while not may_answer.is_set():
            await asyncio.sleep(0.001)
        writer.write(response())
        if next(written) == requests:
            all_came.set()

    def noted(answer: Answer) -> bool:
        happened.append("answer")
        return True

    async def others() -> None:
        while happened.count("answer") < requests:
            happened.append("turn of others")
            await asyncio.sleep(0)

    async def send_all(spec: RequestSpec) -> list[Outcome]:
        client = FreshConnections(spec)
        sending = asyncio.gather(*(client.send() for _ in range(requests)))
        while not all_asked.is_set():
            await asyncio.sleep(0.001)
        may_answer.set()
        assert all_came.wait(60.0)  # the client's loop stands still meanwhile
        turns = asyncio.create_task(others())
        outcomes = await sending
        await turns
        return outcomes

    with serving(answers_all_at_once) as url:
        outcomes = asyncio.run(send_all(RequestSpec(url, timeout=60.0, check=noted)))
    assert [outcome.error for outcome in outcomes] == [None] * requests
    assert ("answer", "answer") not in itertools.pairwise(happened)


def test_an_answer_that_only_the_end_of_the_connection_ends_counts_from_that_end() -> None:
    async def manners(reader: Reader, writer: Writer) -> None:
        await request_line(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nok")
        await asyncio.sleep(0.3)

    with serving(manners) as url:
        before = clock.now()
        outcome = send(RequestSpec(url))
    assert outcome.error is None
    assert outcome.finished - before >= 0.3


# -- what an answer is worth --


def test_a_good_answer_tells_who_gave_it() -> None:
    headers = "X-Serve-Chaos-Replica: app#D#abc\r\nX-Serve-Chaos-Node: 0f0f\r\nX-Serve-Chaos-Parent: app#P#def\r\n"
    with serving(answers(response(headers=headers))) as url:
        before = clock.now()
        outcome = send(RequestSpec(url))
    assert (outcome.status, outcome.error, outcome.replica, outcome.node) == (200, None, "app#D#abc", "0f0f")
    assert outcome.parent == "app#P#def"
    assert before < outcome.finished < clock.now()


@pytest.mark.parametrize(
    ("manners", "sent", "request_id"),
    [
        (answers(response(status="500 No", headers="X-Request-ID: of-serve\r\n")), {}, "of-serve"),
        (answers(response(status="500 No")), {"x-Request-Id": "ours"}, "ours"),
        (resets, {"x-request-id": "ours"}, "ours"),
        (answers(response(status="500 No")), {}, None),
        (answers(response(headers="X-Request-ID: of-serve\r\n")), {"x-request-id": "ours"}, None),
    ],
    ids=["answer", "request", "no answer", "neither", "good"],
)
def test_a_lost_request_keeps_the_id_by_which_logs_name_it(
    manners: Manners, sent: dict[str, str], request_id: str | None
) -> None:
    with serving(manners) as url:
        assert send(RequestSpec(url, headers=sent)).request_id == request_id


@pytest.mark.parametrize("name", ["REPLICA_HEADER", "NODE_HEADER", "PARENT_HEADER"])
def test_our_apps_name_themselves_in_the_headers_that_are_read_here(name: str) -> None:
    # Their module travels into pods where the rest of the package is not, so each side has the names.
    source = resources.files("pytest_serve_chaos").joinpath("apps/answers.py").read_text(encoding="utf-8")
    assert f'{name} = "{getattr(client, name)}"' in source


@pytest.mark.parametrize("status", ["500 Internal Server Error", "503 Busy", "404 Not Found", "302 Found"])
def test_any_status_but_2xx_is_lost_under_its_number(status: str) -> None:
    with serving(answers(response(status=status, headers="Location: /elsewhere\r\n"))) as url:
        outcome = send(RequestSpec(url, check=lambda _: True))
    assert (outcome.status, outcome.error) == (int(status[:3]), f"HTTP {status[:3]}")


def test_a_check_sees_status_headers_in_lower_case_and_body() -> None:
    seen: list[Answer] = []

    def look(answer: Answer) -> bool:
        seen.append(answer)
        return True

    with serving(answers(response(b"hello", headers="X-Colour: Red\r\n"))) as url:
        assert send(RequestSpec(url, check=look)).error is None
    assert (seen[0].status, seen[0].headers["x-colour"], seen[0].body) == (200, "Red", b"hello")


def test_an_answer_that_the_check_refuses_is_a_wrong_answer() -> None:
    with serving(answers(response(b"no"))) as url:
        outcome = send(RequestSpec(url, check=lambda answer: answer.body == b"yes"))
    assert (outcome.status, outcome.error) == (200, "WrongAnswer")


def test_an_answer_that_the_check_cannot_read_is_a_wrong_answer() -> None:
    with serving(answers()) as url:
        outcome = send(RequestSpec(url, check=lambda answer: answer.headers["no-such-header"] == "x"))
    assert outcome.error == "WrongAnswer"


def test_a_check_gets_no_answer_of_more_bytes_than_all_in_flight_may_have_in_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client, "LARGEST_CHECKED", 5)
    seen: list[bytes] = []

    def check(answer: Answer) -> bool:
        seen.append(answer.body)
        return True

    with serving(answers(response(b"12345"))) as url:
        assert send(RequestSpec(url, check=check)).error is None
    with serving(answers(response(b"123456"))) as url:
        assert send(RequestSpec(url, check=check)).error == "TooLarge"
        assert send(RequestSpec(url)).error is None
    assert seen == [b"12345"]


def test_method_headers_and_body_arrive() -> None:
    got: list[bytes] = []

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.append(await reader.readuntil(b"\r\n\r\n") + await reader.readexactly(4))
        writer.write(response())

    with serving(echo) as url:
        outcome = send(RequestSpec(url, method="POST", headers={"X-Mine": "1", "user-agent": "me"}, body=b"body"))
    assert outcome.error is None
    lines = got[0].decode().lower().split("\r\n")
    assert lines[0] == "post /route http/1.1"
    assert {"x-mine: 1", "content-length: 4", "user-agent: me", "body"} <= set(lines)


def test_a_host_may_have_a_name() -> None:
    with serving(answers()) as url:
        assert send(RequestSpec(url.replace("127.0.0.1", "localhost"))).error is None
    assert send(RequestSpec(url.replace("127.0.0.1", "localhost"))).error == "ConnectError"


@pytest.mark.parametrize("framed", [True, False])
def test_an_answer_that_comes_in_many_parts_is_read_whole(framed: bool) -> None:
    body = bytes(range(256)) * 4000

    async def manners(reader: Reader, writer: Writer) -> None:
        await request_line(reader)
        head, _, content = response(body).partition(b"\r\n\r\n")
        writer.write((head if framed else b"HTTP/1.1 200 OK") + b"\r\n\r\n" + content)
        await writer.drain()

    with serving(manners) as url:
        assert send(RequestSpec(url, timeout=60.0, check=lambda answer: answer.body == body)).error is None


# -- what goes wrong, in httpx's words --


def test_errors_below_httpx_have_the_names_that_httpx_gives_them() -> None:
    below = {name: getattr(httpcore, name) for name in httpcore.__all__}
    errors = {name for name, value in below.items() if isinstance(value, type) and issubclass(value, Exception)}
    assert {"ConnectError", "ConnectTimeout", "ReadError", "ReadTimeout", "RemoteProtocolError"} <= errors
    # The last one is for a pool alone.
    assert {name for name in errors if not hasattr(httpx, name)} <= {"ConnectionNotAvailable"}


@pytest.mark.parametrize(
    ("manners", "error"),
    [
        (resets, "ReadError"),
        (says(b""), "RemoteProtocolError"),
        (says(response(b"half of it", length=100)), "RemoteProtocolError"),
        (says(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), "RemoteProtocolError"),
    ],
    ids=["reset", "closed", "body cut", "garbage"],
)
def test_a_broken_exchange_has_the_name_that_httpx_gives_it(manners: Manners, error: str) -> None:
    with serving(manners) as url:
        assert send(RequestSpec(url, timeout=60)).error == error


def test_an_answer_that_does_not_come_is_a_read_timeout() -> None:
    with serving(stalls) as url:
        assert send(RequestSpec(url, timeout=0.2)).error == "ReadTimeout"


def test_a_refused_connection_is_a_connect_error() -> None:
    with refusing() as url:
        assert send(RequestSpec(url)).error == "ConnectError"


def test_a_host_that_takes_no_connection_is_a_connect_timeout() -> None:
    with deaf() as url:
        outcome, took = timed(RequestSpec(url, timeout=0.2))
    assert outcome.error == "ConnectTimeout"
    assert 0.2 <= took < 4.0


def test_a_body_that_comes_in_drips_does_not_stretch_the_timeout() -> None:
    with serving(drips) as url:
        outcome, took = timed(RequestSpec(url, timeout=0.2))
    assert outcome.error == "ReadTimeout"
    assert 0.2 <= took < 4.0


def test_a_server_that_does_not_read_a_big_request_is_a_write_timeout() -> None:
    with serving(never_reads) as url:
        assert send(RequestSpec(url, method="POST", body=bytes(30_000_000), timeout=0.2)).error == "WriteTimeout"


def timed(spec: RequestSpec) -> tuple[Outcome, float]:
    start = time.monotonic()
    outcome = send(spec)
    return outcome, outcome.finished - start


def test_want_of_sockets_on_this_side_is_not_blamed_on_the_server() -> None:
    async def send_without_sockets(spec: RequestSpec) -> Outcome:
        client = FreshConnections(spec)
        assert (await client.send()).error is None
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            with pytest.raises(OSError, match=os.strerror(errno.EMFILE)):
                socket.socket()
            return await client.send()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    with serving(answers()) as url:
        assert asyncio.run(send_without_sockets(RequestSpec(url))).error == "NotSent"


# -- fresh connections --


def test_each_request_has_a_fresh_connection_which_is_closed_after_it() -> None:
    ended = []

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_line(reader)
        writer.write(response())
        ended.append(await reader.read())

    async def send_five(spec: RequestSpec) -> list[str | None]:
        client = FreshConnections(spec)
        return [(await client.send()).error for _ in range(5)]

    with serving(count) as url:
        assert asyncio.run(send_five(RequestSpec(url))) == [None] * 5
        clock.wait_until(
            "five ends", lambda: len(ended) == 5 or clock.NotYet(f"{len(ended)}"), timeout=2, interval=0.01
        )
    assert ended == [b""] * 5


def test_lost_requests_leave_no_socket_open() -> None:
    def sockets() -> int:
        return sum(os.readlink(fd).startswith("socket:") for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink())

    async def lose_many(spec: RequestSpec) -> int:
        client = FreshConnections(spec)
        before = sockets()
        await asyncio.gather(*(client.send() for _ in range(20)))
        return sockets() - before

    with refusing() as url:
        assert asyncio.run(lose_many(RequestSpec(url, timeout=0.1))) == 0
    with deaf() as url:
        assert asyncio.run(lose_many(RequestSpec(url, timeout=0.1))) == 0


# -- kept connections --


def test_a_kept_connection_is_used_again_and_knows_its_own_address() -> None:
    peers = []

    async def note_peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peers.append(writer.get_extra_info("peername"))
        await answers()(reader, writer)

    async def send_three(spec: RequestSpec) -> KeptConnection:
        connection = KeptConnection(spec)
        for _ in range(3):
            assert (await connection.send()).error is None
        assert connection.local_address == peers[0]
        await connection.close()
        return connection

    with serving(note_peer) as url:
        assert asyncio.run(send_three(RequestSpec(url))).opened == len(peers) == 1


def test_a_kept_connection_survives_an_answer_that_is_an_error() -> None:
    outcomes, connection = on_a_kept_connection(answers(response(status="503 Busy")), requests=2)
    assert [outcome.error for outcome in outcomes] == ["HTTP 503", "HTTP 503"]
    assert connection.opened == 1


@pytest.mark.parametrize(
    ("manners", "timeout", "error"),
    [
        (resets, 60.0, "ReadError"),
        (says(b""), 60.0, "RemoteProtocolError"),
        (stalls, 1.0, "ReadTimeout"),
        (drips, 1.0, "ReadTimeout"),
    ],
    ids=["reset", "closed", "stalled", "dripping"],
)
def test_a_request_is_lost_with_its_kept_connection_and_the_next_opens_another(
    manners: Manners, timeout: float, error: str
) -> None:
    outcomes, connection = on_a_kept_connection(changing(manners, answers()), requests=3, timeout=timeout)
    assert [outcome.error for outcome in outcomes] == [error, None, None]
    assert connection.opened == 2


def test_a_connection_that_the_server_closes_while_idle_costs_nothing_and_is_told() -> None:
    closed = threading.Event()

    async def answers_and_closes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await says(response())(reader, writer)
        writer.close()
        await writer.wait_closed()
        closed.set()

    outcomes, connection = on_a_kept_connection(answers_and_closes, requests=2, pause=closed.wait)
    assert [outcome.error for outcome in outcomes] == [None, None]
    assert connection.opened == 2


def test_whoever_asks_is_told_of_a_connection_before_its_request_ends() -> None:
    told = threading.Event()
    addresses: list[tuple[str, int]] = []

    def tell(address: tuple[str, int]) -> None:
        addresses.append(address)
        told.set()

    async def answers_when_that_was_told(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_line(reader)
        if await asyncio.to_thread(told.wait, 10.0):
            writer.write(response())

    async def send_one(spec: RequestSpec) -> str | None:
        connection = KeptConnection(spec, on_open=tell)
        outcome = await connection.send()
        await connection.close()
        return outcome.error

    with serving(answers_when_that_was_told) as url:
        assert asyncio.run(send_one(RequestSpec(url, timeout=60))) is None
    assert [host for host, _ in addresses] == ["127.0.0.1"]


def on_a_kept_connection(
    manners: Manners, *, requests: int, pause: Callable[[], object] = lambda: None, timeout: float = 60.0
) -> tuple[list[Outcome], KeptConnection]:
    """Sends so many requests, and looks after each whether a broken connection is said to be gone."""

    async def run(spec: RequestSpec) -> tuple[list[Outcome], KeptConnection]:
        connection = KeptConnection(spec)
        outcomes = []
        for _ in range(requests):
            outcomes.append(await connection.send())
            assert (connection.local_address is None) == (outcomes[-1].status is None)
            await asyncio.to_thread(pause)
        await connection.close()
        return outcomes, connection

    with serving(manners) as url:
        return asyncio.run(run(RequestSpec(url, timeout=timeout)))


# -- settings --


@pytest.mark.parametrize("url", ["", "host:8000", "ftp://host/", "http://", "http://host:port/"])
def test_a_url_that_nothing_can_be_sent_to_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="url"):
        RequestSpec(url)


def test_a_timeout_of_nothing_is_refused() -> None:
    with pytest.raises(SettingsError, match="timeout"):
        RequestSpec("http://127.0.0.1/", timeout=0)


def test_the_environments_proxies_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(answers()) as url, refusing() as nobody:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, nobody)
        assert send(RequestSpec(url)).error is None


def test_httpcores_many_lines_at_debug_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    with serving(answers()) as url, caplog.at_level(logging.DEBUG):
        send(RequestSpec(url))
    assert [record for record in caplog.records if record.name.startswith("httpcore")] == []


# -- HTTPS --


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
