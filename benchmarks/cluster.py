"""Measures how long a local cluster takes until its app answers, and until nothing of it is left."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

from pytest_serve_chaos import clock
from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.local.start import LocalSettings, start_local_cluster

STARTS = 3


def main() -> None:
    """Starts and ends a cluster a few times."""
    starts, ends = [], []
    for _ in range(STARTS):
        with tempfile.TemporaryDirectory() as directory:
            begun = clock.now()
            cluster = start_local_cluster(ClusterSpec(), LocalSettings(logs=Path(directory)), lambda _: None)
            up = clock.now()
            cluster.close()
            starts.append(up - begun)
            ends.append(clock.now() - up)
    print(f"cluster start: {_spread(starts)} (head and 2 workers, 6 replicas, profile fast)")
    print(f"cluster end: {_spread(ends)}")


def _spread(values: list[float]) -> str:
    return f"{min(values):.1f} / {statistics.median(values):.1f} / {max(values):.1f} s (least, median, most)"


if __name__ == "__main__":
    main()
