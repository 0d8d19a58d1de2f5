"""Measures the traffic generator: does it keep to its schedule, and does it measure what a server truly did?

Run it as `python -m benchmarks.traffic`. The server runs in a process of its own; both use the loopback alone.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Sequence
from itertools import product

from pytest_serve_chaos import clock
from pytest_serve_chaos.analysis.statistics import latency
from pytest_serve_chaos.history import History
from pytest_serve_chaos.traffic.generator import Generator
from pytest_serve_chaos.traffic.kept import KeptLane, Persistent
from pytest_serve_chaos.traffic.request import RequestSpec
from pytest_serve_chaos.traffic.sending import Sending
from pytest_serve_chaos.traffic.transports.http import Http
from tests.truth.script import BEHAVIOURS, measured_outages, scripted, send, truth_of


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
    with scripted([]) as server:
        generator = Generator(
            Sending.of(RequestSpec(server.url), Http()),
            rate=rate,
            history=history,
            persistent=Persistent(lanes=[KeptLane()] * 3),
        )
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


def _truth(name: str, rate: float, timeout: float) -> str:
    run = send(BEHAVIOURS[name], rate=rate, timeout=timeout)
    truth, measured, latencies = truth_of(run), measured_outages(run), latency(run.requests)
    assert latencies is not None
    true_length, length = (sum(end - begin for begin, end in outages) for outages in (truth.outages, measured))
    lost = sum(request.lost for request in run.requests)
    return (
        f"{name:29} {rate:4g} {timeout:9g} {true_length:8.3f} {length:10.3f} {(length - true_length) * 1000:8.0f}"
        f" {truth.lost:9.0f} {lost:6d} {truth.p99:8.3f} {latencies.p99:7.3f} {run.lag * 1000:10.1f}"
    )


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rates", type=float, nargs="+", default=[50, 200, 400], help="requests per second")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each rate")
    parser.add_argument("--timeouts", type=float, nargs="+", default=[5], help="seconds, for the truth")
    options = parser.parse_args()
    print("The schedule. Times in ms; CPU is that of the whole process, of one core.")
    columns = "  rate  achieved   lost  lag p50  lag p99  lag max  lat p50  lat p99  in flight    CPU"
    for name, main_thread in (("waiting", _idle), ("busy", _busy)):
        print(f"\nMain thread {name}:\n{columns}")
        for rate in options.rates:
            print(_schedule(rate, options.seconds, main_thread))
    print("\nWhat is measured of a server that follows a script, and what it truly did. Outages and latencies in s.")
    print("An error should be no more than the spacing of the requests and 10 ms, or 5 %.")
    print(f"{'behaviour':29} rate timeout s   outage   measured error ms true lost   lost true p99     p99 lag max ms")
    for rate, timeout, name in product(options.rates, options.timeouts, BEHAVIOURS):
        print(_truth(name, rate, timeout), flush=True)


if __name__ == "__main__":
    main()
