"""Sends the traffic of a run from a thread of its own, and knows whether it kept to its schedule."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
from collections.abc import Iterator
from types import TracebackType

from pytest_serve_chaos import clock
from pytest_serve_chaos.errors import ServeChaosError, WaitTimeout
from pytest_serve_chaos.history import History
from pytest_serve_chaos.schedule import Schedule
from pytest_serve_chaos.traffic.arrivals import Arrivals, Timetable
from pytest_serve_chaos.traffic.fresh import FreshStream
from pytest_serve_chaos.traffic.kept import Lane, Persistent, open_lanes
from pytest_serve_chaos.traffic.loop_thread import LoopThread
from pytest_serve_chaos.traffic.recorder import Recorder
from pytest_serve_chaos.traffic.sending import Sending
from pytest_serve_chaos.traffic.sockets import TO_END, in_flight_possible, sockets_for
from pytest_serve_chaos.traffic.tasks import wait_or_cancel

_GRACE = 30.0
"""Seconds beyond what the thread should take, before an error says that it hangs."""

_TURN = 0.0005
"""Seconds that a thread may keep the interpreter while another waits for it. With Python's own 0.005, a test that
computes makes requests wait that long several times each, and 50 a second are already too many."""

_LEAST_LIMIT = 2000
"""Requests that may be in flight whatever rate and timeout are, as long as there are sockets for them."""


class Generator:
    """Open-loop traffic: `rate` fresh connections a second, and persistent connections in addition.

    Every request that was due between start and stop is in the history once `stop` returns. While it runs, Python's
    threads take shorter turns (`sys.setswitchinterval`), so that traffic is on time while a test computes; objects that
    were there before are not looked at by the garbage collector (`gc.freeze`), which would hold traffic up; and where a
    total hang would take more sockets than the process may have, its soft limit on open files is raised.

    Args:
        sending: What to send, how, and which answer is good.
        rate: Requests per second on fresh connections, or a schedule; its stages begin with `begin_stages`.
        history: Gets each request when it has left, and what became of it.
        source: The name of this traffic, which tells its requests from those of other traffic in the same history.
        persistent: The persistent connections. None: there are none.
        in_flight_limit: Most requests in flight on fresh connections. Those due beyond it are recorded as not sent.
            None: as many as there are when nothing is answered, 2000 at least; but no more than there are sockets for.
        seed: Of the schedule's Poisson arrivals.

    Raises:
        SettingsError: The rate is not above zero.
    """

    def __init__(
        self,
        sending: Sending,
        *,
        rate: float | Schedule,
        history: History,
        source: str = "",
        persistent: Persistent | None = None,
        in_flight_limit: int | None = None,
        seed: object = 0,
    ) -> None:
        self.spec = sending.spec
        self.schedule = rate if isinstance(rate, Schedule) else Schedule.of(rate)
        self._sending = sending
        self._persistent = persistent or Persistent()
        needed = in_flight_possible(self.schedule, self.spec.timeout).needed
        self._limit = max(_LEAST_LIMIT, needed) if in_flight_limit is None else in_flight_limit
        self._needed = min(needed, self._limit)
        self._seed = seed
        self._sender = sending.transport.fresh(self.spec)
        self._recorder = Recorder(history, source)
        self._lanes: tuple[Lane, ...] = ()
        self._fresh: FreshStream | None = None
        self._thread = LoopThread("serve-chaos-traffic", self._run)
        self._drain = 0.0

    def start(self) -> None:
        """Opens the connections to the proxies, begins to send, and returns then.

        Raises:
            WaitTimeout: It did not begin.
        """
        if self._thread.was_started:
            raise RuntimeError("a generator starts once; make another one")
        self._thread.start()
        shared = self._persistent.shared
        timeout = _GRACE + (shared.seconds(self.spec.timeout) if shared is not None else 0.0)
        try:
            if not self._thread.ready.wait(timeout):
                raise WaitTimeout("traffic to begin", timeout=timeout, last_seen="still looking for the proxies")
        except BaseException:
            # Nobody will stop what has not started: it must not begin to send later.
            self._thread.stop()
            raise
        self._raise_crash()

    def begin_stages(self, at: float) -> None:
        """Lets the stages of the schedule begin, at a moment that has just been: until then its first rate holds."""
        if self._fresh is not None:
            self._thread.call(self._fresh.begin_stages, at)

    def stop(self, drain: float | None = None) -> None:
        """Schedules nothing more, waits for the requests in flight, and ends the thread. May be called twice.

        Args:
            drain: Seconds to wait for requests in flight; those that take longer are recorded as ``Unfinished``. None
                waits a second longer than their timeout, so that each ends by itself.

        Raises:
            ServeChaosError: Traffic broke down, or a record could not be written.
            WaitTimeout: The thread did not end.
        """
        if not self._thread.was_started:
            return
        specs = [self.spec, *(wish.spec for wish in self._persistent.lanes if wish.spec is not None)]
        self._drain = max(spec.timeout for spec in specs) + TO_END if drain is None else drain
        self._thread.stop()
        timeout = self._drain + _GRACE
        if not self._thread.join(timeout):
            state = f"{self.in_flight} requests in flight, {self.behind:.1f} s behind the schedule"
            raise WaitTimeout("traffic to end", timeout=timeout, last_seen=state)
        self._raise_crash()

    def __enter__(self) -> Generator:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    # -- what says whether it kept up --

    @property
    def in_flight(self) -> int:
        """Requests in flight now, on fresh and persistent connections."""
        return self._recorder.in_flight

    @property
    def most_in_flight(self) -> int:
        """The most that were in flight at one time."""
        return self._recorder.most_in_flight

    @property
    def not_sent(self) -> int:
        """Requests that this side did not send: beyond the limit in flight, or for lack of sockets."""
        return self._recorder.not_sent

    @property
    def behind(self) -> float:
        """Seconds by which the next request is overdue at this moment; large while something holds the thread up."""
        return self._fresh.behind if self._fresh is not None and self._thread.is_running else 0.0

    def send_lag(self, quantile: float) -> float:
        """That quantile (0 to 1) of the seconds by which requests on fresh connections were sent late, so far."""
        return self._recorder.send_lag(quantile)

    @property
    def kept_paths(self) -> dict[str, str]:
        """Where each persistent connection leads now: stream -> name of the proxy, or ``proxies`` if unknown."""
        return {lane.stream: lane.path for lane in self._lanes}

    # -- in the thread --

    def _run(self) -> None:
        with _short_turns(), _short_collections(), sockets_for(self._needed) as sockets:
            self._limit = min(self._limit, sockets)
            asyncio.run(self._main())

    async def _main(self) -> None:
        stopped = self._thread.enter()
        await self._sender.prepare()
        self._lanes = await open_lanes(self._persistent, self._sending, self._recorder)
        start = clock.now()
        rate = self._persistent.rate
        spread = 1 / (rate * max(1, len(self._lanes)))
        lanes = {
            asyncio.get_running_loop().create_task(lane.run(Arrivals(start + number * spread, rate), stopped))
            for number, lane in enumerate(self._lanes)
        }
        timetable = Timetable(start, self.schedule, self._seed)
        self._fresh = FreshStream(self._sender, self._sending.messages, timetable, self._recorder, limit=self._limit)
        self._thread.ready.set()
        end = await stopped
        self._fresh.end(end)
        await self._fresh.drain(end + self._drain)
        await wait_or_cancel(lanes, end + self._drain)

    # -- in the caller's thread --

    def _raise_crash(self) -> None:
        crash = self._thread.crash or self._recorder.problem
        if isinstance(crash, ServeChaosError):
            raise crash
        if crash is not None:
            raise ServeChaosError(f"traffic broke down: {type(crash).__name__}: {crash}") from crash


@contextlib.contextmanager
def _short_collections() -> Iterator[None]:
    # No thread runs during a collection. One of all objects of a pytest process takes 50 ms and more.
    if gc.get_freeze_count():  # Somebody else does so, other traffic for example.
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextlib.contextmanager
def _short_turns() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(min(before, _TURN))
    try:
        yield
    finally:
        sys.setswitchinterval(before)
