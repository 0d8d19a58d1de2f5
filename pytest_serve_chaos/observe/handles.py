"""Whether each parent of a composed app reaches a child that was just replaced: a handle that is deaf does not.

Who called whom is read from the logs of the replicas, where a request has the same id at the parent and at the child.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.cluster.base import Cluster
from pytest_serve_chaos.cluster.capabilities import KillsActors, ShowsReplicaLogs, SignalsProcesses
from pytest_serve_chaos.cluster.rest import ServeStatus
from pytest_serve_chaos.errors import Inconclusive, WaitTimeout
from pytest_serve_chaos.model import Component
from pytest_serve_chaos.observe.watcher import Watcher

TOLD_WITHIN = 30.0
"""Seconds for Serve to say who holds handles; for a moment its REST hangs, or knows no applications."""

REPLACED_WITHIN = 60.0
"""Seconds in which a child that was killed must have a successor that runs."""

REACHED_WITHIN = 15.0
"""Seconds in which each parent must have reached it; under traffic a handle that listens needs less than 2 s."""

# A request's line: "... <request id> -- CALL who OK 0.4ms", or "... -- GET / 200 3.1ms".
_REQUEST = re.compile(r"(\S+) -- \S+ .* [\d.]+ms$")


@dataclass(frozen=True, slots=True)
class HandleCheck:
    """What came of it.

    Attributes:
        children: The deployments of which one replica was replaced.
        deaf: The parents that did not reach the new replica.
        problem: Why it could not be shown; empty if it could.
    """

    children: tuple[str, ...] = ()
    deaf: tuple[Component, ...] = ()
    problem: str = ""

    @property
    def passed(self) -> bool:
        """Whether every parent reached every new child, or there are none."""
        return not self.deaf and not self.problem

    @property
    def text(self) -> str:
        """The result in words."""
        if self.deaf:
            return (
                f"{len(self.deaf)} replicas hold a handle that does not hear the controller: after a replica of"
                f" {', '.join(self.children)} was replaced, {', '.join(c.name for c in self.deaf)} did not reach the"
                f" new one within {REACHED_WITHIN:g} s (ray#63784)"
            )
        return self.problem or f"every parent reached the new replica of {', '.join(self.children)}"


def children_of(watcher: Watcher) -> dict[str, tuple[str, ...]]:
    """The deployments that others hold handles to, each with those others, as Serve says now.

    Raises:
        Inconclusive: It did not say.
    """

    def told() -> ServeStatus | NotYet:
        status = watcher.observer.refresh().serve
        if status is None:
            return NotYet("Serve's REST does not answer")
        return status if status.apps else NotYet("Serve's REST knows no applications")

    try:
        status = clock.wait_until("Serve to say who holds handles", told, timeout=TOLD_WITHIN, interval=0.5)
    except WaitTimeout as error:
        raise Inconclusive(f"it is not known whether handles hear the controller: {error}") from error
    found: dict[str, tuple[str, ...]] = {}
    for parent, children in status.handles.items():
        for child in children:
            found[child] = (*found.get(child, ()), parent)
    return found


def requests_logged(cluster: Cluster, replicas: Sequence[Component], since: float) -> set[str]:
    """The ids of the requests that these replicas have logged since then (monotonic seconds)."""
    if not isinstance(cluster, ShowsReplicaLogs):
        return set()
    lines = (line for replica in replicas for line in cluster.replica_log(replica, since=since))
    return {found[1] for found in map(_REQUEST.search, lines) if found}


def check_handles(cluster: Cluster, watcher: Watcher, since: float) -> HandleCheck:
    """Replaces one replica of each child, and looks whether every replica of its parents reaches the new one.

    Traffic must be running. A child that no request reached since `since` (monotonic seconds) is left alone: whether
    it is reached afterwards could not be told.

    Raises:
        Inconclusive: Serve did not say who holds handles.
    """
    checked: list[str] = []
    for child, parents in sorted(children_of(watcher).items()):
        victims = watcher.sample().of("replica", deployment=child)
        called = [v for v in victims if requests_logged(cluster, [v], since)]
        if not called:
            continue
        checked.append(child)
        try:
            new = _replace(cluster, watcher, called[0], len(victims))
        except WaitTimeout as error:
            return HandleCheck(tuple(checked), problem=f"a replica of {child} was not replaced: {error}")
        deaf = _who_does_not_reach(cluster, watcher, new, parents)
        if deaf:
            return HandleCheck((child,), deaf)
    return HandleCheck(tuple(checked))


def _replace(cluster: Cluster, watcher: Watcher, victim: Component, count: int) -> Component:
    had = {c.identity for c in watcher.sample().of("replica", deployment=victim.deployment)}
    if isinstance(cluster, SignalsProcesses):
        cluster.signal_process(victim.identity, signal.SIGKILL)
    elif isinstance(cluster, KillsActors) and victim.actor_id:
        cluster.kill_actor(victim.actor_id, no_restart=True)

    def replaced() -> Component | NotYet:
        watcher.observer.refresh()
        replicas = watcher.sample().of("replica", deployment=victim.deployment)
        new = [c for c in replicas if c.identity not in had and c.replica]
        status = watcher.report.serve
        rows = status.replicas if status is not None else ()
        running = sum(f"{r.app}#{r.deployment}" == victim.deployment and r.state == "RUNNING" for r in rows)
        if not new or len(replicas) < count or running < count:
            return NotYet(f"{len(replicas)} replicas, {len(new)} of them new, {running} RUNNING")
        return new[0]

    return clock.wait_until(f"a new replica of {victim.deployment}", replaced, timeout=REPLACED_WITHIN, interval=0.3)


def _who_does_not_reach(
    cluster: Cluster, watcher: Watcher, child: Component, parents: Sequence[str]
) -> tuple[Component, ...]:
    since = clock.now()
    waiting = [c for name in parents for c in watcher.sample().of("replica", deployment=name)]

    def reached() -> bool | NotYet:
        called = requests_logged(cluster, [child], since)
        waiting[:] = [parent for parent in waiting if not called & requests_logged(cluster, [parent], since)]
        return NotYet(f"{len(waiting)} parents have not") if waiting else True

    try:
        clock.wait_until("each parent to reach the new child", reached, timeout=REACHED_WITHIN, interval=0.5)
    except WaitTimeout:
        return tuple(waiting)
    return ()
