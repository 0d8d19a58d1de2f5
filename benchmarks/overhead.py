"""Measures what the harness adds to the suite: its run time, divided by the time that the suite cannot do without.

That is the time in which a cluster started, traffic ran that a verdict needs, or something recovered.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from pytest_serve_chaos import clock
from pytest_serve_chaos.events import ClusterReady, Restored
from pytest_serve_chaos.history import History

_GAP = 1.0
"""Seconds without a request after which no traffic ran."""


def main() -> None:
    """Runs the suite once."""
    with tempfile.TemporaryDirectory() as directory:
        begun = clock.now()
        command = [sys.executable, "-m", "pytest", "--serve-chaos", "--pyargs", "pytest_serve_chaos.suite", "-q"]
        environment = {**os.environ, "SERVE_CHAOS_REPORT_DIR": directory}
        status = subprocess.run(command, env=environment, start_new_session=True, check=False).returncode
        took = clock.now() - begun
        (path,) = Path(directory).glob("2*/history.jsonl")
        needed = needed_seconds(History.load(path))
    print(
        f"suite: {took:.0f} s, {needed:.0f} s of them needed; overhead {took / needed:.2f} (pytest's status {status})"
    )


def needed_seconds(history: History) -> float:
    """Seconds in which a cluster started, traffic ran or the first shape was awaited."""
    spans = []
    for event in history.events:
        if isinstance(event, ClusterReady):
            spans.append((event.at - (event.start_seconds or 0.0), event.at))
        if isinstance(event, Restored):
            spans.append((event.at - (event.seconds or 0.0), event.at))
    spans += _traffic(sorted(request.scheduled for request in history.requests))
    return _length(sorted(spans))


def _traffic(moments: list[float]) -> list[tuple[float, float]]:
    spans: list[tuple[float, float]] = []
    for moment in moments:
        if spans and moment - spans[-1][1] <= _GAP:
            spans[-1] = (spans[-1][0], moment)
        else:
            spans.append((moment, moment))
    return spans


def _length(spans: list[tuple[float, float]]) -> float:
    total, reached = 0.0, float("-inf")
    for begin, end in spans:
        total += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return total


if __name__ == "__main__":
    main()
