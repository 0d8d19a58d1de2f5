"""Which aftershock a cluster gets: an update and a scale-up where its config is ours, else new replicas."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_serve_chaos.cluster.base import Cluster
from pytest_serve_chaos.cluster.capabilities import IsBorrowed
from pytest_serve_chaos.observe.aftershock import Aftershock, aftershock
from pytest_serve_chaos.observe.replacing import replace_replicas
from pytest_serve_chaos.observe.watcher import Watcher


def settle(cluster: Cluster, watcher: Watcher, numbers: Iterator[int] | None = None) -> Aftershock:
    """Shows whether each proxy still hears its controller; arguments: those of `aftershock`."""
    if isinstance(cluster, IsBorrowed):
        return replace_replicas(cluster, watcher)
    return aftershock(cluster, watcher, numbers)
