"""The suite expects what the cluster's Ray is known to do wrong, whatever Ray is installed alongside pytest."""

from __future__ import annotations

import importlib.metadata
from dataclasses import replace

import pytest

from pytest_serve_chaos.model import ClusterDescription
from pytest_serve_chaos.observe import post_recovery
from pytest_serve_chaos.testing import FakeBehaviour, FakeCluster
from tests.plugin.conftest import RunChaos

GUIDE = """
    import pytest
    from pytest_serve_chaos.suite.known_defects import STALE_PROXIES, expected_failure

    @pytest.mark.controller_failure(replacement="new_actor")
    def test_it(experiment, serve_cluster, request):
        request.applymarker(expected_failure(STALE_PROXIES, serve_cluster.description.ray_version))
        experiment.run(availability=0.7, window="1s", kept=("replica", "proxy"))
"""


class NextRay(FakeCluster):
    """The same with the Ray after the last one that has the defect."""

    @property
    def description(self) -> ClusterDescription:
        """What it is."""
        return replace(super().description, ray_version="2.61.0")


@pytest.fixture(autouse=True)
def no_ray_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    version = importlib.metadata.version

    def without_ray(name: str) -> str:
        if name == "ray":
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(importlib.metadata, "version", without_ray)


@pytest.fixture
def soon_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(post_recovery, "HEARS_WITHIN", 0.5)


@pytest.mark.usefixtures("soon_found")
def test_a_defect_of_the_clusters_ray_is_expected(run_chaos: RunChaos) -> None:
    run_chaos(GUIDE, behaviour=FakeBehaviour(stale_proxies=True)).outcomes(xfailed=1)


@pytest.mark.usefixtures("soon_found")
def test_a_defect_that_its_ray_should_not_have_is_a_failure(run_chaos: RunChaos) -> None:
    run_chaos(GUIDE, behaviour=FakeBehaviour(stale_proxies=True), cluster=NextRay).outcomes(failed=1)


def test_a_defect_that_is_not_seen_any_more_is_a_failure_until_the_suite_knows(run_chaos: RunChaos) -> None:
    ran = run_chaos(GUIDE)
    ran.outcomes(failed=1)
    assert "[XPASS(strict)] ray#63784" in ran.text
