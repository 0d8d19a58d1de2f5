"""Faults on the machine under a node: with machines, and where there are none."""

from __future__ import annotations

import pytest

from pytest_serve_chaos.testing import FakeKubernetesCluster
from tests.plugin.conftest import RunChaos

SHORT = 'availability=0.5, window="500ms", longest_outage=None'


def one(marker: str, demands: str = SHORT) -> str:
    return f"""
        import pytest

        @pytest.mark.{marker}
        def test_it(experiment):
            experiment.run({demands})
    """


@pytest.mark.parametrize(
    ("how", "back"), [("kill", "revive"), ("stop", "revive"), ("delete", "register"), ("drain", "reopen")]
)
def test_a_machine_is_taken_away_and_given_back(run_chaos: RunChaos, how: str, back: str) -> None:
    ran = run_chaos(one(f'node_failure(how="{how}", which="worker-1")'), cluster=FakeKubernetesCluster)

    ran.outcomes(passed=1)
    (cluster,) = ran.backend.clusters
    assert isinstance(cluster, FakeKubernetesCluster)
    assert cluster.machines.calls == [f"{how} worker-1", f"{back} worker-1"]


def test_no_experiment_finds_the_connections_that_an_earlier_one_has_lost(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        f"""
        import pytest

        @pytest.mark.node_failure(which="worker-1")
        def test_it(experiment, serve_cluster):
            experiment.run({SHORT})
            assert serve_cluster.backend.machines.forgotten
        """,
        cluster=FakeKubernetesCluster,
    )

    ran.outcomes(passed=1)


def test_a_machine_is_frozen_and_let_go_on(run_chaos: RunChaos) -> None:
    freeze = 'node_failure(how="freeze", for_="1s", which="worker-1")'
    ran = run_chaos(one(freeze, 'window="500ms"'), cluster=FakeKubernetesCluster)

    ran.outcomes(passed=1)
    (cluster,) = ran.backend.clusters
    assert isinstance(cluster, FakeKubernetesCluster)
    assert cluster.machines.calls == ["freeze worker-1", "thaw worker-1"]


def test_the_machine_under_the_head_takes_the_head_along(run_chaos: RunChaos) -> None:
    ran = run_chaos(one('node_failure(which="head")'), cluster=FakeKubernetesCluster)

    ran.outcomes(passed=1)
    (cluster,) = ran.backend.clusters
    assert isinstance(cluster, FakeKubernetesCluster)
    assert cluster.machines.calls == ["kill head", "revive head"]


def test_a_deleted_node_that_comes_back_before_its_pods_are_gone_shows_nothing(run_chaos: RunChaos) -> None:
    ran = run_chaos(one('node_failure(how="delete", for_="200ms", which="worker-1")'), cluster=FakeKubernetesCluster)

    ran.outcomes(inconclusive=1)
    ran.result.stdout.fnmatch_lines(["*the fault did not land*"])
    (cluster,) = ran.backend.clusters
    assert isinstance(cluster, FakeKubernetesCluster)
    assert cluster.machines.calls[:2] == ["delete worker-1", "register worker-1"]


def test_a_deleted_node_that_comes_back_after_that_is_a_fault(run_chaos: RunChaos) -> None:
    ran = run_chaos(one('node_failure(how="delete", for_="1s", which="worker-1")'), cluster=FakeKubernetesCluster)

    ran.outcomes(passed=1)


@pytest.mark.parametrize("how", ["delete", "drain"])
def test_without_kubernetes_nodes_none_is_deleted_or_drained(run_chaos: RunChaos, how: str) -> None:
    ran = run_chaos(one(f'node_failure(how="{how}")'), "-rs")

    ran.outcomes(skipped=1)
    ran.result.stdout.fnmatch_lines([f"*the fake backend cannot {how} a Kubernetes node*"])


def test_without_machines_the_ray_node_itself_stays_away(run_chaos: RunChaos) -> None:
    ran = run_chaos(one('node_failure(which="worker-1")'))

    ran.outcomes(passed=1)
    assert "SIGKILL to all processes of worker-1, and it stays down" in ran.text
