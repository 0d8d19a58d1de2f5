"""The parts that a local cluster is made of, by what may be done to it and what it says of its setup."""

from __future__ import annotations

import os
from pathlib import Path

from pytest_serve_chaos.analysis.configuration import DRAIN_TIMEOUT, Setup
from pytest_serve_chaos.cluster.capabilities import (
    FREEZES_NODES,
    HAS_REDIS,
    KILLS_ACTORS,
    KILLS_NODES,
    KNOWS_ITS_SETUP,
    ON_THIS_MACHINE,
    SEES_CHILDREN,
    SEES_PROCESSES,
    SETS_HEALTH_FLAGS,
    SHARES_REDIS,
    SHOWS_CONTROLLER_LOG,
    SHOWS_FAILED_STARTS,
    SHOWS_HAPROXY,
    SHOWS_REPLICA_LOGS,
    SHOWS_USAGE,
    SIGNALS_PROCESSES,
    STREAMS_LOGS,
    WATCHES,
    Offer,
)
from pytest_serve_chaos.cluster.dry_run import EXPLAINS_CHANGES
from pytest_serve_chaos.cluster.local import processes
from pytest_serve_chaos.cluster.local.children import ProcessChildren
from pytest_serve_chaos.cluster.local.explanations import LocalExplanations
from pytest_serve_chaos.cluster.local.haproxy import LocalHAProxy
from pytest_serve_chaos.cluster.local.node_faults import NodeFreezes, NodeKills, UnitKills
from pytest_serve_chaos.cluster.local.plan import Plan
from pytest_serve_chaos.cluster.local.process_faults import ActorKills, HealthFlags, ProcessSignals
from pytest_serve_chaos.cluster.local.redis import LocalRedis, SharedRedis, StartSecond
from pytest_serve_chaos.cluster.local.usage import ProcUsage
from pytest_serve_chaos.cluster.local.view import LocalView
from pytest_serve_chaos.cluster.profiles import drain_timeout, reconnect_timeout
from pytest_serve_chaos.cluster.watchdog import Watchdogs


class LocalSetup:
    """The setup that a plan gives. Has the capability `KnowsItsSetup`.

    Args:
        plan: What the supervisor runs.
        ray_version: ``2.60.0``.
    """

    def __init__(self, plan: Plan, ray_version: str) -> None:
        self._plan = plan
        self._ray_version = ray_version

    def setup(self) -> Setup:
        """Redis without persistence, which no node's loss reaches: nodes are sessions of one machine."""
        drain = drain_timeout(self._plan.worker_env, self._ray_version)
        limits = {} if drain is None else {DRAIN_TIMEOUT: drain}
        return Setup(
            redis_persists=None if not self._plan.has_redis else False,
            drain_limits=limits,
            reconnect=reconnect_timeout({**os.environ, **self._plan.worker_env}),
        )


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
        EXPLAINS_CHANGES.by(LocalExplanations(view)),
        FREEZES_NODES.by(NodeFreezes(link)),
        HAS_REDIS.by(redis),
        KILLS_ACTORS.by(ActorKills(plan, layout, view.dashboard)),
        KILLS_NODES.by(NodeKills(units)),
        KNOWS_ITS_SETUP.by(LocalSetup(plan, ray_version)),
        ON_THIS_MACHINE.by(link),
        SEES_CHILDREN.by(ProcessChildren()),
        SEES_PROCESSES.by(view.topology),
        SETS_HEALTH_FLAGS.by(HealthFlags(Path(plan.directory) / "flags")),
        SHARES_REDIS.by(SharedRedis(redis, start_second)),
        SHOWS_CONTROLLER_LOG.by(view.logs),
        SHOWS_FAILED_STARTS.by(link),
        SHOWS_REPLICA_LOGS.by(view.logs),
        SHOWS_USAGE.by(ProcUsage(lambda: view.topology.haproxies.generations)),
        SIGNALS_PROCESSES.by(ProcessSignals(link, Watchdogs({processes.MARK: plan.run}))),
        STREAMS_LOGS.by(view.logs),
        WATCHES.by(link),
    )
