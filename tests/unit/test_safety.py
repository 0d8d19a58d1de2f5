from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from pytest_serve_chaos import backends
from pytest_serve_chaos.errors import CommandFailed, Locked, SafetyError
from pytest_serve_chaos.safety.journal import Journal
from pytest_serve_chaos.safety.lock import cluster_lock
from pytest_serve_chaos.settings import Settings


@pytest.fixture(autouse=True)
def locks_of_this_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def of_a_dead_run(journal: Journal, verb: str = "mend", **arguments: str) -> Path:
    """An entry of a process that has this one's PID and began at another time."""
    path = journal.write(verb, f"what {verb} mends", **arguments)
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "owner": [os.getpid(), 1]}))
    return path


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


@pytest.mark.parametrize("content", ["", "{}", "[1]"])
def test_a_file_that_is_no_entry_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(SafetyError, match="cannot be read") as caught:
        Journal(tmp_path).left()
    assert str(tmp_path / "x.json") in caught.value.looked_at


# -- the lock ----------------------------------------------------------------------------------------------------------


def test_a_cluster_has_one_run_at_a_time() -> None:
    with cluster_lock("kind/a"):
        with cluster_lock("kind/b"):
            pass
        with pytest.raises(Locked, match="another run is using the cluster kind/a") as caught, cluster_lock("kind/a"):
            pass
        assert f"held by PID {os.getpid()}" in caught.value.looked_at[0]
    with cluster_lock("kind/a"):
        pass


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Settings(backend="kind", keep=True), Settings(backend="kind", keep=True)),
        (
            Settings(backend="kubernetes", context="staging", rayservice="ml/ranker"),
            Settings(backend="kubernetes", context="staging", rayservice="ml/ranker", rate=1.0),
        ),
    ],
)
def test_a_cluster_that_outlives_a_run_is_locked(one: Settings, other: Settings) -> None:
    with backends.lock(one), pytest.raises(Locked), backends.lock(other):
        pass


@pytest.mark.parametrize("settings", [Settings(backend="local"), Settings(backend="kind")])
def test_a_cluster_of_one_run_is_not(settings: Settings) -> None:
    with backends.lock(settings), backends.lock(settings):
        pass
