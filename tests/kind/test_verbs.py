"""The verbs other than `kill`, with traffic, on a real kind cluster; those for a worker's machine: `test_machines`."""

from __future__ import annotations

import pytest

from pytest_serve_chaos.experiment import Experiment
from pytest_serve_chaos.suite.on_kubernetes import LOST_MACHINE
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


@pytest.mark.parametrize(
    "how",
    [pytest.param(how, marks=pytest.mark.node_failure(how=how, which="head")) for how in ("stop", "drain", "delete")],
)
def test_the_head_is_replaced_when_its_machine_goes_and_the_workers_are_kept(experiment: Experiment, how: str) -> None:
    result = experiment.run(**LOST_MACHINE)
    assert result.replaced("head", "controller"), how
    assert result.kept("worker", "replicas")


@pytest.mark.node_failure(how="freeze", which="head", for_="5s")
def test_a_paused_machine_under_the_head_goes_on(experiment: Experiment) -> None:
    result = experiment.run(window="6s")
    assert result.kept("head", "controller", "worker", "replicas")
