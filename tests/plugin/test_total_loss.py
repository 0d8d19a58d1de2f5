"""The last replica, proxy, worker or node of an external cluster is broken only where the test says so."""

from __future__ import annotations

import pytest

from pytest_serve_chaos.cluster.capabilities import SEES_PROCESSES, Offer
from pytest_serve_chaos.events import ComponentGone, of_kind
from pytest_serve_chaos.history import History
from pytest_serve_chaos.testing import FakeBehaviour, FakeCluster
from tests.plugin.conftest import RunChaos
from tests.plugin.test_external import ONE, ExternalFake
from tests.plugin.test_proxy_location import CONFIG

TWO_REPLICAS = FakeBehaviour(replicas=2)
"""One on each worker."""


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        (
            "chaos.replica(on='worker-1').freeze()",
            "chaos.replica(on='worker-2').kill()",
            "no replica of sleepy_pid#SleepyPid but the one that is to be hit runs",
        ),
        (
            "chaos.replica(on='worker-1').freeze()",
            "chaos.worker('worker-2').stop()",
            "no replica of sleepy_pid#SleepyPid but what is on worker-2 runs",
        ),
        ("chaos.worker('worker-1').freeze()", "chaos.worker('worker-2').kill()", "no worker but worker-2 runs"),
        (
            "chaos.raylet('worker-1').freeze(must_land=False)",
            "chaos.worker('worker-2').kill()",
            "no worker but worker-2 runs",
        ),
        (
            "chaos.worker('worker-1').freeze()",
            "chaos.replica(on='worker-2').kill()",
            "no replica of sleepy_pid#SleepyPid but the one that is to be hit runs",
        ),
    ],
)
def test_what_is_lost_already_does_not_count_as_left(run_chaos: RunChaos, first: str, second: str, reason: str) -> None:
    source = f"""
        def test_it(chaos, traffic):
            with traffic():
                {first}
                {second}
            raise AssertionError("the last one was broken")
    """
    ran = run_chaos(source, "-rs", behaviour=TWO_REPLICAS, cluster=ExternalFake)

    ran.outcomes(skipped=1)
    ran.result.stdout.fnmatch_lines([f"SKIPPED * {reason}, so losing it leaves none (allow_total_loss=True*"])
    asked = [e for e in History.load(ran.directory / "history.jsonl").events if e.kind == "asked"]
    assert len(asked) == 1


@pytest.fixture
def head_only(pytester: pytest.Pytester) -> str:
    """The option for a Serve config with which only the head has a proxy."""
    pytester.path.joinpath("edge.yaml").write_text(CONFIG.format(location="HeadOnly"))
    return "--serve-chaos-app=edge.yaml"


def test_the_only_proxy_is_not_taken_in_whatever_way(run_chaos: RunChaos, head_only: str) -> None:
    source = """
        import pytest

        BY_HAND = {
            "the proxy": lambda chaos: chaos.proxy().kill(),
            "the proxy, frozen": lambda chaos: chaos.proxy().freeze(),
            "its node": lambda chaos: chaos.head.stop(),
            "its node, frozen": lambda chaos: chaos.head.freeze(),
            "the raylet above it": lambda chaos: chaos.raylet("head").kill(),
            "the GCS, and so its node": lambda chaos: chaos.gcs.kill(),
            "the controller that it hears": lambda chaos: chaos.controller.kill(replacement="new_actor"),
        }

        @pytest.mark.parametrize("how", BY_HAND)
        def test_by_hand(chaos, how):
            BY_HAND[how](chaos)
            raise AssertionError("it was broken")

        @pytest.mark.proxy_failure
        def test_by_marker(experiment):
            experiment.run()
    """
    ran = run_chaos(source, "-rs", head_only, cluster=ExternalFake)

    ran.outcomes(skipped=8)
    for place in ("the one that is to be hit", "what is on head"):
        ran.result.stdout.fnmatch_lines([f"SKIPPED * no proxy but {place} takes requests, so losing it leaves none (*"])
    ran.result.stdout.fnmatch_lines(["SKIPPED * one proxy runs, which may not hear a new controller*"])
    assert not [e for e in History.load(ran.directory / "history.jsonl").events if e.kind == "asked"]


def test_the_last_healthy_proxy_is_not_taken(run_chaos: RunChaos) -> None:
    source = """
        def test_it(chaos, traffic):
            with traffic():
                chaos.proxy(on="head").freeze(must_land=False)
                chaos.proxy(on="worker-1").freeze(must_land=False)
                chaos.proxy(on="worker-2").kill()
            raise AssertionError("the last one was broken")
    """
    ran = run_chaos(source, "-rs", cluster=ExternalFake)

    ran.outcomes(skipped=1)
    ran.result.stdout.fnmatch_lines(["SKIPPED * no proxy but the one that is to be hit takes requests, so losing it*"])
    assert len([e for e in History.load(ran.directory / "history.jsonl").events if e.kind == "asked"]) == 2


class PartlyUnseen(ExternalFake):
    """One in one of whose pods nothing can be run any more."""

    sees_processes = True

    def offers(self) -> tuple[Offer, ...]:
        """What it can do."""
        return (*super().offers(), SEES_PROCESSES.by(self))

    def unseen(self) -> tuple[str, ...]:
        """A worker's pod."""
        return ("pod ranker-worker has not reported its processes for 55 s",)


def test_nothing_is_broken_while_nobody_knows_what_would_be_left(run_chaos: RunChaos) -> None:
    source = """
        def test_it(chaos, traffic):
            with traffic():
                chaos.replica().kill()
    """
    ran = run_chaos(source, "-rs", cluster=PartlyUnseen)

    ran.outcomes(skipped=1)
    ran.result.stdout.fnmatch_lines(["SKIPPED * it is unknown what would be left: pod ranker-worker has not reported*"])


def test_the_only_proxy_is_taken_where_the_test_says_so(run_chaos: RunChaos, head_only: str) -> None:
    source = """
        import pytest

        def test_by_hand(chaos, serve_cluster):
            assert chaos.proxy().kill(allow_total_loss=True, must_land=False)

        @pytest.mark.proxy_failure(allow_total_loss=True)
        def test_by_marker(experiment):
            assert experiment.measure(availability=0.3, window="700ms").evidence
    """
    ran = run_chaos(source, head_only, cluster=ExternalFake)

    ran.outcomes(passed=2)


@pytest.mark.parametrize("cluster", [ExternalFake, FakeCluster])
def test_it_is_broken_by_hand_where_the_test_says_so(run_chaos: RunChaos, cluster: type[FakeCluster]) -> None:
    source = """
        def test_it(chaos, traffic):
            with traffic():
                assert chaos.replica().kill(allow_total_loss=True).landed
    """
    ran = run_chaos(source, behaviour=FakeBehaviour(replicas=1), cluster=cluster)

    ran.outcomes(passed=1)


@pytest.mark.parametrize("fault", ["replica_failure", "worker_failure(which='worker-1')"])
@pytest.mark.parametrize("cluster", [ExternalFake, FakeCluster])
def test_it_is_broken_by_a_marker_where_the_test_says_so(
    run_chaos: RunChaos, fault: str, cluster: type[FakeCluster]
) -> None:
    name, _, said = fault.rstrip(")").partition("(")
    source = f"""
        import pytest

        @pytest.mark.{name}({said and f"{said}, "}allow_total_loss=True)
        def test_it(experiment):
            result = experiment.measure(availability=0.3, window="700ms")
            assert result.evidence
    """
    ran = run_chaos(source, behaviour=FakeBehaviour(replicas=1), cluster=cluster)

    ran.outcomes(passed=1)


def test_the_post_recovery_check_replaces_no_only_replica(run_chaos: RunChaos) -> None:
    source = ONE.format(fault="controller_failure")
    ran = run_chaos(source, behaviour=FakeBehaviour(replicas=1), cluster=ExternalFake)

    ran.outcomes(inconclusive=1)
    ran.result.stdout.fnmatch_lines(
        ["*the post-recovery check cannot be judged: it replaces a replica of sleepy_pid#SleepyPid, and no other of*"]
    )
    gone = of_kind(ComponentGone, History.load(ran.directory / "history.jsonl").events)
    assert "replica" not in [event.component.role for event in gone]
