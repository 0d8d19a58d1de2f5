"""The HTTP server of a fake cluster: one address, behind which each connection belongs to one of the proxies."""

from __future__ import annotations

import asyncio
import itertools
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

Address = tuple[str, int]

_LOOK_EVERY = 0.05


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer to a request.

    Attributes:
        status: The HTTP status.
        body: The text.
        headers: Names and values.
    """

    status: int
    body: str = field(repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    @property
    def data(self) -> bytes:
        """As HTTP/1.1."""
        body = self.body.encode()
        headers = "".join(f"{name}: {value}\r\n" for name, value in self.headers)
        return f"HTTP/1.1 {self.status} X\r\ncontent-length: {len(body)}\r\n{headers}\r\n".encode() + body


@dataclass(frozen=True, slots=True)
class Handler:
    """What the server asks of the proxies behind it.

    Attributes:
        proxies: PID of each proxy that lives -> whether it is frozen.
        answer: What the proxy with that PID answers to a path.
        retired: Whether the proxy with that PID gets no more connections, and still answers on those that it has.
        wait: How many seconds a client waits for the answer to a path; infinity: for ever.
        refuse: What every proxy answers to a method and a path, whatever `answer` says; None to let it answer.
    """

    proxies: Callable[[], dict[int, bool]]
    answer: Callable[[int, str], Reply]
    retired: Callable[[int], bool] = lambda pid: False
    wait: Callable[[str], float] = lambda path: 0.0
    refuse: Callable[[str, str], Reply | None] = lambda method, path: None


class FakeServer:
    """Serves on a port of 127.0.0.1 from a thread of its own.

    Args:
        handler: What it asks of the proxies.

    Attributes:
        port: Where it listens.
        connections: The open ones, by the client's address.
    """

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.turn = itertools.count()
        self.connections: dict[Address, Connection] = {}
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._stopped = asyncio.Event()
        self._listening = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fake-server", daemon=True)
        self._thread.start()
        self._listening.wait(30)

    def owner(self, client: Address) -> int | None:
        """The PID of the proxy that has the connection from that address."""
        connection = self.connections.get(client)
        return None if connection is None else connection.pid

    def close(self) -> None:
        """Ends the thread. May be called twice."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopped.set)
            self._thread.join(10)

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        server = await self._loop.create_server(lambda: Connection(self), "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._listening.set()
        while not self._stopped.is_set():
            await asyncio.sleep(_LOOK_EVERY)
            for connection in list(self.connections.values()):
                connection.go_on()
        server.close()
        for connection in list(self.connections.values()):
            connection.transport.abort()


class Connection(asyncio.Protocol):
    """A connection that one proxy has taken. It ends with its proxy, and waits while that is frozen."""

    transport: asyncio.Transport

    def __init__(self, server: FakeServer) -> None:
        self.pid = 0
        self._server = server
        self._unread = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Gives it to the proxy whose turn it is."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        proxies = list(self._server.handler.proxies())
        if not proxies:
            transport.abort()
            return
        self.pid = proxies[next(self._server.turn) % len(proxies)]
        self._server.connections[transport.get_extra_info("peername")] = self

    def data_received(self, data: bytes) -> None:
        """Answers, if that was all of a request."""
        self._unread += data
        self.go_on()

    def connection_lost(self, error: Exception | None) -> None:
        """Forgets it."""
        self._server.connections.pop(self.transport.get_extra_info("peername"), None)

    def go_on(self) -> None:
        """Answers what can be answered now."""
        handler = self._server.handler
        frozen = False if handler.retired(self.pid) else handler.proxies().get(self.pid)
        if frozen is None:
            self.transport.abort()
        while frozen is False and (asked := self._next_request()) is not None:
            wait = handler.wait(asked[1])
            if wait == 0:
                self._answer(*asked)
            elif not math.isinf(wait):
                asyncio.get_running_loop().call_later(wait, self._answer, *asked)

    def _next_request(self) -> tuple[str, str] | None:
        """Method and path of the next request, once all of it is there."""
        head, end, rest = self._unread.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        lengths = [line.partition(":")[2] for line in lines[1:] if line.lower().startswith("content-length:")]
        length = int(lengths[0]) if lengths else 0
        if not end or len(rest) < length:
            return None
        self._unread = rest[length:]
        method, path, *_ = lines[0].split(" ")
        return method, path

    def _answer(self, method: str, path: str) -> None:
        if not self.transport.is_closing():
            handler = self._server.handler
            reply = handler.refuse(method, path) or handler.answer(self.pid, path)
            self.transport.write(reply.data)
