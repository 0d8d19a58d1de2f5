"""Watchdogs on this machine: processes that end a fault whose time is over, when nobody else is left to end it.

Each is the program that does so in pods (`kubernetes/in_pod/freeze.py`), in a session of its own. It survives pytest
and the supervisor, and ends when the fault is healed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from pytest_serve_chaos.cluster.kubernetes import in_pod
from pytest_serve_chaos.cluster.kubernetes.in_pod import freeze
from pytest_serve_chaos.errors import CommandFailed

GRACE = 30.0
"""Seconds after which a fault ends by itself once its time is over: a run that can heal it has done so by then."""

LONGEST_FREEZE = 600.0
"""Seconds that a freeze may last which does not say how long it is to last."""

LONGEST_CHANGE = 86400.0
"""Seconds after which a change of Kubernetes is undone although its run goes on."""

LONGEST_HOLD = 3600.0
"""Seconds that a machine may be held down if nobody says for how long."""

# The watchdog is no child of ours, so that nobody has to collect it when it ends.
_START = '"$@" </dev/null >/dev/null 2>&1 & echo $!'


def expiry(lasts: float | None, *, longest: float = LONGEST_FREEZE, grace: float = GRACE) -> float:
    """Seconds after which a fault ends by itself.

    Args:
        lasts: Seconds that it is to last; None: as long as such a fault may.
        longest: How long it may last.
        grace: Seconds for the run to heal it.
    """
    return (longest if lasts is None else lasts) + grace


def deadline(seconds: float) -> float:
    """A moment so many seconds from now, on the clock that goes on while the machine sleeps (CLOCK_BOOTTIME)."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) + seconds


class Watchdogs:
    """Watchdogs of one owner. Safe to use from several threads.

    Args:
        environment: Variables for each of them, in addition to ours.
        grace: Seconds after which they end a fault whose time is over.
    """

    def __init__(self, environment: Mapping[str, str] | None = None, *, grace: float = GRACE) -> None:
        self._environment = dict(environment or {})
        self._grace = grace
        self._lock = threading.Lock()
        self._running: dict[str, freeze.Row] = {}

    def watch(
        self,
        claim: str,
        lasts: float | None,
        *,
        longest: float = LONGEST_FREEZE,
        command: Sequence[str] = (),
        owned: bool = False,
    ) -> None:
        """Starts a watchdog; it is there when this returns. An earlier one of the same claim ends.

        Args:
            claim: What it resumes: ``PID:START``, or ``session:PID:START``. With a command: a word for what that ends.
            lasts: Seconds that the fault is to last; None: `longest`.
            longest: Seconds that it may last.
            command: What it runs instead of resuming processes.
            owned: Whether the time is over, too, once this process is gone.

        Raises:
            CommandFailed: It could not be started.
        """
        seconds = expiry(lasts, longest=longest, grace=self._grace)
        source = in_pod.short("freeze")
        program = (sys.executable, "-I", "-S", "-c", source, freeze.MARK, "watch", f"{seconds:g}", claim)
        try:
            started = subprocess.run(
                ["/bin/sh", "-c", _START, "sh", *program, *command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                env={**os.environ, **self._environment, **(self._owner() if owned else {})},
                timeout=10.0,
                check=True,
            )
            row = freeze.read(started.stdout.decode().strip())
        except (OSError, subprocess.SubprocessError) as error:
            raise CommandFailed("no watchdog could be started, so nothing was broken", checked=[str(error)]) from error
        if row is None:
            raise CommandFailed("a watchdog ended at once, so nothing was broken", checked=[claim])
        with self._lock:
            before = self._running.get(claim)
            self._running[claim] = row
        _end(before)

    def _owner(self) -> dict[str, str]:
        me = freeze.read(str(os.getpid()))
        return {} if me is None else {freeze.OWNER: f"{self._grace:g} {me.pid}:{me.started}"}

    def end(self, claim: str) -> None:
        """Ends the watchdog of a fault that was healed; does nothing where there is none."""
        with self._lock:
            row = self._running.pop(claim, None)
        _end(row)

    def end_all(self) -> None:
        """Ends all of them: what they watch is gone."""
        for claim in tuple(self._running):
            self.end(claim)

    def end_of_all_runs(self, is_over: Callable[[str], bool]) -> None:
        """Ends those that this user's earlier runs have left, too.

        Args:
            is_over: Whether the fault with that claim is healed.
        """
        for one in freeze.watchdogs():
            if is_over(one.claim):
                self.end(one.claim)
                with contextlib.suppress(PermissionError):  # another user's
                    _end(freeze.Row(one.pid, one.started, 0, 0, False))


def _end(row: freeze.Row | None) -> None:
    if row is not None:
        freeze.send(row, signal.SIGKILL)
