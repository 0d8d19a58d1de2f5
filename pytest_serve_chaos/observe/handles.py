"""Whether each parent of a composed app reaches a child that was just replaced: a stale handle does not.

Who called whom is read from the logs of the replicas, where a request has the same id at the parent and at the child.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.cluster.base import Cluster
from pytest_serve_chaos.cluster.capabilities import KILLS_ACTORS, SHOWS_REPLICA_LOGS, SIGNALS_PROCESSES
from pytest_serve_chaos.cluster.rest import ServeStatus
from pytest_serve_chaos.errors import Inconclusive, WaitTimeout
from pytest_serve_chaos.json_text import read_json
from pytest_serve_chaos.model import Component
from pytest_serve_chaos.observe.listing import running
from pytest_serve_chaos.observe.watcher import Watcher

TOLD_WITHIN = 30.0
"""Seconds for Serve to say who holds handles; for a moment its REST hangs, or knows no applications."""

REPLACED_WITHIN = 60.0
"""Seconds in which a child that was killed must have a successor that runs."""

REACHED_WITHIN = 15.0
"""Seconds in which each parent must have reached it; under traffic a handle that listens needs less than 2 s."""

# A request's line: "... <request id> -- CALL who OK 0.4ms", or "... -- GET / 200 3.1ms".
_REQUEST = re.compile(r"(\S+) -- \S+ .* [\d.]+ms$")

# The same in JSON (`logging_config: {encoding: JSON}`): {..., "message": "CALL who OK 0.4ms", "request_id": "..."}.
_MESSAGE = re.compile(r"\S+ .* [\d.]+ms")

_TURN_ON = "To have it checked, set enable_access_log: true and log_level: INFO in the app's logging_config."
_DO_WITHOUT = "To do without the check, demand settled=False."


@dataclass(frozen=True, slots=True)
class HandleCheck:
    """The result of the check.

    Attributes:
        children: The deployments of which one replica was replaced.
        stale: The parents that did not reach the new replica.
        problem: Why it could not be shown; empty if it could.
        unknown: Why it is unknown of some children whether they are reached; empty if it is known of all.
        not_called: The deployments that this traffic does not call; they were left alone.
    """

    children: tuple[str, ...] = ()
    stale: tuple[Component, ...] = ()
    problem: str = ""
    unknown: str = ""
    not_called: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every parent reached every new child, or there are none. What is unknown is not passed."""
        return not self.stale and not self.problem and not self.unknown

    @property
    def text(self) -> str:
        """The result in words."""
        if self.stale:
            return (
                f"{len(self.stale)} replicas hold a handle that does not hear the controller: after a replica of"
                f" {', '.join(self.children)} was replaced, {', '.join(c.name for c in self.stale)} did not reach the"
                f" new one within {REACHED_WITHIN:g} s (ray#63784)"
            )
        reached = f"every parent reached the new replica of {', '.join(self.children)}" if self.children else ""
        left = f"this traffic does not call {', '.join(self.not_called)}" if self.not_called else ""
        return self.problem or self.unknown or "; ".join(part for part in (reached, left) if part)


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
    logs = cluster.capability(SHOWS_REPLICA_LOGS)
    if logs is None:
        return set()
    lines = (line for replica in replicas for line in logs.replica_log(replica, since=since))
    return {request for request in map(_request, lines) if request}


def _request(line: str) -> str:
    """The id of the request that a line is about; "" where it is about none."""
    begin = line.find('{"')  # the backend may have put the file's name before it
    if begin < 0 or not line.endswith("}"):
        found = _REQUEST.search(line)
        return found[1] if found else ""
    try:
        record = read_json(line[begin:])
    except ValueError:
        return ""
    match record:
        case {"request_id": str(request), "message": str(message)} if _MESSAGE.fullmatch(message):
            return request
    return ""


def check_handles(
    cluster: Cluster,
    watcher: Watcher,
    since: float,
    *,
    answering: frozenset[str],
    admit: Callable[[Component], None] = lambda _: None,
) -> HandleCheck:
    """Replaces one replica of each child, and looks whether every replica of its parents reaches the new one.

    Traffic must be running. A child that no request reached since `since` (monotonic seconds), though its parents had
    some, is left alone, since nothing could show whether it is reached afterwards. If the logs do not say who was
    reached, the result is neither passed nor failed.

    Args:
        cluster: The cluster that is asked.
        watcher: Watches it.
        since: From when on the traffic's requests are looked at.
        answering: The deployments (``app#Deployment``) that this traffic's answers name.
        admit: Called with each replica before it is replaced; raises what keeps it from that.

    Raises:
        Inconclusive: Serve did not say who holds handles.
    """
    evidence = _Evidence(cluster, watcher, since, answering)
    checked: list[str] = []
    unknown: list[str] = []
    for child, parents in _parents_first(children_of(watcher)):
        victim = evidence.called(child)
        why = evidence.missing(child, parents)
        if why:
            unknown.append(why)
        elif victim is None:
            evidence.leave_out(child)
        else:
            silent = [parent for parent in parents if evidence.called(parent) is None]
            evidence.leave_out(*silent)  # they would look stale
            checked.append(child)
            admit(victim)
            try:
                new = _replace(cluster, watcher, victim)
            except WaitTimeout as error:
                return HandleCheck(tuple(checked), problem=f"a replica of {child} was not replaced: {error}")
            stale = _who_does_not_reach(cluster, watcher, new, [p for p in parents if p not in silent])
            if stale:
                return HandleCheck((child,), stale)
    fixes = [_TURN_ON] * (cluster.capability(SHOWS_REPLICA_LOGS) is not None) + [_DO_WITHOUT]
    why = " ".join(["; ".join(unknown) + ".", *fixes])
    return HandleCheck(tuple(checked), unknown=why if unknown else "", not_called=tuple(evidence.not_called))


@dataclass(slots=True)
class _Evidence:
    """What the logs of replicas say of who called whom.

    Attributes:
        cluster, watcher, since, answering: Those of `check_handles`.
        not_called: The deployments of which it is known that this traffic does not call them.
    """

    cluster: Cluster
    watcher: Watcher
    since: float
    answering: frozenset[str]
    not_called: list[str] = field(default_factory=list)
    _called: dict[str, Component | None] = field(default_factory=dict)

    def called(self, deployment: str) -> Component | None:
        """A replica of it that has logged a request; None if none has."""
        if deployment not in self._called:  # to read a log of a pod takes its time
            replicas = self.watcher.sample().of("replica", deployment=deployment)
            with_requests = (r for r in replicas if requests_logged(self.cluster, [r], self.since))
            self._called[deployment] = next(with_requests, None)
        return self._called[deployment]

    def leave_out(self, *deployments: str) -> None:
        """This traffic does not call them."""
        self.not_called += [name for name in deployments if name not in self.not_called]

    def missing(self, child: str, parents: Sequence[str]) -> str:
        """Why it would be unknown whether this child is reached, in words; "" if it is known, or nobody calls it."""
        where = f"whether handles to {child} hear the controller is unknown"
        if self.cluster.capability(SHOWS_REPLICA_LOGS) is None:
            return f"{where}: this backend cannot read the request log of its replicas"
        silent = [parent for parent in parents if self.called(parent) is None]
        if self.called(child) is not None:
            # Its parents would look stale, whatever they do.
            return f"{where}: the request log of {', '.join(silent)} is empty" if len(silent) == len(parents) else ""
        if child in self.answering:
            return f"{where}: it answers, but its request log is empty"
        calls_nobody = len(silent) < len(parents) or all(parent in self.not_called for parent in parents)
        if calls_nobody or not self._has_traffic({child, *parents}):
            return ""
        return f"{where}: its request log is empty, and that of {', '.join(parents)} as well"

    def _has_traffic(self, deployments: set[str]) -> bool:
        """Whether this traffic goes to one of their apps: the answers name it, or they name nobody."""
        apps = {name.partition("#")[0] for name in deployments}
        return not self.answering or any(name.partition("#")[0] in apps for name in self.answering)


def _parents_first(children: Mapping[str, tuple[str, ...]]) -> list[tuple[str, tuple[str, ...]]]:
    """The children with their parents, each after those of its parents that are children, too."""
    left = dict(sorted(children.items()))
    ordered: list[tuple[str, tuple[str, ...]]] = []
    while left:
        # In a circle nobody is first.
        name = next((n for n, parents in left.items() if not any(p in left for p in parents)), next(iter(left)))
        ordered.append((name, left.pop(name)))
    return ordered


def _replace(cluster: Cluster, watcher: Watcher, victim: Component) -> Component:
    """Kills it and waits for its successor, which Serve must call RUNNING, as many others as it wants."""
    deployment = victim.deployment or ""
    before = watcher.sample().of("replica", deployment=deployment)
    had = {c.identity for c in before}
    processes, actors = cluster.capability(SIGNALS_PROCESSES), cluster.capability(KILLS_ACTORS)
    if processes is not None:
        processes.signal_process(victim.identity, signal.SIGKILL)
    elif actors is not None and victim.actor_id:
        actors.kill_actor(victim.actor_id, no_restart=True)

    def replaced() -> Component | NotYet:
        report = watcher.observer.refresh()
        there = watcher.sample()
        replicas = there.of("replica", deployment=deployment)
        new = [c for c in replicas if c.identity not in had and c.replica]
        runs = running(there, report)[deployment]
        # One that Serve scales may need fewer by now.
        needed = (
            len(before) if report.serve is None else min(len(before), report.serve.targets.get(deployment, len(before)))
        )
        if not new or len(replicas) < needed or runs < needed:
            return NotYet(f"{len(replicas)} replicas, {len(new)} of them new, {runs} RUNNING")
        return new[0]

    return clock.wait_until(f"a new replica of {deployment}", replaced, timeout=REPLACED_WITHIN, interval=0.3)


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
