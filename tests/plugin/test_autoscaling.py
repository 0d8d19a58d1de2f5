"""An app that Serve scales: what it scales to is no leak, what it scales from is no loss, and all else is."""

from __future__ import annotations

from typing import Literal

import pytest

from pytest_serve_chaos.testing import FakeBehaviour
from tests.plugin.conftest import RunChaos

MOST_REPLICAS = 6  # of a fake that is autoscaled


@pytest.mark.parametrize("when", ["with traffic", "with a fault"])
def test_an_app_that_scales_up_in_an_experiment_passes(
    run_chaos: RunChaos, when: Literal["with traffic", "with a fault"]
) -> None:
    ran = run_chaos(
        f"""
        import pytest

        @pytest.mark.replica_failure
        def test_it(experiment, serve_cluster):
            result = experiment.run(availability=0.9, window="2s")
            assert len(result.after.of("replica")) == {MOST_REPLICAS}

        @pytest.mark.replica_failure
        def test_the_next_one_has_the_same_cluster(experiment):
            experiment.run(availability=0.9, window="2s")
        """,
        behaviour=FakeBehaviour(autoscales=when),
    )

    ran.outcomes(passed=2)
    assert len(ran.backend.clusters) == 1, "it is as it was, though it has more replicas"


def test_what_serve_takes_away_in_an_experiment_is_not_lost(run_chaos: RunChaos) -> None:
    """Two replicas go with the fault because Serve wants fewer, in addition to the victim, which is replaced."""
    ran = run_chaos(
        """
        import pytest

        @pytest.mark.replica_failure
        def test_it(experiment):
            result = experiment.run(availability=0.9, window="2s")
            assert (len(result.before.of("replica")), len(result.after.of("replica"))) == (6, 4)
            assert result.scaling.stopped == {"sleepy_pid#SleepyPid": 2}

        @pytest.mark.replica_failure
        def test_the_next_one_has_the_same_cluster(experiment):
            experiment.run(availability=0.9, window="2s")
        """,
        behaviour=FakeBehaviour(autoscales="down with a fault"),
    )

    ran.outcomes(passed=2)
    assert len(ran.backend.clusters) == 1


@pytest.mark.parametrize("when", ["with a fault", "down with a fault"])
def test_a_replica_that_nobody_scaled_away_is_lost(
    run_chaos: RunChaos, when: Literal["with a fault", "down with a fault"]
) -> None:
    """Two more die with the victim: that Serve scales their deployment, perhaps down by two, excuses not all of it."""
    ran = run_chaos(
        """
        import pytest

        @pytest.mark.replica_failure
        def test_it(experiment):
            experiment.run(availability=0.9, window="2s")
        """,
        behaviour=FakeBehaviour(autoscales=when, takes_along=2),
    )

    ran.outcomes(failed=1)
    ran.result.stdout.re_match_lines([r".*replicas not among the victims not kept: replica sleepy_pid#SleepyPid on .*"])


def test_a_fault_without_effect_is_inconclusive_though_serve_scales(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        import pytest

        @pytest.mark.replica_failure
        def test_it(experiment):
            result = experiment.measure(availability=0.9, window="2s")
            assert result.outcome == "inconclusive"
        """,
        behaviour=FakeBehaviour(autoscales="down with a fault", harmless=True),
    )

    ran.outcomes(passed=1)


def test_by_hand_what_serve_takes_away_is_not_lost_either(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        import pytest

        @pytest.mark.replica_failure
        def test_it(chaos, traffic):
            with traffic():
                victim = chaos.replica().kill()
                victim.wait_redundancy_back()
            assert victim.replaced("replica@victims")
            assert victim.kept("replica@others", "proxies", "controller")
        """,
        behaviour=FakeBehaviour(autoscales="down with a fault"),
    )

    ran.outcomes(passed=1)


def test_an_app_that_is_scaled_to_zero_is_started_by_the_traffic(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        import pytest

        @pytest.mark.replica_failure
        def test_it(experiment, serve_cluster):
            assert serve_cluster.of("replica") == ()
            result = experiment.run(availability=0.5, window="2s", longest_outage=None)
            assert (len(result.before.of("replica")), len(result.after.of("replica"))) == (2, 2)
        """,
        behaviour=FakeBehaviour(replicas=0, autoscales="with traffic"),
    )

    ran.outcomes(passed=1)
