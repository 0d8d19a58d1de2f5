"""Hands requests that have ended to the history, and counts what tells whether the generator kept up."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pytest_serve_chaos import clock
from pytest_serve_chaos.history import History
from pytest_serve_chaos.model import Request
from pytest_serve_chaos.traffic.client import NOT_SENT, Outcome

FRESH = "fresh"
"""The stream of requests on connections of their own."""

SHARED_PATH = "proxies"
"""The path of requests to the address that all proxies share, when it cannot be told which one took them."""

UNFINISHED = "Unfinished"
"""The error of a request that was still in flight when the generator was told to wait no longer."""


@dataclass(frozen=True, slots=True)
class Flight:
    """A request on its way: its number, its stream, when it was due and when it was really sent."""

    index: int
    stream: str
    scheduled: float
    sent: float


class Recorder:
    """Used by the generator's thread alone; its numbers may be read from any.

    Attributes:
        in_flight: Requests sent that have not ended.
        most_in_flight: The most that ever were.
        not_sent: Requests that never left, for want of something on this side.
        problem: The first error that the history raised, if any.
    """

    def __init__(self, history: History) -> None:
        self.in_flight = 0
        self.most_in_flight = 0
        self.not_sent = 0
        self.problem: Exception | None = None
        self._history = history
        self._lags: list[float] = []

    def leave(self, index: int, stream: str, scheduled: float) -> Flight:
        """Counts a request as in flight from now on."""
        flight = Flight(index, stream, scheduled, clock.now())
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        if stream == FRESH:
            # A kept connection can be late because the answer before is; that is not the generator's lag.
            self._lags.append(flight.sent - scheduled)
        return flight

    def end(self, flight: Flight, outcome: Outcome, path: str = SHARED_PATH) -> None:
        """Records what became of a request that had left."""
        self.in_flight -= 1
        sent = None if outcome.error == NOT_SENT else flight.sent
        self._add(flight.index, flight.stream, flight.scheduled, sent, outcome, path)

    def never_sent(
        self, index: int, stream: str, scheduled: float, *, error: str = NOT_SENT, path: str = SHARED_PATH
    ) -> None:
        """Records a request that never left."""
        self._add(index, stream, scheduled, None, Outcome(clock.now(), error=error), path)

    def send_lag(self, quantile: float) -> float:
        """That quantile (0 to 1) of the seconds by which requests on fresh connections were sent late; 0.0 for none."""
        lags = sorted(self._lags)
        return lags[max(0, math.ceil(quantile * len(lags)) - 1)] if lags else 0.0

    def _add(self, index: int, stream: str, scheduled: float, sent: float | None, outcome: Outcome, path: str) -> None:
        self.not_sent += outcome.error == NOT_SENT
        request = Request(
            index=index,
            stream=stream,
            scheduled=scheduled,
            sent=sent,
            finished=outcome.finished,
            status=outcome.status,
            error=outcome.error,
            replica=outcome.replica,
            node=outcome.node,
            parent=outcome.parent,
            path=path,
        )
        try:
            self._history.add_request(request)
        except Exception as error:
            # One record that cannot be written must not end the traffic; the generator tells it when it stops.
            self.problem = self.problem or error
