"""Each command, setting and file in the documentation is one that the programs take as it stands there."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import shlex
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

import pytest_serve_chaos
from pytest_serve_chaos.backends.registry import BUILT_IN as BACKENDS
from pytest_serve_chaos.cli import make_parser
from pytest_serve_chaos.comparing.commands import split_arguments
from pytest_serve_chaos.kinds import File, FileOr
from pytest_serve_chaos.options import OPTIONS, Option
from pytest_serve_chaos.report.registry import BUILT_IN as REPORTERS
from tests.unit.test_docs import PAGES

_OPERATORS = ("|", "||", "&&", ">", ">>", "2>&1", "&")
_FLAGS = {row.flag: row for row in OPTIONS}
_NOT_SETTINGS = {"SERVE_CHAOS_FLAGS"}
"""Variables of pods, not of a run."""


class Command(NamedTuple):
    """A command that a page shows."""

    page: str
    words: tuple[str, ...]

    @property
    def needs_a_plugin(self) -> bool:
        """Whether it names a backend or a reporter that the page adds."""
        return any(f'name="{word}"' in PAGES[self.page] for word in self.words)


def blocks(page: str, *languages: str) -> list[str]:
    """The fenced blocks of a page in one of these languages."""
    return [text for kind, text in re.findall(r"^```(\w+)\n(.*?)^```$", PAGES[page], re.M | re.S) if kind in languages]


def commands(page: str) -> Iterator[Command]:
    """The commands of a page, without what the shell does with their output."""
    for block in blocks(page, "console", "yaml"):
        for line in block.replace("\\\n", " ").splitlines():
            typed = re.match(r"\s*(?:\$|- run:|run:) (.*)", line)
            for part in re.split(r"\s&&\s", typed[1]) if typed else ():
                words = shlex.split(part, comments=True)
                while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                    del words[0]
                yield Command(page, tuple(takewhile(lambda word: word not in _OPERATORS, words)))


COMMANDS = [command for page in PAGES for command in commands(page)]
OURS = [command for command in COMMANDS if command.words[:1] == ("serve-chaos",) and not command.needs_a_plugin]
PYTEST = [command for command in COMMANDS if command.words[:1] == ("pytest",)]


def shown(command: Command) -> str:
    return f"{command.page}: {shlex.join(command.words)}"


@pytest.mark.parametrize("command", OURS, ids=shown)
def test_serve_chaos_takes_each_command_that_a_page_shows(command: Command) -> None:
    own, _ = split_arguments(command.words[1:])
    make_parser(BACKENDS, REPORTERS).parse_args(own)


def test_the_pages_show_every_command() -> None:
    assert {command.words[1] for command in OURS} == {
        "analyse", "bisect", "compare", "doctor", "open", "rbac", "report", "undo",
    }  # fmt: skip


def options_of(page: str) -> dict[str, Option]:
    """The options of this package, and those of the backend that a page adds."""
    names = re.findall(r'Option\(\s*"(\w+)"', PAGES[page])
    return _FLAGS | {(row := OPTIONS[0]._replace(name=name)).flag: row for name in names}


@pytest.mark.parametrize("command", PYTEST, ids=shown)
def test_pytest_takes_each_option_and_value_that_a_page_shows(command: Command) -> None:
    options = options_of(command.page)
    for word in command.words:
        flag, equals, value = word.partition("=")
        if flag.startswith("--serve-chaos-"):
            row = options[flag]
            assert bool(equals) == bool(row.kind.metavar), word
            if equals and not isinstance(row.kind, (File, FileOr)) and "${{" not in value:
                row.kind.parse(value, Path())


@pytest.mark.parametrize("page", PAGES)
def test_each_key_of_a_configuration_is_a_setting_with_a_valid_value(page: str) -> None:
    rows = {row.ini: row for row in OPTIONS}
    for block in blocks(page, "ini", "toml"):
        for key, value in re.findall(r"^(serve_chaos_\w+) = \"?([^\"\n]*)\"?$", block, re.M):
            if not isinstance(rows[key].kind, (File, FileOr)):
                rows[key].kind.parse(value, Path())


@pytest.mark.parametrize("page", PAGES)
def test_each_variable_is_a_setting(page: str) -> None:
    added = re.findall(r'Option\(\s*"(\w+)"', PAGES[page])
    known = {row.env for row in OPTIONS} | {f"SERVE_CHAOS_{name.upper()}" for name in added} | _NOT_SETTINGS
    assert set(re.findall(r"\bSERVE_CHAOS_[A-Z_]*[A-Z]\b", PAGES[page])) <= known


@pytest.mark.parametrize("page", PAGES)
def test_yaml_and_json_can_be_read(page: str) -> None:
    for block in blocks(page, "yaml"):
        list(yaml.safe_load_all(block))
    for line in (line for block in blocks(page, "json") for line in block.splitlines()):
        json.loads(line)


# -- imports -----------------------------------------------------------------------------------------------------------


def imports(page: str) -> Iterator[tuple[str, str]]:
    """Each module of this package and the name that an example imports from it."""
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == pytest_serve_chaos.__name__:
                yield from ((str(node.module), alias.name) for alias in node.names)


IMPORTS = sorted({found for page in PAGES for found in imports(page)})


@pytest.mark.parametrize(("module", "name"), IMPORTS)
def test_what_an_example_imports_exists(module: str, name: str) -> None:
    if name in pytest_serve_chaos.__all__:
        return
    found = importlib.util.find_spec(module)
    assert found is not None
    assert found.origin is not None
    path = Path(found.origin)
    in_package = {file.stem for file in path.parent.glob("*.py")} if path.name == "__init__.py" else set()
    assert name in {*defined(ast.parse(path.read_text())), *in_package}  # importing an app would import Ray


def defined(tree: ast.Module) -> Iterator[str]:
    """The names that a module has."""
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.ImportFrom):
            yield from (alias.asname or alias.name for alias in node.names)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (target.id for target in targets if isinstance(target, ast.Name))
