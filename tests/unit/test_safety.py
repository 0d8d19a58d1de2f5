from __future__ import annotations

import errno
import fcntl
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from pytest_serve_chaos.backends.registry import BUILT_IN
from pytest_serve_chaos.errors import CommandFailed, Locked, SafetyError
from pytest_serve_chaos.locks import cluster_lock
from pytest_serve_chaos.safety.journal import BY_HAND, Journal, directory_of_journals, journal_of
from pytest_serve_chaos.safety.private import locked
from pytest_serve_chaos.settings import Settings


@pytest.fixture(autouse=True)
def locks_of_this_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


def of_a_dead_run(journal: Journal, verb: str = "mend", **arguments: str) -> Path:
    """An entry that nobody has the lock on any more."""
    return unlocked(journal.write(verb, f"what {verb} mends", **arguments))


def unlocked(entry: Path) -> Path:
    """The same entry as a run leaves it that was killed."""
    text = entry.read_text()
    entry.unlink()
    entry.write_text(text)
    return entry


# -- the journal -------------------------------------------------------------------------------------------------------


def test_what_a_living_run_wrote_is_left_alone(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "undo")
    journal.write("mend", "something")
    assert journal.left() == ()
    assert journal.undo({}, print) == []


def test_what_a_dead_run_left_is_mended_once(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "undo")
    of_a_dead_run(journal, name="it")
    mended: list[Mapping[str, str]] = []
    said: list[str] = []
    assert journal.undo({"mend": mended.append}, said.append) == []
    assert journal.undo({"mend": mended.append}, said.append) == []
    assert (mended, said) == ([{"name": "it"}], ["undo: what mend mends"])


def test_what_cannot_be_mended_stays(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "undo")
    of_a_dead_run(journal)
    of_a_dead_run(journal, "unheard-of")

    def fails(_: Mapping[str, str]) -> None:
        raise CommandFailed("no")

    failed = journal.undo({"mend": fails}, lambda _: None)
    assert sorted(failed) == [
        "what mend mends: no",
        "what unheard-of mends: this version does not know how (unheard-of)",
    ]
    assert len(journal.left()) == 2


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        "[1]",
        '{"verb": "mend", "arguments": {}, "text": "x", "owner": []}',
        '{"verb": "me',
        "\ud800",
        pytest.param("[" * 100_000, id="too deep"),
    ],
)
def test_a_file_that_is_no_entry_is_named_and_keeps_no_other_from_being_undone(tmp_path: Path, content: str) -> None:
    journal = Journal(tmp_path / "undo")
    of_a_dead_run(journal, name="it")
    broken = tmp_path / "undo/0.json"
    broken.write_text(content, errors="surrogatepass")
    mended: list[Mapping[str, str]] = []
    (failure,) = journal.undo({"mend": mended.append}, lambda _: None)
    assert failure.startswith(f"{broken} cannot be read: ")
    assert mended == [{"name": "it"}]
    assert broken.exists()


@pytest.mark.parametrize("error", [KeyError("allow_context"), OSError(30, "Read-only file system"), ValueError("no")])
def test_whatever_becomes_of_one_entry_the_others_are_undone(tmp_path: Path, error: Exception) -> None:
    journal = Journal(tmp_path / "undo")
    for name in ("a", "b", "c"):
        of_a_dead_run(journal, name=name)
    tried: list[str] = []

    def undo(arguments: Mapping[str, str]) -> None:
        tried.append(arguments["name"])
        if arguments["name"] == "b":
            raise error

    (failure,) = journal.undo({"mend": undo}, lambda _: None)
    assert failure.startswith(f"what mend mends: {type(error).__name__}: ")
    assert sorted(tried) == ["a", "b", "c"]
    assert [entry.arguments for _, entry in journal.left()] == [{"name": "b"}]


def test_a_write_that_is_cut_leaves_nothing_behind(tmp_path: Path) -> None:
    program = """
import resource, signal, sys
from pathlib import Path
from pytest_serve_chaos.safety.journal import BY_HAND, Journal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (40, 40))
try:
    Journal(Path(sys.argv[1])).write("mend", "something")
except OSError as error:
    print(type(error).__name__)
"""
    ran = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "undo")], capture_output=True, text=True, check=True
    )
    assert ran.stdout == "OSError\n"
    assert [*(tmp_path / "undo").iterdir()] == []


def test_what_is_left_of_a_write_is_removed_and_of_one_that_goes_on_is_not(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "undo")
    entry = of_a_dead_run(journal)
    cut, going_on = tmp_path / "undo/a.part", tmp_path / "undo/b.part"
    cut.write_text('{"verb": "me')
    going_on.write_text("")
    with locked(going_on):
        journal.undo({}, print)
    assert sorted((tmp_path / "undo").iterdir()) == sorted([entry, going_on])


def test_a_directory_that_this_user_cannot_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "undo").mkdir(mode=0o755)
    (tmp_path / "undo").chmod(0o755)
    monkeypatch.setattr(os, "access", lambda *_: False)
    (line,) = Journal(tmp_path / "undo").broken()
    assert "its mode is 0755" in line


def test_the_last_entry_takes_the_directory_with_it_also_while_others_write(tmp_path: Path) -> None:
    def write() -> None:
        journal = Journal(tmp_path / "pytest-serve-chaos/undo")
        for _ in range(25):
            journal.done(journal.write("mend", "something"))

    writers = [threading.Thread(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("/state", "/state/pytest-serve-chaos/undo"),
        ("relative", "/home/me/.local/state/pytest-serve-chaos/undo"),
        ("", "/home/me/.local/state/pytest-serve-chaos/undo"),
    ],
)
def test_the_journal_is_in_the_users_state_directory(given: str, found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("XDG_STATE_HOME", given)
    assert directory_of_journals() == Path(found)


def test_without_a_home_nothing_is_obeyed_and_nothing_is_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as for a user whom nobody knows
    monkeypatch.chdir(tmp_path)
    planted(directory_of_journals().absolute(), 0o700)
    journal = journal_of(tmp_path)
    assert (journal.undo({}, print), journal.broken()) == ([], [])
    with pytest.raises(SafetyError, match="cannot have the undo journal: this user has no home") as refusal:
        journal.write("mend", "something")
    assert "XDG_STATE_HOME" in refusal.value.fix[0]


def test_where_the_directory_cannot_be_made_nothing_is_begun(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    with pytest.raises(SafetyError, match=r"cannot have the undo journal: (FileExists|NotADirectory)Error"):
        Journal(tmp_path / "state/undo").write("mend", "something")


def test_a_file_system_without_locks_is_refused_before_anything_is_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(SafetyError, match="its file system has no locks"):
        Journal(tmp_path / "undo").write("mend", "something")
    assert [*(tmp_path / "undo").iterdir()] == []


def test_an_entry_of_which_nobody_can_tell_whether_its_run_is_over_is_named_and_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path / "undo")
    of_a_dead_run(journal)

    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    mended: list[Mapping[str, str]] = []
    (failure,) = journal.undo({"mend": mended.append}, print)
    assert "what mend mends: it is unknown whether its run is over: OSError" in failure
    assert (mended, journal.left(), journal.alive()) == ([], (), ())


def test_a_journal_has_the_entries_of_its_report_directory(tmp_path: Path) -> None:
    here, elsewhere = journal_of(tmp_path / "here"), journal_of(tmp_path / "elsewhere")
    of_a_dead_run(here, name="it")
    assert [entry.reports for _, entry in here.left()] == [str(tmp_path / "here")]
    assert (elsewhere.left(), elsewhere.written("mend", name="it")) == ((), ())
    assert len(Journal(here.directory).left()) == 1


def test_a_run_that_is_over_is_known_also_as_a_zombie(tmp_path: Path) -> None:
    program = "import sys; from pathlib import Path; from pytest_serve_chaos.safety.journal import Journal\n"
    program += "Journal(Path(sys.argv[1])).write('mend', 'something'); print(flush=True); sys.stdin.read()"
    journal = Journal(tmp_path / "undo")
    with subprocess.Popen(
        [sys.executable, "-c", program, str(journal.directory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as run:
        assert run.stdout is not None
        run.stdout.readline()
        assert (len(journal.left()), len(journal.alive())) == (0, 1)
        run.kill()
        os.waitid(os.P_PID, run.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and nobody has reaped it
        assert (len(journal.left()), len(journal.alive())) == (1, 0)


def test_what_somebody_else_undoes_just_now_is_left_to_them(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "undo")
    of_a_dead_run(journal)
    mended: list[Mapping[str, str]] = []

    def undo(arguments: Mapping[str, str]) -> None:
        mended.append(arguments)
        assert Journal(tmp_path / "undo").undo({"mend": mended.append}, print) == []

    assert journal.undo({"mend": undo}, lambda _: None) == []
    assert len(mended) == 1


def test_an_entry_is_never_seen_half_written(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "undo")
    of_a_dead_run(journal, name="it")
    over = threading.Event()

    def write() -> None:
        while not over.is_set():
            journal.done(journal.write("mend", "something"))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        seen = [(len(journal.left()), journal._read()[1]) for _ in range(500)]
    finally:
        over.set()
        writer.join()
    assert seen == [(1, [])] * 500


# -- entries of others -------------------------------------------------------------------------------------------------


def planted(directory: Path, mode: int = 0o755) -> Path:
    """An entry as a checkout brings it."""
    directory.mkdir(parents=True)
    directory.chmod(mode)
    entry = {"verb": "mend", "arguments": {}, "text": "nothing special", "owner": [1, 1]}
    (directory / "a.json").write_text(json.dumps(entry))
    return directory / "a.json"


def obeyed(directory: Path) -> tuple[bool, Sequence[str]]:
    mended: list[Mapping[str, str]] = []
    failed = Journal(directory).undo({"mend": mended.append}, lambda _: None)
    return bool(mended), failed


def test_what_lies_in_a_directory_that_others_can_enter_is_not_obeyed(tmp_path: Path) -> None:
    entry = planted(tmp_path / "undo")
    mended, (failure,) = obeyed(tmp_path / "undo")
    assert not mended
    assert "is undone, because its mode is 0755, not 0700" in failure
    assert entry.exists()


def test_what_lies_behind_a_link_is_not_obeyed(tmp_path: Path) -> None:
    planted(tmp_path / "elsewhere", 0o700)
    (tmp_path / "undo").symlink_to(tmp_path / "elsewhere")
    mended, (failure,) = obeyed(tmp_path / "undo")
    assert not mended
    assert "it is a link" in failure
    with pytest.raises(SafetyError, match="it is a link"):
        Journal(tmp_path / "undo").write("mend", "something")


def test_a_file_that_is_a_link_or_that_others_can_write_to_is_not_obeyed(tmp_path: Path) -> None:
    entry = planted(tmp_path / "undo", 0o700)
    (tmp_path / "undo/b.json").symlink_to(entry)
    entry.chmod(0o666)
    mended, failures = obeyed(tmp_path / "undo")
    assert not mended
    assert len(failures) == 2


def test_what_belongs_to_another_user_is_not_obeyed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planted(tmp_path / "undo", 0o700)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    mended, (failure,) = obeyed(tmp_path / "undo")
    assert not mended
    assert f"it belongs to user {os.getuid()}" in failure


def test_nothing_is_written_where_it_would_not_be_obeyed(tmp_path: Path) -> None:
    planted(tmp_path / "undo")
    with pytest.raises(SafetyError, match="its mode is 0755"):
        Journal(tmp_path / "undo").write("mend", "something")


def test_an_empty_directory_is_made_private(tmp_path: Path) -> None:
    (tmp_path / "undo").mkdir(mode=0o755)
    (tmp_path / "undo").chmod(0o755)
    Journal(tmp_path / "undo").write("mend", "something")
    assert (tmp_path / "undo").stat().st_mode & 0o777 == 0o700


# -- the lock ----------------------------------------------------------------------------------------------------------


def test_a_cluster_has_one_run_at_a_time() -> None:
    with cluster_lock("kind/a"):
        with cluster_lock("kind/b"):
            pass
        with pytest.raises(Locked, match="another run is using the cluster kind/a") as caught, cluster_lock("kind/a"):
            pass
        assert f"held by PID {os.getpid()}" in caught.value.checked[0]
    with cluster_lock("kind/a"):
        pass


@pytest.mark.parametrize(
    ("one", "other"),
    [(Settings(backend="kind", keep=True), Settings(backend="kind", keep=True, rate=1.0))],
)
def test_a_cluster_that_outlives_a_run_is_locked(one: Settings, other: Settings) -> None:
    with BUILT_IN[one.backend].locked(one), pytest.raises(Locked), BUILT_IN[other.backend].locked(other):
        pass


@pytest.mark.parametrize("settings", [Settings(backend="local"), Settings(backend="kind")])
def test_a_cluster_of_one_run_is_not(settings: Settings) -> None:
    backend = BUILT_IN[settings.backend]
    with backend.locked(settings), backend.locked(settings):
        pass


# -- what only people can undo -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "said"), [("mv /away /there", "run: mv /away /there"), ("", "do what the test would have done")]
)
def test_a_fault_of_a_test_is_told_and_never_undone_by_a_command(tmp_path: Path, command: str, said: str) -> None:
    journal = Journal(tmp_path / "undo")
    entry = unlocked(journal.write(BY_HAND, "switch_off of the test a_switch", command=command))
    called: list[object] = []
    for _ in range(2):
        (failed,) = journal.undo({BY_HAND: called.append}, print)
        assert f"switch_off of the test a_switch: only you can undo that: {said}" in failed
        assert str(entry) in failed
    assert called == []
    entry.unlink()
    assert journal.undo({}, print) == []
