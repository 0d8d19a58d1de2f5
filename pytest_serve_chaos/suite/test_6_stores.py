"""Beyond the guide: the GCS alone, and its Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_serve_chaos.suite.on_kubernetes import DEAD_GCS, room_for

if TYPE_CHECKING:
    from pytest_serve_chaos.experiment import Experiment
    from pytest_serve_chaos.handle import ServeCluster


@pytest.mark.gcs_failure
def test_gcs_lost(experiment: Experiment, serve_cluster: ServeCluster) -> None:
    """`gcs_server` dies: `ray start --block` takes the head down with it, and the workers go on.

    Some replicas do not, until the GCS is back (`docs/ray-and-kubernetes.md`): that is what the demands leave room for.
    """
    room = room_for(serve_cluster, DEAD_GCS, {"availability": 0.9, "longest_outage": "6s"})
    result = experiment.run(**room)
    assert result.kept("worker")
    assert result.kept("replicas", on="workers")


@pytest.mark.redis_failure
def test_redis_lost(experiment: Experiment) -> None:
    """Redis dies without persistence: the GCS exits, and what comes back has forgotten all.

    Nothing is promised of the outage; but what is back afterwards must work, the proxies included.
    """
    result = experiment.measure(settled=True, redundancy_back="240s")
    assert result.verdict.outcome != "inconclusive", result.verdict
    assert result.settled is not None, result.verdict
    assert result.replaced("redis")
    assert result.replaced("gcs")
