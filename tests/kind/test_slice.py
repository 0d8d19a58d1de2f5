"""The slice through everything, on a real kind cluster: the head is lost under load, and judged."""

from __future__ import annotations

import pytest

from pytest_serve_chaos.experiment import Experiment
from tests.kind.needs import needs_kind

pytestmark = needs_kind


@pytest.mark.head_failure
def test_head_pod_lost(experiment: Experiment) -> None:
    result = experiment.run()
    assert result.replaced("head")
    assert result.kept("replicas", "proxies", on="workers")
    assert result.kept("worker")


@pytest.mark.head_failure
@pytest.mark.serve_cluster(gcs="none")
def test_head_pod_lost_without_fault_tolerance_is_red(experiment: Experiment) -> None:
    # All nodes restart at once: on two cores the generator is some 0.4 s late, which is nothing beside the outage.
    result = experiment.sending(send_lag_limit=1.0).measure()
    assert result.verdict.outcome == "failed", result.verdict
    assert result.replaced("worker")
    assert result.replaced("replicas")
    assert result.longest_outage > 2.0
