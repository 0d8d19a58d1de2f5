"""A whole experiment: steady state, inject, prove, watch until traffic and redundancy are back, aftershock, verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, cast

from pytest_serve_chaos import clock
from pytest_serve_chaos.analysis.identities import parse_selector
from pytest_serve_chaos.analysis.outages import find_outages
from pytest_serve_chaos.analysis.result import Result, result_of
from pytest_serve_chaos.analysis.statistics import requests_needed
from pytest_serve_chaos.analysis.words import limit_percent
from pytest_serve_chaos.clock import NotYet, seconds
from pytest_serve_chaos.cluster.capabilities import IsBorrowed
from pytest_serve_chaos.errors import ExpectationFailed, Inconclusive, ServeChaosError, SettingsError, WaitTimeout
from pytest_serve_chaos.faults.chaos import Chaos
from pytest_serve_chaos.faults.defaults import expectations_for
from pytest_serve_chaos.faults.injection import Injection
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.faults.select import inject
from pytest_serve_chaos.load import Load, Traffic, raise_unless_passed, write_expectations
from pytest_serve_chaos.model import Expectations, How
from pytest_serve_chaos.observe.handles import children_of
from pytest_serve_chaos.observe.shape import surplus
from pytest_serve_chaos.restore import restore
from pytest_serve_chaos.steady import idle_replicas

_QUIET = 1.0
_FORGOTTEN_WITHIN = 5.0
_ANSWERS_WITHIN = 15.0
"""Seconds in which each replica must have answered: of 20 requests a second, each of 6 gets some 50 in it."""
_DURATIONS = ("window", "longest_outage", "traffic_back", "redundancy_back")


@dataclass(frozen=True, slots=True)
class FaultChoice:
    """Which fault an experiment applies.

    Attributes:
        kind: The marker's name: ``head_failure``.
        options: What the marker says; ``how`` is always there, durations are seconds.
    """

    kind: str
    options: Mapping[str, str | float]


class Experiment:
    """What the fixture `experiment` gives: one fault, and the demands of the test.

    Args:
        rig: Where.
        load: What is sent.
        fault: What is broken.
        on_result: Called with each result, whatever it says.
    """

    def __init__(
        self, rig: Rig, load: Load, fault: FaultChoice, *, on_result: Callable[[Result], None] = lambda _: None
    ) -> None:
        self.rig = rig
        self.load = load
        self.fault = fault
        self._on_result = on_result

    def sending(self, **changes: Any) -> Experiment:
        """The same experiment with other traffic.

        Args:
            **changes: Those of `Load`: ``rate``, ``kept_rate``, ``timeout`` (seconds), ``method``, ``headers``,
                ``body``, ``url``, ``check``, ``send_lag_limit`` (seconds).

        Raises:
            SettingsError: There is no such thing to change.
        """
        valid = [field.name for field in fields(Load)]
        unknown = sorted(set(changes) - set(valid))
        if unknown:
            raise SettingsError(f"traffic has no {unknown[0]!r}", mend=[f"it has {', '.join(valid)}"])
        return Experiment(self.rig, replace(self.load, **changes), self.fault, on_result=self._on_result)

    def run(self, **demands: object) -> Result:
        """Runs the experiment, and raises unless the verdict is passed.

        Args:
            **demands: Those of `Expectations` that shall differ from the fault's defaults; durations may have units
                (``longest_outage="2s"``).

        Raises:
            ExpectationFailed: The cluster did not do what was demanded.
            Inconclusive: Nothing was shown.
            SettingsError: There is no such demand.
        """
        result = self.measure(**demands)
        raise_unless_passed(result)
        return result

    def measure(self, **demands: object) -> Result:
        """Runs the experiment; the result has a verdict and figures, and nothing is raised for them.

        Raises:
            SettingsError: There is no such demand.
            ServeChaosError: The rig broke.
        """
        expected = self._expectations(demands)
        self.rig.experiment = self._unused_name()
        self.rig.watcher.belongs_to(self.rig.experiment)
        write_expectations(self.rig, expected)
        try:
            if self._can_be_judged(expected):
                self._experiment(expected)
        finally:
            self._phase("done")
        restore(self.rig)
        result = result_of(self.rig.history, self.rig.experiment)
        self.rig.history.add("verdict", result.verdict.outcome, experiment=self.rig.experiment)
        self._on_result(result)
        return result

    # -- before -------------------------------------------------------------------------------------------------

    def _expectations(self, demands: Mapping[str, object]) -> Expectations:
        how = cast("How", self.fault.options.get("how", "kill"))
        freeze_for = self.fault.options.get("for_", 20.0)
        defaults = expectations_for(
            self.fault.kind,
            how,
            self.rig.cluster.spec,
            which=str(self.fault.options.get("which", "")),
            freeze_for=float(freeze_for),
        )
        expected = with_demands(defaults, demands)
        if expected.availability is not None and expected.availability < 1 and "window" not in demands:
            # The window grows with what is demanded, so that there are enough requests to judge it on.
            needed = requests_needed(expected.availability, expected.confidence) / self.load.rate
            expected = replace(expected, window=max(expected.window, needed + 1.0))
        return replace(expected, send_lag_limit=self.load.send_lag_limit)

    def _unused_name(self) -> str:
        """The second experiment of a test has a name of its own, so that their events are not taken for one's."""
        name = self.rig.experiment
        used = {e.experiment for e in self.rig.history.events if e.kind == "expectations"}
        return next(n for n in (name, *(f"{name}-{i}" for i in range(2, 10_000))) if n not in used)

    def _can_be_judged(self, expected: Expectations) -> bool:
        """Says how long it will take; False, and nothing is broken, where the demand cannot be judged at all."""
        if expected.availability is not None:
            needed = requests_needed(expected.availability, expected.confidence)
            sent = int(expected.window * self.load.rate)
            if sent < needed:
                reason = (
                    f"{sent} requests in a window of {expected.window:g} s cannot show an availability of"
                    f" {limit_percent(expected.availability)}: that takes {needed} (3 / (1 - availability))."
                    f" Give a window of {needed / self.load.rate:.0f} s or more, or a higher rate"
                )
                self.rig.history.add("not_started", reason, experiment=self.rig.experiment)
                return False
        back = expected.redundancy_back or 0.0
        self.rig.progress(
            f"{self.fault.kind}: {expected.window:g} s of traffic at {self.load.rate:g} requests/s are judged;"
            f" at most {expected.window + back + 30:.0f} s in all"
        )
        return True

    # -- the phases ---------------------------------------------------------------------------------------------

    def _experiment(self, expected: Expectations) -> None:
        traffic = Traffic(self.rig, self.load)
        try:
            traffic.start()
        except Inconclusive:
            return  # written as `not_started`; the verdict says so
        try:
            self.rig.history.add_topology(self.rig.watcher.sample(), "before", experiment=self.rig.experiment)
            self._phase("inject")
            injection = inject(Chaos(self.rig), self.fault.kind, self.fault.options)
            try:
                self._phase("watch")
                back = injection.landed and self._watch(injection, expected)
                # On a borrowed cluster the aftershock replaces replicas, so it waits until nobody counts any more.
                last = isinstance(self.rig.cluster, IsBorrowed)
                if back and not last:
                    self._settle(injection)
                self._wait_window(injection, expected)
                if back:
                    self._look_for_idle_replicas()
                # Before healing: what healing replaces, and what that costs, is not the cluster's doing.
                self.rig.history.add_topology(self.rig.watcher.sample(), "after", experiment=self.rig.experiment)
                self._settle_handles(injection, traffic)
                traffic.stop()
                if back and last:
                    self._settle(injection)
            finally:
                self._heal(injection)
        finally:
            traffic.stop()

    def _watch(self, injection: Injection, expected: Expectations) -> bool:
        """Waits until traffic and redundancy are back; whether redundancy is."""
        deadline = clock.now() + (expected.redundancy_back or 120.0)
        if getattr(injection.fault, "hold", False):
            self._say(lambda: self._traffic_back(injection, deadline))
            self._say(lambda: self._at_rest(injection, deadline))
            injection.heal()
        freeze = self.fault.options.get("how") == "freeze"
        if freeze:
            self._wait_thawed(injection, deadline)
        # Before traffic, whose way back is read from the requests later: this is seen only while it is awaited.
        back = self._redundancy_back(injection, deadline + (20.0 if freeze else 0.0))
        self._say(lambda: self._traffic_back(injection, deadline))
        return back

    def _settle(self, injection: Injection) -> None:
        self._phase("settle")
        try:
            injection.wait_settled()
        except (ExpectationFailed, Inconclusive) as error:
            self.rig.progress(error.what)
        self._look_for_leaks()

    def _settle_handles(self, injection: Injection, traffic: Traffic) -> None:
        """After all that is judged: it kills a replica, and what that costs is not the fault's doing."""
        settled = self.rig.history.of(self.rig.experiment)
        if not any(e.kind == "settled" for e in settled):
            return
        try:
            if not children_of(self.rig.watcher):
                return
            self._phase("handles")
            traffic.wait_answered()  # what was sent before is judged, and must not meet the replica that is killed now
            injection.wait_children_reached()
        except ExpectationFailed as error:
            self.rig.progress(error.what)
        except Inconclusive as error:
            self.rig.progress(error.what)
            self.rig.history.add("untold", error.what, experiment=self.rig.experiment)

    def _look_for_leaks(self) -> None:
        """What is there beside the shape is a leak if it stays: what the GCS says of the dead may be late."""
        rig = self.rig

        def clean() -> bool | NotYet:
            rig.observer.refresh()
            found[:] = surplus(rig.watcher.sample(), rig.watcher.report, rig.shape)
            return NotYet("; ".join(found)) if found else True

        found: list[str] = []
        try:
            clock.wait_until("all that is dead to be forgotten", clean, timeout=_FORGOTTEN_WITHIN)
        except WaitTimeout as error:
            rig.spoilt = error.last_seen
            for problem in found:
                rig.history.add("problem", problem, experiment=rig.experiment)

    def _look_for_idle_replicas(self) -> None:
        """A replica that is there, and to which nothing is sent any more, is no redundancy, whatever Serve says."""
        rig = self.rig
        back = next(e.at for e in reversed(rig.history.of(rig.experiment)) if e.kind == "redundancy_back")

        def answered() -> bool | NotYet:
            idle = idle_replicas(rig, back)
            return NotYet(idle) if idle else True

        try:
            clock.wait_until("each replica to answer again", answered, timeout=_ANSWERS_WITHIN, interval=0.3)
        except WaitTimeout as error:
            rig.spoilt = f"{error.last_seen}: nothing is sent to it any more"
            text = f"{error.last_seen} answered nothing in the {clock.now() - back:.0f} s since redundancy was back"
            rig.history.add("problem", text, experiment=rig.experiment)

    def _heal(self, injection: Injection) -> None:
        """Heals; what cannot be healed is not the verdict's business, but the next test needs another cluster."""
        try:
            injection.close()
        except ServeChaosError as error:
            self.rig.progress(error.what)
            self.rig.history.add("note", f"not healed: {error.what}", experiment=self.rig.experiment)
            self.rig.spoilt = error.what

    def _traffic_back(self, injection: Injection, deadline: float) -> None:
        back = injection.wait_traffic_back(max(1.0, deadline - clock.now()))
        self.rig.progress(f"traffic is back {back:.1f} s after the fault")

    def _at_rest(self, injection: Injection, deadline: float) -> None:
        took = injection.wait_at_rest(max(1.0, deadline - clock.now()))
        self.rig.progress(f"nothing more is replaced {took:.1f} s after the fault: heal")

    def _redundancy_back(self, injection: Injection, deadline: float) -> bool:
        try:
            took = injection.wait_redundancy_back(max(1.0, deadline - clock.now()))
        except ExpectationFailed as error:
            self.rig.progress(error.what)
            self.rig.history.add("note", error.what, experiment=self.rig.experiment)
            self.rig.spoilt = error.what
            return False
        self.rig.progress(f"redundancy is back {took:.1f} s after the fault")
        return True

    def _say(self, step: Callable[[], None]) -> None:
        try:
            step()
        except ExpectationFailed as error:
            self.rig.progress(error.what)
            self.rig.history.add("note", error.what, experiment=self.rig.experiment)

    def _wait_thawed(self, injection: Injection, deadline: float) -> None:
        def thawed() -> bool | NotYet:
            healed = any(
                e.kind == "healed" and e.at >= injection.asked for e in self.rig.history.of(self.rig.experiment)
            )
            return True if healed else NotYet("still frozen")

        clock.wait_until("the freeze to end", thawed, timeout=max(1.0, deadline - clock.now()))

    def _wait_window(self, injection: Injection, expected: Expectations) -> None:
        """Goes on with traffic until the window is full and the last outage has ended for a second."""
        end = injection.asked + expected.window if injection.landed else clock.now()
        outages = find_outages([r for r in self.rig.history.requests_since(injection.asked) if not r.kept])
        if outages and outages[-1].end is not None:
            end = max(end, outages[-1].end + _QUIET)

        def full() -> bool | NotYet:
            left = end + 0.2 - clock.now()
            return True if left <= 0 else NotYet(f"{left:.0f} s of the window are left")

        clock.wait_until("the window to be full", full, timeout=max(0.0, end - clock.now()) + 10.0, interval=0.1)

    def _phase(self, name: str) -> None:
        self.rig.history.add("phase", name, experiment=self.rig.experiment)


def with_demands(defaults: Expectations, demands: Mapping[str, object]) -> Expectations:
    """The expectations with what the user demands otherwise.

    Raises:
        SettingsError: There is no such demand, or its value cannot be used.
    """
    valid = [field.name for field in fields(Expectations) if field.name != "send_lag_limit"]
    unknown = sorted(set(demands) - set(valid))
    if unknown:
        raise SettingsError(
            f"there is no expectation {unknown[0]!r}", mend=[f"the expectations are {', '.join(valid)}"]
        )
    values: dict[str, object] = dict(demands)
    for name in _DURATIONS:
        value = values.get(name)
        if value is not None:
            values[name] = seconds(value, name=name)  # type: ignore[arg-type]
    for name in ("replaced", "kept"):
        if name in values:
            chosen = values[name]
            selectors = (chosen,) if isinstance(chosen, str) else tuple(chosen)  # type: ignore[arg-type]
            for selector in selectors:
                parse_selector(selector)
            values[name] = selectors
    share = values.get("availability")
    if share is not None and not (isinstance(share, float | int) and 0 < share <= 1):
        raise SettingsError(f"availability={share!r} is not a share", mend=["give a number from 0 to 1: 0.999"])
    return replace(defaults, **values)  # type: ignore[arg-type]
