"""What a replica has started itself, and the raylet under its node."""

from __future__ import annotations

import pytest

from pytest_serve_chaos.testing import FakeBehaviour, capabilities
from tests.plugin.conftest import RunChaos

CHILD = """
    import pytest

    @pytest.mark.child_failure({marker})
    def test_an_engine_dies(experiment):
        result = experiment.run({demands})
        {then}
"""
LENIENT = 'availability=None, longest_outage=None, traffic_back="60s", window="1s"'


def child(marker: str = 'name="fake-engine"', demands: str = LENIENT, then: str = "assert result.passed") -> str:
    return CHILD.format(marker=marker, demands=demands, then=then)


@pytest.mark.parametrize(
    ("engine", "then", "said"),
    [
        ("restarted", 'assert result.kept("replicas")', "is still there, with a new fake-engine"),
        ("unused", 'assert result.kept("replicas")', "is still there, without the process that was hit"),
        ("dying", 'assert result.replaced("replica@victims")', "whose process was hit, is gone too"),
    ],
)
def test_an_app_that_gets_over_it_passes_and_says_how(run_chaos: RunChaos, engine: str, then: str, said: str) -> None:
    ran = run_chaos(child(then=then), behaviour=FakeBehaviour(engine=engine))  # type: ignore[arg-type]

    ran.outcomes(passed=1)
    assert said in ran.text
    assert "fake-engine of replica sleepy_pid#SleepyPid on worker-" in (ran.directory / "report.html").read_text()


def test_a_replica_that_fails_without_its_engine_fails_the_test(run_chaos: RunChaos) -> None:
    demands = 'availability=0.9, longest_outage="1s", traffic_back="3s", window="3s"'
    ran = run_chaos(child(demands=demands), behaviour=FakeBehaviour(engine="failing"))

    ran.outcomes(failed=1)
    assert "is still there, without the process that was hit" in ran.text


@pytest.mark.parametrize("how", ["kill", "freeze"])
def test_one_that_is_not_hit_is_inconclusive(run_chaos: RunChaos, how: str) -> None:
    ran = run_chaos(child(f'how="{how}"'), behaviour=FakeBehaviour(harmless=True))

    ran.outcomes(inconclusive=1)


@pytest.mark.parametrize("pattern", ["fake-engine", "^fake", "/opt/engine/.*--port 8000", "engine$|vllm"])
def test_it_is_chosen_by_what_its_name_or_its_command_line_contains(run_chaos: RunChaos, pattern: str) -> None:
    ran = run_chaos(
        f"""
        def test_by_hand(chaos):
            engine = chaos.replica("SleepyPid").child({pattern!r}).kill()
            assert "fake-engine (PID 5" in engine.evidence[0].text
            assert "its parent, the replica" in engine.evidence[1].text
        """
    )

    ran.outcomes(passed=1)


@pytest.mark.parametrize("pattern", ["llama-server", "^engine", "FAKE-ENGINE"])
def test_where_there_is_none_the_error_names_those_that_there_are(run_chaos: RunChaos, pattern: str) -> None:
    ran = run_chaos(
        f"""
        import pytest
        from pytest_serve_chaos import NoSuchTarget

        def test_by_hand(chaos, serve_cluster):
            for verb in ("kill", "freeze"):
                with pytest.raises(NoSuchTarget) as error:
                    getattr(chaos.replica().child({pattern!r}), verb)()
                assert "fake-engine (PID 5" in str(error.value)
                assert "/opt/engine/fake-engine --port 8000" in str(error.value)
            assert serve_cluster.backend.world.struck is None
        """
    )

    ran.outcomes(passed=1)


def test_a_script_without_a_name_is_hit_where_it_is_alone_and_the_result_says_so(
    run_chaos: RunChaos, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capabilities, "ENGINE", "python3")
    monkeypatch.setattr(capabilities, "COMMAND", "/usr/bin/python3 -c import sys\nfor line in sys.stdin: print(line)")
    ran = run_chaos(child('name="engine"'), behaviour=FakeBehaviour(engine="unused"))

    ran.outcomes(passed=1)
    assert "has 'engine' in its name or command line" in ran.text
    assert "a script without a name: python3 (PID 5" in ran.text
    assert "SIGKILL to python3 (PID 5" in ran.text


def test_a_script_without_a_name_whose_death_costs_requests_fails(
    run_chaos: RunChaos, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capabilities, "ENGINE", "python3")
    monkeypatch.setattr(capabilities, "COMMAND", "/usr/bin/python3 -c import sys")
    demands = 'availability=0.9, longest_outage="1s", traffic_back="3s", window="3s"'
    ran = run_chaos(child('name="engine"', demands), behaviour=FakeBehaviour(engine="failing"))

    ran.outcomes(failed=1)


def test_an_expression_that_is_none_is_refused(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        import pytest
        from pytest_serve_chaos import SettingsError

        def test_by_hand(chaos):
            with pytest.raises(SettingsError, match="not a regular expression"):
                chaos.replica().child("g++(").kill()
        """
    )

    ran.outcomes(passed=1)


def test_a_frozen_engine_goes_on(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        def test_by_hand(chaos, traffic):
            with traffic(), chaos.replica().child("engine").freeze("4s") as engine:
                engine.wait_healed()
                engine.wait_redundancy_back("30s")
            assert engine.kept("replicas")
        """
    )

    ran.outcomes(passed=1)


# -- raylets -----------------------------------------------------------------------------------------------------------

RAYLET = """
    import pytest

    @pytest.mark.raylet_failure({marker})
    def test_a_raylet(experiment):
        result = experiment.run({demands})
        assert {then}
"""


@pytest.mark.parametrize(
    ("marker", "then"),
    [
        ('on="worker-1"', 'result.replaced("raylet", on="worker-1") and result.replaced("worker", on="worker-1")'),
        ('on="worker-1"', 'result.kept("raylet", on="worker-2") and result.kept("gcs")'),
        ('on="head"', 'result.replaced("head", "gcs") and result.kept("workers")'),
        ('how="freeze", for_="2s"', 'result.kept("raylets", "replicas", "workers")'),
    ],
)
def test_a_node_goes_with_its_raylet_and_not_with_one_that_is_frozen(
    run_chaos: RunChaos, marker: str, then: str
) -> None:
    run_chaos(RAYLET.format(marker=marker, demands=LENIENT, then=then)).outcomes(passed=1)


def test_a_raylet_whose_loss_costs_requests_fails(run_chaos: RunChaos) -> None:
    demands = 'availability=0.9, longest_outage="1s", window="2s"'
    ran = run_chaos(RAYLET.format(marker="", demands=demands, then="True"), behaviour=FakeBehaviour(lossy_for=2.0))

    ran.outcomes(failed=1)


@pytest.mark.parametrize("how", ["kill", "freeze"])
def test_a_raylet_that_is_not_hit_is_inconclusive(run_chaos: RunChaos, how: str) -> None:
    marker = f'how="{how}"'
    ran = run_chaos(RAYLET.format(marker=marker, demands=LENIENT, then="True"), behaviour=FakeBehaviour(harmless=True))

    ran.outcomes(inconclusive=1)


def test_there_is_no_raylet_on_a_node_that_there_is_not(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        import pytest
        from pytest_serve_chaos import NoSuchTarget

        def test_by_hand(chaos):
            with pytest.raises(NoSuchTarget, match="no raylet on worker-9"):
                chaos.raylet(on="worker-9")
        """
    )

    ran.outcomes(passed=1)
