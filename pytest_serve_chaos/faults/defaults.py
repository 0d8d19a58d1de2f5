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

_FAILURES = 3
"""Failed health checks in a row after which Serve replaces a replica or a proxy; ray/serve/_private/constants.py."""


def _sick_after(profile: Profile) -> float:
    """Seconds of a freeze after which Serve may replace what is in it: each health check fails by its timeout.

    Measured on kind with the profile ``fast``: after a machine was paused for 20 s, its proxy and its three replicas
    were replaced.
    """
    return _FAILURES * timing(profile).health_check_timeout


def when_frozen(cluster: ClusterSpec, seconds: float) -> Expectations:
    """What is expected after a freeze, during which the frozen part is away; see `_sick_after` for what it may cost."""
    kept = ALL if seconds < _sick_after(cluster.profile) else _ALL_BUT_FROZEN_ACTORS
    return replace(
        NO_DEMANDS,
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


class CanFreeze(Protocol):
    """The keywords of a fault that can be a freeze."""

    @property
    def for_(self) -> float:
        """Seconds of the freeze."""
        ...


def unless_frozen(
    adapted: Callable[[Expectations, ClusterSpec], Expectations],
) -> Callable[[Expectations, ClusterSpec, str, CanFreeze], Expectations]:
    """How a fault adapts its expectations: in that way, but for a freeze, after which `when_frozen` holds."""

    def adapt(expected: Expectations, cluster: ClusterSpec, how: str, given: CanFreeze) -> Expectations:
        return when_frozen(cluster, given.for_) if how == "freeze" else adapted(expected, cluster)

    return adapt
