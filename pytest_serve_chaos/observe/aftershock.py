"""What a recovery must still survive: each proxy must hear of a new app, reach its replica, and see it go again.

A proxy that no longer hears its controller looks healthy until the replicas that it knows are gone (ray#63784).
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.cluster import serve_config
from pytest_serve_chaos.cluster.base import Cluster
from pytest_serve_chaos.errors import CommandFailed, ObservationError, WaitTimeout
from pytest_serve_chaos.model import Component, Json
from pytest_serve_chaos.observe.watcher import Watcher

HEARS_WITHIN = 10.0
"""Seconds in which a proxy must serve a new route; measured with Ray 2.60: 1.0 to 1.3 s where the proxy listens."""

LATE_WITHIN = 20.0
"""Seconds for which a proxy without the new route is asked: one that is only slow is told from one that is deaf."""

REACHED_WITHIN = 30.0
"""Seconds in which the new app's replica must answer through each proxy: it has to start first."""

_ONE_ANSWER = 3.0
_TAKES_CONFIG_WITHIN = 15.0


@dataclass(frozen=True, slots=True)
class Aftershock:
    """What came of it.

    Attributes:
        deaf: The proxies that did not hear of the new route.
        asked: How many were asked.
        problem: Why it could not be done, or what else was wrong; empty if nothing was.
        seconds: From the change of the config to the last proxy that heard of it.
        untold: Why it cannot be told of some proxies whether they hear; empty if it can of all.
        what: What a proxy that hears shows.
        details: What the deaf proxies answered, and whether they heard of it later.
    """

    deaf: tuple[Component, ...] = ()
    asked: int = 0
    problem: str = ""
    seconds: float = 0.0
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
        trouble = self.problem or self.untold
        return trouble or f"{self.what} served by all {self.asked} proxies within {self.seconds:.1f} s"


def aftershock(
    cluster: Cluster, watcher: Watcher, numbers: Iterator[int] | None = None, *, tells_late: bool = True
) -> Aftershock:
    """Adds a canary app, asks each proxy for its route and then for the app, and takes the app away again.

    Args:
        cluster: Whose config is ours to change.
        watcher: Watches it.
        numbers: Of canaries; each is taken once.
        tells_late: Whether to go on asking those that do not hear in time, to tell the late from the deaf.
    """
    within = LATE_WITHIN if tells_late else HEARS_WITHIN
    config = cluster.serve_config
    canary = serve_config.canary(next(numbers if numbers is not None else itertools.count(int(clock.now() * 1000))))
    route = str(canary["route_prefix"])
    begun = clock.now()
    try:
        _apply(cluster, serve_config.with_app(config, canary))
    except WaitTimeout as error:
        return Aftershock(problem=f"an update of the Serve config was not taken: {error}")
    proxies = watcher.sample().of("proxy")
    silent, took = _who_hears(cluster, proxies, route, begun, within)
    # A proxy that went meanwhile, for its node has no replicas any more, is not deaf.
    there = {c.identity for c in watcher.sample().of("proxy")} if silent else set()
    late = [h for h in silent if h.proxy.identity in there]
    deaf = tuple(h.proxy for h in late if h.answered)
    details = "; ".join(h.text(within) for h in late)
    problem = "" if deaf or not late else f"{details}, so it cannot be told whether it hears the controller"
    unreached = "" if late else _who_does_not_reach(cluster, watcher, proxies, route)
    if unreached:
        problem = f"a new replica did not answer within {REACHED_WITHIN:g} s through every proxy: {unreached}"
    try:
        _apply(cluster, config)
        still = () if late or unreached else _who_keeps(cluster, proxies, route)
        if still:
            problem = f"the canary's route does not go from {', '.join(c.name for c in still)}"
    except WaitTimeout as error:
        problem = f"the canary could not be taken away: {error}"
    return Aftershock(deaf, len(proxies), problem, took, details=details)


@dataclass(slots=True)
class _Hearing:
    """One proxy that has not served the route in time.

    Attributes:
        answer: The last that it answered, in words.
        answered: Whether it has answered at all.
        after: Seconds from the change of the config to its serving the route; None: never.
    """

    proxy: Component
    answer: str = ""
    answered: bool = False
    after: float | None = None

    def text(self, within: float) -> str:
        """In words, where it was asked for `within` seconds."""
        if self.after is not None:
            return f"{self.proxy.name} served it after {self.after:.1f} s"
        return f"{self.proxy.name} had not served it after {within:g} s either: {self.answer}"


def _apply(cluster: Cluster, config: dict[str, Json]) -> None:
    def put() -> bool | NotYet:
        try:
            cluster.apply_serve_config(config)
        except CommandFailed as error:
            return NotYet(str(error))
        return True

    clock.wait_until("the Serve config to be taken", put, timeout=_TAKES_CONFIG_WITHIN, interval=0.5)


def _who_hears(
    cluster: Cluster, proxies: tuple[Component, ...], route: str, begun: float, within: float
) -> tuple[list[_Hearing], float]:
    """Asks all proxies in turn until each serves the route; returns those that do not in time, and the seconds it took.

    They are asked for `within` seconds: one that hears late is no less late, but its cause is another.
    """
    waiting = [_Hearing(proxy) for proxy in proxies]

    def ask() -> bool | NotYet:
        for one in waiting:
            if one.after is None and _serves(cluster, one, route):
                one.after = clock.now() - begun
        left = sum(one.after is None for one in waiting)
        return NotYet(f"{left} proxies without it") if left else True

    with contextlib.suppress(WaitTimeout):
        clock.wait_until("each proxy to hear of it", ask, timeout=within, interval=0.5)
    took = clock.now() - begun
    return [one for one in waiting if one.after is None or one.after > HEARS_WITHIN], took


def _serves(cluster: Cluster, one: _Hearing, route: str) -> bool:
    try:
        status, body = cluster.ask_proxy(one.proxy, "/-/routes", timeout=_ONE_ANSWER)
        routes = json.loads(body) if status == 200 else {}
    except (ObservationError, ValueError) as error:
        one.answer = f"it gave no answer ({error})"
        return False
    one.answered = True
    one.answer = f"it answered {status} with the routes {', '.join(sorted(routes)) or 'none'}"
    return route in routes


def _who_does_not_reach(cluster: Cluster, watcher: Watcher, proxies: tuple[Component, ...], route: str) -> str:
    """Sends requests to the new route through each proxy until one is answered; returns who gets none, in words."""
    waiting = list(proxies)

    def ask() -> bool | NotYet:
        seen = {proxy: _status(cluster, proxy, route) for proxy in waiting}
        silent = [proxy for proxy, status in seen.items() if status != "200"]
        waiting[:] = [proxy for proxy in silent if watcher.sample().find(proxy.identity) is not None]
        return NotYet(", ".join(f"{proxy.name}: {seen[proxy]}" for proxy in waiting)) if waiting else True

    try:
        clock.wait_until("each proxy to reach the new replica", ask, timeout=REACHED_WITHIN, interval=0.5)
    except WaitTimeout as error:
        return error.last_seen
    return ""


def _status(cluster: Cluster, proxy: Component, path: str) -> str:
    try:
        return str(cluster.ask_proxy(proxy, path, timeout=_ONE_ANSWER)[0])
    except ObservationError as error:
        return str(error)


def _who_keeps(cluster: Cluster, proxies: tuple[Component, ...], route: str) -> tuple[Component, ...]:
    waiting = list(proxies)

    def ask() -> bool | NotYet:
        waiting[:] = [proxy for proxy in waiting if route in _routes(cluster, proxy)]
        return NotYet(f"{len(waiting)} proxies with it") if waiting else True

    with contextlib.suppress(WaitTimeout):
        clock.wait_until("the route to go", ask, timeout=HEARS_WITHIN, interval=0.5)
    return tuple(waiting)


def _routes(cluster: Cluster, proxy: Component) -> frozenset[str]:
    try:
        status, body = cluster.ask_proxy(proxy, "/-/routes", timeout=_ONE_ANSWER)
        return frozenset(json.loads(body)) if status == 200 else frozenset()
    except (ObservationError, ValueError):
        return frozenset()
