"""Prints the table of *way of ending x moment*: what stays, and who repairs it, as seen on a fake cluster.

``python -m tools.ways_of_ending`` takes some minutes.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.plugin.outside_cluster import MOMENTS
from tests.plugin.ways_of_ending import WAYS, Way, end

_HEADINGS = {
    "before": "before the fault",
    "during": "with the fault",
    "healing": "while it is healed",
    "after": "afterwards",
}


def table() -> Iterator[str]:
    """The lines of the table, as Markdown, each as soon as it was seen."""
    yield f"| way of ending | {' | '.join(_HEADINGS[moment] for moment in MOMENTS)} |"
    yield f"| --- |{' --- |' * len(MOMENTS)}"
    for way in WAYS:
        yield f"| {way.name} | {' | '.join(_cells(way))} |"


def _cells(way: Way) -> Iterator[str]:
    for moment in MOMENTS:
        if moment not in way.moments:
            yield "-"
            continue
        with tempfile.TemporaryDirectory(prefix="ways-") as directory:
            seen = end(way, moment, Path(directory))
            yield f"{seen.left}; {seen.repaired_by}"


if __name__ == "__main__":
    for line in table():
        print(line, flush=True)
    sys.exit(0)
