"""Which post-recovery check a cluster gets: an update and a scale-up where its config is ours, else new replicas."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from pytest_serve_chaos.cluster.base import Cluster
from pytest_serve_chaos.cluster.capabilities import IS_EXTERNAL, SHOWS_HAPROXY
from pytest_serve_chaos.observe.external_check import replace_replicas
from pytest_serve_chaos.observe.haproxy_check import check_haproxy
from pytest_serve_chaos.observe.post_recovery import PostRecoveryCheck, check_proxies
from pytest_serve_chaos.observe.watcher import Watcher


def settle(
    cluster: Cluster, watcher: Watcher, numbers: Iterator[int] | None = None, *, nodes: frozenset[str]
) -> PostRecoveryCheck:
    """Shows whether each proxy hears its controller, and each HAProxy has the right servers.

    Arguments: those of `check_proxies`.
    """
    external = cluster.capability(IS_EXTERNAL)
    if external is not None:
        result = replace_replicas(external, watcher, nodes=nodes)
    else:
        result = check_proxies(cluster, watcher, numbers, nodes=nodes)
    haproxy = cluster.capability(SHOWS_HAPROXY)
    if haproxy is None or result.stale or result.problem:
        return result
    return replace(result, problem=check_haproxy(haproxy, watcher))
