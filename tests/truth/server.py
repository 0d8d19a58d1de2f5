"""An HTTP server that follows a script: from one second to another it is dead, stalls, is slow, resets, ...

It is a program of its own and uses the standard library alone, so that nothing that is measured can hold it up. The
script is its only argument, a JSON list of spans (`Span`). It prints a JSON document a line: first ``{"port": ...}``.
A line ``go`` on standard input begins the script and prints ``{"went": ...}``. A line ``report`` prints what it did and
when, and ends it, as the end of standard input does. All times are monotonic seconds.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import sys
import time
from dataclasses import asdict, dataclass
from typing import Literal, TypeAlias, cast

Behaviour: TypeAlias = Literal["dead", "stall", "slow", "hang", "reset", "status", "wrong", "cut", "ramp"]

_BACKLOG = 4096


@dataclass(frozen=True, slots=True)
class Span:
    """What the server does for some seconds, both counted from ``go``.

    Attributes:
        does: ``dead``: the port is closed and connections are aborted. ``stall``: nothing is answered, and all that
            wait are at the end. ``slow``: an answer takes `takes` seconds. ``hang``: no answer ever. ``reset``: the
            connection is aborted instead of an answer. ``status``: a 500. ``wrong``: another body than ``ok``. ``cut``:
            the connection is closed in the midst of the body. ``ramp``: what an answer takes rises from 0 to `takes`
            seconds over the span.
        every: It does so to the first request in the span and to every n-th after it.
        takes: Seconds, for ``slow`` and ``ramp``.
    """

    does: Behaviour
    begins: float
    ends: float
    every: int = 1
    takes: float = 0.0


def reply(body: bytes = b"ok", *, status: str = "200 OK", length: int | None = None) -> bytes:
    """An answer; `length` where it claims to be longer than it is."""
    size = len(body) if length is None else length
    return f"HTTP/1.1 {status}\r\nContent-Length: {size}\r\n\r\n".encode() + body


_GOOD, _OOPS, _WRONG = reply(), reply(status="500 Oops"), reply(b"no")
_CUT = reply(length=1000)


class _Part:
    """A span, and what has become of it."""

    def __init__(self, span: Span) -> None:
        self.span = span
        self.began = self.ended = 0.0
        self.asked = 0
        self.affected = 0


class _Server:
    def __init__(self, spans: list[Span]) -> None:
        self.parts = [_Part(span) for span in spans]
        self.connections: set[_Connection] = set()
        self._waiting: list[_Connection] = []
        self._went: float | None = None
        self._loop = asyncio.get_running_loop()
        # While the server is dead, nobody else may get its port, not even a client for its own end of a connection.
        self._claim = socket.socket()
        self._claim.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._claim.bind(("127.0.0.1", 0))
        self.port = self._claim.getsockname()[1]
        self._listening: asyncio.Server | None = None

    async def open(self) -> None:
        self._listening = await self._loop.create_server(
            lambda: _Connection(self), "127.0.0.1", self.port, backlog=_BACKLOG, reuse_port=True
        )

    def close(self) -> None:
        if self._listening is not None:
            self._listening.close()
        for connection in tuple(self.connections):
            connection.transport.abort()

    def go(self) -> float:
        self._went = time.monotonic()
        self._lives = [self._loop.create_task(self._live(part)) for part in self.parts]
        return self._went

    def report(self) -> dict[str, object]:
        spans = [{"began": p.began, "ended": p.ended, "affected": p.affected, **asdict(p.span)} for p in self.parts]
        return {"went": self._went, "spans": spans}

    async def _live(self, part: _Part) -> None:
        """Begins and ends a span on time, and notes when that really was."""
        went = self._went or 0.0
        await asyncio.sleep(went + part.span.begins - time.monotonic())
        part.began = time.monotonic()
        if part.span.does == "dead":
            self.close()
        await asyncio.sleep(went + part.span.ends - time.monotonic())
        if part.span.does == "dead":
            await self.open()
        part.ended = time.monotonic()
        if part.span.does == "stall":
            waiting, self._waiting = self._waiting, []
            for connection in waiting:
                connection.say(_GOOD)

    def asked(self, connection: _Connection) -> None:
        now = time.monotonic()
        for part in self.parts:
            if part.began and part.began <= now and not part.ended:
                part.asked += 1
                if (part.asked - 1) % part.span.every == 0:
                    part.affected += 1
                    self._misbehave(part, connection, now)
                    return
        connection.say(_GOOD)

    def _misbehave(self, part: _Part, connection: _Connection, now: float) -> None:
        span = part.span
        if span.does == "stall":
            self._waiting.append(connection)
        elif span.does == "slow":
            self._loop.call_later(span.takes, connection.say, _GOOD)
        elif span.does == "ramp":
            share = (now - part.began) / (span.ends - span.begins)
            self._loop.call_later(share * span.takes, connection.say, _GOOD)
        elif span.does == "dead":
            connection.transport.abort()  # It was accepted at the last moment, and was not a connection then.
        elif span.does == "reset":
            connection.reset()
        elif span.does == "status":
            connection.say(_OOPS)
        elif span.does == "wrong":
            connection.say(_WRONG)
        elif span.does == "cut":
            connection.say(_CUT)
            connection.transport.close()


class _Connection(asyncio.Protocol):
    """One connection; a request without a body ends with its head."""

    def __init__(self, server: _Server) -> None:
        self._server = server
        self._head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._server.connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._server.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        self._head += data
        while b"\r\n\r\n" in self._head:
            _, _, self._head = self._head.partition(b"\r\n\r\n")
            self._server.asked(self)

    def say(self, answer: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(answer)

    def reset(self) -> None:
        connection = self.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()


async def _serve(spans: list[Span]) -> None:
    server = _Server(spans)
    await server.open()
    _tell({"port": server.port})
    while line := await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline):
        if line.strip() == "go":
            _tell({"went": server.go()})
        elif line.strip() == "report":
            _tell(server.report())
            return


def _tell(what: object) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    asyncio.run(_serve([Span(**span) for span in json.loads(sys.argv[1])]))
