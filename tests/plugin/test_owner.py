"""The owner of an external cluster changes it in the middle of a run."""

from __future__ import annotations

from typing import ClassVar

import pytest

from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.errors import Unsupported
from pytest_serve_chaos.events import ComponentGone, of_kind
from pytest_serve_chaos.history import History
from pytest_serve_chaos.testing import FakeBehaviour
from tests.plugin.conftest import RunChaos
from tests.plugin.test_external import ONE, ExternalFake, OnRecord

UPGRADED = "RayCluster ranker-fghij serves for RayService ranker now, and no longer ranker-abcde"


class ChangedBefore(ExternalFake):
    """The first of them is changed before anything is broken."""

    made: ClassVar[int] = 0

    def __init__(self, spec: ClusterSpec, behaviour: FakeBehaviour | None = None) -> None:
        super().__init__(spec, behaviour)
        type(self).made += 1
        self.changed = UPGRADED if type(self).made == 1 else ""


class ChangedMeanwhile(ChangedBefore):
    """The first of them is changed as soon as something is broken."""

    def owner_change(self) -> str:
        """Nothing before the fault."""
        return super().owner_change() if self.world.struck is not None else ""


class NobodyCanLook(ExternalFake):
    """One whose API server says nothing of the RayService."""

    changed = None


class CannotBeHadAgain(ChangedBefore):
    """Its owner has changed its spec, too."""

    def __init__(self, spec: ClusterSpec, behaviour: FakeBehaviour | None = None) -> None:
        if type(self).made:
            raise Unsupported("the test wants workers=2 and not 3, and the plugin does not change RayService ranker")
        super().__init__(spec, behaviour)


@pytest.fixture(autouse=True)
def none_made() -> None:
    """Each test counts its own."""
    for kind in (ChangedBefore, ChangedMeanwhile, CannotBeHadAgain):
        kind.made = 0


TWICE = """
    import pytest

    @pytest.mark.replica_failure
    def test_first(experiment):
        experiment.run(availability=0.7, window="700ms")

    @pytest.mark.replica_failure
    def test_second(experiment):
        experiment.run(availability=0.7, window="700ms")
"""


@pytest.mark.parametrize("cluster", [ChangedBefore, ChangedMeanwhile])
def test_it_is_inconclusive_and_the_next_test_connects_anew(run_chaos: RunChaos, cluster: type[ChangedBefore]) -> None:
    ran = run_chaos(TWICE, cluster=cluster)

    ran.outcomes(inconclusive=1, passed=1)
    ran.result.stdout.fnmatch_lines([f"*the plugin reconnects to the cluster: its owner changed it: {UPGRADED}"])
    ran.result.stdout.fnmatch_lines([f"*inconclusive: its owner changed it: {UPGRADED}*"])
    assert len(ran.backend.clusters) == 2


def test_nothing_is_broken_of_what_its_owner_has_changed(run_chaos: RunChaos) -> None:
    ran = run_chaos(ONE.format(fault="replica_failure"), cluster=ChangedBefore)

    ran.outcomes(inconclusive=1)
    events = History.load(ran.directory / "history.jsonl").events
    assert not [e for e in events if e.kind in ("asked", "gone")]


def test_the_post_recovery_check_replaces_nothing_then(run_chaos: RunChaos) -> None:
    ran = run_chaos(ONE.format(fault="controller_failure"), cluster=ChangedMeanwhile)

    ran.outcomes(inconclusive=1)
    gone = of_kind(ComponentGone, History.load(ran.directory / "history.jsonl").events)
    assert [event.component.role for event in gone] == ["controller"]


class ChangedThenOnRecord(ChangedMeanwhile, OnRecord):
    """One whose proxies are put on record before its controller is killed for good."""


def test_neither_proxies_nor_replicas_are_replaced_then_and_proxies_stay_on_record(run_chaos: RunChaos) -> None:
    source = """
        def test_it(chaos, serve_cluster):
            chaos.controller.kill(replacement="new_actor")
    """
    ran = run_chaos(source, behaviour=FakeBehaviour(stale_proxies=True), cluster=ChangedThenOnRecord)

    gone = of_kind(ComponentGone, History.load(ran.directory / "history.jsonl").events)
    assert [event.component.role for event in gone] == ["controller"]
    ran.result.stdout.fnmatch_lines([f"*not healed: its owner changed it: {UPGRADED}, so the plugin leaves it alone"])
    first = ran.backend.clusters[0]
    assert isinstance(first, ChangedThenOnRecord)
    assert [what for what, _, _ in first.noted] == ["on record"]


BY_HAND = """
    def test_it(chaos, traffic):
        with traffic() as requests:
            injection = chaos.replica().kill()
            {then}
"""


@pytest.mark.parametrize(
    "then",
    [
        "requests.assert_available(0.1)",
        "injection.wait_settled()",
        "chaos.replica().kill()",
        "assert injection.kept('replica')",
    ],
)
def test_by_hand_it_is_inconclusive_too(run_chaos: RunChaos, then: str) -> None:
    ran = run_chaos(BY_HAND.format(then=then), cluster=ChangedMeanwhile)

    ran.outcomes(inconclusive=1)
    ran.result.stdout.fnmatch_lines([f"*its owner changed it: {UPGRADED}*"])


def test_what_nobody_can_look_at_is_not_broken(run_chaos: RunChaos) -> None:
    ran = run_chaos(ONE.format(fault="replica_failure"), cluster=NobodyCanLook)

    ran.outcomes(inconclusive=1)
    ran.result.stdout.fnmatch_lines(["*it is unknown whether its owner changed it: RayService ranker: status 503*"])
    assert not [e for e in History.load(ran.directory / "history.jsonl").events if e.kind in ("asked", "gone")]


def test_later_tests_are_errors_in_one_line_where_it_cannot_be_had_again(run_chaos: RunChaos) -> None:
    ran = run_chaos(f"{TWICE}\n    test_third = test_second", cluster=CannotBeHadAgain)

    ran.outcomes(inconclusive=1, errors=2)
    ran.result.stdout.fnmatch_lines(
        [
            "*earlier tests of this run had that cluster, so its owner changed it*",
            "*the cluster that this test needs did not start for *test_second*, so it is not started again*",
        ]
    )


def test_an_api_server_that_is_away_for_a_moment_costs_no_connection(run_chaos: RunChaos) -> None:
    ran = run_chaos(TWICE, cluster=NobodyCanLook)

    ran.outcomes(inconclusive=2)
    assert len(ran.backend.clusters) == 1
