"""The last replica, worker or node of an external cluster is broken only where the test says so."""

from __future__ import annotations

import pytest

from pytest_serve_chaos.events import ComponentGone, of_kind
from pytest_serve_chaos.history import History
from pytest_serve_chaos.testing import FakeBehaviour, FakeCluster
from tests.plugin.conftest import RunChaos
from tests.plugin.test_external import ONE, ExternalFake

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
