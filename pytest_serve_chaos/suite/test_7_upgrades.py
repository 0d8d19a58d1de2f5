"""Beyond the guide: an upgrade of the RayService, as KubeRay does it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_serve_chaos.experiment import Experiment
    from pytest_serve_chaos.handle import ServeCluster


@pytest.mark.rayservice_upgrade
def test_rayservice_upgraded(experiment: Experiment, serve_cluster: ServeCluster) -> None:
    """A second RayCluster comes up and takes the traffic over: no request is lost, and all of it is new."""
    # A whole second cluster starts: on two cores the generator, and answers, may be late meanwhile.
    namespace, *_ = serve_cluster.redis_keys()
    result = experiment.sending(send_lag_limit=1.0, timeout=20.0).run(slow_after="5s", longest_outage="5s")
    assert result.replaced("head")
    assert result.replaced("replicas")
    assert serve_cluster.redis_keys()[0] != namespace, "each RayCluster's GCS keeps its state apart"
