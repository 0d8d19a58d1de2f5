"""The course of an experiment: steady state, the fault, what follows it, the post-recovery checks, and healing."""

from __future__ import annotations

from dataclasses import replace

from pytest_serve_chaos import clock
from pytest_serve_chaos.analysis.demands import patience
from pytest_serve_chaos.analysis.record import read_record
from pytest_serve_chaos.analysis.words import number
from pytest_serve_chaos.cluster.capabilities import IS_EXTERNAL
from pytest_serve_chaos.criteria import Criteria, write_criteria
from pytest_serve_chaos.errors import ExpectationFailed, Inconclusive, OwnerChangedIt, in_one_line
from pytest_serve_chaos.events import (
    Moment,
    Note,
    NotStarted,
    Phase,
    PhaseBegan,
    RedundancyBack,
    Remark,
    Settled,
    SettlingUnknown,
    TopologySeen,
)
from pytest_serve_chaos.faults.admission import look_at_its_owner
from pytest_serve_chaos.faults.fault import LooksAfterwards
from pytest_serve_chaos.faults.injection import Injection
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.final_check import look_at_the_end, look_for_idle_replicas, look_for_leaks, look_for_losses
from pytest_serve_chaos.leak_watch import LeakWatch
from pytest_serve_chaos.load import Traffic
from pytest_serve_chaos.model import UNFINISHED, Expectations, PartName, Topology
from pytest_serve_chaos.observe.handles import children_of
from pytest_serve_chaos.progress import say_how_long
from pytest_serve_chaos.recovery import Recovery
from pytest_serve_chaos.traffic.sockets import in_flight_possible, open_files_for


class Course:
    """All that happens in one experiment. It writes what it sees to the history, and judges nothing.

    Args:
        rig: The cluster under test, and what is recorded about it.
        criteria: By what it will be judged, which decides how long it lasts.
    """

    def __init__(self, rig: Rig, criteria: Criteria) -> None:
        self._rig = rig
        self._criteria = criteria
        self._leak_watch = LeakWatch(rig, criteria.expected)

    def run(self) -> None:
        """Runs it to its end. Nothing is broken where that could not be judged."""
        if not self._can_be_judged():
            return
        with self._leak_watch:
            self._send_and_break()

    def _send_and_break(self) -> None:
        traffic = Traffic(self._rig, self._criteria.load, source="")
        try:
            traffic.start()
        except Inconclusive as error:  # written as `not_started`; the verdict says so
            for advice in error.fix:
                self._rig.progress(f"no steady state: {advice}")
            return
        try:
            if self._wait_for_its_moment(traffic):
                self._break(traffic)
        finally:
            traffic.stop()

    # -- before the fault ---------------------------------------------------------------------------------------

    def _can_be_judged(self) -> bool:
        """Says how long it will take; False, and nothing is broken, where the demand cannot be judged at all."""
        rig, criteria = self._rig, self._criteria
        for reason in (*criteria.not_shown(rig.watcher.topology), *self._leak_watch.not_shown()):
            rig.log.add(NotStarted(reason))
            return False
        room = in_flight_possible(criteria.load.schedule, criteria.load.timeout)
        if room.needed > room.possible:
            rig.progress(
                f"an app that hangs has {room.needed} requests in flight, and this process may have {room.possible}:"
                f" raise `ulimit -n` to {open_files_for(room.needed)}, or lower the rate or the timeout"
            )
        demanded = replace(criteria.demanded, watch_for=self._leak_watch.seconds)
        outlook = criteria.outlook(demanded, rig.watcher.topology, rig.waits)
        say_how_long(rig.progress, f"{criteria.fault.kind}: {outlook.text}", outlook.seconds)
        return True

    def _wait_for_its_moment(self, traffic: Traffic) -> bool:
        """Waits until the fault is due; False if requests were lost meanwhile, so that nothing should be broken."""
        at, rig = self._criteria.at, self._rig
        if not at:
            return True
        rig.progress(f"the fault comes {at:g} s after steady state")
        traffic.wait_until(at)
        since = clock.now() - max(at, rig.waits.stable_for)
        live = rig.traffic
        sent = rig.history.requests_since(since, source=live.source, with_pending=True)
        # One that is in flight is as good as lost once it has waited too long.
        before = [r for r in sent if not r.kept and (r.error != UNFINISHED or r.latency > live.slowness.after)]
        lost = sum(request.lost for request in before)
        if not lost:
            return True
        rate = self._criteria.load.schedule.words
        rig.log.add(
            NotStarted(
                f"{lost} of {number(len(before), 'request')} lost in the {at:g} s between steady state and the"
                f" fault, so what is lost after it need not be its doing; sent were {rate}"
            )
        )
        return False

    def _learn_what_is_slow(self) -> None:
        record = read_record(self._rig.history, self._rig.current.experiment)
        live = self._rig.traffic
        live.slowness = record.slowness
        live.of_apps = {app: record.of_part(PartName("app", app)).slowness for app in record.demanded.apps}

    def _for_slow_answers(self, expected: Expectations) -> Expectations:
        """What is demanded where answers take seconds."""
        rig, criteria = self._rig, self._criteria
        usual = rig.traffic.slowness.usual
        if not patience(usual):
            return expected
        longer = criteria.for_slow_answers(expected, usual)
        if longer != expected:
            write_criteria(rig, criteria, longer)
        watched = replace(longer, watch_for=self._leak_watch.seconds)
        outlook = criteria.outlook(watched, rig.watcher.topology, rig.waits)
        left = outlook.seconds_after_steady(usual)
        say_how_long(rig.progress, f"{criteria.fault.kind}: {outlook.after_steady(usual)}", left)
        return longer

    # -- the fault ----------------------------------------------------------------------------------------------

    def _break(self, traffic: Traffic) -> None:
        self._learn_what_is_slow()
        expected = self._for_slow_answers(self._criteria.expected)
        before = self._rig.watcher.sample()
        self._rig.log.add(TopologySeen.of(before, Moment.BEFORE))
        self._begin(Phase.INJECT)
        try:
            injection = self._criteria.fault.inject(self._rig)
        except OwnerChangedIt as error:
            self._rig.log.add(NotStarted(error.what))
            return
        try:
            self._demand_of_those_there(expected, before, injection)
            self._follow(injection, traffic, expected)
        finally:
            self._heal(injection)

    def _demand_of_those_there(self, expected: Expectations, before: Topology, injection: Injection) -> None:
        """Takes back what a fault demands by default of components that this cluster has not."""
        victims = [component.identity for component in injection.fault.victims]
        adapted, remarks = self._criteria.of_those_there(expected, before, victims)
        for remark in remarks:
            self._rig.log.add(Remark(remark))
        if adapted != expected:
            write_criteria(self._rig, self._criteria, adapted)

    def _heal(self, injection: Injection) -> None:
        """Heals; what cannot be healed is not the verdict's business, but the next test needs another cluster."""
        try:
            injection.close()
        except Exception as error:  # `restore` tries again
            text = in_one_line(error)
            self._rig.progress(text)
            self._rig.log.add(Note(f"not healed: {text}"))
            self._rig.soundness.taint(text)

    # -- after it -----------------------------------------------------------------------------------------------

    def _follow(self, injection: Injection, traffic: Traffic, expected: Expectations) -> None:
        rig = self._rig
        self._begin(Phase.WATCH)
        recovery = Recovery(injection, self._criteria, expected)
        back = injection.landed and recovery.wait()
        recovery.wait_window()
        recovery.say_if_away_again()
        changed = look_at_its_owner(rig)
        if changed:
            rig.progress(changed)
            return
        if back:
            look_for_idle_replicas(rig, self._least_since_redundancy(traffic))
            look_at_the_end(injection, expected)
        _look_afterwards(injection)
        # Before healing: what healing replaces, and what that costs, is not the cluster's doing.
        if rig.health.scales:
            rig.watcher.ask()  # an autoscaler may have wanted fewer just now
        rig.log.add(TopologySeen.of(rig.watcher.sample(), Moment.AFTER))
        unchecked: str = getattr(injection.fault, "unchecked", "")
        if unchecked:
            rig.log.add(Remark(unchecked))
            if back:
                self._leak_watch.after_recovery()
        elif back:
            self._settle(injection, traffic, expected)

    def _least_since_redundancy(self, traffic: Traffic) -> float:
        """The lowest rate since redundancy was back: from then on each replica gets requests."""
        back = self._rig.log.of(RedundancyBack)[-1].at
        return self._criteria.load.schedule.least(max(0.0, traffic.elapsed - (clock.now() - back)))

    def _settle(self, injection: Injection, traffic: Traffic, expected: Expectations) -> None:
        """Runs the post-recovery checks after all that is judged.

        The replicas that they start or end, and what that costs, are not the fault's doing.
        """
        self._begin(Phase.POST_RECOVERY)
        traffic.wait_answered()  # what was sent before is judged; what is sent meanwhile is not
        if self._rig.cluster.capability(IS_EXTERNAL) is not None:
            traffic.stop()  # there the check replaces replicas, and the requests of this test would be lost as well
        begun = clock.now()
        try:
            injection.wait_settled()
        except (ExpectationFailed, Inconclusive) as error:
            self._rig.progress(error.what)
        look_for_leaks(self._rig)
        if traffic.running:
            look_for_losses(self._rig, begun, expected, self._criteria.of_parts)
        self._leak_watch.after_recovery()  # the check of handles starts a replica, which would only warm up
        if traffic.running:
            self._settle_handles(injection)

    def _settle_handles(self, injection: Injection) -> None:
        """Kills a replica, so it comes last; it needs traffic to see whom the others reach."""
        if not self._rig.log.has(Settled):
            return
        try:
            if not children_of(self._rig.watcher):
                return
            self._begin(Phase.HANDLES)
            injection.wait_children_reached()
        except ExpectationFailed as error:
            self._rig.progress(error.what)
        except Inconclusive as error:
            self._rig.progress(error.what)
            self._rig.log.add(SettlingUnknown(error.what))

    def _begin(self, phase: Phase) -> None:
        self._rig.log.add(PhaseBegan.of(phase))


def _look_afterwards(injection: Injection) -> None:
    """Writes what a fault itself has to say of its victims, which no identity of a component shows."""
    if injection.landed and isinstance(injection.fault, LooksAfterwards):
        for text in injection.fault.afterwards():
            injection.rig.log.add(Remark(text))
