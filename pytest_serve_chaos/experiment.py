"""A whole experiment: steady state, injection, evidence, recovery of traffic and redundancy, final check, verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property

from pytest_serve_chaos import clock
from pytest_serve_chaos.analysis.demands import can_show, not_shown, patience, window_for, with_demands
from pytest_serve_chaos.analysis.identities import nobody
from pytest_serve_chaos.analysis.record import read_record
from pytest_serve_chaos.analysis.result import Result
from pytest_serve_chaos.analysis.words import limit, number
from pytest_serve_chaos.checks.base import Check
from pytest_serve_chaos.checks.own import accepted, together
from pytest_serve_chaos.clock import NotYet, seconds
from pytest_serve_chaos.cluster.capabilities import IS_EXTERNAL
from pytest_serve_chaos.errors import (
    ExpectationFailed,
    Inconclusive,
    NotHealed,
    OwnerChangedIt,
    SettingsError,
    in_one_line,
)
from pytest_serve_chaos.events import (
    Demanded,
    FaultAsked,
    Judged,
    Moment,
    Note,
    NotStarted,
    Phase,
    PhaseBegan,
    Problem,
    RedundancyBack,
    RedundancyMissing,
    Remark,
    Settled,
    SettlingUnknown,
    TopologySeen,
)
from pytest_serve_chaos.faults.custom import CustomFault
from pytest_serve_chaos.faults.injection import HEALS_WITHIN, Injection, LooksAfterwards
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.faults.spec import FaultChoice
from pytest_serve_chaos.final_check import look_at_the_end, look_for_idle_replicas, look_for_leaks, look_for_losses
from pytest_serve_chaos.load import (
    JudgedParts,
    Load,
    Traffic,
    raise_unless_passed,
    with_changes,
    write_checked,
    write_expectations,
)
from pytest_serve_chaos.model import UNFINISHED, Expectations, PartDemands, PartName, Topology
from pytest_serve_chaos.observe.handles import children_of
from pytest_serve_chaos.outlook import Outlook, persistent_for
from pytest_serve_chaos.progress import say_how_long, while_waiting
from pytest_serve_chaos.restore import restore
from pytest_serve_chaos.results import result_of
from pytest_serve_chaos.schedule import Schedule
from pytest_serve_chaos.steady import replicas_to_reach
from pytest_serve_chaos.traffic.sockets import in_flight_possible, open_files_for


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
        self._given: frozenset[str] = frozenset()
        self._checks: tuple[Check, ...] = ()
        self._of_parts: tuple[PartDemands, ...] = ()
        self._at = 0.0
        self._said_back: float | None = None

    def sending(self, **changes: object) -> Experiment:
        """The same experiment with other traffic.

        Args:
            **changes: Those of `Load`: ``rate`` (or stages: ``"20/s for 30s, 100/s"``), ``arrivals``,
                ``persistent_rate``, ``timeout`` (seconds), ``path``, ``method``, ``headers``, ``body``, ``requests`` (a
                list of `RequestKind`), ``app`` (a name or several), ``url``, ``check``, ``send_lag_limit`` (seconds).

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

    def _breaking(self, fault: object, at: object) -> Experiment:
        """The same experiment with another fault, where one is given, and with the time at which it comes.

        Raises:
            SettingsError: It is not a fault of the test's own, or not a time.
        """
        if fault is not None and not isinstance(fault, CustomFault):
            raise SettingsError(f"fault={fault!r} is not a fault", fix=["give what chaos.custom(...) returns"])
        choice = self._marked if fault is None else fault.choice
        if not isinstance(at, (int, float, str)):
            raise SettingsError(f"at={at!r} is not a time", fix=["give the seconds from steady state on: at='35s'"])
        changed = Experiment(self.rig, self.load, choice, on_result=self._on_result, checks=self._always)
        changed._at = seconds(at, name="at")
        return changed

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
        return self._breaking(fault, at)._run(checks, demands)

    def _run(self, checks: Iterable[Check] | object, demands: Mapping[str, object]) -> Result:
        own = together(self._always, checks)
        if not self._expectations(demands).demands_traffic and not any(check.on_requests for check in own):
            raise SettingsError(
                f"nothing is demanded of the requests, so nothing can be passed: {self.fault.kind} has no such demand"
                " by default",
                fix=[
                    "say what you expect, for example experiment.run(traffic_back='4m', longest_outage='3m')",
                    "or look at the figures yourself: result = experiment.measure()",
                ],
            )
        result = self._measure(demands, own)
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
        return self._breaking(fault, at)._measure(demands, together(self._always, checks))

    def _measure(self, demands: Mapping[str, object], checks: tuple[Check, ...]) -> Result:
        demanded = self._expectations(demands)
        expected = self.load.applied_to(demanded)
        name = self._unused_name(self.rig.current.test)
        self.rig.current.begin(name)
        log = self.rig.log
        self._given, self._checks = frozenset(demands), checks
        self._of_parts = self._parts.demands(replace(self._defaults, window=expected.window), demands, self._at)
        self._write(expected)
        for text in self._adapted_parts(expected):
            log.add(Remark(text))
        try:
            if self._can_be_judged(demanded):
                self._experiment(expected)
        finally:
            self._phase(Phase.DONE)
            self.rig.current.end(by_hand=self._unused_name(f"{name}-by-hand"))
        not_restored = restore(self.rig)
        self.rig.check_watches()
        if not_restored and log.has(RedundancyBack):
            log.add(Problem(f"the first shape could not be restored: {not_restored}"))
        result = result_of(self.rig.history, name, checks=checks)
        write_checked(log, result.checks)
        log.add(Judged(result.outcome))
        self._on_result(result)
        return result

    # -- what is demanded ---------------------------------------------------------------------------------------

    @cached_property
    def _parts(self) -> JudgedParts:
        """Which apps and which names of requests are judged by themselves."""
        return self.load.judged(self.rig)

    def _write(self, expected: Expectations) -> None:
        """Writes what is demanded now; the last that was written counts."""
        autoscaled = self.rig.health.shape.autoscaled
        write_expectations(
            self.rig.log,
            expected,
            autoscaled=autoscaled,
            checks=self._checks,
            parts=self._parts,
            of_parts=self._of_parts,
        )

    @property
    def _defaults(self) -> Expectations:
        return self.fault.expectations(self.rig.cluster.spec)

    def _expectations(self, demands: Mapping[str, object]) -> Expectations:
        # The window, and what an outage may last at least, grow so that there are enough requests to judge them on: the
        # window to that of the app with the fewest, the outage of each app by its own requests in all of that window.
        expected = with_demands(self._defaults, demands)
        back, held_for = expected.redundancy_back, self.fault.held_for
        if "redundancy_back" in demands and back is not None and back <= held_for:
            raise SettingsError(
                f"redundancy_back={limit(back)} counts from the fault, whose victim is down for {limit(held_for)}",
                fix=[f"allow more than that: redundancy_back='{held_for + 120:g}s'", "or keep it down for less: for_"],
            )
        if "window" not in demands:
            expected = replace(expected, window=window_for(expected, self._parts.schedule, self._at))
        defaults = replace(self._defaults, window=expected.window)
        return with_demands(can_show(defaults, self.load.schedule, self._at), demands)

    def _unused_name(self, name: str) -> str:
        """The second experiment of a test has a name of its own, so that their events are not taken for one's."""
        used = {e.experiment for e in self.rig.history.events if isinstance(e, (Demanded, FaultAsked))}
        return next(n for n in (name, *(f"{name}-{i}" for i in range(2, 10_000))) if n not in used)

    def _can_be_judged(self, expected: Expectations) -> bool:
        """Says how long it will take; False, and nothing is broken, where the demand cannot be judged at all."""
        schedule, timeout = self.load.schedule, self.load.timeout
        # What a fault needs must be so in the slowest stage that it may meet.
        of_this_fault = self.fault.not_shown(self.rig.watcher.topology, schedule.least(self._at, expected.window))
        for reason in (*self._not_shown(expected), *of_this_fault):
            self.rig.log.add(NotStarted(reason))
            return False
        room = in_flight_possible(schedule, timeout)
        if room.needed > room.possible:
            self.rig.progress(
                f"an app that hangs has {room.needed} requests in flight, and this process may have {room.possible}:"
                f" raise `ulimit -n` to {open_files_for(room.needed)}, or lower the rate or the timeout"
            )
        outlook = self._outlook(expected)
        say_how_long(self.rig.progress, f"{self.fault.kind}: {outlook.text}", outlook.seconds)
        return True

    def _not_shown(self, expected: Expectations) -> Iterator[str]:
        """What is demanded and cannot be shown by all requests, or by those of one app."""
        whole, proxies = self.load.schedule, len(self.rig.watcher.topology.of("proxy"))

        def of_requests(demanded: Expectations, schedule: Schedule) -> Iterator[str]:
            share = schedule.first / whole.first
            return not_shown(
                demanded,
                schedule=schedule,
                timeout=self.load.timeout,
                since=self._at,
                persistent_rate=self.load.persistent_rate * proxies * share,
            )

        if not self._parts.apps:
            yield from of_requests(expected, whole)
        for own in self._of_parts:
            if own.of.kind == "app":
                reasons = of_requests(own.within(expected), self._parts.own[own.of])
                yield from (f"{own.of}: {reason}" for reason in reasons)

    def _adapted_parts(self, expected: Expectations) -> Iterator[str]:
        """For which apps a default is another one than for all requests, a sentence each."""
        for own in self._of_parts:
            longest = own.longest_outage
            if own.of.kind == "app" and longest is not None and longest != expected.longest_outage:
                spacing = self._parts.own[own.of].spacing(expected.window, self._at)
                yield (
                    f"{own.of}: outages of {limit(round(longest, 3))} are allowed, because its requests are up to"
                    f" {limit(round(spacing, 3))} apart"
                )

    def _outlook(self, expected: Expectations) -> Outlook:
        """How long it will take, by what is known before."""
        return Outlook(
            expected=expected,
            schedule=self.load.schedule,
            timeout=self.load.timeout,
            persistent_rate=self.load.persistent_rate,
            at=self._at,
            replicas=replicas_to_reach(self.rig.watcher.topology, self._parts.shares),
            waits=self.rig.waits,
            app=self._parts.rarest,
            of_app=self._parts.schedule,
        )

    # -- the phases ---------------------------------------------------------------------------------------------

    def _experiment(self, expected: Expectations) -> None:
        traffic = Traffic(self.rig, self.load, source="")
        try:
            traffic.start()
        except Inconclusive as error:  # written as `not_started`; the verdict says so
            for advice in error.fix:
                self.rig.progress(f"no steady state: {advice}")
            return
        try:
            if not self._wait_for_its_moment(traffic):
                return
            record = read_record(self.rig.history, self.rig.current.experiment)
            self.rig.traffic.slowness = record.slowness
            self.rig.traffic.of_apps = {app: record.of_part(PartName("app", app)).slowness for app in record.apps}
            expected = self._widen(expected)
            before = self.rig.watcher.sample()
            self.rig.log.add(TopologySeen.of(before, Moment.BEFORE))
            self._phase(Phase.INJECT)
            try:
                injection = self.fault.inject(self.rig)
            except OwnerChangedIt as error:
                self.rig.log.add(NotStarted(error.what))
                return
            try:
                self._adapt(expected, before, injection)
                self._phase(Phase.WATCH)
                back = injection.landed and self._watch(injection, expected)
                self._wait_window(injection, expected)
                self._say_if_away_again(injection)
                changed = self.rig.look_at_its_owner()
                if changed:
                    self.rig.progress(changed)
                    return
                if back:
                    look_for_idle_replicas(self.rig, self._least_since_redundancy(traffic))
                    look_at_the_end(injection, expected)
                self._look_afterwards(injection)
                # Before healing: what healing replaces, and what that costs, is not the cluster's doing.
                if self.rig.health.scales:
                    self.rig.watcher.ask()  # an autoscaler may have wanted fewer just now
                self.rig.log.add(TopologySeen.of(self.rig.watcher.sample(), Moment.AFTER))
                unchecked: str = getattr(injection.fault, "unchecked", "")
                if unchecked:
                    self.rig.log.add(Remark(unchecked))
                elif back:
                    self._settle(injection, traffic, expected)
            finally:
                self._heal(injection)
        finally:
            traffic.stop()

    def _wait_for_its_moment(self, traffic: Traffic) -> bool:
        """Waits until the fault is due; False if requests were lost meanwhile, so that nothing should be broken."""
        if not self._at:
            return True
        self.rig.progress(f"the fault comes {self._at:g} s after steady state")
        traffic.wait_until(self._at)
        since = clock.now() - max(self._at, self.rig.waits.stable_for)
        live = self.rig.traffic
        sent = self.rig.history.requests_since(since, source=live.source, with_pending=True)
        # One that is in flight is as good as lost once it has waited too long.
        before = [r for r in sent if not r.kept and (r.error != UNFINISHED or r.latency > live.slowness.after)]
        lost = sum(request.lost for request in before)
        if not lost:
            return True
        rate = self.load.schedule.words
        self.rig.log.add(
            NotStarted(
                f"{lost} of {number(len(before), 'request')} lost in the {self._at:g} s between steady state and the"
                f" fault, so what is lost after it need not be its doing; sent were {rate}"
            )
        )
        return False

    def _widen(self, expected: Expectations) -> Expectations:
        """Judges for longer where answers take seconds, unless the test says for how long."""
        usual = self.rig.traffic.slowness.usual
        more = patience(usual)
        if not more:
            return expected
        if "window" not in self._given:
            expected = replace(expected, window=expected.window + more)
            self._write(expected)
        outlook = self._outlook(expected)
        say_how_long(
            self.rig.progress, f"{self.fault.kind}: {outlook.after_steady(usual)}", outlook.seconds_after_steady(usual)
        )
        return expected

    def _adapt(self, expected: Expectations, before: Topology, injection: Injection) -> None:
        """Takes back what a fault demands by default of components that this cluster has not."""
        victims = [component.identity for component in injection.fault.victims]
        adapted = expected
        for name in ("replaced", "kept"):
            selectors: tuple[str, ...] = getattr(expected, name)
            if name in self._given:
                continue
            nobodies = {s: why for s in selectors if (why := nobody(before, s, victims=victims))}
            for selector, why in nobodies.items():
                self.rig.log.add(Remark(f"whether {selector} is {name} is not judged: {why}"))
            adapted = _with_selectors(adapted, name, tuple(s for s in selectors if s not in nobodies))
        if adapted != expected:
            self._write(adapted)

    def _watch(self, injection: Injection, expected: Expectations) -> bool:
        """Waits until traffic and redundancy are back; whether redundancy is."""
        held_for = injection.hold_for or 0.0
        deadline = clock.now() + (expected.redundancy_back or 120.0 + held_for)
        ends_by_itself = injection.hold_for is not None
        if injection.held and not ends_by_itself:
            self._say(lambda: self._traffic_back(injection, deadline))
            self._say(lambda: self._at_rest(injection, deadline))
            injection.heal()
        if ends_by_itself and not self._healed_by_itself(injection, deadline):
            return False
        # Before traffic, whose way back is read from the requests later: this is seen only while it is awaited.
        back = self._redundancy_back(injection, deadline + (20.0 if ends_by_itself else 0.0))
        self._say(lambda: self._traffic_back(injection, deadline))
        return back

    def _least_since_redundancy(self, traffic: Traffic) -> float:
        """The lowest rate since redundancy was back: from then on each replica gets requests."""
        back = self.rig.log.of(RedundancyBack)[-1].at
        return self.load.schedule.least(max(0.0, traffic.elapsed - (clock.now() - back)))

    def _look_afterwards(self, injection: Injection) -> None:
        """Writes what a fault itself has to say of its victims, which no identity of a component shows."""
        if injection.landed and isinstance(injection.fault, LooksAfterwards):
            for text in injection.fault.afterwards():
                self.rig.log.add(Remark(text))

    def _settle(self, injection: Injection, traffic: Traffic, expected: Expectations) -> None:
        """Runs the post-recovery checks after all that is judged.

        The replicas that they start or end, and what that costs, are not the fault's doing.
        """
        self._phase(Phase.POST_RECOVERY)
        traffic.wait_answered()  # what was sent before is judged; what is sent meanwhile is not
        if self.rig.cluster.capability(IS_EXTERNAL) is not None:
            traffic.stop()  # there the check replaces replicas, and the requests of this test would be lost as well
        begun = clock.now()
        try:
            injection.wait_settled()
        except (ExpectationFailed, Inconclusive) as error:
            self.rig.progress(error.what)
        look_for_leaks(self.rig)
        if traffic.running:
            look_for_losses(self.rig, begun, expected, self._of_parts)
        if traffic.running:
            self._settle_handles(injection)

    def _settle_handles(self, injection: Injection) -> None:
        """Kills a replica, so it comes last; it needs traffic to see whom the others reach."""
        if not self.rig.log.has(Settled):
            return
        try:
            if not children_of(self.rig.watcher):
                return
            self._phase(Phase.HANDLES)
            injection.wait_children_reached()
        except ExpectationFailed as error:
            self.rig.progress(error.what)
        except Inconclusive as error:
            self.rig.progress(error.what)
            self.rig.log.add(SettlingUnknown(error.what))

    def _heal(self, injection: Injection) -> None:
        """Heals; what cannot be healed is not the verdict's business, but the next test needs another cluster."""
        try:
            injection.close()
        except Exception as error:  # `restore` tries again
            text = in_one_line(error)
            self.rig.progress(text)
            self.rig.log.add(Note(f"not healed: {text}"))
            self.rig.soundness.taint(text)

    def _traffic_back(self, injection: Injection, deadline: float) -> None:
        back = injection.wait_traffic_back(max(1.0, deadline - clock.now()))
        self._said_back = back
        self.rig.progress(f"traffic is back {back:.1f} s after the fault")

    def _say_if_away_again(self, injection: Injection) -> None:
        """Corrects the line about traffic, which it printed while a later outage might still come."""
        back = injection.traffic_back_now() if injection.landed and self._said_back is not None else None
        if isinstance(back, float) and self._said_back is not None and back > self._said_back:
            self.rig.progress(f"traffic was away again, and is back {back:.1f} s after the fault")

    def _at_rest(self, injection: Injection, deadline: float) -> None:
        took = injection.wait_at_rest(max(1.0, deadline - clock.now()))
        self.rig.progress(f"nothing more is replaced {took:.1f} s after the fault: heal")

    def _redundancy_back(self, injection: Injection, deadline: float) -> bool:
        try:
            took = injection.wait_redundancy_back(max(1.0, deadline - clock.now()))
        except (ExpectationFailed, Inconclusive) as error:
            self.rig.progress(error.what)
            self.rig.log.add(Note(error.what))
            self.rig.soundness.taint(error.what)
            return False
        self.rig.progress(f"redundancy is back {took:.1f} s after the fault")
        return True

    def _say(self, step: Callable[[], None]) -> None:
        try:
            step()
        except (ExpectationFailed, Inconclusive) as error:
            self.rig.progress(error.what)
            self.rig.log.add(Note(error.what))

    def _healed_by_itself(self, injection: Injection, deadline: float) -> bool:
        """Waits for the end of a fault that ends by itself; False where it is the cluster that does not end it.

        What the cluster has to bring back itself may take as long as the return of redundancy.

        Raises:
            NotHealed: It does not end, and ending it takes nothing of the cluster.
        """
        rolls_back = getattr(injection.fault, "rolls_back", False)
        left = deadline - injection.asked - (injection.hold_for or 0.0)
        try:
            injection.wait_healed(max(HEALS_WITHIN, left) if rolls_back else HEALS_WITHIN)
        except NotHealed as error:
            if not rolls_back:
                raise
            text = f"redundancy is not back: {'; '.join(injection.missing()) or error.what}"
            self.rig.log.add(RedundancyMissing(text))
            self.rig.soundness.taint(text)
            return False
        return True

    def _wait_window(self, injection: Injection, expected: Expectations) -> None:
        """Goes on with traffic until the window is full and the last outage has ended for a second.

        Persistent connections to the victims are judged only once redundancy is back, so they get some seconds then.
        """
        if not injection.landed:
            return
        end = injection.asked + expected.window
        if self.load.persistent_rate and expected.on_persistent_connections is not None:
            back = [one.at for one in self.rig.log.of(RedundancyBack)]
            lasts = persistent_for(self.rig.waits, self.load.persistent_rate, self.rig.traffic.slowness.usual)
            end = max([end, *(at + lasts for at in back)])
        # Two requests more of each app, so that traffic does not seem to end before its time.
        schedule = self.load.schedule if self._parts is None else self._parts.schedule
        spacing = schedule.spacing(expected.window, self._at)
        latest = max(end, injection.asked + (expected.traffic_back or 0.0) + 2 * spacing)

        def full() -> bool | NotYet:
            left = end + 0.2 - clock.now()
            if left > 0:
                return NotYet(f"{left:.0f} s of the window are left")
            # Traffic that ends while requests are lost, or in flight, could not show that the last outage is over.
            back = injection.traffic_back_now()
            return back if isinstance(back, NotYet) and clock.now() < latest else True

        most, shown = max(0.0, latest - clock.now()), while_waiting(self.rig.progress, "the window to be full")
        clock.wait_until("the window to be full", full, timeout=most + 10.0, interval=0.25, on_wait=shown)

    def _phase(self, phase: Phase) -> None:
        self.rig.log.add(PhaseBegan.of(phase))


def _with_selectors(expected: Expectations, name: str, selectors: tuple[str, ...]) -> Expectations:
    return replace(expected, replaced=selectors) if name == "replaced" else replace(expected, kept=selectors)
