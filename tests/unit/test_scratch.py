"""What a killed process leaves among the temporary files is found by its lock, and by nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pytest_serve_chaos import scratch
from pytest_serve_chaos.backends.registry import BUILT_IN
from pytest_serve_chaos.cluster.kubernetes.kind.programs import Programs, run_program
from pytest_serve_chaos.cluster.local import leftovers, processes
from pytest_serve_chaos.cluster.local.processes import Process


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def killed(program: str) -> None:
    """Runs a program that ends without its end: nothing of Python's own is done."""
    subprocess.run([sys.executable, "-c", f"import os, time\n{program}\nos._exit(1)"], check=False, timeout=30)


LEAVES_FILES = """
from pytest_serve_chaos import scratch
(scratch.of_this_process() / "key.pem").write_text("a key")
"""


def swept() -> list[str]:
    lines: list[str] = []
    assert BUILT_IN.sweep(lines.append) == []
    return lines


def test_the_next_run_removes_the_temporary_files_of_a_process_that_was_killed(temporary: Path) -> None:
    killed(LEAVES_FILES)
    (left,) = temporary.iterdir()
    assert (left / "key.pem").exists()
    assert left.stat().st_mode & 0o777 == 0o700
    assert swept() == [f"undo: temporary files of a run that ended by force: {left}"]
    assert [*temporary.iterdir()] == []


def test_nothing_is_left_by_a_process_that_ends_in_order(temporary: Path) -> None:
    subprocess.run([sys.executable, "-c", LEAVES_FILES], check=True, timeout=30)
    assert [*temporary.iterdir()] == []


def test_what_somebody_holds_stays(temporary: Path) -> None:
    held = scratch.create(temporary / "serve-chaos-held", scratch.FILES)
    assert swept() == []
    assert held.path.exists()
    held.remove()
    assert not held.path.exists()


def test_what_a_process_inherited_is_held_after_the_end_of_its_parent(temporary: Path) -> None:
    held = scratch.create(temporary / "serve-chaos-held", scratch.FILES)
    heir = subprocess.Popen(["sleep", "60"], pass_fds=[held.descriptor])
    os.close(held.descriptor)
    try:
        assert swept() == []
    finally:
        heir.kill()
        heir.wait()
    assert len(swept()) == 1
    assert not held.path.exists()


@pytest.mark.parametrize("content", [None, "", "files", "files \nmore", "something else\n"])
def test_a_directory_that_only_has_the_name_stays(temporary: Path, content: str | None) -> None:
    directory = temporary / "serve-chaos-0123abcd"
    directory.mkdir(mode=0o700)
    (directory / "mine").touch()
    if content is not None:
        (directory / "in-use").write_text(content)
    assert swept() == []
    assert (directory / "mine").exists()


def test_links_are_not_followed(temporary: Path) -> None:
    other = scratch.create(temporary / "other", scratch.FILES)
    os.close(other.descriptor)
    (temporary / "serve-chaos-link").symlink_to(other.path)
    inside = temporary / "serve-chaos-inside"
    inside.mkdir(mode=0o700)
    (inside / "in-use").symlink_to(other.path / "in-use")
    assert swept() == []
    assert other.path.exists()


def test_what_belongs_to_another_user_stays(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killed(LEAVES_FILES)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert swept() == []


def test_a_removal_that_was_killed_in_the_middle_is_finished_by_the_next_run(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed(LEAVES_FILES)
    (left,) = temporary.iterdir()
    unlink = Path.unlink

    def dies_after_one(path: Path, missing_ok: bool = False) -> None:
        unlink(path, missing_ok)
        raise OSError("killed")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", dies_after_one)
        assert not scratch.remove(left)
    assert [entry.name for entry in left.iterdir()] == ["in-use"]
    assert len(swept()) == 1
    assert not left.exists()


def test_what_cannot_be_removed_yet_is_found_by_a_later_run(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a directory for temporary files that has become read-only."""
    killed(LEAVES_FILES)
    (left,) = temporary.iterdir()

    def refused(path: Path) -> None:
        raise PermissionError(f"Permission denied: {path}")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rmdir", refused)
        assert not scratch.remove(left)
    assert len(swept()) == 1
    assert not left.exists()


def test_programs_that_are_killed_with_the_run_have_their_temporary_files_there(temporary: Path) -> None:
    scratch.of_this_process.cache_clear()
    try:
        said = run_program(Programs("sh", "sh", "sh"), temporary / "log", "kind", "-c", "echo $TMPDIR")
        assert said.strip() == str(scratch.of_this_process())
    finally:
        scratch.of_this_process.cache_clear()


# -- local clusters ----------------------------------------------------------------------------------------------------

LEAVES_A_CLUSTER = f"""
import subprocess
from pathlib import Path
from pytest_serve_chaos import scratch
from pytest_serve_chaos.cluster.local import leftovers
scratch.create(Path(os.environ["TMPDIR"]) / "serve-chaos-0123abcd", leftovers.OWNER, "0123abcd4567")
node = subprocess.Popen(["sleep", "60"], env={{"{processes.MARK}": "0123abcd4567"}}, start_new_session=True)
print(node.pid)
"""


def test_the_processes_of_a_cluster_that_nobody_holds_are_ended_and_no_others(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_BETWEEN_LOOKS", 0.01)
    other = subprocess.Popen(["sleep", "60"], env={processes.MARK: "0123abcd9999"})
    killed(LEAVES_A_CLUSTER)
    (node,) = processes.marked("0123abcd4567")
    try:
        assert len(swept()) == 1
        assert processes.read(node.pid) is None
        assert processes.read(other.pid) is not None
        assert [*temporary.iterdir()] == []
    finally:
        other.kill()
        other.wait()


def test_a_cluster_whose_processes_do_not_end_is_kept_for_the_next_run_and_named(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = scratch.create(temporary / "serve-chaos-0123abcd", leftovers.OWNER, "0123abcd4567")
    os.close(held.descriptor)
    stubborn = Process(4711, 1, 1, 1, "S", "sleep")
    monkeypatch.setattr(processes, "end_marked", lambda mark: (stubborn,) if mark == "0123abcd4567" else ())
    (failed,) = BUILT_IN.sweep(lambda _: None)
    assert "could not be ended: PID 4711" in failed
    assert held.path.exists()
