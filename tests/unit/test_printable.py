"""What others name may be shown: it commands no terminal and no CI system, in whichever report it stands."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_serve_chaos.analysis.result import Result
from pytest_serve_chaos.cli import main
from pytest_serve_chaos.errors import ClusterError
from pytest_serve_chaos.model import ClusterDescription
from pytest_serve_chaos.printable import MOST, one_line, printable
from pytest_serve_chaos.report import junit, markdown
from pytest_serve_chaos.report.terminal import summary_table
from pytest_serve_chaos.results import result_of
from pytest_serve_chaos.session.terminal import Terminal
from pytest_serve_chaos.settings import Settings
from tests.unit.histories import Story, head_failure

CLIPBOARD, TITLE, CLEAR = "\x1b]52;c;Y3VybA==\x07", "\x1b]0;owned\x07", "\x1b[2J"
NASTY = f"::set-output name=a::b{CLIPBOARD}{TITLE}{CLEAR}\rall is well\x08\x08\u202eafter\u2066"
COMMAND = re.compile(r"^\s*::|##\[|##vso\[|##teamcity\[", re.MULTILINE)
HARMFUL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\u2029\ud800-\udfff]")


def is_harmless(text: str) -> bool:
    return not COMMAND.search(text) and not HARMFUL.search(text)


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        (CLIPBOARD, r"\x1b]52;c;Y3VybA==\x07"),
        ("a\rb\x08c", r"a\x0db\x08c".replace("x0d", "r")),
        ("a\u202eb", r"a\u202eb"),
        ("a\x85b\u2028c", r"a\x85b\u2028c"),
        ("half \ud83d", r"half \ud83d"),
        ("::error file=x::y", r"\x3a:error file=x::y"),
        ("fine\n  ::stop-commands::x\n", "fine\n  \\x3a:stop-commands::x\n"),
        ("\u3000::debug::x", "\u3000\\x3a:debug::x"),
        ("at last ##[error]x", r"at last #\x23[error]x"),
        ("##vso[task.setvariable]x", r"#\x23vso[task.setvariable]x"),
        ("\x1b[36m(pid=7)\x1b[0m warned", "(pid=7) warned"),
    ],
)
def test_what_would_do_something_is_seen_instead(text: str, seen: str) -> None:
    assert printable(text) == seen


@pytest.mark.parametrize("text", ["tests/test_a.py::test_b", "a\tb\nc", "größer ≤ 3 µs, 日本, 👍", "::", "[2/3]: ok"])
def test_ordinary_text_is_as_it_was(text: str) -> None:
    assert printable(text) == (text if text != "::" else r"\x3a:")


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.characters(), max_size=40) | st.text(alphabet=":#[vso\n\r\x1b\u202e ", max_size=20))
def test_nothing_harmful_is_left_of_any_text(text: str) -> None:
    assert is_harmless(printable(text))
    assert printable(printable(text)) == printable(text)
    assert "\n" not in one_line(text)


def test_a_line_is_not_longer_than_anybody_reads() -> None:
    first, second = printable("a\n" + "x" * 1_000_000).split("\n")
    assert (first, len(second)) == ("a", MOST + 3)


# -- where it leaves ---------------------------------------------------------------------------------------------------


def nasty() -> Result:
    """A result all whose names and texts are nasty."""
    story = Story(experiment=f"{NASTY}\nfake_test  passed  0 / 9").event(30.0, "remark", NASTY)
    story.event(31.0, "problem", f"{NASTY}\n{NASTY}")
    result = result_of(story.history(), story.experiment)
    app = ClusterDescription("kind", "2.60.0", 2, "redis", NASTY, "fast", 6, "http://127.0.0.1:1/")
    return replace(result, description=app)


def test_the_table_has_one_row_for_each_experiment() -> None:
    lines = [printable(line) for line in summary_table([nasty()])]
    assert all(map(is_harmless, lines))
    assert not any(line.startswith("fake_test") for line in lines)


def test_markdown_has_neither_commands_nor_links_nor_mentions() -> None:
    result = replace(nasty(), experiment="a\r# Approved\r\nhttps://evil.example www.evil.example @everyone ![x](y) ~z~")
    text = markdown.summary([result], missing=[NASTY])
    assert is_harmless(text)
    assert "\n# Approved" not in text
    assert not re.search(r"://|www\.e|@e|(?<!\\)[\[\]~]", text)


def test_the_properties_of_a_test_case_are_text() -> None:
    assert all(is_harmless(value) for _, value in junit.properties(nasty()))


def test_an_error_that_quotes_an_answer_is_text() -> None:
    error = ClusterError(f"status 500: {NASTY}", checked=[NASTY, "::error::x"], fix=[NASTY])
    assert is_harmless(str(error))
    assert "all is well" in str(error)


def test_a_line_of_progress_is_text() -> None:
    written: list[str] = []
    reporter = SimpleNamespace(write_line=written.append, ensure_newline=lambda: None)
    plugins = SimpleNamespace(get_plugin={"terminalreporter": reporter, "capturemanager": None}.get)
    terminal = Terminal(
        cast("pytest.Config", SimpleNamespace(pluginmanager=plugins)), cast("Settings", SimpleNamespace(dry_run=True))
    )
    terminal.say(f"{NASTY}\n{NASTY}")
    assert len(written) == 1
    assert is_harmless(written[0])


@pytest.mark.parametrize("form", ["table", "github", "json"])
def test_whatever_analyse_prints_is_text(tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str) -> None:
    story = Story(experiment=NASTY).event(30.0, "remark", f"{NASTY}\n::error::x").event(61.0, "verdict", "passed")
    story.history(tmp_path / "history.jsonl")
    assert main(["analyse", "--format", form, str(tmp_path / "history.jsonl")]) == 0
    assert is_harmless(capsys.readouterr().out)


def test_a_timeline_is_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    head_failure().event(30.0, "problem", f"{NASTY}\n::error::x").history(tmp_path / "history.jsonl")
    assert main(["analyse", "--timeline", "head_failure", str(tmp_path / "history.jsonl")]) == 0
    assert is_harmless(capsys.readouterr().out)
