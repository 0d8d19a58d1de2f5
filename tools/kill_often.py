"""Ends runs at random moments, by kill -9 or other signals, and reports what was left and what repaired it.

``python -m tools.kill_often local --kills 100 --seed 1`` runs a small test on the backend again and again. Each time it
kills pytest, the supervisor of the local cluster, both, or these and the janitor that cleans up after them. Then it
looks for processes that carry the mark of a run, directories and files of runs, entries of the undo journal, and kind
clusters. If something is left after the time that the janitor needs, it calls ``serve-chaos undo`` and looks again. No
other run may begin on the machine meanwhile: what that has would count as left.

``--signals INT TERM TERM,TERM HUP KILL`` draws how each run is ended: by one of these signals, or by two, one second
apart. All but KILL go to pytest alone, as from a terminal or from CI.

What it cannot see by itself, as the nodes of an external cluster, a command can show: ``--look 'kubectl get nodes'``.
Before the first run and after each repair that must print the same. Arguments after ``--`` are pytest's.

The exit status is 1 if something was left that nothing repaired.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_serve_chaos import clock, locks
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.cluster.local import processes
from pytest_serve_chaos.cluster.local.processes import Process
from pytest_serve_chaos.errors import WaitTimeout

ROOT = Path(__file__).parents[1]

TEST = """
import time

def test_frozen_and_killed(chaos):
    with chaos.worker("worker-1").freeze(for_="60s", must_land=False):
        time.sleep(3)
    chaos.worker("worker-1").kill(must_land=False)
    time.sleep(3)
"""

VICTIMS = {
    "pytest": ("pytest",),
    "supervisor": ("supervisor",),
    "both": ("pytest", "supervisor"),
    "all": ("pytest", "supervisor", "janitor"),
}
"""What is killed together."""

_PROGRAMS = {
    "supervisor": "pytest_serve_chaos.cluster.local.supervisor",
    "janitor": "pytest_serve_chaos.cluster.local.janitor",
}
_ENDS_WITHIN = 300.0
_BETWEEN = 1.0
"""Seconds between two signals."""
_UNDONE_WITHIN = 300.0
_PHASES = ("cluster", "asked", "landed", "healed")
"""The kinds of events that say how far a run was."""


@dataclass(frozen=True, slots=True)
class Kill:
    """One run that was ended.

    Attributes:
        number: Which, from 1.
        victim: Who was killed, or by which signals pytest was ended.
        after: Seconds after the start of pytest.
        phase: How far the run was, by its history.
        left: What was there when the run had ended and its janitor had had its time.
        repaired_by: Who removed what the run had made.
        remains: What was left after that.
    """

    number: int
    victim: str
    after: float
    phase: str
    left: tuple[str, ...]
    repaired_by: str
    remains: tuple[str, ...]

    @property
    def line(self) -> str:
        """All of it, for people."""
        left = ", ".join(self.left) or "nothing"
        remains = f"; REMAINS: {', '.join(self.remains)}" if self.remains else ""
        where = f"{self.victim:<10} after {self.after:5.1f} s ({self.phase})"
        return f"{self.number:>4}  {where:<45} left: {left}; repaired by {self.repaired_by}{remains}"


class Traces:
    """What runs leave, as far as it was not there before.

    Args:
        state: The directory of the user's state, which has the undo journal.
        reports: The directory of the runs' reports.
        look: A command whose output must be as at first; "" for none.
    """

    def __init__(self, state: Path, reports: Path, look: str) -> None:
        self._state = state
        self._reports = reports
        self._look = look
        self._before = frozenset([*self._made(), *self._seen()])

    def now(self) -> tuple[str, ...]:
        """What there is and was not there before, and what the command no longer prints, a few words each."""
        seen = [*self._seen()]
        gone = sorted(one for one in self._before if one.startswith("`") and one not in seen)
        new = [one for one in (*self._made(), *seen) if one not in self._before]
        return (*new, *(f"no longer {one}" for one in gone))

    def _made(self) -> Iterator[str]:
        yield from _marked()
        yield from self._files()
        yield from _kind_clusters()

    def _files(self) -> Iterator[str]:
        for path in Path(tempfile.gettempdir()).glob("serve-chaos-*"):
            yield f"directory {path}"
        directory = locks.lock_directory()
        for path in directory.glob("*.lock") if directory.is_dir() else ():
            yield f"lock {path.name}"
        for base in (self._state, self._reports / "undo"):
            for path in base.rglob("*.json"):
                yield f"journal: {_text_of(path)}"

    def _seen(self) -> Iterator[str]:
        if self._look:
            said = subprocess.run(self._look, shell=True, capture_output=True, text=True, check=False).stdout
            yield from (f"`{line.strip()}`" for line in said.splitlines())


def _marked() -> Iterator[str]:
    yield from (f"process {process.name} {process.identity}" for process in carrying(f"{processes.MARK}="))


def carrying(variable: str) -> Iterator[Process]:
    """The processes whose environment has a variable that begins so, zombies left out."""
    for pid in processes.all_pids():
        with contextlib.suppress(OSError), open(f"/proc/{pid}/environ", "rb") as file:
            if any(one.startswith(variable.encode()) for one in file.read().split(b"\0")):
                process = processes.read(pid)
                if process is not None:
                    yield process


def _kind_clusters() -> Iterator[str]:
    if shutil.which("kind") is not None:
        said = subprocess.run(["kind", "get", "clusters"], capture_output=True, text=True, check=False, timeout=60)
        yield from (f"kind cluster {name}" for name in said.stdout.split() if name.startswith("serve-chaos"))


def _text_of(path: Path) -> str:
    try:
        return str(json.loads(path.read_text())["text"])
    except (OSError, ValueError, KeyError):
        return str(path)


class Runs:
    """Runs of a test on a backend.

    Args:
        backend: Its name.
        directory: For the test, the reports and the state.
        plugins: Plugins that pytest and ``serve-chaos`` load.
        arguments: Further ones for pytest.
        test: The file of the test; None: a small one.
    """

    def __init__(
        self, backend: str, directory: Path, plugins: Sequence[str], arguments: Sequence[str], test: Path | None
    ) -> None:
        self.reports = directory / "report"
        self.state = directory / "state"
        self._directory = directory
        self._plugins = [word for name in plugins for word in ("-p", name)]
        self._arguments = list(arguments)
        self._backend = backend
        self._test = test or directory / "test_killed.py"
        if test is None:
            self._test.write_text(TEST)
        for path in (self.reports, self.state):
            path.mkdir(mode=0o700)

    @property
    def environment(self) -> Mapping[str, str]:
        """Of all programs."""
        path = os.pathsep.join(one for one in (str(ROOT), os.environ.get("PYTHONPATH", "")) if one)
        return {**os.environ, "XDG_STATE_HOME": str(self.state), "PYTHONPATH": path}

    def start(self) -> subprocess.Popen[bytes]:
        """Starts one; what it prints is in ``pytest.log``."""
        backend = [f"--serve-chaos-backend={self._backend}", f"--serve-chaos-report-dir={self.reports}"]
        command = [sys.executable, "-m", "pytest", *self._plugins, "-p", "no:cacheprovider", "--serve-chaos", *backend]
        with (self._directory / "pytest.log").open("ab") as log:
            return subprocess.Popen(
                [*command, str(self._test), *self._arguments],
                cwd=self._directory,
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def undo(self, allowed: Iterable[str]) -> int:
        """Calls ``serve-chaos undo``, and returns its exit status."""
        command = [sys.executable, "-m", "pytest_serve_chaos.cli", "undo", "--report-dir", str(self.reports)]
        contexts = [word for context in allowed for word in ("--allow-context", context)]
        with (self._directory / "undo.log").open("ab") as log:
            return subprocess.run(
                [*command, *contexts, *self._plugins],
                cwd=self._directory,
                env=self.environment,
                stdout=log,
                stderr=log,
                timeout=_UNDONE_WITHIN,
                check=False,
            ).returncode

    def phase(self) -> str:
        """How far the latest run was."""
        histories = sorted(self.reports.glob("*/history.jsonl"), key=lambda path: path.stat().st_mtime)
        if not histories:
            return "no run"
        text = histories[-1].read_text(errors="replace")
        reached = [kind for kind in _PHASES if f'"kind":"{kind}"' in text]
        return reached[-1] if reached else "starting"


def end(run: subprocess.Popen[bytes], signals: str, victim: str) -> str:
    """Ends a run, or a part of it, and waits until pytest has ended; returns what was done, in words."""
    if signals == "KILL":
        strike(run.pid, VICTIMS[victim])
        run.wait(_ENDS_WITHIN)
        return victim
    for name in signals.split(","):
        if run.poll() is None:
            run.send_signal(signal.Signals[f"SIG{name}"])
            with contextlib.suppress(subprocess.TimeoutExpired):
                run.wait(_BETWEEN)
    run.wait(_ENDS_WITHIN)
    return f"by {signals}"


def strike(pid: int, parts: Iterable[str]) -> None:
    """Kills parts of a run with SIGKILL; all that is to be killed stands still before.

    Args:
        pid: Of pytest.
        parts: ``pytest``, ``supervisor`` and ``janitor``.
    """
    below = processes.below(pid)
    pids = {name: [one.pid for one in below if program in one.command] for name, program in _PROGRAMS.items()}
    pids["pytest"] = [pid]
    victims = [one for part in parts for one in pids[part]]
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for victim in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, number)


def nothing_left(traces: Traces, *, within: float) -> tuple[str, ...]:
    """Waits until nothing is left; returns what is, after so many seconds."""

    def gone() -> bool | NotYet:
        return not traces.now() or NotYet("something is left")

    try:
        clock.wait_until("nothing to be left", gone, timeout=within, interval=0.5)
    except WaitTimeout:
        return traces.now()
    return ()


def killed_runs(runs: Runs, given: argparse.Namespace) -> Iterator[Kill]:
    """Ends runs, one after the other."""
    choices = random.Random(given.seed)
    traces = Traces(runs.state, runs.reports, given.look)
    longest = given.within or _length_of_a_run(runs)
    for number in range(1, given.kills + 1):
        victim, after = choices.choice(given.victims), choices.uniform(0.0, longest)
        signals = choices.choice(given.signals)
        run = runs.start()
        with contextlib.suppress(subprocess.TimeoutExpired):
            run.wait(after)
        what = end(run, signals, victim)
        phase = runs.phase()
        left = remains = nothing_left(traces, within=given.settle)
        repaired_by = "the run itself, or its janitor"
        if left:
            runs.undo(given.allow_context)
            remains = nothing_left(traces, within=given.settle)
            repaired_by = "nobody" if remains else "serve-chaos undo"
        yield Kill(number, what, after, phase, left, repaired_by, remains)
        for report in [path for path in runs.reports.iterdir() if path.name != "undo"]:
            shutil.rmtree(report, ignore_errors=True)


def _length_of_a_run(runs: Runs) -> float:
    begun = clock.now()
    runs.start().wait(_ENDS_WITHIN)
    return clock.now() - begun


def _signals(text: str) -> str:
    unknown = [name for name in text.split(",") if f"SIG{name}" not in signal.Signals.__members__]
    if unknown or ("KILL" in text and text != "KILL"):
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither KILL alone nor names of signals with commas between them"
        )
    return text


def _parsed(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backend")
    parser.add_argument("--kills", type=int, default=10, help="how many runs are killed")
    parser.add_argument("--seed", type=int, default=1, help="of the moments and the victims")
    parser.add_argument("--victims", nargs="+", choices=VICTIMS, default=list(VICTIMS))
    parser.add_argument("--signals", nargs="+", type=_signals, default=["KILL"], help="INT, TERM, TERM,TERM, HUP, KILL")
    parser.add_argument("--within", type=float, help="seconds; the latest moment. By default as long as a run takes")
    parser.add_argument("--settle", type=float, default=20.0, help="seconds that the janitor has")
    parser.add_argument("--look", default="", help="a shell command whose output must be as at first")
    parser.add_argument("--allow-context", action="append", default=[], help="for serve-chaos undo")
    parser.add_argument("-p", dest="plugins", action="append", default=[], metavar="NAME", help="a plugin to load")
    parser.add_argument("--test", type=Path, help="the file of the test; by default a small one")
    end = list(words).index("--") if "--" in words else len(words)
    given = parser.parse_args(list(words[:end]))
    given.arguments = list(words[end + 1 :])
    return given


def main(words: Sequence[str]) -> int:
    """Ends runs, and prints a line about each and a table of all."""
    given = _parsed(words)
    directory = Path(tempfile.mkdtemp(prefix="kill-often-"))
    runs = Runs(given.backend, directory, given.plugins, given.arguments, given.test)
    counted: collections.Counter[tuple[str, str, str, str]] = collections.Counter()
    for one in killed_runs(runs, given):
        print(one.line, flush=True)
        counted[one.victim, one.phase, "something" if one.left else "nothing", one.repaired_by] += 1
    print("\n| killed | how far it was | left | repaired by | runs |\n| --- | --- | --- | --- | --- |")
    for (victim, phase, left, repaired_by), times in sorted(counted.items()):
        print(f"| {victim} | {phase} | {left} | {repaired_by} | {times} |")
    print(f"seed {given.seed}; logs: {directory}")
    return 1 if any(repaired_by == "nobody" for *_, repaired_by in counted) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
