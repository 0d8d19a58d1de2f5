"""The program that follows log files in a pod, run here on a directory like Ray's."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_serve_chaos.cluster.kubernetes import in_pod
from pytest_serve_chaos.cluster.kubernetes.in_pod import follow_logs


class Program:
    """The program, and what it has said so far of each file."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        _, *words = in_pod.command("follow_logs", "", str(directory), "0.05", *arguments)
        self.process = subprocess.Popen(
            [sys.executable, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.text: dict[str, str] = {}
        self.read: dict[int, int] = {}

    def next(self) -> dict[str, str]:
        """What its next line has of each file; the first line of a directory without news has nothing."""
        assert self.process.stdout is not None
        now, east, chunks = json.loads(self.process.stdout.readline())
        assert abs(now - time.time()) < 10.0
        assert east == time.localtime().tm_gmtoff
        for name, inode, offset, text in chunks:
            self.read[inode] = offset
            self.text[name] = self.text.get(name, "") + text
        return {name: text for name, _, _, text in chunks}

    def until(self, name: str, text: str) -> None:
        """Reads on until that was said of a file."""
        while text not in self.text.get(name, ""):
            self.next()


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    session = tmp_path / "session_1" / "logs"
    (session / "serve").mkdir(parents=True)
    (tmp_path / "session_latest").symlink_to("session_1")
    return tmp_path / "session_latest" / "logs"


@pytest.fixture
def programs(logs: Path) -> Iterator[list[Program]]:
    started: list[Program] = []
    yield started
    for program in started:
        program.process.kill()
        program.process.wait()
        for pipe in (program.process.stdin, program.process.stdout):
            if pipe is not None:
                pipe.close()


def follow(programs: list[Program], logs: Path, *arguments: str) -> Program:
    programs.append(Program(logs, *arguments))
    return programs[-1]


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """What is written here is said to the program that is run in this process; the test closes it."""
    reading, writing = os.pipe()
    monkeypatch.setattr(follow_logs, "STDIN", reading)
    yield writing
    os.close(reading)


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def test_all_of_a_new_container_is_printed_and_then_what_is_added(logs: Path, programs: list[Program]) -> None:
    append(logs / "gcs_server.out", "no time in it\n")
    append(logs / "serve" / "controller_7.log", "first\n")
    program = follow(programs, logs, "-1")
    assert program.next() == {"gcs_server.out": "no time in it\n", "serve/controller_7.log": "first\n"}
    append(logs / "serve" / "controller_7.log", "second\n")
    append(logs / "raylet.err", "new\n")
    program.until("serve/controller_7.log", "second\n")
    program.until("raylet.err", "new\n")
    assert program.text["serve/controller_7.log"] == "first\nsecond\n"


def test_of_a_container_that_ran_before_only_new_lines_are_printed(logs: Path, programs: list[Program]) -> None:
    def stamped(age: float, text: str) -> str:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time.time() - age)) + f",123 INFO {text}\n"

    append(logs / "raylet.out", stamped(900, "long ago") + stamped(2, "just before") + "goes on\n")
    append(logs / "worker.out", "without a time\n")
    append(logs / "idle.log", stamped(900, "idle"))
    os.utime(logs / "idle.log", (0, 0))
    program = follow(programs, logs, "600")
    program.next()
    append(logs / "worker.out", "now\n")
    append(logs / "idle.log", "not idle\n")
    program.until("worker.out", "now\n")
    program.until("idle.log", "not idle\n")
    assert program.text["raylet.out"].partition("INFO ")[2] == "just before\ngoes on\n"
    assert (program.text["worker.out"], program.text["idle.log"]) == ("now\n", "not idle\n")


def test_a_file_that_is_rotated_loses_no_line_and_keeps_its_name(logs: Path, programs: list[Program]) -> None:
    append(logs / "raylet.out", "one\n")
    program = follow(programs, logs, "-1")
    program.until("raylet.out", "one\n")
    append(logs / "raylet.out", "two\n")
    (logs / "raylet.out").rename(logs / "raylet.out.1")
    append(logs / "raylet.out", "three\n")
    program.until("raylet.out", "three\n")
    assert program.text == {"raylet.out": "one\ntwo\nthree\n"}


@pytest.mark.parametrize(
    ("missed", "printed"),
    [({2}, "one\ntwo\n"), ({2, 3}, "one\none\ntwo\n")],
    ids=["one, in whose midst it was renamed", "two"],
)
def test_a_file_has_gone_when_two_looks_lack_it(
    logs: Path,
    stdin: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    missed: set[int],
    printed: str,
) -> None:
    look = follow_logs.look
    turns = itertools.count(1)

    def look_in_turn(directory: str) -> follow_logs.Seen | None:
        turn = next(turns)
        if turn == 4:
            append(logs / "raylet.out", "two\n")
            os.close(stdin)
        return {} if turn in missed else look(directory)

    append(logs / "raylet.out", "one\n")
    monkeypatch.setattr(follow_logs, "look", look_in_turn)
    monkeypatch.setattr(signal, "setitimer", lambda which, seconds: None)
    follow_logs.main(str(logs), "0.01", "-1")
    chunks = [chunk for line in capsys.readouterr().out.splitlines() for chunk in json.loads(line)[2]]
    assert "".join(text for _, _, _, text in chunks) == printed


def test_a_file_that_is_emptied_is_read_from_its_beginning(logs: Path, programs: list[Program]) -> None:
    append(logs / "monitor.log", "a long first line\n")
    program = follow(programs, logs, "-1")
    program.until("monitor.log", "first line\n")
    (logs / "monitor.log").write_text("short\n")
    program.until("monitor.log", "short\n")


def test_a_new_session_is_followed_from_its_beginning(logs: Path, programs: list[Program], tmp_path: Path) -> None:
    append(logs / "gcs_server.out", "old\n")
    program = follow(programs, logs, "-1")
    program.until("gcs_server.out", "old\n")
    (tmp_path / "session_2" / "logs").mkdir(parents=True)
    append(tmp_path / "session_2" / "logs" / "gcs_server.out", "new\n")
    (tmp_path / "session_latest").unlink()
    time.sleep(0.2)
    (tmp_path / "session_latest").symlink_to("session_2")
    program.until("gcs_server.out", "new\n")
    assert program.text == {"gcs_server.out": "old\nnew\n"}


def test_a_session_that_is_linked_anew_is_not_printed_again(
    logs: Path, programs: list[Program], tmp_path: Path
) -> None:
    append(logs / "gcs_server.out", "old\n")
    program = follow(programs, logs, "-1")
    program.until("gcs_server.out", "old\n")
    (tmp_path / "session_latest").unlink()
    time.sleep(0.2)
    (tmp_path / "session_latest").symlink_to("session_1")
    append(logs / "gcs_server.out", "new\n")
    program.until("gcs_server.out", "new\n")
    assert program.text == {"gcs_server.out": "old\nnew\n"}


def test_a_program_that_is_started_again_goes_on_where_the_first_one_was(logs: Path, programs: list[Program]) -> None:
    append(logs / "raylet.out", "one\n")
    append(logs / "worker.out", "without a time\n")
    first = follow(programs, logs, "-1")
    first.until("raylet.out", "one\n")
    first.until("worker.out", "time\n")
    first.process.kill()
    append(logs / "raylet.out", "two\n")
    offsets = ",".join(f"{inode}:{offset}" for inode, offset in first.read.items())
    second = follow(programs, logs, "-1", offsets)
    second.until("raylet.out", "two\n")
    append(logs / "worker.out", "more\n")
    second.until("worker.out", "more\n")
    assert second.text == {"raylet.out": "two\n", "worker.out": "more\n"}


def test_a_line_is_printed_when_it_is_whole_or_stays_unfinished(logs: Path, programs: list[Program]) -> None:
    program = follow(programs, logs, "-1")
    append(logs / "a.log", "half")
    os.utime(logs / "a.log", (time.time() + 600,) * 2)  # however long the rest takes, it is not too long
    begun = time.monotonic()
    append(logs / "b.log", "never finished")
    program.until("b.log", "never finished")
    assert time.monotonic() - begun > 1.5
    append(logs / "a.log", " and half\n")
    program.until("a.log", "\n")
    assert program.text["a.log"] == "half and half\n"


def test_much_at_once_comes_in_pieces(logs: Path, programs: list[Program]) -> None:
    lines = "".join(f"line {number}\n" for number in range(40_000))
    append(logs / "replica.log", lines)
    program = follow(programs, logs, "-1")
    pieces = []
    while program.text.get("replica.log", "") != lines:
        pieces.append(program.next()["replica.log"])
    assert max(map(len, pieces)) <= 64_000
    assert all(piece.endswith("\n") for piece in pieces)


def test_what_is_no_regular_file_is_left_alone(logs: Path, programs: list[Program], tmp_path: Path) -> None:
    os.mkfifo(logs / "pipe.log")
    (tmp_path / "elsewhere.log").write_text("secret\n")
    (logs / "link.log").symlink_to(tmp_path / "elsewhere.log")
    append(logs / "data.bin", "no log\n")
    append(logs / "good.log", "good\n")
    program = follow(programs, logs, "-1")
    program.until("good.log", "good\n")
    assert program.text == {"good.log": "good\n"}


def test_it_waits_for_a_directory_that_is_not_there_yet(programs: list[Program], tmp_path: Path) -> None:
    program = follow(programs, tmp_path / "later", "-1")
    assert program.next() == {}
    (tmp_path / "later").mkdir()
    append(tmp_path / "later" / "gcs_server.out", "up\n")
    program.until("gcs_server.out", "up\n")


def test_it_ends_when_its_input_does(logs: Path, programs: list[Program]) -> None:
    program = follow(programs, logs, "-1")
    program.next()
    assert program.process.stdin is not None
    program.process.stdin.close()
    assert program.process.wait(10.0) == 0


def test_each_word_puts_the_alarm_off(stdin: int, monkeypatch: pytest.MonkeyPatch) -> None:
    alarms: list[tuple[int, float]] = []
    monkeypatch.setattr(signal, "setitimer", lambda which, seconds: alarms.append((which, seconds)))
    turns = itertools.count(1)

    def speak_once(directory: str) -> None:
        if next(turns) == 1:
            os.write(stdin, b"\n")
        else:
            os.close(stdin)

    monkeypatch.setattr(follow_logs, "look", speak_once)
    follow_logs.main("logs", "60", "-1", "", "2")
    assert alarms == [(signal.ITIMER_REAL, 2.0)] * 2


def test_it_ends_though_nobody_takes_what_it_prints(logs: Path, programs: list[Program]) -> None:
    append(logs / "replica.log", "more than a pipe holds\n" * 20_000)
    program = follow(programs, logs, "-1", "", "2")
    assert program.process.wait(20.0) == -signal.SIGALRM
