"""Measures the traffic generator: does it keep to its schedule, and how well does it measure an outage of known length?

Run it as `python -m benchmarks.traffic`. The server runs in a process of its own; both use the loopback alone.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from pytest_serve_chaos import clock
from pytest_serve_chaos.history import History
from pytest_serve_chaos.traffic.client import RequestSpec
from pytest_serve_chaos.traffic.generator import Generator
from pytest_serve_chaos.traffic.kept import KeptLane

_REPLY = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


# -- the server --


class _Replies(asyncio.Protocol):
    """Answers each piece of data that comes in: a request without a body comes in one."""

    def __init__(self, connections: set[asyncio.Transport]) -> None:
        self._connections = connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._connections.add(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._connections.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        self._transport.write(_REPLY)


async def _serve() -> None:
    """Tells its port, then is dead for as many seconds as each line on standard input says, and tells when it was."""
    loop = asyncio.get_running_loop()
    connections: set[asyncio.Transport] = set()
    server = await loop.create_server(lambda: _Replies(connections), "127.0.0.1", 0, backlog=2000)
    port = server.sockets[0].getsockname()[1]
    _tell(port)
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        closed = clock.now()
        server.close()
        for connection in tuple(connections):
            connection.abort()
        await asyncio.sleep(closed + float(line) - clock.now())
        server = await loop.create_server(lambda: _Replies(connections), "127.0.0.1", port, backlog=2000)
        _tell((closed, clock.now()))


def _tell(what: object) -> None:
    print(json.dumps(what), flush=True)


@dataclass(frozen=True, slots=True)
class _Server:
    process: subprocess.Popen[str]
    url: str

    def die(self, seconds: float) -> tuple[float, float]:
        """Is dead for so long; returns when its port was closed and when it was open again."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        closed, opened = json.loads(self.process.stdout.readline())
        return float(closed), float(opened)


@contextmanager
def _server() -> Iterator[_Server]:
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.traffic", "--serve"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        try:
            yield _Server(process, f"http://127.0.0.1:{json.loads(process.stdout.readline())}/")
        finally:
            process.terminate()


# -- what is measured --


def _quantile(values: Sequence[float], quantile: float) -> float:
    return sorted(values)[max(0, math.ceil(quantile * len(values)) - 1)]


def _idle(seconds: float) -> None:
    time.sleep(seconds)


def _busy(seconds: float) -> None:
    """Keeps the interpreter's lock as often as it gets it, as a test that computes does."""
    end = clock.now() + seconds
    while clock.now() < end:
        sum(range(1000))


def _schedule(rate: float, seconds: float, main_thread: Callable[[float], None]) -> str:
    history = History()
    with _server() as server:
        generator = Generator(RequestSpec(server.url), rate=rate, history=history, kept=[KeptLane()] * 3)
        cpu = time.process_time()
        with generator:
            main_thread(seconds)
        cpu = time.process_time() - cpu
    fresh = [request for request in history.requests if not request.kept]
    latencies = [request.latency for request in fresh]
    sent = max(request.sent or 0.0 for request in fresh) - min(request.scheduled for request in fresh)
    figures = [generator.send_lag(0.5), generator.send_lag(0.99), generator.send_lag(1.0)]
    figures += [_quantile(latencies, 0.5), _quantile(latencies, 0.99)]
    return (
        f"{rate:6g} {len(fresh) / (sent + 1 / rate):9.1f} {sum(request.lost for request in history.requests):6d}"
        + "".join(f"{figure * 1000:9.2f}" for figure in figures)
        + f" {generator.most_in_flight:10d} {100 * cpu / seconds:6.0f} %"
    )


def _outage(rate: float, dead_for: float) -> str:
    from pytest_serve_chaos.analysis.outages import find_outages

    history = History()
    with _server() as server, Generator(RequestSpec(server.url), rate=rate, history=history):
        time.sleep(0.5)
        closed, opened = server.die(dead_for)
        time.sleep(0.5)
    (outage,) = find_outages(history.requests)
    end = math.inf if outage.end is None else outage.end
    error = abs((end - outage.start) - (opened - closed))
    return (
        f"{opened - closed:8.4f} {end - outage.start:10.4f} {error * 1000:8.2f} {(error - 1 / rate) * 1000:12.2f}"
        f" {(outage.start - closed) * 1000:12.2f} {(end - opened) * 1000:10.2f} {outage.lost:6d}"
    )


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rates", type=float, nargs="+", default=[50, 200, 400], help="requests per second")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each rate")
    parser.add_argument("--dead-for", type=float, default=2.0, help="seconds of the outage")
    parser.add_argument("--outages", type=int, default=3, help="how many outages to measure, at 100 requests/s")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(_serve())
        return
    print("The schedule. Times in ms; CPU is that of the whole process, of one core.")
    columns = "  rate  achieved   lost  lag p50  lag p99  lag max  lat p50  lat p99  in flight    CPU"
    for name, main_thread in (("waiting", _idle), ("busy", _busy)):
        print(f"\nMain thread {name}:\n{columns}")
        for rate in options.rates:
            print(_schedule(rate, options.seconds, main_thread))
    print("\nAn outage, at 100 requests/s. Error in ms, also beyond the spacing of 10 ms; goal: no more than 10 ms.")
    print("  true s measured s error ms beyond spacing start off ms end off ms   lost")
    for _ in range(options.outages):
        print(_outage(100.0, options.dead_for))


if __name__ == "__main__":
    main()
