"""The command that runs a test again."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

import pytest_serve_chaos
from pytest_serve_chaos.backends.registry import BUILT_IN
from pytest_serve_chaos.doctor import CommandLine
from pytest_serve_chaos.events import Repeatable
from pytest_serve_chaos.session.repeat import Repetition
from pytest_serve_chaos.settings import resolve

START = Path("/work/project")


def repeated(path: Path = START / "tests" / "test_a.py", test: str = "test_head[x y]", **given: str) -> Repeatable:
    config = CommandLine({"seed": "7", **given})
    repetition = Repetition(config, START, resolve(config, {}, BUILT_IN, partial=True), BUILT_IN)
    return repetition.of(f"tests/{path.name}::{test}", path, "head[x y]")


def test_the_command_has_the_seed_what_was_set_and_the_test() -> None:
    found = repeated(rate="20", report_dir="/tmp/reports")
    assert found.text == (
        "pytest --serve-chaos --serve-chaos-seed=7 --serve-chaos-rate=20 'tests/test_a.py::test_head[x y]'"
    )
    assert (found.seed, found.options, found.on_local) == (7, ("--serve-chaos-rate=20",), ("--serve-chaos-rate=20",))


def test_what_only_another_backend_takes_is_not_given_to_local() -> None:
    found = repeated(backend="kind", ray_image="rayproject/ray:2.60.0", workers="3")
    assert "--serve-chaos-backend=kind" in found.options
    assert "--serve-chaos-ray-image=rayproject/ray:2.60.0" in found.options
    assert found.on_local == ("--serve-chaos-workers=3",)


def test_what_an_environment_variable_sets_is_in_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVE_CHAOS_WORKERS", "1")
    assert "--serve-chaos-workers=1" in repeated().options


def test_no_secret_is_in_the_command() -> None:
    found = repeated(headers="Authorization: Bearer hunter2", body="hunter2")
    assert found.options == ("--serve-chaos-headers=...", "--serve-chaos-body=...")


def test_a_test_of_the_guide_is_named_by_its_module() -> None:
    package = Path(pytest_serve_chaos.__file__).parent
    found = repeated(package / "suite" / "test_1_head.py", "test_head_lost")
    assert shlex.split(found.text)[-2:] == ["--pyargs", "pytest_serve_chaos.suite.test_1_head::test_head_lost"]
