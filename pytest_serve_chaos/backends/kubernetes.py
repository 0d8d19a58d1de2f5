"""The backend `kubernetes`: an existing RayService, which belongs to somebody else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_serve_chaos.backends.base import Backend, Finding, Leftover
from pytest_serve_chaos.errors import SafetyError, ServeChaosError
from pytest_serve_chaos.options import options

if TYPE_CHECKING:
    from pytest_serve_chaos.cluster.base import Cluster, ClusterSpec, Progress
    from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
    from pytest_serve_chaos.cluster.kubernetes.client.server_identity import FirstServer
    from pytest_serve_chaos.cluster.kubernetes.external.start import ExternalCluster
    from pytest_serve_chaos.safety.guard import Guard
    from pytest_serve_chaos.settings import Settings

UNCORDON = "uncordon_node"
"""The journal's verb for a node of an external cluster that a run drained."""
TIDY_POD = "tidy_pod"
"""The journal's verb for a pod of an external cluster in which a run stopped processes or set health flags."""


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
        check_context(external.context, reader.access().server, allow_context)
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
    from pytest_serve_chaos.cluster.kubernetes.external.recorded_faults import UndoRecords
    from pytest_serve_chaos.cluster.kubernetes.external.start import connect

    external, journal = _loan(settings), settings.journal
    reader = _reader(external, settings.allow_context, settings.first_server)
    guard = _guard(external, reader)
    entries: dict[str, Path] = {}
    where = {"context": external.context, "server": reader.access().server}

    def on_break(pod: str) -> Callable[[], None]:
        text = f"what a run that ended by force stopped, or flagged, in the pod {pod} of context {external.context}"
        named = {"namespace": external.namespace, "rayservice": external.name, "pod": pod}
        entry = journal.write(TIDY_POD, text, **where, **named)
        return lambda: journal.done(entry)

    def on_cordon(node: str) -> None:
        text = f"the node {node} of context {external.context}, cordoned by a run that ended by force"
        entries[node] = journal.write(UNCORDON, text, **where, node=node)

    def on_uncordon(node: str) -> None:
        journal.done(entries[node])  # should that fail, the next try finds it again
        del entries[node]

    return connect(
        external,
        spec,
        guard.permit,
        progress,
        records=UndoRecords(on_break, on_cordon, on_uncordon),
        on_close=reader.close,
        first=settings.first_server,
        lease=settings.lease,
    )


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


def _uncordon(left: Leftover) -> None:
    from pytest_serve_chaos.cluster.kubernetes.client.drain import reopen
    from pytest_serve_chaos.cluster.kubernetes.client.server_identity import FirstServer
    from pytest_serve_chaos.cluster.kubernetes.external.start import ExternalCluster

    external = ExternalCluster(left.arguments["context"], namespace="default", name="", url="")
    with closing(_reader_again(external, left, FirstServer())) as api:
        remains = reopen(api, left.arguments["node"])
    if remains:
        left.progress(f"undo: {remains}")


def _reader_again(external: ExternalCluster, left: Leftover, first: FirstServer) -> KubeApi:
    """The API of the cluster of an entry; in another one, a node or pod of that name is somebody else's, or gone.

    Raises:
        SafetyError: The user has not named the context, or it leads to another cluster now.
    """
    named = external.context if external.context in left.allowed else None
    try:
        api = _reader(external, named, first)
    except SafetyError as error:
        advice = [f"if you mean it: serve-chaos undo --allow-context={external.context}"]
        raise SafetyError(error.what, checked=error.checked, fix=advice) from error
    now, then = api.access().server, left.arguments.get("server")
    if then not in (None, now):
        api.close()
        raise SafetyError(
            f"the context {external.context} leads to {now} now, and what is to be undone is on {then}",
            fix=["point the context there again", "or see what the entry says, do that by hand, and delete the file"],
        )
    return api


def _tidy_pod(left: Leftover) -> None:
    """Restores a pod under the guard of the run that broke it: that context, and pods of that RayService."""
    from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
    from pytest_serve_chaos.cluster.kubernetes.client.server_identity import FirstServer
    from pytest_serve_chaos.cluster.kubernetes.external.start import ExternalCluster
    from pytest_serve_chaos.cluster.kubernetes.rayservice.programs import tidy_by_name

    given, first = left.arguments, FirstServer()
    external = ExternalCluster(given["context"], given["namespace"], given["rayservice"], url="")
    with closing(_reader_again(external, left, first)) as reader:
        permit, namespace = _guard(external, reader).permit, external.namespace
        with closing(KubeApi(None, context=external.context, namespace=namespace, permit=permit, first=first)) as api:
            tidy_by_name(api, given["pod"])


def _doctor(settings: Settings) -> Iterator[Finding]:
    from pytest_serve_chaos.backends.probes import finding, package

    client = finding("kubernetes", lambda: package("kubernetes", "kubernetes"))
    yield client
    context, rayservice = settings.context, settings.rayservice
    if client.ok and context is not None and rayservice is not None:
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
    undo={UNCORDON: _uncordon, TIDY_POD: _tidy_pod},
)
