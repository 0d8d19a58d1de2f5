"""However a run ends, and whenever, nothing stays broken that nobody repairs."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import subprocess
import termios
from pathlib import Path

import pytest

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.termination import THE_SAME
from tests.plugin.outside_cluster import HOW, MOMENT, Moment
from tests.plugin.ways_of_ending import WAYS, Way, command, elapsed, end, environment, prepare, pytest_in

IN_ORDER = [way for way in WAYS if way.signals and signal.SIGKILL not in way.signals and not way.fails]
BY_FORCE = [way for way in WAYS if way.how == "os._exit" or signal.SIGKILL in way.signals]
GOES_ON = [way for way in WAYS if way not in IN_ORDER and way not in BY_FORCE]


FREEZES = """
def test_it(chaos, moment):
    chaos.worker("worker-1").freeze(for_="600s", must_land=False)
    moment("during")
"""

HANGS = """
import os, pathlib, time
import pytest

@pytest.fixture(autouse=True)
def mine():
    yield
    pathlib.Path(os.environ["OUTSIDE"], "hangs").touch()
    time.sleep(300)
"""


def each(ways: list[Way]) -> pytest.MarkDecorator:
    cases = [pytest.param(way, moment, id=f"{way.name}-{moment}") for way in ways for moment in way.moments]
    return pytest.mark.parametrize(("way", "moment"), cases)


@each(IN_ORDER)
def test_a_signal_leaves_nothing(way: Way, moment: Moment, tmp_path: Path) -> None:
    seen = end(way, moment, tmp_path)
    assert seen.left == "nothing", seen.output
    # A second signal may come when the run is over and Python is on its way out: it ends the process as it always does.
    late = {-number for number in way.signals[1:]}
    assert seen.status in {pytest.ExitCode.INTERRUPTED, *late}, seen.output
    assert seen.closed
    assert [*tmp_path.glob("report/*/summary.json")]
    assert "Traceback" not in seen.output


@each(BY_FORCE)
def test_the_next_run_repairs_what_a_killed_run_leaves(way: Way, moment: Moment, tmp_path: Path) -> None:
    seen = end(way, moment, tmp_path)
    assert seen.frozen == (("worker-1",) if moment in ("during", "healing") else ())
    assert any(path.endswith("key.pem") for path in seen.files), seen.files
    assert seen.after_next == (), seen.next_output
    assert ("undo: the node worker-1 is frozen" in seen.next_output) == bool(seen.frozen)


@each(GOES_ON)
def test_what_goes_wrong_in_a_run_keeps_it_from_healing_nothing(way: Way, moment: Moment, tmp_path: Path) -> None:
    seen = end(way, moment, tmp_path)
    if seen.writable:
        pytest.skip("this user can write to read-only directories")
    assert seen.frozen == (), seen.output
    assert seen.closed
    assert seen.status != 0
    assert seen.after_next == (), seen.next_output
    assert "INTERNALERROR" not in seen.output


@pytest.mark.parametrize("how", ["a full disk", "a read-only disk"])
def test_a_run_that_cannot_write_says_so_and_ends_without_a_traceback(how: str, tmp_path: Path) -> None:
    seen = end(Way(how, how=how), "during", tmp_path)
    if seen.writable:
        pytest.skip("this user can write to read-only directories")
    assert seen.status == pytest.ExitCode.TESTS_FAILED
    assert "Traceback (most recent call last)" not in seen.output
    assert "ERROR: " in seen.output


def test_a_fixture_that_hangs_keeps_nothing_frozen_and_a_later_signal_ends_it(tmp_path: Path) -> None:
    prepare(tmp_path, HANGS + FREEZES)
    frozen = tmp_path / "frozen" / "worker-1"
    with pytest_in(tmp_path, "test_it.py", {MOMENT: "during", HOW: ""}) as process:
        try:
            clock.wait_until("the fault", lambda: (tmp_path / "reached").exists() or NotYet("none"), timeout=60)
            assert frozen.exists()
            process.send_signal(signal.SIGINT)
            clock.wait_until("the fixture", lambda: (tmp_path / "hangs").exists() or NotYet("not yet"), timeout=60)
            assert not frozen.exists()
            assert not (tmp_path / "closed").exists()
            clock.wait_until("another signal to count", elapsed(THE_SAME), timeout=10, interval=0.05)
            process.send_signal(signal.SIGTERM)
            output, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (tmp_path / "closed").exists(), output
    assert [*tmp_path.glob("report/*/summary.json")]


def test_a_lost_terminal_is_no_reason_to_leave_anything(tmp_path: Path) -> None:
    prepare(tmp_path, FREEZES)
    terminal, its_end = pty.openpty()

    def in_the_terminal() -> None:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)

    with subprocess.Popen(
        command(tmp_path, "test_it.py"),
        cwd=tmp_path,
        env={**environment(tmp_path), MOMENT: "during", HOW: ""},
        stdin=its_end,
        stdout=its_end,
        stderr=its_end,
        preexec_fn=in_the_terminal,
    ) as process:
        os.close(its_end)
        reached = tmp_path / "reached"
        clock.wait_until("the moment", lambda: reached.exists() or NotYet("on its way"), timeout=60, interval=0.05)
        os.close(terminal)  # the kernel sends SIGHUP, and nothing can be printed any more
        process.wait(60)
    assert [*(tmp_path / "frozen").iterdir()] == []
    assert (tmp_path / "closed").exists()
    assert [*tmp_path.glob("report/*/summary.json")]
