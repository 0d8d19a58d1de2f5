"""The post-recovery check: an update and a scale-up, of which the proxy on each node that should have one must hear.

A canary app is added, gets a second replica, and goes again. A proxy that no longer hears its controller looks healthy
until the replicas that it knows are gone (ray#63784).
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from pytest_serve_chaos import clock
from pytest_serve_chaos.analysis.words import all_of
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.cluster import serve_config
from pytest_serve_chaos.cluster.base import Cluster
from pytest_serve_chaos.errors import CommandFailed, ObservationError, WaitTimeout
from pytest_serve_chaos.json_text import read_json
from pytest_serve_chaos.model import HEAD, Component, Json, Topology
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

NOBODY_TO_ASK = "there are no proxies to ask"
"""Why nothing was shown: of no proxies, all hear."""

_ONE_ANSWER = 3.0
_TAKES_CONFIG_WITHIN = 15.0
_EVERY = 0.2


@dataclass(frozen=True, slots=True)
class PostRecoveryCheck:
    """The result of the check.

    Attributes:
        stale: The proxies that did not hear of it.
        asked: How many were asked.
        problem: Why it could not be done, or what else was wrong; empty if nothing was.
        seconds: From the change of the config to the last proxy that heard of it.
        scaled_after: From the scale-up to the last proxy that was answered by the new replica; 0.0 where there was
            none.
        unknown: Why it is unknown of some proxies whether they hear; empty if it is known of all.
        what: What a proxy that hears shows.
        details: What the stale proxies answered last.
    """

    stale: tuple[Component, ...] = ()
    asked: int = 0
    problem: str = ""
    seconds: float = 0.0
    scaled_after: float = 0.0
    unknown: str = ""
    what: str = "a new route was"
    details: str = ""

    @property
    def passed(self) -> bool:
        """Whether every proxy heard of it."""
        return not self.stale and not self.problem and not self.unknown

    @property
    def text(self) -> str:
        """The result in words."""
        if self.stale:
            return (
                f"{len(self.stale)} of {self.asked} proxies do not hear the controller: {self.what} not served by"
                f" {', '.join(c.name for c in self.stale)} within {HEARS_WITHIN:g} s (ray#63784). They will hang every"
                " request once the replicas that they know are gone." + (f" {self.details}." if self.details else "")
            )
        served = f"{self.what} served by {all_of(self.asked, 'proxy', 'proxies')} within {self.seconds:.1f} s"
        if self.scaled_after:
            served += f", and a second replica {self.scaled_after:.1f} s after the scale-up"
        return self.problem or self.unknown or served


def check_proxies(
    cluster: Cluster, watcher: Watcher, numbers: Iterator[int] | None = None, *, nodes: frozenset[str]
) -> PostRecoveryCheck:
    """Adds a canary app, gives it a second replica, asks each proxy for each of them, and takes the app away again.

    Args:
        cluster: Whose config is ours to change.
        watcher: Watches it.
        numbers: Of canaries; each is taken once.
        nodes: The names of the nodes that must have a proxy (`shape.proxy_nodes`). One other than the head that loses
            its last replica meanwhile needs none any more.
    """
    number = next(numbers if numbers is not None else itertools.count(int(clock.now() * 1000)))
    canary = _Canary(cluster, watcher, cluster.serve_config, number, nodes)
    begun = clock.now()
    try:
        canary.apply(replicas=1)
    except WaitTimeout as error:
        return PostRecoveryCheck(problem=f"an update of the Serve config was not taken: {error}")
    result = canary.update(begun)
    if result.passed:
        result = canary.scale_up(result)
    return canary.take_away(result)


@dataclass(slots=True)
class _Hearing:
    """A node whose proxy has not heard yet.

    Attributes:
        node: Its name.
        proxy: The proxy that was asked last: one that dies meanwhile has a successor. None: the node had none.
        answer: The last that it answered, in words.
        answered: Whether it has answered at all.
    """

    node: str
    proxy: Component | None = None
    answer: str = ""
    answered: bool = False

    def turn_to(self, proxy: Component | None) -> _Hearing:
        """From now on that proxy is meant; what another one answered says nothing of it."""
        if proxy is None or self.proxy is None or proxy.identity != self.proxy.identity:
            self.answer, self.answered = "", False
        self.proxy = proxy
        return self


@dataclass(slots=True)
class _Canary:
    """One canary and the proxies that should hear of it.

    Attributes:
        cluster, watcher: The cluster, and who watches it.
        config: The Serve config without it.
        number: The canary's.
        nodes: Those whose proxies must hear.
        first: Who answered before the scale-up, by the names that replicas give themselves.
    """

    cluster: Cluster
    watcher: Watcher
    config: dict[str, Json] = field(repr=False)
    number: int
    nodes: frozenset[str]
    first: set[str] = field(default_factory=set)

    @property
    def route(self) -> str:
        """The canary's route."""
        return str(serve_config.canary(self.number)["route_prefix"])

    # -- the three steps ----------------------------------------------------------------------------------------

    def update(self, begun: float) -> PostRecoveryCheck:
        """Each proxy must serve the route, and its replica must answer through each."""
        result = self._hear(self._serves_route, begun, "a new route was")
        unreached = self._who_does_not_reach() if result.passed else ""
        if unreached:
            problem = f"a new replica did not answer within {REACHED_WITHIN:g} s through every proxy: {unreached}"
            return replace(result, problem=problem)
        return result

    def scale_up(self, updated: PostRecoveryCheck) -> PostRecoveryCheck:
        """A second replica must come, and answer through each proxy."""
        begun = clock.now()
        try:
            self.apply(replicas=2)
            clock.wait_until("a second replica", self._scaled, timeout=REACHED_WITHIN, interval=_EVERY)
        except WaitTimeout as error:
            return replace(updated, problem=f"a scale-up from one replica to two was not done: {error}")
        # From when it runs: how long a replica takes to start is not the proxies' doing.
        result = self._hear(self._serves_second, clock.now(), "the second replica of a new app was")
        return replace(updated, scaled_after=clock.now() - begun) if result.passed else result

    def take_away(self, result: PostRecoveryCheck) -> PostRecoveryCheck:
        """The app goes, and where all went well its route must go from each proxy."""
        try:
            self.apply(replicas=0)
        except WaitTimeout as error:
            return replace(result, problem=f"the canary could not be taken away: {error}")
        keeping = self._who_keeps() if result.passed else ""
        return replace(result, problem=keeping) if keeping else result

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

    def _hear(self, hears: Callable[[_Hearing, Component], bool], begun: float, what: str) -> PostRecoveryCheck:
        """Asks all proxies in turn until each hears."""
        asked, left = self._until_each("to hear", hears, HEARS_WITHIN)
        took = clock.now() - begun
        if not asked:
            return PostRecoveryCheck(problem=NOBODY_TO_ASK)
        without = [f"no proxy on {one.node}" for one in left if one.proxy is None]
        missing = [one for one in left if one.proxy is not None]
        stale = tuple(one.proxy for one in missing if one.proxy is not None and one.answered)
        details = "; ".join([*(_words(one) for one in missing), *without])
        silent = [f"{_words(one)}, so it is unknown whether it hears the controller" for one in missing]
        problem = "" if stale else "; ".join([*silent, *without])
        return PostRecoveryCheck(stale, asked, problem, took, what=what, details=details)

    def _until_each(
        self, what: str, does: Callable[[_Hearing, Component], bool], timeout: float
    ) -> tuple[int, list[_Hearing]]:
        """Asks the proxy of each node, whichever it is by then, until it does.

        Returns:
            How many nodes must have one, and those that have none, or one that does not.
        """
        left = [_Hearing(node) for node in sorted(self.nodes)]
        done: set[str] = set()

        def ask() -> bool | NotYet:
            there = self.watcher.sample()
            left[:] = [one for one in left if must_have_proxy(one.node, there)]
            for one in left:
                proxies = there.of("proxy", on=one.node)
                if not proxies:
                    one.turn_to(None)
                elif all(does(one.turn_to(proxy), proxy) for proxy in proxies):
                    done.add(one.node)
            left[:] = [one for one in left if one.node not in done]
            return NotYet(f"{len(left)} nodes without it") if left else True

        with contextlib.suppress(WaitTimeout):
            clock.wait_until(f"each proxy {what}", ask, timeout=timeout, interval=_EVERY)
        return len(done) + len(left), left

    def _serves_route(self, one: _Hearing, proxy: Component) -> bool:
        status, body = self._ask(proxy, "/-/routes")
        routes = routes_in(status, body)
        _note(one, status, body, f"with the routes {', '.join(sorted(routes)) or 'none'}")
        return self.route in routes

    def _serves_second(self, one: _Hearing, proxy: Component) -> bool:
        """Whether one of two requests at a time is answered by a replica that was not there at first.

        A proxy prefers replicas of its own node. A replica takes one request at a time and is some time about it, so
        the other request has to go to the other replica, if the proxy knows of it.
        """
        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(lambda _: self._ask(proxy, self.route), range(2)))
        for status, body in answers:
            _note(one, status, body, "from the first replica" if body in self.first else "")
        return any(status == 200 and body not in self.first for status, body in answers)

    def _who_does_not_reach(self) -> str:
        """Sends requests to the route through each proxy until one is answered; returns who gets none, in words."""

        def reaches(one: _Hearing, proxy: Component) -> bool:
            status, body = self._ask(proxy, self.route)
            one.answer = str(status or body)
            self.first.update([body] if status == 200 else [])
            return status == 200

        _, left = self._until_each("to reach the new replica", reaches, REACHED_WITHIN)
        return ", ".join(f"no proxy on {one.node}" if one.proxy is None else _words(one) for one in left)

    def _who_keeps(self) -> str:
        """Asks each proxy until it has lost the route; returns who has not, in words."""

        def has_lost(one: _Hearing, proxy: Component) -> bool:
            return self.route not in routes_in(*self._ask(proxy, "/-/routes"))

        _, left = self._until_each("to lose the route", has_lost, HEARS_WITHIN)
        without = [f"no proxy on {one.node}" for one in left if one.proxy is None]
        keeping = [one.proxy.name for one in left if one.proxy is not None]
        return "; ".join([f"the canary's route does not go from {', '.join(keeping)}"] * bool(keeping) + without)

    def _ask(self, proxy: Component, path: str) -> tuple[int, str]:
        """Status and body; status 0 and the reason where there was no answer."""
        try:
            return self.cluster.ask_proxy(proxy, path, timeout=_ONE_ANSWER)
        except ObservationError as error:
            return 0, str(error)


def must_have_proxy(node: str, topology: Topology) -> bool:
    """Whether a node that should have a proxy still should: Serve ends the proxies of nodes without replicas."""
    return node == HEAD or bool(topology.of("replica", on=node))


def _words(one: _Hearing) -> str:
    return f"{one.proxy.name if one.proxy is not None else one.node}: {one.answer}"


def _note(one: _Hearing, status: int, body: str, words: str) -> None:
    one.answered = one.answered or status != 0
    one.answer = f"it answered {status} {words}".strip() if status else f"it gave no answer ({body})"


def routes_in(status: int, body: str) -> frozenset[str]:
    """The routes in a proxy's answer to ``/-/routes``; none in any other answer."""
    try:
        said = read_json(body) if status == 200 else None
    except ValueError:
        return frozenset()
    return frozenset(said) if isinstance(said, dict) else frozenset()
