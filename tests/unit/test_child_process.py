from __future__ import annotations

import pytest

from pytest_serve_chaos.cluster.child_process import ChildProcess
from pytest_serve_chaos.model import Identity


def line(command: str) -> str:
    return ChildProcess(Identity("process", ("b", "7", "1")), 7, 5, "llama-server", command).line


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
