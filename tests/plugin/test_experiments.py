from __future__ import annotations

from typing import cast

import pytest

from pytest_serve_chaos import course
from pytest_serve_chaos.errors import Inconclusive
from pytest_serve_chaos.faults.injection import Injection
from pytest_serve_chaos.load import Traffic
from pytest_serve_chaos.model import Json
from pytest_serve_chaos.observe import handles
from tests.plugin.conftest import RunChaos


def test_an_experiment_needs_a_marker_and_a_line(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        import pytest

        @pytest.mark.head_failure
        def test_losing_the_head_costs_nothing(experiment):
            result = experiment.run(lost_beyond_in_flight=0, longest_outage="2s", availability=0.8, window="1s")
            assert result.replaced("head") and result.kept("replicas", on="workers")
        """
    )

    ran.outcomes(passed=1)
    (cluster,) = ran.backend.clusters
    assert cluster.closed


def test_every_fault_can_be_injected_and_judged(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        import pytest

        ACTORS = ["controller_failure", "replica_failure", "proxy_failure"]
        OTHERS = ["worker_failure", "node_failure", "gcs_failure", "redis_failure", "health_check_failure"]

        @pytest.mark.parametrize("kind", [pytest.param(k, marks=getattr(pytest.mark, k)) for k in ACTORS + OTHERS])
        def test_is_survived(experiment, kind):
            result = experiment.run(availability=0.7, window="700ms")
            assert result.passed
            assert len(result.evidence) >= 2
        """
    )

    ran.outcomes(passed=8)
    assert len(ran.backend.clusters) == 1


def test_freezing_keeps_and_killing_by_ray_replaces(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        import pytest

        @pytest.mark.controller_failure(how="freeze", for_="1s")
        def test_a_frozen_controller_is_kept(experiment):
            assert experiment.run(window="500ms").kept("controller")

        @pytest.mark.worker_failure(how="freeze", for_="1s")
        def test_a_frozen_worker_is_kept(experiment):
            assert experiment.run(window="500ms").kept("workers", "replicas")

        @pytest.mark.proxy_failure(by="ray", on="worker-1")
        def test_a_killed_proxy_is_replaced(experiment):
            assert experiment.run(availability=0.7, window="700ms").replaced("proxy", on="worker-1")
        """
    )

    ran.outcomes(passed=3)


def test_measuring_raises_nothing(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        import pytest

        @pytest.mark.serve_cluster(gcs="none", workers=2)
        @pytest.mark.head_failure
        def test_what_an_outage_costs_without_fault_tolerance(experiment):
            measured = experiment.measure(availability=0.999, window="500ms")
            assert measured.outcome == "inconclusive"
            measured = experiment.measure(availability=0.7, longest_outage="130ms", window="700ms")
            assert measured.outcome == "failed"
            assert 0 < measured.longest_outage < 90
            assert measured.replaced("workers")
        """
    )

    ran.outcomes(passed=1)
    experiments = ran.summary["experiments"]
    assert isinstance(experiments, list)
    name = "what_an_outage_costs_without_fault_tolerance"
    assert [e["experiment"] for e in experiments if isinstance(e, dict)] == [name, f"{name}-2"]


def test_what_is_judged_is_answered_before_the_post_recovery_check_kills_a_child(
    run_chaos: RunChaos, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    wait = Traffic.wait_answered

    def wait_answered(traffic: Traffic) -> None:
        wait(traffic)
        steps.append("answered")

    monkeypatch.setattr(course, "children_of", lambda _: {"app#Child": ("app#Parent",)})
    monkeypatch.setattr(Traffic, "wait_answered", wait_answered)
    monkeypatch.setattr(Injection, "wait_children_reached", lambda _: steps.append("killed"))
    ran = run_chaos(
        """
        import pytest

        @pytest.mark.replica_failure
        def test_it(experiment):
            experiment.run(availability=0.7, window="700ms")
        """
    )

    ran.outcomes(passed=1)
    assert steps == ["answered", "killed"]


def test_a_serve_that_does_not_say_who_holds_handles_leaves_the_verdict_open(
    run_chaos: RunChaos, monkeypatch: pytest.MonkeyPatch
) -> None:
    def untold(_: object) -> None:
        raise Inconclusive("it is not known whether handles hear the controller: no answer")

    monkeypatch.setattr(course, "children_of", untold)
    ran = run_chaos(
        """
        import pytest

        @pytest.mark.replica_failure
        def test_it(experiment):
            experiment.run(availability=0.7, window="700ms")
        """
    )

    ran.outcomes(inconclusive=1)
    (result,) = cast("list[dict[str, Json]]", ran.summary["experiments"])
    assert result["reasons"] == ["it is not known whether handles hear the controller: no answer"]


def test_handles_of_which_no_log_can_be_read_leave_the_verdict_open(
    run_chaos: RunChaos, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (course, handles):
        monkeypatch.setattr(module, "children_of", lambda _: {"sleepy_pid#SleepyPid": ("sleepy_pid#Parent",)})
    ran = run_chaos(
        """
        import pytest

        @pytest.mark.replica_failure
        def test_it(experiment):
            experiment.run(availability=0.7, window="700ms")

        @pytest.mark.replica_failure
        def test_without_that_demand(experiment):
            experiment.run(availability=0.7, window="700ms", settled=False)
        """
    )

    ran.outcomes(inconclusive=1, passed=1)
    ran.result.stdout.fnmatch_lines(["*this backend cannot read the request log of its replicas*settled=False*"])


def test_a_fault_without_demands_breaks_nothing_until_the_test_says_what_it_expects(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        import pytest

        @pytest.mark.redis_failure
        def test_it(experiment):
            experiment.run()
        """
    )

    assert ran.result.ret == pytest.ExitCode.TESTS_FAILED
    ran.result.stdout.fnmatch_lines(
        ["*nothing is demanded of the requests, so nothing can be passed: redis_failure has no such demand by default*"]
    )
    assert "inject:" not in ran.text


def test_a_freeze_that_so_few_requests_cannot_show_is_inconclusive_before_anything_is_broken(
    run_chaos: RunChaos,
) -> None:
    ran = run_chaos(
        """
        import pytest

        @pytest.mark.replica_failure(how="freeze", for_="1s")
        def test_it(experiment):
            experiment.run(longest_outage="3s")
        """
    )

    ran.result.stdout.fnmatch_lines(
        ["*INCONCLUSIVE*16 requests in 1 s cannot show that one of 4 replicas stands*Freeze it*"]
    )
    assert "inject:" not in ran.text
