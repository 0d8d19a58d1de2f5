"""Steady state: what must be true before anything may be broken."""

from __future__ import annotations

from collections.abc import Callable

from pytest_serve_chaos import clock
from pytest_serve_chaos.analysis.percentiles import latency
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.model import Component, Request
from pytest_serve_chaos.observe.shape import lacks, surplus

STABLE_FOR = 3.0
"""Seconds in which all must be well."""

_LATENCY_SPREAD = 4.0
"""Most that the p95 of the last second may be, as a multiple of that of the seconds before it; beyond 50 ms."""

_NOISE = 0.05


def wait_steady(rig: Rig, rate: float, *, timeout: float, on_wait: Callable[[float, str], None] | None = None) -> None:
    """Waits until all has been well for some seconds, traffic has reached every proxy and every replica.

    Sets `rig.steady_since` to the beginning of these seconds.

    Args:
        rig: Where; its traffic must be running.
        rate: Requests per second on fresh connections.
        timeout: Seconds.
        on_wait: Called with the seconds waited and what is missing.

    Raises:
        WaitTimeout: Something was missing until the end.
    """
    begun = clock.now()

    def steady() -> float | NotYet:
        missing = lacks(rig.watcher.sample(), rig.watcher.report, rig.shape)
        missing += surplus(rig.watcher.topology, rig.watcher.report, rig.shape)
        if missing:
            return NotYet("; ".join(missing))
        since = max(begun, clock.now() - STABLE_FOR - 1.0)
        recent = [r for r in rig.history.requests if r.scheduled >= since]
        return _judge(recent, since, rate, rig.watcher.topology.of("proxy"), rig.watcher.topology.of("replica"))

    rig.steady_since = clock.wait_until(
        "steady state", steady, timeout=timeout, interval=0.2, on_wait=on_wait,
        looked_at=["processes or pods, the state API, Serve's REST, and the answers of the last seconds"],
        mend=["nothing was broken: see why the app is not well before any fault"],
    )  # fmt: skip


def _judge(
    recent: list[Request], since: float, rate: float, proxies: tuple[Component, ...], replicas: tuple[Component, ...]
) -> float | NotYet:
    fresh = [r for r in recent if not r.kept]
    lost = [r for r in recent if r.lost]
    if lost:
        return NotYet(f"{len(lost)} of {len(recent)} requests lost in the last seconds, the last with {lost[-1].error}")
    if len(fresh) < rate * STABLE_FOR:
        return NotYet(f"{len(fresh)} of {rate * STABLE_FOR:.0f} good answers")
    unreached = {p.name for p in proxies} - {r.path for r in recent if r.kept}
    if unreached:
        return NotYet(f"traffic has not reached {', '.join(sorted(unreached))}")
    answered = {r.replica for r in recent if r.replica}
    silent = [c.name for c in replicas if c.replica is not None and c.replica not in answered]
    if answered and silent:
        return NotYet(f"{len(silent)} replicas have not answered: {', '.join(sorted(silent))}")
    return since if _latency_is_stable(fresh, since) else NotYet("the latency is not stable")


def _latency_is_stable(fresh: list[Request], since: float) -> bool:
    newest = max(r.scheduled for r in fresh)
    earlier = latency([r for r in fresh if r.scheduled < newest - 1.0])
    latest = latency([r for r in fresh if r.scheduled >= newest - 1.0])
    if earlier is None or latest is None:
        return False
    return latest.p95 <= max(_NOISE, _LATENCY_SPREAD * earlier.p95)
