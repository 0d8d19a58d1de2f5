"""Who holds a lease: a process, named so that other machines can tell it apart, and this machine whether it lives."""

from __future__ import annotations

import getpass
import hashlib
import os
import re
import socket
from dataclasses import dataclass
from pathlib import Path

_TEXT = re.compile(r"(?P<who>\S+) pid=(?P<pid>\d+) start=(?P<start>\d+) kernel=(?P<kernel>[0-9a-f]+)")


@dataclass(frozen=True, slots=True)
class Holder:
    """A process.

    Attributes:
        who: ``user@host``, for people.
        pid: Its PID.
        start: When it started, in ticks of its kernel: a PID is used again.
        kernel: Names its kernel since that booted, and the namespace of its PID.
    """

    who: str
    pid: int
    start: int
    kernel: str

    def __str__(self) -> str:
        return f"{self.who} pid={self.pid} start={self.start} kernel={self.kernel}"

    @classmethod
    def parse(cls, text: str) -> Holder | None:
        """The holder that a lease names; None if it is not one of ours."""
        found = _TEXT.fullmatch(text)
        return cls(found["who"], int(found["pid"]), int(found["start"]), found["kernel"]) if found else None

    @property
    def is_over(self) -> bool:
        """Whether it is known that it has ended: only the machine on which it ran can tell."""
        return self.kernel == _kernel() and not _may_live(self.pid, self.start)

    @property
    def is_this_process(self) -> bool:
        """Whether it is this one."""
        return (self.kernel, self.pid, self.start) == (_kernel(), os.getpid(), _start_of(os.getpid()))


def this_process() -> Holder:
    """The holder that this process is."""
    who = re.sub(r"\s", "-", f"{_user()}@{socket.gethostname()}")
    pid = os.getpid()
    return Holder(who, pid, _start_of(pid), _kernel())


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without an entry, as in a container
        return str(os.getuid())


def _start_of(pid: int) -> int:
    """When a process started; -1 if there is none, or only what is left of one that has ended."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError):
        return -1
    return -1 if state in ("Z", "X") else int(fields[18])


def _may_live(pid: int, start: int) -> bool:
    """Whether a process may not have ended: /proc may hide those of other users (its mount option `hidepid`)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # it is another user's
    return not Path(f"/proc/{pid}").exists() or _start_of(pid) == start


def _kernel() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        boot, namespace = socket.gethostname(), ""
    return hashlib.sha256(f"{boot} {namespace}".encode()).hexdigest()[:16]
