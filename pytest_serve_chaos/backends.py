"""From the settings to a cluster: which backend starts it, and with what."""

from __future__ import annotations

from pathlib import Path

from pytest_serve_chaos.cluster.base import Cluster, ClusterSpec, Progress
from pytest_serve_chaos.errors import Unsupported
from pytest_serve_chaos.settings import Settings


def start_cluster(spec: ClusterSpec, settings: Settings, directory: Path, progress: Progress) -> Cluster:
    """Starts a cluster of that spec on the backend that the settings name.

    Raises:
        MissingDependency: Something that the backend needs is not here.
        ClusterStartError: It did not come up.
    """
    if settings.backend == "local":
        from pytest_serve_chaos.cluster.local.start import LocalSettings, start_local_cluster

        return start_local_cluster(spec, LocalSettings(settings.redis_server, directory), progress)
    raise Unsupported(f"the {settings.backend} backend is not there yet", mend=["use --serve-chaos-backend local"])
