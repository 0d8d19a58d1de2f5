"""Which processes of Serve run in Ray's containers, as a program in each of them reports, with a head or without."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

from pytest_serve_chaos import clock
from pytest_serve_chaos.cluster.kubernetes import in_pod
from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.process_titles import PATTERN, Part, part_of
from pytest_serve_chaos.errors import ObservationError
from pytest_serve_chaos.json_text import read_json
from pytest_serve_chaos.model import Json
from pytest_serve_chaos.watch_thread import WatchThread

_LOOK_EVERY = 0.25
"""Seconds between two looks of the program; that a process ended it sees at once."""

_PATIENCE = 20.0
"""Seconds of silence after which the program is restarted; it says something every 5."""

_SILENT = 2 * _PATIENCE
"""Seconds without a report after which nobody knows what runs in a container."""

_AGAIN_AFTER = 0.5

_ENOUGH_NONSENSE = 3
"""Reports in a row that make no sense, after which what was reported before counts no more."""


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
    """A container in a pod.

    Attributes:
        pod: The pod's name.
        container: The container's.
        uid: Which pod of that name it is.
    """

    pod: str
    container: str
    uid: str


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

        Raises:
            ObservationError: The reports of one are nonsense, so that nobody knows what runs in it.
        """
        with self._lock:
            for container_id in set(self._followers) - set(containers):
                self._followers.pop(container_id).stop()
            if not self._closed:
                for container_id in set(containers) - set(self._followers):
                    self._followers[container_id] = _Follower(self._api, containers[container_id])
            odd = next((follower.odd for follower in self._followers.values() if follower.odd), "")
            if odd:
                raise ObservationError(odd)
            return {key: follower.rows for key, follower in self._followers.items() if follower.rows is not None}

    def silent(self) -> tuple[str, ...]:
        """The containers of which nobody knows what runs in them now, in words."""
        with self._lock:
            ages = {follower.pod: follower.silence for follower in self._followers.values()}
        return tuple(
            f"pod {pod} has not reported its processes for {age:.0f} s"
            for pod, age in sorted(ages.items())
            if age > _SILENT
        )

    @property
    def dead(self) -> tuple[str, ...]:
        """Which of its threads ended although nobody stopped them, in words."""
        with self._lock:
            return tuple(why for follower in self._followers.values() if (why := follower.dead))

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
    """One program in one container; it is restarted if it ends too early.

    Attributes:
        rows: What it reported last; None: nothing yet.
        odd: What is wrong with its reports, in words; "" if nothing is.
    """

    def __init__(self, api: KubeApi, place: Place) -> None:
        self.rows: tuple[Row, ...] | None = None
        self.odd = ""
        self._nonsense = 0
        self._heard = clock.now()
        self._api = api
        self._place = place
        # A container that has just been started takes no program yet, and one that ends breaks it off. Nor may an API
        # server that is silent for a moment, or a guard that does not know the pod yet, end the watch.
        self._thread = WatchThread(f"serve-chaos-in-{place.pod}", self._turn, again_after=_AGAIN_AFTER)
        self._thread.start()

    @property
    def pod(self) -> str:
        return self._place.pod

    @property
    def silence(self) -> float:
        """Seconds since its last report, or since it began."""
        return clock.now() - self._heard

    @property
    def dead(self) -> str:
        return self._thread.dead

    def stop(self) -> None:
        self._thread.stopped.set()

    def wait(self) -> None:
        self._thread.join(10.0)

    def _turn(self) -> float:
        place, stopped = self._place, self._thread.stopped
        command = in_pod.command("watch_processes", place.uid, PATTERN, str(_LOOK_EVERY))
        for line in self._api.follow(place.pod, place.container, command, until=stopped, patience=_PATIENCE):
            self.rows, self._heard = self._parsed(line), clock.now()
        return _AGAIN_AFTER

    def _parsed(self, line: str) -> tuple[Row, ...]:
        try:
            rows = parse(line)
        except ValueError as error:
            self._nonsense += 1  # one line may have been cut where the connection broke
            if self._nonsense >= _ENOUGH_NONSENSE:
                self.odd = f"the program that watches processes in pod {self._place.pod} reports nonsense: {error}"
            raise
        self._nonsense, self.odd = 0, ""
        return rows


def parse(line: str) -> tuple[Row, ...]:
    """The rows in a line of the program.

    Raises:
        ValueError: It is not such a line.
    """
    rows = read_json(line)
    if not isinstance(rows, list):
        raise ValueError(f"{line:.80} is not a list")
    return tuple(found for row in rows if (found := _row(row)) is not None)


def _row(row: Json) -> Row | None:
    """A process, if it is one of Serve's."""
    match row:
        case [int(pid), int(started), str(state), str(command), int(parent)]:
            part = part_of(command)
            return None if part is None else Row(pid, started, *part, state == "T", parent, command)
    raise ValueError(f"{row!r:.80} is not a process")
