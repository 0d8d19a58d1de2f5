"""A cluster that outlives its run is vouched for only when it is known to be as it was at first."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_serve_chaos import restore
from pytest_serve_chaos.cluster.capabilities import OUTLIVES_RUNS, Offer
from pytest_serve_chaos.testing import FakeBehaviour, FakeCluster
from tests.plugin.conftest import RunChaos
from tests.plugin.test_interrupt import interrupted


class Stays(FakeCluster):
    """Says in its log whether somebody vouched for it before it was closed."""

    vouched = False

    def offers(self) -> tuple[Offer, ...]:
        """What it can do."""
        return (
            *super().offers(),
            OUTLIVES_RUNS.by(self),
        )

    def vouch(self) -> None:
        """Somebody did."""
        assert not self.closed
        self.vouched = True


def vouched(ran_clusters: list[FakeCluster]) -> list[bool]:
    return [cluster.vouched for cluster in ran_clusters if isinstance(cluster, Stays)]


KILL = """
def test_it(chaos):
    chaos.replica().kill()
"""


def test_a_cluster_that_has_its_first_shape_again_is_vouched_for(run_chaos: RunChaos) -> None:
    ran = run_chaos(KILL, cluster=Stays)
    ran.outcomes(passed=1)
    assert vouched(ran.backend.clusters) == [True]


def test_a_cluster_that_is_spoilt_is_not(run_chaos: RunChaos, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restore, "SHAPE_WITHIN", 1.0)
    ran = run_chaos(KILL, behaviour=FakeBehaviour(keeps_holes=True), cluster=Stays)
    ran.outcomes(passed=1)
    assert vouched(ran.backend.clusters) == [False]


def test_the_cluster_that_is_kept_is_that_of_tests_which_ask_for_nothing(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        import pytest

        def test_a(serve_cluster): pass
        @pytest.mark.serve_cluster(gcs="none")
        def test_b(serve_cluster): pass
        """,
        "--serve-chaos-backend=kind",
        "--serve-chaos-keep",
    )
    ran.outcomes(passed=2)
    assert [cluster.spec.gcs for cluster in ran.backend.clusters] == ["none", "redis"]


CONFTEST = """
from pathlib import Path
from pytest_serve_chaos.testing import FakeBehaviour
from tests.plugin.test_reuse import Stays

class Noted(Stays):
    def close(self):
        super().close()
        Path("vouched" if self.vouched else "closed").touch()

def pytest_serve_chaos_start_cluster(spec):
    return Noted(spec, FakeBehaviour(keeps_holes=True))
"""


@pytest.mark.usefixtures("fake_is_importable")
def test_a_cluster_in_whose_midst_a_run_was_interrupted_is_not(pytester: pytest.Pytester) -> None:
    run = interrupted(pytester, CONFTEST)
    assert run.status == pytest.ExitCode.INTERRUPTED, run.output
    assert [path.name for path in Path.cwd().iterdir() if path.name in ("vouched", "closed")] == ["closed"]
