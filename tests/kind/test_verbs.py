"""The verbs beside `kill`, with traffic, on a real kind cluster; those for machines are in `test_machines`."""

from __future__ import annotations

import pytest

from pytest_serve_chaos.experiment import Experiment
from tests.kind.needs import needs_kind

pytestmark = needs_kind

FOR = "5s"
"""Less than Serve's three health checks in the profile `fast`, so that nothing is replaced."""


@pytest.mark.parametrize(
    "role",
    [
        pytest.param("worker", marks=pytest.mark.worker_failure(how="freeze", for_=FOR)),
        pytest.param("head", marks=pytest.mark.head_failure(how="freeze", for_=FOR)),
        pytest.param("controller", marks=pytest.mark.controller_failure(how="freeze", for_=FOR)),
        pytest.param("replica", marks=pytest.mark.replica_failure(how="freeze", for_=FOR)),
        pytest.param("proxy", marks=pytest.mark.proxy_failure(how="freeze", for_=FOR)),
        pytest.param("gcs", marks=pytest.mark.gcs_failure(how="freeze", for_=FOR)),
        pytest.param("redis", marks=pytest.mark.redis_failure(how="freeze", for_=FOR)),
    ],
)
def test_what_is_frozen_is_kept(experiment: Experiment, role: str) -> None:
    result = experiment.run(window="6s")
    assert result.kept(role)


@pytest.mark.worker_failure(how="stop")
def test_a_worker_that_is_deleted_gracefully_is_replaced(experiment: Experiment) -> None:
    result = experiment.run()
    assert result.replaced("worker", on="victims")
    assert result.kept("worker", on="others")


@pytest.mark.head_failure(how="stop")
def test_a_head_that_is_deleted_gracefully_is_replaced(experiment: Experiment) -> None:
    result = experiment.run()
    assert result.replaced("head", "controller")
    assert result.kept("worker")
    assert result.kept("replicas", on="workers")
