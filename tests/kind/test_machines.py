"""Faults on the machines of a real kind cluster, each of which the same cluster survives for the next one.

That a machine is lost, or its node drained, is in the suite.
"""

from __future__ import annotations

import pytest

from pytest_serve_chaos.errors import ExpectationFailed
from pytest_serve_chaos.experiment import Experiment
from pytest_serve_chaos.handle import ServeCluster
from pytest_serve_chaos.model import Identity
from pytest_serve_chaos.suite.on_kubernetes import LOST_MACHINE, MOVED
from tests.kind.needs import needs_kind

pytestmark = needs_kind


@pytest.mark.node_failure(how="delete", for_="20s", which="worker-1")
def test_a_deleted_node_that_is_back_before_its_pods_are_gone_is_inconclusive(
    experiment: Experiment, serve_cluster: ServeCluster
) -> None:
    """Its pods keep their addresses, and a machine that starts later must still find them: that of the next test."""
    before = who(serve_cluster)
    result = experiment.measure()
    assert result.verdict.outcome == "inconclusive"
    assert who(serve_cluster) == before


def who(serve_cluster: ServeCluster) -> set[Identity]:
    """The head, the workers and the replicas that are there now."""
    topology = serve_cluster.topology()
    return {c.identity for role in ("head", "worker", "replica") for c in topology.of(role)}


@pytest.mark.node_failure(how="stop", which="worker-2")
def test_a_machine_that_is_shut_down(experiment: Experiment) -> None:
    result = experiment.run(**LOST_MACHINE)
    assert result.replaced("worker", on="victims")


@pytest.mark.node_failure(how="delete")
def test_a_deleted_node_loses_its_pods_and_registers_again(experiment: Experiment) -> None:
    result = experiment.run(**MOVED)
    assert result.replaced("worker", on="victims")
    assert result.kept("worker", on="others")


@pytest.mark.node_failure(how="freeze", for_="5s")
def test_a_paused_machine_goes_on(experiment: Experiment) -> None:
    result = experiment.run()
    assert result.kept("worker", "replicas", "proxies", "head")


@pytest.mark.node_failure(how="freeze", for_="20s")
def test_serve_replaces_what_is_frozen_for_three_health_checks(experiment: Experiment) -> None:
    result = experiment.run()
    assert result.kept("worker", "head")
    assert result.kept("replicas", on="others")


@pytest.mark.node_failure(which="head")
def test_the_machine_under_the_head_is_lost(experiment: Experiment) -> None:
    # Replicas may be silent for three health checks then, and Serve kills them (docs/ray-and-kubernetes.md).
    result = experiment.run(**LOST_MACHINE, kept=["worker"])
    assert result.replaced("head")
    assert result.kept("worker")


@pytest.mark.node_failure(which="worker-1")
def test_a_lost_machine_breaks_the_promise_that_holds_without_kubernetes(experiment: Experiment) -> None:
    with pytest.raises(ExpectationFailed, match="requests lost"):
        experiment.run(redundancy_back="240s")
