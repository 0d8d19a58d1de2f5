from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_serve_chaos import doctor
from pytest_serve_chaos.backends import Finding
from pytest_serve_chaos.cli import main
from pytest_serve_chaos.cluster.base import Ingress
from pytest_serve_chaos.cluster.local import preflight
from pytest_serve_chaos.doctor import examine
from pytest_serve_chaos.errors import MissingDependency, SettingsError
from pytest_serve_chaos.history import History
from pytest_serve_chaos.model import NO_DEMANDS, Json
from pytest_serve_chaos.safety.journal import directory_of_journals, journal_of
from tests.unit.histories import Story, head_failure, node_failure
from tests.unit.test_safety import of_a_dead_run, planted


@pytest.fixture
def empty_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine on whose PATH there is nothing yet."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()
    return tmp_path / "bin"


def program(directory: Path, name: str, script: str) -> None:
    path = directory / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


# -- analyse -----------------------------------------------------------------------------------------------------------


def test_a_history_is_judged_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "history.jsonl"
    story = head_failure()
    story.event(61.0, "verdict", "passed")
    story.history(file)
    assert main(["analyse", str(file)]) == 0
    assert "head_failure  passed" in capsys.readouterr().out
    assert main(["analyse", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["experiments"][0]["verdict"] == "passed"
    assert main(["analyse", str(file), str(file), "--format", "github"]) == 0
    assert capsys.readouterr().out.count("| head\\_failure | passed |") == 2
    assert main(["analyse", str(file), "--timeline", "head_failure"]) == 0
    assert "14 processes are gone" in capsys.readouterr().out


def test_a_failed_experiment_makes_the_exit_status(tmp_path: Path) -> None:
    file = tmp_path / "history.jsonl"
    story = node_failure()
    story.event(61.0, "verdict", "failed")
    story.history(file)
    assert main(["analyse", str(file)]) == 1


def test_a_file_that_is_not_there_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["analyse", str(tmp_path / "none")]) == 2
    assert "cannot be read" in capsys.readouterr().err


def test_the_directory_of_a_run_comes_with_the_file_in_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    head_failure().history(tmp_path / "history.jsonl")
    assert main(["analyse", str(tmp_path)]) == 2
    assert f"give {tmp_path / 'history.jsonl'}" in capsys.readouterr().err


def test_a_pipe_is_not_waited_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert main(["analyse", str(tmp_path / "pipe")]) == 2
    assert "it is not a file" in capsys.readouterr().err


def test_an_experiment_that_is_not_there_is_named_with_those_that_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    head_failure().history(tmp_path / "history.jsonl")
    assert main(["analyse", str(tmp_path / "history.jsonl"), "--timeline", "head_lost"]) == 2
    said = capsys.readouterr().err
    assert "the history has no experiment 'head_lost'" in said
    assert "its experiments: head_failure" in said


def test_a_check_that_no_experiment_has_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    passed().history(tmp_path / "history.jsonl")
    assert main(["analyse", str(tmp_path / "history.jsonl"), "--check=tests.unit.test_checks:MostLost"]) == 0
    assert "has the check MostLost, so none is judged by it" in capsys.readouterr().err


def passed(experiment: str = "head_failure") -> Story:
    """An experiment that was judged."""
    story = head_failure()
    story.events = [replace(event, experiment=experiment) for event in story.events]
    story.experiment = experiment
    return story.event(61.0, "verdict", "passed")


def killed() -> Story:
    """Everything is lost, and then the run itself."""
    story = head_failure().lose(0.0, 70.0).until(15.0)
    return story.without("verdict", "settled", "redundancy_back").without_text("done")


def killed_early() -> Story:
    """The run is killed before anything is broken."""
    return head_failure().until(-1.0).without_text("done")


def by_hand() -> Story:
    """What a test broke, and nobody judged."""
    story = Story("by_hand", NO_DEMANDS)
    return story.event(61.0, "verdict", "measured")


def by_hand_of_an_older_version() -> Story:
    """The same, as it was written before such tests had a verdict."""
    story = Story("by_hand").lose(0.0, 70.0).without("expectations").without_text("done")
    return story.event(62.0, "restored", "as before")


def never_steady() -> Story:
    """A test by hand whose traffic never was steady."""
    story = Story("by_hand").without("expectations", "asked", "evidence", "landed", "redundancy_back", "settled")
    return story.event(0.0, "not_started", "no steady state: 9 requests lost").event(1.0, "restored", "as before")


NOT_JUDGED = {
    "killed": (
        killed,
        "head_failure",
        "unfinished",
        "the run ended before its verdict, in the phase watch",
    ),
    "killed-early": (
        killed_early,
        "head_failure",
        "unfinished",
        "the run ended before its verdict, in the phase steady",
    ),
    "by-hand": (by_hand, "by_hand", "measured", "nothing was demanded of the requests, so nothing was judged"),
    "by-hand-older": (
        by_hand_of_an_older_version,
        "by_hand",
        "measured",
        "nothing was demanded of the requests, so nothing was judged",
    ),
    "never-steady": (never_steady, "by_hand", "INCONCLUSIVE", "no steady state: 9 requests lost"),
}


@pytest.mark.parametrize(("story", "name", "word", "why"), NOT_JUDGED.values(), ids=NOT_JUDGED)
def test_what_was_not_judged_has_not_passed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], story: Callable[[], Story], name: str, word: str, why: str
) -> None:
    file = tmp_path / "history.jsonl"
    story().history(file)

    assert main(["analyse", str(file)]) == 1
    table = capsys.readouterr().out
    assert re.search(rf"^{name} +{word} ", table, re.MULTILINE)
    assert why in table
    assert "passed" not in table
    assert "FAILED" not in table

    assert main(["analyse", str(file), "--format", "json"]) == 1
    (experiment,) = json.loads(capsys.readouterr().out)["experiments"]
    assert (experiment["experiment"], experiment["verdict"]) == (name, word.lower())
    assert experiment["reasons"][0] == why

    assert main(["analyse", str(file), "--format", "github"]) == 1
    github = capsys.readouterr().out
    shown = name.replace("_", "\\_")
    assert f"| {shown} | **{word}** |" in github
    assert f"- **{shown}**: {why}" in github


def test_of_a_run_that_was_killed_all_is_shown_that_was_seen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "history.jsonl"
    killed().history(file)
    main(["analyse", str(file)])
    shown = capsys.readouterr().out
    assert "753 / 753" in shown
    assert "0.00 % in 15 s" in shown, "the window of 20 s is not over"
    assert "so far: the longest outage lasted 20.0 s. Allowed: 2 s." in shown


def test_a_history_without_an_experiment_has_not_passed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "history.jsonl"
    History(file).close()
    missing = f"no experiment in {file}"

    assert main(["analyse", str(file)]) == 1
    assert capsys.readouterr().out.startswith(missing)
    assert main(["analyse", str(file), "--format", "github"]) == 1
    assert "- no experiment in " in capsys.readouterr().out
    assert main(["report", str(file), "--format", "table"]) == 0
    assert missing in capsys.readouterr().out
    assert main(["report", str(file), "--format", "json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["experiments"] == []
    assert missing in said.err
    assert main(["report", str(file)]) == 0
    assert missing in capsys.readouterr().err
    assert main(["analyse", str(file), "--format", "json"]) == 1
    said = capsys.readouterr()
    assert json.loads(said.out)["experiments"] == []
    assert said.err.startswith(f"serve-chaos: {missing}")


def looks_only() -> Story:
    """A test that sends requests, breaks nothing and is over."""
    story = Story("looks").without("expectations", "asked", "evidence", "landed", "redundancy_back", "settled")
    return story.event(61.0, "restored", "as before")


@pytest.mark.parametrize(
    ("stories", "status"),
    [
        ((passed, looks_only), 0),
        ((looks_only,), 1),
        ((passed, by_hand), 1),
        ((passed, killed_early), 1),
    ],
    ids=["and-one-that-only-looks", "only-looks", "and-by-hand", "and-killed"],
)
def test_each_experiment_of_a_history_must_have_passed(
    tmp_path: Path, stories: tuple[Callable[[], Story], ...], status: int
) -> None:
    file = tmp_path / "history.jsonl"
    history = History(file)
    for number, story in enumerate(stories):
        told = story()
        told.events = [replace(event, experiment=f"{told.experiment}-{number}") for event in told.events]
        told.add_to(history, later=number * 200.0)
    history.close()
    assert main(["analyse", str(file)]) == status


def test_of_several_histories_each_must_have_passed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, cut, broken = (str(tmp_path / name) for name in ("good", "cut", "broken"))
    passed().history(Path(good))
    killed().history(Path(cut))
    Path(broken).write_text("{}\n")

    assert main(["analyse", good, good]) == 0
    assert main(["analyse", cut, good]) == 1
    capsys.readouterr()
    assert main(["analyse", broken, cut, good]) == 2
    said = capsys.readouterr()
    assert f"{broken} is not a history of format 1" in said.err
    assert "head_failure  unfinished" in said.out
    assert "head_failure  passed" in said.out


# -- what another version wrote ----------------------------------------------------------------------------------------


def rewritten(file: Path, story: Story, kind: str, **changes: Json) -> None:
    """A history in which the records of that kind have other fields; those of events in their data."""
    story.history(file)
    lines = []
    for line in file.read_text().splitlines():
        record = json.loads(line)
        if record.get("kind") == kind:
            record["data"].update(changes)
        elif record["type"] == kind:
            record.update(changes)
        lines.append(json.dumps(record))
    file.write_text("\n".join(lines) + "\n")


def test_a_field_that_is_not_known_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "history.jsonl"
    rewritten(file, passed(), "request", protocol="h2")
    assert main(["analyse", str(file)]) == 0
    assert "head_failure  passed" in capsys.readouterr().out


@pytest.mark.parametrize("limit", [0.001, 0, True, ["p99"]])
def test_a_demand_that_is_not_known_makes_it_inconclusive(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], limit: Json
) -> None:
    file = tmp_path / "history.jsonl"
    rewritten(file, passed(), "expectations", p99_limit=limit)
    assert main(["analyse", str(file)]) == 1
    shown = capsys.readouterr().out
    assert "head_failure  INCONCLUSIVE" in shown
    assert "this version does not know the demand p99_limit" in shown


def test_what_is_written_with_the_demands_is_known(tmp_path: Path) -> None:
    file = tmp_path / "history.jsonl"
    rewritten(file, passed(), "expectations", source="", autoscaled=["default#Other"])
    assert main(["analyse", str(file)]) == 0


@pytest.mark.parametrize("limit", [None, False, []])
def test_what_was_not_demanded_need_not_be_known(tmp_path: Path, limit: Json) -> None:
    file = tmp_path / "history.jsonl"
    rewritten(file, passed(), "expectations", p99_limit=limit)
    assert main(["analyse", str(file)]) == 0


def test_what_fails_a_demand_that_is_known_failed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "history.jsonl"
    rewritten(file, node_failure().event(61.0, "verdict", "failed"), "expectations", p99_limit=0.001)
    assert main(["analyse", str(file)]) == 1
    assert "node_failure  FAILED" in capsys.readouterr().out


@pytest.mark.parametrize("form", ["table", "json", "github"])
def test_a_field_of_another_type_is_named_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    file = tmp_path / "history.jsonl"
    rewritten(file, passed(), "expectations", window="20s")
    assert main(["analyse", str(file), "--format", form]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(
        f"serve-chaos: {file}: line 3: 'window' of the expectations must be a number, not '20s'\nTo fix this"
    )


# -- undo --------------------------------------------------------------------------------------------------------------


def test_nothing_to_undo_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["undo", "--report-dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"nothing is left to undo in {directory_of_journals()}\n"


def test_what_cannot_be_undone_is_said_and_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], empty_path: Path
) -> None:
    journal = journal_of(tmp_path)
    of_a_dead_run(journal, "delete_kind_cluster", name="serve-chaos-abc")
    assert main(["undo", "--report-dir", str(tmp_path)]) == 1
    assert "could not be undone: what delete_kind_cluster mends: the kind backend needs docker" in (
        capsys.readouterr().out
    )
    assert len(journal.left()) == 1
    assert empty_path.is_dir()


@pytest.fixture
def called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where programs write how they were called, which do nothing else."""
    (tmp_path / "bin").mkdir()
    for name in ("docker", "kind", "kubectl"):
        program = tmp_path / "bin" / name
        program.write_text(f'#!/bin/sh\necho "{name} $*" >>{tmp_path / "called"}\n')
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return tmp_path / "called"


DELETE_THEIRS = {"verb": "delete_kind_cluster", "arguments": {"name": "theirs"}, "text": "nothing", "owner": [1, 1]}


def test_what_a_checkout_brings_is_not_looked_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, called: Path
) -> None:
    checkout = tmp_path / "checkout"
    planted(checkout / ".serve-chaos/undo", 0o700).write_text(json.dumps(DELETE_THEIRS))
    monkeypatch.chdir(checkout)
    for arguments in (["undo"], ["undo", "--report-dir", ".serve-chaos"]):
        assert main(arguments) == 0
        assert capsys.readouterr().out == f"nothing is left to undo in {directory_of_journals()}\n"
    assert not called.exists()


def test_no_cluster_of_another_name_is_deleted_whatever_an_entry_says(
    capsys: pytest.CaptureFixture[str], called: Path
) -> None:
    planted(directory_of_journals(), 0o700).write_text(json.dumps(DELETE_THEIRS))
    assert main(["undo"]) == 1
    assert "theirs is not a name that this plugin gives" in capsys.readouterr().out
    assert "delete" not in (called.read_text() if called.exists() else "")


def test_a_cluster_in_another_docker_is_not_taken_for_gone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], empty_path: Path
) -> None:
    for name in ("docker", "kind", "kubectl"):
        program(empty_path, name, 'if [ "$1" = info ]; then echo B; fi')
    journal = journal_of(tmp_path)
    of_a_dead_run(journal, "delete_kind_cluster", name="serve-chaos-abcdef", docker="A")
    assert main(["undo"]) == 1
    assert "the kind cluster serve-chaos-abcdef is in another Docker" in capsys.readouterr().out
    assert len(journal.left()) == 1


def test_a_journal_that_others_can_write_to_is_not_obeyed(capsys: pytest.CaptureFixture[str], called: Path) -> None:
    planted(directory_of_journals(), 0o777).write_text(json.dumps(DELETE_THEIRS))
    assert main(["undo"]) == 2
    assert "its mode is 0777, not 0700" in capsys.readouterr().out
    assert not called.exists()


def test_a_file_that_is_not_an_entry_is_named_and_the_others_are_undone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], empty_path: Path
) -> None:
    journal = journal_of(tmp_path)
    of_a_dead_run(journal, "delete_kind_cluster", name="serve-chaos-abcdef")
    (journal.directory / "0.json").write_text('{"verb": "del')
    assert main(["undo"]) == 2
    said = capsys.readouterr().out
    assert f"could not be undone: {journal.directory / '0.json'} cannot be read" in said
    assert "undo: what delete_kind_cluster mends" in said
    assert empty_path.is_dir()


def test_what_a_run_left_is_found_wherever_the_command_is_started(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, empty_path: Path
) -> None:
    of_a_dead_run(journal_of(tmp_path / "project/reports"), "delete_kind_cluster", name="serve-chaos-abcdef")
    for directory in ("project", "project/below", "elsewhere"):
        (tmp_path / directory).mkdir()
        monkeypatch.chdir(tmp_path / directory)
        assert main(["undo"]) == 1
        assert "undo: what delete_kind_cluster mends" in capsys.readouterr().out
    assert empty_path.is_dir()


def test_only_what_one_report_directory_has_left_is_undone_where_that_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    of_a_dead_run(journal_of(tmp_path / "other"), "mend")
    monkeypatch.chdir(tmp_path)
    assert main(["undo", "--report-dir", "reports"]) == 0
    assert main(["undo", "--report-dir", "other"]) == 1


def test_what_belongs_to_a_run_that_goes_on_is_said_to_be_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    journal_of(tmp_path).write("mend", "something")
    assert main(["undo", "--report-dir", str(tmp_path)]) == 0
    assert f"skipped, because its run is still going on (PID {os.getpid()}): something" in capsys.readouterr().out


# -- doctor ------------------------------------------------------------------------------------------------------------


def by_name(findings: tuple[Finding, ...]) -> dict[str, Finding]:
    return {finding.what: finding for finding in findings}


def test_a_finding_is_one_line_with_how_to_mend_it() -> None:
    assert Finding("kind", "v0.30.0").line == "  ok       kind                 v0.30.0"
    assert Finding("kind", "not on the PATH", False, "install kind").line == (
        "  missing  kind                 not on the PATH. To fix this: install kind"
    )


def test_what_local_lacks_is_found(monkeypatch: pytest.MonkeyPatch, empty_path: Path) -> None:
    def no_ray() -> str:
        raise MissingDependency("Ray Serve is not installed", fix=["pip install it"])

    monkeypatch.setattr(preflight, "check_ray", no_ray)
    monkeypatch.setattr(preflight, "available_memory", lambda: 1e9)
    found = by_name(examine("local", {}, {"SERVE_CHAOS_WORKERS": "3", "SERVE_CHAOS_REDIS_SERVER": ""}))
    assert not found["Ray Serve"].ok
    assert found["Ray Serve"].fix == "pip install it"
    assert not found["memory"].ok
    assert "3 workers" in found["memory"].found
    assert found["Python"].ok
    assert empty_path.is_dir()


@pytest.mark.parametrize(
    ("ingress", "most"), [("python", 107 - 21 - 4 - 36 - 5 - 9 - 16), ("haproxy", 107 - 21 - 2 - 1 - 56 - 1 - 20)]
)
def test_a_directory_of_temporary_files_whose_path_is_too_long_for_sockets_is_found(
    ingress: Ingress, most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pid_max").write_text("32768\n")
    monkeypatch.setattr(preflight, "_PID_MAX", tmp_path / "pid_max")
    monkeypatch.setattr("tempfile.tempdir", "/" + "t" * (most - 1))
    assert preflight.check_temporary_directory(ingress) == "/" + "t" * (most - 1)
    monkeypatch.setattr("tempfile.tempdir", "/" + "t" * most)
    with pytest.raises(SettingsError, match=f"has {most + 1} bytes, and {most} are the most"):
        preflight.check_temporary_directory(ingress)


def test_without_fault_tolerance_local_needs_no_redis(empty_path: Path) -> None:
    assert by_name(examine("local", {}, {"SERVE_CHAOS_GCS": "none"}))["redis-server"].ok
    assert empty_path.is_dir()


def test_what_kind_lacks_is_found(empty_path: Path) -> None:
    program(empty_path, "docker", "echo 'Cannot connect to the Docker daemon' >&2; exit 1")
    program(empty_path, "kubectl", "echo 'Client Version: v1.34.2'")
    found = by_name(examine("kind", {}, {}))
    assert found["kind"].found == "not on the PATH"
    assert found["docker"].found == "it does not answer: Cannot connect to the Docker daemon"
    assert found["kubectl"].ok
    assert "image" not in found


def test_images_that_docker_has_not_will_be_pulled(empty_path: Path) -> None:
    program(empty_path, "docker", '[ "$1" = version ] || [ "$5" = here:1 ] && echo 20.10')
    lines = [f.found for f in examine("kind", {}, {"SERVE_CHAOS_RAY_IMAGE": "here:1"}) if f.what == "image"]
    assert lines[0] == "here:1: in Docker's store"
    assert lines[1] == "redis:7.0: not in Docker's store, so the nodes will pull it"


def test_a_cluster_that_was_kept_is_named_with_the_way_to_delete_it(empty_path: Path) -> None:
    program(empty_path, "docker", "echo 20.10")
    program(empty_path, "kind", 'if [ "$1" = get ]; then echo serve-chaos; else echo kind v0.30.0; fi')
    assert "kind delete cluster --name serve-chaos" in by_name(examine("kind", {}, {}))["reused cluster"].found
    program(empty_path, "kind", "echo serve-chaos-3fa2c1")
    found = by_name(examine("kind", {}, {}))
    assert "reused cluster" not in found
    assert found["cluster of a run"].found.endswith("kind delete cluster --name serve-chaos-3fa2c1")


def test_an_external_cluster_has_to_be_named() -> None:
    found = by_name(examine("kubernetes", {}, {}))
    assert found["--context"].fix == "--context NAME"
    assert not found["--rayservice"].ok


def test_what_a_backend_does_not_use_is_for_the_others() -> None:
    assert examine("local", {"context": "staging", "rayservice": "ml/ranker"}, {})


def test_a_context_that_does_not_exist_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    found = by_name(examine("kubernetes", {"context": "staging", "rayservice": "ml/ranker"}, {}))
    assert "the kubeconfig cannot be used" in found["context staging"].found


@pytest.mark.parametrize(
    ("named", "ready", "status"),
    [
        ([], {"local": True, "kind": False, "kubernetes": False}, 0),
        ([], {"local": False, "kind": False, "kubernetes": False}, 1),
        (["local"], {"local": True}, 0),
        (["local", "kind"], {"local": True, "kind": False}, 1),
    ],
)
def test_the_exit_status_says_whether_it_can_run(
    named: list[str],
    ready: dict[str, bool],
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(doctor, "examine", lambda backend, *_: (Finding("all", "", ready[backend]),))
    assert main(["doctor", *named]) == status
    said = capsys.readouterr().out
    assert [line for line in said.splitlines() if not line.startswith(" ")] == [
        f"{name}: {'ready' if ok else 'not ready'}" for name, ok in ready.items()
    ]


def test_an_unknown_backend_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["doctor", "docker"])
    assert "'docker' is not one of local, kind, kubernetes" in capsys.readouterr().err


def test_a_setting_that_is_not_valid_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SERVE_CHAOS_WORKERS", "many")
    assert main(["doctor", "local"]) == 2
    assert "Invalid --serve-chaos-workers 'many'" in capsys.readouterr().err
