"""One run: its directory, its history, and the one cluster that lives at a time."""

from __future__ import annotations

import contextlib
import itertools
import json
import random
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from pytest_serve_chaos import clock
from pytest_serve_chaos.analysis.configuration import ConfigWarning
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.cluster.base import Cluster, ClusterSpec, Progress
from pytest_serve_chaos.cluster.capabilities import IsBorrowed, OutlivesRuns
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.history import History
from pytest_serve_chaos.model import HEAD, Json, Topology
from pytest_serve_chaos.observe.configuration import check_configuration, write_warnings
from pytest_serve_chaos.observe.observer import Observer
from pytest_serve_chaos.observe.shape import shape_of
from pytest_serve_chaos.observe.watcher import Watcher

StartCluster = Callable[[ClusterSpec, Path, Progress], Cluster]
"""Makes a cluster of that spec; logs go to the directory."""


_WHOLE_WITHIN = 60.0
"""Seconds after its app runs in which a proxy must be on each node that has replicas."""


def _whole(observer: Observer) -> Topology | NotYet:
    topology = observer.see()
    have = {c.node for c in topology.of("proxy")}
    missing = ({c.node for c in topology.of("replica")} | {HEAD}) - have
    if missing or not topology.of("replica"):
        return NotYet(f"no proxy on {', '.join(sorted(missing)) or 'any node'}")
    pending = ", ".join(f"{n} of {name}" for name, n in topology.pending.items())
    return NotYet(f"replicas are missing: {pending}") if pending else topology


class Run:
    """All that one pytest run has in hand.

    Args:
        directory: For the history, the summary and logs.
        start_cluster: Makes a cluster.
        seed: Of all choices.
        progress: Prints a line for people.
    """

    def __init__(self, directory: Path, start_cluster: StartCluster, *, seed: int, progress: Progress) -> None:
        self.directory = directory
        self.seed = seed
        self.history = History(directory / "history.jsonl")
        self.random = random.Random(seed)
        self.progress = progress
        self._start_cluster = start_cluster
        self._canaries = itertools.count(1)
        self._rig: Rig | None = None
        self._warned: set[ConfigWarning] = set()
        self.started: list[tuple[ClusterSpec, float]] = []

    @property
    def rig(self) -> Rig | None:
        """The cluster that lives now, with all that is around it."""
        return self._rig

    def rig_for(self, spec: ClusterSpec) -> Rig:
        """The rig with a cluster of that spec: the one that lives, if it fits and is sound, else a new one."""
        if self._rig is not None and (self._rig.cluster.spec != spec or self._rig.spoilt):
            if self._rig.spoilt:
                verb = "looked at" if isinstance(self._rig.cluster, IsBorrowed) else "built"
                self.progress(f"the cluster is {verb} anew: {self._rig.spoilt}")
            self.close_cluster()
        if self._rig is None:
            self._rig = self._new_rig(spec)
        return self._rig

    def close_cluster(self) -> None:
        """Ends the cluster that lives, if one does."""
        rig, self._rig = self._rig, None
        if rig is None:
            return
        with contextlib.ExitStack() as ends:  # last first, and all of it, whatever goes wrong
            ends.callback(rig.cluster.close)
            ends.callback(rig.watcher.stop)
            rig.heal_all()
            if rig.sound and isinstance(rig.cluster, OutlivesRuns):
                rig.cluster.vouch()

    def close(self) -> None:
        """Ends everything."""
        try:
            self.close_cluster()
        finally:
            self.history.close()

    def _new_rig(self, spec: ClusterSpec) -> Rig:
        begun = clock.now()
        cluster = self._start_cluster(spec, self.directory, self.progress)
        with contextlib.ExitStack() as undo:  # last first, and all of it, whatever goes wrong
            undo.callback(cluster.close)
            observer = Observer(cluster)
            topology = clock.wait_until(
                "every part of the cluster to be seen", lambda: _whole(observer), timeout=_WHOLE_WITHIN, interval=0.5
            )
            watcher = Watcher(observer, self.history)
            watcher.start()
            undo.callback(watcher.stop)
            self.started.append((spec, clock.now() - begun))
            description: dict[str, Json] = json.loads(json.dumps(asdict(cluster.description)))
            self.history.add(
                "run",
                f"a cluster for {spec.app}",
                data={**description, "seed": self.seed, "start_seconds": clock.now() - begun},
            )
            write_warnings(self.history, check_configuration(cluster, topology), self._warned, self.progress)
            rig = Rig(
                cluster, observer, watcher, self.history, self.random, self.progress, shape_of(topology),
                cluster.serve_config, warned=self._warned, canaries=self._canaries,
            )  # fmt: skip
            undo.pop_all()
        return rig
