"""The verbs beside `kill`, with traffic, on a real kind cluster; those for machines are in `test_machines`."""

from __future__ import annotations

import pytest

from pytest_serve_chaos.experiment import Experiment
from tests.frozen import FROZEN
from tests.kind.needs import needs_kind

pytestmark = needs_kind


@pytest.mark.parametrize("role", FROZEN)
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
