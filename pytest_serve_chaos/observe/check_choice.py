"""Which post-recovery check a cluster gets: an update and a scale-up where its config is ours, else new replicas."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pytest_serve_chaos.cluster.base import Cluster
from pytest_serve_chaos.cluster.capabilities import IS_EXTERNAL
from pytest_serve_chaos.observe.external_check import replace_replicas
from pytest_serve_chaos.observe.post_recovery import PostRecoveryCheck, check_proxies
from pytest_serve_chaos.observe.watcher import Watcher
from pytest_serve_chaos.traffic.request import Message


def settle(
    cluster: Cluster,
    watcher: Watcher,
    numbers: Iterator[int] | None = None,
    *,
    nodes: frozenset[str],
    messages: Sequence[Message] = (),
) -> PostRecoveryCheck:
    """Shows whether each proxy still hears its controller; arguments: those of `check_proxies`, `replace_replicas`."""
    external = cluster.capability(IS_EXTERNAL)
    if external is not None:
        return replace_replicas(external, watcher, nodes=nodes, messages=messages)
    return check_proxies(cluster, watcher, numbers, nodes=nodes)
