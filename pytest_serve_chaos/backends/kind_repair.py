"""Repairs a kind cluster of this plugin by what it shows itself: ``serve-chaos undo --context kind-NAME``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING

from pytest_serve_chaos.errors import CommandFailed, Locked, MissingDependency, SafetyError, in_one_line
from pytest_serve_chaos.locks import cluster_lock

if TYPE_CHECKING:
    from pytest_serve_chaos.cluster.base import Progress
    from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
    from pytest_serve_chaos.cluster.kubernetes.client.server_identity import ServerIdentity
    from pytest_serve_chaos.cluster.kubernetes.kind.nodes import KindNodes
    from pytest_serve_chaos.safety.journal import Journal

_PREFIX = "kind-"


@contextmanager
def not_in_use(context: str, journal: Journal) -> Iterator[None]:
    """Keeps runs off the kind cluster that stays; one of a single run is on record while that goes on.

    Args:
        context: The kubeconfig context that the user named.
        journal: Says which clusters a run has now.

    Raises:
        Locked: A run uses it.
    """
    from pytest_serve_chaos.cluster.kubernetes import names

    cluster = context.removeprefix(_PREFIX)
    for entry in journal.alive():
        if entry.arguments.get("name") == cluster:
            raise Locked(f"a run is using the kind cluster {cluster} (PID {entry.owner})")
    if context != f"{_PREFIX}{names.KEPT_CLUSTER}":
        yield
        return
    with cluster_lock(f"kind/{cluster}", again=True):
        yield


def repair_kind_cluster(context: str, rayservice: str, server: ServerIdentity, progress: Progress) -> Sequence[str]:
    """Repairs what faults change of a cluster of our own alone: machines, Nodes, taints, Redis and the RayService.

    Does nothing to a cluster that this plugin did not make.

    Args:
        context: The kubeconfig context that the user named.
        rayservice: ``namespace/name`` of the RayService.
        server: The API server to which that context leads.
        progress: Prints a line about each thing that is repaired.

    Returns:
        What could not be repaired, in words.
    """
    from pytest_serve_chaos.cluster.kubernetes.kind.repair import ClusterRepair

    namespace, _, name = rayservice.partition("/")
    if not context.startswith(_PREFIX):
        return ()
    cluster = context.removeprefix(_PREFIX)
    with _own(cluster, namespace, server) as found:
        if found is None:
            return ()
        nodes, api = found
        repair = ClusterRepair(nodes, api)
        failed = [
            *_attempt(f"machines of {cluster}", lambda: repair.machines(nodes.machines())),
            *_attempt(f"Redis in {namespace}", partial(repair.redis, None)),
            *_attempt(f"RayService {rayservice}", partial(repair.ray_service, name)),
        ]
        for what in (*repair.lost, *repair.repaired):
            progress(f"undo: {what}")
        return failed


@contextmanager
def _own(cluster: str, namespace: str, server: ServerIdentity) -> Iterator[tuple[KindNodes, KubeApi] | None]:
    """The nodes and the API of a cluster that this plugin made and the context leads to; None if it is not one."""
    from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi

    nodes = _made_here(cluster)
    if nodes is None:
        yield None
        return
    with closing(KubeApi(nodes.kubeconfig, namespace=namespace)) as api:
        yield (nodes, api) if api.server == server else None


def _made_here(cluster: str) -> KindNodes | None:
    from pytest_serve_chaos import scratch
    from pytest_serve_chaos.cluster.kubernetes.kind.nodes import KindNodes
    from pytest_serve_chaos.cluster.kubernetes.kind.programs import find_programs
    from pytest_serve_chaos.cluster.kubernetes.kind.reuse import check_ours

    directory = scratch.of_this_process() / f"undo-{cluster}"
    directory.mkdir(exist_ok=True)
    try:
        nodes = KindNodes(cluster, None, directory, find_programs())
        if not nodes.machines():
            return None
        check_ours(nodes)
        nodes.export_kubeconfig()
    except (MissingDependency, SafetyError, CommandFailed):
        return None
    return nodes


def _attempt(what: str, repair: Callable[[], object]) -> Iterator[str]:
    try:
        repair()
    except Exception as error:  # whatever it is, the rest is still broken
        yield f"{what}: {in_one_line(error)}"
