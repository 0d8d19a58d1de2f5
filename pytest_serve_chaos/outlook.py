"""How long an experiment will take, and why: computed before anything is broken."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pytest_serve_chaos.analysis.demands import patience, seconds_needed
from pytest_serve_chaos.analysis.statistics import requests_needed
from pytest_serve_chaos.analysis.words import limit_percent
from pytest_serve_chaos.cluster.waits import Waits
from pytest_serve_chaos.final_check import idle_within
from pytest_serve_chaos.model import Expectations
from pytest_serve_chaos.schedule import Schedule
from pytest_serve_chaos.steady import Sent, steady_within

_LEAST_KEPT = 5
_COVERED = 5.0
"""Requests on each persistent connection to a victim that are judged at least: if all are lost, that is not chance;
and the seconds that they get without slow answers."""

_LONGEST_KEPT = 60.0
"""Seconds after which nobody waits any longer for these."""

_REDUNDANCY = 120.0
"""Seconds in which redundancy must be back where nobody says how many."""

_SETTLING = 30.0
"""Seconds for the post-recovery check."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """How long an experiment will take.

    Attributes:
        expected: What is demanded.
        schedule: Of the requests.
        timeout: Seconds until a request is lost.
        persistent_rate: Requests per second on each persistent connection; 0: there are none.
        at: Seconds from steady state to the fault.
        replicas: How many there are: each must answer before the fault and after it. Of apps that get few requests they
            count for more, as `replicas_to_reach` says.
        waits: How long the plugin waits for such a cluster.
        app: The app that gets the fewest requests, if several are asked: each must be shown by its own.
        of_app: When these are due.
    """

    expected: Expectations
    schedule: Schedule
    timeout: float
    persistent_rate: float
    at: float
    replicas: int
    waits: Waits
    app: str = ""
    of_app: Schedule | None = None

    @property
    def seconds(self) -> float:
        """How long it will take, before traffic begins."""
        return self._steady() + self.at + self._judged(0.0) + self.expected.watched_for

    def seconds_after_steady(self, usual: float) -> float:
        """How long it will still take in steady state, where answers take `usual` seconds."""
        return self._judged(usual) + self.expected.watched_for

    @property
    def text(self) -> str:
        """For people, before traffic begins."""
        steady, total = self._steady(), self.seconds
        parts = [f"{_s(steady)} until steady state"]
        parts += [f"{_s(self.at)} until the fault"] if self.at else []
        parts += [self._window()]
        parts += [f"{_s(self.expected.watched_for)} watched for leaks"] if self.expected.watched_for else []
        return f"about {_s(total)}: {', '.join(parts)}; {self._longer(0.0)}"

    def after_steady(self, usual: float) -> str:
        """For people, in steady state, where answers take long.

        Args:
            usual: What they take, seconds.
        """
        left = _s(self.seconds_after_steady(usual))
        return f"answers take up to {usual:.2g} s, so about {left} from now: {self._window()}; {self._longer(usual)}"

    def _steady(self) -> float:
        """Until there are enough answers, and each app and each replica has given one."""
        return max(self._sent.span, 1 / self._fewest.first, self._reach(self.schedule.first))

    @property
    def _fewest(self) -> Schedule:
        return self.of_app or self.schedule

    def _reach(self, rate: float) -> float:
        """Seconds in which n * (ln n + 1) requests reach n replicas, most often."""
        return self.replicas * (math.log(self.replicas) + 1) / rate if self.replicas else 0.0

    @property
    def _sent(self) -> Sent:
        return Sent("", self.schedule.first, self.timeout, kept=self.persistent_rate > 0, waits=self.waits)

    def _judged(self, usual: float) -> float:
        return max(self.expected.window, self._after_redundancy(usual))

    def _after_redundancy(self, usual: float) -> float:
        """Seconds of traffic once redundancy is back, for each replica and each persistent connection."""
        return max(self._reach(self.schedule.least(self.at)) + usual if self.replicas else 0.0, self._kept(usual))

    def _kept(self, usual: float) -> float:
        judged = self.persistent_rate and self.expected.on_persistent_connections is not None
        return persistent_for(self.waits, self.persistent_rate, usual) if judged else 0.0

    def _most_after_redundancy(self, usual: float) -> float:
        if not self.replicas:
            return self._kept(usual)
        return max(idle_within(self.replicas, self.schedule.least(self.at), usual), self._kept(usual))

    def _window(self) -> str:
        words = f"{_s(self.expected.window)} of traffic judged"
        share = self.expected.availability
        fewest = self._fewest
        needed = seconds_needed(self.expected, fewest, self.at)
        if share is None or not needed:
            return words
        requests = requests_needed(share, self.expected.confidence)
        of = f"at {fewest.first:.3g}/s" if len(fewest.stages) == 1 else "in these stages"
        whose = f" to the app {self.app}, which gets the fewest" if self.app else ""
        return f"{words} ({limit_percent(share)} takes {requests} requests{whose}, {_s(needed)} {of})"

    def _longer(self, usual: float) -> str:
        after, most_after = self._after_redundancy(usual), self._most_after_redundancy(usual)
        back = self.expected.redundancy_back or _REDUNDANCY
        limit = 0.0 if usual else self.at + steady_within(self._sent, self.replicas, least=self.waits.steady_within)
        most = limit + max(self.expected.window + patience(usual), back + most_after) + _SETTLING
        most += self.expected.watched_for
        spare = self._judged(usual) - after
        until = (
            f"longer if redundancy takes more than {_s(spare)} to be back"
            if spare > 0
            else "and until redundancy is back"
        )
        kept = f"persistent connections get {_s(self._kept(usual))}, " if self._kept(usual) else ""
        return f"{until}; after that {kept}each replica must answer within {_s(most_after)}; at most {_s(most)}"


def persistent_for(waits: Waits, rate: float, usual: float) -> float:
    """Seconds of traffic once redundancy is back, for the persistent connections that are judged from then on.

    A connection carries one request at a time, so slow answers take their time as well.

    Args:
        waits: How long the plugin waits at least.
        rate: Requests per second on each connection.
        usual: What an answer takes, seconds.
    """
    # The next request is the first of the schedule after the answer.
    period = (math.floor(usual * rate) + 1) / rate
    more = min(_LEAST_KEPT * period, _LONGEST_KEPT) - _COVERED
    return waits.persistent_until + max(0.0, more)


def _s(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds >= 10 or seconds == int(seconds) else f"{seconds:.2g} s"
