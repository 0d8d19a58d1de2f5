"""Over which time traffic by hand is judged: from the fault on, for as long as it takes to show what is demanded."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pytest_serve_chaos.analysis.demands import patience, seconds_needed, window_for
from pytest_serve_chaos.events import FaultAsked, FaultHealed
from pytest_serve_chaos.history import ExperimentLog
from pytest_serve_chaos.model import Expectations
from pytest_serve_chaos.schedule import Schedule


@dataclass(frozen=True, slots=True)
class JudgedTime:
    """The time of one traffic that counts: from the first fault that was asked for since it began.

    Attributes:
        log: Where faults are written.
        begun: When it began, monotonic seconds.
        stages_begun: When its stages did; None: not yet.
        schedule: Of the requests of the app that gets the fewest.
        usual: What answers take in steady state, seconds.
    """

    log: ExperimentLog
    begun: float
    stages_begun: float | None
    schedule: Schedule
    usual: float

    @property
    def asked(self) -> float | None:
        """When that fault was asked for; None if none was."""
        return next((e.at for e in self.log.of(FaultAsked, since=self.begun)), None)

    def usual_window(self, demanded: Expectations, judged_for: float) -> float:
        """Seconds from the fault for which traffic is needed.

        Args:
            demanded: What is demanded of it.
            judged_for: Seconds for which such traffic is judged, if that is enough to show it.
        """
        usual = min(demanded.window, judged_for) + self._held
        needed = seconds_needed(demanded, self.schedule, self._fault_in_stages)
        return max(usual, needed) + patience(self.usual)

    def window(self, demanded: Expectations, last: float) -> float:
        """As an experiment has it, but no longer than the traffic lasted: a test that idles on dilutes nothing.

        Args:
            demanded: What is demanded of it.
            last: When its last request was due, monotonic seconds.
        """
        asked = self.asked
        lasted = last - (self.begun if asked is None else asked)
        wanted = max(
            window_for(demanded, self.schedule, self._fault_in_stages),
            demanded.window + self._held,
        ) + patience(self.usual)
        return wanted if lasted >= wanted else max(0.1, math.ceil(10 * lasted) / 10)

    @property
    def _held(self) -> float:
        """Seconds from the first fault until the last of those that heal by themselves did, or was healed before."""
        asked = self.asked
        healed = {e.injection: e.at for e in self.log.of(FaultHealed, since=self.begun)}
        ends = [
            min(e.at + e.held_for, healed.get(e.injection, math.inf))
            for e in self.log.of(FaultAsked, since=self.begun)
            if e.held_for
        ]
        return 0.0 if asked is None else max(ends, default=asked) - asked

    @property
    def _fault_in_stages(self) -> float:
        """When the fault was asked for, in seconds since the stages began."""
        asked = self.asked
        return 0.0 if asked is None or self.stages_begun is None else max(0.0, asked - self.stages_begun)
