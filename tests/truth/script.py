"""Sends real traffic to a server that follows a script, and says what must be measured of it.

The truth comes from the script and from when the server followed it. It knows nothing of what became of the requests.
"""

from __future__ import annotations

import json
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from math import inf
from pathlib import Path
from typing import IO

from pytest_serve_chaos import clock
from pytest_serve_chaos.analysis.outages import find_outages
from pytest_serve_chaos.analysis.steady_state import slowness_of
from pytest_serve_chaos.history import History
from pytest_serve_chaos.model import Expectations, Request
from pytest_serve_chaos.traffic.generator import Generator
from pytest_serve_chaos.traffic.request import Answer, RequestSpec
from pytest_serve_chaos.traffic.sending import Sending
from pytest_serve_chaos.traffic.transports.http import Http
from tests.truth.server import Span

TOO_LATE = 0.5
"""Seconds after which a good answer counts as bad for an outage."""

MERGE_GAP = 1.0
"""Seconds of good answers between two outages; with fewer they are one."""

BEHAVIOURS: dict[str, list[Span]] = {
    "dead": [Span("dead", 0.6, 2.6)],
    "dead twice, as one outage": [Span("dead", 0.6, 1.6), Span("dead", 2.1, 3.1)],
    "dead twice, as two outages": [Span("dead", 0.6, 1.6), Span("dead", 3.1, 4.1)],
    "stalled for 2 s": [Span("stall", 0.6, 2.6)],
    "stalled for 3 s": [Span("stall", 0.6, 3.6)],
    "slow": [Span("slow", 0.6, 2.6, takes=0.8)],
    "one in three slow": [Span("slow", 0.6, 2.6, takes=0.8, every=3)],
    "slow, but not too slow": [Span("slow", 0.6, 2.1, takes=0.3)],
    "hanging": [Span("hang", 0.6, 2.1)],
    "one in four hanging": [Span("hang", 0.6, 2.6, every=4)],
    "resetting": [Span("reset", 0.6, 2.1)],
    "one in two answered with 500": [Span("status", 0.6, 2.1, every=2)],
    "answering wrongly": [Span("wrong", 0.6, 2.1)],
    "cutting answers": [Span("cut", 0.6, 2.1)],
    "slower and slower": [Span("ramp", 0.6, 3.6, takes=1.5)],
}
"""What the server can do, each with a little time before it, in seconds from `go`."""

_SERVER = Path(__file__).with_name("server.py")
_ANSWERS_WITHIN = 10.0
_AFTERWARDS = 0.7
_PROBES = 10
"""Moments between two requests at which the truth looks at the script."""


# -- the server --


@dataclass(frozen=True, slots=True)
class Followed:
    """A span, when it really began and ended (monotonic seconds), and how many requests it affected."""

    span: Span
    began: float
    ended: float
    affected: int


class ScriptedServer:
    """A server that was started and waits for `go`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._stdin: IO[str] = process.stdin
        self._stdout: IO[str] = process.stdout
        self.url = f"http://127.0.0.1:{self._read()['port']}/"

    def go(self) -> float:
        """Begins the script; returns when that was."""
        return float(str(self._ask("go")["went"]))

    def report(self) -> tuple[Followed, ...]:
        """What it did, once all of the script is over; the server ends."""
        spans = self._ask("report")["spans"]
        assert isinstance(spans, list)
        return tuple(
            Followed(began=span.pop("began"), ended=span.pop("ended"), affected=span.pop("affected"), span=Span(**span))
            for span in spans
        )

    def _ask(self, word: str) -> dict[str, object]:
        self._stdin.write(f"{word}\n")
        self._stdin.flush()
        return self._read()

    def _read(self) -> dict[str, object]:
        ready, _, _ = select.select([self._stdout], [], [], _ANSWERS_WITHIN)
        line = self._stdout.readline() if ready else ""
        if not line:
            raise RuntimeError(f"the scripted server says nothing within {_ANSWERS_WITHIN:g} s, or has ended")
        answer: dict[str, object] = json.loads(line)
        return answer


@contextmanager
def scripted(spans: Sequence[Span]) -> Iterator[ScriptedServer]:
    """Runs a server in a process of its own."""
    command = [sys.executable, str(_SERVER), json.dumps([asdict(span) for span in spans])]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield ScriptedServer(process)
        finally:
            process.kill()


# -- the traffic --


@dataclass(frozen=True, slots=True)
class Run:
    """Traffic that was sent to a scripted server, in full.

    Attributes:
        went: When the script began, in monotonic seconds.
        lag: The most by which a request was sent late.
    """

    rate: float
    timeout: float
    requests: tuple[Request, ...]
    followed: tuple[Followed, ...]
    went: float
    lag: float
    not_sent: int

    @property
    def spacing(self) -> float:
        """Seconds between two requests."""
        return 1 / self.rate


def send(spans: Sequence[Span], *, rate: float, timeout: float) -> Run:
    """Sends requests from a little before the script until a little after it, and waits for all of them."""
    history = History()
    with scripted(spans) as server:
        generator = Generator(
            Sending.of(RequestSpec(server.url, timeout=timeout, check=_is_ok), Http()), rate=rate, history=history
        )
        with generator:
            went = server.go()
            time.sleep(went + max(span.ends for span in spans) + _AFTERWARDS - clock.now())
        followed = server.report()
    requests = tuple(sorted(history.requests, key=lambda request: request.scheduled))
    return Run(rate, timeout, requests, followed, went, generator.send_lag(1.0), generator.not_sent)


def _is_ok(answer: Answer) -> bool:
    return answer.body == b"ok"


def measured_outages(run: Run) -> tuple[tuple[float, float], ...]:
    """What the plugin finds, as in an experiment: begin and end of each, counted from `Run.went`.

    What is slow it learns from the requests before the script's first span.
    """
    asked = min(followed.began for followed in run.followed)
    steady = [request for request in run.requests if request.finished < asked]
    slowness = slowness_of(steady, Expectations(slow_after=TOO_LATE))
    found = find_outages(run.requests, asked=asked, slowness=slowness, merge_gap=MERGE_GAP)
    return tuple((outage.start - run.went, (outage.end or inf) - run.went) for outage in found)


# -- the truth --


@dataclass(frozen=True, slots=True)
class Truth:
    """What must be measured.

    Attributes:
        outages: Begin and end of each, in seconds from `Run.went`.
        lost: How many requests, on average over where the schedule may lie.
        p99: Of all latencies, in seconds; a lost request has waited for ever.
    """

    outages: tuple[tuple[float, float], ...]
    lost: float
    p99: float


@dataclass(frozen=True, slots=True)
class _Fate:
    """What becomes of a share of the requests that are due at some moment."""

    at: float
    share: float
    latency: float = 0.0

    @property
    def lost(self) -> bool:
        return self.latency == inf


def truth_of(run: Run) -> Truth:
    """What the script makes of requests that are due at any moment from the first to the last of a run."""
    begin, end = run.requests[0].scheduled, run.requests[-1].scheduled + run.spacing
    step = run.spacing / _PROBES
    moments = [begin + (n + 0.5) * step for n in range(round((end - begin) / step))]
    fates = [fate for at in moments for fate in _fates(at, run)]
    lost = sum(fate.share for fate in fates if fate.lost) / _PROBES
    outages = tuple((start - run.went, end - run.went) for start, end in _outages(fates, run.followed))
    return Truth(outages, lost, _p99(fates))


def _fates(at: float, run: Run) -> list[_Fate]:
    good = _Fate(at, 1.0)
    for followed in run.followed:
        if followed.began <= at < followed.ended:
            share = 1 / followed.span.every
            return [replace(_fate(at, followed, run.timeout), share=share), replace(good, share=1 - share)]
    return [good]


def _fate(at: float, followed: Followed, timeout: float) -> _Fate:
    span = followed.span
    waits = {
        "stall": followed.ended - at,
        "slow": span.takes,
        "hang": inf,
        "ramp": span.takes * (at - followed.began) / (followed.ended - followed.began),
    }
    wait = waits.get(span.does, inf)
    return _Fate(at, 1.0, inf if wait > timeout else wait)


def _outages(fates: Sequence[_Fate], followed: Sequence[Followed]) -> tuple[tuple[float, float], ...]:
    """An outage begins with what is due first and turns out bad, and ends with the span: then answers are prompt."""
    found: list[tuple[float, float]] = []
    bad = [fate.at for fate in fates if fate.share and fate.latency > TOO_LATE]
    for span in followed:
        begins = [at for at in bad if span.began <= at < span.ended]
        if not begins:
            continue
        if found and begins[0] - found[-1][1] < MERGE_GAP:
            found[-1] = (found[-1][0], span.ended)
        else:
            found.append((begins[0], span.ended))
    return tuple(found)


def _p99(fates: Sequence[_Fate]) -> float:
    below, whole = 0.0, sum(fate.share for fate in fates)
    for fate in sorted(fates, key=lambda fate: fate.latency):
        below += fate.share
        if below >= 0.99 * whole:
            return fate.latency
    raise ValueError("there are no requests")


def close(measured: float, true: float, within: float) -> bool:
    """Whether a figure is right: by the spacing of the requests and 10 ms, or by 5 %."""
    return measured == true or abs(measured - true) <= max(within + 0.010, 0.05 * true)
