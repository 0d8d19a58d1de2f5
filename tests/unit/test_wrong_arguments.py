"""What the commands of `serve-chaos` cannot use is refused at once, before `compare` and `bisect` install a Ray."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_serve_chaos.analysis.trial_figures import measures_of
from pytest_serve_chaos.cli import main
from pytest_serve_chaos.comparing.child_run import what_to_run
from pytest_serve_chaos.errors import SettingsError

BOTH = ("--set=workers=2", "--set=workers=3")


@pytest.fixture(autouse=True)
def empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("compare", "--ray=2.60.0", "--ray=newest", "head_failure"), "'newest' is not a version of Ray"),
        (("compare", *BOTH, "hed_failure"), "name a fault, as head_failure"),
        (("compare", *BOTH, "head_failure:halt"), "head_failure:kill: kill, stop, freeze"),
        (("compare", *BOTH, "test_nosuch.py"), "the file or directory test_nosuch.py"),
        (("compare", *BOTH, "tests/test_nosuch.py::test_it"), "the file or directory tests/test_nosuch.py"),
    ],
)
def test_what_cannot_be_run_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], why: str
) -> None:
    assert main(words) == 2
    assert why in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [], "a directory for runs that never began"


@pytest.mark.parametrize("command", ["doctor", "undo"])
def test_an_option_is_named_as_the_command_has_it(capsys: pytest.CaptureFixture[str], command: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--context=staging", "--rayservice=ranker"])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "argument --rayservice: 'ranker' is not valid: it must be namespace/name of a RayService" in said


def test_what_names_a_cluster_is_named_if_a_part_of_it_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["undo", "--context=staging"]) == 2
    said = capsys.readouterr().err
    assert "--rayservice is missing" in said
    assert "give --context NAME and --rayservice NAMESPACE/NAME" in said


def test_nothing_to_compare_is_refused() -> None:
    with pytest.raises(SettingsError, match="--on names nothing to compare"):
        measures_of([])


def test_a_test_may_be_whatever_pytest_takes(tmp_path: Path) -> None:
    (tmp_path / "test_app.py").touch()
    for word in ("test_app.py::test_it[a::b]", ".", "my_project.tests"):
        assert what_to_run([word]) == [(word,)]
    with pytest.raises(SettingsError, match="there is no test 'worker_failures', and no such fault"):
        what_to_run(["worker_failures"])


@pytest.mark.parametrize("number", ["0", "-3", "many"])
@pytest.mark.parametrize("option", ["--pairs", "--trials"])
def test_a_number_of_runs_is_one_or_more(capsys: pytest.CaptureFixture[str], option: str, number: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["bisect", "head_failure", "--good=2.54", "--bad=2.60", f"{option}={number}"])
    assert ended.value.code == 2
    assert f"{option}: {number!r} is not valid: it must be a whole number, 1 or more" in capsys.readouterr().err


@pytest.mark.parametrize("deadline", ["soon", "0", "-5"])
def test_a_deadline_is_a_duration(capsys: pytest.CaptureFixture[str], deadline: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["compare", *BOTH, "head_failure", f"--deadline={deadline}"])
    assert ended.value.code == 2
    assert f"--deadline: {deadline!r} is not valid: it must be a duration of more than 0" in capsys.readouterr().err
