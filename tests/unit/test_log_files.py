from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from pytest_serve_chaos import clock
from pytest_serve_chaos.cluster.kubernetes.logs.files import LogFiles


def local(at: float, *, east: int = 0) -> str:
    """A moment (monotonic seconds) as Ray writes it in a time zone."""
    wall = at + time.time() - clock.now()
    moment = datetime.fromtimestamp(wall, timezone.utc) + timedelta(seconds=east)
    return f"{moment:%Y-%m-%d %H:%M:%S},{moment.microsecond // 1000:03}"


def texts(files: LogFiles, since: float, *patterns: str) -> list[str]:
    return [line.text for line in files.lines(patterns or ["*"], since)]


def test_what_comes_is_in_files_that_are_named_as_in_the_container(tmp_path: Path) -> None:
    files = LogFiles(tmp_path / "worker-1_pod")
    assert not (tmp_path / "worker-1_pod").exists()
    files.add("raylet.out", "one\n")
    files.add("serve/replica_app_Pid_x.log", "a\n")
    files.add("raylet.out", "two\n")
    assert (tmp_path / "worker-1_pod" / "raylet.out").read_text() == "one\ntwo\n"
    assert (tmp_path / "worker-1_pod" / "serve" / "replica_app_Pid_x.log").read_text() == "a\n"


@pytest.mark.parametrize("name", ["../../outside.log", "/etc/outside.log", "..", "a/b/../c d.log"])
def test_no_name_leads_out_of_the_directory(tmp_path: Path, name: str) -> None:
    files = LogFiles(tmp_path / "run" / "pod")
    files.add(name, "text\n")
    assert all(path.is_relative_to(tmp_path / "run" / "pod") for path in tmp_path.rglob("*") if path.is_file())
    assert texts(files, 0.0) == ["text"]


def test_a_line_has_the_time_that_it_says_and_not_that_at_which_it_came(tmp_path: Path) -> None:
    files = LogFiles(tmp_path)
    asked = clock.now() - 1.0
    files.add("a.log", f"INFO {local(asked - 0.5)} before\nof it\nINFO {local(asked + 0.5)} after\n  its traceback\n")
    assert [line.partition(" ")[2][24:] or line for line in texts(files, asked)] == ["after", "  its traceback"]


def test_a_line_without_a_time_is_as_old_as_its_coming(tmp_path: Path) -> None:
    files = LogFiles(tmp_path)
    files.add("worker.out", "early\n")
    time.sleep(0.02)
    since = clock.now()
    files.add("worker.out", "late\n")
    assert texts(files, since) == ["late"]


def test_the_containers_clock_and_time_zone_are_told(tmp_path: Path) -> None:
    files = LogFiles(tmp_path)
    west, fast = -8 * 3600, 300.0
    files.tell_clock(time.time() + fast, west)
    now = clock.now()
    files.add("a.log", f"[{local(now + fast - 5, east=west)} I 1 1] old\n[{local(now + fast, east=west)} I 1 1] new\n")
    (line,) = files.lines(["*"], now - 1.0)
    assert line.text.endswith("new")
    assert abs(line.at - now) < 0.2


def test_the_clock_that_was_told_with_the_least_delay_counts(tmp_path: Path) -> None:
    files = LogFiles(tmp_path)
    files.tell_clock(time.time(), 0)
    files.tell_clock(time.time() - 30.0, 0)
    files.add("a.log", f"{local(clock.now())} text\n")
    assert abs(files.lines(["*"], 0.0)[0].at - clock.now()) < 0.2


def test_kubernetes_times_have_their_own_zone(tmp_path: Path) -> None:
    files = LogFiles(tmp_path)
    files.tell_clock(time.time(), 7200)
    stamp = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f") + "123Z"
    files.add("container.log", f"{stamp} 2020-01-01 00:00:00 up\n")
    assert abs(files.lines(["*"], 0.0)[0].at - clock.now()) < 0.2


def test_no_time_is_made_of_what_is_none(tmp_path: Path) -> None:
    files = LogFiles(tmp_path)
    since = clock.now()
    files.add("a.log", "2026-13-45 99:99:99,123 text\n")
    assert len(texts(files, since)) == 1


def test_only_the_files_that_match_are_looked_at(tmp_path: Path) -> None:
    files = LogFiles(tmp_path)
    files.add("serve/controller_7.log", "of the controller\n")
    files.add("serve/replica_app_Pid_x.log", "of the replica\n")
    assert texts(files, 0.0, "serve/controller_*") == ["of the controller"]


def test_a_full_file_says_so_and_takes_no_more(tmp_path: Path) -> None:
    files = LogFiles(tmp_path, most=1000)
    files.add("a.log", "x" * 900 + "\n")
    files.add("a.log", "y" * 200 + "\n")
    files.add("a.log", "z\n")
    files.add("b.log", "another file\n")
    assert (tmp_path / "a.log").read_text().splitlines() == [
        "x" * 900,
        "[serve-chaos: this file is cut off after 0.001 MB]",
    ]
    assert (tmp_path / "b.log").read_text() == "another file\n"


def test_of_a_large_file_the_end_is_read(tmp_path: Path) -> None:
    files = LogFiles(tmp_path)
    for number in range(60):
        files.add("a.log", f"{number:05} {'x' * 60_000}\n")
    found = [line[:5] for line in texts(files, 0.0)]
    assert found[-1] == "00059"
    assert 30 <= len(found) <= 34


def test_a_disk_that_takes_nothing_and_files_that_were_taken_away_are_no_error(tmp_path: Path) -> None:
    (tmp_path / "in_the_way").write_text("a file\n")
    files = LogFiles(tmp_path / "in_the_way")
    files.add("a.log", "text\n")
    assert texts(files, 0.0) == []
    files = LogFiles(tmp_path / "there")
    files.add("a.log", "text\n")
    (tmp_path / "there" / "a.log").unlink()
    assert texts(files, 0.0) == []
