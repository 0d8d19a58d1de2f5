"""The aftershock on a borrowed cluster: one replica on each proxy's node is replaced, and each proxy must find the new.

Proxies prefer replicas of their own node, so a proxy is judged by the new replica there; one whose node has no replica
by any new one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.cluster.capabilities import IsBorrowed
from pytest_serve_chaos.errors import CommandFailed, NoSuchTarget, ObservationError, WaitTimeout
from pytest_serve_chaos.model import Component
from pytest_serve_chaos.observe.aftershock import HEARS_WITHIN, Aftershock
from pytest_serve_chaos.observe.watcher import Watcher

_REPLACED_WITHIN = 180.0
_NAMELESS = "the answers do not name their replica (`who_am_i`), and no access log does"


@dataclass(frozen=True, slots=True)
class _Expected:
    """A proxy, and the ids of the new replicas to which it must send requests."""

    proxy: Component
    replicas: frozenset[str]


def replace_replicas(cluster: IsBorrowed, watcher: Watcher) -> Aftershock:
    """Replaces replicas one after the other, so that the app stays up, and asks each proxy alone.

    Args:
        cluster: Whose config is not ours to change.
        watcher: Watches it.
    """
    before = watcher.sample()
    answering = frozenset().union(*(_who(cluster, proxy) for proxy in before.of("proxy")))
    if not answering:
        return Aftershock(asked=len(before.of("proxy")), untold=f"the aftershock cannot be judged: {_NAMELESS}")
    try:
        for victim in _victims(before.of("replica"), answering):
            _replace(cluster, watcher, victim)
    except (CommandFailed, NoSuchTarget, ObservationError) as error:
        return Aftershock(untold=f"the aftershock could not be run: {error.what}")
    except WaitTimeout as error:
        return Aftershock(problem=f"a replica that was killed was not replaced: {error}")
    begun = clock.now()
    expected = _expected(watcher, {_id(c) for c in before.of("replica")}, answering)
    deaf = _who_does_not(cluster, [e for e in expected if e.replicas])
    unjudged = [e.proxy.name for e in expected if not e.replicas]
    untold = f"no new replica came to the node of {', '.join(unjudged)}, so it cannot be told what it hears"
    return Aftershock(
        deaf=tuple(deaf),
        asked=len(expected),
        seconds=clock.now() - begun,
        untold=untold if unjudged else "",
        what="a new replica was",
    )


def _victims(replicas: Sequence[Component], answering: Collection[str]) -> list[Component]:
    """One replica of each node, of those that answer themselves."""
    own = [c for c in replicas if _id(c) in answering and c.actor_id is not None]
    first = {c.node: c for c in reversed(own)}
    return [first[node] for node in sorted(first)]


def _replace(cluster: IsBorrowed, watcher: Watcher, victim: Component) -> None:
    had = watcher.sample()
    number = len(had.of("replica", deployment=victim.deployment))
    cluster.kill_actor(victim.actor_id or "", no_restart=True)
    killed = clock.now()

    def replaced() -> bool | NotYet:
        now, report = watcher.sample(), watcher.report
        there = now.of("replica", deployment=victim.deployment)
        if now.find(victim.identity) is not None or len(there) < number:
            return NotYet(f"{len(there)} of {number} replicas of {victim.deployment}")
        rows = report.serve.replicas if report.serve is not None and report.at > killed else ()
        running = {row.replica_id.rpartition("#")[2] for row in rows if row.state == "RUNNING"}
        missing = [c.name for c in there if _id(c) not in running]
        return NotYet(f"not RUNNING: {', '.join(missing)}") if missing else True

    clock.wait_until("a new replica", replaced, timeout=_REPLACED_WITHIN, interval=0.5)


def _expected(watcher: Watcher, old: Collection[str], answering: Collection[str]) -> list[_Expected]:
    now = watcher.sample()
    deployments = {c.deployment for c in now.of("replica") if _id(c) in answering}
    replicas = [c for c in now.of("replica") if c.deployment in deployments]
    new = [c for c in replicas if _id(c) not in old]
    found = []
    for proxy in now.of("proxy"):
        local = [c for c in replicas if c.node == proxy.node]
        candidates = [c for c in new if c.node == proxy.node] if local else new
        found.append(_Expected(proxy, frozenset(_id(c) for c in candidates)))
    return found


def _who_does_not(cluster: IsBorrowed, expected: Sequence[_Expected]) -> list[Component]:
    """Asks all proxies in turn until each has sent a request to a new replica; returns those that do not."""
    waiting = list(expected)

    def ask() -> bool | NotYet:
        waiting[:] = [e for e in waiting if not e.replicas & _who(cluster, e.proxy)]
        return NotYet(f"{len(waiting)} proxies without it") if waiting else True

    with contextlib.suppress(WaitTimeout):
        clock.wait_until("each proxy to find a new replica", ask, timeout=HEARS_WITHIN, interval=0.5)
    return [e.proxy for e in waiting]


def _who(cluster: IsBorrowed, proxy: Component) -> frozenset[str]:
    try:
        return cluster.who_answers(proxy)
    except ObservationError:
        return frozenset()


def _id(replica: Component) -> str:
    """The last part of Serve's replica id, which log files and answers have, too."""
    return (replica.replica or "").rpartition("#")[2]
