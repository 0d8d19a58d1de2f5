"""One run at a time on an external RayService: by a lease that all machines see, and a lock on this one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING

from pytest_serve_chaos.cluster.kubernetes.client.access import Permit
from pytest_serve_chaos.cluster.kubernetes.client.errors import NOT_FOUND, status_of
from pytest_serve_chaos.cluster.kubernetes.client.lease import RunLease, lease_name
from pytest_serve_chaos.cluster.kubernetes.client.records import inner, text
from pytest_serve_chaos.errors import ObservationError, SafetyError
from pytest_serve_chaos.locks import cluster_lock

if TYPE_CHECKING:
    from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
    from pytest_serve_chaos.cluster.kubernetes.client.server_identity import FirstServer


@contextmanager
def hold_for_a_run(
    reader: KubeApi, context: str, rayservice: str, lease: RunLease, first: FirstServer
) -> Iterator[None]:
    """Keeps other runs off a RayService meanwhile.

    Args:
        reader: The Kubernetes API, in its namespace, of the server that the user means.
        context: The kubeconfig context.
        rayservice: Its name.
        lease: That of this run.
        first: The server of the reader.

    Raises:
        Locked: Another run is testing it.
        ObservationError: It cannot be read.
    """
    uid = _uid(reader, rayservice)
    with _held(reader, context, rayservice, uid, lease, first, again=False):
        yield


@contextmanager
def hold_for_undo(reader: KubeApi, context: str, rayservice: str, first: FirstServer) -> Iterator[None]:
    """The same while what a run has left is undone; the run that is about to begin may have it already.

    A RayService that is gone is tested by nobody.

    Raises:
        Locked: Another run is testing it.
        ObservationError: It cannot be read.
    """
    try:
        uid = _uid(reader, rayservice)
    except ObservationError as error:
        if status_of(error) != NOT_FOUND:
            raise
        yield
        return
    with _held(reader, context, rayservice, uid, RunLease(), first, again=True):
        yield


@contextmanager
def _held(
    reader: KubeApi, context: str, rayservice: str, uid: str, lease: RunLease, first: FirstServer, *, again: bool
) -> Iterator[None]:
    from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi

    namespace = reader.namespace
    key = f"{reader.server.url} {reader.server.ca} {uid or f'{namespace}/{rayservice}'}"
    permit = _only_the_lease(namespace, rayservice)
    with ExitStack() as held:
        held.enter_context(cluster_lock(f"{context}/{namespace}/{rayservice}", key=key, again=again))
        api = KubeApi(None, context=context, namespace=namespace, permit=permit, first=first)
        held.enter_context(closing(api))
        held.enter_context(lease.held(api, rayservice))
        yield


def _uid(reader: KubeApi, rayservice: str) -> str:
    return text(inner(reader.ray_service(rayservice), "metadata"), "uid")


def _only_the_lease(namespace: str, rayservice: str) -> Permit:
    """A guard that lets nothing pass but requests about the lease."""
    leases = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
    allowed = {("POST", leases), *((verb, f"{leases}/{lease_name(rayservice)}") for verb in ("GET", "PUT", "DELETE"))}

    def permit(method: str, path: str, body: object = None, /) -> None:
        del body
        if (method, path) not in allowed:
            raise SafetyError(f"refused: {method} {path} is not about the lease on RayService {namespace}/{rayservice}")

    return permit
