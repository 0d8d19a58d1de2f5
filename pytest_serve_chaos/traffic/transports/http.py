"""HTTP, in httpx's own words; only this part of traffic knows httpx."""

from __future__ import annotations

import contextlib
import errno
import logging
import math
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import lru_cache

import anyio
import anyio.from_thread
import httpcore
import httpx

from pytest_serve_chaos import clock
from pytest_serve_chaos.errors import SafetyError
from pytest_serve_chaos.traffic.request import (
    LARGEST_CHECKED,
    NODE_HEADER,
    NOT_SENT,
    PARENT_HEADER,
    REPLICA_HEADER,
    REQUEST_ID_HEADER,
    TOO_LARGE,
    WRONG_ANSWER,
    Answer,
    Message,
    Outcome,
    RequestSpec,
)
from pytest_serve_chaos.traffic.transports.base import Address
from pytest_serve_chaos.traffic.transports.network import Network, Turns

_PREPARED = 64
"""So many different messages of a sender are prepared once; with more of them, each is prepared when it is sent."""

_OUR_OWN_LACK = frozenset({errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM})


class FreshConnections:
    """Sends each request on a connection that is made for it and closed after it.

    Each gets a transport of its own: a shared pool looks at all of its connections whenever something happens to one,
    and so shows the recovery from a stall late. All of them share one SSL context, the only part that is dear to make.
    """

    def __init__(self, spec: RequestSpec) -> None:
        self._target = _Target(spec)
        self._turns = Turns()

    async def prepare(self) -> None:
        """Loads what httpcore would else load with the first request, and so make that one and those behind it late."""
        await httpcore.AsyncConnectionPool().aclose()
        await anyio.sleep(0)

    async def send(self, message: Message | None = None) -> Outcome:
        """Sends one request and waits for its end."""
        transport = self._target.transport(Network(self._turns))
        try:
            return await self._target.exchange(transport, message)
        finally:
            await _close(transport)


def send_once(spec: RequestSpec, message: Message | None = None) -> Outcome:
    """Sends one request as `FreshConnections` does, and waits for its end; works in any thread, event loop or not."""
    with anyio.from_thread.start_blocking_portal() as portal:
        return portal.call(FreshConnections(spec).send, message)


class KeptConnection:
    """Sends one request after the other on one connection, and opens a new one only when it broke.

    A request that is on the connection when it breaks is lost. When the server closes an idle connection, the next
    request opens a new one and nothing is lost: `opened` and `local_address` tell. Nothing is ever sent twice.

    Args:
        spec: What to send.
        on_open: Called with the client's address whenever a connection was opened, before anything is sent on it.

    Attributes:
        local_address: The client's address and port of the connection last opened; None if there is none, or it broke.
        opened: How many connections there have been.
    """

    def __init__(self, spec: RequestSpec, *, on_open: Callable[[Address], None] | None = None) -> None:
        self.local_address: Address | None = None
        self.opened = 0
        self.on_open = on_open
        self._target = _Target(spec)
        self._network = Network(Turns(), self._opened)
        self._transport: _Transport | None = None

    async def send(self, message: Message | None = None) -> Outcome:
        """Sends one request and waits for its end. HTTP/1.1 allows one at a time, so the caller must wait for it."""
        if self._transport is None:
            self._transport = self._target.transport(self._network)
        usable = False
        try:
            outcome = await self._target.exchange(self._transport, message)
            usable = outcome.status is not None
            return outcome
        finally:
            if not usable:
                await self.close()

    async def close(self) -> None:
        """Closes the connection, if there is one; the next request opens another."""
        transport, self._transport, self.local_address = self._transport, None, None
        if transport is not None:
            await _close(transport)

    def _opened(self, address: Address) -> None:
        self.local_address = address
        self.opened += 1
        if self.on_open is not None:
            self.on_open(address)


@dataclass(frozen=True, slots=True)
class Http:
    """Requests by HTTP/1.1, without a pool, retries or the environment's proxies."""

    name: str = "http"

    def fresh(self, spec: RequestSpec) -> FreshConnections:
        """Sends each on a new connection."""
        return FreshConnections(spec)

    def persistent(self, spec: RequestSpec) -> KeptConnection:
        """Sends all on one connection."""
        return KeptConnection(spec)


class _Transport(httpx.AsyncBaseTransport):
    """One connection at a time on our network. It has no retries, obeys no proxies, and has no connection yet.

    httpx's own transport has a pool of connections, whose care for a single one takes a fifth of the time of a request.
    The errors are httpcore's, whose names are those of httpx.
    """

    def __init__(self, network: Network, ssl_context: ssl.SSLContext) -> None:
        self.network = network
        self._ssl_context = ssl_context
        self._connection: httpcore.AsyncHTTPConnection | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Sends a request, on a new connection if the last one cannot be used again."""
        raw = request.url
        url = httpcore.URL(scheme=raw.raw_scheme, host=raw.raw_host, port=raw.port, target=raw.raw_path)
        connection = self._connection
        if connection is None or not connection.is_available() or connection.has_expired():
            await self.aclose()
            connection = httpcore.AsyncHTTPConnection(url.origin, self._ssl_context, network_backend=self.network)
            self._connection = connection
        answer = await connection.handle_async_request(
            httpcore.Request(
                request.method, url, headers=request.headers.raw, content=request.stream, extensions=request.extensions
            )
        )
        return httpx.Response(
            answer.status, headers=answer.headers, stream=_AnswerBody(answer), extensions=answer.extensions
        )

    async def aclose(self) -> None:
        """Closes the connection, if there is one."""
        if self._connection is not None:
            await self._connection.aclose()


class _AnswerBody(httpx.AsyncByteStream):
    """The body of an answer, as httpx wants it."""

    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._answer.aiter_stream():
            yield part

    async def aclose(self) -> None:
        await self._answer.aclose()


class _Body(httpx.AsyncByteStream):
    """The body of a request. It is asked for once the connection is there, so it knows how far the request has come."""

    def __init__(self, content: bytes, until_sent: anyio.CancelScope) -> None:
        self._content = content
        self._until_sent = until_sent
        self.too_late_for: type[httpx.TimeoutException] = httpx.ConnectTimeout

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self.too_late_for = httpx.WriteTimeout
        if self._content:
            yield self._content
        # The connection knows until when its answer may come, and that it has come before it is its turn to be read.
        self._until_sent.deadline = math.inf


class _Prepared:
    """A message to the address of a spec, with all that can be prepared once."""

    def __init__(self, spec: RequestSpec, message: Message) -> None:
        headers = httpx.Headers({"Accept": "*/*", "User-Agent": "pytest-serve-chaos"})
        headers.update(message.headers)
        headers.update(spec.headers)
        self.message = message
        self.request_id: str | None = headers.get(REQUEST_ID_HEADER)
        self._request = httpx.Request(message.method, spec.url_of(message), headers=headers, content=message.body)

    def request(self, body: _Body, deadline: float) -> httpx.Request:
        """A request that is sent now."""
        prepared = self._request
        return httpx.Request(
            prepared.method,
            prepared.url,
            headers=prepared.headers,
            stream=body,
            extensions={"timeout": {"read": deadline}},
        )


class _Target:
    """The address of a spec, and what is sent there."""

    def __init__(self, spec: RequestSpec) -> None:
        self._spec = spec
        self._own = spec.message
        self._prepared = lru_cache(_PREPARED)(lambda message: _Prepared(spec, message))
        self._ssl_context = spec.ssl_context or _ssl_context(httpx.URL(spec.url).scheme)
        with contextlib.suppress(SafetyError):  # then nothing is sent, which is an outcome
            self._prepared(self._own)
        _quiet_httpcore()

    def transport(self, network: Network) -> _Transport:
        """A transport for one connection at a time."""
        return _Transport(network, self._ssl_context)

    async def exchange(self, transport: _Transport, message: Message | None = None) -> Outcome:
        """Sends the request, reads all of the answer and judges it. Whatever goes wrong is an outcome."""
        deadline = clock.now() + self._spec.timeout
        request_id: str | None = None
        try:
            prepared = self._prepared(message or self._own)
            request_id = prepared.request_id
            # One deadline for everything: httpx's own timeouts begin again with each part of the answer.
            with anyio.move_on_after(self._spec.timeout) as until_sent:
                body = _Body(prepared.message.body or b"", until_sent)
                response = await transport.handle_async_request(prepared.request(body, deadline))
                content = await _content(response, keep=LARGEST_CHECKED if self._spec.check is not None else 0)
                return self._judge(prepared, response, content, _finished(response, transport.network))
        except Exception as error:
            name = NOT_SENT if _our_own_lack(error) else type(error).__name__
            return Outcome(_ended(transport.network), error=name, request_id=request_id)
        return Outcome(clock.now(), error=body.too_late_for.__name__, request_id=request_id)

    def _judge(self, sent: _Prepared, response: httpx.Response, content: bytes | None, finished: float) -> Outcome:
        error, message = None, sent.message
        if not message.expects(response.status_code):
            error = f"HTTP {response.status_code}"
        elif content is None:
            error = TOO_LARGE
        elif self._spec.check is not None and not _passes(self._spec.check, message, response, content):
            error = WRONG_ANSWER
        named = response.headers
        return Outcome(
            finished,
            response.status_code,
            error,
            replica=named.get(REPLICA_HEADER),
            node=named.get(NODE_HEADER),
            parent=named.get(PARENT_HEADER),
            request_id=None if error is None else named.get(REQUEST_ID_HEADER, sent.request_id),
        )


async def _content(response: httpx.Response, *, keep: int) -> bytes | None:
    """Reads all of the body, and returns its first `keep` bytes, which are all of it; None if it has more than these.

    With `keep` 0, nobody looks at the body, and nothing of it stays in memory.
    """
    parts: list[bytes] = []
    size = 0
    async for part in response.aiter_bytes():
        size += len(part)
        if size <= keep:
            parts.append(part)
        else:
            parts.clear()
    return None if size > keep > 0 else b"".join(parts)


def _passes(check: Callable[[Answer], bool], message: Message, response: httpx.Response, content: bytes) -> bool:
    headers = {name.lower(): value for name, value in response.headers.items()}
    try:
        return bool(check(Answer(response.status_code, headers, content, message.app, message.name)))
    except Exception:
        # A check that cannot make sense of an answer (no JSON, a key that is not there) says that it is wrong.
        return False


def _ended(network: Network) -> float:
    """When a connection ended, if the other side ended it; else now."""
    connection = network.connection
    return connection.ended_at if connection is not None and connection.ended_at is not None else clock.now()


def _finished(response: httpx.Response, network: Network) -> float:
    """When the last of an answer arrived: its last data if it says how long it is, else the end of the connection."""
    framed = "content-length" in response.headers or "chunked" in response.headers.get("transfer-encoding", "")
    return network.connection.data_at if framed and network.connection is not None else _ended(network)


async def _close(transport: httpx.AsyncBaseTransport) -> None:
    # The outcome of a request must not depend on how its connection ends.
    with contextlib.suppress(Exception):
        await transport.aclose()


def _ssl_context(scheme: str) -> ssl.SSLContext:
    # Plain HTTP needs none, but without one each transport would make its own and read all certificates for it.
    return ssl.create_default_context() if scheme == "https" else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _our_own_lack(error: BaseException | None) -> bool:
    """Whether the error comes from this machine having no socket or port left, and not from the server."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _OUR_OWN_LACK:
            return True
        error = error.__cause__ or error.__context__
    return False


def _quiet_httpcore() -> None:
    # It logs some twenty lines a request at DEBUG, which pytest would keep; who sets its level by name still gets them.
    logger = logging.getLogger("httpcore")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)
