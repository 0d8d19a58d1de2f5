"""How a local cluster is set up, where that decides what a fault costs."""

from __future__ import annotations

import os

from pytest_serve_chaos.analysis.configuration import DRAIN_TIMEOUT, Setup
from pytest_serve_chaos.cluster.local.plan import Plan
from pytest_serve_chaos.cluster.profiles import drain_timeout, reconnect_timeout


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
