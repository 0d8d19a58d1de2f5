"""What a user did wrong is refused with a way to do it right: a fix, or what a value must be."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "pytest_serve_chaos"
OF_USERS = ("SettingsError", "MissingDependency", "HistoryError")
"""What a user can put right; the other errors tell of a cluster."""

SOURCES = {
    path.relative_to(PACKAGE).as_posix(): text
    for path in sorted(PACKAGE.rglob("*.py"))
    if re.search(rf"\b({'|'.join(OF_USERS)})\(", text := path.read_text(encoding="utf-8"))
}


def without_a_fix(source: str) -> Iterator[str]:
    """The errors in a module that leave the user alone."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in OF_USERS:
            fixes = [given.value for given in node.keywords if given.arg == "fix"]
            has_one = any(not isinstance(fix, ast.List) or fix.elts for fix in fixes)
            if not has_one and "must be" not in ast.unparse(node):
                yield f"line {node.lineno}: {ast.unparse(node)}"


@pytest.mark.parametrize("path", SOURCES)
def test_each_error_about_what_a_user_gave_says_how_to_fix_it(path: str) -> None:
    assert list(without_a_fix(SOURCES[path])) == []


def test_an_error_without_a_way_out_is_found() -> None:
    assert len(SOURCES) > 40
    assert [*without_a_fix("raise SettingsError('no')"), *without_a_fix("raise HistoryError(text, fix=[])")] != []
    assert list(without_a_fix("raise SettingsError('it must be 5')")) == []
    assert list(without_a_fix("raise SettingsError('no', fix=['yes'])")) == []
