"""The post-recovery check of HAProxy: each has the replicas that run and no others, and no old one lives on.

A HAProxy that has to stop goes on with the replicas that it knew, checks their health no more, and answers on
connections that clients keep.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.cluster.capabilities import ShowsHAProxy
from pytest_serve_chaos.cluster.haproxy import Generation, Routes, server_name
from pytest_serve_chaos.cluster.rest import ServeStatus
from pytest_serve_chaos.cluster.serve_config import CANARY
from pytest_serve_chaos.errors import ObservationError, WaitTimeout
from pytest_serve_chaos.observe.post_recovery import HEARS_WITHIN
from pytest_serve_chaos.observe.watcher import Watcher

ENDS_WITHIN = 10.0
"""Seconds after its `hard-stop-after` in which a HAProxy that has to stop must have ended."""

_EVERY = 0.3
_REPLICA = server_name("")
_CANARY = server_name(CANARY)


def check_haproxy(haproxy: ShowsHAProxy, watcher: Watcher) -> str:
    """Waits until each HAProxy has the right servers, and no other HAProxy is there.

    Returns:
        What is wrong, in words; empty if nothing is.
    """
    check = _Check(haproxy, watcher)
    stale = _wait("each HAProxy to have the replicas that run", check.right_servers, HEARS_WITHIN)
    if stale:
        return f"the servers of HAProxy are stale: {stale}"
    hard_stop = check.hard_stop_after
    left = _wait("the HAProxies that were replaced to end", check.none_left, (hard_stop or 0.0) + ENDS_WITHIN)
    limit = "it has no hard-stop-after" if hard_stop is None else f"hard-stop-after is {hard_stop:g} s"
    return f"a HAProxy that was replaced lives on: {left} ({limit})" if left else ""


def _wait(what: str, probe: Callable[[], bool | NotYet], timeout: float) -> str:
    """What was wrong at last; empty if it became right in time."""
    last = ""

    def remember() -> bool | NotYet:
        nonlocal last
        found = probe()
        last = found.seen if isinstance(found, NotYet) else ""
        return found

    with contextlib.suppress(WaitTimeout):
        clock.wait_until(what, remember, timeout=timeout, interval=_EVERY)
    return last


@dataclass(slots=True)
class _Check:
    """Looks into all HAProxies of a cluster.

    Attributes:
        hard_stop_after: Seconds after which one that has to stop ends at the latest; None: never.
    """

    haproxy: ShowsHAProxy
    watcher: Watcher
    hard_stop_after: float | None = 0.0

    def right_servers(self) -> bool | NotYet:
        """Whether each has the replicas that run, and no others."""
        self.watcher.sample()
        routes: dict[Generation, Routes] = {}
        wrong = []
        for one in self.haproxy.generations():
            if one.serves:
                try:
                    routes[one] = self.haproxy.routes(one)
                except ObservationError as error:
                    wrong.append(str(error))
        stops = [own.hard_stop_after for own in routes.values()]
        self.hard_stop_after = None if None in stops else max((stop for stop in stops if stop), default=0.0)
        status = self.watcher.report.serve
        wrong += ["Serve's REST does not answer"] if status is None else _wrong_servers(routes, status)
        wrong += [] if routes else ["there is none"]
        return NotYet("; ".join(wrong)) if wrong else True

    def none_left(self) -> bool | NotYet:
        """Whether each takes requests."""
        self.watcher.sample()
        left = [_words(one) for one in self.haproxy.generations() if not one.serves]
        return NotYet("; ".join(left)) if left else True


def _wrong_servers(routes: Mapping[Generation, Routes], status: ServeStatus) -> list[str]:
    running: dict[str, set[str]] = {}
    for row in status.replicas:
        if row.state == "RUNNING":
            name = f"{row.app}#{row.deployment}"
            running.setdefault(name, set()).add(server_name(f"{name}#{row.replica_id.rpartition('#')[2]}"))
    listed = {one: _replicas(own) for one, own in routes.items()}
    everywhere = frozenset().union(*listed.values())
    # HAProxy calls the replicas of the deployment at which an app begins, and no others.
    wanted = {name for names in running.values() if names & everywhere for name in names}
    return [text for one, names in listed.items() for text in _differences(one, names, wanted)]


def _replicas(routes: Routes) -> frozenset[str]:
    names = frozenset().union(*routes.servers.values())
    return frozenset(name for name in names if name.startswith(_REPLICA) and not name.startswith(_CANARY))


def _differences(one: Generation, names: Collection[str], wanted: set[str]) -> list[str]:
    gone, missing = sorted(set(names) - wanted), sorted(wanted - set(names))
    found = [f"{_which(one)} sends requests to {', '.join(gone)}, which Serve does not run"] if gone else []
    return found + ([f"{_which(one)} does not know {', '.join(missing)}"] if missing else [])


def _which(one: Generation) -> str:
    return f"HAProxy on {one.node} (PID {one.pid})"


def _words(one: Generation) -> str:
    return f"{_which(one)} {'has no manager' if one.proxy is None else 'should have stopped'}"
