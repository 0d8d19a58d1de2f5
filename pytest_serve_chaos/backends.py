"""From the settings to a cluster: which backend starts it, and with what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from pytest_serve_chaos.cluster.base import Cluster, ClusterSpec, Progress
from pytest_serve_chaos.cluster.kuberay import names
from pytest_serve_chaos.errors import Unsupported
from pytest_serve_chaos.safety.journal import Journal
from pytest_serve_chaos.safety.lock import cluster_lock
from pytest_serve_chaos.settings import Settings

DELETE_KIND = "delete_kind_cluster"
"""The journal's verb for a kind cluster that a run made."""


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
    raise Unsupported("the kubernetes backend is not there yet", mend=["use --serve-chaos-backend local or kind"])


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

    def delete(arguments: Mapping[str, str]) -> None:
        from pytest_serve_chaos.cluster.kind_cluster import delete_kind_cluster

        delete_kind_cluster(arguments["name"], report_dir)

    return journal.undo({DELETE_KIND: delete}, progress)


def _start_kind(spec: ClusterSpec, settings: Settings, directory: Path, progress: Progress) -> Cluster:
    from pytest_serve_chaos.cluster.kind_cluster import KindSettings, start_kind_cluster

    given = {
        name: getattr(settings, name)
        for name in ("node_image", "ray_image", "redis_image", "operator_image", "kuberay_manifests")
        if getattr(settings, name) is not None
    }
    journal = _journal(settings)
    entries: list[Path] = []

    def on_create(name: str) -> None:
        if not settings.keep:
            text = f"the kind cluster {name} of a run that ended by force"
            entries.append(journal.write(DELETE_KIND, text, name=name))

    def on_delete(_: str) -> None:
        while entries:
            journal.done(entries.pop())

    return start_kind_cluster(
        spec, KindSettings(**given, keep=settings.keep), directory, progress, on_create=on_create, on_delete=on_delete
    )


def _journal(settings: Settings) -> Journal:
    return Journal(settings.report_dir / "undo")
