"""Finds words that this project does not use in text for people.

``python tools/check_words.py PATH...`` reads Markdown, YAML and Python files, and directories of them. In Markdown it
checks the prose, not the code; in Python the strings and docstrings. The words are in ``words.txt`` next to this file.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

WORDS = Path(__file__).with_name("words.txt")

_FENCE = re.compile(r"^ *(```|~~~)")
_NOT_PROSE = re.compile(r"<!-- (\w+) -->.*?<!-- /\1 -->|`[^`]*`|\]\([^)]*\)|https?://\S+", re.DOTALL)


class Word(NamedTuple):
    """A word that is not used, and what to write instead."""

    pattern: re.Pattern[str]
    instead: str


class Use(NamedTuple):
    """A place where such a word is used."""

    path: Path
    line: int
    text: str
    instead: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: '{self.text}': write {self.instead}"


def read_words(path: Path = WORDS) -> list[Word]:
    """The words of such a file; empty lines and comments are left out."""
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    pairs = (line.split(" => ", 1) for line in lines if line and not line.startswith("#"))
    return [Word(_whole(pattern), instead) for pattern, instead in pairs]


def _whole(pattern: str) -> re.Pattern[str]:
    """Such a pattern for whole words, over the end of a line too."""
    return re.compile(rf"(?<![\w-])(?:{pattern})(?![\w-])".replace(" ", r"\s+"), re.IGNORECASE)


def uses(path: Path, words: Iterable[Word]) -> Iterator[Use]:
    """Where a file uses these words."""
    source = path.read_text(encoding="utf-8")
    texts = _python_texts(source) if path.suffix == ".py" else _paragraphs(source)
    for first, text in texts:
        for word in words:
            for match in word.pattern.finditer(text):
                line = first + text.count("\n", 0, match.start())
                yield Use(path, line, " ".join(match.group().split()), word.instead)


def _paragraphs(source: str) -> Iterator[tuple[int, str]]:
    """The prose of a page with the line on which it begins; code is blanked out, so that lines stay where they are."""
    fenced = False
    kept: list[str] = []
    for line in source.splitlines():
        is_fence = bool(_FENCE.match(line))
        kept.append("" if fenced or is_fence else line)
        fenced = fenced != is_fence
    yield 1, _without_code("\n".join(kept))


def _python_texts(source: str) -> Iterator[tuple[int, str]]:
    """The strings of a module, docstrings and the parts of f-strings among them, without names such as keys."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and not node.value.isidentifier():
            yield node.lineno, _without_code(node.value)


def _without_code(text: str) -> str:
    return _NOT_PROSE.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), text)


def files(paths: Iterable[Path]) -> Iterator[Path]:
    """The files that are checked: those given, and those below the directories given."""
    for path in paths:
        if path.is_dir():
            yield from sorted(p for p in path.rglob("*") if p.suffix in {".md", ".py", ".yml", ".yaml"})
        else:
            yield path


def main(arguments: list[str]) -> int:
    """Prints every use; the status is 1 if there is one."""
    words = read_words()
    found = [use for path in files(map(Path, arguments)) for use in uses(path, words)]
    for use in found:
        print(use)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
