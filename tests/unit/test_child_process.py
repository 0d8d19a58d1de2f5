from __future__ import annotations

import pytest

from pytest_serve_chaos.cluster.child_process import ChildProcess
from pytest_serve_chaos.faults.child import in_words, matching
from pytest_serve_chaos.model import Identity

SPAWNED = "/usr/bin/python3 -c from multiprocessing.spawn import spawn_main; spawn_main(tracker_fd=5, pipe_handle=7)"
TRACKER = "/usr/bin/python3 -c from multiprocessing.resource_tracker import main;main(4)"
SCRIPT = "python -c import sys\nfor line in sys.stdin: print(line, end='', flush=True)"


def process(command: str, name: str = "python3") -> ChildProcess:
    return ChildProcess(Identity("process", ("b", "7", "1")), 7, 5, name, command)


def line(command: str) -> str:
    return process(command, "llama-server").line


@pytest.mark.parametrize(
    "command",
    [
        "llama-server --api-key s3cr3t --port 1",
        "llama-server --hf-token=s3cr3t",
        "python -m engine HF_TOKEN=s3cr3t",
        "engine --db-password  s3cr3t",
    ],
)
def test_a_secret_in_a_command_line_is_not_shown(command: str) -> None:
    assert "s3cr3t" not in line(command)
    assert "***" in line(command)


def test_a_title_with_such_a_word_is_shown_whole() -> None:
    assert line("token server v2").endswith(": token server v2")
    assert line("engine token-count 7").endswith(": engine token-count 7")


def test_a_child_is_shown_in_one_line_that_is_not_endless() -> None:
    assert line("python -c import sys\nfor line in sys.stdin: pass") == (
        "python (PID 7, of PID 5): python -c import sys for line in sys.stdin: pass"
    )
    assert len(line("x" * 9000)) < 200


def test_what_a_child_was_started_with_is_not_in_its_repr() -> None:
    child = ChildProcess(Identity("process", ("b", "7", "1")), 7, 5, "engine", "engine --token s3cr3t")
    assert "s3cr3t" not in repr(child)


@pytest.mark.parametrize(
    ("command", "title"),
    [
        ("/opt/bin/llama-server --port 1", "llama-server"),
        ("VLLM::EngineCore", "VLLM::EngineCore"),
        ("", "llama-server"),
        ("/", "llama-server"),
    ],
)
def test_a_child_is_called_after_its_program(command: str, title: str) -> None:
    assert ChildProcess(Identity("process", ("b", "7", "1")), 7, 5, "llama-server", command).title == title


@pytest.mark.parametrize(
    "commands",
    [
        [SCRIPT],
        [SPAWNED, TRACKER],
        ["/bin/sh -c while read x; do echo $x; done"],
        ["python3.11 -u -"],
        ["node -e run()"],
    ],
)
def test_a_script_without_a_name_is_meant_where_nothing_else_is_there(commands: list[str]) -> None:
    there = [process(command) for command in commands]
    found = matching(there, "engine")
    assert found == (there[0],)
    assert not in_words(found, "engine")


@pytest.mark.parametrize(
    "commands",
    [
        [],
        ["llama-server --port 1"],
        ["python -m vllm.entrypoints"],
        ["python serve.py -c config.yaml"],
        [TRACKER],
        [SCRIPT, SCRIPT],
        [SCRIPT, "nginx"],
    ],
)
def test_a_name_that_nothing_has_means_nothing_where_there_is_any_doubt(commands: list[str]) -> None:
    assert matching([process(command) for command in commands], "engine") == ()


def test_what_has_the_name_is_meant_and_not_the_script_beside_it() -> None:
    there = [process(SCRIPT), process("/opt/engine --port 1")]
    assert matching(there, "engine") == (there[1],)
    assert in_words(matching(there, "engine"), "engine")
    assert matching(there, None) == tuple(there)
