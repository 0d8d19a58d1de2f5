"""Runs that a comparison starts, with a program in the place of pytest."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from pytest_serve_chaos import clock
from pytest_serve_chaos.analysis.comparison import compare_pairs
from pytest_serve_chaos.analysis.likeness import Likeness
from pytest_serve_chaos.analysis.trial_figures import Trial, measures_of
from pytest_serve_chaos.cli import main
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.comparing import child_run, commands, environments
from pytest_serve_chaos.comparing.bisection import Bisection, between, report_document, report_text, without
from pytest_serve_chaos.comparing.child_run import Side, TestRun, what_to_run
from pytest_serve_chaos.comparing.collected import experiments_in
from pytest_serve_chaos.comparing.commands import add_compare, split_arguments
from pytest_serve_chaos.comparing.environments import requirement
from pytest_serve_chaos.comparing.paired import PairedComparison, Plan
from pytest_serve_chaos.errors import MissingDependency, RunFailed, SettingsError

RUNS_TESTS = """#!{python} -IS
import json, pathlib, sys, time
given = dict(word.removeprefix("--serve-chaos-").split("=", 1) for word in sys.argv if "=" in word)
print("started", sys.argv[1:], flush=True)
NAME, RUN = "head", "passed"
{body}
out = pathlib.Path(given["report-dir"]) / "run"
out.mkdir(parents=True)
measurement = dict(sent=400, lost=lost, longest_outage=lost / 20, redundancy_back=8.0, during=dict(p99=0.1))
one = dict(experiment=NAME, verdict=RUN, measurement=measurement, expectations=dict(), cluster=dict())
(out / "summary.json").write_text(json.dumps(dict(schema=2, experiments=[one])))
"""


def program(tmp_path: Path, body: str, name: str = "python") -> Path:
    """A program that is called as Python would be, and writes a summary as pytest would."""
    path = tmp_path / name
    path.write_text(RUNS_TESTS.format(python=sys.executable, body=body))
    path.chmod(0o700)
    return path


def plan(tmp_path: Path, old: str, new: str, most: int = 12) -> Plan:
    sides = (
        Side("old", program(tmp_path, old, "old")),
        Side("new", program(tmp_path, new, "new"), ("--serve-chaos-workers=3",)),
    )
    return Plan(sides, (("test_it.py",),), 1, measures_of(["lost", "outage"]), most, 100, tmp_path / "runs")


# -- pairs -------------------------------------------------------------------------------------------------------------


def test_both_sides_run_in_turns_with_the_same_seed_until_it_is_decided(tmp_path: Path) -> None:
    said: list[str] = []
    going = PairedComparison(plan(tmp_path, "lost = 1", "lost = 14"), said.append)
    going.run()

    found = going.comparison()
    assert found.answer == "worse"
    pairs = len(found.rows[0].old)
    assert pairs < 12
    assert said[-1] == f"head: decided after {pairs} pairs"
    runs = [line for line in said if line.startswith("pair ")]
    assert [line.split(" on ")[1].split(":")[0] for line in runs[:4]] == ["old", "new", "new", "old"]
    seeds = [log.read_text().split("seed=")[1].split()[0] for log in sorted((tmp_path / "runs").glob("*.log"))]
    assert seeds[:4] == ["101", "101", "102", "102"]
    assert "--serve-chaos-workers=3" in (tmp_path / "runs" / "pair-01-new.log").read_text()


def test_sides_that_are_equal_end_as_soon_as_there_is_an_answer_that_more_pairs_could_not_change(
    tmp_path: Path,
) -> None:
    said: list[str] = []
    equal = plan(tmp_path, "sys.exit(3)", "sys.exit(3)", most=9)
    for name in (f"pair-{pair:02d}-{side}" for pair in range(1, 9) for side in ("old", "new")):  # made before
        run_at(equal.directory / name / "run", 1)
        (equal.directory / name / "ended").write_text("0\n")
    going = PairedComparison(equal, said.append)
    going.run()

    assert going.comparison().answer == "no worse"
    assert said[-1] == "head: 1 more pair could not decide it"


def test_both_runs_are_one_pair_however_many_trials_they_have(tmp_path: Path) -> None:
    """Their trials share a cluster, so ten of them are not ten pairs."""
    several = plan(tmp_path, "sys.exit(3)", "sys.exit(3)", most=1)
    for side, losses in (("old", (1, 2, 3)), ("new", (14, 30, 15))):  # made before
        run_at(several.directory / f"pair-01-{side}" / "run", *losses)
        (several.directory / f"pair-01-{side}" / "ended").write_text("0\n")
    going = PairedComparison(several, print)
    going.run()

    (row, _) = going.comparison().rows
    assert (row.old, row.new) == ((2.0,), (15.0,))


def test_a_run_that_was_made_before_is_not_made_again(tmp_path: Path) -> None:
    PairedComparison(plan(tmp_path, "lost = 1", "lost = 14", most=2), print).run()
    again = PairedComparison(plan(tmp_path, "sys.exit(3)", "sys.exit(3)", most=2), print)
    again.run()

    assert len(again.pairs["head"]) >= 1


def test_arguments_that_pytest_refuses_end_the_comparison_with_its_words(tmp_path: Path) -> None:
    going = PairedComparison(plan(tmp_path, "print('ERROR: no such test'); sys.exit(4)", "lost = 1"), print)

    with pytest.raises(RunFailed, match="the run on old has no experiment: exit status 4") as raised:
        going.run()
    assert "ERROR: no such test" in str(raised.value)


def test_a_side_that_never_has_a_result_ends_it_after_three_runs(tmp_path: Path) -> None:
    """The other side, which works, is not run in vain: once, where it comes first."""
    going = PairedComparison(plan(tmp_path, "sys.exit(1)", "lost = 1"), print)

    with pytest.raises(RunFailed, match="the run on old has no experiment: exit status 1"):
        going.run()
    assert going.notes == [
        "pair 1: the run on old has no experiment: exit status 1; it counts for nothing",
        "pair 2: the run on old has no experiment: exit status 1; it counts for nothing",
    ]
    assert sorted(path.name for path in (tmp_path / "runs").glob("*.log")) == [
        "pair-01-old.log",
        "pair-02-new.log",
        "pair-02-old.log",
        "pair-03-old.log",
    ]


def test_a_side_that_is_always_inconclusive_ends_it_after_three_runs(tmp_path: Path) -> None:
    body = "lost = 1\nRUN = 'inconclusive'"
    going = PairedComparison(plan(tmp_path, body, "lost = 1"), print)

    with pytest.raises(RunFailed, match="3 runs on old one after the other were inconclusive"):
        going.run()
    assert len(going.pairs["head"]) == 2


def test_an_experiment_that_one_side_never_has_is_noted(tmp_path: Path) -> None:
    going = PairedComparison(plan(tmp_path, "lost = 1", "lost = 1\nNAME = 'other'", most=1), print)
    going.run()

    assert (going.comparison().answer, going.comparison().notes) == (
        "cannot say",
        ("only old has head, which cannot be compared", "only new has other, which cannot be compared"),
    )


def test_a_run_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    run = TestRun(Side("old", program(tmp_path, "time.sleep(60)")), ("x",), 1, tmp_path / "run", deadline=0.2)

    with pytest.raises(RunFailed, match="it took longer than"):
        run.trials()


def test_a_run_that_does_not_end_when_it_is_asked_to_is_ended_by_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_run, "ENDS_WITHIN", 0.1)
    body = (
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ignores it', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([program(tmp_path, body)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "ignores it\n" in process.stdout
        child_run._end(process)  # type: ignore[arg-type]

        assert process.returncode == -signal.SIGKILL


def test_a_run_that_takes_too_long_in_its_experiment_has_no_result(tmp_path: Path) -> None:
    body = "lost, RUN = 1, 'unfinished'"
    run = TestRun(Side("old", program(tmp_path, body)), ("x",), 1, tmp_path / "run")
    slow = dataclasses.replace(run, side=Side("old", program(tmp_path, body)))
    assert [trial.outcome for trial in run.trials()] == ["unfinished"]

    text = Path(slow.side.python).read_text() + "\ntime.sleep(60)\n"
    Path(slow.side.python).write_text(text)
    (run.directory / "ended").unlink()
    with pytest.raises(RunFailed, match="it took longer than"):
        dataclasses.replace(slow, deadline=0.5).trials()


def test_a_signal_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as by nohup
    try:
        with child_run.signals_as_interrupts():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert callable(signal.getsignal(signal.SIGTERM))
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)


NEVER_ENDS = """
import sys
from pathlib import Path
from pytest_serve_chaos.comparing.child_run import Side, TestRun, signals_as_interrupts
with signals_as_interrupts():
    TestRun(Side("old", Path(sys.argv[1])), ("x",), 1, Path(sys.argv[2])).trials()
"""


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_comparison_that_is_ended_leaves_no_run(tmp_path: Path, how: signal.Signals) -> None:
    pid_file = tmp_path / "pid"
    body = f"import os; pathlib.Path({str(pid_file)!r}).write_text(str(os.getpid())); time.sleep(60)"
    words = [sys.executable, "-c", NEVER_ENDS, str(program(tmp_path, body)), str(tmp_path / "run")]
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL)

    def there() -> int | NotYet:
        text = pid_file.read_text() if pid_file.exists() else ""
        return int(text) if text else NotYet("no PID")

    pid = clock.wait_until("the run", there, timeout=20.0, interval=0.02)
    process.send_signal(how)
    process.wait(20)

    def gone() -> bool | NotYet:
        return not Path(f"/proc/{pid}").exists() or NotYet("it runs")

    assert clock.wait_until("the run to end", gone, timeout=20.0, interval=0.02)


# -- bisection ---------------------------------------------------------------------------------------------------------

LISTED = "ray (2.60.0)\nAvailable versions: 2.60.0, 2.59.0, 2.58.1, 2.58.0, 2.57.0rc1, 2.56.1, 2.55.0, 2.54.1, 2.54.0\n"


def test_the_releases_between_two_are_in_their_order_without_candidates() -> None:
    assert between(LISTED, "2.54", "2.58.1") == ["2.54.1", "2.55.0", "2.56.1", "2.58.0", "2.58.1"]


@pytest.mark.parametrize(
    ("listed", "good", "bad", "why"),
    [
        ("", "2.54", "2.60", "does not list"),
        (LISTED, "2.53", "2.60", "no release 2.53"),
        (LISTED, "2.60", "2.54", "not older"),
    ],
)
def test_what_cannot_be_bisected_is_refused(listed: str, good: str, bad: str, why: str) -> None:
    with pytest.raises(SettingsError, match=why):
        between(listed, good, bad)


@pytest.mark.parametrize("first", range(1, 8))
def test_the_release_with_the_defect_is_found(first: int) -> None:
    (measure,) = measures_of(["lost"])
    versions = [f"2.{minor}.0" for minor in range(8)]

    def trial(version: str, number: int) -> Trial | None:
        lost = 14.0 + number if versions.index(version) >= first else number % 3
        return None if number == 1 else Trial("head", "passed", {"lost": lost})

    likeness = Likeness.between([0, 1, 2, 0, 1, 0, 1, 0, 2], [14, 15, 9, 30, 16, 12, 14, 90, 13])
    found = Bisection(versions, "head", measure, likeness, trial, lambda _: None)

    assert found.first_bad() == versions[first]
    assert all(step.sure for step in found.steps)


def test_a_release_that_shows_nothing_ends_it() -> None:
    (measure,) = measures_of(["lost"])
    found = Bisection(["1", "2", "3"], "h", measure, Likeness.between([0.0], [9.0]), lambda *_: None, lambda _: None)

    with pytest.raises(RunFailed, match="no trial of Ray 2 showed its lost requests"):
        found.first_bad()


def test_three_trials_without_a_result_are_enough_to_give_a_release_up() -> None:
    (measure,) = measures_of(["lost"])
    tried: list[int] = []
    likeness = Likeness.between([0.0], [9.0])
    found = Bisection(["1", "2", "3"], "h", measure, likeness, lambda _, n: tried.append(n), lambda _: None)

    with pytest.raises(RunFailed):
        found.first_bad()
    assert tried == [1, 2, 3]


def test_what_was_found_is_said_in_sentences() -> None:
    (measure,) = measures_of(["outage"])
    likeness = Likeness.between([0.0, 1.0], [9.0, 8.0])
    found = Bisection(["2.54.0", "2.55.0", "2.56.0"], "h", measure, likeness, lambda *_: None, lambda _: None)
    trials = [(Trial("h", "passed", {"outage": old}), Trial("h", "passed", {"outage": 9.0})) for old in (0.0, 1.0)]
    compared = compare_pairs({"h": trials}, (measure,), names=("Ray 2.54.0", "Ray 2.56.0"))

    assert report_text(found, "2.55.0", compared).splitlines() == [
        "h: longest outage: worse since Ray 2.55.0; Ray 2.54.0 is good",
        "  2.54.0    good  0 ms, 1.0 s",
        "  2.56.0    bad   9.0 s, 9.0 s",
        "a release counts as bad if its trials are above 1.0 s as often as those of Ray 2.56.0",
    ]


def test_a_step_that_its_trials_did_not_decide_is_said_in_what_was_found() -> None:
    (measure,) = measures_of(["outage"])
    likeness = Likeness.between([0.0] * 5, [9.0] * 5)

    def trial(_: str, number: int) -> Trial:
        return Trial("h", "passed", {"outage": 9.0 if number % 2 else 0.0})

    found = Bisection(["2.54.0", "2.55.0", "2.56.0"], "h", measure, likeness, trial, lambda _: None, most=3)
    first_bad = found.first_bad()
    trials = [(Trial("h", "passed", {"outage": 0.0}), Trial("h", "passed", {"outage": 9.0}))] * 5
    compared = compare_pairs({"h": trials}, (measure,), names=("Ray 2.54.0", "Ray 2.56.0"))

    assert report_text(found, first_bad, compared).splitlines()[:5] == [
        "h: longest outage: probably worse since Ray 2.55.0, and perhaps since another release",
        "  not sure: 3 trials of Ray 2.55.0 did not decide whether it is good or bad",
        "  --trials allows more of them, --directory continues",
        "  2.54.0    good  0 ms, 0 ms, 0 ms, 0 ms, 0 ms",
        "  2.55.0    bad?  9.0 s, 0 ms, 9.0 s",
    ]
    document = json.loads(report_document(found, first_bad))
    assert (document["sure"], document["steps"][0]["sure"]) == (False, False)


def test_a_minor_release_is_left_out_with_its_patches() -> None:
    assert without(["2.54.1", "2.55.0", "2.55.1", "2.56.0"], ["2.55"]) == ["2.54.1", "2.56.0"]


def test_an_end_is_not_left_out() -> None:
    with pytest.raises(SettingsError, match=r"--skip leaves out 2\.54\.1 or 2\.56\.0"):
        without(["2.54.1", "2.55.0", "2.56.0"], ["2.56"])


# -- environments ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "installed"),
    [
        ("2.60.0", "ray[serve]==2.60.0"),
        ("2.60", "ray[serve]==2.60.*"),
        ("https://x/r.whl", "ray[serve] @ https://x/r.whl"),
    ],
)
def test_a_ray_becomes_a_requirement(said: str, installed: str) -> None:
    assert requirement(said) == installed


@pytest.mark.parametrize("said", ["newest", "2.60.0; rm", "/nowhere/ray.whl", "--index-url"])
def test_what_is_not_a_ray_is_refused(said: str) -> None:
    with pytest.raises(SettingsError):
        requirement(said)


FAKE_VENV = """#!/bin/sh
echo "$@" >> {calls}
case "$*" in
  *"-m venv"*) for last; do :; done; mkdir -p "$last/bin"; cp "$0" "$last/bin/python" ;;
  *install*) exit {status} ;;
  *version*) echo 2.54.1 ;;
esac
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file with the calls of an interpreter that does what pip and venv would do, but for the work."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "calls"


def interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: Path, status: int = 0) -> None:
    path = tmp_path / "interpreter"
    path.write_text(FAKE_VENV.format(calls=calls, status=status))
    path.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(path))


def test_an_environment_is_made_once_and_used_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: Path
) -> None:
    interpreter(tmp_path, monkeypatch, calls)
    for _ in range(2):
        with environments.environment("2.54", ["my-app"], tmp_path / "log", print) as made:
            assert made.ray == "2.54.1"
            assert made.python.is_relative_to(tmp_path / "cache" / "pytest-serve-chaos" / "environments")

    lines = calls.read_text().splitlines()
    assert [line for line in lines if " venv " in line] == [lines[0]]
    (installed,) = [line for line in lines if " install " in line]
    assert installed.endswith("[local] ray[serve]==2.54.* my-app")


def test_the_users_own_app_is_installed_as_it_is_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: Path
) -> None:
    interpreter(tmp_path, monkeypatch, calls)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my-app").mkdir()
    for _ in range(2):
        with environments.environment("2.54", ["./my-app"], tmp_path / "log", print):
            pass

    installed = [line for line in calls.read_text().splitlines() if " install " in line]
    assert installed[0].endswith(f"ray[serve]==2.54.* {tmp_path / 'my-app'}")
    assert installed[1].endswith(f"--force-reinstall --no-deps {tmp_path / 'my-app'}")
    assert installed[2].endswith(f"--no-input install {tmp_path / 'my-app'}")


def test_another_app_of_the_same_relative_path_has_another_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: Path
) -> None:
    interpreter(tmp_path, monkeypatch, calls)
    made = set()
    for name in ("one", "two"):
        (tmp_path / name / "my-app").mkdir(parents=True)
        monkeypatch.chdir(tmp_path / name)
        with environments.environment("2.54", ["./my-app[x]"], tmp_path / "log", print) as there:
            made.add(there.python)

    assert len(made) == 2


def test_a_wheel_that_was_built_again_has_another_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: Path
) -> None:
    interpreter(tmp_path, monkeypatch, calls)
    wheel, made = tmp_path / "ray-3.0.0.whl", set()
    for content in ("one", "another"):
        wheel.write_text(content)
        with environments.environment(str(wheel), [], tmp_path / "log", print) as there:
            made.add(there.python)

    assert len(made) == 2


def test_an_environment_whose_stamp_is_cut_off_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: Path
) -> None:
    interpreter(tmp_path, monkeypatch, calls)
    with environments.environment("2.54", [], tmp_path / "log", print) as made:
        (made.python.parents[1] / "serve-chaos-environment.json").write_text('{"packa')
    with environments.environment("2.54", [], tmp_path / "log", print) as made:
        assert made.ray == "2.54.1"


def test_an_environment_that_cannot_be_made_says_why_and_is_not_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: Path
) -> None:
    interpreter(tmp_path, monkeypatch, calls, status=7)
    with (
        pytest.raises(MissingDependency, match=r"could not install ray.*exit status 7") as raised,
        environments.environment("2.54.0", [], tmp_path / "log", print),
    ):
        pass

    assert f"log: {tmp_path / 'log'}" in str(raised.value)
    assert not list((tmp_path / "cache" / "pytest-serve-chaos" / "environments").iterdir())


def test_the_package_that_runs_becomes_a_wheel(tmp_path: Path) -> None:
    wheel = environments._Wheel.of_this_package().write(tmp_path)

    names = zipfile.ZipFile(wheel).namelist()
    assert "pytest_serve_chaos/plugin.py" in names
    assert any(name.endswith(".dist-info/RECORD") for name in names)
    assert not any("__pycache__" in name for name in names)


# -- the command line --------------------------------------------------------------------------------------------------


def run_at(directory: Path, *losses: int) -> Path:
    """A run with one experiment, in as many trials."""
    measured = [{"sent": 400, "lost": n, "longest_outage": n / 20, "during": {"p99": 0.1}} for n in losses]
    head = {"experiment": "head", "verdict": "passed", "expectations": {}, "cluster": {}}
    directory.mkdir(parents=True)
    trials = [{**head, "measurement": measurement} for measurement in measured]
    (directory / "summary.json").write_text(json.dumps({"schema": 2, "experiments": trials}))
    return directory


def test_directories_of_runs_are_sets_of_trials(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(8):
        run_at(tmp_path / "old" / str(number), number % 3)
        run_at(tmp_path / "new" / str(number), 14 + number)

    assert main(["compare", str(tmp_path / "old"), str(tmp_path / "new")]) == 1
    assert "new is worse, p < 0.001 after 8 against 8 trials" in capsys.readouterr().out
    assert main(["compare", str(tmp_path / "old"), str(tmp_path / "old"), "--format=json"]) == 0
    assert json.loads(capsys.readouterr().out)["answer"] == "no worse"


def test_one_run_against_one_has_a_status_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = run_at(tmp_path / "a", 0), run_at(tmp_path / "b", 300)

    assert main(["compare", str(old), str(new)]) == 2
    assert "one trial against one has no p-value" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["compare"], "nothing says which runs are compared"),
        (["compare", "nowhere", "elsewhere"], "there is no run at nowhere"),
        (["compare", "--ray=2.54.1", "head_failure"], "both sides are the same"),
        (["compare", "--set=workers=2", "--set=workers=2", "head_failure"], "both sides are the same"),
        (["compare", "--set=workers", "head_failure"], "is not KEY=VALUE"),
        (["compare", "--set=worker=2", "--set=worker=3", "head_failure"], "there is no setting 'worker'"),
        (["compare", "--set=workers=2", "--set=workers=x", "head_failure"], "--set workers=x cannot be used"),
        (["compare", "--set=seed=2", "--set=seed=3", "head_failure"], "each run of a comparison has its own"),
        (["compare", "--set=workers=2", "--set=workers=3", "--pairs=8", "head_failure"], "that takes 10, all of them"),
        (["compare", "--set=workers=2", "--set=workers=3", "--on=,", "head_failure"], "--on names nothing"),
        (["compare", "--ray=1.0", "--ray=2.0", "x", "--", "--serve-chaos-backend=kind"], "--ray compares on local"),
        (["bisect", "--good=2.54", "--bad=2.60", "--pairs=3", "head_failure"], "could show no difference"),
        (["compare", "--ray=2.54.1", "--ray=2.60.0"], "nothing says which experiments"),
        (["compare", "a", "b", "--on=x"], "cannot be compared"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], why: str
) -> None:
    monkeypatch.chdir(tmp_path)
    run_at(tmp_path / "a", 0)
    run_at(tmp_path / "b", 0)

    assert main(words) == 2
    assert why in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [("compare", "--ray=2.54.1", "--ray=2.60.0"), ("bisect", "--good=2.54", "--bad=2.60")],
    ids=["compare", "bisect"],
)
def test_a_test_that_is_nowhere_is_refused_before_anything_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "test_app.py").write_text("def test_upgrade(): pass")

    assert main([*command, "test_app.py::test_upgrad"]) == 2
    said = capsys.readouterr().err
    assert "pytest finds no test 'test_app.py::test_upgrad'" in said
    assert "environment" not in said


@pytest.mark.parametrize("imports", ["", "import installed_for_both_sides_only\n"], ids=["is", "cannot be imported"])
def test_a_test_that_may_be_there_is_not_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, imports: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "test_app.py").write_text(f"{imports}def test_upgrade(): pass")
    assert experiments_in(("test_app.py::test_upgrade",)) == 1


def test_a_file_needs_as_many_pairs_as_its_experiments_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    experiments = [f"def test_{n}(experiment): pass" for n in range(3)]
    (tmp_path / "test_app.py").write_text("\n".join([*experiments, "def test_helper(): pass"]))
    assert experiments_in(("test_app.py",)) == 3
    assert experiments_in(("test_app.py",), ("-k", "test_1")) == 1

    assert main(["compare", "--ray=2.54.1", "--ray=2.60.0", "--pairs=9", "--on=lost,outage", "test_app.py"]) == 2
    assert "9 pairs could show no difference in 2 measures of 3 experiments: that takes 10" in capsys.readouterr().err


def sides(*words: str) -> tuple[Side, Side]:
    """The sides of a comparison on one Ray."""
    parser = argparse.ArgumentParser()
    add_compare(parser)
    given = parser.parse_args([*words, "head_failure"])
    with contextlib.ExitStack() as held:
        return commands._sides(given, commands._differences(given), Path(), held)


def test_a_setting_is_an_option_and_anything_else_a_variable_of_the_cluster() -> None:
    old, new = sides("--set=workers=2", "--set=workers=3", "--set=RAY_x=1", "--set=RAY_x=2", "--set=rate=9")

    assert old.name == "workers=2, RAY_x=1"
    assert new.arguments == ("--serve-chaos-workers=3", "--serve-chaos-rate=9", "--serve-chaos-env=RAY_x=2")


def test_a_secret_is_in_no_name_and_on_no_command_line() -> None:
    old, new = sides("--set=headers=Authorization: a", "--set=headers=Authorization: b")

    assert (old.name, new.name, new.arguments) == ("old headers", "new headers", ())
    assert dict(new.environment) == {"SERVE_CHAOS_HEADERS": "Authorization: b"}


def test_a_variable_that_looks_like_a_secret_is_on_no_command_line() -> None:
    old, new = sides("--set=API_KEY=a", "--set=API_KEY=b", "--set=RAY_x=1")

    assert (old.name, new.name, new.arguments) == ("old API_KEY", "new API_KEY", ())
    assert dict(new.environment) == {"SERVE_CHAOS_ENV": "API_KEY=b\nRAY_x=1"}


def test_variables_come_from_one_place_however_they_are_written() -> None:
    old, new = sides("--set=env=http_proxy=a", "--set=env=http_proxy=b", "--set=RAY_x=1")

    assert old.name == "http_proxy=a"
    assert new.arguments == ("--serve-chaos-env=http_proxy=b", "--serve-chaos-env=RAY_x=1")


def test_a_setting_that_is_on_or_off_has_no_value_on_the_command_line() -> None:
    old, _ = sides("--set=otel=on", "--set=otel=off")

    assert (old.arguments, dict(old.environment)) == ((), {"SERVE_CHAOS_OTEL": "on"})


def test_a_ray_is_run_on_the_local_backend_whatever_the_configuration_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: Path
) -> None:
    interpreter(tmp_path, monkeypatch, calls)
    monkeypatch.chdir(tmp_path)

    assert [one.arguments for one in sides("--ray=2.54.0", "--ray=2.55.0")] == [("--serve-chaos-backend=local",)] * 2


def test_a_comparison_with_another_value_on_both_sides_is_another_one(tmp_path: Path) -> None:
    first = plan(tmp_path, "lost = 1", "lost = 2")
    first.directory.mkdir()
    commands._keep_plan(first)
    slower = [dataclasses.replace(side, arguments=(*side.arguments, "--serve-chaos-rate=9")) for side in first.sides]

    with pytest.raises(SettingsError, match="another comparison"):
        commands._keep_plan(dataclasses.replace(first, sides=(slower[0], slower[1])))


def test_the_runs_of_another_comparison_are_not_continued(tmp_path: Path) -> None:
    first = plan(tmp_path, "lost = 1", "lost = 2")
    first.directory.mkdir()
    commands._keep_plan(first)
    commands._keep_plan(first)

    with pytest.raises(SettingsError, match="another comparison"):
        commands._keep_plan(dataclasses.replace(first, seed=7))


@pytest.mark.parametrize(("error", "status", "why"), [(KeyboardInterrupt, 130, "it was interrupted"),
                                                     (AssertionError, 2, "AssertionError")])  # fmt: skip
def test_what_was_measured_before_the_end_of_a_comparison_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException], status: int, why: str
) -> None:
    def ends(going: PairedComparison) -> None:
        going.pairs["head"] = [(Trial("head", "passed", {"lost": 1.0}), Trial("head", "passed", {"lost": 2.0}))]
        raise error

    monkeypatch.setattr(PairedComparison, "run", ends)
    monkeypatch.chdir(tmp_path)

    assert main(["compare", "--set=workers=2", "--set=workers=3", "head_failure"]) == status
    (report,) = tmp_path.glob(".serve-chaos/compare-*/comparison.json")
    document = json.loads(report.read_text())
    assert document["notes"] == [f"the comparison is not complete: {why}"]
    assert document["comparisons"][0]["old"] == [1.0]


def test_words_after_two_hyphens_are_for_pytest() -> None:
    assert split_arguments(["compare", "x", "--", "-k", "y"]) == (["compare", "x"], ["-k", "y"])
    assert split_arguments(["doctor", "--", "local"]) == (["doctor", "--", "local"], [])


def test_a_fault_is_a_test_of_this_package() -> None:
    assert what_to_run(["head_failure", "head_failure:stop", __file__]) == [
        ("--pyargs", "pytest_serve_chaos.comparing.fault_tests::test_head_failure_kill"),
        ("--pyargs", "pytest_serve_chaos.comparing.fault_tests::test_head_failure_stop"),
        (__file__,),
    ]
