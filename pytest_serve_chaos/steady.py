"""Steady state: what must be true before anything may be broken."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_serve_chaos import clock
from pytest_serve_chaos.analysis.percentiles import latency
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.cluster.capabilities import IsBorrowed
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.model import Request, Topology
from pytest_serve_chaos.observe.shape import lacks, surplus

STABLE_FOR = 3.0
"""Seconds in which all must be well."""

_LATEST = 1.0
"""Seconds whose latency is compared with that of the seconds before them."""

_LATENCY_SPREAD = 4.0
"""Most that the p95 of the latest second may be, as a multiple of that of the seconds before it; beyond 50 ms."""

_NOISE = 0.05


def wait_steady(rig: Rig, rate: float, *, kept: bool, timeout: float) -> None:
    """Waits until all has been well for some seconds, and traffic has reached every proxy and every replica.

    Of a deployment that the answers do not name (the child of another) no replica needs to be reached. To a borrowed
    cluster leads the user's URL, so there the answers must not come from elsewhere. Sets `rig.steady_since` to the
    moment from which answers count as given before the fault.

    Args:
        rig: Where; its traffic must be running.
        rate: Requests per second on fresh connections.
        kept: Whether there are kept connections, which alone tell the proxies apart.
        timeout: Seconds.

    Raises:
        WaitTimeout: Something was missing until the end.
    """
    begun = clock.now()

    def steady() -> bool | NotYet:
        missing = lacks(rig.watcher.sample(), rig.watcher.report, rig.shape)
        missing += surplus(rig.watcher.topology, rig.watcher.report, rig.shape)
        if missing:
            return NotYet("; ".join(missing))
        since = max(begun, clock.now() - STABLE_FOR - _LATEST)
        requests = rig.history.requests_since(begun)
        recent = [r for r in requests if r.scheduled >= since]
        elsewhere = _from_elsewhere(recent, rig.watcher.topology) if isinstance(rig.cluster, IsBorrowed) else ""
        unreached = _unreached(requests, rig.watcher.topology, kept=kept)
        trouble = elsewhere or _unsteady(recent, rate) or unreached
        return NotYet(trouble) if trouble else True

    rig.steady_since = begun
    clock.wait_until(
        "steady state", steady, timeout=timeout, interval=0.2,
        looked_at=["processes or pods, the state API, Serve's REST, and the answers of the last seconds"],
        mend=["nothing was broken: see why the app is not well before any fault"],
    )  # fmt: skip


def idle_replicas(rig: Rig, since: float) -> str:
    """The replicas that are there and have answered nothing since then, in words; "" where each has answered.

    Serve may call a replica RUNNING that no router knows any more. A wrong answer is an answer here: its replica gets
    requests. Of a deployment that no answer named before the fault nothing is expected.

    Args:
        rig: Where; its traffic must be running.
        since: Monotonic seconds.
    """
    requests = rig.history.requests_since(rig.steady_since)
    answering = _answering(requests)
    answered = {name for r in requests if r.scheduled >= since for name in r.replicas}
    replicas = rig.watcher.sample().of("replica")
    idle = [c for c in replicas if c.deployment in answering and c.replica and c.replica not in answered]
    return ", ".join(sorted(f"{c.name} (PID {c.pid})" for c in idle))


def _answering(requests: Sequence[Request]) -> set[str]:
    """The deployments whose replicas the answers name."""
    return {name.rpartition("#")[0] for r in requests if not r.lost for name in r.replicas}


def _unsteady(recent: list[Request], rate: float) -> str:
    fresh = [r for r in recent if not r.kept]
    lost = [r for r in recent if r.lost]
    if lost:
        return f"{len(lost)} of {len(recent)} requests lost in the last seconds, the last with {lost[-1].error}"
    if len(fresh) < rate * STABLE_FOR:
        return f"{len(fresh)} of {rate * STABLE_FOR:.0f} good answers"
    return "" if _latency_is_stable(fresh) else "the latency is not stable"


def _from_elsewhere(recent: Sequence[Request], topology: Topology) -> str:
    """That the traffic goes to another cluster, in words; "" where answers name a replica of this one, or none at all.

    Kept connections prove nothing here: they go to this cluster's proxies whatever the URL says.
    """
    named = {name for r in recent if not r.kept and not r.lost for name in r.replicas}
    if not named or named & {c.replica for c in topology.of("replica")}:
        return ""
    return "answers come from replicas that are not of this cluster: see --serve-chaos-url"


def _unreached(requests: Sequence[Request], topology: Topology, *, kept: bool) -> str:
    """The proxies and replicas that have answered nothing yet, in words."""
    good = [r for r in requests if not r.lost]
    proxies = {p.name for p in topology.of("proxy")} - {r.path for r in good if r.kept} if kept else set()
    if proxies:
        return f"traffic has not reached {', '.join(sorted(proxies))}"
    answered = {name for r in good for name in r.replicas}
    answering = _answering(good)
    silent = [c.name for c in topology.of("replica") if c.deployment in answering and c.replica not in answered]
    return f"{len(silent)} replicas have not answered: {', '.join(sorted(silent))}" if silent else ""


def _latency_is_stable(fresh: list[Request]) -> bool:
    newest = max(r.scheduled for r in fresh)
    earlier = latency([r for r in fresh if r.scheduled < newest - _LATEST])
    latest = latency([r for r in fresh if r.scheduled >= newest - _LATEST])
    if earlier is None or latest is None:
        return False
    return latest.p95 <= max(_NOISE, _LATENCY_SPREAD * earlier.p95)
