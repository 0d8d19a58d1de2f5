"""A fault that a test brings itself: its life, its journal, and its verdict."""

from __future__ import annotations

import re

import pytest

from pytest_serve_chaos.safety.journal import journal_of
from pytest_serve_chaos.testing import FakeBehaviour
from tests.plugin.conftest import ROOT, RunChaos

SWITCH = """
    import threading

    import pytest
    from pytest_serve_chaos import NotLanded, SettingsError
    from pytest_serve_chaos.safety.journal import journal_of

    broken = threading.Event()
    calls = []

    def inject():
        calls.append("inject")
        broken.set()

    def heal():
        calls.append("heal")
        broken.clear()

    def evidence():
        return "the switch is off" if broken.is_set() else None
"""
LENIENT = 'availability=None, longest_outage=None, traffic_back="60s", window="1s"'


def test_it_runs_a_whole_experiment_without_a_marker(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        f"""{SWITCH}
    def test_a_switch(experiment, chaos):
        result = experiment.run(fault=chaos.custom(inject, heal, evidence, name="switch_off"), {LENIENT})
        assert result.passed
        assert [sign.text for sign in result.evidence][0] == "the switch is off"
        assert calls == ["inject", "heal"]
"""
    )

    ran.outcomes(passed=1)
    assert journal_of(ran.path / ".serve-chaos").entries() == ()


def test_it_takes_the_place_of_the_fault_that_is_marked(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        f"""{SWITCH}
    @pytest.mark.head_failure
    def test_a_switch(experiment, chaos, serve_cluster):
        before = serve_cluster.of("head")
        experiment.run(fault=chaos.custom(inject, heal, evidence), {LENIENT})
        assert [c.identity for c in serve_cluster.of("head")] == [c.identity for c in before]
"""
    )

    ran.outcomes(passed=1)


def test_one_that_does_nothing_is_inconclusive(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        f"""{SWITCH}
    def test_a_switch(experiment, chaos):
        experiment.run(fault=chaos.custom(lambda: None, heal, evidence, landed_within="300ms"), {LENIENT})
"""
    )

    ran.outcomes(inconclusive=1)


def test_evidence_that_is_there_before_shows_nothing_and_nothing_is_broken(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        f"""{SWITCH}
    def test_a_switch(experiment, chaos):
        try:
            experiment.run(fault=chaos.custom(inject, heal, lambda: True), {LENIENT})
        finally:
            assert calls == []
"""
    )

    ran.outcomes(inconclusive=1)
    assert "evidence was there before the fault" in ran.text


def test_evidence_that_does_not_stay_shows_nothing(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        f"""{SWITCH}
    answers = iter([None, "off for a moment"])

    def test_a_switch(chaos):
        with pytest.raises(NotLanded):
            chaos.custom(inject, heal, lambda: next(answers, None), landed_within="1s").inject()
"""
    )

    ran.outcomes(passed=1)


def test_an_app_that_does_not_survive_it_fails(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
    def test_a_replica(experiment, chaos, serve_cluster):
        world = serve_cluster.backend.world
        fault = chaos.custom(
            world.strike, lambda: None, lambda: None if world.struck is None else "the world was struck"
        )
        experiment.run(fault=fault, availability=0.9, window="2s")
""",
        behaviour=FakeBehaviour(lossy_for=2.0),
    )

    ran.outcomes(failed=1)


def test_by_hand_it_heals_at_the_end_of_the_block(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        f"""{SWITCH}
    def test_a_switch(chaos, traffic):
        with traffic() as requests, chaos.custom(inject, heal, evidence) as injection:
            assert injection.landed and broken.is_set()
            requests.assert_available(0.5)
        assert calls == ["inject", "heal"]

    def test_for_a_while(chaos):
        with chaos.custom(inject, heal, evidence, for_="1s") as injection:
            assert injection.wait_healed() >= 1.0
            assert not broken.is_set()
"""
    )

    ran.outcomes(passed=2)


def test_what_half_broke_is_healed_and_the_test_has_an_error(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        f"""{SWITCH}
    def half():
        inject()
        raise OSError("no such switch")

    def test_a_switch(chaos):
        with chaos.custom(half, heal, evidence):
            pass

    def test_next(chaos):
        assert calls == ["inject", "heal"]
"""
    )

    ran.outcomes(failed=1, passed=1)
    assert journal_of(ran.path / ".serve-chaos").entries() == ()


def test_it_is_in_the_journal_before_it_breaks_anything_and_until_it_is_healed(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        f"""{SWITCH}
    def entries(config):
        return [entry.text for _, entry in journal_of(config.rootpath / ".serve-chaos").entries()]

    def test_a_switch(chaos, pytestconfig):
        seen = []
        note = lambda: seen.append(entries(pytestconfig))
        with chaos.custom(lambda: (note(), inject()), lambda: (note(), heal()), evidence, name="switch_off"):
            note()
        note()
        assert all("switch_off of the test a_switch" in text for (text,) in seen[:3]), seen
        assert seen[3] == []
"""
    )

    ran.outcomes(passed=1)


def test_what_cannot_be_healed_stays_in_the_journal(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        f"""{SWITCH}
    def stuck():
        raise OSError("the switch is stuck")

    def test_a_switch(chaos):
        command = ["switch", "--on", "hall light"]
        chaos.custom(inject, stuck, evidence, name="switch_off", undo_command=command).inject()
"""
    )

    ((_, entry),) = journal_of(ran.path / ".serve-chaos").entries()
    assert "switch_off of the test a_switch" in entry.text
    assert entry.arguments == {"command": "switch --on 'hall light'"}
    assert "the switch is stuck" in ran.text
    assert ran.result.ret != 0


def test_an_error_in_the_evidence_shows_nothing_and_is_noted(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        f"""{SWITCH}
    def odd():
        if calls:
            raise ValueError("odd")

    def test_a_switch(experiment, chaos):
        experiment.run(fault=chaos.custom(inject, heal, odd, landed_within="300ms"), {LENIENT})
"""
    )

    ran.outcomes(inconclusive=1)
    assert "evidence() raised ValueError: odd" in ran.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ('name="head_failure"', "there is a fault with the name head_failure already"),
        ('name="not a name"', "cannot be the name of a fault"),
        ("for_=0", "for_=0 breaks nothing"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_breaks(run_chaos: RunChaos, arguments: str, message: str) -> None:
    ran = run_chaos(
        f"""{SWITCH}
    def test_a_switch(chaos):
        with pytest.raises(SettingsError) as refused:
            chaos.custom(inject, heal, evidence, {arguments})
        assert {message!r} in str(refused.value)
        assert not calls
"""
    )

    ran.outcomes(passed=1)


def test_an_experiment_needs_a_fault_from_somewhere(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        f"""{SWITCH}
    def test_none(experiment, chaos):
        with pytest.raises(SettingsError, match="nothing says what the experiment breaks"):
            experiment.run()
        with pytest.raises(SettingsError, match="is not a fault"):
            experiment.measure(fault="head_failure")
"""
    )

    ran.outcomes(passed=1)


def test_without_chaos_an_experiment_without_a_marker_is_refused_at_collection(run_chaos: RunChaos) -> None:
    ran = run_chaos("def test_none(experiment):\n    experiment.run()\n")

    assert ran.result.ret == pytest.ExitCode.USAGE_ERROR
    ran.result.stderr.fnmatch_lines(["*experiment.run(fault=chaos.custom(...))*"])


def test_the_example_of_the_docs_works(run_chaos: RunChaos) -> None:
    page = (ROOT / "docs" / "how-to.md").read_text()
    (example,) = (b for b in re.findall(r"(?ms)^```python\n(.*?)^```$", page) if "chaos.custom(" in b)
    demands = 'availability=0.98, longest_outage="5s"'
    assert demands in example
    example = example.replace(demands, LENIENT)  # this machine may be busy
    run_chaos(example).outcomes(passed=1)
    broken = re.sub(r"inject=[^,]*,", "inject=lambda: None,", example)
    assert broken != example
    run_chaos(broken.replace("undo_command", 'landed_within="300ms", undo_command')).outcomes(inconclusive=1)
