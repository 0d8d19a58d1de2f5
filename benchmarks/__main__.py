"""Runs all benchmarks: the cheap ones first."""

from __future__ import annotations

from benchmarks import cluster, overhead, reports, startup, traffic

if __name__ == "__main__":
    for benchmark in (startup, traffic, reports, cluster, overhead):
        print(f"-- {benchmark.__name__.rpartition('.')[2]}", flush=True)
        benchmark.main()
