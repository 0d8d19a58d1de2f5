"""Faults of single processes: signals, what `ray.kill` does to actors, and health checks that fail."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP
from typing import Literal

from pytest_serve_chaos.cluster.json_fields import Fields
from pytest_serve_chaos.cluster.local import processes
from pytest_serve_chaos.cluster.local.commands import client_environment
from pytest_serve_chaos.cluster.local.layout import Layout
from pytest_serve_chaos.cluster.local.link import SupervisorLink
from pytest_serve_chaos.cluster.local.plan import Plan
from pytest_serve_chaos.cluster.rest import Dashboard
from pytest_serve_chaos.cluster.watchdog import Watchdogs, deadline, expiry
from pytest_serve_chaos.errors import CommandFailed, NoSuchTarget, ObservationError
from pytest_serve_chaos.json_text import read_json
from pytest_serve_chaos.model import Component, Identity


class ProcessSignals:
    """Sends signals to processes of the cluster. Has the capability `SignalsProcesses`.

    Args:
        link: Knows the cluster's sessions.
        watchdogs: They resume what is stopped, if nobody else does.
    """

    def __init__(self, link: SupervisorLink, watchdogs: Watchdogs) -> None:
        self._link = link
        self._watchdogs = watchdogs
        self._stopped: set[Identity] = set()

    def signal_process(self, identity: Identity, signal: int, *, lasts: float | None = None) -> None:
        """Sends the signal to that very process of this cluster.

        Args:
            identity: The process.
            signal: The signal's number.
            lasts: For SIGSTOP: seconds that it is to stand still.

        Raises:
            NoSuchTarget: The process is gone, its PID belongs to another one now, or it is not of this cluster.
            CommandFailed: Nothing could be started that would resume it; it was not stopped.
        """
        pid = int(identity.parts[1])
        # What was stopped goes on, also where it has lost its parent meanwhile, by which it was known to be ours.
        if identity not in self._stopped and not self._is_ours(pid):
            raise NoSuchTarget(f"{identity} does not belong to this cluster")
        claim = f"{pid}:{identity.parts[2]}"
        if signal == SIGSTOP:
            self._watchdogs.watch(claim, lasts)  # first: from then on somebody resumes it whatever happens
            self._stopped.add(identity)
        sent = processes.send(identity, signal)
        if signal in (SIGCONT, SIGKILL) or not sent:
            self._watchdogs.end(claim)
        if not sent:
            raise NoSuchTarget(f"{identity} is gone", checked=[f"/proc/{pid}/stat"])

    def _is_ours(self, pid: int) -> bool:
        """Whether it, or one of those that started it, is in a session of the cluster; true of one that is gone."""
        sessions = self._link.sessions()
        while pid > 1:
            try:
                if os.getsid(pid) in sessions:
                    return True
            except ProcessLookupError:
                return True
            process = processes.read(pid)
            pid = 0 if process is None else process.parent
        return False


class ActorKills:
    """Does what `ray.kill` does, by a program of its own. Has the capability `KillsActors`.

    Args:
        plan: What the supervisor runs.
        layout: Its addresses and ports.
        dashboard: The dashboard of the head.
    """

    def __init__(self, plan: Plan, layout: Layout, dashboard: Dashboard) -> None:
        self._plan = plan
        self._layout = layout
        self._dashboard = dashboard

    def kill_actor(self, actor_id: str, *, no_restart: bool) -> float:
        """Kills an actor of Serve.

        Returns:
            When it was killed, monotonic seconds.

        Raises:
            NoSuchTarget: The GCS knows no such actor that is not DEAD.
            CommandFailed: It could not be killed.
            ObservationError: There is no head to ask.
        """
        name = next((a.name for a in self._dashboard.actors() if a.actor_id == actor_id), None)
        if name is None:
            raise NoSuchTarget(f"there is no actor {actor_id}", checked=["the state API's actors that are not DEAD"])
        module = "pytest_serve_chaos.cluster.local.programs.kill_actor"
        log = Path(self._plan.directory) / "programs.log"
        with log.open("ab") as errors:
            done = subprocess.run(
                [sys.executable, "-m", module, name, "no_restart" if no_restart else "restart"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
                env=client_environment(self._plan, self._layout),
                timeout=60,
                check=False,
            )
        if done.returncode != 0:
            raise CommandFailed(
                f"ray.kill of {name} failed with status {done.returncode}", checked=[log.read_text()[-800:]]
            )
        try:
            return Fields.of(read_json(done.stdout), "what the program said").seconds("asked")
        except (ValueError, ObservationError) as error:
            raise CommandFailed(f"it is unknown when {name} was killed: {error}") from error


class HealthFlags:
    """Sets flags for replicas. Has the capability `SetsHealthFlags`.

    Args:
        directory: Where the apps look for flags: a file for each PID.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def set_health_flag(
        self, replica: Component, mode: Literal["raise", "hang"], *, lasts: float | None = None
    ) -> None:
        """Writes the flag that the replica's health check reads, and before it until when it counts."""
        flag = self._flag(replica)
        flag.with_suffix(".until").write_text(f"{deadline(expiry(lasts)):.1f}")
        flag.write_text(mode)

    def clear_health_flag(self, replica: Component) -> None:
        """Removes the flag."""
        self._flag(replica).unlink(missing_ok=True)
        self._flag(replica).with_suffix(".until").unlink(missing_ok=True)

    def _flag(self, replica: Component) -> Path:
        return self._directory / str(replica.pid)
