"""Sends one HTTP request and says what became of it, in httpx's own words; only this part of traffic knows httpx."""

from __future__ import annotations

import contextlib
import errno
import logging
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias, cast

import anyio
import httpx

from pytest_serve_chaos import clock
from pytest_serve_chaos.errors import SettingsError

if TYPE_CHECKING:
    import httpcore

REPLICA_HEADER = "x-serve-chaos-replica"
"""The header of an answer that names the replica that gave it."""

PARENT_HEADER = "x-serve-chaos-parent"
"""The header of an answer that names the replica that asked it of another one."""

NODE_HEADER = "x-serve-chaos-node"
"""The header of an answer that names the Ray node (its id) that gave it."""

WRONG_ANSWER = "WrongAnswer"
"""The error of a request whose answer had a good status, and not what the check wanted."""

NOT_SENT = "NotSent"
"""The error of a request that never left: this side had no socket, or no place in flight, for it."""

Address: TypeAlias = tuple[str, int]

_ONE_REQUEST = httpx.Limits(max_connections=1, max_keepalive_connections=0)
_ONE_CONNECTION = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=None)

_OUR_OWN_LACK = frozenset({errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM})


@dataclass(frozen=True, slots=True)
class Answer:
    """What a check gets to see.

    Attributes:
        status: The HTTP status, 200 to 299: no other is checked.
        headers: By name in lower case.
        body: All of it.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class RequestSpec:
    """What to send, and which answer is good.

    Attributes:
        url: Where to, ``http`` or ``https``. An IP address saves asking for the name on each new connection.
        method: The HTTP method.
        headers: Sent with each request.
        body: Sent with each request.
        timeout: Seconds for all of a request: connecting, sending it and reading the whole answer.
        check: Says whether an answer is the right one. It runs where requests are timed, so it must be quick.
        ssl_context: For ``https``; None trusts the authorities that the system trusts.

    Raises:
        SettingsError: The URL or the timeout cannot be used.
    """

    url: str
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    timeout: float = 5.0
    check: Callable[[Answer], bool] | None = None
    ssl_context: ssl.SSLContext | None = None

    def __post_init__(self) -> None:
        try:
            url = httpx.URL(self.url)
        except httpx.InvalidURL as error:
            raise SettingsError(f"url: {self.url!r} is not a URL: {error}") from None
        if url.scheme not in ("http", "https") or not url.host:
            raise SettingsError(
                f"url: {self.url!r} has no host to send to", mend=["write it as http://host:port/route"]
            )
        if not self.timeout > 0:
            raise SettingsError(f"timeout: {self.timeout!r} is not above 0", mend=["give seconds, 5.0 for example"])


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one request.

    Attributes:
        finished: When that was known, in monotonic seconds.
        status: The HTTP status, where there was one.
        error: None for a good answer; else httpx's class, ``HTTP 500``, ``WrongAnswer`` or ``NotSent``.
        replica: The replica that answered, where the answer says so.
        node: The Ray node that answered, where the answer says so.
        parent: The replica that asked that replica, where the answer says so.
    """

    finished: float
    status: int | None = None
    error: str | None = None
    replica: str | None = None
    node: str | None = None
    parent: str | None = None


class FreshConnections:
    """Sends each request on a connection that is made for it and closed after it.

    Each gets a transport of its own: a shared pool looks at all of its connections whenever something happens to one,
    and so shows the recovery from a stall late. All of them share one SSL context, the only part that is dear to make.
    """

    def __init__(self, spec: RequestSpec) -> None:
        self._target = _Target(spec)

    async def prepare(self) -> None:
        """Loads what httpx would else load with the first request, and so make that one and those behind it late."""
        await _close(self._target.transport(_ONE_REQUEST))
        await anyio.sleep(0)

    async def send(self, *, timeout: float | None = None) -> Outcome:
        """Sends one request and waits for its end.

        Args:
            timeout: Seconds for all of it; None takes those of the spec.
        """
        transport = self._target.transport(_ONE_REQUEST)
        try:
            return await self._target.exchange(transport, timeout)
        finally:
            await _close(transport)


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
        self._transport: httpx.AsyncHTTPTransport | None = None

    async def send(self, *, timeout: float | None = None) -> Outcome:
        """Sends one request and waits for its end. HTTP/1.1 allows one at a time, so the caller must wait for it.

        Args:
            timeout: Seconds for all of it; None takes those of the spec.
        """
        if self._transport is None:
            self._transport = self._target.transport(_ONE_CONNECTION)
        usable = False
        try:
            outcome = await self._target.exchange(self._transport, timeout, self._opened)
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


class _Opening:
    """Sees a connection being made, and closes the one whose TLS handshake a deadline cuts short.

    httpcore holds a connection from the end of its handshake on only, so nobody else could close it.
    """

    def __init__(self, opened: Callable[[Address], None] | None) -> None:
        self._opened = opened
        self._stream: httpcore.AsyncNetworkStream | None = None

    async def watch(self, name: str, info: Mapping[str, object]) -> None:
        if name == "connection.connect_tcp.complete":
            self._stream = cast("httpcore.AsyncNetworkStream", info["return_value"])
            if self._opened is not None:
                host, port = self._stream.get_extra_info("client_addr")[:2]
                self._opened((host, port))
        elif name == "connection.start_tls.failed" and self._stream is not None:
            with anyio.CancelScope(shield=True):
                await self._stream.aclose()


class _Body(httpx.AsyncByteStream):
    """The body of a request. It is asked for once the connection is there, so it knows how far the request has come."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.too_late_for: type[httpx.TimeoutException] = httpx.ConnectTimeout

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self.too_late_for = httpx.WriteTimeout
        if self._content:
            yield self._content
        self.too_late_for = httpx.ReadTimeout


class _Target:
    """A spec, with all that can be prepared once."""

    def __init__(self, spec: RequestSpec) -> None:
        headers = httpx.Headers({"Accept": "*/*", "User-Agent": "pytest-serve-chaos"})
        headers.update(spec.headers)
        self._prepared = httpx.Request(spec.method, spec.url, headers=headers, content=spec.body)
        self._spec = spec
        self._ssl_context = spec.ssl_context or _ssl_context(self._prepared.url.scheme)
        _quiet_httpcore()

    def transport(self, limits: httpx.Limits) -> httpx.AsyncHTTPTransport:
        """A transport without retries, without the environment's proxies, and with no connection yet."""
        return httpx.AsyncHTTPTransport(verify=self._ssl_context, trust_env=False, limits=limits)

    async def exchange(
        self,
        transport: httpx.AsyncHTTPTransport,
        timeout: float | None,
        opened: Callable[[Address], None] | None = None,
    ) -> Outcome:
        """Sends the request, reads all of the answer and judges it. Whatever goes wrong is an outcome.

        Args:
            transport: What it is sent through.
            timeout: Seconds for all of it; None takes those of the spec.
            opened: Called with the client's address when a connection was opened for it.
        """
        body = _Body(self._spec.body or b"")
        prepared = self._prepared
        seen = opened is not None or prepared.url.scheme == "https"
        extensions = {"trace": _Opening(opened).watch} if seen else {}
        request = httpx.Request(
            prepared.method, prepared.url, headers=prepared.headers, stream=body, extensions=extensions
        )
        try:
            # One deadline for everything: httpx's own timeouts begin anew with each part of the answer.
            with anyio.move_on_after(self._spec.timeout if timeout is None else timeout):
                response = await transport.handle_async_request(request)
                content = await response.aread()
                return self._judge(response, content)
        except Exception as error:
            return Outcome(clock.now(), error=NOT_SENT if _our_own_lack(error) else type(error).__name__)
        return Outcome(clock.now(), error=body.too_late_for.__name__)

    def _judge(self, response: httpx.Response, content: bytes) -> Outcome:
        finished = clock.now()
        error = None
        if not response.is_success:
            error = f"HTTP {response.status_code}"
        elif self._spec.check is not None and not _passes(self._spec.check, response, content):
            error = WRONG_ANSWER
        named = response.headers
        return Outcome(
            finished,
            response.status_code,
            error,
            replica=named.get(REPLICA_HEADER),
            node=named.get(NODE_HEADER),
            parent=named.get(PARENT_HEADER),
        )


def _passes(check: Callable[[Answer], bool], response: httpx.Response, content: bytes) -> bool:
    headers = {name.lower(): value for name, value in response.headers.items()}
    try:
        return bool(check(Answer(response.status_code, headers, content)))
    except Exception:
        # A check that cannot make sense of an answer (no JSON, a key that is not there) says that it is wrong.
        return False


async def _close(transport: httpx.AsyncHTTPTransport) -> None:
    # What is told of a request must not depend on how its connection takes leave.
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
