"""Runs tests in a pytest of its own, and reads what they measured."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from pytest_serve_chaos.analysis.trial_figures import Trial
from pytest_serve_chaos.cluster.local import child
from pytest_serve_chaos.comparing.run_files import trials_in
from pytest_serve_chaos.errors import RunFailed, SettingsError, nearest

if TYPE_CHECKING:
    from pytest_serve_chaos.faults.registry import FaultRegistry

BY_MODULE = "--pyargs"
"""What pytest takes before the name of a test of this package."""

ENDS_WITHIN = 180.0
"""Seconds that a run has to end its cluster after it was asked to."""

_NEVER_RUN = (3, 4, 5)
"""Exit statuses of pytest that no further attempt changes: an error in pytest, in its arguments, or no tests."""


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two things that are compared.

    Attributes:
        name: What people call it.
        python: The interpreter of its environment.
        arguments: Arguments of pytest that only this side has.
        environment: Environment variables that only this side has: settings that no command line shows.
    """

    name: str
    python: Path
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class TestRun:
    """A run of some tests on one side.

    Attributes:
        side: The side.
        tests: What pytest shall run.
        seed: Of all random choices.
        directory: For its report; it also shows that the run was made.
        arguments: Further arguments of pytest.
        deadline: Seconds that it may take.
    """

    side: Side
    tests: tuple[str, ...]
    seed: int
    directory: Path
    arguments: tuple[str, ...] = ()
    deadline: float = 1800.0

    __test__ = False  # pytest would take it for a test class

    @property
    def log(self) -> Path:
        """The file that has its output."""
        return self.directory.with_name(f"{self.directory.name}.log")

    @property
    def _ended(self) -> Path:
        return self.directory / "ended"

    @property
    def command(self) -> list[str]:
        """The command line."""
        return [
            str(self.side.python),
            *("-m", "pytest", "--serve-chaos"),
            f"--serve-chaos-report-dir={self.directory.resolve()}",
            f"--serve-chaos-seed={self.seed}",
            *self.arguments,
            *self.side.arguments,
            *self.tests,
        ]

    def trials(self) -> list[Trial]:
        """Runs it, unless that was done before; returns what was measured, also of tests that failed.

        Raises:
            RunFailed: There is no report.
            KeyboardInterrupt: The user, or a signal, ended it; the run has ended its cluster then.
        """
        if self._ended.is_file() and (found := trials_in(self.directory)):
            return found
        shutil.rmtree(self.directory, ignore_errors=True)  # of one that was broken off
        status = self._run()
        found = trials_in(self.directory) or []
        if not found or (status is None and not any(trial.counts for trial in found)):
            raise self._failed(status)
        self._ended.write_text(f"{status}\n")
        return found

    def _failed(self, status: int | None) -> RunFailed:
        """That it has no result, with pytest's exit status; None: it took too long."""
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        return RunFailed(
            f"the run on {self.side.name} has no experiment: "
            + (f"it took longer than {self.deadline / 60:g} minutes" if status is None else f"exit status {status}"),
            checked=[f"log: {self.log}", *lines[-8:]],
            fix=["see what the log says, and run its first line by itself"],
            again=status not in _NEVER_RUN,
        )

    def _run(self) -> int | None:
        """Runs it; returns pytest's exit status, or None where it took too long."""
        self.directory.mkdir(mode=0o700, parents=True)
        # The run dies with this process, however that ends, and its cluster with it.
        launcher = [sys.executable, "-I", "-S", child.__file__, str(os.getpid()), "0", *self.command]
        environment = {**os.environ, **self.side.environment, **_path_of(self.side.python)}
        with self.log.open("w", encoding="utf-8") as log:
            log.write(f"$ {' '.join(self.command)}\n")
            log.flush()
            process = subprocess.Popen(
                launcher,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,  # a Ctrl-C reaches it through this process alone, once
            )
            try:
                return process.wait(self.deadline)
            except subprocess.TimeoutExpired:
                _end(process)
                return None
            except BaseException:
                _end(process)
                raise


def _end(process: subprocess.Popen[bytes]) -> None:
    """Lets a run end its cluster, and ends it by force if that takes too long, or at a second Ctrl-C.

    The process has not been waited for, so that its PID belongs to nobody else. It takes SIGTERM as a Ctrl-C, also
    where SIGINT is ignored, as it is in what a shell starts in the background.
    """
    process.send_signal(signal.SIGTERM)
    try:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(ENDS_WITHIN)
    finally:
        process.kill()  # nothing, if it has ended; else its supervisor sees that, and ends the cluster
        process.wait()


def _path_of(python: Path) -> dict[str, str]:
    """Programs of its environment come first, as if somebody had activated it."""
    return {"PATH": os.pathsep.join([str(python.parent), os.environ.get("PATH", os.defpath)])}


@contextlib.contextmanager
def signals_as_interrupts() -> Iterator[None]:
    """Meanwhile a signal that would end this process at once is a Ctrl-C, so that no cluster is left.

    One that is ignored (`nohup`) stays so.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    taken = [one for one in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(one) is signal.SIG_DFL]
    for one in taken:
        signal.signal(one, interrupt)
    try:
        yield
    finally:
        for one in taken:
            signal.signal(one, signal.SIG_DFL)


def what_to_run(words: Sequence[str]) -> list[tuple[str, ...]]:
    """What pytest runs for each of these: a test, a file, a directory, or the name of a fault.

    Raises:
        SettingsError: There is no such fault, and no such file.
    """
    return [_arguments_for(word) for word in words]


def _arguments_for(word: str) -> tuple[str, ...]:
    from pytest_serve_chaos.faults.catalogue import BUILT_IN

    name, _, verb = word.partition(":")
    if name in BUILT_IN and (not verb or verb in BUILT_IN[name].verbs):
        verb = verb or BUILT_IN[name].verbs[0]
        return (BY_MODULE, f"pytest_serve_chaos.comparing.fault_tests::test_{name}_{verb}")
    is_path = word.endswith(".py") or "::" in word or "/" in word
    is_mistaken = name in BUILT_IN or nearest(name, [spec.name for spec in BUILT_IN])
    if (is_path or is_mistaken) and not Path(word.partition("::")[0]).exists():  # else it may be a package: --pyargs
        raise _no_such_test(word, BUILT_IN)
    return (word,)


def _no_such_test(word: str, faults: FaultRegistry) -> SettingsError:
    fault = word.partition(":")[0]
    names = [spec.name for spec in faults]
    if fault in faults:
        fix = f"name one of its verbs, as {fault}:{faults[fault].verbs[0]}: {', '.join(faults[fault].verbs)}"
    else:
        fix = f"name a fault, as {nearest(fault, names) or names[0]}"
    return SettingsError(
        f"there is no test {word!r}, and no such fault",
        checked=[f"the file or directory {word.partition('::')[0]}", f"the faults {', '.join(names)}"],
        fix=[fix, "or name a test as pytest takes it: tests/test_app.py::test_upgrade"],
    )
