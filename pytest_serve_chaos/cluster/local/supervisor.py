"""Owns Redis and the Ray nodes of one run.

The plan (first line) and commands come on standard input and events go to standard output, as JSON lines; when standard
input closes, everything that it owns ends. It plays the two parts of the kubelet (a node that dies is started again)
and of KubeRay (`operator`).
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import cast

from pytest_serve_chaos import scratch
from pytest_serve_chaos.cluster.local import janitor, layout, processes
from pytest_serve_chaos.cluster.local.haproxy import serve_host, state_directory
from pytest_serve_chaos.cluster.local.layout import Layout
from pytest_serve_chaos.cluster.local.leftovers import OWNER
from pytest_serve_chaos.cluster.local.operator import Operator
from pytest_serve_chaos.cluster.local.plan import HEAD_INDEX, Plan
from pytest_serve_chaos.cluster.local.processes import Process
from pytest_serve_chaos.cluster.local.redis_config import write_redis_config
from pytest_serve_chaos.cluster.local.unit import Unit
from pytest_serve_chaos.cluster.local.units import Units
from pytest_serve_chaos.cluster.rest import Dashboard
from pytest_serve_chaos.cluster.watchdog import Watchdogs
from pytest_serve_chaos.errors import ClusterStartError, CommandFailed, ServeChaosError
from pytest_serve_chaos.locks import FileLock
from pytest_serve_chaos.model import Json
from pytest_serve_chaos.scratch import Scratch

_PR_SET_CHILD_SUBREAPER = 36
_TICK_QUIET = 0.1
_TICK_ENDING = 0.01


class Supervisor:
    """The run's processes, and the loop that keeps them.

    It has a method for each command that the pytest process can send, and one for each step of the loop.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.claim = layout.claim(plan.workers + 1)
        self.layout = self.claim.layout
        self.watchdogs = Watchdogs({processes.MARK: plan.run})
        self._output = threading.Lock()
        self.units = Units(plan, self.layout).by_name
        self.operator = Operator(
            Dashboard(
                f"http://{self.layout.address(HEAD_INDEX)}:{self.layout.dashboard_port}",
                {"Authorization": f"Bearer {plan.secret}"},
            ),
            _with_address(plan, self.layout, plan.serve_config),
            lambda text: self.tell(event="operator", text=text),
        )

    def make_directory(self) -> Scratch:
        """Makes the run's directory, for this user alone. Should all of the run be killed, the next run finds it.

        Raises:
            ClusterStartError: Something has that name already, or nothing can be made there.
        """
        try:
            return scratch.create(Path(self.plan.directory), OWNER, self.plan.run)
        except OSError as error:
            self.claim.lock.release()
            raise ClusterStartError(
                f"the directory of the run cannot be made: {error}", fix=["set TMPDIR to a directory of your own"]
            ) from error

    def fill_directory(self) -> None:
        """Makes what Redis and the nodes need there."""
        directory = Path(self.plan.directory)
        for path in (directory / "flags", directory / "tmp", state_directory(self.plan)):
            path.mkdir(mode=0o700)
        if self.plan.redis_server is not None:
            write_redis_config(self.plan, self.layout)

    def run(self) -> None:
        """Starts all, and serves commands until standard input closes."""
        self.tell(event="ready", slot=self.layout.slot)
        if self.plan.serve_config:
            self.operator.start()
        selector = selectors.DefaultSelector()
        os.set_blocking(sys.stdin.fileno(), False)
        selector.register(sys.stdin, selectors.EVENT_READ)
        buffer = b""
        while True:
            ending = any(unit.state == "ending" for unit in self.units.values())
            if selector.select(_TICK_ENDING if ending else _TICK_QUIET):
                chunk = os.read(sys.stdin.fileno(), 65536)
                if not chunk:
                    return
                *lines, buffer = (buffer + chunk).split(b"\n")
                for line in lines:
                    self._command(json.loads(line))
            self._reap()
            self._advance()

    def close(self) -> None:
        """Ends everything."""
        self.operator.stop()
        for unit in self.units.values():
            for process in unit.members():
                with contextlib.suppress(CommandFailed):  # the others are not to be left for that
                    processes.send(process.identity, signal.SIGKILL)

    def tell(self, **record: object) -> None:
        """Writes one line for the pytest process; if that is gone, nobody needs it."""
        line = json.dumps({**record, "at": time.monotonic()}) + "\n"
        with self._output, contextlib.suppress(BrokenPipeError, ValueError):
            sys.stdout.write(line)
            sys.stdout.flush()

    # -- the loop -----------------------------------------------------------------------------------------------

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, _ = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                for unit in self.units.values():
                    if unit.leader == pid:
                        unit.leader_died()
                        if why := unit.why_it_gave_up():
                            self.tell(event="gave_up", name=unit.name, text=why)

    def _advance(self) -> None:
        for unit in self.units.values():
            before = unit.state
            unit.advance(time.monotonic())
            if unit.state != before:
                self._tell_unit(unit)

    def _tell_unit(self, unit: Unit) -> None:
        leader = processes.read(unit.leader) if unit.state != "down" else None
        identity = str(leader.identity) if leader else None
        self.tell(event="unit", name=unit.name, state=unit.state, session=unit.leader, identity=identity)

    # -- commands -----------------------------------------------------------------------------------------------

    def _command(self, command: dict[str, Json]) -> None:
        number = command.pop("id")
        verbs: dict[str, Callable[..., None]] = {
            "end": self._end,
            "restore": self._restore,
            "freeze": self._freeze,
            "thaw": self._thaw,
            "config": self._config,
        }
        try:
            verbs[str(command.pop("do"))](number, **command)
        except Exception as error:
            self.tell(reply=number, error=f"{type(error).__name__}: {error}")

    def _end(self, number: int, name: str, how: str, hold: bool) -> None:
        unit = self.units[name]
        asked = time.monotonic()

        def ended(killed: dict[int, Process]) -> None:
            victims = [{**asdict(p), "identity": str(p.identity)} for p in killed.values()]
            self.tell(reply=number, asked=asked, killed=victims)

        if unit.state == "down":
            unit.hold = hold
            if hold:
                unit.start_at = float("inf")
            self.tell(reply=number, asked=asked, killed=[])
            return
        unit.ended = ended
        unit.end("stop" if how == "stop" else "kill", hold=hold, grace=self.plan.termination_grace)
        self._tell_unit(unit)

    def _restore(self, number: int, name: str) -> None:
        self.units[name].release(time.monotonic())
        self.tell(reply=number)

    def _freeze(self, number: int, name: str, lasts: float | None) -> None:
        claim = self.units[name].claim()
        if claim is not None:
            self.watchdogs.watch(claim, lasts)
        stopped = self.units[name].freeze()
        states = [{"identity": str(p.identity), "state": p.state, "command": p.command} for p in stopped]
        self.tell(reply=number, processes=states)

    def _thaw(self, number: int, name: str) -> None:
        self.units[name].thaw()
        claim = self.units[name].claim()
        if claim is not None:
            self.watchdogs.end(claim)
        self.tell(reply=number)

    def _config(self, number: int, config: dict[str, Json]) -> None:
        self.operator.replace(_with_address(self.plan, self.layout, config))
        self.tell(reply=number)


def _with_address(plan: Plan, layout: Layout, config: dict[str, Json]) -> dict[str, Json]:
    """The Serve config with the address of this run."""
    options = cast("dict[str, Json]", config.get("http_options") or {})
    address: dict[str, Json] = {"host": serve_host(plan, layout), "port": layout.serve_port}
    return {**config, "http_options": {**options, **address}}


def _start_janitor(plan: Plan, lock: FileLock, directory: Scratch) -> int:
    """Starts the process that cleans up after this one; returns the pipe whose end it waits for."""
    reading, writing = os.pipe()
    subprocess.Popen(
        [sys.executable, "-m", janitor.__name__, plan.run, plan.directory, str(lock.path)],
        stdin=reading,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(lock.descriptor, directory.descriptor),  # ports and directory stay ours until all is clean
        start_new_session=True,
        env={k: v for k, v in os.environ.items() if k != processes.MARK},
    )
    os.close(reading)
    return writing


def main() -> None:
    """Runs the supervisor until standard input closes."""
    plan = Plan.parse(sys.stdin.readline())
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        sys.exit("prctl(PR_SET_CHILD_SUBREAPER) failed")
    try:
        supervisor = Supervisor(plan)
        directory = supervisor.make_directory()
    except ServeChaosError as error:
        print(json.dumps({"event": "refused", "text": str(error)}), flush=True)
        return
    _start_janitor(plan, supervisor.claim.lock, directory)
    try:
        supervisor.fill_directory()
        supervisor.run()
    finally:
        supervisor.close()


if __name__ == "__main__":
    main()
