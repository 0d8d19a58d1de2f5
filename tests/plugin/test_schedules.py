"""Traffic in stages and by chance, faults in one of them, and apps that answer slowly."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from pytest_serve_chaos import criteria, final_check
from pytest_serve_chaos.events import FaultAsked, StagesBegan, TrafficBegan, of_kind
from pytest_serve_chaos.history import History
from pytest_serve_chaos.testing import QUICK, FakeBehaviour
from tests.plugin.conftest import Ran, RunChaos


def history_of(ran: Ran) -> History:
    """Of the latest run."""
    found = sorted((ran.path / ".serve-chaos").glob("*/history.jsonl"), key=lambda path: path.stat().st_mtime)
    return History.load(found[-1])


def due(history: History) -> list[float]:
    return sorted(request.scheduled for request in history.requests if not request.kept)


def test_a_fault_can_be_put_into_a_stage(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        import pytest

        @pytest.mark.replica_failure
        def test_it(experiment):
            sent = experiment.sending(rate="10/s for 1s, 40/s", arrivals="poisson")
            result = sent.run(at="1.5s", availability=0.5, window="2s", longest_outage="5s", traffic_back="5s")
            assert result.passed
        """
    )

    ran.outcomes(passed=1)
    history = history_of(ran)
    (traffic,) = of_kind(TrafficBegan, history.events)
    assert (traffic.rate, traffic.stages, traffic.arrivals) == (10.0, "10/s for 1s, 40/s", "poisson")
    (stages,) = of_kind(StagesBegan, history.events)
    assert stages.text.startswith("stages begin: 10 requests/s for 1 s")
    begun = stages.at
    (asked,) = (event.at for event in of_kind(FaultAsked, history.events))
    assert 1.5 <= asked - begun < 10
    first = [moment for moment in due(history) if moment < begun + 1]
    later = [moment for moment in due(history) if begun + 1 <= moment < asked + 2]
    assert len(first) / (begun + 1 - first[0]) == pytest.approx(10, rel=0.7)
    assert len(later) / (asked + 2 - begun - 1) == pytest.approx(40, rel=0.4)


def test_stages_and_arrivals_are_settings_of_the_run(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        def test_it(traffic):
            with traffic() as requests:
                requests.wait_until("1s")
                assert requests.elapsed >= 1
            with traffic(rate="20/s for 500ms, 60/s", arrivals="constant") as requests:
                requests.wait_until(1)
        """,
        "--serve-chaos-stages=16/s for 30s, 20/s",
        "--serve-chaos-arrivals=poisson",
    )

    ran.outcomes(passed=1)
    first, second = of_kind(TrafficBegan, history_of(ran).events)
    assert (first.stages, first.arrivals) == ("16/s for 30s, 20/s", "poisson")
    assert (second.stages, second.arrivals) == ("20/s for 0.5s, 60/s", "constant")
    ran.result.stdout.fnmatch_lines(["*16 requests/s for 30 s, then 20 requests/s, Poisson arrivals; seed *"])


def test_the_seed_repeats_what_comes_by_chance(run_chaos: RunChaos) -> None:
    def gaps() -> list[float]:
        ran = run_chaos(
            """
            def test_it(traffic):
                with traffic() as requests:
                    requests.wait_until("500ms")
            """,
            "--serve-chaos-arrivals=poisson",
            "--serve-chaos-seed=5",
        )
        ran.outcomes(passed=1)
        moments = due(history_of(ran))
        return [later - earlier for earlier, later in pairwise(moments)][:8]

    first = gaps()
    assert first == pytest.approx(gaps(), abs=1e-5)
    assert max(first) > 1.5 * min(first)


def test_what_was_lost_before_the_fault_is_not_its_doing(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        import pytest
        from pytest_serve_chaos.events import StagesBegan

        @pytest.mark.replica_failure
        def test_it(experiment):
            def fails_from_then_on(answer):
                return not experiment.rig.log.has(StagesBegan)

            sent = experiment.sending(rate="16/s for 1s, 60/s", check=fails_from_then_on)
            sent.run(at="4s", availability=0.5, window="1s")
        """
    )

    ran.outcomes(inconclusive=1)
    ran.result.stdout.fnmatch_lines(
        ["*Inconclusive: *requests lost in the 4 s between steady state and the fault, so*"]
    )
    assert not of_kind(FaultAsked, history_of(ran).events)


def test_a_stage_that_breaks_the_app_fails(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        import pytest

        @pytest.mark.replica_failure
        def test_it(experiment):
            sent = experiment.sending(rate="16/s for 1s, 40/s", arrivals="poisson")
            sent.run(at="1s", availability=0.9, window="3s", longest_outage="10s")
        """,
        behaviour=FakeBehaviour(lossy_for=5.0),
    )

    ran.outcomes(failed=1)
    ran.result.stdout.fnmatch_lines(["*ExpectationFailed: *requests lost*"])


def test_a_fault_without_effect_is_inconclusive_in_stages_too(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        import pytest

        @pytest.mark.replica_failure
        def test_it(experiment):
            sent = experiment.sending(rate="16/s for 500ms, 40/s", arrivals="poisson")
            sent.run(at="1s", availability=0.5, window="1s", longest_outage="10s")
        """,
        behaviour=FakeBehaviour(harmless=True, waits=replace(QUICK, signs_within=0.3)),
    )

    ran.outcomes(inconclusive=1)
    ran.result.stdout.fnmatch_lines(["*Inconclusive: *did not land*"])


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('experiment.sending(rate="fast")', "rate: 'fast' is not a list of stages"),
        ('experiment.sending(rate="10/s for 3s, 0/s")', "is not a list of stages"),
        ('experiment.sending(arrivals="bursts")', "arrivals='bursts'"),
        ("experiment.run(at=None)", "at=None is not a time"),
        ('experiment.run(at="soon")', "at: 'soon' is not a duration"),
    ],
)
def test_what_cannot_be_sent_is_refused(run_chaos: RunChaos, line: str, why: str) -> None:
    ran = run_chaos(
        f"""
        import pytest

        @pytest.mark.replica_failure
        def test_it(experiment):
            {line}
        """
    )

    ran.outcomes(errors=1)
    ran.result.stdout.fnmatch_lines([f"*SettingsError: *{why.replace('[', '[[]')}*"])


@pytest.mark.parametrize("stages", ["fast", "20/s for 30s, 500/s", "20/s, 30/s"])
def test_stages_that_no_generator_can_send_are_refused_before_the_cluster(run_chaos: RunChaos, stages: str) -> None:
    ran = run_chaos("def test_it(traffic): pass", f"--serve-chaos-stages={stages}")

    assert not ran.backend.clusters
    assert "it must be stages as '20/s for 30s, 100/s for 30s'" in ran.text + ran.result.stderr.str()


# -- slow answers


def test_an_app_that_answers_slowly_is_judged_for_longer(run_chaos: RunChaos, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(criteria, "window_for", lambda *_: 2.0)
    monkeypatch.setattr(final_check, "idle_after", lambda replicas, rate: 0.5)
    ran = run_chaos(
        """
        import pytest

        @pytest.mark.replica_failure
        def test_it(experiment):
            result = experiment.sending(rate=4, timeout=30.0).run(availability=0.1, longest_outage="60s")
            assert 1.2 < result.measurement.before.p99 < 30
            # Two seconds for four requests, and two for their answers; the last is due up to 250 ms before the end.
            assert result.measurement.window >= 3.75
            assert result.measurement.persistent_lost == 0
        """,
        behaviour=FakeBehaviour(answers_after=1.2),
    )

    ran.outcomes(passed=1)
    ran.result.stdout.fnmatch_lines(["*answers take up to 1.* s, so about * s from now: * s of traffic judged*"])
    kept = [request for request in history_of(ran).requests if request.kept]
    assert kept
    assert not [request for request in kept if request.lost]


def test_traffic_by_hand_is_judged_for_longer_too(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        def test_it(chaos, traffic):
            with traffic(rate=4, timeout="30s") as requests:
                chaos.replica().kill()
                result = requests.assert_available(0.1, longest_outage="60s")
            # Until the last request, which is due up to a gap before the end of the four seconds.
            assert result.measurement.window >= 3.75
        """,
        behaviour=FakeBehaviour(answers_after=1.2),
    )

    ran.outcomes(passed=1)


def test_requests_that_are_far_apart_and_answered_late_are_steady(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        def test_it(traffic):
            with traffic(rate=1, timeout="30s") as requests:
                pass
            assert requests.lost == 0
        """,
        behaviour=FakeBehaviour(answers_after=2.5),
    )

    ran.outcomes(passed=1)
