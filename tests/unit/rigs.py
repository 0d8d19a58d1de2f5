"""Rigs for tests: real ones, around clusters of which a test needs a few capabilities, or none."""

from __future__ import annotations

import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

from pytest_serve_chaos.cluster.base import Cluster
from pytest_serve_chaos.cluster.capabilities import Capabilities, Offer
from pytest_serve_chaos.faults.catalogue import BUILT_IN
from pytest_serve_chaos.faults.live_traffic import LiveTraffic
from pytest_serve_chaos.faults.rig import Current, OfTheRun, Rig
from pytest_serve_chaos.history import History
from pytest_serve_chaos.observe.health import Health
from pytest_serve_chaos.observe.pressure import MachineWatch
from pytest_serve_chaos.observe.shape import Shape
from pytest_serve_chaos.observe.watcher import Watcher


def cluster_with(*offers: Offer, **members: object) -> Cluster:
    """A cluster with these capabilities, and with no other members than these."""
    return cast("Cluster", SimpleNamespace(capability=Capabilities(*offers).get, **members))


def rig_around(
    cluster: Cluster | None = None,
    watcher: object = None,
    *,
    history: History | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Rig:
    """A rig.

    Args:
        cluster: What stands for the cluster, as far as the test asks it; None: one without capabilities.
        watcher: What stands for the watcher, likewise.
        history: None: a new one, in memory.
        progress: Gets the lines for people.
    """
    history = history or History()
    there, sees = cluster or cluster_with(), cast("Watcher", watcher)
    return Rig(
        cluster=there,
        run=OfTheRun(random.Random(1), progress, BUILT_IN),
        watcher=sees,
        health=Health(sees, Shape(frozenset(), {}, {}, frozenset(), redis=False)),
        current=Current(history, sees),
        traffic=LiveTraffic(history),
        serve_config={},
        machine=MachineWatch(history, None),
    )
