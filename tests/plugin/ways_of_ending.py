"""Brings runs to their end in every way and at every moment, and looks at what stays and who repairs it."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import NotYet
from tests.plugin.outside_cluster import DIRECTORY, HOW, MOMENT, MOMENTS, Moment, writable_directories

ROOT = Path(__file__).parents[2]

_TEST = """
import pytest

@pytest.fixture
def mine():
    yield
    if {fails}:
        raise RuntimeError("a fixture of the user's fails in its teardown")

def test_it(chaos, moment, mine):
    injection = chaos.worker("worker-1").freeze(for_="600s", must_land=False)
    moment("during")
    injection.heal()
    moment("after")
"""
_NEXT = "def test_it(serve_cluster): pass\n"
_PR_CAPBSET_DROP = 24
_CAP_DAC_OVERRIDE = 1
_REACHED = 60.0
_AGAIN_AFTER = 0.3
"""Seconds between two signals: the first heal goes on then."""
DIRECTORIES = ("frozen", "report", "state", "run", "tmp", "home")


@dataclass(frozen=True, slots=True)
class Way:
    """A way in which a run ends.

    Attributes:
        name: What people call it.
        signals: What is sent to pytest.
        how: What pytest does to itself: see `outside_cluster`.
        fails: Whether a fixture of the user's fails in its teardown.
        moments: When that can happen.
    """

    name: str
    signals: Sequence[signal.Signals] = ()
    how: str = ""
    fails: bool = False
    moments: Sequence[Moment] = field(default=MOMENTS)


WAYS = (
    Way("SIGINT (Ctrl-C)", [signal.SIGINT]),
    Way("SIGINT twice", [signal.SIGINT, signal.SIGINT]),
    Way("SIGTERM", [signal.SIGTERM]),
    Way("SIGTERM twice", [signal.SIGTERM, signal.SIGTERM]),
    Way("SIGINT, then SIGTERM", [signal.SIGINT, signal.SIGTERM]),
    Way("SIGHUP", [signal.SIGHUP]),
    Way("SIGQUIT (Ctrl-\\)", [signal.SIGQUIT]),
    Way("SIGINT, and a fixture fails", [signal.SIGINT], fails=True),
    Way("pytest-timeout (signal)", how="pytest-timeout"),
    Way("a broken answer", how="a broken answer", moments=["healing"]),
    Way("a full disk", how="a full disk"),
    Way("a read-only disk", how="a read-only disk"),
    Way("os._exit, pytest-timeout (thread)", how="os._exit"),
    Way("kill -9", [signal.SIGKILL]),
)


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen of a run that ended.

    Attributes:
        status: Its exit status.
        output: What it printed.
        frozen: The nodes that it left frozen.
        files: What else it left outside of its report directory.
        closed: Whether it closed its cluster.
        writable: Whether a read-only disk was not, as for root.
        after_next: What was left, frozen or not, after the next run; there is none where nothing was left.
        next_output: What the next run printed.
    """

    status: int
    output: str
    frozen: tuple[str, ...]
    files: tuple[str, ...]
    closed: bool
    writable: bool
    after_next: tuple[str, ...]
    next_output: str

    @property
    def left(self) -> str:
        """What stayed, in words."""
        return ", ".join([*(f"{name} frozen" for name in self.frozen), *_in_words(self.files)]) or "nothing"

    @property
    def repaired_by(self) -> str:
        """Who repairs what the fault broke."""
        if not self.frozen and not self.files:
            return "the run itself"
        return "nobody" if self.after_next else "the next run"


_WORDS = {"key.pem": "a key in /tmp", ".lock": "the file of a lock", ".json": "an entry in the journal"}


def _in_words(paths: Sequence[str]) -> list[str]:
    """What files are, for people; the lock in a directory goes with the directory."""
    kinds = [next((words for end, words in _WORDS.items() if path.endswith(end)), path) for path in paths]
    return [*dict.fromkeys(kind for kind in kinds if not kind.endswith("/in-use"))]


def end(way: Way, moment: Moment, directory: Path) -> Seen:
    """Brings a run to its end, looks at what stays, and has the next run repair it.

    Args:
        way: How it ends.
        moment: When.
        directory: An empty one, for all that they write.
    """
    prepare(directory, _TEST.format(fails=way.fails))
    process = pytest_in(directory, "test_it.py", {MOMENT: moment, HOW: way.how})
    try:
        for number, one in enumerate(way.signals):
            if number == 0:
                clock.wait_until("the moment", lambda: _reached(process, directory), timeout=_REACHED, interval=0.02)
            else:
                clock.wait_until("the second signal", elapsed(_AGAIN_AFTER), timeout=5.0, interval=0.02)
            process.send_signal(one)
        output, _ = process.communicate(timeout=_REACHED)
    finally:
        process.kill()
        process.wait()
    writable = (directory / "report" / "still-writable").exists()
    for path in writable_directories(directory):
        path.chmod(0o700)
    frozen, files = tuple(_names(directory / "frozen")), tuple(_left(directory))
    next_output = _run_again(directory) if frozen or files else ""
    after_next = (*_names(directory / "frozen"), *_left(directory))
    closed = (directory / "closed").exists()
    return Seen(process.returncode, output, frozen, files, closed, writable, after_next, next_output)


def prepare(directory: Path, test: str) -> None:
    """Makes all that there is outside of pytest, and the test."""
    for name in DIRECTORIES:
        (directory / name).mkdir(mode=0o700)
    (directory / "test_it.py").write_text(test)
    (directory / "test_next.py").write_text(_NEXT)


def _run_again(directory: Path) -> str:
    """The next run, of a test that only looks at the cluster; returns what it prints."""
    with pytest_in(directory, "test_next.py", {}) as process:
        try:
            return process.communicate(timeout=_REACHED)[0]
        finally:
            process.kill()


def _reached(process: subprocess.Popen[str], directory: Path) -> bool | NotYet:
    if process.poll() is not None:
        raise AssertionError(f"it ended before the moment: {process.communicate()[0]}")
    return (directory / "reached").exists() or NotYet("it is on its way")


def elapsed(seconds: float) -> Callable[[], bool | NotYet]:
    """Whether so many seconds have passed from now on."""
    due = clock.now() + seconds

    def elapsed() -> bool | NotYet:
        return clock.now() >= due or NotYet("not yet")

    return elapsed


def _names(directory: Path) -> Iterator[str]:
    yield from sorted(path.name for path in directory.iterdir())


def _left(directory: Path) -> Iterator[str]:
    """All files but the report, and the entries of the journal."""
    found = {path for name in ("run", "tmp", "home") for path in (directory / name).rglob("*") if path.is_file()}
    found |= {path for name in ("state", "report") for path in (directory / name).rglob("*.json") if _is_entry(path)}
    yield from sorted(str(path.relative_to(directory)) for path in found)


def _is_entry(path: Path) -> bool:
    return path.name != "summary.json"


def environment(directory: Path) -> dict[str, str]:
    """A user with nothing but these directories."""
    path = os.pathsep.join(p for p in (str(ROOT), os.environ.get("PYTHONPATH", "")) if p)
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "LD_LIBRARY_PATH") if name in os.environ}
    return {
        **kept,
        "HOME": str(directory / "home"),
        "TMPDIR": str(directory / "tmp"),
        "XDG_RUNTIME_DIR": str(directory / "run"),
        "XDG_STATE_HOME": str(directory / "state"),
        "PYTHONPATH": path,
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        DIRECTORY: str(directory),
    }


def command(directory: Path, *arguments: str) -> list[str]:
    """A run of pytest on the backend."""
    plugins = ("-p", "pytest_serve_chaos.plugin", "-p", "tests.plugin.outside_cluster", "-p", "no:cacheprovider")
    backend = ("--serve-chaos", "--serve-chaos-backend=outside", f"--serve-chaos-report-dir={directory / 'report'}")
    return [sys.executable, "-m", "pytest", "-q", *plugins, *backend, *arguments]


def pytest_in(directory: Path, test: str, variables: dict[str, str]) -> subprocess.Popen[str]:
    """Starts pytest with a file of tests."""
    return subprocess.Popen(
        command(directory, test),
        cwd=directory,
        env={**environment(directory), **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=as_any_user,
    )


def as_any_user() -> None:
    """Heeds all signals, which a shell's background jobs do not, and the modes of directories, which root does not."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(_PR_CAPBSET_DROP, _CAP_DAC_OVERRIDE, 0, 0, 0)
