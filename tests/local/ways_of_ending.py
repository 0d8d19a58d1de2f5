"""Brings runs on a real local cluster to their end in every way and at every moment: what stays, and who repairs it."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.cluster.local.processes import Process
from pytest_serve_chaos.cluster.watchdog import GRACE
from pytest_serve_chaos.errors import WaitTimeout
from tests.local.moments import EXITS, HELD, MOMENT, MOMENTS, NEXT, Moment
from tests.plugin.ways_of_ending import as_any_user, elapsed, environment
from tools.kill_often import carrying, strike

_TEST = """
import pytest

@pytest.mark.serve_cluster(workers=1, app_args={"start_delay": 0, "options": {"num_replicas": 1}})
def test_it(chaos, traffic, held):
    with traffic():
        held("before")
        injection = chaos.controller.freeze(for_=SECONDS, must_land=False)
        held("during")
        injection.heal()
        held("after")
"""
_NEXT = "def test_it(serve_cluster): pass\n"
_FROZEN_FOR = 600.0
"""Seconds that the controller is to be frozen: no watchdog resumes it before a run has come to its end."""

_BRIEFLY = 3.0
"""The same where a watchdog resumes it."""

_TMP = "t"
"""The directory of temporary files, with a short path for Ray's sockets."""

_DISK = "192m"
"""The size of the disk that gets full: the logs of a small cluster need a few MB."""

_REACHED = 480.0
"""Seconds until the moment: longer than a cluster takes that comes up, by the limits of its start."""

_ENDED = 240.0
"""Seconds in which pytest ends: longer than the limits of what it does then."""

_AGAIN_AFTER = 0.3
"""Seconds between two signals: the first heal goes on then."""

_RIGHT_AFTER = 5.0
"""Seconds after the end of pytest in which what it has stopped is gone."""

_CLEANED = 15.0
"""Seconds that the supervisor and the janitor have."""


@dataclass(frozen=True, slots=True)
class RunToEnd:
    """A run that is held at a moment.

    Attributes:
        process: pytest.
        disk: The directory with all that it writes.
        control: The directory by which it is held.
    """

    process: subprocess.Popen[bytes]
    disk: Path
    control: Path

    @property
    def workspace(self) -> Path:
        """Where the test and the report are."""
        return self.disk / "work"

    def go_on(self) -> None:
        """Lets pytest go on."""
        (self.control / "go").touch()

    @property
    def output(self) -> str:
        """What pytest has printed."""
        return (self.control / "output").read_text(errors="replace")


@dataclass(frozen=True, slots=True)
class Left:
    """What there is of a run, pytest and its report left out.

    Attributes:
        processes: The processes that it started.
        files: What it has made outside of its report, relative to its disk.
    """

    processes: tuple[Process, ...]
    files: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.processes or self.files)

    @property
    def frozen(self) -> tuple[Process, ...]:
        """The processes that stand still."""
        return tuple(process for process in self.processes if process.state == "T")

    @property
    def words(self) -> str:
        """All of it, for people."""
        kinds = ["processes"] if self.processes else []
        kinds += [f"{len(self.frozen)} of them frozen"] if self.frozen else []
        kinds += [_in_words(file) for file in self.files]
        return ", ".join(dict.fromkeys(kinds)) or "nothing"


def _in_words(file: str) -> str:
    if file.startswith(f"{_TMP}/serve-chaos-"):
        return "a directory in TMPDIR"
    return "the file of a lock" if file.endswith(".lock") else file


def look(run: RunToEnd) -> Left:
    """Looks at what there is of a run."""
    carried = tuple(one for one in carrying(f"{HELD}={run.control}") if one.pid != run.process.pid)
    return Left(carried, tuple(sorted(str(path.relative_to(run.disk)) for path in _files(run.disk))))


def _files(disk: Path) -> Iterator[Path]:
    yield from (disk / _TMP).iterdir()
    yield from (path for path in (disk / "run").rglob("*") if path.is_file())
    yield from (path for path in (disk / "home").rglob("*") if path.is_file())
    yield from (disk / "state").rglob("*.json")


# -- the ways ------------------------------------------------------------------------------------------------------


Kind: TypeAlias = Literal["interrupted", "killed", "hindered", "stopped"]
"""What happens to a run: it ends in order, at once, with something that it cannot use any more, or later."""


@dataclass(frozen=True, slots=True)
class Way:
    """A way in which a run ends.

    Attributes:
        name: What people call it.
        kind: What happens to the run.
        ends: Brings a run to its end, or makes what it needs unusable.
        repairer: Who ends what the run has made without another command; "" if nobody does.
        moments: When that can happen.
        exits: Whether the test calls `os._exit`.
        fills: Whether the disk gets full; it is a small one then.
        restores: Makes usable again what was not.
        undo: Whether the user calls ``serve-chaos undo``, and not another run.
        frozen_for: Seconds that the controller is to be frozen.
    """

    name: str
    kind: Kind
    ends: Callable[[RunToEnd], None]
    repairer: str = "the run itself"
    moments: Collection[Moment] = MOMENTS
    exits: bool = False
    fills: bool = False
    restores: Callable[[RunToEnd], None] = lambda run: None
    undo: bool = False
    frozen_for: float = _FROZEN_FOR


def _signals(*numbers: signal.Signals) -> Callable[[RunToEnd], None]:
    def end(run: RunToEnd) -> None:
        for number in numbers[:-1]:
            run.process.send_signal(number)
            clock.wait_until("the next signal", elapsed(_AGAIN_AFTER), timeout=5.0, interval=0.02)
        run.process.send_signal(numbers[-1])

    return end


def _kills(*parts: str) -> Callable[[RunToEnd], None]:
    return lambda run: strike(run.process.pid, parts)


def _wipes_workspace(run: RunToEnd) -> None:
    def gone() -> bool | NotYet:
        shutil.rmtree(run.workspace, ignore_errors=True)  # something may be written there meanwhile
        return not run.workspace.exists() or NotYet("it is there")

    clock.wait_until("the workspace to be gone", gone, timeout=10.0, interval=0.02)


def _kills_all_and_wipes_workspace(run: RunToEnd) -> None:
    _kills(*_ALL)(run)
    _wipes_workspace(run)


def _fills_the_disk(run: RunToEnd) -> None:
    with contextlib.suppress(OSError), (run.disk / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1 << 16))


def _empties_the_disk(run: RunToEnd) -> None:
    (run.disk / "filler").unlink(missing_ok=True)


def _sets_mode(mode: int, directory: str, *, below: bool) -> Callable[[RunToEnd], None]:
    """Sets the mode of a directory of the disk, and perhaps of those below it."""

    def set_mode(run: RunToEnd) -> None:
        top = run.disk / directory
        top.chmod(mode)
        for path in top.rglob("*") if below else ():
            if path.is_dir():
                path.chmod(mode)

    return set_mode


def _stops_pytest(run: RunToEnd) -> None:
    """Stops pytest, as Ctrl-Z does, until the watchdog has resumed the controller; then pytest goes on."""
    run.process.send_signal(signal.SIGSTOP)
    assert look(run).frozen

    def resumed() -> bool | NotYet:
        return not look(run).frozen or NotYet("it stands still")

    try:
        clock.wait_until("the controller to be resumed", resumed, timeout=_BRIEFLY + GRACE + 20.0, interval=0.5)
    finally:
        run.process.send_signal(signal.SIGCONT)


_IN_THE_TEST: tuple[Moment, ...] = MOMENTS[1:]
_ITS_JANITOR = "its janitor"
_BOTH = "its supervisor and its janitor"
_ALL = ("pytest", "supervisor", "janitor")

WAYS = (
    Way("SIGINT (Ctrl-C)", "interrupted", _signals(signal.SIGINT)),
    Way("SIGTERM", "interrupted", _signals(signal.SIGTERM)),
    Way("SIGTERM twice", "interrupted", _signals(signal.SIGTERM, signal.SIGTERM)),
    Way("SIGHUP", "interrupted", _signals(signal.SIGHUP)),
    Way("kill -9 of pytest", "killed", _kills("pytest"), _BOTH),
    Way("kill -9 of the supervisor", "killed", _kills("supervisor"), _ITS_JANITOR),
    Way("kill -9 of both", "killed", _kills("pytest", "supervisor"), _ITS_JANITOR),
    Way("kill -9 of both and the janitor", "killed", _kills(*_ALL), ""),
    Way("the same, and the workspace is wiped", "killed", _kills_all_and_wipes_workspace, "", undo=True),
    Way("`os._exit` in a test", "killed", RunToEnd.go_on, _BOTH, _IN_THE_TEST, exits=True),
    Way("a full disk", "hindered", _fills_the_disk, moments=_IN_THE_TEST, fills=True, restores=_empties_the_disk),
    Way(
        "a read-only report directory",
        "hindered",
        _sets_mode(0o500, "work", below=True),
        moments=_IN_THE_TEST,
        restores=_sets_mode(0o700, "work", below=True),
    ),
    Way(
        "a read-only TMPDIR",
        "hindered",
        _sets_mode(0o500, _TMP, below=False),
        moments=_IN_THE_TEST,
        restores=_sets_mode(0o700, _TMP, below=False),
    ),
    Way("the workspace is wiped", "hindered", _wipes_workspace, moments=_IN_THE_TEST),
    Way(
        "SIGSTOP (Ctrl-Z), and SIGCONT later",
        "stopped",
        _stops_pytest,
        "its watchdog, and then the run itself",
        ["during"],
        frozen_for=_BRIEFLY,
    ),
)


# -- an end --------------------------------------------------------------------------------------------------------


class NotSeen(Exception):
    """A run could not be brought to its end in that way, for a reason of this machine."""


class NoSmallDisk(NotSeen):
    """This user cannot mount one."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen of a run that was brought to its end.

    Attributes:
        status: The exit status of pytest.
        output: What it printed.
        left: What was there when the run had ended, or when it was killed.
        healed: Whether the run itself has resumed the controller.
        repaired_by: Who removed all of that.
        remains: What was left after that.
        next_output: What the next run printed, or ``serve-chaos undo``; "" where nothing was left to repair.
    """

    status: int
    output: str
    left: Left
    healed: bool
    repaired_by: str
    remains: Left
    next_output: str

    @property
    def words(self) -> str:
        """What stayed, and who repaired it, for a table."""
        names = dict.fromkeys(process.command or process.name for process in self.remains.processes)
        after = f" (then: {', '.join([*names, *self.remains.files])})" if self.remains else ""
        return f"{self.left.words}{after}; {self.repaired_by}"


def end(way: Way, moment: Moment) -> Seen:
    """Brings a run to its end, looks at what stays, and has it repaired.

    The run has directories of its own for all that it writes. Their paths are short, since those of Ray's sockets are
    below them.

    Raises:
        NoSmallDisk: The disk has to be a small one, and this user cannot mount one.
        NotSeen: The cluster did not come up.
    """
    with directory(small=way.fills) as disk, directory() as control:
        _prepare(disk, way)
        run = _start(disk, control, {MOMENT: moment, EXITS: "yes" if way.exits else ""}, "test_it.py")
        try:
            return _end(way, moment, run)
        finally:
            run.process.kill()
            run.process.wait()
            way.restores(run)
            for process in _what_remains(run, within=_CLEANED).processes:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)


def _end(way: Way, moment: Moment, run: RunToEnd) -> Seen:
    clock.wait_until("the moment", lambda: _reached(run, moment), timeout=_REACHED, interval=0.1)
    left = look(run) if way.kind in ("killed", "stopped") else None  # before: it may be removed at once
    way.ends(run)
    run.go_on()
    status = run.process.wait(_ENDED)
    healed = (run.control / "healed").exists()
    remains = _what_remains(run, within=_CLEANED if left and way.repairer else _RIGHT_AFTER)
    left = left or remains
    if not remains:
        return Seen(status, run.output, left, healed, way.repairer or "nobody had to", remains, "")
    output = run.output
    way.restores(run)
    next_output = _repair(way, run)
    remains = _what_remains(run, within=_RIGHT_AFTER)
    by = "nobody" if remains else "`serve-chaos undo`" if way.undo else "the next run"
    return Seen(status, output, left, healed, by, remains, next_output)


def _reached(run: RunToEnd, moment: Moment) -> bool | NotYet:
    if (run.control / "reached").exists():
        return True
    if run.process.poll() is not None:
        raise NotSeen(f"it ended before the moment: {run.output}")
    if moment == "starting" and any("raylet" in process.name for process in look(run).processes):
        return True
    return NotYet("it is on its way")


def _what_remains(run: RunToEnd, *, within: float) -> Left:
    def gone() -> bool | NotYet:
        return not look(run) or NotYet("something is left")

    with contextlib.suppress(WaitTimeout):
        clock.wait_until("nothing to be left", gone, timeout=within, interval=0.1)
    return look(run)


def _repair(way: Way, run: RunToEnd) -> str:
    """What a user does next, who knows nothing of what is left; returns what that prints."""
    run.workspace.mkdir(exist_ok=True)
    (run.workspace / "test_next.py").write_text(_NEXT)
    if not way.undo:
        again = _start(run.disk, run.control, {NEXT: "yes"}, "test_next.py")
        again.process.wait(_ENDED)
        return again.output
    undone = subprocess.run(
        [sys.executable, "-m", "pytest_serve_chaos.cli", "undo"],
        cwd=run.workspace,
        env=_environment(run.disk),
        capture_output=True,
        text=True,
        timeout=_ENDED,
        check=False,
    )
    return undone.stdout + undone.stderr


@contextlib.contextmanager
def directory(*, small: bool = False) -> Iterator[Path]:
    """A directory; a small one is a disk of its own."""
    path = Path(tempfile.gettempdir()) / f"w{secrets.token_hex(2)}"
    path.mkdir(mode=0o700)
    try:
        if small:
            mount = ["mount", "-t", "tmpfs", "-o", f"size={_DISK},mode=0700", "ways-of-ending", str(path)]
            mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
            if mounted.returncode != 0:
                raise NoSmallDisk(f"no small disk can be mounted: {mounted.stderr.strip()}")
        yield path
    finally:
        if small:
            subprocess.run(["umount", "--lazy", str(path)], capture_output=True, check=False)
        shutil.rmtree(path, ignore_errors=True)


def _environment(disk: Path) -> dict[str, str]:
    return {**environment(disk), "TMPDIR": str(disk / _TMP)}


def _prepare(disk: Path, way: Way) -> None:
    for name in ("work", "state", "run", _TMP, "home"):
        (disk / name).mkdir(mode=0o700)
    (disk / "work" / "test_it.py").write_text(_TEST.replace("SECONDS", repr(way.frozen_for)))


def _start(disk: Path, control: Path, variables: dict[str, str], test: str) -> RunToEnd:
    plugins = ("-p", "pytest_serve_chaos.plugin", "-p", "tests.local.moments", "-p", "no:cacheprovider")
    backend = ("--serve-chaos", "--serve-chaos-backend=local", "--serve-chaos-rate=10")
    with (control / "output").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "pytest", "-q", *plugins, *backend, test],
            cwd=disk / "work",
            env={**_environment(disk), HELD: str(control), **variables},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=as_any_user,
        )
    return RunToEnd(process, disk, control)
