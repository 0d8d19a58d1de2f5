"""The main stream: each request on a connection of its own, sent when it is due, however many are still in flight."""

from __future__ import annotations

import asyncio
import math

from pytest_serve_chaos import clock
from pytest_serve_chaos.model import UNFINISHED
from pytest_serve_chaos.traffic.arrivals import Timetable
from pytest_serve_chaos.traffic.recorder import FRESH, Recorder
from pytest_serve_chaos.traffic.request import Message, Outcome
from pytest_serve_chaos.traffic.sources import Messages
from pytest_serve_chaos.traffic.tasks import wait_or_cancel
from pytest_serve_chaos.traffic.transports.base import Sender

_BURST = 50
"""Most requests that are sent without looking at answers in between."""


class FreshStream:
    """Lives in an event loop; `behind` may be read from any thread.

    Args:
        sender: Sends one request.
        messages: Says what each request sends.
        arrivals: When each is due.
        recorder: Gets all of them.
        limit: Most requests in flight; those that are due beyond it are recorded as not sent.
    """

    def __init__(
        self, sender: Sender, messages: Messages, arrivals: Timetable, recorder: Recorder, *, limit: int
    ) -> None:
        self._sender = sender
        self._messages = messages
        self._arrivals = arrivals
        self._recorder = recorder
        self._limit = limit
        self._next = 0
        self._end = math.inf
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._all_sent = self._loop.create_future()
        self._timer: asyncio.Handle = self._loop.call_soon(self._send_due)

    @property
    def behind(self) -> float:
        """Seconds by which the next request is overdue now; it is not sent yet."""
        due = self._arrivals.due(self._next)
        return max(0.0, min(clock.now(), self._end) - due)

    def begin_stages(self, at: float) -> None:
        """Lets the stages of the schedule begin at that moment."""
        self._arrivals.begin_stages(at)
        if not self._all_sent.done():
            # What is due next may be due sooner now than the timer says.
            self._timer.cancel()
            self._send_due()

    def end(self, at: float) -> None:
        """Schedules nothing after that moment. What was due before it is still sent."""
        self._end = at
        self._timer.cancel()
        self._send_due()

    async def drain(self, deadline: float) -> None:
        """Waits for the end of all requests, or until `deadline`; then records those that are left as they are."""
        await asyncio.wait({self._all_sent}, timeout=max(0.0, deadline - clock.now()))
        self._timer.cancel()
        while self._next < self._arrivals.due_by(self._end):
            self._recorder.never_sent(
                self._next, FRESH, self._arrivals.due(self._next), self._messages.message(self._next)
            )
            self._next += 1
        await asyncio.sleep(0)  # A task that is cancelled before its first step would leave no record.
        await wait_or_cancel(set(self._tasks), deadline)

    def _send_due(self) -> None:
        for _ in range(_BURST):
            due = self._arrivals.due(self._next)
            if due > self._end:
                self._all_sent.set_result(None)
                return
            wait = due - clock.now()
            if wait > 0:
                self._timer = self._loop.call_later(wait, self._send_due)
                return
            self._send(self._next, due)
            self._next += 1
        self._timer = self._loop.call_soon(self._send_due)

    def _send(self, index: int, due: float) -> None:
        message = self._messages.message(index)
        if len(self._tasks) >= self._limit:
            self._recorder.never_sent(index, FRESH, due, message)
            return
        task = self._loop.create_task(self._fly(index, due, message))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _fly(self, index: int, due: float, message: Message) -> None:
        flight = self._recorder.leave(index, FRESH, due, message)
        try:
            outcome = await self._sender.send(message)
        except asyncio.CancelledError:
            outcome = Outcome(clock.now(), error=UNFINISHED)
        self._recorder.end(flight, outcome)
