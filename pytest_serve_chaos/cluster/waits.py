"""How long the plugin waits for a cluster: as long as Ray takes, unless the cluster says otherwise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from pytest_serve_chaos.analysis.measure import AFTER_RECOVERY
from pytest_serve_chaos.cluster.base import Cluster
from pytest_serve_chaos.cluster.capabilities import Capability


@dataclass(frozen=True, slots=True)
class Waits:
    """Seconds that the plugin waits. The defaults fit Ray.

    Attributes:
        stable_for: All must be well for so long before a fault.
        latest: The latency of so many seconds is compared with that of the seconds before them.
        hangs_after: No request counts as one that hangs before it is in flight for so long.
        steady_within: The time for the cluster to come to steady state, in addition to what traffic takes.
        ask_every: The period of questions to Ray and Serve.
        quiet: Traffic is back after so many seconds of good answers only; the same as the gap that ends an outage.
        no_change: After so long without any change of the topology nothing more is on its way.
        whole_within: The time at the end for a state API that is busy, and for Serve to say what is there now.
        persistent_until: Requests are sent for so long after redundancy is back: ten on each persistent connection that
            is judged.
        usage_every: The period at which processes are watched for leaks, at the most often.
        judged_for: Traffic of a test by hand is judged over so long.
        signs_within: The longest wait for one sign of a fault, whatever the fault says.
    """

    stable_for: float = 3.0
    latest: float = 1.0
    hangs_after: float = 1.0
    steady_within: float = 60.0
    ask_every: float = 1.0
    quiet: float = 1.0
    no_change: float = 4.0
    whole_within: float = 15.0
    persistent_until: float = AFTER_RECOVERY + 5.0
    usage_every: float = 1.0
    judged_for: float = 20.0
    signs_within: float = math.inf


class HasOwnWaits(Protocol):
    """Lives faster or slower than Ray, as a fake cluster does."""

    @property
    def waits(self) -> Waits:
        """How long the plugin waits for it."""
        ...


HAS_OWN_WAITS = Capability[HasOwnWaits]("HasOwnWaits")


def waits_of(cluster: Cluster) -> Waits:
    """How long the plugin waits for that cluster."""
    own = cluster.capability(HAS_OWN_WAITS)
    return Waits() if own is None else own.waits
