"""Long outages of the head, a raylet, and what runs under a replica."""

from __future__ import annotations

import os
import signal
from functools import partial
from pathlib import Path

import pytest

from pytest_serve_chaos.experiment import Experiment
from pytest_serve_chaos.faults.chaos import Chaos
from pytest_serve_chaos.fixtures import MakeTraffic
from pytest_serve_chaos.handle import ServeCluster

ENGINE = {"app": "docs.examples.engine.app:engine"}


@pytest.mark.head_failure(hold=True, for_="20s")
def test_a_head_that_is_away_for_twenty_seconds_costs_nothing(experiment: Experiment) -> None:
    # All nodes wait for the head, and start work at once when it is back: a busy machine makes the generator late.
    result = experiment.sending(send_lag_limit=1.0).run(longest_outage="2s", availability=0.98)
    assert result.kept("replicas", on="workers")
    assert result.measurement.redundancy_back is not None
    assert result.measurement.redundancy_back > 20


@pytest.mark.raylet_failure(on="worker-1")
def test_a_raylet_takes_its_node_along(experiment: Experiment) -> None:
    result = experiment.run(longest_outage="5s", availability=0.95, window="10s")
    assert result.replaced("raylet", on="worker-1")
    assert result.replaced("worker", on="worker-1")


@pytest.mark.raylet_failure(how="freeze", for_="8s")
def test_actors_go_on_without_their_raylet(experiment: Experiment) -> None:
    result = experiment.run(longest_outage="2s", availability=0.95, window="10s")
    assert result.kept("raylets", "replicas", "workers")


@pytest.mark.serve_cluster(env={"RAY_gcs_rpc_server_reconnect_timeout_s": "5"})
@pytest.mark.head_failure(hold=True, for_="20s")
def test_workers_that_wait_for_less_than_the_outage_fail_it(experiment: Experiment) -> None:
    result = experiment.measure()
    assert result.outcome == "failed", result.verdict
    assert not result.kept("workers")
    assert [event for event in result.events if "all workers start again" in event.text]


@pytest.mark.serve_cluster(app_args={"watched": False}, **ENGINE)
@pytest.mark.child_failure(name="echo-engine")
def test_an_engine_that_nobody_watches_is_never_replaced(experiment: Experiment) -> None:
    result = experiment.measure(availability=0.9, window="10s", traffic_back="12s", redundancy_back="20s")
    assert result.outcome == "failed", result.verdict
    assert result.kept("replicas")
    assert [event for event in result.events if "is still there, without" in event.text]


@pytest.mark.serve_cluster(app_args={"watched": True}, **ENGINE)
@pytest.mark.child_failure(name="echo-engine")
def test_an_engine_that_is_watched_costs_its_replica(experiment: Experiment) -> None:
    result = experiment.run(window="15s", availability=0.5, longest_outage="12s", persistent_availability=0.3)
    assert result.replaced("replica@victims")
    assert [event for event in result.events if "whose process was hit, is gone too" in event.text]


@pytest.mark.serve_cluster(app_args={"watched": True}, **ENGINE)
def test_an_engine_stands_still_and_goes_on(chaos: Chaos, traffic: MakeTraffic, serve_cluster: ServeCluster) -> None:
    before = {c.identity for c in serve_cluster.of("replica")}
    with traffic(), chaos.replica("Engine").child("echo-engine").freeze(for_="6s") as engine:
        engine.wait_healed()
        engine.wait_traffic_back("30s")
        engine.wait_redundancy_back("30s")
    assert {c.identity for c in serve_cluster.of("replica")} == before


def test_a_fault_of_the_test_itself(experiment: Experiment, chaos: Chaos, serve_cluster: ServeCluster) -> None:
    replica = serve_cluster.of("replica")[0]
    assert replica.pid is not None
    process = Path(f"/proc/{replica.pid}")
    fault = chaos.custom(
        inject=partial(os.kill, replica.pid, signal.SIGKILL),
        heal=lambda: None,
        evidence=lambda: None if process.exists() else f"{process} is not there",
        name="out_of_memory",
        victims=[replica],
    )
    result = experiment.sending(send_lag_limit=1.0).run(
        fault=fault, window="15s", availability=0.9, replaced=["replica@victims"], kept=["replica@others"]
    )
    assert result.passed
