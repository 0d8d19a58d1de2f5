"""The pods of a namespace as the API server tells of them: a watch, which costs it nothing while nothing changes."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from pytest_serve_chaos import clock
from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.client.records import Pod, listed, mapped, pod, text
from pytest_serve_chaos.errors import ObservationError, in_one_line
from pytest_serve_chaos.model import Json
from pytest_serve_chaos.watch_thread import WatchThread

_TURN = 2
"""Seconds that one request watches; the next goes on where it ended, so that the watch can end soon."""

_STALE = 6.0
"""Seconds without a word from the API server, after which what it said last counts no more."""

_AGAIN_AFTER = 0.5


class PodWatch:
    """The pods that are there. Safe to use from several threads.

    Args:
        api: The Kubernetes API, in the namespace to watch.

    Raises:
        CommandFailed: The API server refused.
    """

    def __init__(self, api: KubeApi) -> None:
        self._api = api
        self._lock = threading.Lock()
        self._pods: dict[str, Pod] = {}
        self._gone: dict[str, float] = {}
        self._version = ""
        self._heard = 0.0
        self._trouble = ""
        self._list()
        self._thread = WatchThread("serve-chaos-pods", self._turn, again_after=_AGAIN_AFTER, met=self._failed)
        self._thread.start()

    def pods(self, labels: Mapping[str, str]) -> tuple[Pod, ...]:
        """The pods that carry these labels, oldest first.

        Raises:
            ObservationError: The API server has said nothing for some time.
        """
        with self._lock:
            if clock.now() - self._heard > _STALE:
                raise ObservationError(f"the API server says nothing about pods: {self._trouble or 'no answer'}")
            found = [p for p in self._pods.values() if labels.items() <= p.labels.items()]
        return tuple(sorted(found, key=lambda p: (p.created, p.name)))

    def gone(self, uid: str) -> float | None:
        """When the API server said that the pod with this UID, which was there, is gone; None: it has not said so.

        It says so with the event of its deletion, or with a list that lacks a pod which was there before.
        """
        with self._lock:
            return self._gone.get(uid)

    def close(self) -> None:
        """Ends the watch."""
        self._thread.stopped.set()
        self._thread.join(_TURN + 10.0)

    @property
    def dead(self) -> tuple[str, ...]:
        """Why its thread ended although nobody stopped it, in words."""
        return tuple(filter(None, (self._thread.dead,)))

    def _turn(self) -> float:
        if not self._version:
            self._list()
        for event in self._api.pod_changes.since(self._version, seconds=_TURN):
            self._take(event)
        with self._lock:
            self._heard = clock.now()
        return 0.0

    def _failed(self, error: Exception) -> None:
        self._trouble = in_one_line(error)
        self._version = ""  # events may have been missed: begin again

    def _list(self) -> None:
        answer = self._api.pod_changes.all()
        found = [pod(item) for item in listed(answer.get("items"))]
        with self._lock:
            self._heard = clock.now()
            before, self._pods = self._pods, {p.uid: p for p in found}
            self._gone |= dict.fromkeys(before.keys() - self._pods.keys(), self._heard)
            self._version = text(mapped(answer.get("metadata")), "resourceVersion")

    def _take(self, event: Mapping[str, Json]) -> None:
        kind, item = text(event, "type"), mapped(event.get("object"))
        if kind == "ERROR":
            raise ObservationError(f"the watch of pods ended: {text(item, 'message')}")
        with self._lock:
            self._heard = clock.now()
            self._version = text(mapped(item.get("metadata")), "resourceVersion") or self._version
            if kind in ("ADDED", "MODIFIED"):
                seen = pod(item)
                self._pods[seen.uid] = seen
            elif kind == "DELETED":
                uid = pod(item).uid
                self._pods.pop(uid, None)
                self._gone[uid] = self._heard
