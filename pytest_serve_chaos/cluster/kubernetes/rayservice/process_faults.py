"""Faults of single processes: signals, what `ray.kill` does to actors, and health checks that fail."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from signal import SIGCONT, SIGSTOP
from typing import Literal, TypeAlias

from pytest_serve_chaos import clock
from pytest_serve_chaos.cluster.kubernetes import in_pod, names
from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.rayservice.pods import RayPods
from pytest_serve_chaos.cluster.kubernetes.rayservice.programs import freeze_program, output_of, run_program
from pytest_serve_chaos.cluster.rest import Dashboard
from pytest_serve_chaos.cluster.watchdog import expiry
from pytest_serve_chaos.errors import CommandFailed, NoSuchTarget, Unsupported
from pytest_serve_chaos.model import HEAD, Component, Identity

ToContainer: TypeAlias = Callable[[Identity, int, float | None], None]
"""Sends a signal to the first process of a container; for SIGSTOP with the seconds that it is to stand still."""


def _not_from_inside(identity: Identity, signal: int, lasts: float | None) -> None:
    del signal, lasts
    raise Unsupported(
        f"{identity} is the first process of its container, which takes no signal from inside",
        fix=["take a backend with access to the nodes: kind"],
    )


class ProcessSignals:
    """Sends signals to processes in pods. Has the capability `SignalsProcesses`.

    Args:
        api: The Kubernetes API.
        pods: The pods.
        to_container: Sends one to the first process of a container; by default that is refused.
    """

    def __init__(self, api: KubeApi, pods: RayPods, to_container: ToContainer = _not_from_inside) -> None:
        self._api = api
        self._pods = pods
        self._to_container = to_container

    def signal_process(self, identity: Identity, signal: int, *, lasts: float | None = None) -> None:
        """Sends the signal to that very process, by a program in its container that checks PID and start time.

        Args:
            identity: The process.
            signal: The signal's number.
            lasts: For SIGSTOP: seconds that it is to stand still. A watchdog in the container resumes it soon after.

        Raises:
            NoSuchTarget: The process is gone, or its PID belongs to another one now.
            Unsupported: It is the first process of a container, which cannot be signalled from inside.
            CommandFailed: The program could not be run.
        """
        if identity.kind == "container":
            self._to_container(identity, signal, lasts)
            return
        pod = self._pods.with_process(identity)
        pid, started = identity.parts[2:4]
        result = run_program(self._api, pod, *signal_program(pid, started, signal, lasts=lasts))
        if result.returncode == in_pod.GONE:
            raise NoSuchTarget(f"{identity} is gone", checked=[f"/proc/{pid}/stat in pod {pod.name}"])
        if result.returncode != 0:
            raise CommandFailed(f"{identity} could not be signalled", checked=[result.stderr.strip()[-600:]])


def signal_program(pid: str, started: str, number: int, *, lasts: float | None) -> tuple[str, ...]:
    """The program that sends a signal to a process of its container, and its arguments."""
    if number == SIGSTOP:
        return freeze_program("stop", f"{pid}:{started}", lasts=lasts)
    if number == SIGCONT:
        return freeze_program("go", f"{pid}:{started}")
    return ("signal_process", pid, started, str(int(number)))


class ActorKills:
    """Does what `ray.kill` does, by a program in the head pod. Has the capability `KillsActors`.

    Args:
        api: The Kubernetes API.
        pods: The pods.
        dashboard: The dashboard of the head.
    """

    def __init__(self, api: KubeApi, pods: RayPods, dashboard: Dashboard) -> None:
        self._api = api
        self._pods = pods
        self._dashboard = dashboard

    def kill_actor(self, actor_id: str, *, no_restart: bool) -> float:
        """Kills an actor; Ray's dashboard has no call for it.

        Returns:
            When it was killed, monotonic seconds; where that cannot be known exactly, a little earlier.

        Raises:
            NoSuchTarget: The GCS knows no such actor that is not DEAD.
            CommandFailed: It could not be killed.
            ObservationError: There is no head to ask.
        """
        name = next((row.name for row in self._dashboard.actors() if row.actor_id == actor_id), "")
        if not name:
            raise NoSuchTarget(f"there is no actor {actor_id} that has a name", checked=[self._dashboard.url])
        restart = "no_restart" if no_restart else "restart"
        head = self._pods.running(HEAD)
        started = clock.now()
        output = output_of(self._api, head, "kill_actor", actor_id, name, names.SERVE_NAMESPACE, restart)
        try:
            return in_pod.moment(output, started)
        except ValueError as error:
            raise CommandFailed(f"it is unknown when {name} was killed: {error}") from error


class HealthFlags:
    """Sets flags in the containers of replicas. Has the capability `SetsHealthFlags`.

    Args:
        api: The Kubernetes API.
        pods: The pods.
    """

    def __init__(self, api: KubeApi, pods: RayPods) -> None:
        self._api = api
        self._pods = pods

    def set_health_flag(
        self, replica: Component, mode: Literal["raise", "hang"], *, lasts: float | None = None
    ) -> None:
        """Writes the flag that the replica's health check reads, in its own container.

        Args:
            replica: The replica.
            mode: What its check does.
            lasts: Seconds that it is to do so; soon after them the flag means nothing any more.

        Raises:
            NoSuchTarget: The replica's container is gone.
            Unsupported: Its container has no directory for flags.
            CommandFailed: It could not be written.
        """
        started = replica.identity.parts[3:4] if replica.identity.kind == "process" else ()
        self._flag(replica, mode, f"{expiry(lasts):g}", *started)

    def clear_health_flag(self, replica: Component) -> None:
        """Takes the flag away; with its container it went anyway."""
        with contextlib.suppress(NoSuchTarget):
            self._flag(replica, "")

    def _flag(self, replica: Component, mode: str, *details: str) -> None:
        pod = self._pods.with_process(replica.identity)
        result = run_program(self._api, pod, "set_flag", str(replica.pid), mode, *details)
        if result.returncode == in_pod.GONE:
            raise NoSuchTarget(f"{replica.name} is gone", checked=[f"/proc/{replica.pid}/stat in pod {pod.name}"])
        if result.returncode == in_pod.NO_DIRECTORY:
            raise Unsupported(
                f"pod {pod.name} has no directory for health flags",
                fix=[f"set the environment variable {names.FLAGS_VARIABLE} in the Ray containers"],
            )
        if result.returncode != 0:
            raise CommandFailed(f"no flag could be set in pod {pod.name}", checked=[result.stderr.strip()[-600:]])
