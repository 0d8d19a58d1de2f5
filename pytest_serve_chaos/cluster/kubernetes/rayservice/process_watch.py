"""Which processes of Serve run in Ray's containers, as a program in each of them reports, with a head or without."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

from pytest_serve_chaos.cluster.kubernetes import in_pod
from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.process_titles import PATTERN, Part, part_of
from pytest_serve_chaos.errors import ServeChaosError

_LOOK_EVERY = 0.25
"""Seconds between two looks of the program; that a process ended it sees at once."""

_PATIENCE = 20.0
"""Seconds of silence after which the program is restarted; it says something every 5."""

_AGAIN_AFTER = 0.5


@dataclass(frozen=True, slots=True)
class Row:
    """A process of Serve in a container.

    Attributes:
        pid: In the container's own PID namespace, as Ray has it.
        started: Clock ticks since boot; with the PID it names the process for this container.
        part: What it is.
        deployment: ``app#Deployment``, for replicas.
        frozen: Whether it is stopped.
        parent: The PID of its parent.
        command: Its command line.
    """

    pid: int
    started: int
    part: Part
    deployment: str | None
    frozen: bool
    parent: int = 0
    command: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Place:
    """A container in a pod."""

    pod: str
    container: str


class ProcessWatch:
    """The processes in some containers, as last reported. Safe to use from several threads.

    Args:
        api: The Kubernetes API.
    """

    def __init__(self, api: KubeApi) -> None:
        self._api = api
        self._lock = threading.Lock()
        self._followers: dict[str, _Follower] = {}
        self._closed = False

    def rows(self, containers: Mapping[str, Place]) -> dict[str, tuple[Row, ...]]:
        """Container id -> its processes, for those containers that have reported them.

        Args:
            containers: Id -> place of the containers that run now; the others are forgotten.
        """
        with self._lock:
            for container_id in set(self._followers) - set(containers):
                self._followers.pop(container_id).stop()
            if not self._closed:
                for container_id in set(containers) - set(self._followers):
                    self._followers[container_id] = _Follower(self._api, containers[container_id])
            return {key: follower.rows for key, follower in self._followers.items() if follower.rows is not None}

    def close(self) -> None:
        """Stops all programs."""
        with self._lock:
            self._closed = True
            followers = list(self._followers.values())
            self._followers = {}
        for follower in followers:
            follower.stop()
        for follower in followers:
            follower.wait()


class _Follower:
    """One program in one container; it is restarted if it ends too early."""

    def __init__(self, api: KubeApi, place: Place) -> None:
        self.rows: tuple[Row, ...] | None = None
        self._api = api
        self._place = place
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"serve-chaos-in-{place.pod}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()

    def wait(self) -> None:
        self._thread.join(10.0)

    def _run(self) -> None:
        command = ["python", "-c", in_pod.packed("watch_processes"), PATTERN, str(_LOOK_EVERY)]
        while not self._stopped.is_set():
            try:
                for line in self._api.follow(
                    self._place.pod, self._place.container, command, until=self._stopped, patience=_PATIENCE
                ):
                    self.rows = parse(line)
            except (ServeChaosError, ValueError):
                # A container that has just been started takes none yet, and one that ends breaks it off. Nor may an API
                # server that is silent for a moment, or a guard that does not know the pod yet, end the watch.
                pass
            self._stopped.wait(_AGAIN_AFTER)


def parse(line: str) -> tuple[Row, ...]:
    """The rows in a line of the program.

    Raises:
        ValueError: It is not such a line.
    """
    found = []
    for pid, started, state, command, parent in json.loads(line):
        part = part_of(command)
        if part is not None:
            found.append(Row(pid, started, *part, state == "T", parent, command))
    return tuple(found)
