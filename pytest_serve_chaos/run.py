"""One run: its directory, its history, and the one cluster that lives at a time."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pytest_serve_chaos import clock
from pytest_serve_chaos.analysis.configuration import is_made_by_options
from pytest_serve_chaos.cluster.base import Cluster, ClusterSpec, Progress
from pytest_serve_chaos.cluster.capabilities import AUTOSCALES_WORKERS, IS_EXTERNAL, ON_THIS_MACHINE, OUTLIVES_RUNS
from pytest_serve_chaos.cluster.profile_settings import profile_settings
from pytest_serve_chaos.cluster.waits import waits_of
from pytest_serve_chaos.errors import ClusterStartError, NotStartedAgain, ServeChaosError, Unsupported
from pytest_serve_chaos.events import ClusterReady
from pytest_serve_chaos.faults.admission import owner_change
from pytest_serve_chaos.faults.catalogue import BUILT_IN
from pytest_serve_chaos.faults.live_traffic import LiveTraffic
from pytest_serve_chaos.faults.registry import FaultRegistry
from pytest_serve_chaos.faults.rig import Current, OfTheRun, Record, Rig
from pytest_serve_chaos.history import History
from pytest_serve_chaos.observe.configuration import check_configuration, write_warnings
from pytest_serve_chaos.observe.health import Health, whole_at_first
from pytest_serve_chaos.observe.host import host_facts
from pytest_serve_chaos.observe.observer import Observer
from pytest_serve_chaos.observe.pressure import MachineWatch
from pytest_serve_chaos.observe.shape import shape_of
from pytest_serve_chaos.observe.watcher import Watcher
from pytest_serve_chaos.progress import while_waiting

StartCluster = Callable[[ClusterSpec, Path, Progress], Cluster]
"""Makes a cluster of that spec; logs go to the directory."""


_WHOLE_WITHIN = 60.0
"""Seconds after its app runs in which a proxy must be on each node that has replicas."""


@dataclass(frozen=True, slots=True)
class FailedStart:
    """A cluster that did not start, and the test that wanted it first."""

    spec: ClusterSpec
    test: str


class Run:
    """All that one pytest run has in hand.

    Args:
        directory: For the history, the summary and logs.
        start_cluster: Makes a cluster.
        seed: Of all choices.
        progress: Prints a line for people.
        faults: All faults that tests may inject.
        record: Writes into the undo journal what only people can repair, and how; returns what removes that entry.

    Attributes:
        not_healed: What stays broken of an external cluster, or by a fault of a test itself, in words.
    """

    def __init__(
        self,
        directory: Path,
        start_cluster: StartCluster,
        *,
        seed: int,
        progress: Progress,
        faults: FaultRegistry = BUILT_IN,
        record: Record = lambda _text, _command: lambda: None,
    ) -> None:
        self.directory = directory
        self.seed = seed
        self.history = History(directory / "history.jsonl")
        self.progress = progress
        self._of_the_run = OfTheRun(random.Random(seed), progress, faults, record=record)
        self._start_cluster = start_cluster
        self._rig: Rig | None = None
        self.started: list[tuple[ClusterSpec, float]] = []
        self.not_healed: list[str] = []
        self.failed_starts: list[FailedStart] = []

    @property
    def rig(self) -> Rig | None:
        """The cluster that lives now, with all that is around it."""
        return self._rig

    def choose_for(self, test: str) -> None:
        """From now on choices depend on the seed and that test alone, whatever other tests have chosen.

        So a test that runs by itself, and a dry run of it, choose as it does among others.
        """
        self._of_the_run.random.seed(f"{self.seed} {test}")

    @property
    def faults(self) -> FaultRegistry:
        """All faults that tests may inject."""
        return self._of_the_run.faults

    def rig_for(self, spec: ClusterSpec, *, test: str = "") -> Rig:
        """The rig with a cluster of that spec: the one that lives, if it fits and is sound, else a new one.

        Args:
            spec: The cluster that the test wants.
            test: The test, which later tests are pointed to if the cluster does not start.

        Raises:
            NotStartedAgain: That cluster failed to start before.
        """
        self._refuse_to_start_again(spec)
        if self._rig is not None and not self._rig.soundness.tainted:
            owner_change(self._rig)
        if self._rig is not None and (self._rig.cluster.spec != spec or self._rig.soundness.tainted):
            if self._rig.soundness.tainted:
                verb = "reconnects to" if self._rig.cluster.capability(IS_EXTERNAL) is not None else "rebuilds"
                self.progress(f"the plugin {verb} the cluster: {self._rig.soundness.tainted}")
            self.close_cluster()
        if self._rig is None:
            self._rig = self._start_once(spec, test)
        return self._rig

    def _refuse_to_start_again(self, spec: ClusterSpec) -> None:
        for failed in self.failed_starts:
            if failed.spec == spec:
                raise NotStartedAgain(
                    f"the cluster that this test needs did not start for {failed.test or 'an earlier test'},"
                    " so it is not started again in this run",
                    fix=["fix what that test reports as the reason, and run the tests again"],
                )

    def _start_once(self, spec: ClusterSpec, test: str) -> Rig:
        try:
            return self._new_rig(spec)
        except Unsupported as error:
            if all(spec != started for started, _ in self.started):
                raise  # the test is skipped, and nothing was started
            self.failed_starts.append(FailedStart(spec, test))
            raise ClusterStartError(
                f"{error.what}; earlier tests of this run had that cluster, so its owner changed it",
                fix=["run the tests again"],
            ) from error
        except Exception:
            self.failed_starts.append(FailedStart(spec, test))
            raise

    def close_cluster(self) -> None:
        """Ends the cluster that lives, if one does."""
        rig = self._rig
        if rig is None:
            return
        with contextlib.ExitStack() as ends:  # last first, and all of it, whatever goes wrong
            ends.callback(self._forget_rig)
            ends.callback(rig.cluster.close)
            ends.callback(rig.watcher.stop)
            ends.callback(rig.machine.stop)
            self._heal_for_good(rig)
            reused = rig.cluster.capability(OUTLIVES_RUNS)
            if rig.soundness.is_sound and reused is not None:
                reused.vouch()

    def _forget_rig(self) -> None:
        self._rig = None

    def _heal_for_good(self, rig: Rig) -> None:
        """Heals what is still broken; afterwards only the undo journal knows of it."""
        why = ""
        try:
            why = _why_not_healed(rig)
        except BaseException:  # Ctrl-C, or the like, met one of the heals, which is tried once more
            why = _why_not_healed(rig)
            raise
        finally:
            # Any other cluster goes now, or is not taken over as it is; what a test itself broke may be elsewhere.
            stays = rig.cluster.capability(IS_EXTERNAL) is not None or rig.injections.outlive_the_cluster
            if rig.injections.open and stays:
                self.not_healed.append(why or "it was interrupted")

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
                "every part of the cluster to be seen",
                lambda: whole_at_first(observer),
                timeout=_WHOLE_WITHIN,
                interval=0.5,
                on_wait=while_waiting(self.progress, "every part of the cluster to be seen"),
            )
            workers = cluster.capability(AUTOSCALES_WORKERS)
            shape = shape_of(topology, observer.report, workers=None if workers is None else workers.worker_range)
            watcher = Watcher(observer, self.history, ask_every=waits_of(cluster).ask_every)
            watcher.start()
            undo.callback(watcher.stop)
            here = cluster.capability(ON_THIS_MACHINE)
            machine = MachineWatch(self.history, None if here is None else here.first_processes)
            machine.start()
            undo.callback(machine.stop)
            self.started.append((spec, clock.now() - begun))
            self.history.add(_ready(cluster, self.seed, clock.now() - begun))
            warnings = check_configuration(cluster, topology, self._of_the_run.faults)
            write_warnings(self.history, warnings, self._of_the_run.warned, self.progress)
            rig = Rig(
                cluster=cluster,
                run=self._of_the_run,
                watcher=watcher,
                health=Health(watcher, shape),
                current=Current(self.history, watcher),
                traffic=LiveTraffic(self.history, self._of_the_run.sources),
                serve_config=cluster.serve_config,
                machine=machine,
            )
            undo.pop_all()
        return rig


def _ready(cluster: Cluster, seed: int, start_seconds: float) -> ClusterReady:
    """What a history says of a cluster that was created, or connected to."""
    spec, description = cluster.spec, cluster.description
    return ClusterReady(
        f"a cluster for {spec.app}",
        description=description,
        seed=seed,
        start_seconds=start_seconds,
        host=host_facts(has_cluster=cluster.capability(ON_THIS_MACHINE) is not None),
        profile_settings=profile_settings(spec, cluster.serve_config) if is_made_by_options(description) else {},
    )


def _why_not_healed(rig: Rig) -> str:
    """Heals everything; returns why something could not be healed, which taints the cluster; "" if nothing remains."""
    try:
        rig.heal_all()
    except ServeChaosError as error:
        if not rig.soundness.tainted:
            rig.soundness.taint(error.what)
        return error.what
    return ""
