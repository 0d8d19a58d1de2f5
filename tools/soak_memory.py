"""Simulates the history of a long soak, and says how much memory it takes and by how much it grows.

``python -m tools.soak_memory [--hours 1.5] [--rate 200] [--limit 300]`` writes a history as a run does, with one
experiment after the other and traffic by hand between them, as fast as the machine can, into a temporary directory. It
judges each experiment as a run does, and prints the memory of this process meanwhile. The exit status is 1 if twelve
hours would need more than the limit, in MB.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_serve_chaos.events import (
    Demanded,
    EvidenceSeen,
    FaultAsked,
    FaultLanded,
    Judged,
    MachineSeen,
    Phase,
    PhaseBegan,
    TrafficBegan,
)
from pytest_serve_chaos.history import ExperimentLog, History
from pytest_serve_chaos.model import Expectations, Request
from pytest_serve_chaos.request_pieces import IN_MEMORY
from pytest_serve_chaos.results import result_of
from pytest_serve_chaos.traffic.recorder import FRESH

_SOAK = 12 * 3600
_REPLICAS = 4


@dataclass(frozen=True, slots=True)
class Soak:
    """What is simulated.

    Attributes:
        seconds: How long it lasts, in seconds of its own clock.
        rate: Requests a second.
        experiment: Seconds of each experiment, and of the traffic by hand after it.
        in_memory: Requests that stay in memory at least.
    """

    seconds: float
    rate: int = 200
    experiment: int = 120
    in_memory: int = IN_MEMORY


@dataclass(frozen=True, slots=True)
class Sample:
    """The memory of this process after so many requests.

    Attributes:
        blocks: Of Python's own allocator; a request that stays in memory takes five.
        resident: Bytes, as the kernel counts them.
    """

    requests: int
    blocks: int
    resident: int


def simulate(soak: Soak, path: Path) -> Iterator[Sample]:
    """Runs it, with a sample after each experiment.

    Args:
        soak: What is simulated.
        path: The file of the history.
    """
    history = History(path, in_memory=soak.in_memory)
    sent, at, number = 0, history.origin, 0
    try:
        while at < history.origin + soak.seconds:
            number += 1
            for one in (_Experiment(history, f"test_{number}", ""), _Experiment(history, f"by-hand-{number}", "mine")):
                one.begin(at)
                for _ in range(soak.experiment):
                    _one_second(history, soak.rate, sent, at, one.source)
                    sent, at = sent + soak.rate, at + 1
                one.end(at)
            gc.collect()
            yield Sample(sent, sys.getallocatedblocks(), resident())
    finally:
        history.close()


def slope(samples: Sequence[Sample]) -> tuple[float, float]:
    """Blocks and bytes by which memory grows with each request, by the second half of the samples (least squares)."""
    half = samples[len(samples) // 2 :]
    mean = sum(one.requests for one in half) / len(half)
    spread = sum((one.requests - mean) ** 2 for one in half)
    blocks = sum((one.requests - mean) * one.blocks for one in half) / spread
    size = sum((one.requests - mean) * one.resident for one in half) / spread
    return blocks, size


def resident() -> int:
    """Bytes of this process that are in memory."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class _Experiment:
    """One experiment, or traffic by hand that is not judged.

    Attributes:
        source: Of its requests; "" for an experiment.
    """

    history: History
    name: str
    source: str

    def begin(self, at: float) -> None:
        log = ExperimentLog(self.history, self.name)
        if not self.source:
            log.add(Demanded("what is demanded", at=at, expectations=Expectations()))
        log.add(TrafficBegan("traffic begins", at=at, source=self.source, rate=200.0, stages="", arrivals="constant"))
        log.add(PhaseBegan("steady", at=at, phase=Phase.STEADY))
        if not self.source:
            log.add(FaultAsked("SIGKILL to a replica", at=at + 2, fault="replica_failure", injection=1))
            log.add(EvidenceSeen("it is gone", at=at + 2, side="victim"))
            log.add(EvidenceSeen("the GCS says DEAD", at=at + 2, side="cluster"))
            log.add(FaultLanded("the replica is down", at=at + 2, injection=1, served=100))

    def end(self, at: float) -> None:
        if not self.source:
            log = ExperimentLog(self.history, self.name)
            log.add(PhaseBegan("done", at=at, phase=Phase.DONE))
            log.add(Judged(result_of(self.history, self.name).outcome, at=at))


def _one_second(history: History, rate: int, first: int, at: float, source: str) -> None:
    for number in range(rate):
        due = at + number / rate
        flight = Request(first + number, FRESH, due, due + 0.0004, due + 0.0004, source=source)
        history.open_request(flight)
        replica = sys.intern(f"default#SleepyPid#{number % _REPLICAS}")
        node = sys.intern(f"{number % 2:056x}")
        history.add_request(
            Request(
                first + number, FRESH, due, due + 0.0004, due + 0.012, 200, None, replica, node, None, source=source
            )
        )
    machine = MachineSeen("the machine", at=at + 1, seconds=1.0, processors=2, ours=0.5, others=0.1)
    history.add(machine)
    history.flush()  # the thread that writes has a second for it in a run


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulates a soak; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--hours", type=float, default=1.5, help="how long it lasts, on its own clock")
    parser.add_argument("--rate", type=int, default=200, help="requests a second")
    parser.add_argument("--limit", type=float, default=300.0, help="MB that twelve hours may need")
    given = parser.parse_args(arguments)
    samples = []
    with tempfile.TemporaryDirectory() as directory:
        soak = Soak(3600 * given.hours, given.rate)
        for sample in simulate(soak, Path(directory) / "history.jsonl"):
            samples.append(sample)
            print(f"{sample.requests:>9} requests: {sample.resident / 1e6:6.0f} MB", flush=True)
    blocks, size = slope(samples)
    whole = (max(s.resident for s in samples) + max(0.0, size) * (_SOAK * given.rate - samples[-1].requests)) / 1e6
    print(f"it grows by {size:.1f} bytes and {blocks:.3f} blocks a request: {whole:.0f} MB after 12 h")
    return 0 if whole <= given.limit else 1


if __name__ == "__main__":
    sys.exit(main())
