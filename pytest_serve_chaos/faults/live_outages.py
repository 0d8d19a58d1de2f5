"""Outages since a fault as they are known while traffic runs, by the rules by which they are judged afterwards."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_serve_chaos.analysis.outages import find_outages, is_over
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.faults.live_traffic import LiveTraffic
from pytest_serve_chaos.history import History
from pytest_serve_chaos.model import UNFINISHED, Request, Slowness

_BEFORE = 10.0
"""Seconds before the fault from which requests are looked at: the first after it may still be in flight."""


@dataclass(frozen=True, slots=True)
class LiveOutages:
    """When the last outage since a fault ended.

    Attributes:
        history: Where the requests are.
        live: What is known of the traffic that is judged.
        asked: When the fault was asked for, monotonic seconds.
        quiet: Seconds of good answers after which an outage is over.
    """

    history: History
    live: LiveTraffic
    asked: float
    quiet: float

    def end(self) -> float | NotYet:
        """Seconds from the fault to the end of the last outage of any app, once all has been well for a while.

        A request in flight counts as away once it has waited too long. Until then nothing is known of it, nor of what
        came after it: what a silent node swallowed says nothing until then.
        """
        live = self.live
        of_apps = self._requests_of_apps()
        latest = 0.0
        for app, requests in of_apps.items():
            end = self._end_of(requests, live.of_apps.get(app, live.slowness))
            if isinstance(end, NotYet):
                return NotYet(f"app {app}: {end.seen}") if app and any(of_apps.values()) else end
            latest = max(latest, end)
        return latest if of_apps else NotYet("no requests")

    def _requests_of_apps(self) -> dict[str, list[Request]]:
        live = self.live
        since = self.asked - max(_BEFORE, 2 * live.slowness.usual)
        of_apps: dict[str, list[Request]] = {app: [] for app in live.of_apps}
        for request in self.history.requests_since(since, live.source, with_pending=True):
            if not request.kept:
                of_apps.setdefault(request.app if live.of_apps else "", []).append(request)
        return of_apps

    def _end_of(self, fresh: Sequence[Request], slowness: Slowness) -> float | NotYet:
        """The same, of the requests of one app; as they are judged afterwards."""
        unknown = [r.scheduled for r in fresh if r.error == UNFINISHED and r.latency <= slowness.after]
        known = min(unknown, default=math.inf)
        requests = sorted((r for r in fresh if r.scheduled < known), key=lambda request: request.scheduled)
        if not requests or requests[-1].scheduled < self.asked:
            in_flight = any(r.error == UNFINISHED for r in fresh)
            return NotYet("requests are in flight since the fault" if in_flight else "no requests")
        outages = find_outages(requests, asked=self.asked, slowness=slowness)
        end = outages[-1].end if outages else self.asked
        if end is None:
            return NotYet(f"requests are lost or late since {outages[-1].start - self.asked:.1f} s after the fault")
        quiet_for = requests[-1].scheduled - end
        if quiet_for < self.quiet or (outages and not is_over(end, requests, good_for=self.quiet)):
            return NotYet(f"good answers for {max(0.0, quiet_for):.1f} s only")
        return end - self.asked
