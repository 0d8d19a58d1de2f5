"""Steady state: what must be true before anything may be broken."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pytest_serve_chaos import clock
from pytest_serve_chaos.analysis.statistics import latency
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.cluster.capabilities import IS_EXTERNAL
from pytest_serve_chaos.cluster.waits import Waits
from pytest_serve_chaos.errors import WaitTimeout
from pytest_serve_chaos.events import ComponentCame
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.model import UNFINISHED, Request, Topology
from pytest_serve_chaos.progress import while_waiting

_LEAST_ANSWERS = 3
"""Answers without which nothing is steady, however few requests are sent."""

_LATENCY_SPREAD = 4.0
"""Most that the p95 of the latest second may be, as a multiple of that of the seconds before it; beyond 50 ms."""

_NOISE = 0.05
_FEW = 4
"""Answers below which two spans of time are not compared by their latency."""

_HANGS_AFTER = 3.0
"""A request hangs that is in flight for so many times as long as others took, and for `Waits.hangs_after`."""


@dataclass(frozen=True, slots=True)
class Sent:
    """The traffic that must be steady.

    Attributes:
        source: Whose requests they are.
        rate: Requests per second on fresh connections.
        timeout: Seconds until a request is lost.
        kept: Whether there are persistent connections, which alone tell the proxies apart.
        proxies: The names of the proxies to which there are such; None: of all. One that comes later, as where Serve
            scales up onto another node, gets none.
        waits: How long all must be well.
        apps: The apps that are asked, if there are several: each must have answered.
    """

    source: str
    rate: float
    timeout: float
    kept: bool
    proxies: frozenset[str] | None = None
    waits: Waits = field(default_factory=Waits)
    apps: tuple[str, ...] = ()

    @property
    def span(self) -> float:
        """Seconds over which answers are looked at: with few requests it takes longer to have some."""
        spacing = 1 / self.rate
        return max(self.waits.stable_for, _LEAST_ANSWERS * spacing) + max(self.waits.latest, spacing)

    @property
    def answers(self) -> int:
        """How many good answers there must be in that span."""
        return max(_LEAST_ANSWERS, math.floor(self.rate * self.waits.stable_for))


@dataclass(frozen=True, slots=True)
class _Trouble:
    """Why it is not steady yet, and what helps."""

    text: str
    advice: str


def steady_within(sent: Sent, replicas: int, *, least: float) -> float:
    """Seconds in which a sound app is in steady state.

    Each request may take as long as its timeout, and each replica must have answered: which one answers is chance, so
    that takes some n * ln(n) requests.

    Args:
        sent: The traffic.
        replicas: How many replicas must answer.
        least: Seconds for the rest of the cluster.
    """
    each = replicas * (math.log(replicas) + 5) / sent.rate if replicas else 0.0
    return least + sent.span + sent.timeout + each


def replicas_to_reach(topology: Topology, shares: Mapping[str, float]) -> int:
    """The replicas that requests must reach: as many as would take as long to reach if all got the same share.

    Args:
        topology: Who is alive.
        shares: The share of the requests that each app gets; empty where that is unknown.
    """
    replicas = topology.of("replica")
    of_app = Counter((c.deployment or "").partition("#")[0] for c in replicas)
    return max([len(replicas), *(math.ceil(of_app[app] / share) for app, share in shares.items())])


def wait_steady(rig: Rig, sent: Sent, *, timeout: float) -> tuple[Request, ...]:
    """Waits until all has been well for some seconds, and traffic has reached every proxy and every replica.

    Of a deployment that the answers do not name (the child of another) no replica needs to be reached. The user's URL
    leads to an external cluster, so there the answers must not come from elsewhere. Sets the moment from which answers
    count as given before the fault (`LiveTraffic.steady_since`).

    Args:
        rig: Where; its traffic must be running.
        sent: The requests that are sent.
        timeout: Seconds.

    Returns:
        The requests on fresh connections that showed it.

    Raises:
        WaitTimeout: Something was missing until the end.
        WatchEnded: A thread that watches the cluster has ended.
    """
    begun = clock.now()
    advice = [""]

    def steady() -> tuple[Request, ...] | NotYet:
        rig.check_watches()
        wrong = rig.health.wrong()
        if wrong:
            advice[0] = "nothing was broken: see why the cluster is not whole before any fault (Serve's and Ray's logs)"
            return NotYet("; ".join(wrong))
        seen = [r for r in rig.history.requests_since(begun, with_pending=True) if r.source == sent.source]
        recent = _recent(seen, sent, begun)
        trouble = _trouble(seen, recent, rig, sent)
        if trouble is not None:
            advice[0] = trouble.advice
            return NotYet(trouble.text)
        return tuple(r for r in recent if not r.kept)

    rig.traffic.steady_since = begun
    try:
        shown = while_waiting(rig.progress, "steady state")
        return clock.wait_until("steady state", steady, timeout=timeout, interval=0.2, on_wait=shown)
    except WaitTimeout as error:
        raise WaitTimeout(
            "steady state",
            timeout=timeout,
            last_seen=error.last_seen,
            checked=["processes or pods, the state API, Serve's REST, and the answers of the last seconds"],
            fix=[advice[0]],
        ) from error


def idle_replicas(rig: Rig, since: float, *, chance: float) -> str:
    """The replicas that are there and have answered nothing since then, in words; "" where each has answered.

    Serve may call a replica RUNNING that no router knows any more. A wrong answer is an answer here: its replica gets
    requests. Of a deployment that no answer named before the fault nothing is expected, and of a replica that came
    because Serve scales, or that it starts or stops, neither.

    Args:
        rig: Where; its traffic must be running.
        since: Monotonic seconds.
        chance: Seconds for which a replica must have been there, so that it had the chance to answer.
    """
    requests = [r for r in rig.history.requests_since(rig.traffic.steady_since) if r.source == rig.traffic.source]
    answering = _answering(requests)
    answered = {name for r in requests if r.scheduled >= since for name in r.replicas}
    late = {
        event.component.identity
        for event in rig.log.of(ComponentCame, since=max(since, clock.now() - chance))
        if event.component.deployment in rig.health.shape.autoscaled
    }
    idle = [
        c
        for c in rig.health.in_service()
        if c.deployment in answering and c.replica and c.replica not in answered and c.identity not in late
    ]
    return ", ".join(sorted(f"{c.name} (PID {c.pid})" for c in idle))


def _answering(requests: Sequence[Request]) -> set[str]:
    """The deployments whose replicas the answers name."""
    return {name.rpartition("#")[0] for r in requests if not r.lost for name in r.replicas}


def _recent(seen: Sequence[Request], sent: Sent, begun: float) -> list[Request]:
    """What ended in the last seconds: a request that times out is seen when it does, and not when it was sent."""
    since = max(begun, clock.now() - sent.span)
    return [r for r in seen if r.finished >= since and r.error != UNFINISHED]


def _trouble(seen: Sequence[Request], recent: Sequence[Request], rig: Rig, sent: Sent) -> _Trouble | None:
    topology = rig.watcher.topology
    if rig.cluster.capability(IS_EXTERNAL) is not None and _from_elsewhere(recent, topology):
        return _Trouble(
            "answers come from replicas that are not of this cluster: see --serve-chaos-url",
            "give the address at which the app of this RayService answers",
        )
    return _unanswered(seen, recent, sent) or _unstable(recent, sent) or _unreached(seen, rig, sent)


def _unanswered(seen: Sequence[Request], recent: Sequence[Request], sent: Sent) -> _Trouble | None:
    """Requests that are lost, hang or are not answered in time."""
    lost = [r for r in recent if r.lost]
    if lost:
        last = lost[-1]
        which = f" (app {last.app})" if last.app else f" ({last.name})" if last.name else ""
        return _Trouble(
            f"{len(lost)} of {len(recent)} requests lost in the last seconds, the last with {last.error}{which}",
            "send one such request yourself, and see what the app answers; `--serve-chaos-path`, `-method`, "
            "`-headers`, `-body` and `-requests` say what is sent",
        )
    good = latency([r for r in seen if not r.lost and not r.kept])
    longest = 0.0 if good is None else good.p99
    hangs_after = min(sent.timeout, max(sent.waits.hangs_after, _HANGS_AFTER * longest))
    hanging = [r for r in seen if r.error == UNFINISHED and r.latency > hangs_after]
    fresh = [r for r in recent if not r.kept]
    if hanging and fresh:
        waited = max(r.latency for r in hanging)
        return _Trouble(
            f"{len(hanging)} requests hang, the oldest for {waited:.1f} s; others are answered within {longest:.2f} s",
            "the app does not answer some of its requests: see its logs",
        )
    if len(fresh) < sent.answers:
        return _Trouble(
            f"{len(fresh)} of {sent.answers} good answers in the last {sent.span:.1f} s, "
            f"{sum(r.error == UNFINISHED for r in seen)} requests in flight",
            f"the app answers fewer than {sent.rate:g} requests a second: lower --serve-chaos-rate, or give it more "
            "replicas",
        )
    old = [r for r in seen if not r.kept and r.scheduled < clock.now() - hangs_after]
    if len(old) < sent.answers:
        return _Trouble(
            f"only {len(old)} requests have had {hangs_after:.1f} s to be answered; {sent.answers} must have, to see "
            "whether some hang",
            f"the app's answers take longer and longer: see whether it keeps up with {sent.rate:g} requests a second",
        )
    return None


def _unstable(recent: Sequence[Request], sent: Sent) -> _Trouble | None:
    """A latency that rises: the app warms up, or cannot keep up. Requests of other kinds take longer than others."""
    kinds: dict[tuple[str, str], list[Request]] = {}
    for request in recent:
        if not request.kept:
            kinds.setdefault((request.app, request.name), []).append(request)
    found = (_unstable_kind(fresh, sent) for fresh in kinds.values())
    return next((trouble for trouble in found if trouble is not None), None)


def _unstable_kind(fresh: Sequence[Request], sent: Sent) -> _Trouble | None:
    newest = max(r.finished for r in fresh)
    earlier = [r for r in fresh if r.finished < newest - sent.waits.latest]
    latest = [r for r in fresh if r.finished >= newest - sent.waits.latest]
    if min(len(earlier), len(latest)) < _FEW:
        return None
    before, now = latency(earlier), latency(latest)
    assert before is not None
    assert now is not None
    if now.p95 <= max(_NOISE, _LATENCY_SPREAD * before.p95):
        return None
    return _Trouble(
        f"the latency is not stable: p95 {now.p95:.2f} s in the last second, {before.p95:.2f} s before",
        f"the app may not keep up with {sent.rate:g} requests a second, or the machine is busy with something else",
    )


def _from_elsewhere(recent: Sequence[Request], topology: Topology) -> bool:
    """Whether the traffic goes to another cluster; False where answers name a replica of this one, or none at all.

    Persistent connections prove nothing here: they go to this cluster's proxies whatever the URL says.
    """
    named = {name for r in recent if not r.kept and not r.lost for name in r.replicas}
    return bool(named) and not named & {c.replica for c in topology.of("replica")}


def _unreached(seen: Sequence[Request], rig: Rig, sent: Sent) -> _Trouble | None:
    """The proxies and replicas that have answered nothing yet."""
    good = [r for r in seen if not r.lost]
    apps = set(sent.apps) - {r.app for r in good if not r.kept}
    if apps:
        return _Trouble(
            f"no answer yet from the app {', '.join(sorted(apps))}",
            "send more requests a second, or give the app a larger weight",
        )
    there = {p.name for p in rig.watcher.topology.of("proxy") if sent.kept}
    proxies = (there if sent.proxies is None else there & sent.proxies) - {r.path for r in good if r.kept}
    if proxies:
        return _Trouble(
            f"traffic has not reached {', '.join(sorted(proxies))}",
            "see whether each proxy can be reached from here; without persistent connections "
            "(--serve-chaos-persistent-rate=0) the plugin does not check that",
        )
    answered = {name for r in good for name in r.replicas}
    answering = _answering(good)
    silent = [c.name for c in rig.health.in_service() if c.deployment in answering and c.replica not in answered]
    if not silent:
        return None
    return _Trouble(
        f"{len(silent)} replicas have not answered: {', '.join(sorted(silent))}",
        f"send more than {sent.rate:g} requests a second, so that each replica gets some; or see why these get none",
    )
