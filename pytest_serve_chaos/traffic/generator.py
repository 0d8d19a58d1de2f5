"""Sends the traffic of a run from a thread of its own, and knows whether it kept to its schedule."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
import threading
from collections.abc import Iterator
from types import TracebackType

from pytest_serve_chaos import clock
from pytest_serve_chaos.errors import ServeChaosError, WaitTimeout
from pytest_serve_chaos.history import History
from pytest_serve_chaos.schedule import Schedule
from pytest_serve_chaos.traffic.arrivals import Arrivals, Timetable
from pytest_serve_chaos.traffic.fresh import FreshStream
from pytest_serve_chaos.traffic.kept import KeptLane, Lane, Persistent, connect_to_each
from pytest_serve_chaos.traffic.recorder import SHARED_PATH, Recorder
from pytest_serve_chaos.traffic.request import RequestSpec
from pytest_serve_chaos.traffic.sockets import TO_END, in_flight_possible, sockets_for
from pytest_serve_chaos.traffic.sources import Always, Messages
from pytest_serve_chaos.traffic.tasks import wait_or_cancel
from pytest_serve_chaos.traffic.transports.base import PersistentSender, Transport

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
        spec: What to send, and which answer is good.
        transport: How it is sent.
        rate: Requests per second on fresh connections, or a schedule; its stages begin with `begin_stages`.
        history: Gets each request when it has left, and what became of it.
        source: The name of this traffic, which tells its requests from those of other traffic in the same history.
        messages: Says what each request sends. None: what the spec says.
        persistent: The persistent connections. None: there are none.
        in_flight_limit: Most requests in flight on fresh connections. Those due beyond it are recorded as not sent.
            None: as many as there are when nothing is answered, 2000 at least; but no more than there are sockets for.
        seed: Of the schedule's Poisson arrivals.

    Raises:
        SettingsError: The rate is not above zero.
    """

    def __init__(
        self,
        spec: RequestSpec,
        *,
        transport: Transport,
        rate: float | Schedule,
        history: History,
        source: str = "",
        messages: Messages | None = None,
        persistent: Persistent | None = None,
        in_flight_limit: int | None = None,
        seed: object = 0,
    ) -> None:
        self.spec = spec
        self.schedule = rate if isinstance(rate, Schedule) else Schedule.of(rate)
        self._persistent = persistent or Persistent()
        needed = in_flight_possible(self.schedule, spec.timeout).needed
        self._limit = max(_LEAST_LIMIT, needed) if in_flight_limit is None else in_flight_limit
        self._needed = min(needed, self._limit)
        self._seed = seed
        self._transport = transport
        self._sender = transport.fresh(spec)
        self._messages = messages or Always(spec)
        self._recorder = Recorder(history, source)
        self._lanes: tuple[Lane, ...] = ()
        self._fresh: FreshStream | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped: asyncio.Future[float] | None = None
        self._drain = 0.0
        self._ready = threading.Event()
        self._crash: BaseException | None = None

    def start(self) -> None:
        """Opens the connections to the proxies, begins to send, and returns then.

        Raises:
            WaitTimeout: It did not begin.
        """
        if self._thread is not None:
            raise RuntimeError("a generator starts once; make another one")
        self._thread = threading.Thread(target=self._run, name="serve-chaos-traffic", daemon=True)
        self._thread.start()
        shared = self._persistent.shared
        timeout = _GRACE + (shared.seconds(self.spec.timeout) if shared is not None else 0.0)
        try:
            if not self._ready.wait(timeout):
                raise WaitTimeout("traffic to begin", timeout=timeout, last_seen="still looking for the proxies")
        except BaseException:
            # Nobody will stop what has not started: it must not begin to send later.
            self._tell_to_stop()
            raise
        self._raise_crash()

    def begin_stages(self, at: float) -> None:
        """Lets the stages of the schedule begin, at a moment that has just been: until then its first rate holds."""
        if self._loop is not None and self._fresh is not None:
            # The loop is closed already where traffic broke down.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._fresh.begin_stages, at)

    def stop(self, drain: float | None = None) -> None:
        """Schedules nothing more, waits for the requests in flight, and ends the thread. May be called twice.

        Args:
            drain: Seconds to wait for requests in flight; those that take longer are recorded as ``Unfinished``. None
                waits a second longer than their timeout, so that each ends by itself.

        Raises:
            ServeChaosError: Traffic broke down, or a record could not be written.
            WaitTimeout: The thread did not end.
        """
        if self._thread is None:
            return
        longest = max(
            [self.spec.timeout, *(wish.spec.timeout for wish in self._persistent.lanes if wish.spec is not None)]
        )
        self._drain = longest + TO_END if drain is None else drain
        self._end_thread(self._thread)
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
    def _running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

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
        return self._fresh.behind if self._fresh is not None and self._running else 0.0

    def send_lag(self, quantile: float) -> float:
        """That quantile (0 to 1) of the seconds by which requests on fresh connections were sent late, so far."""
        return self._recorder.send_lag(quantile)

    @property
    def kept_paths(self) -> dict[str, str]:
        """Where each persistent connection leads now: stream -> name of the proxy, or ``proxies`` if unknown."""
        return {lane.stream: lane.path for lane in self._lanes}

    # -- in the thread --

    def _run(self) -> None:
        try:
            with _short_turns(), _short_collections(), sockets_for(self._needed) as sockets:
                self._limit = min(self._limit, sockets)
                asyncio.run(self._main())
        except BaseException as error:
            self._crash = error
        finally:
            self._ready.set()

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopped = self._loop.create_future()
        await self._sender.prepare()
        self._lanes = await self._make_lanes()
        start = clock.now()
        rate = self._persistent.rate
        spread = 1 / (rate * max(1, len(self._lanes)))
        lanes = {
            self._loop.create_task(lane.run(Arrivals(start + number * spread, rate), self._stopped))
            for number, lane in enumerate(self._lanes)
        }
        timetable = Timetable(start, self.schedule, self._seed)
        self._fresh = FreshStream(self._sender, self._messages, timetable, self._recorder, limit=self._limit)
        self._ready.set()
        end = await self._stopped
        self._fresh.end(end)
        await self._fresh.drain(end + self._drain)
        await wait_or_cancel(lanes, end + self._drain)

    async def _make_lanes(self) -> tuple[Lane, ...]:
        shared = self._persistent.shared
        found: dict[str, PersistentSender] = {}
        if shared is not None:
            found = await connect_to_each(shared, self.spec, self._transport, self._messages)
        proxies = shared.proxies if shared is not None else ()
        to_proxies = [(KeptLane(name), found[name]) for name in proxies if name in found]
        wishes = [*to_proxies, *((wish, None) for wish in self._persistent.lanes)]
        return tuple(self._lane(n, wish, connection) for n, (wish, connection) in enumerate(wishes))

    def _lane(self, number: int, wish: KeptLane, connection: PersistentSender | None) -> Lane:
        is_shared = connection is not None or wish.path == SHARED_PATH
        own = Always(wish.spec) if wish.spec is not None and isinstance(self._messages, Always) else self._messages
        return Lane(
            number,
            wish,
            self.spec,
            wish.messages or own,
            self._transport,
            self._recorder,
            connection=connection,
            shared=self._persistent.shared if is_shared else None,
        )

    def _stop_at(self, moment: float) -> None:
        if self._stopped is not None and not self._stopped.done():
            self._stopped.set_result(moment)

    # -- in the caller's thread --

    def _tell_to_stop(self) -> None:
        if self._loop is not None:
            # The loop is closed already where traffic broke down.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._stop_at, clock.now())

    def _end_thread(self, thread: threading.Thread) -> None:
        self._tell_to_stop()
        timeout = self._drain + _GRACE
        thread.join(timeout)
        if thread.is_alive():
            raise WaitTimeout("traffic to end", timeout=timeout, last_seen=self._state)

    @property
    def _state(self) -> str:
        return f"{self.in_flight} requests in flight, {self.behind:.1f} s behind the schedule"

    def _raise_crash(self) -> None:
        crash = self._crash or self._recorder.problem
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
