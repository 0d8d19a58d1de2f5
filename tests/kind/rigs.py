"""A rig on a kind cluster of a test's own, for tests that look into the cluster and break it from plain Python."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pytest_serve_chaos.cluster.base import ClusterSpec, Progress
from pytest_serve_chaos.cluster.kubernetes.rayservice.cluster import RayServiceCluster
from pytest_serve_chaos.experiment import Experiment
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.faults.spec import FaultChoice
from pytest_serve_chaos.load import Load
from pytest_serve_chaos.run import Run

RATE = float(os.environ.get("SERVE_CHAOS_RATE", "20"))


@contextmanager
def rig_on(
    spec: ClusterSpec, directory: Path, said: list[str], start: Callable[[Path, Progress], RayServiceCluster]
) -> Iterator[Rig]:
    """A rig on the cluster that `start` makes, until the end; all that is said goes to `said`, too."""

    def say(line: str) -> None:
        said.append(line)
        print(line)

    run = Run(directory, lambda _, inside, progress: start(inside, progress), seed=1, progress=say)
    try:
        yield run.rig_for(spec)
    finally:
        run.close()


def cluster_of(rig: Rig) -> RayServiceCluster:
    """The cluster, as what it is on kind."""
    assert isinstance(rig.cluster, RayServiceCluster)
    return rig.cluster


def experiment(rig: Rig, name: str, fault: FaultChoice) -> Experiment:
    """An experiment of that name."""
    rig.current.begin(name)
    return Experiment(rig, Load(rate=RATE), fault)
