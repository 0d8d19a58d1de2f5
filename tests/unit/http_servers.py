"""Small HTTP servers on 127.0.0.1 that behave well or badly, each in a thread of its own, for the tests of traffic."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeAlias

Reader: TypeAlias = asyncio.StreamReader
Writer: TypeAlias = asyncio.StreamWriter
Manners: TypeAlias = Callable[[Reader, Writer], Awaitable[None]]
"""What a server does with one connection."""


def response(body: bytes = b"ok", *, status: str = "200 OK", headers: str = "", length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return f"HTTP/1.1 {status}\r\nContent-Length: {size}\r\n{headers}\r\n".encode() + body


async def request_line(reader: Reader) -> str:
    """Reads one request; "" at the end of the connection."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
    except asyncio.IncompleteReadError:
        return ""
    for line in head.split("\r\n"):
        name, _, value = line.partition(":")
        if name.lower() == "content-length":
            await reader.readexactly(int(value))
    return head.split("\r\n")[0]


def answers(reply: bytes | None = None, *, after: float = 0.0) -> Manners:
    """Answers each request on the connection, `after` seconds."""
    reply = response() if reply is None else reply

    async def manners(reader: Reader, writer: Writer) -> None:
        while await request_line(reader):
            await asyncio.sleep(after)
            writer.write(reply)

    return manners


def says(reply: bytes) -> Manners:
    """Says that, well formed or not, to the first request, and closes the connection."""

    async def manners(reader: Reader, writer: Writer) -> None:
        await request_line(reader)
        writer.write(reply)
        await writer.drain()

    return manners


async def stalls(reader: Reader, writer: Writer) -> None:
    """Reads the request and says nothing."""
    await request_line(reader)
    await asyncio.sleep(60)


async def never_reads(reader: Reader, writer: Writer) -> None:
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    await asyncio.sleep(60)


async def drips(reader: Reader, writer: Writer) -> None:
    """Begins to answer at once, and takes its time for each byte of the body."""
    await request_line(reader)
    writer.write(response(length=1000))
    while True:
        await asyncio.sleep(0.02)
        writer.write(b".")


async def resets(reader: Reader, writer: Writer) -> None:
    """Reads the request and breaks the connection with RST."""
    await request_line(reader)
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def never_shakes_hands(closed: threading.Event) -> Manners:
    """Says nothing, so that a TLS handshake with it never ends; sets `closed` when the client has gone."""

    async def manners(reader: Reader, writer: Writer) -> None:
        while await reader.read(4096):
            pass
        closed.set()

    return manners


def changing(*manners: Manners) -> Manners:
    """The first connection gets the first manners, the second the second; the last ones are for all that follow."""
    connections = iter(range(1_000_000))

    async def manners_of_this_one(reader: Reader, writer: Writer) -> None:
        await manners[min(next(connections), len(manners) - 1)](reader, writer)

    return manners_of_this_one


@contextlib.contextmanager
def serving(manners: Manners, *, tls: ssl.SSLContext | None = None, port: int = 0) -> Iterator[str]:
    """Runs a server and gives its URL. Several can share a port; the kernel then deals connections out to them."""

    async def handle(reader: Reader, writer: Writer) -> None:
        try:
            with contextlib.suppress(OSError):
                await manners(reader, writer)
            writer.close()
        except asyncio.CancelledError:
            writer.transport.abort()

    opened: list[Writer] = []

    def accepted(reader: Reader, writer: Writer) -> None:
        # At once, and not in the task: one that is cancelled before its first step closes nothing.
        opened.append(writer)
        tasks.append(loop.create_task(handle(reader, writer)))

    tasks: list[asyncio.Task[None]] = []
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(
        asyncio.start_server(accepted, "127.0.0.1", port, ssl=tls, backlog=1000, reuse_port=True)
    )
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        scheme = "http" if tls is None else "https"
        yield f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}/route"
    finally:
        asyncio.run_coroutine_threadsafe(_end(server, opened), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def _end(server: asyncio.Server, opened: list[Writer]) -> None:
    """Closes all connections, also those that the kernel has accepted and the loop has only begun to make."""
    for listening in server.sockets:
        asyncio.get_running_loop().remove_reader(listening.fileno())
    # A closed server makes no transport any more for what it has accepted: the client would wait for its timeout.
    await asyncio.sleep(0)
    server.close()
    quiet = 0
    while quiet < 3:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.sleep(0.005)  # One that is cancelled before its first step closes nothing.
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for writer in opened:
            writer.transport.abort()
        quiet = 0 if tasks or opened else quiet + 1
        opened.clear()
    await asyncio.sleep(0.01)  # A transport closes its socket in a later turn of the loop.


@contextlib.contextmanager
def refusing() -> Iterator[str]:
    """The URL of a port that refuses connections, until a server is started on it."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{sock.getsockname()[1]}/"


@contextlib.contextmanager
def deaf() -> Iterator[str]:
    """The URL of a port that takes no more connections and does not refuse them either: its queue is full."""
    with socket.socket() as sock, contextlib.ExitStack() as stack:
        sock.bind(("127.0.0.1", 0))
        sock.listen(0)
        for _ in range(4):
            caller = stack.enter_context(socket.socket())
            caller.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                caller.connect(sock.getsockname())
        yield f"http://127.0.0.1:{sock.getsockname()[1]}/"
