"""Updates of an app in place: good ones, bad ones, and clusters that do not survive a bad one."""

from __future__ import annotations

from typing import Literal

import pytest

from pytest_serve_chaos.cluster.capabilities import SHOWS_CONTROLLER_LOG
from pytest_serve_chaos.cluster.kubernetes.client.records import listed, mapped
from pytest_serve_chaos.testing import FakeBehaviour
from tests.plugin.conftest import RunChaos

KINDS = """
    import pytest

    @pytest.mark.app_update
    def test_code(experiment):
        result = experiment.run(window="500ms", availability=0.5)
        assert result.replaced("replica") and result.kept("controller", "proxy")

    @pytest.mark.app_update(change="user_config")
    def test_user_config(experiment):
        assert experiment.run(window="500ms", availability=0.5).kept("replica")

    @pytest.mark.app_update(change="options", to={"max_ongoing_requests": 9})
    def test_options(experiment):
        assert experiment.run(window="500ms", availability=0.5).kept("replica")

    @pytest.mark.app_update(change="num_replicas")
    def test_num_replicas(experiment):
        experiment.run(window="500ms", availability=0.5)
"""

LENIENT = 'availability=None, longest_outage=None, traffic_back="60s"'
"""Of a machine that is busy with other things."""

BAD = """
    import pytest

    @pytest.mark.parametrize("bad", [pytest.param(b, marks=pytest.mark.app_update(bad=b, for_="2s"))
                                     for b in ("constructor", "health_check")])
    def test_bad(experiment, bad):
        experiment.run(availability=0.5, window="3s", longest_outage="5s")
"""

ANSWERS = """
    import pytest

    @pytest.mark.app_update(bad="answers", for_="1s")
    def test_answers(experiment):
        result = experiment.run(window="2s")
        assert result.measurement.lost
"""


def test_each_kind_of_update_lands_completes_and_is_taken_back(run_chaos: RunChaos) -> None:
    ran = run_chaos(KINDS + "\n    def test_another(serve_cluster):\n        assert not serve_cluster.missing()\n")

    ran.outcomes(passed=5)
    assert len(ran.backend.clusters) == 1, "the first config runs again after each"
    for experiment in listed(ran.summary["experiments"]):
        assert {sign["side"] for sign in listed(experiment["evidence"])} == {"victim", "cluster"}


def test_old_replicas_survive_an_update_that_never_works(run_chaos: RunChaos) -> None:
    ran = run_chaos(BAD)

    ran.outcomes(passed=2)
    assert "3 of 4 old replicas were left" in ran.text
    assert len(ran.backend.clusters) == 1


@pytest.mark.parametrize(
    "keywords",
    ["", 'change="user_config"', 'change="options", to={"max_ongoing_requests": 9}', 'bad="health_check", for_="2s"'],
)
@pytest.mark.parametrize("when", ["with a fault", "down with a fault"])
def test_an_update_of_an_app_that_serve_scales_meanwhile_passes(
    run_chaos: RunChaos, when: Literal["with a fault", "down with a fault"], keywords: str
) -> None:
    """What Serve stops because it wants fewer is neither replaced nor a casualty of the update."""
    ran = run_chaos(
        f"""
        import pytest

        @pytest.mark.app_update({keywords})
        def test_it(experiment):
            experiment.run(window="1s", {LENIENT})

        def test_another(serve_cluster):
            assert not serve_cluster.missing()
        """,
        behaviour=FakeBehaviour(autoscales=when),
    )

    ran.outcomes(passed=2)
    assert len(ran.backend.clusters) == 1


@pytest.mark.parametrize("bad", ["constructor", "health_check"])
def test_that_serve_scales_excuses_no_more_old_replicas_than_it_stopped(run_chaos: RunChaos, bad: str) -> None:
    ran = run_chaos(
        f"""
        import pytest

        @pytest.mark.app_update(bad="{bad}", for_="3s")
        def test_bad(experiment):
            experiment.run(availability=None, lost_beyond_in_flight=None, longest_outage="60s", window="3s")
        """,
        behaviour=FakeBehaviour(eats_old=True, autoscales="down with a fault"),
    )

    ran.outcomes(failed=1)
    ran.result.stdout.fnmatch_lines(
        ["*replicas of before the fault are left*of those that Serve did not scale away (2)*"]
    )


def test_a_new_version_may_have_another_number_of_replicas(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        import pytest

        TO = {"args": {"a": 1}, "deployments": [{"name": "SleepyPid", "num_replicas": 2}]}

        @pytest.mark.app_update(to=TO)
        def test_fewer(experiment, serve_cluster):
            result = experiment.run(window="500ms", availability=0.5)
            assert (len(result.before.of("replica")), len(result.after.of("replica"))) == (4, 2)

        def test_another(serve_cluster):
            assert len(serve_cluster.of("replica")) == 4
        """
    )

    ran.outcomes(passed=2)
    assert len(ran.backend.clusters) == 1


def test_answers_that_are_errors_are_measured_until_the_update_is_taken_back(run_chaos: RunChaos) -> None:
    ran = run_chaos(ANSWERS)

    ran.outcomes(passed=1)
    (experiment,) = listed(ran.summary["experiments"])
    assert mapped(experiment["measurement"])["errors"] == {"HTTP 500": mapped(experiment["measurement"])["lost"]}


@pytest.mark.parametrize("bad", ["constructor", "health_check"])
def test_a_cluster_that_replaces_all_old_replicas_by_broken_ones_fails(run_chaos: RunChaos, bad: str) -> None:
    ran = run_chaos(
        f"""
        import pytest

        @pytest.mark.app_update(bad="{bad}", for_="3s")
        def test_bad(experiment):
            experiment.run(availability=None, lost_beyond_in_flight=None, longest_outage="60s", window="3s")
        """,
        behaviour=FakeBehaviour(eats_old=True),
    )

    ran.outcomes(failed=1)
    ran.result.stdout.fnmatch_lines(["*replicas of before the fault are left*"])


def test_an_update_that_cannot_be_taken_back_fails_and_costs_the_cluster(
    run_chaos: RunChaos, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pytest_serve_chaos.faults.app_update._TAKEN_BACK_WITHIN", 2.0)
    monkeypatch.setattr("pytest_serve_chaos.recovery.HEALS_WITHIN", 5.0)
    ran = run_chaos(
        """
        import pytest

        @pytest.mark.app_update(bad="constructor", for_="1s")
        def test_bad(experiment):
            experiment.run(availability=0.5, window="1s", redundancy_back="5s")

        def test_another(serve_cluster):
            assert not serve_cluster.missing()
        """,
        behaviour=FakeBehaviour(keeps_bad=True),
    )

    ran.outcomes(failed=1, passed=1)
    ran.result.stdout.fnmatch_lines(["*redundancy never came back*"])
    assert len(ran.backend.clusters) == 2


@pytest.mark.parametrize("change", ["code", "user_config", "options"])
def test_a_config_that_changes_nothing_shows_nothing(run_chaos: RunChaos, change: str) -> None:
    ran = run_chaos(
        f"""
        import pytest

        TO = {{"max_ongoing_requests": 7}} if "{change}" == "options" else None

        @pytest.mark.app_update(change="{change}", to=TO)
        def test_it(experiment):
            experiment.run(availability=0.5, window="500ms")
        """,
        behaviour=FakeBehaviour(harmless=True),
    )

    ran.outcomes(inconclusive=1)


def test_an_update_that_loses_requests_fails(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        import pytest

        @pytest.mark.app_update
        def test_it(experiment):
            experiment.run(availability=0.1, longest_outage="20s", window="1s")
        """,
        behaviour=FakeBehaviour(lossy_for=1.0),
    )

    ran.outcomes(failed=1)
    ran.result.stdout.fnmatch_lines(["*lost beyond the 0 that were in flight*"])


def test_another_fault_hits_in_the_middle_of_an_update(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        def test_by_hand(chaos, traffic, serve_cluster):
            with traffic() as requests, chaos.app().update() as update:
                killed = chaos.replica().kill()
                update.wait_redundancy_back("30s")
                killed.wait_redundancy_back("30s")
                assert update.replaced("replicas")
            assert not serve_cluster.missing()

        def test_another(serve_cluster):
            assert not serve_cluster.missing()
        """
    )

    ran.outcomes(passed=2)
    assert len(ran.backend.clusters) == 1


def test_a_bad_update_by_hand_stays_until_it_is_healed(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        def test_by_hand(chaos, traffic):
            with traffic():
                with chaos.app("sleepy_pid").update(bad="constructor") as update:
                    assert "the update is not taken back" in update.missing()
                update.wait_redundancy_back("20s")
                assert not update.replaced("replicas")
        """
    )

    ran.outcomes(passed=1)


def test_without_the_controllers_log_nobody_sees_that_replicas_are_reconfigured(run_chaos: RunChaos) -> None:
    ran = run_chaos(KINDS, "-rs", behaviour=FakeBehaviour(lacks=(SHOWS_CONTROLLER_LOG,)))

    ran.outcomes(passed=2, skipped=2)
    ran.result.stdout.fnmatch_lines(["*cannot show the controller's log*"])


def test_what_no_update_can_be_is_refused_before_there_is_a_cluster(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        import pytest

        @pytest.mark.app_update(change="options", bad="constructor")
        def test_it(experiment):
            experiment.run()
        """
    )

    ran.result.stderr.fnmatch_lines(["*bad='constructor' makes a new version of the code by itself*"])
    assert ran.backend.clusters == []
