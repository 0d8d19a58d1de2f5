"""The second stream: persistent connections, one to each known proxy, each on its own schedule.

A persistent connection carries one request at a time, so its stream adapts to answers that take longer than its period:
it skips what would be due while it waits. The main stream never does.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias, TypeVar

from pytest_serve_chaos import clock
from pytest_serve_chaos.errors import ServeChaosError
from pytest_serve_chaos.model import UNFINISHED
from pytest_serve_chaos.schedule import check_rate
from pytest_serve_chaos.traffic.arrivals import Arrivals
from pytest_serve_chaos.traffic.recorder import SHARED_PATH, Recorder
from pytest_serve_chaos.traffic.request import Message, Outcome, RequestSpec
from pytest_serve_chaos.traffic.sending import Sending
from pytest_serve_chaos.traffic.sources import LANE, Always, Messages
from pytest_serve_chaos.traffic.tasks import cancel_and_wait
from pytest_serve_chaos.traffic.transports.base import Address, PersistentSender

ProxyOf: TypeAlias = Callable[[Address], str | None]
"""Names the proxy at the other end of the connection that this side has from that address, or None if it cannot."""

SpecOf: TypeAlias = Callable[[], RequestSpec | None]
"""Says what leads to a proxy now; None while there is no such proxy."""

Stays: TypeAlias = Callable[[str], bool]
"""Says whether the proxy of that name is there although it ends connections, as HAProxy does when it is reloaded."""

T = TypeVar("T")

_NO_ANSWER = (ServeChaosError, OSError)
"""What a question may raise that has no answer now; what else it raises is a defect."""

_TRIES_PER_PROXY = 64
"""With ten proxies, 640 connections miss one of them in less than one case of 10**28."""

_SEARCH = 1_000_000 * LANE
"""The number of the first request with which a proxy is looked for: no other request has it."""

_TIMEOUTS = 3.0
"""Timeouts of a request in which each proxy is found: some searches go on at a time, and each is one request."""

_LONGEST = 60.0
"""Seconds after which the search ends whatever the timeout is."""

_MOST_SEARCHES = 8
"""Connections that are tried at the same time."""

_AFTER_FAILURE = 0.1
"""Seconds until another connection is tried: nothing is won by asking a server that refuses faster."""

_ASK_AFTER = (0.0, 0.05, 0.2, 0.5, 1.0)
"""Seconds before each time that somebody is asked whose a connection is: until it is accepted, nobody can tell."""

_SEARCH_AFTER = (0.3, 1.0, 3.0)
"""Seconds before each search for a proxy that stays and has ended a connection: until the process that took over has
been seen, nobody can tell whose a connection is."""

_SEARCH_FOR = 2.0

_LOOK_AGAIN_AFTER = 0.3
"""Seconds until the proxy's way is looked for again: each request may be lost meanwhile, and a look may be dear."""


@dataclass(frozen=True, slots=True)
class KeptLane:
    """One persistent connection that the user asks for.

    Attributes:
        path: The name of the proxy that the spec's URL leads to; ``proxies`` for an address that several share.
        spec: What to send; None for the same as the fresh connections.
        spec_of: Asked, in a thread, when a request was lost: a proxy that was replaced may be elsewhere. None: its
            address never changes.
        messages: What is sent there. None: the same as on fresh connections.
    """

    path: str = SHARED_PATH
    spec: RequestSpec | None = None
    spec_of: SpecOf | None = None
    messages: Messages | None = None


@dataclass(frozen=True, slots=True)
class SharedAddress:
    """The address that several proxies share, and how a connection to it is known to lead to one of them.

    Attributes:
        proxies: The names of the proxies that shall have one persistent connection each.
        proxy_of: Names the proxy at the other end of a connection from the client's address and port; called in a
            thread.
        stays: Says whether a proxy that ended a connection is there, so that another one to it is looked for.
        search_for: Seconds for finding the `proxies`. None: ten and three timeouts of a request, 60 at most.
    """

    proxies: Sequence[str]
    proxy_of: ProxyOf
    stays: Stays | None = None
    search_for: float | None = None

    def seconds(self, timeout: float) -> float:
        """Seconds for finding the proxies, with requests of this timeout."""
        return min(10.0 + _TIMEOUTS * timeout, _LONGEST) if self.search_for is None else self.search_for


@dataclass(frozen=True, slots=True)
class Persistent:
    """The persistent connections of a traffic.

    Attributes:
        rate: Requests per second on each.
        lanes: Those that lead to an address of their own, or to the shared one and any proxy behind it.
        shared: The proxies behind the shared address. None: nothing distinguishes them.

    Raises:
        SettingsError: The rate is not above zero.
    """

    rate: float = 5.0
    lanes: Sequence[KeptLane] = ()
    shared: SharedAddress | None = None

    def __post_init__(self) -> None:
        check_rate(self.rate, name="persistent_rate")


class Lane:
    """One persistent connection in use. It sends one request at a time, and nothing is due while it awaits an answer.

    After an answer the next request is the first of the schedule that is not in the past. So no request waits for the
    one before it, and each has the whole timeout of its spec.

    Args:
        number: Of this connection; its requests have the stream ``kept:<number>``, and numbers of their own.
        wish: What the user asks for.
        sending: What to send, and how.
        recorder: Gets all requests.
        connection: One that is open already; else the first request opens it.
        shared: The address, if several proxies share it and something distinguishes them.

    Attributes:
        path: The proxy that the connection leads to now; ``proxies`` as long as it is unknown.
    """

    def __init__(
        self,
        number: int,
        wish: KeptLane,
        sending: Sending,
        recorder: Recorder,
        *,
        connection: PersistentSender | None = None,
        shared: SharedAddress | None = None,
    ) -> None:
        self.stream = f"kept:{number}"
        self.path = wish.path
        self._sending = sending
        self._recorder = recorder
        self._first = LANE * (number + 1)
        self._shared = shared
        self._connection = connection or sending.transport.persistent(sending.spec)
        self._connection.on_open = self._opened
        self._sent = 0
        self._asking: set[asyncio.Task[None]] = set()
        self._spec_of = wish.spec_of
        self._looking: asyncio.Task[None] | None = None
        self._elsewhere: RequestSpec | None = None
        self._wanted = wish.path if wish.path != SHARED_PATH else None
        self._searching: asyncio.Task[None] | None = None
        self._found: PersistentSender | None = None

    async def run(self, arrivals: Arrivals, stopped: asyncio.Future[float]) -> None:
        """Sends what is due until `stopped`, whose result is the moment after which nothing is due; then closes."""
        try:
            due = arrivals.due(0)
            while True:
                if (wait := due - clock.now()) > 0:
                    await asyncio.wait({stopped}, timeout=wait)
                if stopped.done() and due > stopped.result():
                    return
                await self._send(due)
                due = arrivals.due(arrivals.due_by(clock.now()))
        finally:
            for task in (*self._asking, *([self._looking] if self._looking else [])):
                task.cancel()
            await cancel_and_wait({self._searching} if self._searching is not None else set())
            for connection in (self._connection, self._found):
                if connection is not None:
                    await connection.close()

    async def _send(self, due: float) -> None:
        await self._turn()
        message = self._sending.messages.message(self._first + self._sent)
        flight = self._recorder.leave(self._sent, self.stream, due, message, self.path)
        self._sent += 1
        try:
            outcome = await self._connection.send(message)
        except asyncio.CancelledError:
            self._recorder.end(flight, Outcome(clock.now(), error=UNFINISHED), self.path)
            raise
        self._recorder.end(flight, outcome, self.path)
        if self._shared is not None and self._connection.local_address is None:
            self.path = SHARED_PATH
        if self._spec_of is not None and outcome.error is not None and (self._looking is None or self._looking.done()):
            self._looking = asyncio.get_running_loop().create_task(self._look(self._spec_of))

    async def _look(self, spec_of: SpecOf) -> None:
        """Looks where the proxy is now; meanwhile requests go on to where it was."""
        spec = await in_a_thread(spec_of, none_for=Exception)  # nothing odd may end this: it is asked for each loss
        if spec is not None and (spec.url, spec.headers) != (self._sending.spec.url, self._sending.spec.headers):
            self._elsewhere = spec
        await asyncio.sleep(_LOOK_AGAIN_AFTER)

    async def _search(self, wanted: str, shared: SharedAddress, stays: Stays) -> None:
        """Looks for a connection to the proxy that this one was for, unless chance has led there already."""
        for pause in _SEARCH_AFTER:
            await asyncio.sleep(pause)
            if self.path == wanted:
                return
            if not stays(wanted):
                continue
            wished = replace(shared, proxies=[wanted], search_for=_SEARCH_FOR)
            found = await connect_to_each(wished, self._sending)
            self._found = found.get(wanted)
            if self._found is not None:
                return

    async def _turn(self) -> None:
        """Leaves for where the proxy was found to be, if it is not where it was."""
        found, self._found = self._found, None
        if found is not None and found.local_address is not None and self._wanted is not None:
            ended, self._connection, self.path = self._connection, found, self._wanted
            self._connection.on_open = self._opened
            await ended.close()
        spec, self._elsewhere = self._elsewhere, None
        if spec is not None:
            before, self._connection = self._connection, self._sending.transport.persistent(spec)
            self._sending = replace(self._sending, spec=spec)
            self._connection.on_open = self._opened
            await before.close()

    def _opened(self, address: Address) -> None:
        shared = self._shared
        if shared is not None:
            self.path = SHARED_PATH
            loop = asyncio.get_running_loop()
            self._asking = {loop.create_task(self._ask(shared.proxy_of, address))}
            idle = self._searching is None or self._searching.done()
            if idle and self._wanted is not None and shared.stays is not None:
                self._searching = loop.create_task(self._search(self._wanted, shared, shared.stays))

    async def _ask(self, proxy_of: ProxyOf, address: Address) -> None:
        for pause in _ASK_AFTER:
            await asyncio.sleep(pause)
            name = await in_a_thread(functools.partial(proxy_of, address), none_for=Exception)
            if self._connection.local_address != address:
                return
            if name is not None:
                self.path = name
                return


async def in_a_thread(
    question: Callable[[], T | None], *, none_for: type[Exception] | tuple[type[Exception], ...] = _NO_ANSWER
) -> T | None:
    """Asks in a thread: to look through a machine's sockets, or to ask a server, takes its time.

    Args:
        question: What is asked.
        none_for: Exceptions that count as no answer, which is None.
    """
    try:
        return await asyncio.get_running_loop().run_in_executor(None, question)
    except none_for:
        return None


async def open_lanes(persistent: Persistent, sending: Sending, recorder: Recorder) -> tuple[Lane, ...]:
    """The persistent connections of a traffic: one to each proxy that is known by its address or process.

    Args:
        persistent: Which there shall be.
        sending: What is sent where these do not say otherwise, and how.
        recorder: Gets all requests.
    """
    shared = persistent.shared
    found: dict[str, PersistentSender] = {} if shared is None else await connect_to_each(shared, sending)
    proxies = () if shared is None else shared.proxies
    to_proxies = [(KeptLane(name), found[name]) for name in proxies if name in found]
    wishes = [*to_proxies, *((wish, None) for wish in persistent.lanes)]
    return tuple(
        Lane(
            number,
            wish,
            _sending_to(wish, sending),
            recorder,
            connection=connection,
            shared=shared if connection is not None or wish.path == SHARED_PATH else None,
        )
        for number, (wish, connection) in enumerate(wishes)
    )


def _sending_to(wish: KeptLane, sending: Sending) -> Sending:
    own = Always(wish.spec) if wish.spec is not None and isinstance(sending.messages, Always) else sending.messages
    return replace(sending, spec=wish.spec or sending.spec, messages=wish.messages or own)


async def connect_to_each(shared: SharedAddress, sending: Sending) -> dict[str, PersistentSender]:
    """Opens connections to the shared address until each proxy has one, and closes those that are not needed.

    Which proxy takes a connection is chance, so some are not needed. Each is tried with one request, which is not
    recorded; a connection whose request gets no good answer does not count.

    Args:
        shared: The proxies, and how to tell which of them took a connection.
        sending: What to send, and how.

    Returns:
        The connection to each proxy that was reached.
    """
    proxies = shared.proxies
    found: dict[str, PersistentSender] = {}
    tries = itertools.count()

    async def search() -> None:
        while len(found) < len(proxies) and (number := next(tries)) < _TRIES_PER_PROXY * len(proxies):
            connection = sending.transport.persistent(sending.spec)
            try:
                name = await _proxy_behind(connection, sending.messages.message(_SEARCH + number), shared.proxy_of)
                if name is not None and name in proxies and name not in found:
                    found[name] = connection
            finally:
                if connection not in found.values():
                    await connection.close()

    # Several at a time, so that a proxy that hangs keeps none of the others from being found. The first that ends has
    # found the last one, or used up the tries.
    searches = {asyncio.ensure_future(search()) for _ in range(min(_MOST_SEARCHES, 2 * len(proxies)))}
    if searches:
        try:
            await asyncio.wait(
                searches, timeout=shared.seconds(sending.spec.timeout), return_when=asyncio.FIRST_COMPLETED
            )
            await cancel_and_wait(searches)
        except BaseException:
            await cancel_and_wait(searches)
            for connection in found.values():
                await connection.close()
            raise
    return found


async def _proxy_behind(connection: PersistentSender, message: Message, proxy_of: ProxyOf) -> str | None:
    outcome = await connection.send(message)
    if outcome.error is not None or connection.local_address is None:
        await asyncio.sleep(_AFTER_FAILURE)
        return None
    return await in_a_thread(functools.partial(proxy_of, connection.local_address))
