"""Samples the topology through an experiment and writes to the history when each thing went, came or was replaced."""

from __future__ import annotations

import contextlib
import threading

from pytest_serve_chaos import clock
from pytest_serve_chaos.cluster.rest import autoscaled
from pytest_serve_chaos.cluster.serve_config import CANARY
from pytest_serve_chaos.errors import ServeChaosError
from pytest_serve_chaos.events import WORKERS, ComponentCame, ComponentGone, HAProxyReloaded, Note, Rescaled
from pytest_serve_chaos.history import History
from pytest_serve_chaos.model import Component, Identity, Topology
from pytest_serve_chaos.observe.observer import Observer, Report
from pytest_serve_chaos.observe.statuses import change, serve_said, statuses_of
from pytest_serve_chaos.watch_thread import WatchThread

_LOOK_EVERY = 0.2

_MOST_NOTES = 100
"""Texts of unforeseen errors that are written down: each may differ, as with a time in it."""


class Watcher:
    """Two threads: one looks at processes or pods, the other asks Ray and Serve, which may hang.

    No error ends them. One of a kind that is not foreseen is written down once, as a note.

    Args:
        observer: What it looks through.
        history: Where it writes what it sees.
        ask_every: The period of questions to Ray and Serve, in seconds.
    """

    def __init__(self, observer: Observer, history: History, *, ask_every: float = 1.0) -> None:
        self.observer = observer
        self._history = history
        self._ask_every = ask_every
        self._lock = threading.Lock()
        self._one_look = threading.Lock()
        self._experiment = ""
        self._topology = observer.look()
        self._gone: dict[Identity, Component] = {}
        self._newest = 0.0
        self._newcomer = ""
        self._trouble = ""
        self._silence = ""
        self._noted: set[str] = set()
        self._wanted: dict[str, int] = {}
        self._said: dict[str, str] = {}
        self._threads = [
            WatchThread(
                "serve-chaos-look",
                self._look,
                again_after=_LOOK_EVERY,
                met=self._look_failed,
                first_after=_LOOK_EVERY,
            ),
            WatchThread("serve-chaos-ask", self._ask, again_after=ask_every, met=self._ask_failed),
        ]

    def start(self) -> None:
        """Begins to watch."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Ends the watch."""
        for thread in self._threads:
            thread.stopped.set()
        for thread in self._threads:
            thread.join(10.0)

    @property
    def dead(self) -> tuple[str, ...]:
        """Which of its threads ended although nobody stopped them, in words."""
        return tuple(thread.dead for thread in self._threads if thread.dead)

    def belongs_to(self, experiment: str) -> None:
        """From now on the events belong to that experiment."""
        with self._lock:
            self._experiment = experiment
            self._gone = {}
            self._said = {}

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
    def newest(self) -> float:
        """When a component was last seen to come, monotonic seconds: an older report says nothing of it. 0.0: never."""
        with self._lock:
            return self._newest

    @property
    def newcomer(self) -> str:
        """Which component that was, in words; empty if none came."""
        with self._lock:
            return self._newcomer

    @property
    def trouble(self) -> str:
        """Why the last look, or the last question to Ray and Serve, failed; empty if neither did."""
        return "; ".join(text for text in (self._trouble, self._silence) if text)

    def sample(self) -> Topology:
        """Looks now."""
        with self._one_look:  # so that samples are compared in the order in which they were taken
            topology = self.observer.look()
            with self._lock:
                before, self._topology = self._topology, topology
                experiment = self._experiment
                lost, found = _changes(before, topology)
                self._gone |= {component.identity: component for component in lost}
                if found:
                    # Not the time at which the look began: one of them may have come while it went on.
                    self._newest, self._newcomer = clock.now(), f"{found[-1].name} ({_which(found[-1])})"
            for component in lost:
                text = f"{component.name} is gone ({_which(component)})"
                self._history.add(ComponentGone(text, at=topology.at, experiment=experiment, component=component))
            for component in found:
                text = f"{component.name} is there ({_which(component)})"
                self._history.add(ComponentCame(text, at=topology.at, experiment=experiment, component=component))
            for proxy, pid in _reloads(before, topology):
                text = f"HAProxy of the {proxy} was reloaded (PID {pid})"
                self._history.add(HAProxyReloaded(text, at=topology.at, experiment=experiment, proxy=proxy, pid=pid))
        return topology

    def ask(self) -> Report:
        """Asks Ray and Serve now, and writes down what they say, and an autoscaler wants, otherwise than before."""
        report = self.observer.refresh()
        wanted, statuses = scaled_numbers(report), statuses_of(report, lambda node: self.observer.node_name(node))
        with self._lock:  # two threads may ask at a time
            changes = {what: (self._wanted[what], n) for what, n in wanted.items() if self._wanted.get(what, n) != n}
            self._wanted |= wanted
            experiment = self._experiment
            said = change(self._said, statuses) if experiment else {}
            self._said |= said
        for what, (before, now) in changes.items():
            text = f"{what}: {before} were wanted, and now {now}"
            self._history.add(Rescaled(text, experiment=experiment, what=what, before=before, now=now))
        if said:
            # A question that was not answered says nothing of the time in which it was waited for.
            at = report.at if report.serve is None else clock.now()
            self._history.add(serve_said(said, at, experiment))
        return report

    def _look(self) -> float:
        self.sample()
        self._trouble = ""
        return _LOOK_EVERY

    def _look_failed(self, error: Exception) -> None:
        self._trouble = self._explain(error)

    def _ask(self) -> float:
        begun = clock.now()
        error = self.ask().error
        self._silence = "" if error is None else self._explain(error)
        return max(0.05, self._ask_every - (clock.now() - begun))

    def _ask_failed(self, error: Exception) -> None:
        self._silence = self._explain(error)

    def _explain(self, error: Exception) -> str:
        """The error in words. One of a kind that is not foreseen goes into the history, once for each text."""
        if isinstance(error, (ServeChaosError, OSError)):
            return str(error)
        text = f"{type(error).__name__}: {error}"
        with self._lock:
            new = text not in self._noted and len(self._noted) < _MOST_NOTES
            if new:
                self._noted.add(text)
            experiment = self._experiment
        if new:
            with contextlib.suppress(OSError):  # of a disk that is full
                note = f"the watch met an unforeseen error and goes on: {text}"
                self._history.add(Note(note, experiment=experiment))
        return text


def scaled_numbers(report: Report) -> dict[str, int]:
    """How many an autoscaler wants: Serve's of each deployment that it scales, and Ray's of workers.

    Serve answers "no applications" during trouble with its controller, so what it does not name has not changed.
    """
    wanted = {} if report.workers is None else {WORKERS: report.workers}
    if report.serve is None:
        return wanted
    scaled = {name for name in autoscaled(report.serve) if not name.startswith(CANARY)}
    return wanted | {name: n for name, n in report.serve.targets.items() if name in scaled}


def _which(component: Component) -> str:
    """What tells it from others of its name: a pod has no PID, and its successor may be on another machine."""
    return f"PID {component.pid}" if component.machine is None else f"on {component.machine}"


def _reloads(before: Topology, after: Topology) -> list[tuple[str, int | None]]:
    """The proxies that are there in another generation, each with the PID of that."""
    had = {c.identity: c.serving for c in before.of("proxy")}
    again = (c for c in after.of("proxy") if c.serving is not None and had.get(c.identity, c.serving) != c.serving)
    return [(c.name, c.serving.pid) for c in again if c.serving is not None]


def _changes(before: Topology, after: Topology) -> tuple[list[Component], list[Component]]:
    had = {c.identity for c in before.components}
    has = {c.identity for c in after.components}
    return (
        [c for c in before.components if c.identity not in has],
        [c for c in after.components if c.identity not in had],
    )
