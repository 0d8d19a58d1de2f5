"""Beyond the guide: updates of an app in place, to a version that works and to one that does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_serve_chaos.experiment import Experiment
    from pytest_serve_chaos.handle import ServeCluster

_ROOM = {"slow_after": "5s", "longest_outage": "5s"}
"""Replicas start during the whole experiment: on two cores the generator, and answers, may be late meanwhile."""


@pytest.fixture
def four_replicas(serve_cluster: ServeCluster) -> None:
    """Scales a deployment of more replicas down: an update takes some 4 s for each.

    Four of six leave some on each worker: the proxy of a node without replicas goes, and a request with it.
    """
    status = serve_cluster.backend.dashboard.serve()
    for deployment, replicas in status.targets.items():
        if replicas > 4 and not status.options.get(deployment, {}).get("autoscaling_config"):
            serve_cluster.update(deployment, num_replicas=4)


@pytest.mark.app_update
@pytest.mark.usefixtures("four_replicas")
def test_app_updated(experiment: Experiment) -> None:
    """A new version of the code replaces all replicas, and no request is lost."""
    result = experiment.sending(send_lag_limit=1.0, timeout=20.0).run(**_ROOM)
    assert result.replaced("replica", on="victims")


@pytest.mark.app_update(bad="constructor", for_="10s")
@pytest.mark.usefixtures("four_replicas")
def test_app_updated_to_a_version_that_does_not_start(experiment: Experiment) -> None:
    """A version whose constructor raises takes one old replica, the other serves on, and no request is lost."""
    experiment.sending(send_lag_limit=1.0, timeout=20.0).run(**_ROOM)
