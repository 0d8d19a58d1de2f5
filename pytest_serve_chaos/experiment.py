"""A whole experiment as a test uses it: one fault, the demands, and the verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from pytest_serve_chaos.analysis.result import Result
from pytest_serve_chaos.checks.base import Check
from pytest_serve_chaos.checks.own import accepted, together
from pytest_serve_chaos.clock import seconds
from pytest_serve_chaos.course import Course
from pytest_serve_chaos.criteria import Criteria, write_criteria
from pytest_serve_chaos.errors import SettingsError
from pytest_serve_chaos.events import Demanded, FaultAsked, Judged, Phase, PhaseBegan, Problem, RedundancyBack, Remark
from pytest_serve_chaos.faults.custom import CustomFault
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.faults.spec import FaultChoice
from pytest_serve_chaos.history import History
from pytest_serve_chaos.leak_watch import seconds_before
from pytest_serve_chaos.load import Load, raise_unless_passed, with_changes, write_checked
from pytest_serve_chaos.restore import restore
from pytest_serve_chaos.results import result_of


class Experiment:
    """The value of the fixture `experiment`: one fault, and the demands of the test.

    Args:
        rig: The cluster under test, and what is recorded about it.
        load: The requests that are sent.
        fault: The fault that is injected; None where each run is given one.
        on_result: Called with each result, whatever the verdict is.
        checks: Checks that judge each run in addition to the demands, and to the checks of that run.
    """

    def __init__(
        self,
        rig: Rig,
        load: Load,
        fault: FaultChoice | None,
        *,
        on_result: Callable[[Result], None] = lambda _: None,
        checks: Sequence[Check] = (),
    ) -> None:
        self.rig = rig
        self.load = load
        self._marked = fault
        self._on_result = on_result
        self._always = accepted(checks)

    def sending(self, **changes: object) -> Experiment:
        """The same experiment with other traffic.

        Args:
            **changes: Those of `Load`: ``rate`` (or stages: ``"20/s for 30s, 100/s"``), ``arrivals``,
                ``persistent_rate``, ``timeout`` (seconds, or ``"500ms"``, as all durations), ``path``, ``method``,
                ``headers``, ``body``, ``requests`` (a list of `RequestKind`), ``app`` (a name or several), ``url``,
                ``check``, and the durations ``slow_after``, ``send_lag_limit`` and ``watch_for``.

        Raises:
            SettingsError: There is no such thing to change, or its value cannot be used.
        """
        load = with_changes(self.load, changes)
        return Experiment(self.rig, load, self._marked, on_result=self._on_result, checks=self._always)

    @property
    def fault(self) -> FaultChoice:
        """The fault that is injected.

        Raises:
            SettingsError: Neither a marker nor the run says which.
        """
        if self._marked is None:
            raise SettingsError(
                "nothing says what the experiment breaks",
                fix=[
                    "mark the test, for example with @pytest.mark.head_failure",
                    "or give a fault of your own: experiment.run(fault=chaos.custom(...))",
                ],
            )
        return self._marked

    def run(
        self,
        *,
        at: float | str | object = 0.0,
        fault: CustomFault | object = None,
        checks: Iterable[Check] | object = (),
        **demands: object,
    ) -> Result:
        """Runs the experiment, and raises unless the verdict is passed.

        Args:
            at: When the fault comes, in seconds after steady state, from when the stages of the traffic count too;
                ``"35s"`` as well.
            fault: A fault of your own (`Chaos.custom`) in place of that of the test's marker.
            checks: Checks of your own, by which it is judged in addition.
            **demands: Those of `Expectations` that shall differ from the fault's defaults; durations may have units
                (``longest_outage="2s"``).

        Raises:
            ExpectationFailed: The cluster did not do what was demanded.
            Inconclusive: Nothing was shown.
            SettingsError: There is no such demand, one of `checks` is not a check, or nothing is demanded of the
                requests; nothing says what breaks.
        """
        criteria = self._criteria(fault, at, checks, demands)
        if not criteria.demanded.demands_traffic and not any(check.on_requests for check in criteria.checks):
            raise SettingsError(
                f"nothing is demanded of the requests, so nothing can be passed: {criteria.fault.kind} has no such"
                " demand by default",
                fix=[
                    "say what you expect, for example experiment.run(traffic_back='4m', longest_outage='3m')",
                    "or look at the figures yourself: result = experiment.measure()",
                ],
            )
        result = self._judged(criteria)
        raise_unless_passed(result)
        return result

    def measure(
        self,
        *,
        at: float | str | object = 0.0,
        fault: CustomFault | object = None,
        checks: Iterable[Check] | object = (),
        **demands: object,
    ) -> Result:
        """Runs the experiment; the result has a verdict and figures, and nothing is raised for them.

        Args:
            at: As for `run`.
            fault: As for `run`.
            checks: Checks of your own, by which it is judged in addition.
            **demands: As for `run`.

        Raises:
            SettingsError: There is no such demand, or one of `checks` is not a check.
            ServeChaosError: The rig broke.
        """
        return self._judged(self._criteria(fault, at, checks, demands))

    def _criteria(
        self, fault: object, at: object, checks: Iterable[Check] | object, demands: Mapping[str, object]
    ) -> Criteria:
        """By what it is judged.

        Raises:
            SettingsError: What is given is not a fault of the test's own, not a time, or not a check; or nothing says
                what breaks.
        """
        if fault is not None and not isinstance(fault, CustomFault):
            raise SettingsError(f"fault={fault!r} is not a fault", fix=["give what chaos.custom(...) returns"])
        if not isinstance(at, (int, float, str)):
            raise SettingsError(f"at={at!r} is not a time", fix=["give the seconds from steady state on: at='35s'"])
        since, own = seconds(at, name="at"), together(self._always, checks)
        choice = self.fault if fault is None else fault.choice
        defaults, parts = choice.expectations(self.rig.cluster.spec), self.load.judged(self.rig)
        criteria = Criteria(self.load, choice, defaults, parts, demands, own, since)
        return criteria if since else replace(criteria, at=seconds_before(self.rig, criteria.expected))

    def _judged(self, criteria: Criteria) -> Result:
        rig, expected = self.rig, criteria.expected
        name = _unused_name(rig.history, rig.current.test)
        rig.current.begin(name)
        log = rig.log
        write_criteria(rig, criteria, expected)
        for text in criteria.adapted_parts:
            log.add(Remark(text))
        try:
            Course(rig, criteria).run()
        finally:
            log.add(PhaseBegan.of(Phase.DONE))
            rig.current.end(by_hand=_unused_name(rig.history, f"{name}-by-hand"))
        not_restored = restore(rig)
        rig.check_watches()
        if not_restored and log.has(RedundancyBack):
            log.add(Problem(f"the first shape could not be restored: {not_restored}"))
        result = result_of(rig.history, name, checks=criteria.checks)
        write_checked(log, result.checks)
        log.add(Judged(result.outcome))
        self._on_result(result)
        return result


def _unused_name(history: History, name: str) -> str:
    """The second experiment of a test has a name of its own, so that their events are not taken for one's."""
    used = {e.experiment for e in history.events if isinstance(e, (Demanded, FaultAsked))}
    return next(n for n in (name, *(f"{name}-{i}" for i in range(2, 10_000))) if n not in used)
