"""Ctrl-C, SIGTERM and SIGHUP end the cluster, and what was seen until then is written."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.restore import SHAPE_WITHIN
from tests.plugin.conftest import LOAD

CONFTEST = """
from pathlib import Path
from pytest_serve_chaos.testing import FakeBehaviour, FakeCluster

class Noted(FakeCluster):
    def close(self):
        super().close()
        Path("closed").touch()

def pytest_serve_chaos_start_cluster(spec):
    return Noted(spec, FakeBehaviour(keeps_holes=True))
"""

TEST = """
import pytest

@pytest.mark.replica_failure
def test_it(experiment):
    experiment.run()
"""


def landed() -> bool | NotYet:
    """Whether the fault has landed, so that the cluster lacks a replica that will never come back."""
    histories = [file.read_text() for file in Path(".serve-chaos").glob("*/history.jsonl")]
    return any('"kind":"landed"' in text for text in histories) or NotYet(f"{len(histories)} histories")


def heed_interrupts() -> None:
    """A shell's background jobs ignore SIGINT, those of `nohup` ignore SIGHUP, and so do all that they start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@dataclass(frozen=True, slots=True)
class Interrupted:
    """What became of a run of pytest that was interrupted; `took`: seconds from Ctrl-C to its end."""

    status: int
    output: str
    took: float


def interrupted(
    pytester: pytest.Pytester,
    conftest: str,
    by: signal.Signals = signal.SIGINT,
    *,
    test: str = TEST,
    again_at: Path | None = None,
) -> Interrupted:
    """Runs a test, and interrupts it once its fault has landed, and `again_at` the time at which there is that file."""
    pytester.makeconftest(conftest)
    pytester.makepyfile(test)
    command = [sys.executable, "-m", "pytest", "--serve-chaos", *LOAD]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, preexec_fn=heed_interrupts
    ) as process:
        clock.wait_until("the fault to land", landed, timeout=120)
        begun = clock.now()
        process.send_signal(by)
        if again_at is not None:
            clock.wait_until("the second signal", lambda: again_at.exists() or NotYet("no file"), timeout=60)
            process.send_signal(by)
        output, _ = process.communicate(timeout=150)
    return Interrupted(process.returncode, output, clock.now() - begun)


@pytest.mark.usefixtures("fake_is_importable")
@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_ends_the_cluster_and_writes_the_summary(pytester: pytest.Pytester, by: signal.Signals) -> None:
    run = interrupted(pytester, CONFTEST, by)
    assert run.status == pytest.ExitCode.INTERRUPTED, run.output
    assert run.took < SHAPE_WITHIN / 2, "it waited for a cluster that ends"
    assert (pytester.path / "closed").exists()
    (summary,) = Path(".serve-chaos").glob("2*/summary.json")
    assert json.loads(summary.read_text())["schema"] == 2
    assert str(summary.parent) in run.output


BAD_TEARDOWN = """
import pytest

@pytest.fixture
def mine():
    yield
    raise RuntimeError("a fixture of the user's fails in its teardown")

@pytest.mark.replica_failure
def test_it(mine, experiment):
    experiment.run()
"""

SLOW_TO_CLOSE = """
import time
from pathlib import Path
from pytest_serve_chaos.testing import FakeBehaviour, FakeCluster

class Slow(FakeCluster):
    def close(self):
        Path("closing").touch()
        time.sleep(2)
        super().close()
        Path("closed").touch()

def pytest_serve_chaos_start_cluster(spec):
    return Slow(spec, FakeBehaviour(keeps_holes=True))
"""


@pytest.mark.usefixtures("fake_is_importable")
def test_a_fixture_that_fails_in_its_teardown_keeps_no_cluster_alive(pytester: pytest.Pytester) -> None:
    run = interrupted(pytester, CONFTEST, test=BAD_TEARDOWN)
    assert "a fixture of the user's fails in its teardown" in run.output
    assert (pytester.path / "closed").exists()
    assert [*Path(".serve-chaos").glob("*/summary.json")]


@pytest.mark.usefixtures("fake_is_importable")
def test_a_second_sigterm_does_not_stop_the_end_of_the_cluster(pytester: pytest.Pytester) -> None:
    run = interrupted(pytester, SLOW_TO_CLOSE, signal.SIGTERM, again_at=pytester.path / "closing")
    assert run.status == pytest.ExitCode.INTERRUPTED, run.output
    assert (pytester.path / "closed").exists()
    assert [*Path(".serve-chaos").glob("*/summary.json")]


@pytest.mark.usefixtures("fake_is_importable")
def test_a_run_whose_history_cannot_be_written_ends_in_order_and_is_not_green(pytester: pytest.Pytester) -> None:
    full = """
from pathlib import Path
from pytest_serve_chaos import history
from pytest_serve_chaos.testing import FakeCluster

class Full(history.History):
    def __init__(self, path=None):
        super().__init__(None if path is None else Path("/dev/full"))

def pytest_serve_chaos_start_cluster(spec):
    return FakeCluster(spec)

def pytest_configure(config):
    from pytest_serve_chaos import run
    run.History = Full
"""
    pytester.makeconftest(full)
    pytester.makepyfile("def test_it(serve_cluster): pass")
    result = pytester.runpytest_subprocess("--serve-chaos", *LOAD)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["ERROR: the history is not complete: /dev/full: * No space left on device"])


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param("import slow", id="while-a-module-is-imported"),
        pytest.param("Finalized()", id="in-a-finalizer"),
        pytest.param("ref = weakref.ref(thing := Thing(), lambda _: interrupt()); del thing", id="in-a-weak-reference"),
        pytest.param("weakref.finalize(thing := Thing(), interrupt); del thing", id="in-weakref-finalize"),
        pytest.param("next(closes := generator()); del closes", id="in-a-generator-that-is-collected"),
        pytest.param("Slow()", id="in-a-finalizer-of-three-seconds"),
        pytest.param("exec('interrupt()')", id="in-exec"),
    ],
)
def test_a_ctrl_c_at_a_moment_when_python_would_ignore_it_is_not_lost(pytester: pytest.Pytester, moment: str) -> None:
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(
        interrupting="""
        import os
        import signal
        import time

        def interrupt():
            os.kill(os.getpid(), signal.SIGINT)
            for _ in range(1000):
                pass

        class Finalized:
            def __del__(self):
                interrupt()

        class Slow:
            def __del__(self):
                interrupt()
                begun = time.monotonic()
                while time.monotonic() < begun + 3:
                    pass

        class Thing:
            pass

        def generator():
            try:
                yield
            finally:
                interrupt()
        """,
        slow="from interrupting import interrupt; interrupt()",
        test_it=f"""
        import time
        import weakref
        from interrupting import Finalized, Slow, Thing, generator, interrupt

        def test_it(serve_cluster):
            {moment}
            time.sleep(30)
        """,
    )
    began = clock.now()
    command = [sys.executable, "-m", "pytest", "--serve-chaos", *LOAD]
    result = subprocess.run(command, capture_output=True, text=True, preexec_fn=heed_interrupts, check=False)
    assert result.returncode == pytest.ExitCode.INTERRUPTED, result.stdout
    assert clock.now() - began < 20
    assert Path("closed").exists()
