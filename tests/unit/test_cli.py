from __future__ import annotations

import json
from pathlib import Path

import pytest

from pytest_serve_chaos import doctor
from pytest_serve_chaos.cli import main
from pytest_serve_chaos.cluster.local import preflight
from pytest_serve_chaos.doctor import Finding, examine
from pytest_serve_chaos.errors import MissingDependency
from pytest_serve_chaos.safety.journal import Journal
from tests.unit.histories import head_failure, node_failure
from tests.unit.test_safety import of_a_dead_run


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


# -- undo --------------------------------------------------------------------------------------------------------------


def test_nothing_to_undo_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["undo", "--report-dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"nothing is left to undo in {tmp_path / 'undo'}\n"


def test_what_cannot_be_undone_is_said_and_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], empty_path: Path
) -> None:
    journal = Journal(tmp_path / "undo")
    of_a_dead_run(journal, "delete_kind_cluster", name="serve-chaos-abc")
    assert main(["undo", "--report-dir", str(tmp_path)]) == 1
    assert "could not be undone: what delete_kind_cluster mends: the kind backend needs docker" in (
        capsys.readouterr().out
    )
    assert len(journal.left()) == 1
    assert empty_path.is_dir()


# -- doctor ------------------------------------------------------------------------------------------------------------


def by_name(findings: tuple[Finding, ...]) -> dict[str, Finding]:
    return {finding.what: finding for finding in findings}


def test_a_finding_is_one_line_with_how_to_mend_it() -> None:
    assert Finding("kind", "v0.30.0").line == "  ok       kind                 v0.30.0"
    assert Finding("kind", "not on the PATH", False, "install kind").line == (
        "  missing  kind                 not on the PATH. To mend it: install kind"
    )


def test_what_local_lacks_is_found(monkeypatch: pytest.MonkeyPatch, empty_path: Path) -> None:
    def no_ray() -> str:
        raise MissingDependency("Ray Serve is not installed", mend=["pip install it"])

    monkeypatch.setattr(preflight, "check_ray", no_ray)
    monkeypatch.setattr(preflight, "available_memory", lambda: 1e9)
    found = by_name(examine("local", {}, {"SERVE_CHAOS_WORKERS": "3", "SERVE_CHAOS_REDIS_SERVER": ""}))
    assert not found["Ray Serve"].ok
    assert found["Ray Serve"].mend == "pip install it"
    assert not found["memory"].ok
    assert "3 workers" in found["memory"].found
    assert found["Python"].ok
    assert empty_path.is_dir()


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
    assert "kind delete cluster --name serve-chaos" in by_name(examine("kind", {}, {}))["kept cluster"].found
    program(empty_path, "kind", "echo serve-chaos-3fa2c1")
    assert "kept cluster" not in by_name(examine("kind", {}, {}))


def test_a_borrowed_cluster_has_to_be_named() -> None:
    found = by_name(examine("kubernetes", {}, {}))
    assert found["--serve-chaos-context"].mend == "--context NAME"
    assert not found["--serve-chaos-rayservice"].ok


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
    assert "'docker' is none of local, kind, kubernetes" in capsys.readouterr().err


def test_a_setting_that_is_not_valid_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SERVE_CHAOS_WORKERS", "many")
    assert main(["doctor", "local"]) == 2
    assert "Invalid --serve-chaos-workers 'many'" in capsys.readouterr().err
