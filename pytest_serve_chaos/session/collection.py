"""The tests of the run, and what their markers ask for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pytest

from pytest_serve_chaos.backends.base import Backend, Deployments
from pytest_serve_chaos.cluster.base import ClusterSpec, Progress
from pytest_serve_chaos.errors import ServeChaosError, SettingsError, nearest
from pytest_serve_chaos.faults.registry import FaultRegistry
from pytest_serve_chaos.faults.spec import FaultChoice
from pytest_serve_chaos.fixtures import wants_cluster
from pytest_serve_chaos.markers import cluster_request, fault_request
from pytest_serve_chaos.settings import Settings


class Collection:
    """The tests that pytest collects.

    Args:
        config: Of pytest.
        settings: What a test wants where its markers do not say otherwise.
        backend: The backend that starts the clusters.
        faults: All faults that tests may inject.
        progress: Prints a line for people.

    Attributes:
        count: How many tests there are, also those that are deselected.
    """

    def __init__(
        self,
        config: pytest.Config,
        settings: Settings,
        backend: Backend,
        faults: FaultRegistry,
        progress: Progress,
    ) -> None:
        self.count = 0
        self._config = config
        self._settings = settings
        self._backend = backend
        self._faults = faults
        self._progress = progress
        self._adapted: Settings | None = None

    def spec_of(self, item: pytest.Item) -> ClusterSpec:
        """The cluster that a test wants; what it does not say is as set, or as the user's own RayService is."""
        return self._asked_for(item.iter_markers(), item.path.parent)

    def _asked_for(self, markers: Iterable[pytest.Mark], directory: Path) -> ClusterSpec:
        return cluster_request(markers, self._adapted_settings(), directory=directory)

    def _adapted_settings(self) -> Settings:
        if self._adapted is None:
            self._adapted = self._backend.adapt(self._settings)
        return self._adapted

    def fault_of(self, item: pytest.Item) -> FaultChoice | None:
        """The fault that a test is marked with; None where it has `chaos`, by which it can make one of its own.

        Raises:
            SettingsError: It is marked with none and cannot make one, or a marker cannot be used.
        """
        fault = fault_request(item.iter_markers(), self._faults)
        if fault is None and "chaos" not in getattr(item, "fixturenames", ()):
            marks = list(dict.fromkeys(mark.name for mark in item.iter_markers()))
            names = [spec.name for spec in self._faults]
            meant = next((one for mark in marks if (one := nearest(mark, names))), "")
            raise SettingsError(
                "the test uses the fixture `experiment`, and no marker says what it breaks",
                checked=[f"its markers: {', '.join(marks) or 'none'}", f"markers of faults: {', '.join(names)}"],
                fix=[
                    f"write @pytest.mark.{meant}" if meant else "mark it, for example with @pytest.mark.head_failure",
                    "or use the fixtures chaos and traffic",
                    "or take the fixture chaos too, for a fault of your own: experiment.run(fault=chaos.custom(...))",
                ],
            )
        return fault

    def pytest_itemcollected(self) -> None:
        """Counts tests before any are deselected."""
        self.count += 1

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Checks the markers of our tests, and orders them so that each cluster is built once."""
        wanted: dict[str, ClusterSpec] = {}  # in the order of their first use
        ours = [item for item in items if wants_cluster(item)]
        if ours:
            self._check_settings()
        for item in ours:
            try:
                spec = self.spec_of(item)
                if "experiment" in getattr(item, "fixturenames", ()):
                    self._check_fault(item, spec)
            except ServeChaosError as error:  # a marker that says nonsense
                raise pytest.UsageError(f"{item.nodeid}: {error}") from error
            wanted[item.nodeid] = spec
        if not self._others_start() and not self._config.option.collectonly:
            self._check_clusters(wanted)
            self._check_apps(wanted, ours)
        specs = [None, *self._in_order(wanted.values())]
        items.sort(key=lambda item: specs.index(wanted.get(item.nodeid)))

    def _check_fault(self, item: pytest.Item, spec: ClusterSpec) -> None:
        fault = self.fault_of(item)
        takes_workers = any(option.name == "workers" for option in self._backend.options)
        if fault is not None and takes_workers and self._settings.rayservice_file is None:
            fault.check_nodes(spec.workers)

    def _check_settings(self) -> None:
        """Refuses what holds for all tests alike, as a RayService that cannot be used: no single test is at fault."""
        try:
            self._adapted_settings()
        except ServeChaosError as error:
            raise pytest.UsageError(str(error)) from error

    def _others_start(self) -> bool:
        """Whether other plugins start clusters: these say what a cluster needs, and what an app is."""
        return bool(self._config.hook.pytest_serve_chaos_start_cluster.get_hookimpls())

    def _check_clusters(self, wanted: Mapping[str, ClusterSpec]) -> None:
        """Refuses clusters that this machine cannot have, before the first one is started."""
        checked: list[ClusterSpec] = []
        for nodeid, spec in wanted.items():
            if spec in checked:
                continue
            checked.append(spec)
            try:
                self._backend.check(spec, self._settings)
            except ServeChaosError as error:
                by_settings = spec == self._asked_for((), self._config.rootpath)
                raise pytest.UsageError(str(error) if by_settings else f"{nodeid}: {error}") from error

    def _check_apps(self, wanted: Mapping[str, ClusterSpec], ours: Sequence[pytest.Item]) -> None:
        """Refuses an app that does not exist, and a deployment that it has not, before a cluster is started for it."""
        checked: list[tuple[ClusterSpec, Deployments]] = []
        for item in ours:
            spec = wanted[item.nodeid]
            app = ClusterSpec(app=spec.app, app_args=spec.app_args, env=spec.env, workers=spec.workers)
            found = next((found for one, found in checked if one == app), None)
            if found is None:
                found = self._check_app(app, self._named_by(item.nodeid, spec))
                checked.append((app, found))
            if found:
                self._check_names(item, found)

    def _check_app(self, app: ClusterSpec, named_by: str) -> Deployments:
        try:
            return self._backend.check_app(app, self._settings, self._progress) or {}
        except SettingsError as error:
            at_fault = self._option(error.setting) if error.setting else named_by
            raise pytest.UsageError(f"{at_fault}: {error}") from error

    def _check_names(self, item: pytest.Item, apps: Deployments) -> None:
        fixtures = getattr(item, "fixturenames", ())
        if "experiment" not in fixtures or "serve_cluster" in fixtures:  # by which a test may deploy others
            return
        fault = self.fault_of(item)
        try:
            if fault is not None:
                fault.check_names(apps)
        except SettingsError as error:
            raise pytest.UsageError(f"{item.nodeid}: {error}") from error

    def _named_by(self, nodeid: str, spec: ClusterSpec) -> str:
        """Who names the app of a cluster: an option, or a test."""
        by_file = self._settings.rayservice_file is not None
        option = "rayservice_file" if by_file else "app"
        if by_file or spec.app == self._settings.app:
            return self._option(option)
        return nodeid

    def _option(self, name: str) -> str:
        return f"--serve-chaos-{name.replace('_', '-')} from {self._settings.source(name)}"

    def _in_order(self, specs: Iterable[ClusterSpec]) -> list[ClusterSpec]:
        """Each cluster once; where the last is kept, that is the one of tests which ask for nothing."""
        each: list[ClusterSpec] = []
        for spec in specs:  # which cannot be hashed
            if spec not in each:
                each.append(spec)
        if each and self._settings.keep:
            usual = self._asked_for((), self._config.rootpath)
            each.sort(key=lambda spec: spec == usual)
        return each
