"""Clusters that are really broken are caught, and what shows nothing is inconclusive."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from pytest_serve_chaos.analysis.result import Result
from pytest_serve_chaos.events import FaultLanded
from pytest_serve_chaos.experiment import Experiment
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.handle import ServeCluster
from pytest_serve_chaos.model import Json
from pytest_serve_chaos.suite.test_3_replicas import COMPOSED
from pytest_serve_chaos.traffic.request import Answer

SLEEPY = "sleepy_pid#SleepyPid"
ON_THE_HEAD: dict[str, Json] = {"num_cpus": 0, "resources": {"node:__internal_head__": 0.001}}

DEAF_TO_FLAGS: dict[str, Json] = {
    "name": "no_switch",
    "route_prefix": "/no_switch",
    "import_path": "tests.local.apps:no_switch",
}


BRIEFLY: dict[str, float | str | None] = {"window": "10s", "availability": None}
"""For what shows within a few seconds, or in something else than a share of requests."""


def reasons(result: Result) -> str:
    return "\n".join(result.reasons)


@pytest.mark.replica_failure
def test_the_only_replica_is_killed(experiment: Experiment, serve_cluster: ServeCluster) -> None:
    serve_cluster.update(SLEEPY, num_replicas=1)
    # Requests wait in the proxies for the next replica, which is there after 4 s: longer than they may.
    # That is seconds of an outage, so half a second more or less of the generator says nothing.
    result = experiment.sending(timeout=1.0, send_lag_limit=0.5).measure(longest_outage="500ms", **BRIEFLY)
    assert result.outcome == "failed"
    assert "outage" in reasons(result)
    assert result.longest_outage is not None
    assert result.longest_outage > 0.5


@pytest.mark.head_failure
def test_all_replicas_are_on_the_head_and_it_is_killed(experiment: Experiment, serve_cluster: ServeCluster) -> None:
    serve_cluster.update(SLEEPY, num_replicas=2, max_replicas_per_node=6, ray_actor_options=ON_THE_HEAD)
    assert {c.node for c in serve_cluster.of("replica")} == {"head"}
    result = experiment.measure(**BRIEFLY)
    assert result.outcome == "failed"
    assert result.longest_outage is not None
    assert result.longest_outage > 2.0


@pytest.mark.controller_failure(replacement="new_actor")
def test_proxies_are_deaf_after_the_controller_was_replaced(experiment: Experiment) -> None:
    result = experiment.measure(**BRIEFLY)
    assert result.outcome == "failed"
    assert "3 of 3 proxies do not hear" in reasons(result)
    assert result.lost == 0, "traffic shows nothing of it: only the post-recovery check does"


@pytest.mark.replica_failure
def test_an_app_answers_200_with_a_wrong_body(experiment: Experiment, serve_cluster: ServeCluster) -> None:
    right = {str(c.pid).encode() for c in serve_cluster.of("replica")}

    def check(answer: Answer) -> bool:
        return answer.body in right  # what the new replica answers is wrong

    result = experiment.sending(check=check).measure(lost_beyond_in_flight=0, availability=None)
    assert result.outcome == "failed"
    assert "lost beyond the" in reasons(result)
    assert {"WrongAnswer"} <= result.measurement.errors.keys() <= {"WrongAnswer", "HTTP 500"}


@pytest.mark.health_check_failure(deployment="no_switch#NoSwitch")
def test_a_fault_that_hits_nothing_is_inconclusive(experiment: Experiment, serve_cluster: ServeCluster) -> None:
    serve_cluster.deploy(DEAF_TO_FLAGS)
    result = experiment.measure()
    assert result.outcome == "inconclusive"
    assert "did not land" in reasons(result)


@pytest.mark.replica_failure(deployment="composed#Child")
def test_a_victim_that_served_nothing_is_inconclusive(experiment: Experiment, serve_cluster: ServeCluster) -> None:
    serve_cluster.deploy(COMPOSED)
    # Serve may start the new child on the node of the other one, which is a failure of its own.
    result = experiment.measure(spread=False, **BRIEFLY)
    assert result.outcome == "inconclusive"
    assert "served" in reasons(result) or "answered nothing" in reasons(result)


@pytest.mark.replica_failure
def test_too_few_requests_for_the_availability_are_inconclusive(
    experiment: Experiment, serve_cluster: ServeCluster
) -> None:
    before = serve_cluster.topology()
    result = experiment.measure(availability=0.9999, window="10s")
    assert result.outcome == "inconclusive"
    assert "30000" in reasons(result).replace(",", "")
    assert not result.evidence
    assert {c.identity for c in serve_cluster.topology().components} == {c.identity for c in before.components}


@pytest.fixture
def starved(_serve_chaos_rig: Rig) -> Iterator[None]:
    """Once the fault is injected, other threads of this process leave the generator little time."""
    stop = threading.Event()
    rig = _serve_chaos_rig

    def injected() -> bool:
        return rig.log.has(FaultLanded)

    def burn() -> None:
        while not stop.wait(0.05) and not injected():
            pass
        end = time.monotonic() + 6.0
        while time.monotonic() < end and not stop.is_set():
            sum(range(30_000_000))  # one call in C, so the interpreter's lock is held all along: 0.3 s or more

    threads = [threading.Thread(target=burn, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    yield
    stop.set()
    for thread in threads:
        thread.join()


@pytest.mark.replica_failure
def test_a_starved_generator_is_inconclusive(experiment: Experiment, starved: None) -> None:
    result = experiment.measure(**BRIEFLY)
    assert result.outcome == "inconclusive"
    assert "late" in reasons(result)
    assert result.measurement.send_lag_p99 > 0.1
