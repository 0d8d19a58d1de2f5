"""The guide's "proxy failure"."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_serve_chaos.suite.on_kubernetes import DEAD_PROXY, behind_a_service
from pytest_serve_chaos.suite.with_haproxy import where_it_starts

if TYPE_CHECKING:
    from pytest_serve_chaos.experiment import Experiment
    from pytest_serve_chaos.handle import ServeCluster


@pytest.mark.proxy_failure(by="ray")
def test_proxy_lost(experiment: Experiment, serve_cluster: ServeCluster) -> None:
    """A proxy that is killed is replaced on the same node; the replicas behind it are kept."""
    result = experiment.run(**(where_it_starts(serve_cluster) | behind_a_service(serve_cluster, DEAD_PROXY)))
    assert result.replaced("proxy", on="victims")
    assert result.kept("replicas")
    assert result.before is not None
    assert result.after is not None
    assert {p.node for p in result.before.of("proxy")} == {p.node for p in result.after.of("proxy")}
