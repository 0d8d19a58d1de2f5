"""The backend `fake`, whose clusters need neither Ray nor Docker."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pytest_serve_chaos.backends import Backend
from pytest_serve_chaos.backends.requests import check_requests_of
from pytest_serve_chaos.cluster.base import Cluster, ClusterSpec, Progress
from pytest_serve_chaos.errors import ClusterStartError
from pytest_serve_chaos.options import options
from pytest_serve_chaos.settings import Settings
from pytest_serve_chaos.testing.behaviour import FakeBehaviour
from pytest_serve_chaos.testing.cluster import FakeCluster
from pytest_serve_chaos.testing.kubernetes import FakeKubernetesCluster


@dataclass
class FakeBackend:
    """A plugin for pytest that puts fake clusters under all tests of a run, and keeps them to be looked at.

    For example, with pytest's own fixture for tests of plugins::

        backend = FakeBackend(FakeBehaviour(outage=30))
        result = pytester.runpytest_inprocess("--serve-chaos", plugins=[backend])
        (cluster,) = backend.clusters

    Attributes:
        behaviour: What is wrong with them.
        cluster: Their class.
        clusters: All that were started.
    """

    behaviour: FakeBehaviour = field(default_factory=FakeBehaviour)
    cluster: type[FakeCluster] = FakeCluster
    clusters: list[FakeCluster] = field(default_factory=list)

    def pytest_serve_chaos_start_cluster(self, spec: ClusterSpec, directory: Path, progress: Progress) -> FakeCluster:
        """The hook: starts a cluster.

        Raises:
            ClusterStartError: The behaviour wants it.
        """
        if self.behaviour.start_error:
            raise ClusterStartError(self.behaviour.start_error, checked=[str(directory)])
        progress("a fake cluster is up")
        self.clusters.append(self.cluster(spec, self.behaviour))
        return self.clusters[-1]


def _start(spec: ClusterSpec, settings: Settings, directory: Path, progress: Progress) -> Cluster:
    del settings
    return FakeBackend(cluster=FakeKubernetesCluster).pytest_serve_chaos_start_cluster(spec, directory, progress)


def _check_app(spec: ClusterSpec, settings: Settings, progress: Progress) -> None:
    del progress
    check_requests_of(settings, spec)


FAKE = Backend(
    name="fake",
    description="clusters without Ray, for tests of plugins",
    options=options("profile", "app", "workers", "gcs"),
    start=_start,
    check_app=_check_app,
)
