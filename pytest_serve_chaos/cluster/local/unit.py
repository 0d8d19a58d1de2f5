"""One thing that the supervisor keeps running, Redis or a Ray node: a session, its end and its next start."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pytest_serve_chaos.cluster.local import child, processes
from pytest_serve_chaos.cluster.local.commands import Command
from pytest_serve_chaos.cluster.local.processes import Process
from pytest_serve_chaos.model import Identity

_GAVE_UP = "The current node timed out during startup"
"""What `ray start` (2.60) prints when its raylet has not registered with the GCS within 30 s."""

_END_OF_LOG = 4000
"""Bytes of a log in which what a program printed last is looked for."""

State = Literal["down", "up", "ending"]


@dataclass
class Unit:
    """A session and what should become of it.

    Attributes:
        ready_to_start: Whether that on which it depends is there (Redis for the head, the GCS for a worker).
        start_at: When it may be started (monotonic seconds); infinity while it is held down.
        leader: The PID of its first process, which is the session's id; 0 while it is down.
        first: Its first process.
        force_at: When its processes get SIGKILL, while it is ending.
        log_begins: Where in its log what it prints since its last start begins, in bytes.
        ended: Called once when nothing of it is left, with what was killed.
    """

    command: Command
    restart_delay: float
    ready_to_start: Callable[[], bool]
    start_at: float = 0.0
    state: State = "down"
    leader: int = 0
    first: Identity | None = None
    frozen: bool = False
    force_at: float = 0.0
    hold: bool = False
    seen: dict[int, Process] = field(default_factory=dict)
    log_begins: int = 0
    ended: Callable[[dict[int, Process]], None] | None = None

    @property
    def name(self) -> str:
        """``redis``, ``head``, ``worker-1``, ..."""
        return self.command.name

    def start(self) -> None:
        """Starts it in a session of its own."""
        interpreter = sys.executable
        wrapper = (interpreter, "-I", "-S", str(Path(child.__file__)), str(os.getpid()), str(self.command.niceness))
        arguments = (*wrapper, *self.command.arguments)
        log = os.open(self.command.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self.log_begins = os.fstat(log).st_size
        nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self.leader = os.posix_spawn(
                interpreter,
                arguments,
                self.command.environment,
                file_actions=[(os.POSIX_SPAWN_DUP2, nothing, 0), *((os.POSIX_SPAWN_DUP2, log, n) for n in (1, 2))],
                setsid=True,
                setsigdef=[signal.SIGPIPE, signal.SIGINT, signal.SIGTERM],
            )
        finally:
            os.close(log)
            os.close(nothing)
        started = processes.read(self.leader)  # nobody else can have its PID before its end was noticed, by `waitpid`
        self.first = None if started is None else started.identity
        self.state, self.frozen, self.seen = "up", False, {}

    def members(self) -> tuple[Process, ...]:
        """The processes of its session."""
        if not self.leader or processes.is_another(self.leader, self.first):
            return ()
        return processes.in_sessions({self.leader})

    def claim(self) -> str | None:
        """How a watchdog names all that belongs to its session; None if its first process is gone."""
        leader = processes.read(self.leader) if self.leader else None
        return None if leader is None else f"session:{leader.pid}:{leader.started}"

    def end(self, how: Literal["kill", "stop"], *, hold: bool, grace: float) -> None:
        """Begins its end: SIGKILL for all, or SIGTERM for the first process and SIGKILL after `grace` seconds."""
        self.hold = hold
        self.force_at = 0.0
        if how == "stop" and self.state == "up":
            leader = processes.read(self.leader)
            if leader is not None:
                processes.send(leader.identity, signal.SIGTERM)
                self.force_at = time.monotonic() + grace
        self.state = "ending"

    def leader_died(self) -> None:
        """`ray start --block` or Redis is gone: like a container, the rest goes with it."""
        if self.state == "up":
            self.hold, self.force_at, self.state = False, 0.0, "ending"

    def why_it_gave_up(self) -> str:
        """What `ray start` printed where it gave the node up that it was starting; "" where it did not."""
        try:
            with open(self.command.log, "rb") as log:
                log.seek(max(self.log_begins, os.fstat(log.fileno()).st_size - _END_OF_LOG))
                printed = log.read().decode(errors="replace")
        except OSError:
            return ""
        return _GAVE_UP if _GAVE_UP in printed else ""

    def advance(self, now: float) -> None:
        """Does what is due: kills what is left of an ending session, or starts what is down and may start."""
        if self.state == "ending":
            self._advance_end(now)
        elif self.state == "down" and now >= self.start_at and self.ready_to_start():
            self.start()

    def freeze(self) -> tuple[Process, ...]:
        """Stops all its processes, again until each of them is stopped; returns them."""
        self.frozen = True
        for _ in range(200):
            running = [p for p in self.members() if p.state != "T"]
            if not running:
                break
            for process in running:
                processes.send(process.identity, signal.SIGSTOP)
            time.sleep(0.005)
        return self.members()

    def thaw(self) -> None:
        """Resumes all its processes."""
        self.frozen = False
        for process in self.members():
            processes.send(process.identity, signal.SIGCONT)

    def release(self, now: float) -> None:
        """Ends a hold."""
        self.hold = False
        if self.state == "down":
            self.start_at = now

    def _advance_end(self, now: float) -> None:
        left = self.members()
        self.seen |= {process.pid: process for process in left}
        if left:
            if now >= self.force_at:
                for process in left:
                    processes.send(process.identity, signal.SIGKILL)
            return
        self.state, self.leader = "down", 0
        self.start_at = float("inf") if self.hold else now + self.restart_delay
        ended, self.ended = self.ended, None
        if ended is not None:
            ended(self.seen)
