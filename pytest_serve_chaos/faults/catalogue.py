"""The faults of this package. To add one, write its module, and name it here."""

from __future__ import annotations

from pytest_serve_chaos.faults import (
    app_update,
    child,
    controller,
    gcs,
    head,
    health_check,
    node,
    proxy,
    raylet,
    redis,
    replica,
    upgrade,
    worker,
)
from pytest_serve_chaos.faults.registry import FaultRegistry

BUILT_IN = FaultRegistry(
    (
        head.FAULT,
        worker.FAULT,
        node.FAULT,
        controller.FAULT,
        replica.FAULT,
        child.FAULT,
        proxy.FAULT,
        raylet.FAULT,
        gcs.FAULT,
        redis.FAULT,
        health_check.FAULT,
        app_update.FAULT,
        upgrade.FAULT,
    )
)
