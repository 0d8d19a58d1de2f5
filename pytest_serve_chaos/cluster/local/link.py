"""The pytest process' end of the supervisor: commands with answers, and what it reports about its units."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, cast

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.cluster.local.plan import Plan
from pytest_serve_chaos.cluster.local.reported import Reported, UnitState
from pytest_serve_chaos.errors import ClusterError, ClusterStartError, CommandFailed, in_one_line
from pytest_serve_chaos.json_text import read_json
from pytest_serve_chaos.model import Json


class SupervisorLink:
    """Starts a supervisor and talks to it.

    Args:
        plan: What it runs.
        log: Where its own messages go.
        on_text: Called with lines for people.
    """

    def __init__(self, plan: Plan, log: Path, on_text: Callable[[str], None]) -> None:
        self.directory = Path(plan.directory)
        self._on_text = on_text
        self._log = log
        self._lock = threading.Lock()
        self._number = 0
        self._reported = Reported()
        self._deaf = ""
        self._process = _spawn(log)
        self._reader = threading.Thread(target=self._read, name="serve-chaos-supervisor", daemon=True)
        self._reader.start()
        self._send(plan.line())

    @property
    def pid(self) -> int:
        """The supervisor's PID."""
        return self._process.pid

    def first_processes(self) -> tuple[int, ...]:
        """The supervisor's PID: below it are Redis and all Ray nodes. Has the capability `OnThisMachine`."""
        return (self.pid,)

    def wait_for_slot(self, timeout: float) -> int:
        """Waits for the supervisor to take a block of ports.

        Raises:
            ClusterStartError: It found none, or did not start.
        """

        def slot() -> int | NotYet:
            if self._reported.refusal is not None:
                raise ClusterStartError(self._reported.refusal)
            self.check_alive()
            return NotYet("it has said nothing yet") if self._reported.slot is None else self._reported.slot

        return clock.wait_until("the supervisor to start", slot, timeout=timeout, interval=0.02)

    def units(self) -> dict[str, UnitState]:
        """The last reported state of each unit."""
        return self._reported.units()

    def sessions(self) -> dict[int, str]:
        """Session id -> name, of every session that may have processes."""
        return self._reported.sessions()

    def failed_starts(self, since: float) -> tuple[str, ...]:
        """Each node whose `ray start` has given up since then, in words. Has the capability `ShowsFailedStarts`."""
        return self._reported.failed_starts(since)

    def command(self, verb: str, *, timeout: float = 30.0, **arguments: Json) -> dict[str, Json]:
        """Sends a command and waits for its answer.

        Raises:
            CommandFailed: It was refused.
            ClusterError: The supervisor is gone.
        """
        with self._lock:
            self._number += 1
            number = self._number
        shown = " ".join((verb, *(f"{key}={value}" for key, value in arguments.items() if not isinstance(value, dict))))
        self._send(json.dumps({"id": number, "do": verb, **arguments}) + "\n")

        def reply() -> dict[str, Json] | NotYet:
            answer = self._reported.reply(number)
            if answer is not None:
                return answer
            self.check_alive()
            return NotYet(f"no answer to {shown}")

        answer = clock.wait_until(f"the supervisor to {verb}", reply, timeout=timeout, interval=0.005)
        if "error" in answer:
            raise CommandFailed(f"the supervisor refused {shown}: {answer['error']}")
        return answer

    def check_alive(self) -> None:
        """Raises `ClusterError` if the supervisor is gone."""
        if self._process.poll() is not None and not self._reader.is_alive():
            raise ClusterError(
                f"the supervisor of the local cluster ended with status {self._process.returncode}",
                checked=[f"its log {self._log}: {_end_of(self._log)}"],
                fix=["nothing of the cluster is left; run again"],
            )

    def close(self, timeout: float = 10.0) -> None:
        """Ends the supervisor and waits until its directory is gone, which is the last thing to go."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            with self._lock:
                self._process.stdin.close()
        self._process.wait(timeout)
        self._reader.join(timeout)
        if self._process.stdout is not None:
            self._process.stdout.close()
        clock.wait_until(
            "the run's directory to be removed",
            lambda: NotYet(f"{self.directory} is there") if self.directory.exists() else True,
            timeout=timeout,
            interval=0.02,
            fix=[
                f"let this user remove what is in {self.directory.parent}; the next run, or `serve-chaos undo`, does so"
            ],
        )

    def _send(self, line: str) -> None:
        assert self._process.stdin is not None
        try:
            with self._lock:
                self._process.stdin.write(line.encode())
                self._process.stdin.flush()
        except (BrokenPipeError, ValueError):
            self._reader.join(2.0)
            self.check_alive()
            raise ClusterError("the supervisor takes no commands any more") from None

    def _read(self) -> None:
        try:
            for line in cast("IO[bytes]", self._process.stdout):
                self._hear(line)
        except BaseException as error:
            self._deaf = in_one_line(error)

    def _hear(self, line: bytes) -> None:
        """Takes one line. One that makes no sense is named in the log of its messages, and changes nothing."""
        try:
            record = read_json(line)
            if not isinstance(record, dict):
                raise ValueError("it is not an object")
            self._reported.take(record)
            if record.get("event") == "operator":
                self._on_text(str(record["text"]))
        except Exception as error:
            with contextlib.suppress(OSError), self._log.open("a", encoding="utf-8") as log:
                log.write(f"a line of the supervisor makes no sense: {in_one_line(error)}: {line[:200]!r}\n")

    def dead_watches(self) -> tuple[str, ...]:
        """Why it hears the supervisor no more, in words. Has the capability `Watches`."""
        if self._deaf:
            return (f"the thread {self._reader.name} ended: {self._deaf}",)
        stdin, status = self._process.stdin, self._process.poll()
        if status is None or self._reader.is_alive() or stdin is None or stdin.closed:
            return ()
        return (f"the supervisor of the local cluster ended with status {status}, and the cluster with it",)


def _spawn(log: Path) -> subprocess.Popen[bytes]:
    # Not by import: the supervisor is a program of its own.
    log.parent.mkdir(parents=True, exist_ok=True)
    package = str(Path(__file__).resolve().parents[3])
    path = os.pathsep.join(p for p in (package, os.environ.get("PYTHONPATH", "")) if p)
    with log.open("ab") as errors:
        return subprocess.Popen(
            [sys.executable, "-m", "pytest_serve_chaos.cluster.local.supervisor"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,  # Ctrl-C is for pytest, which then closes the pipe
            env={**os.environ, "PYTHONPATH": path},
        )


def _end_of(log: Path) -> str:
    try:
        return log.read_text(errors="replace")[-500:].strip() or "empty"
    except OSError as error:
        return str(error)
