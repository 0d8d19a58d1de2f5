"""A RayService of our own: with the machines at hand, its pods can be kept away and the machines be lost."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from pytest_serve_chaos.analysis.configuration import RAYSERVICE_FILE
from pytest_serve_chaos.cluster.base import Cluster, ClusterSpec
from pytest_serve_chaos.cluster.capabilities import (
    CARRIES_CODE,
    DELETES_MACHINES,
    DRAINS_MACHINES,
    FAILS_UPGRADES,
    FREEZES_MACHINES,
    HAS_REDIS,
    KILLS_MACHINES,
    KILLS_NODES,
    ON_THIS_MACHINE,
    OUTLIVES_RUNS,
    REMEMBERS_CONNECTIONS,
    SHARES_REDIS,
    SHOWS_USAGE,
    SIGNALS_PROCESSES,
    UPGRADES_RAY_SERVICE,
)
from pytest_serve_chaos.cluster.dry_run import EXPLAINS_CHANGES
from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.client.pod_watch import PodWatch
from pytest_serve_chaos.cluster.kubernetes.logs.stream import LogAccess
from pytest_serve_chaos.cluster.kubernetes.machines import Machines, Taints
from pytest_serve_chaos.cluster.kubernetes.rayservice.cluster import Ends, RayServiceCluster, config_of_ray_service
from pytest_serve_chaos.cluster.kubernetes.rayservice.explanations import OwnedExplanations
from pytest_serve_chaos.cluster.kubernetes.rayservice.machine_faults import (
    ContainerSignals,
    MachineFaults,
    NodeDeletions,
    NodeDrains,
)
from pytest_serve_chaos.cluster.kubernetes.rayservice.node_faults import HeldNodes, PodDeletions
from pytest_serve_chaos.cluster.kubernetes.rayservice.parts import pod_parts, program_parts
from pytest_serve_chaos.cluster.kubernetes.rayservice.pods import RayServiceRef
from pytest_serve_chaos.cluster.kubernetes.rayservice.process_faults import ProcessSignals
from pytest_serve_chaos.cluster.kubernetes.rayservice.process_watch import ProcessWatch
from pytest_serve_chaos.cluster.kubernetes.rayservice.redis import PodRedis, RedisStore
from pytest_serve_chaos.cluster.kubernetes.rayservice.upgrades import Upgrades
from pytest_serve_chaos.cluster.kubernetes.rayservice.usage import PodUsage
from pytest_serve_chaos.cluster.kubernetes.rayservice.view import RayServiceView, Sight
from pytest_serve_chaos.cluster.local_code import CarriedCode, search_path
from pytest_serve_chaos.cluster.rest import Dashboard
from pytest_serve_chaos.model import ClusterDescription, Json

StartSecond: TypeAlias = Callable[[ClusterSpec, "str | None"], Cluster]
"""Starts a head alone on the same Redis: given what it is, and the namespace of its keys."""


@dataclass(frozen=True, slots=True)
class BroughtUp:
    """A RayService that serves.

    Attributes:
        ref: The RayService.
        api: The Kubernetes API, in its namespace.
        dashboard: The dashboard of its head.
        serve_config: The Serve config that it runs.
        description: What it is, for reports; has the address for traffic.
        redis: What runs its Redis; None where there is none that is ours.
        operator_namespace: Where KubeRay's operator is.
    """

    ref: RayServiceRef
    api: KubeApi
    dashboard: Dashboard
    serve_config: Mapping[str, Json] = field(repr=False)
    description: ClusterDescription
    redis: RedisStore | None
    operator_namespace: str


def sight_from_machines(of: BroughtUp, machines: Machines) -> Sight:
    """How it is looked at: by watches, and from its machines."""
    logs = LogAccess(operator_namespace=of.operator_namespace)
    return Sight(PodWatch(of.api), ProcessWatch(of.api), logs, machines.container_end)


def owned_rayservice(
    of: BroughtUp,
    sight: Sight,
    machines: Machines,
    taints: Taints,
    *,
    start_second: StartSecond,
    on_close: Callable[[], None],
    on_vouch: Callable[[], None] | None = None,
) -> RayServiceCluster:
    """The cluster with all that can be done to it where its machines are at hand.

    Args:
        of: What was brought up.
        sight: How it is looked at.
        machines: Its machines.
        taints: Makes them refuse pods.
        start_second: Starts a head alone on its Redis.
        on_close: What ends all that was made for it, or leaves it.
        on_vouch: What writes down that it is as it was at first; None where that does not matter.

    Raises:
        NoSuchTarget: There is no head that says where the GCS keeps its keys; the watches have ended.
        CommandFailed: The API server does not say it.
    """
    view = RayServiceView(of.api, of.dashboard, of.ref, sight)
    config = config_of_ray_service(of.api, of.ref.ray_service, of.serve_config)
    redis = PodRedis(view, of.redis, machines.late_undo)
    shared = SharedRedis(redis, of.ref.spec, start_second)
    faults = MachineFaults(view.pods, machines)
    deletions = PodDeletions(view.api, view.pods, view.removals)
    signals = ProcessSignals(view.api, view.pods, ContainerSignals(view.pods, machines).send)
    upgrades = Upgrades(view, redis)
    usage = PodUsage(view.api, view.pods, lambda: view.topology.haproxies.generations)
    offers = (
        CARRIES_CODE.by(CarriedCode(of.serve_config, search_path())),
        *pod_parts(view, config, of.description.ray_version, redis_mode=lambda _: redis.mode, upgrades=True),
        *program_parts(view),
        DELETES_MACHINES.by(NodeDeletions(view, machines)),
        DRAINS_MACHINES.by(NodeDrains(view, machines)),
        EXPLAINS_CHANGES.by(OwnedExplanations(view, machines, of.redis)),
        FREEZES_MACHINES.by(faults),
        HAS_REDIS.by(redis),
        KILLS_MACHINES.by(faults),
        KILLS_NODES.by(HeldNodes(deletions, taints, machines.late_undo)),
        ON_THIS_MACHINE.by(machines),
        OUTLIVES_RUNS.by(Reuse(on_vouch)),
        REMEMBERS_CONNECTIONS.by(machines),
        SHARES_REDIS.by(shared),
        SHOWS_USAGE.by(usage),
        SIGNALS_PROCESSES.by(signals),
        FAILS_UPGRADES.by(upgrades),
        UPGRADES_RAY_SERVICE.by(upgrades),
    )
    try:
        if of.ref.spec.gcs == "redis":
            redis.read_namespace()
        if of.redis is not None and RAYSERVICE_FILE in of.description.details:
            redis.read_mode()
    except BaseException:
        view.close()
        raise
    return RayServiceCluster(view, config, of.description, offers, Ends((usage.close, shared.close), on_close))


class SharedRedis:
    """Starts additional clusters on the same Redis. Has the capability `SharesRedis`.

    Args:
        redis: The Redis.
        spec: What the cluster is.
        start: Starts a head alone.
    """

    def __init__(self, redis: PodRedis, spec: ClusterSpec, start: StartSecond) -> None:
        self._redis = redis
        self._spec = spec
        self._start = start
        self._started: list[Cluster] = []

    def start_alongside(self, namespace: str | None = None) -> Cluster:
        """Starts a head alone on the same Redis, as a RayCluster of its own; when it is closed, its keys go, too.

        Args:
            namespace: Under which its GCS keeps its keys; None: its UID, as KubeRay has it.

        Raises:
            Unsupported: The cluster has no Redis.
            ClusterStartError: It did not come up.
        """
        self._redis.check()
        other = self._start(replace(self._spec, workers=0), namespace)
        self._started.append(other)
        return other

    def close(self) -> None:
        """Closes those that nobody closed."""
        with contextlib.ExitStack() as last_first:
            for other in self._started:
                last_first.callback(other.close)


class Reuse:
    """May be taken over by a later run. Has the capability `OutlivesRuns`.

    Args:
        on_vouch: What writes down that the cluster is as it was at first; None where that does not matter.
    """

    def __init__(self, on_vouch: Callable[[], None] | None) -> None:
        self._on_vouch = on_vouch

    def vouch(self) -> None:
        """Says that it is as it was at first, so that a later run may take it over as it is."""
        if self._on_vouch is not None:
            self._on_vouch()
