"""Whether a cluster is whole: the one place that decides it, for a start, a steady state, a recovery and a restore."""

from __future__ import annotations

import math
from collections.abc import Iterable

from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.cluster.proxy_location import DISABLED, HEAD_ONLY, no_proxies
from pytest_serve_chaos.errors import ClusterStartError
from pytest_serve_chaos.model import HEAD, Component, Topology
from pytest_serve_chaos.observe.listing import in_service
from pytest_serve_chaos.observe.observer import Observer
from pytest_serve_chaos.observe.shape import Shape, concentrated, imbalance, lacking, lacks, proxy_nodes, surplus
from pytest_serve_chaos.observe.watcher import Watcher


class Health:
    """Compares a cluster with the shape that it should have. All answers are in words, and empty where all is well.

    A cluster is whole when nothing of its redundancy is missing and nothing is there that should not be.

    Args:
        watcher: Sees who is alive, and what Ray and Serve said last.
        shape: The shape with which the cluster began.

    Attributes:
        first_shape: The shape with which the cluster began.
        shape: The shape that it should have: that of the steady state, which a test that deploys more changes.
    """

    def __init__(self, watcher: Watcher, shape: Shape) -> None:
        self._watcher = watcher
        self.first_shape = shape
        self.shape = shape

    @property
    def scales(self) -> bool:
        """Whether an autoscaler may change the number of replicas or of workers."""
        return bool(self.shape.autoscaled) or self.shape.workers is not None

    def expect(self, shape: Shape) -> None:
        """From now on the cluster should have that shape."""
        self.shape = shape

    def missing(self, *, since: float = -math.inf, sick: Iterable[Component] = ()) -> list[str]:
        """What of the redundancy is not there now.

        Args:
            since: Nothing is known of redundancy before Ray and Serve have said something after that moment, and after
                the newest component came; without it the last that they said counts, however old it is.
            sick: Components that must have been replaced.
        """
        topology, report = self._watcher.sample(), self._watcher.report
        if report.at < since:
            return ["Ray and Serve have said nothing since the fault"]
        if since > -math.inf and report.at < self._watcher.newest:
            return [f"Ray and Serve have said nothing since {self._watcher.newcomer} came"]
        there = [f"{c.name} (PID {c.pid}) is not replaced" for c in sick if topology.find(c.identity)]
        return there + lacks(topology, report, self.shape)

    def lacking(self) -> dict[str, int]:
        """How many fewer there are than there should be, by the last look: replicas of each deployment, and workers."""
        return lacking(self._watcher.topology, self._watcher.report, self.shape)

    def surplus(self) -> list[str]:
        """What is there now that should not be: leaks and zombies."""
        return surplus(self._watcher.sample(), self._watcher.report, self.shape)

    def wrong(self) -> list[str]:
        """What is missing, and what is there that should not be. The cluster is whole if there is none of either."""
        topology, report = self._watcher.sample(), self._watcher.report
        return lacks(topology, report, self.shape) + surplus(topology, report, self.shape)

    def concentrated(self, topology: Topology, before: Topology) -> list[str]:
        """Which deployments should be on several nodes, and have all their replicas on one.

        Args:
            topology: Who is alive.
            before: Who was alive in the steady state: deployments that Serve scales should be where they were then.
        """
        return concentrated(topology, self.shape.with_placement_of(before))

    def imbalance(self, topology: Topology) -> list[str]:
        """Where replicas are placed otherwise than they should be."""
        return imbalance(topology, self.shape)

    def in_service(self) -> tuple[Component, ...]:
        """The living replicas, without those that Serve starts or stops just now because it scales."""
        return in_service(self._watcher.sample(), self._watcher.report)

    def proxy_nodes(self) -> frozenset[str]:
        """The names of the nodes that must have a proxy now."""
        return proxy_nodes(self._watcher.sample(), self.shape)


def whole_at_first(observer: Observer) -> Topology | NotYet:
    """Who is alive in a cluster that has just started, once it is whole. Its shape is taken from that.

    All deployments may be scaled to zero: the first requests of the traffic start their replicas.

    Raises:
        SettingsError: Serve has no proxies, so nothing can be asked of it.
        ClusterStartError: It will never be what was asked for.
    """
    topology = observer.see()
    if observer.lacks_haproxy:
        raise ClusterStartError(
            "HAProxy was asked for, and Serve runs its own proxies",
            checked=["the actors that are ALIVE, by the state API"],
            fix=["take a Ray that knows RAY_SERVE_ENABLE_HA_PROXY, as 2.60", "or leave out --serve-chaos-ingress"],
        )
    if observer.report.serve is None:  # which says what is autoscaled
        return NotYet(f"Serve's REST does not answer: {observer.report.error}")
    if observer.report.serve.proxy_location == DISABLED:
        raise no_proxies("what Serve says of itself")
    have = {c.node for c in topology.of("proxy")}
    on_head_only = observer.report.serve.proxy_location == HEAD_ONLY
    missing = ({c.node for c in topology.of("replica") if not on_head_only} | {HEAD}) - have
    if missing:
        return NotYet(f"no proxy on {', '.join(sorted(missing))}")
    pending = ", ".join(f"{n} of {name}" for name, n in topology.pending.items())
    if pending:
        return NotYet(f"replicas are missing: {pending}")
    return topology if observer.report.serve.targets else NotYet("Serve knows no deployments")
