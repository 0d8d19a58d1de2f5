"""What users import: from the package itself, and at no cost for those who do not use it."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys

import pytest

import pytest_serve_chaos
from pytest_serve_chaos import errors


@pytest.mark.parametrize("name", pytest_serve_chaos.__all__)
def test_each_public_name_leads_to_what_it_names(name: str) -> None:
    assert getattr(pytest_serve_chaos, name).__name__.rpartition(".")[2] == name
    assert name in dir(pytest_serve_chaos)


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(inspect.getsource(pytest_serve_chaos))
    (imports,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = [alias.name for node in imports.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert sorted(seen) == sorted(pytest_serve_chaos.__all__)


def test_all_errors_are_public() -> None:
    ours = [name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)]
    assert set(ours) <= set(pytest_serve_chaos.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'pytest_serve_chaos' has no attribute 'nothing'"):
        getattr(pytest_serve_chaos, "nothing")  # noqa: B009


def test_the_package_alone_imports_nothing_of_itself() -> None:
    code = "import sys, pytest_serve_chaos; print([m for m in sys.modules if m.startswith('pytest_serve_chaos.')])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"
