"""What the processes in Ray's containers use, as a program in each of them reports it while it is asked."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence

from pytest_serve_chaos import clock
from pytest_serve_chaos.cluster.haproxy import Generation
from pytest_serve_chaos.cluster.kubernetes import in_pod
from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.rayservice.pods import RayPods
from pytest_serve_chaos.cluster.kubernetes.rayservice.process_watch import Place
from pytest_serve_chaos.cluster.process_titles import PATTERN
from pytest_serve_chaos.cluster.watched import watched
from pytest_serve_chaos.json_text import read_json
from pytest_serve_chaos.model import Component, Json
from pytest_serve_chaos.usage import ProcessUsage
from pytest_serve_chaos.watch_thread import WatchThread

_LOOK_EVERY = 1.0
"""Seconds between two looks of the program: to start one for each look would cost the pods a tenth of a processor."""

_PATIENCE = 20.0
"""Seconds of silence after which the program is restarted."""

_AGAIN_AFTER = 0.5

_UNASKED = 900.0
"""Seconds after which a program is ended for whose figures nobody has asked. Two looks are as far apart if processes
are watched for 30 hours."""

_FIGURES = 5

Key = tuple[str, ...]
"""Pod UID, container id, PID and start time: the parts of a process's identity."""


class PodUsage:
    """Reads what processes in pods use. Has the capability `ShowsUsage`.

    Args:
        api: The Kubernetes API.
        pods: The pods.
        haproxies: Returns the HAProxy processes that were seen last.
    """

    def __init__(self, api: KubeApi, pods: RayPods, haproxies: Callable[[], Sequence[Generation]]) -> None:
        self._api = api
        self._pods = pods
        self._haproxies = haproxies
        self._lock = threading.Lock()
        self._programs: dict[str, _Program] = {}
        self._closed = False

    def usage(self, components: Sequence[Component]) -> tuple[ProcessUsage, ...]:
        """What these used when their container last reported it, those of HAProxy too.

        The first call starts the programs, so it knows nothing yet.

        Raises:
            ObservationError: The API server does not say which pods there are.
        """
        rows = self._rows()
        return tuple(
            ProcessUsage(place, identity, pid, int(memory), processor, int(descriptors), int(threads), int(sockets))
            for place, identity, pid in watched(components, self._haproxies())
            if (found := rows.get(identity.parts)) is not None
            for memory, processor, descriptors, threads, sockets in (found,)
        )

    def close(self) -> None:
        """Ends all programs."""
        with self._lock:
            self._closed = True
            programs, self._programs = list(self._programs.values()), {}
        for program in programs:
            program.stop()

    def _rows(self) -> dict[Key, Sequence[float]]:
        """What all processes use."""
        there = {
            container.id: (pod, container)
            for _, pod, container in self._pods.live_named()
            if not pod.shares_processes  # it could see those of others
        }
        with self._lock:
            for gone in [key for key, program in self._programs.items() if key not in there or program.over]:
                self._programs.pop(gone).stop()
            found: dict[Key, Sequence[float]] = {}
            for key, (pod, container) in there.items():
                if key not in self._programs and not self._closed:
                    self._programs[key] = _Program(self._api, Place(pod.name, container.name, pod.uid))
                rows = self._programs[key].rows() if key in self._programs else {}
                found |= {(pod.uid, key[:12], *process): figures for process, figures in rows.items()}
            return found


class _Program:
    """One program in one container; it is restarted if it ends too early."""

    def __init__(self, api: KubeApi, place: Place) -> None:
        self._api = api
        self._place = place
        self._asked = clock.now()
        self._rows: Mapping[tuple[str, str], Sequence[float]] = {}
        self._thread = WatchThread(f"serve-chaos-usage-in-{place.pod}", self._turn, again_after=_AGAIN_AFTER)
        self._thread.start()

    def rows(self) -> Mapping[tuple[str, str], Sequence[float]]:
        """PID and start time -> what the process uses, as last reported; empty if nothing is known."""
        self._asked = clock.now()
        return self._rows

    def stop(self) -> None:
        """Ends it."""
        self._thread.stopped.set()

    @property
    def over(self) -> bool:
        """Whether it has ended, because nobody asked."""
        return self._thread.stopped.is_set()

    def _turn(self) -> float:
        place, stopped = self._place, self._thread.stopped
        command = in_pod.command("watch_usage", place.uid, PATTERN, str(_LOOK_EVERY))
        try:
            for line in self._api.follow(place.pod, place.container, command, until=stopped, patience=_PATIENCE):
                self._rows = parse(line)
                self._stop_unasked()
        finally:
            self._rows = {}  # what was so a while ago would look like processes that do nothing
            self._stop_unasked()
        return _AGAIN_AFTER

    def _stop_unasked(self) -> None:
        if clock.now() - self._asked > _UNASKED:
            self.stop()


def parse(line: str) -> dict[tuple[str, str], Sequence[float]]:
    """The rows in a line of the program: PID and start time -> memory, processor, descriptors, threads, sockets.

    Raises:
        ValueError: It is not such a line.
    """
    rows = read_json(line)
    if not isinstance(rows, list):
        raise ValueError(f"{line:.80} is not a list")
    return dict(map(_row, rows))


def _row(row: Json) -> tuple[tuple[str, str], Sequence[float]]:
    match row:
        case [int(pid), int(started), *figures] if len(figures) == _FIGURES:
            known = [float(one) for one in figures if isinstance(one, (int, float)) and not isinstance(one, bool)]
            if len(known) == _FIGURES:
                return (str(pid), str(started)), known
    raise ValueError(f"{row!r:.80} is not what a process uses")
