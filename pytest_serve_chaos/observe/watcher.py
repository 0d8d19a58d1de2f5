"""Samples the topology through an experiment and writes to the history when each thing went, came or was replaced."""

from __future__ import annotations

import threading

from pytest_serve_chaos import clock
from pytest_serve_chaos.errors import ServeChaosError
from pytest_serve_chaos.history import History
from pytest_serve_chaos.model import Component, Identity, Json, Topology
from pytest_serve_chaos.observe.observer import Observer, Report

_LOOK_EVERY = 0.2
_ASK_EVERY = 1.0


class Watcher:
    """Two threads: one looks at processes or pods, the other asks Ray and Serve, which may hang.

    Args:
        observer: What it looks through.
        history: Where it writes what it sees.
    """

    def __init__(self, observer: Observer, history: History) -> None:
        self.observer = observer
        self._history = history
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._one_look = threading.Lock()
        self._experiment = ""
        self._topology = observer.look()
        self._gone: dict[Identity, Component] = {}
        self._trouble = ""
        self._threads = [
            threading.Thread(target=self._look, name="serve-chaos-look", daemon=True),
            threading.Thread(target=self._ask, name="serve-chaos-ask", daemon=True),
        ]

    def start(self) -> None:
        """Begins to watch."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Ends the watch."""
        self._stop.set()
        for thread in self._threads:
            thread.join(10.0)

    def belongs_to(self, experiment: str) -> None:
        """From now on the events belong to that experiment."""
        with self._lock:
            self._experiment = experiment
            self._gone = {}

    @property
    def topology(self) -> Topology:
        """The last sample."""
        with self._lock:
            return self._topology

    @property
    def report(self) -> Report:
        """The last that Ray and Serve said."""
        return self.observer.report

    @property
    def gone(self) -> frozenset[Identity]:
        """Who went since the experiment began."""
        with self._lock:
            return frozenset(self._gone)

    @property
    def trouble(self) -> str:
        """Why the last look failed; empty if it did not."""
        return self._trouble

    def sample(self) -> Topology:
        """Looks now."""
        with self._one_look:  # so that samples are compared in the order in which they were taken
            topology = self.observer.look()
            with self._lock:
                before, self._topology = self._topology, topology
                experiment = self._experiment
                lost, found = _changes(before, topology)
                self._gone |= {component.identity: component for component in lost}
            for component in lost:
                self._write("gone", component, topology.at, experiment)
            for component in found:
                self._write("came", component, topology.at, experiment)
        return topology

    def _write(self, kind: str, component: Component, at: float, experiment: str) -> None:
        data: dict[str, Json] = {
            "role": component.role,
            "node": component.node,
            "identity": str(component.identity),
            "pid": component.pid,
            "actor_id": component.actor_id,
        }
        if component.role in ("head", "worker", "redis"):
            data["machine"] = component.machine
        verb = "is gone" if kind == "gone" else "is there"
        # A pod has no PID, and its successor, which has the same name here, may be on another machine.
        which = f"PID {component.pid}" if component.machine is None else f"on {component.machine}"
        text = f"{component.name} {verb} ({which})"
        self._history.add(kind, text, at=at, experiment=experiment, data=data)

    def _look(self) -> None:
        while not self._stop.wait(_LOOK_EVERY):
            try:
                self.sample()
                self._trouble = ""
            except (ServeChaosError, OSError) as error:
                self._trouble = str(error)

    def _ask(self) -> None:
        while not self._stop.is_set():
            begun = clock.now()
            self.observer.refresh()
            self._stop.wait(max(0.05, _ASK_EVERY - (clock.now() - begun)))


def _changes(before: Topology, after: Topology) -> tuple[list[Component], list[Component]]:
    had = {c.identity for c in before.components}
    has = {c.identity for c in after.components}
    return (
        [c for c in before.components if c.identity not in has],
        [c for c in after.components if c.identity not in had],
    )
