"""Stops processes of this container, or resumes them; what was stopped goes on by itself when its time is over.

Arguments: the word `MARK`, and ``stop SECONDS CLAIM``, ``go CLAIM`` or ``watch SECONDS CLAIM``. A claim is
``PID:START``, a process by its start time in clock ticks; ``session:PID:START``, all of the session that this process
began; or ``all``, which leaves alone PID 1, since it takes no signal from inside, and what was started from outside:
probes, and this program. After ``watch`` there may be a command; then the claim is any word.

``stop`` leaves a watchdog behind, a process that does what ``watch`` does: it resumes what it claims if nobody has done
so in time, unless a later watchdog claims that too. It ends when nothing of it is stopped any more. Seconds go on while
the machine sleeps (CLOCK_BOOTTIME). ``stop`` and ``go`` print JSON: how many processes there are, and the PIDs of those
that are not as they should be. They end with status 3 where a process is gone, or its PID belongs to another one now.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from typing import NamedTuple

from pytest_serve_chaos.cluster.kubernetes.in_pod.container import is_own

MARK = "serve-chaos-freeze"
GONE = 3
WITHIN = 5.0
LOOK_EVERY = 5.0
OWNER = "SERVE_CHAOS_OWNER"
"""The variable that gives a watchdog an owner: ``SECONDS PID:START``. So long after its end the time is over."""
ALL = "all"

CLONE_PARENT = 0x8000
CLONE = {"x86_64": 56, "aarch64": 220}


class Row(NamedTuple):
    """A process that is not a zombie."""

    pid: int
    started: int
    parent: int
    session: int
    stopped: bool


class Watchdog(NamedTuple):
    """A process that resumes others when their time is over; of two, the later one is the larger."""

    started: int
    pid: int
    claim: str


def main(mark: str, what: str, *arguments: str) -> None:
    """Does what is asked for."""
    if what == "watch":
        watch(float(arguments[0]), arguments[1], list(arguments[2:]))
        return
    claim = arguments[-1]
    if claim != ALL:
        claimed = members(claim)
        if not claimed:
            sys.exit(GONE)
        if not all(is_own(row.pid) for row in claimed):
            sys.exit(f"{claim} belongs to another container")
    if what == "stop":
        leave_watchdog(mark, arguments[0], claim)
        if not end_watchdogs(claim, but_the_latest=True):
            sys.exit("no watchdog could be started, so nothing was stopped")
    signal_all(claim, stop=what == "stop")
    if what == "go":
        end_watchdogs(claim)


def signal_all(claim: str, *, stop: bool) -> None:
    """Looks again until none is left over, since a process may start another one while it is stopped."""
    end = time.monotonic() + WITHIN
    while True:
        rows = members(claim)
        left = [row for row in rows if row.stopped != stop]
        if not left or time.monotonic() > end:
            break
        for row in left:
            send(row, signal.SIGSTOP if stop else signal.SIGCONT)
        time.sleep(0.02)
    print(json.dumps({"processes": len(rows), "left": [row.pid for row in left]}), flush=True)


def members(claim: str) -> list[Row]:
    """The processes that a claim is for, as they are now."""
    if claim == ALL:
        return descendants_of_the_first()
    *kind, pid, started = claim.split(":")
    first = read(pid)
    if first is not None and first.started != int(started):
        return []
    if kind == ["session"]:
        return [row for row in look() if row.session == int(pid)]
    return [] if kind or first is None else [first]


def descendants_of_the_first() -> list[Row]:
    """All processes of this container that PID 1 or one of its children started, watchdogs left out."""
    rows = look()
    found: list[Row] = []
    ring = {1}
    while ring:
        children = [row for row in rows if row.parent in ring]
        if ring == {1}:
            children = [row for row in children if claimed_by(row.pid) is None]
        found += children
        ring = {row.pid for row in children}
    return [row for row in found if is_own(row.pid)]


def look() -> list[Row]:
    """All processes."""
    return [row for row in map(read, filter(str.isdigit, os.listdir("/proc"))) if row is not None]


def read(pid: str) -> Row | None:
    """One process."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
        if fields[0] not in (b"Z", b"X"):
            return Row(int(pid), int(fields[19]), int(fields[1]), int(fields[3]), fields[0] in (b"T", b"t"))
    return None


def send(row: Row, number: int) -> None:
    """Signals that very process: the handle holds it while its start time is compared."""
    with contextlib.suppress(ProcessLookupError):
        try:
            handle = os.pidfd_open(row.pid)
        except ProcessLookupError:
            return
        except (OSError, AttributeError):  # this kernel or Python has no such thing
            os.kill(row.pid, number)
            return
        try:
            now = read(str(row.pid))
            if now is not None and now.started == row.started:
                signal.pidfd_send_signal(handle, number)
        finally:
            os.close(handle)


def claimed_by(pid: int) -> str | None:
    """What a process claims, if it is a watchdog."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read().decode(errors="replace").split("\0")
    except OSError:
        return None
    at = words.index(MARK) if MARK in words else len(words)
    return words[at + 3] if words[at + 1 : at + 2] == ["watch"] and len(words) > at + 3 else None


def watchdogs() -> list[Watchdog]:
    """All watchdogs but this process, the first one first."""
    found = [(row, claimed_by(row.pid)) for row in look() if row.pid != os.getpid()]
    return sorted(Watchdog(row.started, row.pid, claim) for row, claim in found if claim is not None)


def end_watchdogs(claim: str, *, but_the_latest: bool = False) -> bool:
    """Ends those that claim nothing else: what they watch was resumed, or has a later one; whether there were any."""
    covered = [one for one in watchdogs() if claim in (ALL, one.claim)]
    for one in covered[:-1] if but_the_latest else covered:
        send(Row(one.pid, one.started, 0, 0, False), signal.SIGKILL)
    return bool(covered)


def leave_watchdog(mark: str, seconds: str, claim: str) -> None:
    """Starts a watchdog that outlives this program; it is there when this returns.

    It becomes a child of the container's runtime, which started this program and collects it when it ends: PID 1 does
    not, if it is `ray start --block`.
    """
    with open("/proc/self/cmdline", "rb") as file:
        words = file.read().decode().split("\0")
    command = [*words[: words.index(mark) + 1], "watch", seconds, claim]
    reading, writing = os.pipe()  # the program that the child becomes does not inherit it
    if clone() == 0:
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(nothing, number)
        try:
            os.execv(sys.executable, command)
        finally:
            os._exit(1)
    os.close(writing)
    os.read(reading, 1)


def clone() -> int:
    """Forks a child that is our parent's; where that cannot be, our own."""
    with contextlib.suppress(ImportError, OSError, KeyError):
        import ctypes

        words = CLONE[os.uname().machine], CLONE_PARENT | signal.SIGCHLD, 0, 0, 0, 0
        pid = ctypes.CDLL(None).syscall(*map(ctypes.c_long, words))
        if pid >= 0:
            return int(pid)
    return os.fork()


def watch(seconds: float, claim: str, command: list[str]) -> None:
    """Waits until somebody has resumed what it claims, or it is gone; does so itself when the time is over."""
    until = time.clock_gettime(time.CLOCK_BOOTTIME) + seconds
    seen, pause = False, 0.2
    patience, _, owner = os.environ.get(OWNER, "").partition(" ")
    while (left := until - time.clock_gettime(time.CLOCK_BOOTTIME)) > 0:
        time.sleep(min(left, pause))
        pause = LOOK_EVERY
        if owner and not members(owner):
            until, owner = min(until, time.clock_gettime(time.CLOCK_BOOTTIME) + float(patience)), ""
        rows = members(claim) if not command else []
        stopped = any(row.stopped for row in rows)
        if not command and (not rows or (seen and not stopped)):
            return
        seen = seen or stopped
    me = read(str(os.getpid()))
    later = [one for one in watchdogs() if me is not None and (one.started, one.pid) > (me.started, me.pid)]
    if command:
        if claim not in [one.claim for one in later]:
            os.execvp(command[0], command)
        return
    others = {row[:2] for one in later for row in members(one.claim)}
    for row in members(claim):
        if row.stopped and row[:2] not in others:
            send(row, signal.SIGCONT)


if __name__ == "__main__":
    main(*sys.argv[1:])
