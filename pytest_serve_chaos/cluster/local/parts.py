"""The parts that a local cluster is made of, by what may be done to it."""

from __future__ import annotations

from pathlib import Path

from pytest_serve_chaos.cluster.capabilities import (
    FREEZES_NODES,
    HAS_REDIS,
    KILLS_ACTORS,
    KILLS_NODES,
    KNOWS_ITS_SETUP,
    SETS_HEALTH_FLAGS,
    SHARES_REDIS,
    SHOWS_CONTROLLER_LOG,
    SHOWS_HAPROXY,
    SHOWS_REPLICA_LOGS,
    SIGNALS_PROCESSES,
    STREAMS_LOGS,
    Offer,
)
from pytest_serve_chaos.cluster.local.haproxy import LocalHAProxy
from pytest_serve_chaos.cluster.local.health_flags import HealthFlags
from pytest_serve_chaos.cluster.local.node_faults import NodeFreezes, NodeKills
from pytest_serve_chaos.cluster.local.process_faults import ActorKills, ProcessSignals
from pytest_serve_chaos.cluster.local.redis import LocalRedis, SharedRedis, StartSecond
from pytest_serve_chaos.cluster.local.setup import LocalSetup
from pytest_serve_chaos.cluster.local.unit_kills import UnitKills
from pytest_serve_chaos.cluster.local.view import LocalView


def local_parts(view: LocalView, ray_version: str, start_second: StartSecond) -> tuple[Offer, ...]:
    """What can be done to a local cluster.

    Args:
        view: The cluster.
        ray_version: ``2.60.0``.
        start_second: Starts a head alone on its Redis.
    """
    plan, layout, link = view.plan, view.layout, view.link
    units = UnitKills(link, plan.termination_grace)
    redis = LocalRedis(plan, layout, units)
    shown = (SHOWS_HAPROXY.by(LocalHAProxy(view.topology)),) if plan.ingress == "haproxy" else ()
    return (
        *shown,
        FREEZES_NODES.by(NodeFreezes(link)),
        HAS_REDIS.by(redis),
        KILLS_ACTORS.by(ActorKills(plan, layout, view.dashboard)),
        KILLS_NODES.by(NodeKills(units)),
        KNOWS_ITS_SETUP.by(LocalSetup(plan, ray_version)),
        SETS_HEALTH_FLAGS.by(HealthFlags(Path(plan.directory) / "flags")),
        SHARES_REDIS.by(SharedRedis(redis, start_second)),
        SHOWS_CONTROLLER_LOG.by(view.logs),
        SHOWS_REPLICA_LOGS.by(view.logs),
        SIGNALS_PROCESSES.by(ProcessSignals(link)),
        STREAMS_LOGS.by(view.logs),
    )
