"""What the tests on an external cluster stand on, as far as it can be tested without one."""

from __future__ import annotations

import ast
import json
import os
import signal
import subprocess
import sys
from importlib import resources
from pathlib import Path

from tests.kind.external_rayservice import _LEFT, _STOPPED, Case, _cases, _experiments, _titles
from tests.kind.test_external import DEAF, PASSES, SKIPPED

JUNIT = """
<testsuites><testsuite>
  <testcase name="test_a"/>
  <testcase name="test_b"><failure message="lost">all of it</failure></testcase>
  <testcase name="test_c"><skipped type="pytest.skip" message="no right"/></testcase>
  <testcase name="test_d"><skipped type="pytest.xfail" message="ray#1"/></testcase>
  <testcase name="test_e"><error message="failed on setup">why</error></testcase>
</testsuite></testsuites>
"""


def test_every_test_of_the_guide_has_its_place_on_an_external_cluster() -> None:
    suite = resources.files("pytest_serve_chaos.suite")
    found = {
        node.name: file.name.removesuffix(".py")
        for file in suite.iterdir()
        if file.name.startswith("test_")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }
    assert {*PASSES, DEAF, *SKIPPED} == set(found)
    assert {name: found[name] for name in PASSES} == PASSES


def test_what_became_of_each_test_is_read_from_pytests_own_file(tmp_path: Path) -> None:
    file = tmp_path / "junit.xml"
    assert _cases(file) == {}
    file.write_text(JUNIT)
    assert _cases(file) == {
        "test_a": Case("passed"),
        "test_b": Case("failed", "lost\nall of it"),
        "test_c": Case("skipped", "no right"),
        "test_d": Case("xfailed", "ray#1"),
        "test_e": Case("error", "failed on setup\nwhy"),
    }


def test_programs_in_pods_are_known_by_their_first_lines() -> None:
    titles = _titles()
    assert any(title.startswith("Tries to open a connection.") for title in titles)
    assert len(set(titles)) == len(titles) > 6


def test_what_is_left_in_a_container_is_found(tmp_path: Path) -> None:
    """The program that looks for it, on this machine instead of in a pod."""
    (tmp_path / "113").write_text("raise")
    title = f"a program of {tmp_path}"
    with subprocess.Popen([sys.executable, "-c", f"import time; '{title}'; time.sleep(60)"]) as program:
        try:
            look = [sys.executable, "-c", _LEFT, json.dumps([title])]
            environment = {**os.environ, "SERVE_CHAOS_FLAGS": str(tmp_path)}
            said = subprocess.run(look, env=environment, capture_output=True, text=True, check=True).stdout
            assert said.splitlines() == [f"program: {title}", "flag: 113"]
        finally:
            program.kill()
    environment["SERVE_CHAOS_FLAGS"] = ""
    assert subprocess.run(look, env=environment, capture_output=True, text=True, check=True).stdout == ""


def test_what_is_stopped_in_a_container_is_found() -> None:
    """The program that looks for it, on this machine, where more may be stopped."""
    look = [sys.executable, "-c", _STOPPED]
    with subprocess.Popen([sys.executable], stdin=subprocess.PIPE) as program:
        try:
            before = subprocess.run(look, capture_output=True, text=True, check=True).stdout.splitlines()
            program.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, program.pid, os.WSTOPPED | os.WNOWAIT)
            after = subprocess.run(look, capture_output=True, text=True, check=True).stdout.splitlines()
            assert after.count(sys.executable) == before.count(sys.executable) + 1
        finally:
            program.kill()


def test_a_run_that_never_began_has_no_experiments(tmp_path: Path) -> None:
    assert _experiments(tmp_path) == {}
    directory = tmp_path / ".serve-chaos" / "2026"
    directory.mkdir(parents=True)
    (directory / "summary.json").write_text('{"experiments": [{"experiment": "head_lost", "verdict": "passed"}]}')
    assert _experiments(tmp_path) == {"head_lost": {"experiment": "head_lost", "verdict": "passed"}}
