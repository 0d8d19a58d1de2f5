"""Faults on real kind that the suite does not have: long outages, a raylet, a stuck upgrade, one of the test's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_serve_chaos import RequestKind
from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.experiment import Experiment
from pytest_serve_chaos.faults.chaos import Chaos
from pytest_serve_chaos.fixtures import MakeTraffic
from pytest_serve_chaos.handle import ServeCluster
from pytest_serve_chaos.suite.on_kubernetes import DEAD_PROXY, DELETED_WORKER
from tests.kind.needs import needs_kind, run

pytestmark = needs_kind

FIRST_POD = "jsonpath={.items[0].metadata.name} {.items[0].metadata.uid}"


@pytest.mark.raylet_failure(on="worker-1")
def test_a_raylet_takes_its_container_along(experiment: Experiment) -> None:
    result = experiment.run(**DELETED_WORKER)
    assert result.replaced("raylet", on="worker-1")
    assert result.kept("raylets", "replicas", on="others")


@pytest.mark.head_failure(hold=True, for_="30s")
def test_a_head_that_is_away_for_half_a_minute(experiment: Experiment) -> None:
    # When all nodes turn to the new GCS, requests hang for some seconds (docs/ray-and-kubernetes.md).
    result = experiment.run(availability=0.8, longest_outage="12s")
    assert result.replaced("head")
    assert result.kept("replicas", on="workers")
    assert result.measurement.redundancy_back is not None
    assert result.measurement.redundancy_back > 30


@pytest.mark.proxy_failure(on="worker-2")
def test_requests_of_two_kinds_are_judged_by_themselves(experiment: Experiment) -> None:
    kinds = [RequestKind(name="read", weight=3), RequestKind(name="write", method="POST", body={"n": "${n}"})]
    result = experiment.sending(requests=kinds).run(**DEAD_PROXY)
    assert {part.of.name for part in result.parts} == {"read", "write"}
    read, write = (part.measurement.sent or 0 for part in result.parts)
    assert 2 < max(read, write) / min(read, write) < 4.5


def test_a_fault_of_the_test_itself(
    experiment: Experiment, chaos: Chaos, serve_cluster: ServeCluster, tmp_path: Path
) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(
        run("kind", "get", "kubeconfig", "--name", str(serve_cluster.description.details["kind cluster"]))
    )
    kubectl = ("kubectl", "--kubeconfig", str(kubeconfig), "--namespace", names.NAMESPACE)
    name, uid = run(*kubectl, "get", "pods", "-l", "ray.io/node-type=worker", "-o", FIRST_POD).split()
    victim = next(c for c in serve_cluster.of("worker") if uid in c.identity.parts)

    def evidence() -> str | None:
        there = run(*kubectl, "get", "pods", "-o", "name").split()
        return None if f"pod/{name}" in there else f"pod {name} is not there"

    fault = chaos.custom(
        inject=lambda: run(*kubectl, "delete", "pod", name, "--grace-period=0", "--force"),
        heal=lambda: None,
        evidence=evidence,
        name="pod_deleted_by_hand",
        victims=[victim],
    )
    kept = ["head", "worker@others"]
    assert experiment.run(fault=fault, replaced=["worker@victims"], kept=kept, **DELETED_WORKER).passed


@pytest.mark.serve_cluster(app="docs.examples.engine.app:engine", app_args={"watched": True})
@pytest.mark.child_failure(name="echo-engine")
def test_an_engine_that_its_replica_watches_costs_the_replica(experiment: Experiment) -> None:
    result = experiment.run(window="15s", availability=0.5, longest_outage="12s", persistent_availability=0.3)
    assert result.replaced("replica@victims")


def test_a_replica_is_lost_in_the_middle_of_an_update(
    chaos: Chaos, traffic: MakeTraffic, serve_cluster: ServeCluster
) -> None:
    with traffic() as requests, chaos.app().update() as update:
        killed = chaos.replica().kill()
        update.wait_redundancy_back("180s")
        killed.wait_redundancy_back("30s")
        requests.assert_available(0.98)
        assert update.replaced("replicas")
    assert not serve_cluster.missing()


@pytest.mark.rayservice_upgrade(bad="never_ready")
def test_the_running_cluster_serves_on_while_its_successor_never_gets_ready(experiment: Experiment) -> None:
    result = experiment.sending(send_lag_limit=1.0, timeout=20.0).run(slow_after="5s", longest_outage="5s")
    assert result.kept("head", "workers", "replicas")
