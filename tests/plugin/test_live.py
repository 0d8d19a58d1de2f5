"""What the user of a terminal sees while tests run, through a real pseudo-terminal."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pytest_serve_chaos.session import terminal as terminal_module
from tests.plugin.conftest import LOAD, ROOT
from tests.terminals import Once, Seen, Terminal, kill, make_it, press, run_on_terminal

CONFTEST = """
from pytest_serve_chaos.testing import FakeBehaviour, FakeCluster

def pytest_serve_chaos_start_cluster(spec):
    return FakeCluster(spec, FakeBehaviour(outage=6, back_after=1.0))
"""

EXPERIMENT = """
import pytest

def test_before():
    pass

@pytest.mark.head_failure
def test_losing_the_head(experiment):
    experiment.run(availability=0.5, longest_outage="60s", window="1s")

def test_after():
    pass
"""

NOISY = """
import logging
import time

def test_noisy(serve_cluster, capsys):
    print("captured")
    time.sleep(0.8)
    logging.getLogger("app").warning("logged live")
    time.sleep(0.8)
    with capsys.disabled():
        print("printed to the terminal")
    time.sleep(0.8)
"""

LONG = """
import time

def test_long(serve_cluster):
    time.sleep(60)
"""

RULE = "── "
"""How the block begins."""


def seen(pytester: pytest.Pytester, test: str, *args: str, todo: tuple[Once, ...] = (), columns: int = 110) -> Seen:
    """Runs a test on a terminal."""
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_chaos=test)
    plain = ("PYTEST_", "SERVE_CHAOS", "NO_COLOR", "CI", "BUILD_NUMBER", "COLUMNS", "LINES")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(plain)}
    environment |= {"TERM": "xterm-256color", "LC_ALL": "C.UTF-8", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    environment |= {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    plugins = ["-p", "pytest_serve_chaos.plugin", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *plugins, "--serve-chaos", *LOAD, *args]
    return run_on_terminal(command, environment, *todo, columns=columns)


def test_the_experiment_is_shown_below_pytests_lines_and_vanishes(pytester: pytest.Pytester) -> None:
    found = seen(pytester, EXPERIMENT)
    assert found.status == 0, found.lines
    shown = found.frame_with(f"{RULE}test_losing_the_head", "missing  head", "x")
    assert "steady state > fault > recovery > post-recovery check > restore" in shown
    assert "lost" in shown
    assert "left ──" in shown or "longer than expected ──" in shown
    assert "latency" in shown

    kept = [line.removeprefix("serve-chaos: ") for line in found.lines if line.startswith("serve-chaos: ")]
    assert len(kept) == len(set(kept)), kept
    assert [line.partition(":")[0] for line in kept if line.startswith("inject")] == ["inject"]
    assert [line for line in kept if line.startswith("redundancy is back")]
    assert "\n".join(found.lines).count(RULE) == 0, found.lines
    assert "3 passed" in found.lines[-1]
    assert not found.cursor_hidden
    assert b"\x1b[?" not in found.raw, "no mode of the terminal is changed, so none stays changed"


def test_what_pytest_and_the_test_write_is_not_disturbed(pytester: pytest.Pytester) -> None:
    # Narrower when all of the cluster's line is there: what is printed before is cut off, what comes later is wrapped.
    narrower = Once("WARNING  app", make_it(40, 70))
    found = seen(pytester, NOISY, "-v", "-o", "log_cli=true", "-rN", todo=(narrower,))
    assert found.status == 0, found.lines
    assert found.frame_with(f"{RULE}test_noisy", "logged live")
    text = "\n".join(found.lines)
    assert RULE not in text
    wanted = [
        "collected 1 item", "", "test_chaos.py::test_noisy", "serve-chaos: fake backend", " seed ", "",
        "---------------------------", "WARNING  app", "printed to the terminal", "",
        "test_chaos.py::test_noisy PASSED", "", "========================= 1 passed",
    ]  # fmt: skip
    assert [line[: len(start)] for line, start in zip(found.lines[3:], wanted, strict=True)] == wanted, text


def test_ctrl_c_leaves_nothing_of_it(pytester: pytest.Pytester) -> None:
    found = seen(pytester, LONG, todo=(Once(RULE, press(b"\x03")),))
    assert found.status == pytest.ExitCode.INTERRUPTED, found.lines
    assert "KeyboardInterrupt" in "\n".join(found.lines)
    assert RULE not in "\n".join(found.lines)


def test_a_kill_leaves_a_terminal_that_can_be_used(pytester: pytest.Pytester) -> None:
    found = seen(pytester, LONG, todo=(Once(RULE, kill),))
    assert found.status == -signal.SIGKILL
    assert not found.cursor_hidden
    assert b"\x1b[?" not in found.raw


# -- who sees it ---------------------------------------------------------------------------------------------------


@contextmanager
def standard_output(path: str | int) -> Iterator[None]:
    """Standard output is that file or terminal."""
    with (
        pytest.MonkeyPatch.context() as patch,
        open(path, "w", encoding="utf-8", closefd=isinstance(path, str)) as file,
    ):
        patch.setattr(sys, "stdout", file)
        yield


@pytest.fixture
def people(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of somebody who sits at a terminal."""
    for name in ("NO_COLOR", "CI", "BUILD_NUMBER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")


def is_for_people(pytester: pytest.Pytester, *args: str) -> bool:
    """Whether a run with these arguments has a block, on a terminal."""
    config = pytester.parseconfig(*args)
    terminal = Terminal(24, 80)
    try:
        with standard_output(terminal.there):
            return terminal_module._is_for_people(config)
    finally:
        terminal.close()


@pytest.mark.usefixtures("people")
def test_somebody_at_a_terminal_sees_it(pytester: pytest.Pytester) -> None:
    assert is_for_people(pytester)


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize("args", [["-s"], ["--capture=sys"], ["--capture=tee-sys"], ["--color=no"]])
def test_where_the_terminal_is_not_pytests_alone_there_are_lines(pytester: pytest.Pytester, args: list[str]) -> None:
    assert not is_for_people(pytester, *args)


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize(
    ("name", "value"), [("NO_COLOR", "1"), ("CI", "true"), ("BUILD_NUMBER", "7"), ("TERM", "dumb"), ("TERM", "")]
)
def test_who_wants_plain_text_gets_lines(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    assert not is_for_people(pytester)


@pytest.mark.usefixtures("people")
def test_a_file_gets_lines(pytester: pytest.Pytester, tmp_path: Path) -> None:
    config = pytester.parseconfig()
    with standard_output(str(tmp_path / "output")):
        assert not terminal_module._is_for_people(config)
