"""How the default expectations of a fault depend on the cluster and on the verb."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from pytest_serve_chaos.cluster.base import ClusterSpec, Profile
from pytest_serve_chaos.cluster.profiles import timing
from pytest_serve_chaos.model import NO_DEMANDS, Expectations

ALL = ("head", "gcs", "worker", "controller", "proxy", "replica")
_ALL_BUT_FROZEN_ACTORS = ("head", "gcs", "worker", "controller", "proxy@others", "replica@others")

FREEZE_FOR = 20.0
"""Seconds: beyond some 60 Ray declares a frozen node dead (65 s measured with Ray 2.60), and the freeze is a kill."""

_FAILURES = 3
"""Failed health checks in a row after which Serve replaces a replica or a proxy; ray/serve/_private/constants.py."""


def _sick_after(profile: Profile) -> float:
    """Seconds of a freeze after which Serve may replace what is in it: each health check fails by its timeout.

    Measured on kind with the profile ``fast``: after a machine was paused for 20 s, its proxy and its three replicas
    were replaced.
    """
    return _FAILURES * timing(profile).health_check_timeout


def freeze_seconds(for_: float | None) -> float:
    """Seconds of a freeze for which the marker says `for_`."""
    return FREEZE_FOR if for_ is None else for_


def when_frozen(cluster: ClusterSpec, seconds: float) -> Expectations:
    """What is expected after a freeze, during which the frozen part is away; see `_sick_after` for what it may cost.

    What a test demands of a share of the requests holds over the freeze and the return.
    """
    kept = ALL if seconds < _sick_after(cluster.profile) else _ALL_BUT_FROZEN_ACTORS
    return replace(
        NO_DEMANDS,
        window=max(NO_DEMANDS.window, seconds + 10.0),
        longest_outage=seconds + 10.0,
        traffic_back=seconds + 30.0,
        redundancy_back=seconds + 60.0,
        kept=kept,
        settled=True,
    )


def with_profile(expected: Expectations, cluster: ClusterSpec) -> Expectations:
    """With the periods of the profile ``guide`` redundancy may take longer."""
    if cluster.profile == "guide" and expected.redundancy_back is not None:
        return replace(expected, redundancy_back=300.0)
    return expected


def without_head(expected: Expectations, cluster: ClusterSpec) -> Expectations:
    """Without GCS fault tolerance no identity is promised to survive the head; the figures that are demanded stay."""
    return with_profile(replace(expected, kept=()) if cluster.gcs == "none" else expected, cluster)


def while_down(expected: Expectations, seconds: float) -> Expectations:
    """The same where the victim is kept down for so many seconds: all that is demanded holds over that, and the return.

    What may be lost, and how long an outage may be, stays as it is: the time for the return begins when it may come
    back.
    """
    traffic, redundancy = expected.traffic_back, expected.redundancy_back
    return replace(
        expected,
        window=expected.window + seconds,
        traffic_back=None if traffic is None else traffic + seconds,
        redundancy_back=None if redundancy is None else redundancy + seconds,
    )


class CanFreeze(Protocol):
    """The keywords of a fault that can be a freeze."""

    @property
    def for_(self) -> float:
        """Seconds of the freeze."""
        ...


class CanStayAway(Protocol):
    """The keywords of a fault that can be a freeze, or keep its victim down."""

    @property
    def for_(self) -> float | None:
        """Seconds for which the victim is away; None: as long as a freeze usually lasts, or until it is healed."""
        ...


def unless_frozen(
    adapted: Callable[[Expectations, ClusterSpec], Expectations],
) -> Callable[[Expectations, ClusterSpec, str, CanFreeze], Expectations]:
    """How a fault adapts its expectations: in that way, but for a freeze, after which `when_frozen` holds."""

    def adapt(expected: Expectations, cluster: ClusterSpec, how: str, given: CanFreeze) -> Expectations:
        return when_frozen(cluster, given.for_) if how == "freeze" else adapted(expected, cluster)

    return adapt


def unless_away(
    adapted: Callable[[Expectations, ClusterSpec], Expectations],
) -> Callable[[Expectations, ClusterSpec, str, CanStayAway], Expectations]:
    """The same for faults that can keep their victim down: while one is down for a given time, see `while_down`."""

    def adapt(expected: Expectations, cluster: ClusterSpec, how: str, given: CanStayAway) -> Expectations:
        if how == "freeze":
            return when_frozen(cluster, freeze_seconds(given.for_))
        found = adapted(expected, cluster)
        return found if given.for_ is None else while_down(found, given.for_)

    return adapt
