"""A history may have anything in it: `serve-chaos analyse` ends with 2 on what is no verdict, and says why."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_serve_chaos import cli
from pytest_serve_chaos.cli import main
from pytest_serve_chaos.model import Json
from tests.unit.histories import head_failure

HEADER = '{"type":"history","format":1,"began":"2026-01-01T00:00:00+00:00"}\n'


def event(at: object, kind: str, text: str, data: Json = None) -> str:
    return json.dumps({"type": "event", "at": at, "kind": kind, "text": text, "experiment": "e", "data": data or {}})


@pytest.mark.parametrize(
    "line",
    [
        "5",
        "[1]",
        "{}",
        '{"type":"request","zzz":1}',
        "[" * 100_000,
        '{"type":"event","at":0,"kind":"note","text":' + "[" * 100_000 + "]" * 100_000 + "}",
        event(float("nan"), "note", "x"),
        event(float("inf"), "note", "x"),
        event(10**400, "note", "x"),
        event(1e300, "note", "x"),
        event(0, "expectations", "x", {"availability": "lots"}),
        event(0, "expectations", "x", {"window": 1e15}),
        event([], "note", "x"),
        '{"type":"event","at":' + "9" * 5000 + "}",
        '"\ud800"'.encode("unicode_escape").decode(),
    ],
)
def test_what_is_no_verdict_ends_with_two_and_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str
) -> None:
    file = tmp_path / "history.jsonl"
    file.write_text(f"{HEADER}{line}\n{event(1, 'verdict', 'passed')}\n")
    assert main(["analyse", str(file)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("serve-chaos: ")
    assert "Traceback" not in said
    assert "defect" not in said
    assert len(said) < 600


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"\x00" * 100, b"not a history\n", HEADER.encode()[:-20]])
def test_a_file_that_is_no_history_ends_with_two(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "history.jsonl").write_bytes(content)
    assert main(["analyse", str(tmp_path / "history.jsonl")]) == 2


def test_a_crash_of_ours_ends_with_two_and_says_so_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def crash(*_: object, **__: object) -> None:
        raise KeyError("a figure")

    head_failure().history(tmp_path / "history.jsonl")
    monkeypatch.setattr("pytest_serve_chaos.results.results_of", crash)
    assert main(["analyse", str(tmp_path / "history.jsonl")]) == 2
    said = capsys.readouterr().err
    assert "cannot be judged: this is a defect, please report it: KeyError: 'a figure' (test_hostile_histories" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("words", [["undo"], ["doctor"], ["analyse", "history.jsonl"]])
def test_no_command_ends_with_a_traceback(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def crash(*_: object, **__: object) -> None:
        raise RecursionError("maximum recursion depth exceeded")

    for name in ("_undo", "_doctor", "_analyse"):
        monkeypatch.setattr(cli, name, crash)
    assert main(words) == 2
    assert capsys.readouterr().err.count("\n") == 1


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(line=st.integers(0, 20), key=st.sampled_from(["at", "text", "data", "experiment", "kind", "type"]), value=ANY)
def test_whatever_an_event_has_there_is_a_verdict_or_a_reason_why_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: int, key: str, value: Json
) -> None:
    story = head_failure()
    story.requests = story.requests[::50]
    story.event(61.0, "verdict", "passed")
    story.history(tmp_path / "history.jsonl")
    lines = (tmp_path / "history.jsonl").read_text().splitlines()
    number = 1 + line % len(story.events)
    lines[number] = json.dumps({**json.loads(lines[number]), key: value})
    (tmp_path / "history.jsonl").write_text("\n".join(lines) + "\n")
    status = main(["analyse", str(tmp_path / "history.jsonl")])
    said = capsys.readouterr()
    assert status in (0, 1, 2)
    assert "Traceback" not in said.err
    assert bool(said.err) == (status == 2)
