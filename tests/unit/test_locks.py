"""Where the locks of runs are, who can touch them, and what is left of them."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import pytest

from pytest_serve_chaos import locks
from pytest_serve_chaos.cluster.local import janitor, layout
from pytest_serve_chaos.errors import Locked, SafetyError
from pytest_serve_chaos.locks import cluster_lock


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory for temporary files of a user who has no runtime directory."""
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The runtime directory of a user who has one."""
    directory = tmp_path / "runtime"
    directory.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(directory))
    return directory


def all_in(directory: Path) -> list[Path]:
    return sorted(directory.rglob("*"))


@pytest.fixture(params=["temporary", "runtime"])
def base(request: pytest.FixtureRequest) -> Path:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Path)
    return found


def test_a_lock_is_in_a_directory_of_this_user_alone(base: Path) -> None:
    with cluster_lock("kind/a"):
        (path,) = [path for path in all_in(base) if path.is_file()]
        assert path.parent.stat().st_mode & 0o777 == 0o700
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.read_text() == str(os.getpid())


def test_the_file_of_a_lock_whose_holder_was_killed_is_removed_and_no_other(base: Path) -> None:
    killed = "import os; from pytest_serve_chaos import locks; locks.acquire('killed.lock'); os._exit(1)"
    with cluster_lock("kind/a"):
        subprocess.run([sys.executable, "-c", killed], check=False, timeout=30)
        assert len([path for path in all_in(base) if path.is_file()]) == 2
        locks.sweep()
        (path,) = [path for path in all_in(base) if path.is_file()]
        assert path.name.startswith("cluster-")
    locks.sweep()
    assert all_in(base) == []


def test_whoever_wants_a_lock_waits_while_somebody_looks_whether_it_is_free(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wants = "from pytest_serve_chaos import locks; locks.acquire('a.lock'); import os; os._exit(0)"
    subprocess.run([sys.executable, "-c", wants], check=True, timeout=30)
    waiting: list[subprocess.Popen[bytes]] = []

    def look(path: Path, directory: int) -> None:
        waiting.append(subprocess.Popen([sys.executable, "-c", wants]))
        with pytest.raises(subprocess.TimeoutExpired):
            waiting[0].wait(0.3)

    monkeypatch.setattr(locks, "_remove_if_free", look)
    locks.sweep()
    assert [process.wait(30) for process in waiting] == [0]


def test_nothing_is_left_of_the_lock_of_a_cluster(base: Path) -> None:
    with cluster_lock("kind/a"):
        pass
    assert all_in(base) == []


def test_nothing_is_left_of_the_lock_on_ports(base: Path) -> None:
    claimed = layout.claim(1)
    assert [path.name for path in all_in(base) if path.is_file()] == [f"ports-{claimed.layout.slot}.lock"]
    claimed.lock.release()
    layout.check_layout(1)
    assert all_in(base) == []


def test_nothing_is_left_of_the_lock_on_ports_when_the_supervisor_was_killed(base: Path) -> None:
    lock = layout.claim(1).lock
    done = subprocess.Popen(
        [sys.executable, "-m", janitor.__name__, "no-such-run", str(base / "run"), str(lock.path)],
        stdin=subprocess.PIPE,
        pass_fds=(lock.descriptor,),
    )
    os.close(lock.descriptor)
    with pytest.raises(Locked):
        locks.acquire(lock.path.name)
    done.communicate(timeout=60)
    assert all_in(base) == []


def test_a_runtime_directory_of_the_user_stays(runtime: Path) -> None:
    with cluster_lock("kind/a"):
        pass
    assert runtime.is_dir()


def test_a_lock_of_a_run_that_was_killed_is_taken_over(base: Path) -> None:
    left = locks.acquire("it.lock")
    os.close(left.descriptor)
    again = locks.acquire("it.lock")
    assert again.path == left.path
    again.release()


def test_a_lock_whose_file_another_run_has_just_removed_is_locked_anew(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = locks._lock
    removed: list[Path] = []

    def removing(descriptor: int, path: Path) -> None:
        original(descriptor, path)
        if not removed:
            removed.append(path)
            path.unlink()

    monkeypatch.setattr(locks, "_lock", removing)
    lock = locks.acquire("it.lock")
    assert removed == [lock.path]
    assert os.path.samestat(os.fstat(lock.descriptor), lock.path.stat())
    lock.release()


def test_a_link_is_not_followed(runtime: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("data")
    directory = locks.lock_directory()
    directory.mkdir(mode=0o700)
    (directory / "it.lock").symlink_to(precious)
    with pytest.raises(SafetyError, match="the file of a lock cannot be used"):
        locks.acquire("it.lock")
    assert precious.read_text() == "data"


def test_a_link_instead_of_the_directory_is_refused(runtime: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    locks.lock_directory().symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SafetyError, match="the directory for locks cannot be used"):
        locks.acquire("it.lock")


def test_a_directory_that_others_can_write_to_is_refused(runtime: Path) -> None:
    directory = locks.lock_directory()
    directory.mkdir()
    directory.chmod(0o777)
    with pytest.raises(SafetyError, match="is not private") as raised:
        locks.acquire("it.lock")
    assert f"{directory}: owner {os.getuid()}, mode 0777" in str(raised.value)
    assert all_in(directory) == []


def test_a_directory_of_another_user_is_refused(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = locks.lock_directory()
    directory.mkdir(mode=0o700)
    monkeypatch.setattr(os, "getuid", lambda: directory.stat().st_uid + 1)
    with pytest.raises(SafetyError, match="is not private"):
        locks.acquire("it.lock")


def test_a_run_without_a_runtime_directory_is_not_warned(temporary: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        locks.acquire("it.lock").release()
