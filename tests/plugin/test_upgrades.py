"""An upgrade of a RayService under traffic: with KubeRay, and where there is none."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.kubernetes.client.records import listed, mapped
from pytest_serve_chaos.errors import Unsupported, WaitTimeout
from pytest_serve_chaos.model import Evidence
from pytest_serve_chaos.testing import FakeBehaviour, FakeKubernetesCluster, FakeUpgrades
from tests.plugin.conftest import SOON_GIVEN_UP, RunChaos


class _WithoutRoom(FakeUpgrades):
    def upgrade(self) -> Sequence[Evidence]:
        """Waits in vain."""
        raise WaitTimeout("a new RayCluster to take over", timeout=300.0, last_seen="3 pods are Pending")


class _Stays(FakeUpgrades):
    def upgrade(self) -> Sequence[Evidence]:
        """Refuses."""
        raise Unsupported("the RayService's upgradeStrategy is None")


class _DidNotSwitch(FakeUpgrades):
    def serving(self) -> str:
        """Always the same."""
        return "fake-0"


class FakeRayServiceWithoutRoom(FakeKubernetesCluster):
    """The second cluster never runs."""

    def __init__(self, spec: ClusterSpec, behaviour: FakeBehaviour | None = None) -> None:
        super().__init__(spec, behaviour)
        self.upgrades = _WithoutRoom(self.world)


class FakeRayServiceThatStays(FakeKubernetesCluster):
    """Its owner wants no second cluster."""

    def __init__(self, spec: ClusterSpec, behaviour: FakeBehaviour | None = None) -> None:
        super().__init__(spec, behaviour)
        self.upgrades = _Stays(self.world)


class FakeRayServiceThatDidNotSwitch(FakeKubernetesCluster):
    """All is new, and traffic still goes to the old cluster, if KubeRay is to be believed."""

    def __init__(self, spec: ClusterSpec, behaviour: FakeBehaviour | None = None) -> None:
        super().__init__(spec, behaviour)
        self.upgrades = _DidNotSwitch(self.world)


UPGRADE = """
    import pytest

    @pytest.mark.rayservice_upgrade
    def test_it(experiment):
        result = experiment.run(availability=0.5, window="500ms")
        assert result.replaced("head") and result.replaced("replicas") and not result.kept("worker")
"""

TWO = """
    import pytest

    @pytest.mark.rayservice_upgrade
    def test_upgraded(experiment):
        assert not experiment.measure(availability=0.5, window="500ms").passed

    def test_another(serve_cluster):
        assert not serve_cluster.missing()
"""


def test_all_is_replaced_and_no_request_is_lost(run_chaos: RunChaos) -> None:
    ran = run_chaos(UPGRADE, cluster=FakeKubernetesCluster)

    ran.outcomes(passed=1)
    (experiment,) = listed(ran.summary["experiments"])
    assert {sign["side"] for sign in listed(experiment["evidence"])} == {"victim", "cluster"}
    assert mapped(experiment["measurement"])["lost_beyond_in_flight"] == 0


def test_what_is_upgraded_stays_so_and_is_used_again(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        def test_by_hand(chaos, traffic):
            with traffic() as requests, chaos.rayservice.upgrade() as upgrade:
                upgrade.wait_redundancy_back("20s")
                upgrade.wait_settled()
            assert upgrade.replaced("workers", "controller", "proxies") and upgrade.kept("redis")

        def test_another(serve_cluster):
            assert not serve_cluster.missing()
        """,
        cluster=FakeKubernetesCluster,
    )

    ran.outcomes(passed=2)
    (cluster,) = ran.backend.clusters
    assert isinstance(cluster, FakeKubernetesCluster)
    assert cluster.upgrades.done == 1


def test_without_kuberay_it_is_skipped_and_says_why(run_chaos: RunChaos) -> None:
    ran = run_chaos(UPGRADE, "-rs")

    ran.outcomes(skipped=1)
    ran.result.stdout.fnmatch_lines(["*the fake backend cannot upgrade a RayService, which takes KubeRay*"])
    assert ran.summary["experiments"] == [], "nothing was tried, so it has no row"


def test_a_rayservice_that_wants_no_second_cluster_is_left_as_it_is(run_chaos: RunChaos) -> None:
    ran = run_chaos(TWO, "-rs", cluster=FakeRayServiceThatStays)

    ran.outcomes(skipped=1, passed=1)
    ran.result.stdout.fnmatch_lines(["*upgradeStrategy is None*"])
    assert len(ran.backend.clusters) == 1


def test_an_upgrade_that_does_not_end_shows_nothing_and_costs_the_cluster(run_chaos: RunChaos) -> None:
    ran = run_chaos(TWO, cluster=FakeRayServiceWithoutRoom)

    ran.outcomes(passed=2)
    assert "waited 300 s for a new RayCluster to take over; last seen: 3 pods are Pending" in ran.text
    (experiment,) = listed(ran.summary["experiments"])
    assert experiment["verdict"] == "inconclusive"
    assert len(ran.backend.clusters) == 2, "a half-done upgrade is nothing to test on"


def test_new_pods_alone_are_no_upgrade(run_chaos: RunChaos) -> None:
    ran = run_chaos(UPGRADE, behaviour=SOON_GIVEN_UP, cluster=FakeRayServiceThatDidNotSwitch)

    ran.outcomes(inconclusive=1)
    ran.result.stdout.fnmatch_lines(["*the fault did not land*the old pods have ended*"])
