"""The process table: processes by (boot, PID, start time), by session and by mark; signals that hit no other."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Collection, Container, Iterator
from dataclasses import dataclass, field

from pytest_serve_chaos.errors import CommandFailed
from pytest_serve_chaos.model import Identity

MARK = "SERVE_CHAOS_RUN"
"""The environment variable that every process of a run carries; its value is the run's id."""

_EMPTY_LOOKS = 2
"""How many looks in a row must see no process: while one reads /proc, a process may start another and end."""
_BETWEEN_LOOKS = 0.05
"""Seconds."""
_KERNEL_THREAD = 0x00200000
"""PF_KTHREAD of the kernel's sched.h, among the flags of /proc/PID/stat."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process, as /proc shows it.

    Attributes:
        started: Clock ticks since boot; with the PID it names the process for this boot.
        session: The session's id, the PID of its first process.
        state: The kernel's letter; ``Z`` is a zombie, which runs no longer.
        command: Its command line, or the title that it gave itself (Ray's actors do).
        name: The kernel's name of it, 15 characters at most.
    """

    pid: int
    started: int
    session: int
    parent: int
    state: str
    command: str = field(repr=False)
    name: str = ""

    @property
    def identity(self) -> Identity:
        """Which process it is, for ever."""
        return Identity("process", (boot_id(), str(self.pid), str(self.started)))

    @property
    def age(self) -> float:
        """Seconds since it began."""
        return time.clock_gettime(time.CLOCK_BOOTTIME) - self.started / os.sysconf("SC_CLK_TCK")


def boot_id() -> str:
    """Which boot of the machine this is."""
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()[:8]


def read(pid: int, *, known: Container[tuple[int, int]] = ()) -> Process | None:
    """The process with that PID; None if there is none, or only a zombie.

    The command line is left out of those whose (PID, start time) is `known`.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            before, _, after = file.read().rpartition(b")")
        fields = after.split()
        command = "" if (pid, int(fields[19])) in known else _command(pid)
    except (OSError, ProcessLookupError):
        return None
    state = fields[0].decode()
    if state in "ZX":
        return None
    name = before.partition(b"(")[2].decode(errors="replace")
    return Process(pid, int(fields[19]), int(fields[3]), int(fields[1]), state, command, name)


def _command(pid: int) -> str:
    with open(f"/proc/{pid}/cmdline", "rb", buffering=0) as file:
        return file.read().replace(b"\0", b" ").decode(errors="replace").strip()


def is_another(pid: int, leader: Identity | None) -> bool:
    """Whether the PID of a session's first process belongs to another process by now, and so does the session's id.

    It cannot as long as a process of the session is alive.

    Args:
        pid: The PID, which is the session's id.
        leader: The first process of the session; None where it was not seen alive.
    """
    now = read(pid, known=_EVERY)
    return now is not None and leader is not None and now.identity != leader


class _Every(Container[tuple[int, int]]):
    """All processes are known: nobody wants their command lines."""

    def __contains__(self, _: object) -> bool:
        return True


_EVERY = _Every()


def all_pids() -> Iterator[int]:
    """The PIDs of all processes that can be seen."""
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


def in_sessions(sessions: Collection[int], *, known: Container[tuple[int, int]] = ()) -> tuple[Process, ...]:
    """All processes of these sessions, zombies left out; `known` as for `read`."""
    # getsid is one system call, a /proc file three; a machine may have hundreds of other processes.
    found = []
    for pid in all_pids():
        try:
            if os.getsid(pid) in sessions:
                process = read(pid, known=known)
                if process is not None:
                    found.append(process)
        except (ProcessLookupError, PermissionError):
            continue
    return tuple(found)


def below(pid: int) -> tuple[Process, ...]:
    """All processes that this one, or one of them, has started, zombies left out."""
    seen = [process for process in map(read, all_pids()) if process is not None]
    found: list[Process] = []
    ring = {pid}
    while ring:
        children = [process for process in seen if process.parent in ring]
        found += children
        ring = {process.pid for process in children}
    return tuple(found)


def marked(mark: str) -> tuple[Process, ...]:
    """All processes that carry the mark of a run in their environment, this one left out."""
    wanted = f"{MARK}={mark}".encode()
    found = (read(pid) for pid, variables in environments() if wanted in variables and pid != os.getpid())
    return tuple(process for process in found if process is not None)


def environments() -> Iterator[tuple[int, list[bytes]]]:
    """The PID of each process whose environment may be read, and its variables: ``NAME=value``."""
    for pid in all_pids():
        with contextlib.suppress(OSError), open(f"/proc/{pid}/environ", "rb") as file:
            yield pid, file.read().split(b"\0")


def _becomes_another_program(pid: int) -> bool:
    """Whether that process is within `execve`, where it has no environment for a moment, and so no mark.

    Neither has it a command line then. On a machine that is busy, or reads the program from a slow disk, that moment
    may last for seconds.
    """
    try:
        with open(f"/proc/{pid}/environ", "rb") as environment, open(f"/proc/{pid}/cmdline", "rb") as command:
            if environment.read(1) or command.read(1):
                return False
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return False
    return fields[0] not in (b"Z", b"X") and not int(fields[6]) & _KERNEL_THREAD


def send(identity: Identity, number: int) -> bool:
    """Sends a signal to that very process.

    Returns:
        False if the process is gone, or its PID belongs to another one now.

    Raises:
        CommandFailed: The kernel refused it; the process may be alive.
    """
    try:
        return _send(identity, number)
    except ProcessLookupError:
        return False
    except OSError as error:
        raise CommandFailed(
            f"the kernel refused to send signal {number} to {identity}: {error}",
            checked=["pidfd_open, and pidfd_send_signal"],
            fix=["see what `serve-chaos doctor` says of this machine"],
        ) from error


def _send(identity: Identity, number: int) -> bool:
    boot, pid, started = identity.parts
    handle = os.pidfd_open(int(pid))
    try:
        # The handle holds the process: if the start time is right now, it cannot become another one any more.
        process = read(int(pid))
        if process is None or str(process.started) != started or boot != boot_id():
            return False
        signal.pidfd_send_signal(handle, number)
    finally:
        os.close(handle)
    return True


def alive(identity: Identity) -> bool:
    """Whether that very process still runs."""
    process = read(int(identity.parts[1]))
    return process is not None and process.identity == identity


def end_marked(mark: str, *, timeout: float = 8.0) -> tuple[Process, ...]:
    """Kills all processes of a run, again until none is left; returns those that are left after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    empty_looks = 0
    while True:
        left = marked(mark)
        empty_looks = 0 if left or any(map(_becomes_another_program, all_pids())) else empty_looks + 1
        if empty_looks == _EMPTY_LOOKS or time.monotonic() > deadline:
            return left
        for process in left:
            with contextlib.suppress(CommandFailed):
                send(process.identity, signal.SIGKILL)
        time.sleep(0.02 if left else _BETWEEN_LOOKS)
