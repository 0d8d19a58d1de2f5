"""The backend `kubernetes`: an existing RayService, which belongs to somebody else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_serve_chaos.backends.base import Backend, Finding
from pytest_serve_chaos.backends.kubernetes_undo import REPAIR, UNDO, Entries, Place
from pytest_serve_chaos.errors import SafetyError, ServeChaosError
from pytest_serve_chaos.options import options

if TYPE_CHECKING:
    from pytest_serve_chaos.cluster.base import Cluster, ClusterSpec, Progress
    from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
    from pytest_serve_chaos.cluster.kubernetes.client.server_identity import FirstServer
    from pytest_serve_chaos.cluster.kubernetes.external.start import ExternalCluster
    from pytest_serve_chaos.safety.guard import Guard
    from pytest_serve_chaos.settings import Settings


def _adapt(settings: Settings) -> Settings:
    """The settings with what the user's own RayService says of itself.

    Raises:
        SafetyError: The cluster has to be named twice.
        ServeChaosError: It cannot be read, or Serve has no proxies there.
    """
    from pytest_serve_chaos.backends.requests import check_requests
    from pytest_serve_chaos.cluster.kubernetes.rayservice.existing import read_ray_service
    from pytest_serve_chaos.cluster.proxy_location import check_proxy_location

    external = _loan(settings)
    with closing(_reader(external, settings.allow_context, settings.first_server)) as reader:
        service = read_ray_service(reader.ray_service(external.name))
    check_proxy_location(service.serve_config, f"serveConfigV2 of RayService {external.name}")
    check_requests(settings, service.serve_config)
    found = service.spec
    there = replace(settings, gcs=found.gcs, workers=found.workers, app=found.app, profile=found.profile)
    return replace(there, ingress=found.ingress)


def _loan(settings: Settings) -> ExternalCluster:
    from pytest_serve_chaos.backends.requests import probe_of
    from pytest_serve_chaos.cluster.kubernetes.external.start import ExternalCluster

    namespace, _, name = str(settings.rayservice).partition("/")
    return ExternalCluster(
        context=str(settings.context),
        namespace=namespace,
        name=name,
        url=str(settings.url),
        allow=settings.allow,
        probe=probe_of(settings),
        operator_namespace=settings.operator_namespace,
    )


def _reader(external: ExternalCluster, allow_context: str | None, first: FirstServer) -> KubeApi:
    """The API of the cluster that the user means, to look around, and to restore what was left there.

    Raises:
        SafetyError: That cluster was not named twice, or is another one than the first.
    """
    from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
    from pytest_serve_chaos.safety.guard import check_context

    reader = KubeApi(None, context=external.context, namespace=external.namespace, first=first)
    try:
        check_context(external.context, reader.server.url, allow_context)
    except SafetyError:
        reader.close()
        raise
    return reader


def _guard(external: ExternalCluster, reader: KubeApi) -> Guard:
    from pytest_serve_chaos.cluster.kubernetes.external.start import OwnPods
    from pytest_serve_chaos.safety.guard import Guard

    own = OwnPods(reader, external.name)
    return Guard(external.context, external.namespace, external.name, external.allow, own.owns, own.carries)


def _start(spec: ClusterSpec, settings: Settings, directory: Path, progress: Progress) -> Cluster:
    del directory
    from pytest_serve_chaos.cluster.kubernetes.external.start import connect
    from pytest_serve_chaos.safety.read_only import read_only

    external = _loan(settings)
    reader = _reader(external, settings.allow_context, settings.first_server)
    try:
        entries = Entries(settings.journal, _place(external, reader))
    except BaseException:
        reader.close()
        raise
    permit = _guard(external, reader).permit
    return connect(
        external,
        spec,
        read_only(permit) if settings.dry_run else permit,
        progress,
        records=entries.records,
        on_close=reader.close,
        first=settings.first_server,
        lease=settings.lease,
    )


def _place(external: ExternalCluster, reader: KubeApi) -> Place:
    """Where all is that the plugin changes in it."""
    from pytest_serve_chaos.cluster.kubernetes.client.records import inner, text
    from pytest_serve_chaos.cluster.kubernetes.external.start import existing

    server = reader.server
    uid = text(inner(existing(reader, external), "metadata"), "uid")
    return Place(external.context, server.url, server.ca, f"{external.namespace}/{external.name}", uid)


@contextmanager
def _hold(settings: Settings) -> Iterator[None]:
    """Keeps other runs off the RayService, on all machines if this user may."""
    from pytest_serve_chaos.backends.kubernetes_lock import hold_for_a_run

    external, first = _loan(settings), settings.first_server
    with (
        closing(_reader(external, settings.allow_context, first)) as reader,
        hold_for_a_run(reader, external.context, external.name, settings.lease, first),
    ):
        yield


def _doctor(settings: Settings) -> Iterator[Finding]:
    from pytest_serve_chaos.backends.probes import finding, package

    client = finding("kubernetes", lambda: package("kubernetes", "kubernetes"))
    yield client
    context, rayservice = settings.context, settings.rayservice
    if client.ok and context is not None and rayservice is not None:
        from pytest_serve_chaos.backends.kubernetes_limits import limit_finding
        from pytest_serve_chaos.backends.kubernetes_rights import right_findings
        from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi

        namespace, _, name = rayservice.partition("/")
        try:
            api = KubeApi(None, context=context, namespace=namespace)
        except ServeChaosError as error:
            yield Finding(f"context {context}", error.what, False, "; ".join(error.fix[:2]))
            return
        with closing(api):
            yield finding(f"context {context}", lambda: _server(api, name, rayservice))
            yield from right_findings(api, name, settings)
            yield limit_finding(api, name, rayservice)


def _server(api: KubeApi, name: str, rayservice: str) -> str:
    api.ray_service(name)
    return f"RayService {rayservice} is there"


KUBERNETES = Backend(
    name="kubernetes",
    description="a RayService that is there",
    options=options("context", "rayservice", "url", "allow", "allow_context", "operator_namespace"),
    start=_start,
    doctor=_doctor,
    adapt=_adapt,
    hold=_hold,
    undo=UNDO,
    repair=REPAIR,
    external=True,
)
