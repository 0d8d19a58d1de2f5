"""What the processors of this machine do: for this run, for others, and for nobody who waits."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pytest_serve_chaos import clock
from pytest_serve_chaos.analysis.words import number
from pytest_serve_chaos.errors import in_one_line
from pytest_serve_chaos.events import MachineSeen, Note
from pytest_serve_chaos.history import History
from pytest_serve_chaos.watch_thread import WatchThread

_EVERY = 1.0
"""Seconds between two looks. One look reads some hundred files of /proc, which takes some 10 ms."""

_TICK = 0.011
"""Seconds: a little more than one of the kernel's clock ticks, in which it counts processor time."""

Key = tuple[int, int]
"""PID and start time."""


@dataclass(frozen=True, slots=True)
class ProcessTimes:
    """The times of one process, in seconds.

    Attributes:
        parent: The PID of its parent.
        own: Processor time that it used.
        reaped: Processor time of its children that have ended and that it has waited for, and of theirs.
        delay: Time that it was ready to run and waited for a processor.
    """

    parent: int
    own: float
    reaped: float
    delay: float = 0.0


@dataclass(frozen=True, slots=True)
class Look:
    """What the kernel said at one moment; all times in seconds since some moment of the past.

    Attributes:
        at: Monotonic seconds.
        used: Processor time of all processes.
        stolen: Processor time that the hypervisor gave to other machines.
        waiting: Time in which some process waited for a processor; None: the kernel does not say.
        ours: The processes of this run.
    """

    at: float
    used: float
    stolen: float
    waiting: float | None
    ours: Mapping[Key, ProcessTimes] = field(default_factory=dict)


def compare(before: Look, after: Look, *, processors: int, has_cluster: bool) -> MachineSeen:
    """What the processors did between two looks."""
    seconds = max(1e-6, after.at - before.at)
    ours, unseen = _used_by(before.ours, after.ours)
    used = after.used - before.used
    waiting = None
    if before.waiting is not None and after.waiting is not None:
        waiting = min(1.0, max(0.0, after.waiting - before.waiting) / seconds)
    stayed = ((before.ours[key], times) for key, times in after.ours.items() if key in before.ours)
    delayed = sum(max(0.0, late.delay - early.delay) for early, late in stayed)
    # Each of those that nobody waited for may have used a processor since the last look, which is not others' work.
    others = max(0.0, used - ours - unseen * seconds) / seconds
    return MachineSeen(
        f"{ours / seconds:.1f} of {number(processors, 'processor')} for this run, {others:.1f} for others",
        at=after.at,
        seconds=round(seconds, 3),
        processors=processors,
        ours=round(ours / seconds, 3),
        others=round(others, 3),
        stolen=round(max(0.0, after.stolen - before.stolen) / seconds, 3),
        waiting=None if waiting is None else round(waiting, 3),
        delayed=round(delayed / seconds, 3),
        has_cluster=has_cluster,
    )


def _used_by(before: Mapping[Key, ProcessTimes], after: Mapping[Key, ProcessTimes]) -> tuple[float, int]:
    """Processor time that these processes used, with those of them that came and ended in between.

    What a process used before it ended is in the time that its parent reaped. If the parent ended too, the nearest
    living process above them reaped both. A raylet ignores its children's end, so that the kernel adds their time to
    nobody's: the number of those that ended so is the second value.
    """
    own = sum(times.own - (before[key].own if key in before else 0.0) for key, times in after.items())
    parents = {pid: times.parent for (pid, _), times in before.items()}
    living = {pid for pid, _ in after}
    ended: dict[int, list[float]] = {}
    for key, times in before.items():
        if key not in after:
            ended.setdefault(_nearest_living(times.parent, parents, living), []).append(times.own + times.reaped)
    reaped, unseen = 0.0, 0
    for key, times in after.items():
        grown = times.reaped - (before[key].reaped if key in before else 0.0)
        children = ended.pop(key[0], [])
        if grown + _TICK < sum(children):
            unseen += len(children)
        else:
            reaped += grown - sum(children)
    # Nor is anything known of those whose parent went with them, as of all in a container that was killed.
    return max(0.0, own) + max(0.0, reaped), unseen + sum(map(len, ended.values()))


def _nearest_living(pid: int, parents: Mapping[int, int], living: Container[int]) -> int:
    """The nearest process that lives, from that one upwards; else the first one above that is not known."""
    seen: set[int] = set()  # PIDs that are used again may make a cycle
    while pid not in living and pid in parents and pid not in seen:
        seen.add(pid)
        pid = parents[pid]
    return pid


class Kernel:
    """Reads what the kernel says of processors and processes.

    Args:
        proc: Where its files are.
    """

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._tick = os.sysconf("SC_CLK_TCK")

    @property
    def processors(self) -> int:
        """How many processors the machine has."""
        return os.cpu_count() or 1

    def look(self, roots: Iterable[int]) -> Look:
        """What it says now.

        Args:
            roots: PIDs; these processes and all below them are ours.

        Raises:
            OSError: It says nothing, as on a system that is not Linux.
        """
        at = clock.now()
        first = (self._proc / "stat").read_text(encoding="ascii").splitlines()[0].split()[1:]
        user, nice, system, _idle, _iowait, _irq, _soft, stolen = (int(n) / self._tick for n in first[:8])
        return Look(at, user + nice + system, stolen, self._waiting(), self._tree(frozenset(roots)))

    def _waiting(self) -> float | None:
        try:
            said = (self._proc / "pressure/cpu").read_text(encoding="ascii")
        except OSError:  # PSI is turned off, or the kernel is older than 4.20
            return None
        found = re.search(r"^some .*total=(\d+)", said, re.MULTILINE)
        return int(found[1]) / 1e6 if found else None

    def _tree(self, roots: frozenset[int]) -> dict[Key, ProcessTimes]:
        rows = {pid: row for pid in self._pids() if (row := self._row(pid)) is not None}
        ours: dict[int, bool] = {}

        def is_ours(pid: int) -> bool:
            if pid not in ours:
                ours[pid] = False  # a parent that was replaced while the files were read ends the walk
                ours[pid] = pid in roots or (pid in rows and is_ours(rows[pid][1].parent))
            return ours[pid]

        return {(pid, started): self._with_delay(pid, times) for pid, (started, times) in rows.items() if is_ours(pid)}

    def _pids(self) -> list[int]:
        return [int(name) for name in os.listdir(self._proc) if name.isdigit()]

    def _row(self, pid: int) -> tuple[int, ProcessTimes] | None:
        try:
            with open(self._proc / str(pid) / "stat", "rb", buffering=0) as file:
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            return None
        user, system, reaped_user, reaped_system = (int(n) / self._tick for n in fields[11:15])
        return int(fields[19]), ProcessTimes(int(fields[1]), user + system, reaped_user + reaped_system)

    def _with_delay(self, pid: int, times: ProcessTimes) -> ProcessTimes:
        """Adds how long it waited: of this process all threads, of another one its main thread."""
        threads = self._proc / str(pid) / "task"
        files = (
            [one / "schedstat" for one in threads.iterdir()] if pid == os.getpid() else [threads.parent / "schedstat"]
        )
        delay = 0.0
        for file in files:
            try:
                delay += int(file.read_text(encoding="ascii").split()[1]) / 1e9
            except (OSError, IndexError):  # it has ended, or the kernel does not count it
                continue
        return ProcessTimes(times.parent, times.own, times.reaped, delay)


class MachineWatch:
    """A thread that writes to the history, once a second, what the processors of this machine do.

    Args:
        history: Where it writes.
        roots: Returns the PIDs below which the processes of a cluster on this machine are, in addition to those below
            this process; None: the cluster is elsewhere, or nobody knows its processes.
        kernel: What it asks.
    """

    def __init__(
        self, history: History, roots: Callable[[], tuple[int, ...]] | None, kernel: Kernel | None = None
    ) -> None:
        self._history = history
        self._roots = roots
        self._kernel = kernel or Kernel()
        self._last: Look | None = None
        self._one_look = threading.Lock()
        self._noted = ""
        self._thread = WatchThread(
            "serve-chaos-machine", self._turn, again_after=_EVERY, met=self._failed, first_after=_EVERY
        )

    def start(self) -> None:
        """Begins to watch."""
        try:
            self.look()
        except Exception as error:
            self._failed(error)
        self._thread.start()

    def stop(self) -> None:
        """Ends the watch."""
        self._thread.stopped.set()
        self._thread.join(10.0)

    @property
    def dead(self) -> str:
        """Why its thread ended although nobody stopped it, in words; "" if it did not."""
        return self._thread.dead

    def look(self) -> None:
        """Writes what the processors did since the last look."""
        with self._one_look:
            of_cluster = self._roots() if self._roots is not None else ()
            try:
                now = self._kernel.look((os.getpid(), *of_cluster))
            except (OSError, ValueError):  # not Linux
                return
            before, self._last = self._last, now
            if before is not None:
                seen = compare(before, now, processors=self._kernel.processors, has_cluster=bool(of_cluster))
                self._history.add(seen)

    def _turn(self) -> float:
        self.look()
        return _EVERY

    def _failed(self, error: Exception) -> None:
        """Writes down, once for each text in turn, that a look failed."""
        text = in_one_line(error)
        if text != self._noted:
            self._noted = text
            self._history.add(Note(f"the processors of this machine cannot be watched: {text}"))
