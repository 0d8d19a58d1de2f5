from __future__ import annotations

from pathlib import Path

import pytest

from tools.check_words import files, main, read_words, uses


def found(tmp_path: Path, name: str, text: str) -> list[tuple[int, str]]:
    path = tmp_path / name
    path.write_text(text)
    return [(use.line, use.text) for use in uses(path, read_words())]


@pytest.mark.parametrize(
    "text",
    ["To mend it", "made anew", "A deaf proxy", "a borrowed cluster", "the plugin\nis\ntold", "kept cluster"],
)
def test_a_banned_word_is_found(tmp_path: Path, text: str) -> None:
    assert found(tmp_path, "page.md", text)


@pytest.mark.parametrize("text", ["amend", "recommend", "there is none", "`mend`", "[x](aftershock.md)", "it is None"])
def test_other_words_and_code_are_not(tmp_path: Path, text: str) -> None:
    assert found(tmp_path, "page.md", text) == []


def test_what_is_generated_is_checked_where_it_comes_from(tmp_path: Path) -> None:
    assert found(tmp_path, "page.md", "<!-- table -->\n| mend |\n<!-- /table -->\nanew\n") == [(4, "anew")]


def test_fenced_code_is_not_checked_and_the_line_is_that_of_the_word(tmp_path: Path) -> None:
    assert found(tmp_path, "page.md", "fine\n```text\nmend\n```\n`code\nmend` and\nmend\n") == [(7, "mend")]


def test_strings_of_a_module_are_checked_and_its_names_are_not(tmp_path: Path) -> None:
    source = '"""Mends it."""\n\nmend = 1\nanew = f"{mend} is deaf"\n'
    assert found(tmp_path, "module.py", source) == [(1, "Mends"), (4, "deaf")]


def test_directories_are_searched(tmp_path: Path) -> None:
    for name in ("a.md", "b.py", "c.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in files([tmp_path])] == ["a.md", "b.py"]


def test_the_status_says_whether_there_is_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.md"
    page.write_text("all is well\n")
    assert main([str(page)]) == 0
    page.write_text("it is spoilt\n")
    assert main([str(page)]) == 1
    assert capsys.readouterr().out == f"{page}:1: 'spoilt': write tainted, dirty\n"
