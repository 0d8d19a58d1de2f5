"""What a run leaves behind."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path

import pytest

from pytest_serve_chaos import load
from pytest_serve_chaos.cli import main
from pytest_serve_chaos.history import History
from pytest_serve_chaos.runs.directory import runs_in
from pytest_serve_chaos.testing import QUICK, FakeBehaviour, FakeLogs
from tests.plugin.conftest import CONFTEST, LOAD, RunChaos, junit_properties

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
    assert {"asked", "landed", "gone", "came", "redundancy_back", "settled", "verdict", "log_lines", "repeat"} <= {
        event.kind for event in history.of("replica")
    }

    assert ran.summary["schema"] == 2
    run, experiments = ran.summary["run"], ran.summary["experiments"]
    assert isinstance(run, dict)
    assert (run["backend"], run["seed"]) == ("fake", 7)
    assert isinstance(experiments, list)
    assert [(e["experiment"], e["verdict"]) for e in experiments if isinstance(e, dict)] == [("replica", "passed")]

    properties = dict(junit_properties(ran))
    assert properties["serve_chaos_verdict"] == "passed"
    assert properties["serve_chaos_experiment"] == "replica"


def test_the_history_of_a_run_is_enough_for_an_issue(run_chaos: RunChaos) -> None:
    ran = run_chaos(REPLICA, "--serve-chaos-seed=7", "--serve-chaos-headers=Authorization: Bearer hunter2hunter2")
    assert main(["report", str(ran.directory), "--issue", "replica", "--out", str(ran.path)]) == 0
    text = (ran.path / "issue.md").read_text()
    assert "ERROR replica sleepy_pid#SleepyPid on worker-" in text
    (command,) = (line for line in text.splitlines() if line.startswith("pytest --serve-chaos "))
    assert command.startswith("pytest --serve-chaos --serve-chaos-backend=local --serve-chaos-seed=7 ")
    assert command.endswith(".py::test_replica")
    assert "deployment sleepy\\_pid#SleepyPid" in text, "what Serve said"
    assert "hunter2" not in text
    assert "| processors of the tests' machine | `" in text, "a fake cluster is on no machine"
    assert (ran.path / "timeline.svg").read_text().startswith("<svg ")


def test_where_no_experiment_ran_no_report_is_announced(run_chaos: RunChaos) -> None:
    ran = run_chaos("def test_it(serve_cluster): pass")

    ran.outcomes(passed=1)
    assert "report:" not in ran.text
    assert "= serve chaos =" not in ran.text


def test_junit_says_inconclusive_too(run_chaos: RunChaos) -> None:
    ran = run_chaos(REPLICA, "--junitxml=junit.xml", behaviour=FakeBehaviour(anonymous=True))

    case = ElementTree.parse(ran.path / "junit.xml").getroot()[0].find("testcase")
    assert case is not None
    assert case.find("failure") is not None, "a reader that knows no third outcome must not see a pass"
    properties = dict(junit_properties(ran))
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
        "by_hand": "logs/by_hand",
    }


def test_what_is_broken_by_hand_and_not_judged_is_measured_in_every_report(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        def test_by_hand(chaos, traffic):
            with traffic(), chaos.replica().kill() as injection:
                injection.wait_redundancy_back()
        """,
        "--junitxml=junit.xml",
    )

    ran.outcomes(passed=1)
    ran.result.stdout.fnmatch_lines(["by_hand * measured * / *"])
    experiments = ran.summary["experiments"]
    assert isinstance(experiments, list)
    assert [(e["experiment"], e["verdict"]) for e in experiments if isinstance(e, dict)] == [("by_hand", "measured")]
    assert ("serve_chaos_verdict", "measured") in junit_properties(ran)


def test_what_was_broken_before_an_experiment_is_measured_too(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        import pytest

        @pytest.mark.replica_failure
        def test_replica(experiment, chaos, traffic):
            with traffic(), chaos.replica().kill() as injection:
                injection.wait_redundancy_back()
            experiment.measure(availability=0.7, window="700ms")
            with traffic(), chaos.replica().kill() as injection:
                injection.wait_redundancy_back()
        """
    )

    ran.outcomes(passed=1)
    experiments = ran.summary["experiments"]
    assert isinstance(experiments, list)
    assert {e["experiment"]: e["verdict"] for e in experiments if isinstance(e, dict)} == {
        "replica": "measured",
        "replica-2": "passed",
        "replica-2-by-hand": "measured",
    }


def test_an_experiment_that_an_error_ends_is_unfinished(
    run_chaos: RunChaos, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = run_chaos(
        """
        import pytest

        @pytest.mark.worker_failure(which="gpu-1")
        def test_worker(experiment):
            experiment.run(availability=0.7, window="700ms")
        """,
        "--junitxml=junit.xml",
    )

    ran.outcomes(errors=1)
    row = "worker *unfinished * an error ended it before its verdict: there is no worker 'gpu-1' to break"
    ran.result.stdout.fnmatch_lines([row])
    assert ("serve_chaos_verdict", "unfinished") in junit_properties(ran)
    capsys.readouterr()
    assert main(["analyse", str(ran.directory / "history.jsonl")]) == 1
    assert "an error ended it before its verdict: there is no worker 'gpu-1'" in capsys.readouterr().out


def test_without_steady_state_a_test_by_hand_is_in_the_table(
    run_chaos: RunChaos, monkeypatch: pytest.MonkeyPatch
) -> None:
    soon = FakeBehaviour(waits=replace(QUICK, steady_within=0.5))
    monkeypatch.setattr(load, "steady_within", lambda *_, least: least)
    ran = run_chaos("def test_by_hand(traffic):\n    with traffic(route='nowhere'):\n        pass", behaviour=soon)

    ran.outcomes(inconclusive=1)
    ran.result.stdout.fnmatch_lines(["by_hand * INCONCLUSIVE * no steady state: *"])


@pytest.mark.parametrize(
    ("test", "status", "shown"),
    [
        ("chaos.replica().kill()", 1, "by_hand * measured *"),
        ("serve_cluster.of('replica')", 1, "no experiment in *"),
    ],
)
def test_the_history_of_a_run_is_judged_again_as_it_was(
    run_chaos: RunChaos, capsys: pytest.CaptureFixture[str], test: str, status: int, shown: str
) -> None:
    source = f"def test_by_hand(chaos, serve_cluster, traffic):\n    with traffic():\n        {test}"
    ran = run_chaos(source)

    ran.outcomes(passed=1)
    capsys.readouterr()
    assert main(["analyse", str(ran.directory / "history.jsonl")]) == status
    assert fnmatch(capsys.readouterr().out, f"*{shown}*")


def test_logs_that_cannot_be_kept_are_no_error(run_chaos: RunChaos, monkeypatch: pytest.MonkeyPatch) -> None:
    def keep(logs: FakeLogs) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(FakeLogs, "keep", keep)
    ran = run_chaos("def test_it(chaos):\n    chaos.replica().kill()\n    assert False")

    ran.outcomes(failed=1)
    ran.result.stdout.fnmatch_lines(["the files cannot be kept: no space left"])
    assert not (ran.directory / "logs").exists()


def test_what_a_run_writes_is_not_committed_by_accident(run_chaos: RunChaos) -> None:
    ran = run_chaos("def test_it(serve_cluster): pass")

    assert (ran.path / ".serve-chaos/.gitignore").read_text().splitlines()[-1] == "*"


def test_a_directory_of_ones_own_gets_the_report(run_chaos: RunChaos) -> None:
    ran = run_chaos("def test_it(serve_cluster): pass", "--serve-chaos-report-dir=elsewhere")

    (directory,) = runs_in(ran.path / "elsewhere")
    assert {file.name for file in directory.iterdir()} >= {"history.jsonl", "summary.json"}


def test_the_newest_run_and_the_page_of_all_runs_are_next_to_the_reports(run_chaos: RunChaos) -> None:
    (newest := Path(".serve-chaos/latest")).parent.mkdir()
    newest.symlink_to("2026-11-22T18-04-11")  # which is gone
    (newest.parent / "index.html").mkdir()  # of somebody else
    ran = run_chaos("from pathlib import Path\ndef test_it(serve_cluster): assert Path('.serve-chaos/latest').is_dir()")

    ran.outcomes(passed=1)
    assert newest.resolve() == ran.directory
    newest.with_name("index.html").rmdir()
    ran = run_chaos("def test_it(serve_cluster): pass")
    assert f"{newest.resolve().name}/summary.json" in newest.with_name("index.html").read_text()


@pytest.mark.usefixtures("fake_is_importable")
def test_progress_is_shown_whatever_is_captured(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CONFTEST.format(""))
    pytester.makepyfile("def test_it(serve_cluster, chaos):\n    print('hidden')\n    chaos.replica().kill()")

    result = pytester.runpytest_subprocess("--serve-chaos", *LOAD)

    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["serve-chaos: fake backend, *", "serve-chaos: chose replica * by the seed"])
    result.stdout.no_fnmatch_line("*hidden*")
