"""What a run leaves behind."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest

from pytest_serve_chaos.history import History
from tests.plugin.conftest import CONFTEST, LOAD, RunChaos
from tests.plugin.fake import FakeBehaviour, FakeLogs

REPLICA = """
    import pytest

    @pytest.mark.replica_failure
    def test_replica(experiment):
        experiment.run(availability=0.7, window="700ms")
"""


def test_a_run_leaves_a_table_a_history_a_summary_and_junit_properties(run_chaos: RunChaos) -> None:
    ran = run_chaos(REPLICA, "--serve-chaos-seed=7", "--junitxml=junit.xml")

    ran.outcomes(passed=1)
    ran.result.stdout.fnmatch_lines(
        [
            "serve-chaos: fake backend, ray 2.60.0, head + 2 workers, redis 7.0; app sleepy_pid, 4 replicas; "
            "16 requests/s; seed 7",
            "serve-chaos: inject: SIGKILL to the replica sleepy_pid#SleepyPid on worker-*",
            "serve-chaos: redundancy is back * s after the fault",
            "*= serve chaos =*",
            "replica     passed * 100.00 % *",
            f"report: {ran.directory}",
        ]
    )

    history = History.load(ran.directory / "history.jsonl")
    assert history.experiments() == ("replica",)
    assert {"asked", "landed", "gone", "came", "redundancy_back", "settled", "verdict"} <= {
        event.kind for event in history.of("replica")
    }

    assert ran.summary["schema"] == 1
    run, experiments = ran.summary["run"], ran.summary["experiments"]
    assert isinstance(run, dict)
    assert (run["backend"], run["seed"]) == ("fake", 7)
    assert isinstance(experiments, list)
    assert [(e["experiment"], e["verdict"]) for e in experiments if isinstance(e, dict)] == [("replica", "passed")]

    case = ElementTree.parse(ran.path / "junit.xml").getroot()[0].find("testcase")
    assert case is not None
    properties = {p.get("name"): p.get("value") for p in case.iter("property")}
    assert properties["serve_chaos_verdict"] == "passed"
    assert properties["serve_chaos_experiment"] == "replica"


def test_junit_says_inconclusive_too(run_chaos: RunChaos) -> None:
    ran = run_chaos(REPLICA, "--junitxml=junit.xml", behaviour=FakeBehaviour(anonymous=True))

    case = ElementTree.parse(ran.path / "junit.xml").getroot()[0].find("testcase")
    assert case is not None
    assert case.find("failure") is not None, "a reader that knows no third outcome must not see a pass"
    properties = {p.get("name"): p.get("value") for p in case.iter("property")}
    assert properties["serve_chaos_verdict"] == "inconclusive"
    assert "answered nothing before the fault" in (properties["serve_chaos_reason"] or "")


def test_the_logs_of_a_failed_test_are_kept_and_named(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        import pytest

        @pytest.mark.replica_failure
        @pytest.mark.parametrize("availability", [0.7, 1.0])
        def test_replica(experiment, availability):
            for _ in range(2):
                experiment.measure(window="500ms")
            assert availability == 0.7

        def test_by_hand(chaos):
            chaos.replica().kill()
            assert False
        """
    )

    ran.outcomes(passed=1, failed=2)
    logs = ran.directory / "logs"
    ran.result.stdout.fnmatch_lines(
        [
            "*- serve chaos: logs -*",
            f"all of them: {logs}/replica[[]1.0]",
            "*- serve chaos: logs -*",
            f"all of them: {logs}/by_hand",
        ]
    )
    assert sorted(directory.name for directory in logs.iterdir()) == ["by_hand", "replica[1.0]"]
    assert "replica" in (logs / "by_hand" / "world.log").read_text()
    experiments = ran.summary["experiments"]
    assert isinstance(experiments, list)
    assert {e["experiment"]: e["logs"] for e in experiments if isinstance(e, dict)} == {
        "replica[0.7]": None,
        "replica[0.7]-2": None,
        "replica[1.0]": "logs/replica[1.0]",
        "replica[1.0]-2": "logs/replica[1.0]",
    }


def test_logs_that_cannot_be_kept_are_no_error(run_chaos: RunChaos, monkeypatch: pytest.MonkeyPatch) -> None:
    def keep(logs: FakeLogs) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(FakeLogs, "keep", keep)
    ran = run_chaos("def test_it(chaos):\n    chaos.replica().kill()\n    assert False")

    ran.outcomes(failed=1)
    ran.result.stdout.fnmatch_lines(["the files cannot be kept: no space left"])
    assert not (ran.directory / "logs").exists()


def test_a_directory_of_ones_own_gets_the_report(run_chaos: RunChaos) -> None:
    ran = run_chaos("def test_it(serve_cluster): pass", "--serve-chaos-report-dir=elsewhere")

    (directory,) = (ran.path / "elsewhere").iterdir()
    assert {file.name for file in directory.iterdir()} >= {"history.jsonl", "summary.json"}


@pytest.mark.usefixtures("fake_is_importable")
def test_progress_is_shown_whatever_is_captured(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CONFTEST.format(""))
    pytester.makepyfile("def test_it(serve_cluster, chaos):\n    print('hidden')\n    chaos.replica().kill()")

    result = pytester.runpytest_subprocess("--serve-chaos", *LOAD)

    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["serve-chaos: fake backend, *", "serve-chaos: chose replica * by the seed"])
    result.stdout.no_fnmatch_line("*hidden*")
