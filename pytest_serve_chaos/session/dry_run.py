"""A dry run: what the fault of each test would do is printed, and no test is run."""

from __future__ import annotations

from collections.abc import Generator, Sequence

import pytest

from pytest_serve_chaos.errors import Unsupported, Withheld
from pytest_serve_chaos.fault_plan import FaultPlan, plan_of
from pytest_serve_chaos.fixtures import wants_cluster
from pytest_serve_chaos.markers import cluster_keywords, fault_requests
from pytest_serve_chaos.session.collection import Collection
from pytest_serve_chaos.session.lifetime import RunLifetime
from pytest_serve_chaos.session.terminal import Terminal

SKIPPED = "dry run"

_BY_HAND = (
    "  by hand  not shown: what the body of the test breaks or updates is known only when it runs, and no test is run"
)
_ANNOUNCED = "dry run: no test is run, no traffic is sent, and nothing is broken"


class DryRun:
    """Prints plans in place of running tests. It is registered in a dry run only.

    Args:
        lifetime: Of the run, which has the cluster.
        collection: Says which cluster a test wants.
        terminal: Where plans are printed.
        seed: Of all choices.
    """

    def __init__(self, lifetime: RunLifetime, collection: Collection, terminal: Terminal, *, seed: int) -> None:
        self._lifetime = lifetime
        self._collection = collection
        self._terminal = terminal
        self._seed = seed
        self._announced = False

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, object, object]:
        """Prints what the fault of a test would do, and skips the test before any of its fixtures is set up.

        Nor does any hook of a conftest.py set something up for the test.
        """
        self._skip_as_its_markers_say(item)
        self._skip_with_its_plan(item)
        return (yield)

    def _skip_with_its_plan(self, item: pytest.Item) -> None:
        if not wants_cluster(item):
            pytest.skip(f"{SKIPPED}: it uses no fixture of pytest-serve-chaos")
        plans = self._plans(item)
        reasons = [plan.refused for plan in plans if plan.refused]
        raise Withheld(reasons[0] if reasons else SKIPPED)

    def _skip_as_its_markers_say(self, item: pytest.Item) -> None:
        """Lets pytest skip what would be skipped in any run."""
        skipping = item.config.pluginmanager.get_plugin("skipping")
        if skipping is not None:
            skipping.pytest_runtest_setup(item)

    def _plans(self, item: pytest.Item) -> Sequence[FaultPlan]:
        self._announce()
        try:
            run, spec = self._lifetime.run, self._collection.spec_of(item)
            choices = fault_requests(item.iter_markers(), run.faults)
            for choice in choices:
                choice.check_cluster(spec)
            rig = run.rig_for(spec, test=item.nodeid)
        except Unsupported as error:
            self._show(item, [f"  skipped  {error.what}"])
            raise
        self._terminal.say_header(rig)
        run.choose_for(item.nodeid)
        rig.current.begin_test(item.name, cluster_keywords(item.iter_markers()))
        plans = [plan_of(rig, choice) for choice in choices]
        by_hand = {"chaos", "serve_cluster"} & set(getattr(item, "fixturenames", ()))
        lines = [line for plan in plans for line in plan.lines]
        self._show(item, [*lines, *([_BY_HAND] if by_hand or not plans else [])])
        return plans

    def _announce(self) -> None:
        if not self._announced:
            self._announced = True
            self._terminal.say(f"{_ANNOUNCED}; seed {self._seed}")

    def _show(self, item: pytest.Item, lines: Sequence[str]) -> None:
        self._terminal.say("\n".join([f"plan of {item.nodeid}", *lines]))
