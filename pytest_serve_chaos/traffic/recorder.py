"""Tells the history of each request that leaves and what became of it, and counts whether the generator kept up."""

from __future__ import annotations

import math
import sys
from collections import deque
from dataclasses import replace

from pytest_serve_chaos import clock
from pytest_serve_chaos.history import History
from pytest_serve_chaos.model import UNFINISHED, Request
from pytest_serve_chaos.traffic.request import NOT_SENT, Message, Outcome

FRESH = "fresh"
"""The stream of requests on connections of their own."""

SHARED_PATH = "proxies"
"""The path of requests to the address that all proxies share, if it is unknown which one took them."""


_LAGS = 10_000
"""Requests of which it is known here how late each was sent; the history has it of all."""

_LONGEST_NAME = 300
"""Characters of a name in an answer: an app that names something else there must not fill the memory."""


class Recorder:
    """Used by the generator's thread alone; its numbers may be read from any.

    Args:
        history: Gets all requests.
        source: The name of the traffic, which all its requests carry.

    Attributes:
        in_flight: Requests sent that have not ended.
        most_in_flight: The most that ever were.
        not_sent: Requests that never left, for want of something on this side.
        problem: The first error that the history raised, if any.
    """

    def __init__(self, history: History, source: str = "") -> None:
        self.in_flight = 0
        self.most_in_flight = 0
        self.not_sent = 0
        self.problem: Exception | None = None
        self._history = history
        self._source = source
        self._lags: deque[float] = deque(maxlen=_LAGS)

    def leave(self, index: int, stream: str, scheduled: float, message: Message, path: str = SHARED_PATH) -> Request:
        """Counts a request as in flight from now on, and returns it as it is while it is pending."""
        now = clock.now()
        flight = Request(
            index,
            stream,
            scheduled,
            now,
            now,
            error=UNFINISHED,
            path=path,
            source=self._source,
            app=message.app,
            name=message.name,
        )
        self._history.open_request(flight)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        if stream == FRESH:
            # The few on persistent connections must not make the stream that is judged look more punctual.
            self._lags.append(now - scheduled)
        return flight

    def end(self, flight: Request, outcome: Outcome, path: str = SHARED_PATH) -> None:
        """Records what became of a request that had left."""
        self.in_flight -= 1
        self._add(replace(flight, path=path, sent=None if outcome.error == NOT_SENT else flight.sent), outcome)

    def never_sent(self, index: int, stream: str, scheduled: float, message: Message) -> None:
        """Records a request that never left."""
        now = clock.now()
        unsent = Request(index, stream, scheduled, None, now, source=self._source, app=message.app, name=message.name)
        self._add(unsent, Outcome(now, error=NOT_SENT))

    def send_lag(self, quantile: float) -> float:
        """That quantile (0 to 1) of the seconds by which the last requests on fresh connections were sent late."""
        lags = sorted(self._lags)
        return lags[max(0, math.ceil(quantile * len(lags)) - 1)] if lags else 0.0

    def _add(self, request: Request, outcome: Outcome) -> None:
        self.not_sent += outcome.error == NOT_SENT
        ended = replace(
            request,
            finished=outcome.finished,
            status=outcome.status,
            error=outcome.error,
            replica=_shared(outcome.replica),
            node=_shared(outcome.node),
            parent=_shared(outcome.parent),
            request_id="" if outcome.request_id is None else outcome.request_id[:_LONGEST_NAME],
        )
        try:
            self._history.add_request(ended)
        except Exception as error:
            # One record that cannot be written must not end the traffic; the generator tells it when it stops.
            self.problem = self.problem or error


def _shared(name: str | None) -> str | None:
    """A name that an answer has: one text for all answers that have the same."""
    return None if name is None else sys.intern(name[:_LONGEST_NAME])
