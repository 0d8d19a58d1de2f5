"""Waiting for what comes after a fault, and the error for what does not come in time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from pytest_serve_chaos import clock
from pytest_serve_chaos.analysis.machine import held_up
from pytest_serve_chaos.clock import NotYet, seconds
from pytest_serve_chaos.cluster.capabilities import SHOWS_FAILED_STARTS
from pytest_serve_chaos.errors import ExpectationFailed, Inconclusive, OwnerChangedIt
from pytest_serve_chaos.events import MachineSeen, Remark, of_kind
from pytest_serve_chaos.faults.admission import look_at_its_owner
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.history import ExperimentLog
from pytest_serve_chaos.progress import now_and_then

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Waiting:
    """Waits for what comes after one fault.

    Attributes:
        rig: The cluster under test, and what is recorded about it.
        log: Where it is written.
        asked: When the fault was asked for, monotonic seconds.
    """

    rig: Rig
    log: ExperimentLog
    asked: float

    @property
    def passed(self) -> float:
        """Seconds since the fault."""
        return clock.now() - self.asked

    def until(
        self, what: str, probe: Callable[[], T | NotYet], *, state: str, timeout: float | str, every: float = 0.2
    ) -> T:
        """Waits for it, and says now and then what the state is, for people who wait.

        Args:
            what: The awaited state, as it reads after "waited for".
            probe: As for `clock.wait_until`.
            state: What the state is until then, in words.
            timeout: Seconds, or text with a unit.
            every: Seconds between two probes.

        Raises:
            WaitTimeout: It did not come.
        """

        def words(seen: str) -> str:
            return f"{state} {self.passed:.0f} s after the fault: {seen}"

        tell = now_and_then(self.rig.progress, words)
        return clock.wait_until(what, probe, timeout=seconds(timeout), interval=every, on_wait=tell)

    def held_up(self) -> str:
        """How others' work on this machine held the cluster up since the fault, as a clause; "" if it did not."""
        self.rig.machine.look()
        return held_up(of_kind(MachineSeen, self.rig.history.events), self.asked, math.inf)

    def late(self, what: str) -> ExpectationFailed | Inconclusive:
        """The error for what did not come in time: where others' work held the cluster up, that shows nothing."""
        starts = self.rig.cluster.capability(SHOWS_FAILED_STARTS)
        given_up = () if starts is None else starts.failed_starts(self.asked)
        for text in given_up:
            self.log.add(Remark(text))
        what = "; ".join((what, *given_up))
        changed = look_at_its_owner(self.rig)
        if changed:
            return OwnerChangedIt(f"{what}; {changed}, so the reason may be that and not the fault")
        busy = self.held_up()
        if not busy:
            return ExpectationFailed(what)
        return Inconclusive(
            f"{what}; {busy}, so the reason may be that and not the cluster",
            fix=["leave the machine to this run, or give it more processors"],
        )
