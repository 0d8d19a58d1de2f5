"""Measures what reports of many requests cost: time, memory, and the size of the files.

Run it as `python -m benchmarks.reports`. The experiment is the recorded one of which the pictures in the documentation
are made; each of its requests is there many times, a little later each time.
"""

from __future__ import annotations

import argparse
import gzip
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.child import used_by
from pytest_serve_chaos import clock

_RECORDED = Path(__file__).parents[1] / "docs" / "pictures" / "history.jsonl.gz"
_TIMES = ("scheduled", "sent", "finished")
_MIB = 2**20


@dataclass(frozen=True, slots=True)
class Cost:
    """What one command takes.

    Attributes:
        seconds: Of wall-clock time.
        processor: Seconds of processor time.
        memory: Bytes that it had at the most.
        size: Bytes of the file that it wrote.
    """

    seconds: float
    processor: float
    memory: int
    size: int


def write_history(path: Path, requests: int) -> None:
    """Writes a history with at least so many requests."""
    lines = [json.loads(line) for line in gzip.decompress(_RECORDED.read_bytes()).splitlines()]
    recorded = [line for line in lines if line["type"] == "request"]
    times = -(-requests // len(recorded))
    span = max(one["scheduled"] for one in recorded) - min(one["scheduled"] for one in recorded)
    apart = span / len(recorded) / times
    with path.open("w", encoding="utf-8") as file:
        for line in lines:
            for one in _again(line, times, apart) if line["type"] == "request" else [line]:
                file.write(f"{json.dumps(one)}\n")


def _again(line: Mapping[str, Any], times: int, apart: float) -> Iterator[dict[str, Any]]:
    for number in range(times):
        later = {name: line[name] + number * apart for name in _TIMES if line[name] is not None}
        yield {**line, **later, "index": line["index"] * times + number}


def measure(history: Path, *, way: str) -> Cost:
    """Reports a history once, in a process of its own.

    Args:
        history: Its file.
        way: The format.
    """
    output = history.with_suffix(f".{way}")
    command = [sys.executable, "-m", "pytest_serve_chaos.cli", "report", str(history), "--output", str(output)]
    begun = clock.now()
    process = subprocess.Popen([*command, f"--format={way}"], start_new_session=True)
    usage = used_by(process)
    took = clock.now() - begun
    if process.returncode not in (0, 1):  # 1: an experiment failed
        raise SystemExit(f"`serve-chaos report --format={way}` ended with status {process.returncode}")
    return Cost(took, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, output.stat().st_size)


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, nargs="+", default=[100_000, 1_000_000])
    for requests in parser.parse_args().requests:
        with tempfile.TemporaryDirectory() as directory:
            history = Path(directory, "history.jsonl")
            write_history(history, requests)
            size = history.stat().st_size / _MIB
            print(f"{requests:,} requests; their history has {size:.0f} MiB:", flush=True)
            for way in ("json", "html", "perfetto", "github"):
                cost = measure(history, way=way)
                print(
                    f"  {way:9} {cost.seconds:6.1f} s, {cost.processor:6.1f} s of a processor,"
                    f" {cost.memory / _MIB:5.0f} MiB of memory, a file of {cost.size / _MIB:.2f} MiB",
                    flush=True,
                )


if __name__ == "__main__":
    main()
