"""From the settings to a cluster: which backend starts it, and with what."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_serve_chaos.cluster.base import Cluster, ClusterSpec, Progress
from pytest_serve_chaos.cluster.kuberay import names
from pytest_serve_chaos.cluster.kuberay.found import differences
from pytest_serve_chaos.errors import SafetyError, SettingsError, Unsupported
from pytest_serve_chaos.options import option
from pytest_serve_chaos.safety.journal import Journal
from pytest_serve_chaos.safety.lock import cluster_lock
from pytest_serve_chaos.settings import COMMAND_LINE, DEFAULT, Settings

if TYPE_CHECKING:
    from pytest_serve_chaos.cluster.kuberay.api import KubeApi
    from pytest_serve_chaos.cluster.kuberay.borrow import Loan
    from pytest_serve_chaos.cluster.kuberay.own_workload import OwnRayService
    from pytest_serve_chaos.safety.guard import Guard

DELETE_KIND = "delete_kind_cluster"
"""The journal's verb for a kind cluster that a run made."""
DELETE_UNFINISHED_KIND = "delete_unfinished_kind_cluster"
"""The journal's verb for a kind cluster that is to stay once it is made."""
UNCORDON = "uncordon_node"
"""The journal's verb for a node of a borrowed cluster that a run drained."""
TIDY_POD = "tidy_pod"
"""The journal's verb for a pod of a borrowed cluster in which a run stopped processes or set health flags."""


def start_cluster(spec: ClusterSpec, settings: Settings, directory: Path, progress: Progress) -> Cluster:
    """Starts a cluster of that spec on the backend that the settings name.

    Raises:
        MissingDependency: Something that the backend needs is not here.
        ClusterStartError: It did not come up.
    """
    if settings.backend == "local":
        from pytest_serve_chaos.cluster.local.start import LocalSettings, start_local_cluster

        return start_local_cluster(spec, LocalSettings(settings.redis_server, directory), progress)
    if settings.backend == "kind":
        return _start_kind(spec, settings, directory, progress)
    return _borrow(spec, settings, progress)


def as_it_is(settings: Settings) -> Settings:
    """The settings with what the user's own RayService says of itself: tests get the cluster that it is.

    Raises:
        SafetyError: The cluster has to be named twice.
        ServeChaosError: It, or the file with it, cannot be read.
    """
    if settings.backend == "kind" and settings.rayservice_file is not None:
        found = own_rayservice(settings, settings.rayservice_file).file.spec
    elif settings.backend == "kubernetes":
        from pytest_serve_chaos.cluster.kuberay.found import read_ray_service

        loan = _loan(settings)
        with closing(_reader(loan, settings.allow_context)) as reader:
            found = read_ray_service(reader.ray_service(loan.name)).spec
    else:
        return settings
    return replace(settings, gcs=found.gcs, workers=found.workers, app=found.app, profile=found.profile)


def own_rayservice(settings: Settings, path: Path) -> OwnRayService:
    """The user's own RayService, from a file; what else is set must not say otherwise than the file.

    Raises:
        SettingsError: It does, or the file cannot be used.
    """
    from pytest_serve_chaos.cluster.kuberay.own_file import read_own_file
    from pytest_serve_chaos.cluster.kuberay.own_workload import OwnRayService
    from pytest_serve_chaos.cluster.local_code import search_path

    for name in ("workers", "gcs", "profile"):
        if settings.source(name) == COMMAND_LINE:
            raise SettingsError(
                f"{option(name).flag} was given, and the RayService of {path} says that itself",
                mend=["leave it out", "or say it in the file"],
            )
    app = settings.app if settings.source("app") == COMMAND_LINE else None
    if app is not None and app.endswith((".yaml", ".yml")):
        raise SettingsError(
            f"--serve-chaos-app {app} is a Serve config, and the RayService of {path} has its own",
            mend=["write it into the file as serveConfigV2", "or give module:app, which replaces its first app"],
        )
    return OwnRayService(
        file=read_own_file(path, app=app),
        ray_image=settings.image_of_ray if settings.source("ray_image") != DEFAULT or settings.ray_version else None,
        ray_version=settings.ray_version,
        redis_image=settings.redis_image if settings.source("redis_image") != DEFAULT else None,
        directories=(path.absolute().parent, *search_path()),
    )


def lock(settings: Settings) -> AbstractContextManager[None]:
    """Keeps other runs off a cluster that outlives this one: a kind cluster that is kept, or somebody's RayService.

    Entering raises `Locked` where another run has it.
    """
    if settings.backend == "kind" and settings.keep:
        return cluster_lock(f"kind/{names.KEPT_CLUSTER}")
    if settings.backend == "kubernetes":
        return cluster_lock(f"{settings.context}/{settings.rayservice}")
    return nullcontext()


def undo_leftovers(settings: Settings, progress: Progress) -> None:
    """Mends what earlier runs left because they were ended by force."""
    for failure in undo(settings.report_dir, progress):
        progress(f"could not be undone: {failure}")


def undo(report_dir: Path, progress: Progress) -> Sequence[str]:
    """Mends what runs that are over have left.

    Args:
        report_dir: The directory of their reports, which has the journal.
        progress: Told of each thing that is mended.

    Returns:
        What could not be mended, in words; it stays in the journal.
    """
    journal = Journal(report_dir / "undo")

    def delete(arguments: Mapping[str, str], *, unfinished: bool = False) -> None:
        from pytest_serve_chaos.cluster.kind_cluster import delete_kind_cluster

        delete_kind_cluster(arguments["name"], report_dir, unfinished=unfinished)

    def delete_unfinished(arguments: Mapping[str, str]) -> None:
        delete(arguments, unfinished=True)

    def uncordon(arguments: Mapping[str, str]) -> None:
        _uncordon(arguments, progress)

    verbs = {DELETE_KIND: delete, DELETE_UNFINISHED_KIND: delete_unfinished, UNCORDON: uncordon, TIDY_POD: _tidy_pod}
    return journal.undo(verbs, progress)


def _loan(settings: Settings) -> Loan:
    from pytest_serve_chaos.cluster.kuberay.asking import Probe
    from pytest_serve_chaos.cluster.kuberay.borrow import Loan

    namespace, _, name = str(settings.rayservice).partition("/")
    body = None if settings.body is None else settings.body.encode()
    return Loan(
        context=str(settings.context),
        namespace=namespace,
        name=name,
        url=str(settings.url),
        allow=settings.allow,
        probe=Probe(settings.method, dict(settings.headers), body, settings.request_timeout),
        operator_namespace=settings.operator_namespace,
    )


def _reader(loan: Loan, allow_context: str | None) -> KubeApi:
    """The API of the cluster that the user means, to look around, and to mend what was left there.

    Raises:
        SafetyError: That cluster was not named twice.
    """
    from pytest_serve_chaos.cluster.kuberay.api import KubeApi
    from pytest_serve_chaos.safety.guard import check_context

    reader = KubeApi(None, context=loan.context, namespace=loan.namespace)
    try:
        check_context(loan.context, reader.access().server, allow_context)
    except SafetyError:
        reader.close()
        raise
    return reader


def _guard(loan: Loan, reader: KubeApi) -> Guard:
    from pytest_serve_chaos.cluster.kuberay.borrow import OwnPods
    from pytest_serve_chaos.safety.guard import Guard

    own = OwnPods(reader, loan.name)
    return Guard(loan.context, loan.namespace, loan.name, loan.allow, own.owns, own.carries)


def _borrow(spec: ClusterSpec, settings: Settings, progress: Progress) -> Cluster:
    from pytest_serve_chaos.cluster.kuberay.borrow import borrow

    loan, journal = _loan(settings), _journal(settings)
    reader = _reader(loan, settings.allow_context)
    guard = _guard(loan, reader)
    entries: dict[str, Path] = {}

    def on_break(pod: str) -> Callable[[], None]:
        text = f"what a run that ended by force stopped, or flagged, in the pod {pod} of context {loan.context}"
        named = {"context": loan.context, "namespace": loan.namespace, "rayservice": loan.name, "pod": pod}
        entry = journal.write(TIDY_POD, text, **named, allow_context=settings.allow_context or "")
        return lambda: journal.done(entry)

    def on_cordon(node: str) -> None:
        text = f"the node {node} of context {loan.context}, cordoned by a run that ended by force"
        named = {"context": loan.context, "node": node, "allow_context": settings.allow_context or ""}
        entries[node] = journal.write(UNCORDON, text, **named)

    def on_uncordon(node: str) -> None:
        journal.done(entries.pop(node))

    return borrow(
        loan,
        spec,
        guard.permit,
        progress,
        on_break=on_break,
        on_cordon=on_cordon,
        on_uncordon=on_uncordon,
        on_close=reader.close,
    )


def _uncordon(arguments: Mapping[str, str], progress: Progress) -> None:
    from pytest_serve_chaos.cluster.kuberay.borrow import Loan
    from pytest_serve_chaos.cluster.kuberay.draining import reopen

    loan = Loan(arguments["context"], namespace="default", name="", url="")
    with closing(_reader(loan, arguments["allow_context"])) as api:
        left = reopen(api, arguments["node"])
    if left:
        progress(f"undo: {left}")


def _tidy_pod(arguments: Mapping[str, str]) -> None:
    """Mends a pod under the guard of the loan by which it was broken: that context, and pods of that RayService."""
    from pytest_serve_chaos.cluster.kuberay.api import KubeApi
    from pytest_serve_chaos.cluster.kuberay.borrow import Loan
    from pytest_serve_chaos.cluster.kuberay.tidying import tidy_by_name

    loan = Loan(arguments["context"], arguments["namespace"], arguments["rayservice"], url="")
    with closing(_reader(loan, arguments["allow_context"])) as reader:
        permit = _guard(loan, reader).permit
        with closing(KubeApi(None, context=loan.context, namespace=loan.namespace, permit=permit)) as api:
            tidy_by_name(api, arguments["pod"])


def _start_kind(spec: ClusterSpec, settings: Settings, directory: Path, progress: Progress) -> Cluster:
    own = None
    if settings.rayservice_file is not None:
        own = own_rayservice(settings, settings.rayservice_file)
        others = differences(spec, own.file.spec)
        if others:
            raise Unsupported(f"the test wants {', '.join(others)}, and the RayService of {own.file.path} is as it is")
    from pytest_serve_chaos.cluster.kind_cluster import start_kind_cluster
    from pytest_serve_chaos.cluster.kind_settings import KindSettings

    given = {
        name: getattr(settings, name)
        for name in ("node_image", "ray_version", "redis_image", "kuberay_manifests")
        if getattr(settings, name) is not None
    }
    journal = _journal(settings)
    entries: list[Path] = []

    def on_create(name: str) -> None:
        verb = DELETE_UNFINISHED_KIND if settings.keep else DELETE_KIND
        entries.append(journal.write(verb, f"the kind cluster {name} of a run that ended by force", name=name))

    def on_done(_: str) -> None:
        while entries:
            journal.done(entries.pop())

    return start_kind_cluster(
        spec,
        KindSettings(**given, ray_image=settings.image_of_ray, operator_image=settings.operator, keep=settings.keep),
        directory,
        progress,
        own=own,
        on_create=on_create,
        on_done=on_done,
    )


def _journal(settings: Settings) -> Journal:
    return Journal(settings.report_dir / "undo")
