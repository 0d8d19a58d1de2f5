"""What follows a fault while it is judged: its end, and the return of redundancy and of traffic."""

from __future__ import annotations

from collections.abc import Callable

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.criteria import Criteria
from pytest_serve_chaos.errors import ExpectationFailed, Inconclusive, NotHealed
from pytest_serve_chaos.events import Note, RedundancyBack, RedundancyMissing
from pytest_serve_chaos.faults.injection import HEALS_WITHIN, Injection
from pytest_serve_chaos.model import Expectations
from pytest_serve_chaos.outlook import persistent_for
from pytest_serve_chaos.progress import while_waiting


class Recovery:
    """What follows one fault. What does not come in time is noted, and left to the verdict.

    Args:
        injection: The fault.
        criteria: By what the experiment is judged.
        expected: What is demanded of it, as far as that is known by now.
    """

    def __init__(self, injection: Injection, criteria: Criteria, expected: Expectations) -> None:
        self._injection = injection
        self._criteria = criteria
        self._expected = expected
        self._rig = injection.rig
        self._said_back: float | None = None

    def wait(self) -> bool:
        """Waits until traffic and redundancy are back, and heals what waits for that; whether redundancy is back."""
        injection = self._injection
        held_for = injection.hold_for or 0.0
        deadline = clock.now() + (self._expected.redundancy_back or 120.0 + held_for)
        ends_by_itself = injection.hold_for is not None
        if injection.held and not ends_by_itself:
            self._say(lambda: self._traffic_back(deadline))
            self._say(lambda: self._at_rest(deadline))
            injection.heal()
        if ends_by_itself and not self._healed_by_itself(deadline):
            return False
        # Before traffic, whose way back is read from the requests later: this is seen only while it is awaited.
        back = self._redundancy_back(deadline + (20.0 if ends_by_itself else 0.0))
        self._say(lambda: self._traffic_back(deadline))
        return back

    def wait_window(self) -> None:
        """Goes on with traffic until the window is full and the last outage has ended for a second."""
        injection = self._injection
        if not injection.landed:
            return
        end = self._end_of_window()
        # Two requests more of each app, so that traffic does not seem to end before its time.
        spacing = self._criteria.parts.schedule.spacing(self._expected.window, self._criteria.at)
        latest = max(end, injection.asked + (self._expected.traffic_back or 0.0) + 2 * spacing)

        def full() -> bool | NotYet:
            left = end + 0.2 - clock.now()
            if left > 0:
                return NotYet(f"{left:.0f} s of the window are left")
            # Traffic that ends while requests are lost, or in flight, could not show that the last outage is over.
            back = injection.traffic_back_now()
            return back if isinstance(back, NotYet) and clock.now() < latest else True

        most, shown = max(0.0, latest - clock.now()), while_waiting(self._rig.progress, "the window to be full")
        clock.wait_until("the window to be full", full, timeout=most + 10.0, interval=0.25, on_wait=shown)

    def _end_of_window(self) -> float:
        """Persistent connections to the victims are judged only once redundancy is back, so they get seconds then."""
        end, rate = self._injection.asked + self._expected.window, self._criteria.load.persistent_rate
        if not rate or self._expected.on_persistent_connections is None:
            return end
        lasts = persistent_for(self._rig.waits, rate, self._rig.traffic.slowness.usual)
        return max([end, *(one.at + lasts for one in self._rig.log.of(RedundancyBack))])

    def say_if_away_again(self) -> None:
        """Corrects the line about traffic, which it printed while a later outage might still come."""
        if not self._injection.landed or self._said_back is None:
            return
        back = self._injection.traffic_back_now()
        if isinstance(back, float) and back > self._said_back:
            self._rig.progress(f"traffic was away again, and is back {back:.1f} s after the fault")

    def _say(self, step: Callable[[], None]) -> None:
        try:
            step()
        except (ExpectationFailed, Inconclusive) as error:
            self._rig.progress(error.what)
            self._rig.log.add(Note(error.what))

    def _traffic_back(self, deadline: float) -> None:
        back = self._injection.wait_traffic_back(max(1.0, deadline - clock.now()))
        self._said_back = back
        self._rig.progress(f"traffic is back {back:.1f} s after the fault")

    def _at_rest(self, deadline: float) -> None:
        took = self._injection.wait_at_rest(max(1.0, deadline - clock.now()))
        self._rig.progress(f"nothing more is replaced {took:.1f} s after the fault: heal")

    def _redundancy_back(self, deadline: float) -> bool:
        try:
            took = self._injection.wait_redundancy_back(max(1.0, deadline - clock.now()))
        except (ExpectationFailed, Inconclusive) as error:
            self._rig.progress(error.what)
            self._rig.log.add(Note(error.what))
            self._rig.soundness.taint(error.what)
            return False
        self._rig.progress(f"redundancy is back {took:.1f} s after the fault")
        return True

    def _healed_by_itself(self, deadline: float) -> bool:
        """Waits for the end of a fault that ends by itself; False where it is the cluster that does not end it.

        What the cluster has to bring back itself may take as long as the return of redundancy.

        Raises:
            NotHealed: It does not end, and ending it takes nothing of the cluster.
        """
        injection = self._injection
        rolls_back = getattr(injection.fault, "rolls_back", False)
        left = deadline - injection.asked - (injection.hold_for or 0.0)
        try:
            injection.wait_healed(max(HEALS_WITHIN, left) if rolls_back else HEALS_WITHIN)
        except NotHealed as error:
            if not rolls_back:
                raise
            text = f"redundancy is not back: {'; '.join(injection.missing()) or error.what}"
            self._rig.log.add(RedundancyMissing(text))
            self._rig.soundness.taint(text)
            return False
        return True
