"""When a cluster is built, shared, rebuilt and ended."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest

from pytest_serve_chaos.analysis.configuration import Setup
from pytest_serve_chaos.cluster.base import ClusterSpec, Progress
from pytest_serve_chaos.errors import CommandFailed, ObservationError
from pytest_serve_chaos.locks import cluster_lock
from pytest_serve_chaos.run import Run
from pytest_serve_chaos.testing import FakeBackend, FakeBehaviour, FakeCluster
from pytest_serve_chaos.testing.capabilities import FakeRecords
from tests.plugin.conftest import RunChaos


def test_each_cluster_is_built_once(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        import pytest

        without = pytest.mark.serve_cluster(gcs="none")

        def test_a(serve_cluster): assert serve_cluster.spec.gcs == "redis"
        @without
        def test_b(serve_cluster): assert serve_cluster.spec.gcs == "none"
        def test_c(serve_cluster): pass
        @without
        def test_d(serve_cluster): pass
        def test_of_somebody_else(): pass
        """,
        "-v",
    )

    ran.outcomes(passed=5)
    assert re.findall(r"::test_(\w+) PASSED", ran.text) == ["of_somebody_else", "a", "c", "b", "d"]
    assert [cluster.spec.gcs for cluster in ran.backend.clusters] == ["redis", "none"]
    assert all(cluster.closed for cluster in ran.backend.clusters)


class CannotEnd(FakeCluster):
    """One that says so at its end."""

    def close(self) -> None:
        """Ends it all the same."""
        super().close()
        raise CommandFailed("the node n-1 is still cordoned", fix=["kubectl uncordon n-1"])


def test_a_run_whose_cluster_could_not_be_ended_is_not_green(run_chaos: RunChaos) -> None:
    ran = run_chaos("def test_it(serve_cluster): pass", cluster=CannotEnd)

    ran.outcomes(passed=1)
    ran.result.stdout.fnmatch_lines(["ERROR: the cluster could not be ended: the node n-1 is still cordoned"])
    ran.result.stdout.fnmatch_lines(["*kubectl uncordon n-1", "report: *"])
    assert ran.result.ret == pytest.ExitCode.TESTS_FAILED
    assert ran.summary["experiments"] == []


def test_settings_and_markers_make_the_cluster(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        import pytest

        @pytest.mark.serve_cluster(app="ranker:app", env={"A": "1"})
        def test_it(serve_cluster):
            spec = serve_cluster.spec
            assert (spec.app, spec.workers, spec.env) == ("ranker:app", 3, (("A", "1"),))
            assert len(serve_cluster.of("worker")) == 3
        """,
        "--serve-chaos-workers=3",
    )

    ran.outcomes(passed=1)


def test_a_spoilt_cluster_is_built_anew(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        import pytest

        @pytest.mark.replica_failure
        def test_spoils(experiment):
            assert experiment.measure(redundancy_back="1s", window="700ms", availability=0.7).outcome == "failed"

        def test_next(serve_cluster):
            assert not serve_cluster.missing()
        """,
        behaviour=FakeBehaviour(keeps_holes=True),
    )

    ran.outcomes(passed=2)
    ran.result.stdout.fnmatch_lines(["serve-chaos: the plugin rebuilds the cluster: redundancy is not back*"])
    assert len(ran.backend.clusters) == 2


class CountsStarts(FakeBackend):
    """One whose clusters never start."""

    starts = 0

    def pytest_serve_chaos_start_cluster(self, spec: ClusterSpec, directory: Path, progress: Progress) -> FakeCluster:
        """Counts the attempt."""
        self.starts += 1
        return super().pytest_serve_chaos_start_cluster(spec, directory, progress)


TWO_CLUSTERS = """
    import pytest

    def test_a(serve_cluster): pass
    def test_b(serve_cluster): pass

    @pytest.mark.serve_cluster(gcs="none")
    def test_other(serve_cluster): pass
"""


def test_a_cluster_that_does_not_start_is_tried_once(run_chaos: RunChaos) -> None:
    backend = CountsStarts(FakeBehaviour(start_error="no room for worker-2"))
    ran = run_chaos(TWO_CLUSTERS, "-rN", backend=backend)

    ran.outcomes(errors=3)
    assert backend.starts == 2, "once for each of the two clusters"
    assert ran.text.count("no room for worker-2") == 2, "and each time with its reason"
    why = "E *NotStartedAgain: the cluster that this test needs did not start for *::test_a, so it is not started*"
    ran.result.stdout.fnmatch_lines(["*ERROR at setup of test_b*", why])


def test_the_logs_of_a_cluster_that_does_not_start_are_named(run_chaos: RunChaos) -> None:
    ran = run_chaos("def test_a(serve_cluster): pass", behaviour=FakeBehaviour(start_error="no"))

    ran.outcomes(errors=1)
    ran.result.stdout.fnmatch_lines(["*= serve chaos =*", f"logs: {ran.directory}"])


def test_a_cluster_that_another_run_has_is_not_touched(run_chaos: RunChaos) -> None:
    kept = ("--serve-chaos-backend=kind", "--serve-chaos-keep")
    with cluster_lock("kind/serve-chaos"):
        ran = run_chaos("def test_a(serve_cluster): pass", *kept)
    ran.outcomes(errors=1)
    ran.result.stdout.fnmatch_lines(["*another run is using the cluster kind/serve-chaos*"])
    assert ran.backend.clusters == []

    again = run_chaos("def test_a(serve_cluster): pass", *kept)
    again.outcomes(passed=1)
    with cluster_lock("kind/serve-chaos"):
        pass


def test_the_same_seed_makes_the_same_choices(run_chaos: RunChaos) -> None:
    source = "def test_it(chaos):\n    for _ in range(6):\n        chaos.replica(), chaos.proxy(on=None)"

    def choices(*seed: str) -> list[str]:
        return re.findall(r"chose (.*) by the seed", run_chaos(source, *seed).text)

    assert choices("--serve-chaos-seed=1") == choices("--serve-chaos-seed=1")
    assert choices("--serve-chaos-seed=1") != choices("--serve-chaos-seed=2")


def test_a_seed_that_nobody_gave_is_printed(run_chaos: RunChaos) -> None:
    source = "def test_it(serve_cluster): pass"
    seeds = {re.findall(r"; seed (\d+)$", run_chaos(source, seed=None).text, re.M)[0] for _ in "ab"}

    assert len(seeds) == 2


@pytest.mark.parametrize("failure", [ObservationError("pods: timed out"), KeyboardInterrupt()], ids=["slow", "ctrl-c"])
def test_a_cluster_whose_setup_cannot_be_looked_at_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    cluster = FakeCluster(ClusterSpec())

    def setup(_: FakeRecords) -> Setup:
        assert "serve-chaos-look" in [thread.name for thread in threading.enumerate()]
        raise failure

    monkeypatch.setattr(FakeRecords, "setup", setup)
    run = Run(tmp_path, lambda *_: cluster, seed=1, progress=print)
    with pytest.raises(type(failure)):
        run.rig_for(cluster.spec)
    assert cluster.closed
    assert run.rig is None
    assert not {"serve-chaos-look", "serve-chaos-ask"} & {thread.name for thread in threading.enumerate()}
    run.close()


def test_ctrl_c_while_the_watcher_ends_does_not_keep_the_cluster_from_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = FakeCluster(ClusterSpec())
    run = Run(tmp_path, lambda *_: cluster, seed=1, progress=print)
    watcher = run.rig_for(cluster.spec).watcher
    stop = watcher.stop

    def interrupted() -> None:
        stop()
        raise KeyboardInterrupt

    monkeypatch.setattr(watcher, "stop", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run.close()
    assert cluster.closed
