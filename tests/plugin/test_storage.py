"""Where the GCS keeps its state decides what the loss of the head costs."""

from __future__ import annotations

from pytest_serve_chaos.model import HEAD
from pytest_serve_chaos.testing import FakeBehaviour, FakeCluster, World
from tests.plugin.conftest import SOON_GIVEN_UP, RunChaos
from tests.plugin.test_verdicts import failed_with

LOST_HEAD = """
import pytest

@pytest.mark.serve_cluster(gcs="rocksdb")
@pytest.mark.head_failure
def test_head(experiment):
    experiment.run(window="1s", availability=None)
"""


def test_with_rocksdb_the_loss_of_the_head_keeps_the_workers(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        import pytest

        @pytest.mark.serve_cluster(gcs="rocksdb")
        @pytest.mark.head_failure
        def test_head(experiment):
            result = experiment.run()
            assert result.kept("worker")

        @pytest.mark.serve_cluster(env={"RAY_gcs_storage": "rocksdb"})
        def test_the_environment_says_it_too(serve_cluster):
            assert serve_cluster.spec.gcs == "rocksdb"
        """
    )

    ran.outcomes(passed=2)
    ran.result.stdout.fnmatch_lines(["*fake backend*head + 2 workers, rocksdb;*"])
    ran.result.stdout.no_fnmatch_line("*no GCS fault tolerance*")


class LosesItsDatabase(World):
    """The disk of the database goes with the head, so what comes back knows none of the workers."""

    def kill_node(self, node: str) -> None:
        """With the head, all."""
        with self.lock:
            for one in self.plan.node_names if node == HEAD else (node,):
                super().kill_node(one)


class Forgetful(FakeCluster):
    world_class = LosesItsDatabase


def test_a_database_that_goes_with_the_head_fails(run_chaos: RunChaos) -> None:
    ran = run_chaos(LOST_HEAD, cluster=Forgetful)

    failed_with(ran, "2 of 2 workers not kept", "4 of 4 replicas on workers not kept")


def test_a_head_that_is_not_lost_is_inconclusive(run_chaos: RunChaos) -> None:
    ran = run_chaos(LOST_HEAD, behaviour=FakeBehaviour(harmless=True, waits=SOON_GIVEN_UP.waits))

    ran.outcomes(inconclusive=1)
