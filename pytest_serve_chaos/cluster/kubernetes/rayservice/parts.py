"""The parts that RayService clusters are made of, by what may be done to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from pytest_serve_chaos.cluster.capabilities import (
    AUTOSCALES_WORKERS,
    FREEZES_NODES,
    HAS_PROXY_ENDPOINTS,
    KILLS_ACTORS,
    KILLS_NODES,
    KNOWS_ITS_SETUP,
    SEES_CHILDREN,
    SEES_PROCESSES,
    SETS_HEALTH_FLAGS,
    SHOWS_CONTROLLER_LOG,
    SHOWS_HAPROXY,
    SHOWS_REPLICA_LOGS,
    SIGNALS_PROCESSES,
    STREAMS_LOGS,
    WATCHES,
    Offer,
)
from pytest_serve_chaos.cluster.kubernetes.rayservice.children import PodChildren
from pytest_serve_chaos.cluster.kubernetes.rayservice.cluster import PodProxies, RunningConfig
from pytest_serve_chaos.cluster.kubernetes.rayservice.haproxy import PodHAProxy
from pytest_serve_chaos.cluster.kubernetes.rayservice.node_faults import NodeFreezes, PodDeletions
from pytest_serve_chaos.cluster.kubernetes.rayservice.process_faults import ActorKills, HealthFlags, ProcessSignals
from pytest_serve_chaos.cluster.kubernetes.rayservice.redis_kind import RedisMode
from pytest_serve_chaos.cluster.kubernetes.rayservice.scaled_workers import ScaledWorkers
from pytest_serve_chaos.cluster.kubernetes.rayservice.setup import PodSetup
from pytest_serve_chaos.cluster.kubernetes.rayservice.view import RayServiceView
from pytest_serve_chaos.model import Json


def pod_parts(
    view: RayServiceView,
    config: RunningConfig,
    ray_version: str,
    redis: Callable[[], Sequence[Mapping[str, Json]]] | None = None,
    redis_mode: Callable[[Sequence[Mapping[str, Json]]], RedisMode] = lambda _: "",
    *,
    upgrades: bool = False,
) -> tuple[Offer, ...]:
    """What can be done to every RayService.

    Args:
        view: The RayService.
        config: Its Serve config.
        ray_version: ``2.60.0``.
        redis: Returns Redis' pods as plain data; by default those of the RayService's reference.
        redis_mode: Returns what these are: one Redis, Sentinels or a Redis Cluster.
        upgrades: Whether the plugin may upgrade it.
    """
    api, pods = view.api, view.pods
    scaled = view.ref.worker_range
    name = view.ref.ray_service
    workers = () if scaled is None else (AUTOSCALES_WORKERS.by(ScaledWorkers(api, pods, name, scaled)),)
    setup = PodSetup(api, pods, ray_version, redis or view.redis_items, redis_mode, upgrades=upgrades and not scaled)
    return (
        *workers,
        HAS_PROXY_ENDPOINTS.by(PodProxies(api, pods, config)),
        KILLS_ACTORS.by(ActorKills(api, pods, view.dashboard)),
        KILLS_NODES.by(PodDeletions(api, pods, view.removals)),
        KNOWS_ITS_SETUP.by(setup),
        SEES_PROCESSES.by(view.topology),
        SHOWS_CONTROLLER_LOG.by(view.logs),
        SHOWS_REPLICA_LOGS.by(view.logs),
        STREAMS_LOGS.by(view.logs),
        WATCHES.by(view),
    )


def program_parts(view: RayServiceView) -> tuple[Offer, ...]:
    """What can be done to a RayService in whose pods programs may be run."""
    api, pods = view.api, view.pods
    haproxy = view.ref.spec.ingress == "haproxy"
    shown = (SHOWS_HAPROXY.by(PodHAProxy(api, pods, view.topology)),) if haproxy else ()
    return (
        *shown,
        FREEZES_NODES.by(NodeFreezes(api, pods)),
        SEES_CHILDREN.by(PodChildren(api, pods)),
        SETS_HEALTH_FLAGS.by(HealthFlags(api, pods)),
        SIGNALS_PROCESSES.by(ProcessSignals(api, pods)),
    )
