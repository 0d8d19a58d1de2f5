"""What a recovery must still survive: an update and a scale-up, of which each proxy must hear.

A canary app is added, gets a second replica, and goes again. A proxy that no longer hears its controller looks healthy
until the replicas that it knows are gone (ray#63784).
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.cluster import serve_config
from pytest_serve_chaos.cluster.base import Cluster
from pytest_serve_chaos.errors import CommandFailed, ObservationError, WaitTimeout
from pytest_serve_chaos.model import Component, Json
from pytest_serve_chaos.observe.watcher import Watcher

HEARS_WITHIN = 30.0
"""Seconds in which a proxy must serve a new route, and then a new replica.

One that listens does so within 1.3 s. One that is older than the head's pod listens again when gRPC gives up the old
address, 20 s after it began to call it (its MIN_CONNECT_TIMEOUT): with Ray 2.60 on kind 24 to 31 s after the head was
lost, 4 to 13 s after the update (six runs).
"""

REACHED_WITHIN = 30.0
"""Seconds in which the new app's replica must answer through each proxy, and a second one must run: each has to start
first."""

_ONE_ANSWER = 3.0
_TAKES_CONFIG_WITHIN = 15.0
_EVERY = 0.2


@dataclass(frozen=True, slots=True)
class Aftershock:
    """What came of it.

    Attributes:
        deaf: The proxies that did not hear of it.
        asked: How many were asked.
        problem: Why it could not be done, or what else was wrong; empty if nothing was.
        seconds: From the change of the config to the last proxy that heard of it.
        scaled_after: From the scale-up to the last proxy that was answered by the new replica; 0.0 where there was
            none.
        untold: Why it cannot be told of some proxies whether they hear; empty if it can of all.
        what: What a proxy that hears shows.
        details: What the deaf proxies answered last.
    """

    deaf: tuple[Component, ...] = ()
    asked: int = 0
    problem: str = ""
    seconds: float = 0.0
    scaled_after: float = 0.0
    untold: str = ""
    what: str = "a new route was"
    details: str = ""

    @property
    def passed(self) -> bool:
        """Whether every proxy heard of it."""
        return not self.deaf and not self.problem and not self.untold

    @property
    def text(self) -> str:
        """The result in words."""
        if self.deaf:
            return (
                f"{len(self.deaf)} of {self.asked} proxies do not hear the controller: {self.what} not served by"
                f" {', '.join(c.name for c in self.deaf)} within {HEARS_WITHIN:g} s (ray#63784). They will hang every"
                " request once the replicas that they know are gone." + (f" {self.details}." if self.details else "")
            )
        served = f"{self.what} served by all {self.asked} proxies within {self.seconds:.1f} s"
        if self.scaled_after:
            served += f", and a second replica {self.scaled_after:.1f} s after the scale-up"
        return self.problem or self.untold or served


def aftershock(cluster: Cluster, watcher: Watcher, numbers: Iterator[int] | None = None) -> Aftershock:
    """Adds a canary app, gives it a second replica, asks each proxy for each of them, and takes the app away again.

    Args:
        cluster: Whose config is ours to change.
        watcher: Watches it.
        numbers: Of canaries; each is taken once.
    """
    number = next(numbers if numbers is not None else itertools.count(int(clock.now() * 1000)))
    shock = _Shock(cluster, watcher, cluster.serve_config, number)
    begun = clock.now()
    try:
        shock.apply(replicas=1)
    except WaitTimeout as error:
        return Aftershock(problem=f"an update of the Serve config was not taken: {error}")
    result = shock.update(begun)
    if result.passed:
        result = shock.scale_up(result)
    return shock.take_away(result)


@dataclass(slots=True)
class _Hearing:
    """One proxy that has not heard yet.

    Attributes:
        answer: The last that it answered, in words.
        answered: Whether it has answered at all.
    """

    proxy: Component
    answer: str = ""
    answered: bool = False


@dataclass(slots=True)
class _Shock:
    """One canary and the proxies that should hear of it.

    Attributes:
        cluster, watcher: Where.
        config: The Serve config without it.
        number: The canary's.
        proxies: Those that must hear.
        first: Who answered before the scale-up, by the names that replicas give themselves.
    """

    cluster: Cluster
    watcher: Watcher
    config: dict[str, Json]
    number: int
    proxies: tuple[Component, ...] = ()
    first: set[str] = field(default_factory=set)

    @property
    def route(self) -> str:
        """The canary's route."""
        return str(serve_config.canary(self.number)["route_prefix"])

    # -- the three steps ----------------------------------------------------------------------------------------

    def update(self, begun: float) -> Aftershock:
        """Each proxy must serve the route, and its replica must answer through each."""
        self.proxies = self.watcher.sample().of("proxy")
        result = self._hear(self._serves_route, begun, "a new route was")
        unreached = self._who_does_not_reach() if result.passed else ""
        if unreached:
            problem = f"a new replica did not answer within {REACHED_WITHIN:g} s through every proxy: {unreached}"
            return replace(result, problem=problem)
        return result

    def scale_up(self, updated: Aftershock) -> Aftershock:
        """A second replica must come, and answer through each proxy."""
        begun = clock.now()
        try:
            self.apply(replicas=2)
            clock.wait_until("a second replica", self._scaled, timeout=REACHED_WITHIN, interval=_EVERY)
        except WaitTimeout as error:
            return replace(updated, problem=f"a scale-up from one replica to two was not done: {error}")
        there = self.watcher.sample()
        self.proxies = tuple(proxy for proxy in self.proxies if there.find(proxy.identity) is not None)
        # From when it runs: how long a replica takes to start is not the proxies' doing.
        result = self._hear(self._serves_second, clock.now(), "the second replica of a new app was")
        return replace(updated, scaled_after=clock.now() - begun) if result.passed else result

    def take_away(self, result: Aftershock) -> Aftershock:
        """The app goes, and where all went well its route must go from each proxy."""
        try:
            self.apply(replicas=0)
        except WaitTimeout as error:
            return replace(result, problem=f"the canary could not be taken away: {error}")
        keeping = self._who_keeps() if result.passed else ()
        if keeping:
            names = ", ".join(c.name for c in keeping)
            return replace(result, problem=f"the canary's route does not go from {names}")
        return result

    # -- the cluster's side -------------------------------------------------------------------------------------

    def apply(self, *, replicas: int) -> None:
        """Puts the config with so many replicas of the canary; none: without it.

        Raises:
            WaitTimeout: It is not taken.
        """
        app = serve_config.canary(self.number, replicas=replicas)
        config = serve_config.with_app(self.config, app) if replicas else self.config

        def put() -> bool | NotYet:
            try:
                self.cluster.apply_serve_config(config)
            except CommandFailed as error:
                return NotYet(str(error))
            return True

        clock.wait_until("the Serve config to be taken", put, timeout=_TAKES_CONFIG_WITHIN, interval=0.5)

    def _scaled(self) -> bool | NotYet:
        try:
            rows = self.cluster.dashboard.serve().replicas
        except ObservationError as error:
            return NotYet(str(error))
        name = str(serve_config.canary(self.number)["name"])
        states = sorted(row.state for row in rows if row.app == name)
        return states.count("RUNNING") >= 2 or NotYet(f"Serve has {', '.join(states) or 'none'}")

    # -- the proxies' side --------------------------------------------------------------------------------------

    def _hear(self, hears: Callable[[_Hearing], bool], begun: float, what: str) -> Aftershock:
        """Asks all proxies in turn until each hears."""
        left = [_Hearing(proxy) for proxy in self.proxies]

        def ask() -> bool | NotYet:
            left[:] = [one for one in left if not hears(one)]
            return NotYet(f"{len(left)} proxies that have not heard") if left else True

        with contextlib.suppress(WaitTimeout):
            clock.wait_until("each proxy to hear", ask, timeout=HEARS_WITHIN, interval=_EVERY)
        took = clock.now() - begun
        # A proxy that went meanwhile, for its node has no replicas any more, is not deaf.
        there = {c.identity for c in self.watcher.sample().of("proxy")} if left else set()
        missing = [one for one in left if one.proxy.identity in there]
        deaf = tuple(one.proxy for one in missing if one.answered)
        details = "; ".join(f"{one.proxy.name}: {one.answer}" for one in missing)
        problem = "" if deaf or not missing else f"{details}, so it cannot be told whether it hears the controller"
        return Aftershock(deaf, len(self.proxies), problem, took, what=what, details=details)

    def _serves_route(self, one: _Hearing) -> bool:
        status, body = self._ask(one.proxy, "/-/routes")
        routes = _routes(status, body)
        _note(one, status, body, f"with the routes {', '.join(sorted(routes)) or 'none'}")
        return self.route in routes

    def _serves_second(self, one: _Hearing) -> bool:
        """Whether one of two requests at a time is answered by a replica that was not there at first.

        A proxy prefers replicas of its own node. A replica takes one request at a time and is some time about it, so
        the other request has to go to the other replica, if the proxy knows of it.
        """
        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(lambda _: self._ask(one.proxy, self.route), range(2)))
        for status, body in answers:
            _note(one, status, body, "from the first replica" if body in self.first else "")
        return any(status == 200 and body not in self.first for status, body in answers)

    def _who_does_not_reach(self) -> str:
        """Sends requests to the route through each proxy until one is answered; returns who gets none, in words."""
        waiting = list(self.proxies)

        def ask() -> bool | NotYet:
            seen = {proxy: self._ask(proxy, self.route) for proxy in waiting}
            self.first.update(body for status, body in seen.values() if status == 200)
            silent = [proxy for proxy, (status, _) in seen.items() if status != 200]
            waiting[:] = [proxy for proxy in silent if self.watcher.sample().find(proxy.identity) is not None]
            words = (f"{proxy.name}: {seen[proxy][0] or seen[proxy][1]}" for proxy in waiting)
            return NotYet(", ".join(words)) if waiting else True

        try:
            clock.wait_until("each proxy to reach the new replica", ask, timeout=REACHED_WITHIN, interval=_EVERY)
        except WaitTimeout as error:
            return error.last_seen
        return ""

    def _who_keeps(self) -> tuple[Component, ...]:
        waiting = list(self.proxies)

        def ask() -> bool | NotYet:
            waiting[:] = [proxy for proxy in waiting if self.route in _routes(*self._ask(proxy, "/-/routes"))]
            return NotYet(f"{len(waiting)} proxies with it") if waiting else True

        with contextlib.suppress(WaitTimeout):
            clock.wait_until("the route to go", ask, timeout=HEARS_WITHIN, interval=_EVERY)
        return tuple(waiting)

    def _ask(self, proxy: Component, path: str) -> tuple[int, str]:
        """Status and body; status 0 and the reason where there was no answer."""
        try:
            return self.cluster.ask_proxy(proxy, path, timeout=_ONE_ANSWER)
        except ObservationError as error:
            return 0, str(error)


def _note(one: _Hearing, status: int, body: str, words: str) -> None:
    one.answered = one.answered or status != 0
    one.answer = f"it answered {status} {words}".strip() if status else f"it gave no answer ({body})"


def _routes(status: int, body: str) -> frozenset[str]:
    try:
        return frozenset(json.loads(body)) if status == 200 else frozenset()
    except ValueError:
        return frozenset()
