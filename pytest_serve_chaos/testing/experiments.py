"""Experiments on a fake cluster, without a run of pytest."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pytest_serve_chaos.cluster.base import Cluster, ClusterSpec
from pytest_serve_chaos.experiment import Experiment
from pytest_serve_chaos.faults.catalogue import BUILT_IN
from pytest_serve_chaos.faults.registry import FaultRegistry
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.faults.spec import FaultSpec
from pytest_serve_chaos.load import Load
from pytest_serve_chaos.run import Run
from pytest_serve_chaos.testing.behaviour import FakeBehaviour
from pytest_serve_chaos.testing.cluster import FakeCluster

FAKE_LOAD = Load(
    # Client, proxies and replicas are threads of one process. On a busy machine more requests than it can answer are
    # never in steady state; fewer could not show in a second the availability that most tests demand.
    rate=16.0,
    persistent_rate=2.0,
    # The machine may be busy with other things, and stand still for seconds.
    timeout=5.0,
    send_lag_limit=30.0,
)
"""Traffic that a fake cluster can answer on a busy machine."""


@contextmanager
def fake_rig(
    *faults: FaultSpec[object],
    behaviour: FakeBehaviour | None = None,
    cluster: type[FakeCluster] = FakeCluster,
    spec: ClusterSpec | None = None,
    seen_as: Callable[[FakeCluster], Cluster] = lambda cluster: cluster,
) -> Iterator[Rig]:
    """Starts a fake cluster with everything around it, and ends both.

    Args:
        *faults: Faults that are not of this package.
        behaviour: What is wrong with the cluster; by default nothing.
        cluster: Its class.
        spec: Which cluster it is.
        seen_as: What stands before it, as `DryRunCluster` does in a dry run.
    """

    def start(wanted: ClusterSpec, *_: object) -> Cluster:
        return seen_as(cluster(wanted, behaviour))

    with tempfile.TemporaryDirectory(prefix="fake-cluster-") as directory:
        run = Run(Path(directory), start, seed=1, progress=print, faults=_registry(faults))
        try:
            rig = run.rig_for(spec or ClusterSpec())
            rig.current.begin_test("fake", frozenset())
            yield rig
        finally:
            run.close()


@contextmanager
def fake_experiment(
    fault: FaultSpec[object],
    keywords: Mapping[str, object] | None = None,
    *,
    behaviour: FakeBehaviour | None = None,
    cluster: type[FakeCluster] = FakeCluster,
    spec: ClusterSpec | None = None,
    load: Load = FAKE_LOAD,
) -> Iterator[Experiment]:
    """Prepares an experiment on a fake cluster; it does what the fixture `experiment` does.

    For example::

        with fake_experiment(FAULT, {"count": 2}, behaviour=FakeBehaviour(lossy_for=2.0)) as experiment:
            assert experiment.measure(availability=0.9, window="2s").outcome == "failed"

    Args:
        fault: What breaks.
        keywords: What its marker would say.
        behaviour: What is wrong with the cluster; by default nothing.
        cluster: Its class.
        spec: Which cluster it is.
        load: The requests that are sent.

    Raises:
        SettingsError: The fault does not take these keywords.
    """
    choice = fault.choose(keywords or {})
    with fake_rig(fault, behaviour=behaviour, cluster=cluster, spec=spec) as rig:
        yield Experiment(rig, load, choice)


def _registry(faults: tuple[FaultSpec[object], ...]) -> FaultRegistry:
    return BUILT_IN.with_those_of_plugins(fault for fault in faults if fault not in BUILT_IN.specs)
