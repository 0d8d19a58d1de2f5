"""Which post-recovery check a cluster gets, and that of an external cluster, whose config must stay as it is.

There one replica on each node is replaced, and each proxy must find it. Proxies prefer replicas of their own node, so a
proxy is judged by the new replica there; one whose node has no replica by any new one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.cluster.base import Cluster
from pytest_serve_chaos.cluster.capabilities import IS_EXTERNAL, SHOWS_HAPROXY, IsExternal
from pytest_serve_chaos.cluster.rest import autoscaled
from pytest_serve_chaos.cluster.total_loss import with_a_way_out
from pytest_serve_chaos.errors import CommandFailed, NoSuchTarget, ObservationError, Unsupported, WaitTimeout
from pytest_serve_chaos.model import Component, Topology
from pytest_serve_chaos.observe.haproxy_check import check_haproxy
from pytest_serve_chaos.observe.healthy import healthy
from pytest_serve_chaos.observe.listing import in_service
from pytest_serve_chaos.observe.observer import Report
from pytest_serve_chaos.observe.post_recovery import (
    HEARS_WITHIN,
    NOBODY_TO_ASK,
    PostRecoveryCheck,
    check_proxies,
    must_have_proxy,
)
from pytest_serve_chaos.observe.watcher import Watcher
from pytest_serve_chaos.traffic.request import Message

_REPLACED_WITHIN = 180.0
_ONLY_REPLICA = (
    "the post-recovery check cannot be judged: it replaces a replica of {0}, and no other of them"
    " runs, so losing it leaves none"
)
_NAMELESS = "the answers do not name their replica (`who_am_i`), and no access log does"


def settle(
    cluster: Cluster,
    watcher: Watcher,
    numbers: Iterator[int] | None = None,
    *,
    nodes: frozenset[str],
    kill: Callable[[Component], None],
    messages: Sequence[Message] = (),
    allow_total_loss: bool = False,
) -> PostRecoveryCheck:
    """Shows whether each proxy hears its controller, and each HAProxy has the right servers.

    Arguments: those of `check_proxies` and `replace_replicas`.
    """
    external = cluster.capability(IS_EXTERNAL)
    if external is not None:
        result = replace_replicas(
            external, watcher, nodes=nodes, kill=kill, messages=messages, allow_total_loss=allow_total_loss
        )
    else:
        result = check_proxies(cluster, watcher, numbers, nodes=nodes)
    haproxy = cluster.capability(SHOWS_HAPROXY)
    if haproxy is None or result.stale or result.problem:
        return result
    return replace(result, problem=check_haproxy(haproxy, watcher))


@dataclass(frozen=True, slots=True)
class _Expected:
    """A node whose proxy must send requests to one of these new replicas, by their ids."""

    node: str
    replicas: frozenset[str]


def replace_replicas(
    cluster: IsExternal,
    watcher: Watcher,
    *,
    nodes: frozenset[str],
    kill: Callable[[Component], None],
    messages: Sequence[Message] = (),
    allow_total_loss: bool = False,
) -> PostRecoveryCheck:
    """Replaces replicas one after the other, so that the app stays up, and asks each proxy alone.

    Args:
        cluster: The external cluster, whose config stays as it is.
        watcher: Watches it.
        nodes: The names of the nodes that must have a proxy (`shape.proxy_nodes`). One other than the head that loses
            its last replica meanwhile needs none any more.
        kill: Kills a replica, or raises what keeps it from that; asked again for each, since others may break something
            meanwhile.
        messages: What each proxy is asked. None: what the settings say.
        allow_total_loss: Whether the only replica of a deployment may be replaced, too.
    """
    before = watcher.sample()
    if not nodes or not before.of("proxy"):
        return PostRecoveryCheck(problem=NOBODY_TO_ASK)
    answering = frozenset().union(*(_who(cluster, proxy, messages) for proxy in before.of("proxy")))
    if not answering:
        return PostRecoveryCheck(
            asked=len(before.of("proxy")), unknown=f"the post-recovery check cannot be judged: {_NAMELESS}"
        )
    try:
        replacing = _victims(in_service(before, watcher.report), answering)
        victims = [v for v in replacing if allow_total_loss or not _is_the_last(watcher, v)]
        if replacing and not victims:
            return PostRecoveryCheck(unknown=with_a_way_out(_ONLY_REPLICA.format(replacing[0].deployment)))
        for victim in victims:
            if allow_total_loss or not _is_the_last(watcher, victim):  # others may have gone meanwhile
                _replace(kill, watcher, victim)
    except (CommandFailed, NoSuchTarget, ObservationError, Unsupported) as error:
        return PostRecoveryCheck(unknown=f"the post-recovery check could not run: {error.what}")
    except WaitTimeout as error:
        return PostRecoveryCheck(problem=f"a replica that was killed was not replaced: {error}")
    begun = clock.now()
    expected = _expected(before, watcher.sample(), answering, nodes)
    left = _who_does_not(cluster, watcher, [e for e in expected if e.replicas], messages)
    now = watcher.sample()
    stale = [proxy for e in left for proxy in now.of("proxy", on=e.node)]
    without = [e.node for e in expected if must_have_proxy(e.node, now) and not now.of("proxy", on=e.node)]
    problem = "; ".join(f"no proxy on {node}" for node in without) if expected else NOBODY_TO_ASK
    unjudged = [f"proxy on {e.node}" for e in expected if not e.replicas]
    unknown = f"no new replica came to the node of {', '.join(unjudged)}, so it is unknown what it hears"
    return PostRecoveryCheck(
        stale=tuple(stale),
        asked=len(expected),
        problem=problem,
        seconds=clock.now() - begun,
        unknown=unknown if unjudged and not problem else "",
        what="a new replica was",
    )


def _victims(replicas: Sequence[Component], answering: Collection[str]) -> list[Component]:
    """One replica of each node, of those that answer themselves."""
    own = [c for c in replicas if _id(c) in answering and c.actor_id is not None]
    first = {c.node: c for c in reversed(own)}
    return [first[node] for node in sorted(first)]


def _is_the_last(watcher: Watcher, victim: Component) -> bool:
    running = healthy(watcher.sample(), watcher.report).replicas.get(victim.deployment or "", ())
    return not any(one.identity != victim.identity for one in running)


def _replace(kill: Callable[[Component], None], watcher: Watcher, victim: Component) -> None:
    had = watcher.sample()
    number = len(had.of("replica", deployment=victim.deployment))
    kill(victim)
    killed = clock.now()

    def replaced() -> bool | NotYet:
        now, report = watcher.sample(), watcher.report
        there = now.of("replica", deployment=victim.deployment)
        needed = min(number, _scaled_to(report, victim.deployment or "", number))
        if now.find(victim.identity) is not None or len(there) < needed:
            return NotYet(f"{len(there)} of {needed} replicas of {victim.deployment}")
        rows = report.serve.replicas if report.serve is not None and report.at > killed else ()
        running = {row.replica_id.rpartition("#")[2] for row in rows if row.state == "RUNNING"}
        missing = [c.name for c in there if _id(c) not in running]
        if len(there) - len(missing) >= needed and needed < len(there):
            return True  # the others come or go because Serve scales
        return NotYet(f"not RUNNING: {', '.join(missing)}") if missing else True

    clock.wait_until("a new replica", replaced, timeout=_REPLACED_WITHIN, interval=0.5)


def _scaled_to(report: Report, deployment: str, number: int) -> int:
    """How many replicas Serve wants of a deployment that it scales; of another one, that number."""
    serve = report.serve
    return serve.targets.get(deployment, number) if serve is not None and deployment in autoscaled(serve) else number


def _expected(before: Topology, now: Topology, answering: Collection[str], nodes: Collection[str]) -> list[_Expected]:
    old = {_id(c) for c in before.of("replica")}
    # Of those that answered before: where each node had one replica, none of these is left.
    deployments = {c.deployment for c in before.of("replica") if _id(c) in answering}
    replicas = [c for c in now.of("replica") if c.deployment in deployments]
    new = [c for c in replicas if _id(c) not in old]
    found = []
    for node in sorted(node for node in nodes if must_have_proxy(node, now)):
        local = [c for c in replicas if c.node == node]
        candidates = [c for c in new if c.node == node] if local else new
        found.append(_Expected(node, frozenset(_id(c) for c in candidates)))
    return found


def _who_does_not(
    cluster: IsExternal, watcher: Watcher, expected: Sequence[_Expected], messages: Sequence[Message]
) -> list[_Expected]:
    """Asks all proxies in turn until each has sent a request to a new replica; returns those that do not."""
    waiting = list(expected)

    def ask() -> bool | NotYet:
        now = watcher.sample()
        needed = [e for e in waiting if must_have_proxy(e.node, now)]
        waiting[:] = [e for e in needed if not _finds(cluster, now.of("proxy", on=e.node), e.replicas, messages)]
        return NotYet(f"{len(waiting)} proxies without it") if waiting else True

    with contextlib.suppress(WaitTimeout):
        clock.wait_until("each proxy to find a new replica", ask, timeout=HEARS_WITHIN, interval=0.5)
    return waiting


def _finds(
    cluster: IsExternal, proxies: Sequence[Component], replicas: frozenset[str], messages: Sequence[Message]
) -> bool:
    """Whether there is a proxy, and each sends requests to these replicas."""
    return bool(proxies) and all(replicas & _who(cluster, proxy, messages) for proxy in proxies)


def _who(cluster: IsExternal, proxy: Component, messages: Sequence[Message]) -> frozenset[str]:
    try:
        return cluster.who_answers(proxy, messages)
    except ObservationError:
        return frozenset()


def _id(replica: Component) -> str:
    """The last part of Serve's replica id, which log files and answers have, too."""
    return (replica.replica or "").rpartition("#")[2]
