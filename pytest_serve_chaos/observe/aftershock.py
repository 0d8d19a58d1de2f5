"""What a recovery must still survive: a new route must reach each proxy, asked one by one, and go again.

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
    """

    deaf: tuple[Component, ...] = ()
    asked: int = 0
    problem: str = ""
    seconds: float = 0.0
    untold: str = ""
    what: str = "a new route was"

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
                " request once the replicas that they know are gone."
            )
        trouble = self.problem or self.untold
        return trouble or f"{self.what} served by all {self.asked} proxies within {self.seconds:.1f} s"


def aftershock(cluster: Cluster, watcher: Watcher, numbers: Iterator[int] | None = None) -> Aftershock:
    """Adds a canary app, asks each proxy for its route, and takes the app away again."""
    config = cluster.serve_config
    canary = serve_config.canary(next(numbers if numbers is not None else itertools.count(int(clock.now() * 1000))))
    route = str(canary["route_prefix"])
    begun = clock.now()
    try:
        _apply(cluster, serve_config.with_app(config, canary))
    except WaitTimeout as error:
        return Aftershock(problem=f"an update of the Serve config was not taken: {error}")
    proxies = watcher.sample().of("proxy")
    silent, took = _who_hears(cluster, proxies, route, begun)
    # A proxy that went meanwhile, for its node has no replicas any more, is not deaf.
    there = {c.identity for c in watcher.sample().of("proxy")} if silent else set()
    deaf = tuple(proxy for proxy in silent if proxy.identity in there)
    problem = ""
    try:
        _apply(cluster, config)
        still = () if deaf else _who_keeps(cluster, proxies, route)
        if still:
            problem = f"the canary's route does not go from {', '.join(c.name for c in still)}"
    except WaitTimeout as error:
        problem = f"the canary could not be taken away: {error}"
    return Aftershock(deaf, len(proxies), problem, took)


def _apply(cluster: Cluster, config: dict[str, Json]) -> None:
    def put() -> bool | NotYet:
        try:
            cluster.apply_serve_config(config)
        except CommandFailed as error:
            return NotYet(str(error))
        return True

    clock.wait_until("the Serve config to be taken", put, timeout=_TAKES_CONFIG_WITHIN, interval=0.5)


def _who_hears(
    cluster: Cluster, proxies: tuple[Component, ...], route: str, begun: float
) -> tuple[tuple[Component, ...], float]:
    """Asks all proxies in turn until each serves the route; returns those that do not, and the seconds it took."""
    waiting = list(proxies)

    def ask() -> bool | NotYet:
        waiting[:] = [proxy for proxy in waiting if route not in _routes(cluster, proxy)]
        return NotYet(f"{len(waiting)} proxies without it") if waiting else True

    with contextlib.suppress(WaitTimeout):
        clock.wait_until("each proxy to hear of it", ask, timeout=HEARS_WITHIN, interval=0.5)
    return tuple(waiting), clock.now() - begun


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
