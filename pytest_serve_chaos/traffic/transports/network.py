"""The connections under httpx: plain asyncio, and read in turns.

httpcore's own connections, on anyio, take about a fifth of the time of a request. And when a stalled app answers a
thousand requests at once, all of them would be read at once, and nothing that is due could be sent meanwhile.
"""

from __future__ import annotations

import asyncio
import ipaddress
import select
import socket
import ssl
import struct
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import httpcore

from pytest_serve_chaos import clock
from pytest_serve_chaos.traffic.transports.base import Address

if TYPE_CHECKING:
    from httpcore import SOCKET_OPTION

_LAST_DATA_RECEIVED = struct.Struct("@52xI")
"""``tcpi_last_data_recv`` of Linux' ``struct tcp_info``: milliseconds since the last data came (``linux/tcp.h``)."""

_TICK = 0.010
"""Seconds between two ticks of the kernel's clock at most, by which that figure may be too large."""

_NEXT_ADDRESS_AFTER = 0.25
"""Seconds after which the next address of a name is tried as well (RFC 8305)."""


class Turns:
    """Lets connections be read one after the other, in the order in which something came, and the event loop between.

    So what is due meanwhile is sent on time.
    """

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()

    def join(self, waiter: asyncio.Future[None]) -> None:
        """Resolves `waiter` when it is its turn."""
        self._waiting.append(waiter)
        if len(self._waiting) == 1:
            waiter.get_loop().call_soon(self._next)

    def _next(self) -> None:
        waiter = self._waiting.popleft()
        if self._waiting:
            waiter.get_loop().call_soon(self._next)
        if not waiter.done():
            waiter.set_result(None)


class Turn:
    """The turn of one connection, for which one task at a time waits.

    Args:
        turns: Those of all connections.
    """

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._waiter: asyncio.Future[None] | None = None

    async def wait(self, deadline: float | None = None) -> None:
        """Waits until something came and it is its turn.

        Raises:
            httpcore.ReadTimeout: Nothing came by the deadline, a moment in monotonic seconds.
        """
        loop = asyncio.get_running_loop()
        self._waiter = waiter = loop.create_future()
        timer = None if deadline is None else loop.call_at(deadline, self._give_up)
        try:
            await waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()

    def ask_for(self) -> None:
        """Something came: who waits gets a turn."""
        if self._waiter is not None:
            self._turns.join(self._waiter)
            self._waiter = None

    def _give_up(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(httpcore.ReadTimeout())


class Network(httpcore.AsyncNetworkBackend):
    """Opens the connections of one transport.

    Args:
        turns: When each of them may be read.
        opened: Called with the client's address whenever one was opened.

    Attributes:
        connection: The last one; None as long as it is not open.
    """

    def __init__(self, turns: Turns, opened: Callable[[Address], None] | None = None) -> None:
        self.connection: Connection | None = None
        self._turns = turns
        self._opened = opened

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[SOCKET_OPTION] | None = None,
    ) -> Connection:
        """Opens a connection. How long it may take is up to the caller."""
        self.connection = None
        try:
            _, self.connection = await asyncio.get_running_loop().create_connection(
                lambda: Connection(self._turns),
                host,
                port,
                happy_eyeballs_delay=None if _is_address(host) else _NEXT_ADDRESS_AFTER,
            )
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from error
        if self._opened is not None:
            self._opened(self.connection.local_address)
        return self.connection


class Connection(asyncio.Protocol, httpcore.AsyncNetworkStream):
    """One connection. What comes is noted at once, and waits here for its turn to be read.

    Attributes:
        data_at: When the last data arrived at this machine, in monotonic seconds.
        ended_at: When the other side was seen to have ended the connection; None as long as it has not.
    """

    def __init__(self, turns: Turns) -> None:
        self.data_at = 0.0
        self.ended_at: float | None = None
        self._turn = Turn(turns)
        self._unread = bytearray()
        self._error: Exception | None = None
        self._may_write = True
        self._transport: asyncio.Transport

    @property
    def local_address(self) -> Address:
        """The client's address and port."""
        host, port = self._transport.get_extra_info("sockname")[:2]
        return host, port

    # -- what asyncio tells --

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is open."""
        assert isinstance(transport, asyncio.Transport)
        transport.set_write_buffer_limits(0)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Something came, maybe a while ago."""
        self.data_at = clock.now() - seconds_unread(self._transport.get_extra_info("socket"))
        self._unread += data
        self._turn.ask_for()

    def eof_received(self) -> None:
        """The other side sends no more."""
        self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed, or broke."""
        self._error = exc
        self._end()

    def pause_writing(self) -> None:
        """The kernel takes no more at present."""
        self._may_write = False

    def resume_writing(self) -> None:
        """The kernel has taken all."""
        self._may_write = True
        self._turn.ask_for()

    def _end(self) -> None:
        self.ended_at = self.ended_at or clock.now()
        self._turn.ask_for()

    # -- what httpcore asks for --

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Reads what came by the moment `timeout`, however late its turn is.

        Args:
            max_bytes: No more than these.
            timeout: A moment in monotonic seconds, since all of an answer has one deadline.
        """
        if not self._unread and self.ended_at is None:
            await self._turn.wait(timeout)
        came_at = self.data_at if self._unread else self.ended_at
        if timeout is not None and came_at is not None and came_at > timeout:
            raise httpcore.ReadTimeout
        if not self._unread and self._error is not None:
            raise httpcore.ReadError(str(self._error)) from self._error
        data = bytes(self._unread[:max_bytes])
        del self._unread[:max_bytes]
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Writes, and waits until the kernel has all of it. How long that may take is up to the caller."""
        if self.ended_at is None:
            self._transport.write(buffer)
        while not self._may_write and self.ended_at is None:
            await self._turn.wait()
        if self.ended_at is not None:
            raise httpcore.WriteError(str(self._error or "the connection was closed"))

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> Connection:
        """Shakes hands; closes the connection if that is not possible, or takes longer than the caller waits."""
        loop = asyncio.get_running_loop()
        try:
            transport = await loop.start_tls(
                self._transport,
                self,
                ssl_context,
                server_hostname=server_hostname,
                ssl_handshake_timeout=float("inf"),
            )
        except BaseException as error:
            await self.aclose()
            if isinstance(error, OSError):
                raise httpcore.ConnectError(str(error)) from error
            raise
        assert transport is not None
        self._transport = transport
        return self

    async def aclose(self) -> None:
        """Closes the connection at once."""
        self._transport.abort()

    def get_extra_info(self, info: str) -> object:
        """What httpcore wants to know of a connection."""
        if info == "is_readable":
            return self._is_readable()
        return self._transport.get_extra_info(info)

    def _is_readable(self) -> bool:
        """Whether something came on a connection on which nothing is awaited, so that it cannot be used any more."""
        if self._unread or self.ended_at is not None:
            return True
        poll = select.poll()
        poll.register(self._transport.get_extra_info("socket"), select.POLLIN)
        return bool(poll.poll(0))


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def seconds_unread(connection: socket.socket | None) -> float:
    """Seconds for which the last data of a connection has been here, at least; 0 where the system does not tell."""
    option = getattr(socket, "TCP_INFO", None)
    if connection is None or option is None:
        return 0.0
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, option, _LAST_DATA_RECEIVED.size)
    except OSError:
        return 0.0
    if len(info) < _LAST_DATA_RECEIVED.size:
        return 0.0
    milliseconds: int = _LAST_DATA_RECEIVED.unpack(info)[0]
    return max(0.0, milliseconds / 1000 - _TICK)
