"""What a rule knows when it predicts: the cluster, the victims and the traffic, just before the fault."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from pytest_serve_chaos.model import ClusterDescription, Component, Topology
from pytest_serve_chaos.prediction.settings import Settings


@dataclass(frozen=True, slots=True)
class TrafficNow:
    """The requests of the experiment, just before the fault.

    Attributes:
        rate: Requests per second; None: there are none, or nobody knows.
        service_time: Seconds that an answer takes on average.
        slowest: Seconds that it takes at most, but for one in a hundred.
        timeout: Seconds until a request is lost; None: nobody knows.
        shares: Replica (Serve's id) -> its share of the answers, 0 to 1, of those that answers name.
    """

    rate: float | None = None
    service_time: float = 0.0
    slowest: float = 0.0
    timeout: float | None = None
    shares: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Situation:
    """What is known just before a fault.

    Attributes:
        fault: The name of its marker.
        how: The verb.
        options: What its marker would say, and `how`.
        victims: The components that it hits.
        hold: Whether what it hits stays down until it is healed.
        lasts: Seconds after which it is healed by itself; None: somebody heals it.
        cluster: The cluster.
        topology: Who is alive.
        settings: What decides how long its recovery takes.
        traffic: The requests.
        autoscaled: The deployments that Serve's autoscaler scales.
    """

    fault: str
    how: str
    options: Mapping[str, object]
    victims: tuple[Component, ...]
    cluster: ClusterDescription
    topology: Topology
    settings: Settings
    traffic: TrafficNow = field(default_factory=TrafficNow)
    hold: bool = False
    lasts: float | None = None
    autoscaled: tuple[str, ...] = ()

    @property
    def on_kubernetes(self) -> bool:
        """Whether Ray's nodes are pods, behind a Service."""
        return self.cluster.backend not in ("local", "fake")

    @property
    def haproxy(self) -> bool:
        """Whether HAProxy takes the requests."""
        return self.cluster.ingress == "haproxy"

    @property
    def survives_the_head(self) -> bool:
        """Whether the GCS has its state again when a new one starts."""
        return self.cluster.gcs != "none"

    @property
    def lost(self) -> frozenset[Component]:
        """The victims, and all that is on a node among them."""
        nodes = {c.node for c in self.victims if c.role in ("head", "worker", "raylet")}
        return frozenset(self.victims) | {c for c in self.topology.components if c.node in nodes}

    def of_lost(self, role: str) -> list[Component]:
        """Those of a role that are lost."""
        return [c for c in self.lost if c.role == role]

    @property
    def proxy_share(self) -> float:
        """The share of the requests, 0 to 1, that comes in through the proxies that are lost."""
        return len(self.of_lost("proxy")) / max(1, len(self.topology.of("proxy")))

    @property
    def replica_share(self) -> float:
        """The share of the requests, 0 to 1, that the replicas answer which are lost."""
        lost = self.of_lost("replica")
        named = [self.traffic.shares[c.replica or ""] for c in lost if c.replica in self.traffic.shares]
        return min(1.0, sum(named)) if named else self._by_number(lost)

    def _by_number(self, lost: list[Component]) -> float:
        """The same where no answer says who gave it: all replicas of a deployment get as many."""
        shares = [n / max(1, len(self.topology.of("replica", deployment=name))) for name, n in _by_deployment(lost)]
        return max(shares, default=0.0)

    @property
    def touched(self) -> float:
        """The share of the requests, 0 to 1, whose way leads through anything that is lost.

        A proxy prefers replicas of its own node, so where a node is lost most of those that come in there end there.
        """
        return max(self.proxy_share, self.replica_share, 1 - (1 - self.proxy_share) * (1 - self.replica_share / 2))

    @property
    def both_on_victims(self) -> float:
        """How likely it is that both replicas between which a router chooses are lost (power of two choices)."""
        worst = 0.0
        for name, gone in _by_deployment(self.of_lost("replica")):
            there = len(self.topology.of("replica", deployment=name))
            worst = max(worst, 1.0 if there <= gone else gone * (gone - 1) / (there * (there - 1)))
        return worst

    @property
    def leaves_no_replica(self) -> str:
        """A deployment of which nothing is left; "": there is none."""
        name, left = self.others_of_lost
        return "" if left > 0 else name

    @property
    def others_of_lost(self) -> tuple[str, int]:
        """The deployment of which fewest replicas are left, and how many those are; "" and 0: none loses any."""
        lost = _by_deployment(self.of_lost("replica"))
        left = ((len(self.topology.of("replica", deployment=name)) - gone, name) for name, gone in lost)
        number, name = min(left, default=(0, ""))
        return name, number

    @property
    def leaves_no_proxy(self) -> bool:
        """Whether no proxy is left."""
        lost = self.of_lost("proxy")
        return bool(lost) and len(lost) >= len(self.topology.of("proxy"))

    @property
    def in_flight(self) -> float:
        """Requests that are on the victims at a moment, on average: rate times service time (Little's law)."""
        return (self.traffic.rate or 0.0) * self.traffic.service_time * self.touched

    @property
    def spacing(self) -> float:
        """Seconds between two requests."""
        return 1 / self.traffic.rate if self.traffic.rate else 0.0


def _by_deployment(replicas: list[Component]) -> list[tuple[str, int]]:
    return sorted(Counter(c.deployment or "" for c in replicas).items())
