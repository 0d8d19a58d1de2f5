"""What stays down for a given time: traffic is judged over it, and over the return."""

from __future__ import annotations

from typing import Any, cast

import pytest

from pytest_serve_chaos.analysis.configuration import Setup
from pytest_serve_chaos.testing import QUICK, FakeBehaviour
from tests.plugin.conftest import SOON_GIVEN_UP, Ran, RunChaos

HELD = """
    import pytest

    @pytest.mark.{fault}(hold=True, for_="1s")
    def test_a_long_outage(experiment):
        experiment.run({demands})
"""
# A machine that is busy with other things may make answers late: most tests only demand that traffic comes back.
LENIENT = 'availability=None, longest_outage=None, traffic_back="60s", window="1500ms"'
STRICT = 'availability=0.9, longest_outage="1s", window="5s"'
LONELY = FakeBehaviour(workers_wait=0.2, back_after=1.5, setup=Setup(reconnect=0.2))


def measured(ran: Ran) -> dict[str, Any]:
    (result,) = cast("list[dict[str, Any]]", ran.summary["experiments"])
    return cast("dict[str, Any]", result["measurement"])


@pytest.mark.parametrize("fault", ["head_failure", "worker_failure", "redis_failure", "node_failure"])
def test_what_comes_back_after_its_time_passes(run_chaos: RunChaos, fault: str) -> None:
    held = HELD.format(fault=fault, demands=LENIENT)
    ran = run_chaos(held.replace("hold=True, ", "") if fault == "node_failure" else held)

    ran.outcomes(passed=1)
    back = measured(ran)["redundancy_back"]
    assert back >= 1.0


def test_the_usual_window_begins_with_the_fault_and_goes_on_after_the_hold(run_chaos: RunChaos) -> None:
    ran = run_chaos(HELD.format(fault="head_failure", demands="availability=0.1, longest_outage=None"))

    ran.outcomes(passed=1)
    assert "% in 21 s" in ran.text


def test_an_outage_that_workers_do_not_survive_fails(run_chaos: RunChaos) -> None:
    ran = run_chaos(HELD.format(fault="head_failure", demands=STRICT), behaviour=LONELY)

    ran.outcomes(failed=1)
    assert "outage" in ran.text
    assert "all workers start again" in ran.text


def test_a_hold_without_a_time_goes_on_until_workers_have_given_the_gcs_up(run_chaos: RunChaos) -> None:
    # They wait for longer than a cluster that seems to be at rest takes to be healed.
    waits = QUICK.no_change + 1.0
    patient = FakeBehaviour(workers_wait=waits, back_after=0.2, setup=Setup(reconnect=waits))
    ran = run_chaos(
        """
        import pytest

        @pytest.mark.head_failure(hold=True)
        def test_workers_that_wait_for_so_long_only(experiment):
            assert not experiment.measure(availability=None, window="1s").kept("worker")
        """,
        behaviour=patient,
    )

    ran.outcomes(passed=1)


def test_a_hold_does_not_wait_for_workers_that_never_give_up_in_its_time(run_chaos: RunChaos) -> None:
    held = HELD.format(fault="head_failure", demands=LENIENT).replace(', for_="1s"', "")
    ran = run_chaos(held, behaviour=FakeBehaviour(setup=Setup(reconnect=600.0)))

    ran.outcomes(passed=1)
    assert measured(ran)["healed"] < 60


def test_a_hold_that_does_nothing_is_inconclusive(run_chaos: RunChaos) -> None:
    ran = run_chaos(HELD.format(fault="head_failure", demands=LENIENT), behaviour=FakeBehaviour(harmless=True))

    ran.outcomes(inconclusive=1)
    assert "did not land" in ran.text


def test_a_hold_by_hand_ends_by_itself_and_is_in_the_window(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        def test_by_hand(chaos, traffic):
            with traffic() as requests, chaos.head.kill(hold=True, for_="2s") as head:
                assert head.wait_healed() >= 2.0
                assert head.wait_redundancy_back("30s") >= 2.0
                result = requests.assert_available(0.5)
            assert result.measurement.seconds >= 2.0
        """
    )

    ran.outcomes(passed=1)


CUSTOM = "chaos.custom(lambda: broken.append(1), broken.clear, lambda: bool(broken)"


@pytest.mark.parametrize(
    "fault",
    [
        'chaos.proxy("worker-1").freeze(for_="2s")',
        'chaos.app().update(bad="constructor", for_="2s")',
        f'{CUSTOM}, for_="2s")',
    ],
    ids=["freeze", "update", "custom"],
)
def test_whatever_heals_by_itself_is_in_the_window_of_traffic_by_hand(run_chaos: RunChaos, fault: str) -> None:
    ran = run_chaos(
        f"""
        def test_by_hand(chaos, traffic):
            broken = []
            with traffic() as requests, {fault}:
                result = requests.assert_available(0.1)
            assert result.measurement.window >= 2.0
        """
    )

    ran.outcomes(passed=1)


def test_what_was_healed_before_its_time_is_in_the_window_until_then(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        def test_by_hand(chaos, traffic):
            with traffic() as requests:
                with chaos.head.kill(hold=True, for_="5m"):
                    pass
                result = requests.assert_available(0.1)
            assert result.measurement.window < 60
        """
    )

    ran.outcomes(passed=1)


def test_a_hold_by_hand_that_workers_do_not_survive_fails(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        def test_by_hand(chaos, traffic):
            with traffic() as requests, chaos.head.kill(hold=True, for_="3s"):
                requests.assert_available(0.7, longest_outage="1s")
        """,
        behaviour=LONELY,
    )

    ran.outcomes(failed=1)
    assert "outage" in ran.text


@pytest.mark.parametrize("target", ["head", "worker()", "redis"])
def test_a_time_without_a_hold_is_refused_before_anything_breaks(run_chaos: RunChaos, target: str) -> None:
    ran = run_chaos(
        f"""
        import pytest
        from pytest_serve_chaos import SettingsError

        def test_by_hand(chaos, serve_cluster):
            with pytest.raises(SettingsError, match="hold=True"):
                chaos.{target}.kill(for_="2s")
            with pytest.raises(SettingsError, match="for_=0"):
                chaos.{target}.kill(hold=True, for_=0)
            assert not serve_cluster.missing()
        """,
        behaviour=SOON_GIVEN_UP,
    )

    ran.outcomes(passed=1)


def test_a_marker_with_a_time_and_no_hold_is_a_usage_error(run_chaos: RunChaos) -> None:
    ran = run_chaos(HELD.format(fault="head_failure", demands=LENIENT).replace("hold=True", 'how="stop"'))

    assert ran.result.ret == pytest.ExitCode.USAGE_ERROR
    ran.result.stderr.fnmatch_lines(["*for_ in @pytest.mark.head_failure goes with hold=True where how is 'stop'*"])


def test_a_test_that_dies_in_a_hold_leaves_nothing_down(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        def test_dies(chaos):
            chaos.worker("worker-1").kill(hold=True, for_="10m")
            raise RuntimeError

        def test_next(serve_cluster):
            assert not serve_cluster.missing()
        """
    )

    ran.outcomes(failed=1, passed=1)
    assert len(ran.backend.clusters) == 1


def test_nobody_waits_for_the_end_of_a_fault_that_has_none(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        import pytest
        from pytest_serve_chaos import Inconclusive

        def test_by_hand(chaos):
            with chaos.head.kill(hold=True) as head, pytest.raises(Inconclusive, match="by itself"):
                head.wait_healed()
        """
    )

    ran.outcomes(passed=1)


@pytest.mark.parametrize(
    "marker",
    ['head_failure(hold=True, for_="90s")', 'proxy_failure(how="freeze", for_="90s")', 'node_failure(for_="90s")',
     'app_update(bad="constructor", for_="90s")'],
)  # fmt: skip
def test_a_return_before_its_time_cannot_be_demanded(run_chaos: RunChaos, marker: str) -> None:
    ran = run_chaos(
        f"""
        import pytest
        from pytest_serve_chaos import SettingsError

        @pytest.mark.{marker}
        def test_too_early(experiment, serve_cluster):
            with pytest.raises(SettingsError, match="redundancy_back=60 s counts from the fault"):
                experiment.run(redundancy_back="60s")
            assert serve_cluster.backend.world.struck is None

        def test_a_fault_of_its_own(experiment, chaos):
            broken = []
            own = {CUSTOM}, for_="90s")
            with pytest.raises(SettingsError, match="redundancy_back=60 s counts from the fault"):
                experiment.run(fault=own, redundancy_back="60s")
            assert not broken
        """
    )

    ran.outcomes(passed=2)
