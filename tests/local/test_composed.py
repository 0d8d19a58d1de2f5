"""A composed app: the post-recovery check of its handles, which nothing else can see, and one that fails it."""

from __future__ import annotations

import pytest

from pytest_serve_chaos.errors import ExpectationFailed
from pytest_serve_chaos.experiment import Experiment
from pytest_serve_chaos.faults.chaos import Chaos
from pytest_serve_chaos.fixtures import MakeTraffic

pytestmark = pytest.mark.serve_cluster(
    app="pytest_serve_chaos.apps.composed:app",
    app_args={
        "options": {
            "num_replicas": 2,
            "max_replicas_per_node": 1,  # else Serve may put them together, or not, and the cluster is built anew
            "ray_actor_options": {"num_cpus": 0.1},
            "graceful_shutdown_timeout_s": 1,
        },
    },
)


@pytest.mark.replica_failure
def test_every_parent_reaches_a_child_that_was_replaced(experiment: Experiment) -> None:
    result = experiment.run(window="10s", availability=0.97)
    assert [e for e in result.events if e.kind == "settled" and "every parent reached" in e.text]


@pytest.mark.controller_failure(replacement="new_actor")
def test_handles_are_deaf_after_the_controller_was_replaced(chaos: Chaos, traffic: MakeTraffic) -> None:
    with traffic():
        controller = chaos.controller.kill(replacement="new_actor")
        controller.wait_redundancy_back("60s")
        with pytest.raises(ExpectationFailed, match="did not reach the new one"):
            controller.wait_children_reached()
