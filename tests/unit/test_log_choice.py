"""Which log lines around a fault a history keeps."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_serve_chaos.analysis.log_choice import LINES, LINES_OF_A_PROCESS, WIDTH, choose_lines
from pytest_serve_chaos.cluster.test_logs import LogsOfTest
from pytest_serve_chaos.events import FaultAsked, LogsExcerpted, Note, of_kind
from pytest_serve_chaos.history import History
from pytest_serve_chaos.masking import with_masked_secrets
from pytest_serve_chaos.model import LogLine
from pytest_serve_chaos.report.log_excerpts import by_process, process_name, process_of
from pytest_serve_chaos.session.log_excerpts import keep_log_lines

CONTROLLER = "serve/controller_7.log"


def line(seconds: float, text: str, file: str = CONTROLLER, node: str = "head") -> LogLine:
    return LogLine(seconds, node, file, text)


def texts(lines: tuple[LogLine, ...]) -> list[str]:
    return [one.text for one in lines]


def test_errors_and_warnings_near_the_fault_are_kept_and_answered_requests_are_not() -> None:
    usual = [line(i / 10, "INFO 2026-12-01 14:49:13,618 replica 7 -- GET /app 200 3.1ms") for i in range(100)]
    told = [
        line(
            0.2, "WARNING 2026-12-01 14:49:13,618 controller 7 -- Proxy actor readiness check didn't complete in 5.0s."
        ),
        line(0.3, "[2026-12-01 14:49:13,618 E 21 21] (gcs_server) node is dead", "gcs_server.out"),
    ]
    choice = choose_lines([*usual, *told], [0.0])
    assert texts(choice.lines) == texts(tuple(told))
    assert choice.left_out == 100


def test_what_follows_a_line_is_kept_where_it_is_the_error() -> None:
    dump = [line(0.1, "GcsNodeManager:", "gcs_server.out"), line(0.1, "- DrainNode request count: 0", "gcs_server.out")]
    raised = [line(0.2, "Traceback (most recent call last):"), line(0.2, "ray.exceptions.ActorDiedError: it died")]
    assert texts(choose_lines([*dump, *raised], [0.0]).lines) == ["ray.exceptions.ActorDiedError: it died"]


def test_a_dump_of_a_state_leaves_room_for_what_was_said_before_it() -> None:
    dump = [line(0.0, f"- count {n}: 0", "gcs_server.out") for n in range(30_000)]
    said = line(9.0, "[2026-12-01 14:44:28,633 W 18 18] (gcs_server) node is dead", "gcs_server.out")
    assert choose_lines([*dump, said], [0.0]).lines == (said,)


def test_a_line_that_repeats_is_kept_once_with_how_often() -> None:
    many = [
        line(1 + i, f"WARNING proxy -- Failed to get queue length from Replica(id='x{i}') in {i}s") for i in range(9)
    ]
    (kept,) = choose_lines(many, [0.0]).lines
    assert (kept.seconds, kept.times) == (1.0, 9)


def test_a_process_that_says_much_leaves_room_for_the_others() -> None:
    words = [f"{chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(400)]
    loud = [line(0.1, f"ERROR {word}", "raylet.out") for word in words]
    quiet = [line(9.0, "INFO 2026-12-01 14:49:13,618 controller 7 -- Controller starting")]
    kept = choose_lines([*loud, *quiet], [0.0]).lines
    assert len([one for one in kept if one.file == "raylet.out"]) == LINES_OF_A_PROCESS
    assert quiet[0] in kept


def test_no_cluster_is_so_large_that_its_lines_fill_the_history() -> None:
    lines = [line(0.1, f"ERROR {'x' * 2000}", f"worker-{i}.err", f"worker-{j}") for i in range(40) for j in range(20)]
    kept = choose_lines(lines, [0.0]).lines
    assert len(kept) <= LINES
    assert max(len(one.text) for one in kept) <= WIDTH + 3


@given(st.lists(st.tuples(st.floats(-10, 100), st.text(), st.sampled_from(["a.log", "b.log"]))), st.floats(-1, 50))
def test_whatever_is_logged_the_choice_is_in_order_printable_and_adds_up(
    logged: list[tuple[float, str, str]], moment: float
) -> None:
    choice = choose_lines([line(seconds, text, file) for seconds, text, file in logged], [moment])
    seconds = [one.seconds for one in choice.lines]
    assert seconds == sorted(seconds)
    assert sum(one.times for one in choice.lines) + choice.left_out == len(logged)
    assert not any(re.search(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]", one.text) for one in choice.lines)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("connect to redis://:hunter2@10.0.0.1:6379/0", "connect to redis://...@10.0.0.1:6379/0"),
        ("REDIS_PASSWORD=hunter2 set", "REDIS_PASSWORD=... set"),
        ('{"api_key": "hunter 2", "user": "me"}', '{"api_key": ..., "user": "me"}'),
        ("ray start --redis-password hunter2 --head", "ray start --redis-password ... --head"),
        ("Authorization: Bearer hunter2hunter2", "Authorization: Bearer ..."),
        ("GET https://me:hunter2@host/path?sig=hunter2", "GET https://...@host/path?sig=..."),
        ("max_tokens=512, monkey=3", "max_tokens=512, monkey=3"),
    ],
)
def test_secrets_in_log_lines_are_masked(text: str, shown: str) -> None:
    assert with_masked_secrets(text) == shown


def test_a_key_of_a_known_form_needs_no_name() -> None:
    assert with_masked_secrets("using hf_" + "a" * 30) == "using ..."


# -- in a history ------------------------------------------------------------------------------------------------------


class Logs:
    """The logs of a test, of which a question gives `answer`."""

    def __init__(self, answer: Callable[[], list[LogLine]]) -> None:
        self._answer = answer

    def around(self, moment: float, *, before: float, after: float) -> list[LogLine]:
        return self._answer()


def kept(answer: Callable[[], list[LogLine]], path: Path) -> History:
    history = History(path)
    history.add(FaultAsked("SIGKILL to the head", experiment="head_lost", fault="head_failure"))
    history.add(Note("a test that looked", experiment="looked"))
    logs: LogsOfTest = Logs(answer)  # type: ignore[assignment]
    keep_log_lines(history, ["head_lost", "looked"], logs)
    history.close()
    return History.load(path)


def test_lines_are_in_the_history_by_process(tmp_path: Path) -> None:
    lines = [line(2.0, "ERROR b", "raylet.out", "worker-1"), line(1.0, "ERROR a"), line(3.0, "ERROR c")]
    history = kept(lambda: lines, tmp_path / "history.jsonl")
    (excerpt,) = of_kind(LogsExcerpted, history.of("head_lost"))
    first, second = by_process(excerpt.lines)
    assert (first.name, texts(first.lines)) == ("controller (PID 7) on head", ["ERROR a", "ERROR c"])
    assert (second.name, texts(second.lines)) == ("raylet on worker-1", ["ERROR b"])
    assert not of_kind(LogsExcerpted, history.of("looked"))


def test_logs_that_cannot_be_read_cost_no_test(tmp_path: Path) -> None:
    def broken() -> list[LogLine]:
        raise RuntimeError("the disk is gone")

    history = kept(broken, tmp_path / "history.jsonl")
    assert [note.text for note in of_kind(Note, history.of("head_lost"))] == [
        "the log lines around the fault could not be kept: RuntimeError: the disk is gone"
    ]


@pytest.mark.parametrize(
    ("file", "process"),
    [
        ("serve/controller_797.log", "controller (PID 797)"),
        ("serve/proxy_10.244.2.5.log", "proxy"),
        ("serve/replica_sleepy_pid_SleepyPid_a2z3im79.log", "replica a2z3im79 of sleepy_pid_SleepyPid"),
        ("gcs_server.3.out", "gcs_server"),
        ("raylet.out.1", "raylet"),
        ("container_restart-1.log", "output of the container"),
        ("something else", "something else"),
    ],
)
def test_a_file_says_which_process_writes_it(file: str, process: str) -> None:
    assert process_of(file) == process


@pytest.mark.parametrize(
    ("line", "process"),
    [
        (
            LogLine(1.0, "worker-1", "raylet.out", "[2026-12-02 19:08:01,852 I 73 93] (raylet) a"),
            "raylet (PID 73) on worker-1",
        ),
        (LogLine(1.0, "", "raylet.3.out", "[2026-12-02 19:08:01,852 I 73 73] (raylet) a.cc:1: b"), "raylet (PID 73)"),
        (LogLine(1.0, "head", "raylet.out", "without a beginning"), "raylet on head"),
        (LogLine(1.0, "head", "serve/proxy_10.1.1.2.log", "INFO [a 7 8] (raylet)"), "proxy on head"),
    ],
)
def test_a_line_may_say_which_process_wrote_it(line: LogLine, process: str) -> None:
    assert process_name(line) == process


@pytest.mark.parametrize(
    ("texts", "name"),
    [
        (["without a beginning", "[2026-12-02 19:08:01,852 I 73 93] (raylet) a"], "raylet (PID 73) on head"),
        (["[2026 I 73 93] (raylet) a", "[2026 I 1000 1000] (raylet) a"], "raylet on head"),
    ],
)
def test_the_lines_of_a_file_have_a_pid_if_one_process_wrote_them(texts: list[str], name: str) -> None:
    (log,) = by_process(LogLine(1.0, "head", "raylet.out", text) for text in texts)
    assert log.name == name
