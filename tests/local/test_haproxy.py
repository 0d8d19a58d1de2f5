"""HAProxy ingress on a real Ray: what a kill of HAProxy and of its manager does, and what is left of it all."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.capabilities import SHOWS_HAPROXY
from pytest_serve_chaos.cluster.haproxy import server_name
from pytest_serve_chaos.cluster.local.cluster import LocalCluster
from pytest_serve_chaos.cluster.local.start import LocalSettings, start_local_cluster
from pytest_serve_chaos.experiment import Experiment
from tests.capabilities import part
from tests.local.test_lifecycle import directories, runs

pytestmark = pytest.mark.serve_cluster(ingress="haproxy")
OF_OTHERS = Path("/tmp/haproxy-serve")
"""Where Ray puts the files of HAProxy by default."""
WITH_404 = 0.93
"""A HAProxy that has just started answers 404 for half a second: 2 and 5 of 200 requests were lost."""


@pytest.mark.proxy_failure
def test_a_haproxy_that_is_killed_comes_back_with_another_manager(experiment: Experiment) -> None:
    result = experiment.run(window="10s", availability=WITH_404)
    assert result.replaced("proxy", on="victims")
    assert result.kept("replicas")


@pytest.mark.proxy_failure(part="manager")
def test_a_manager_that_is_killed_takes_its_haproxy_along(experiment: Experiment) -> None:
    result = experiment.run(window="10s", availability=WITH_404)
    assert result.replaced("proxy", on="victims")


@pytest.mark.replica_failure
def test_a_replica_that_is_replaced_reloads_each_haproxy_and_replaces_none(experiment: Experiment) -> None:
    result = experiment.run(window="10s", availability=0.97)
    assert result.kept("proxy")
    assert result.before is not None
    assert result.after is not None
    generations = [{c.serving for c in topology.of("proxy")} for topology in (result.before, result.after)]
    assert not generations[0] & generations[1]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    spec = ClusterSpec(workers=1, ingress="haproxy", app_args=(("options", {"num_replicas": 2}),))
    with closing(start_local_cluster(spec, LocalSettings(logs=tmp_path), print)) as started:
        yield started


def test_each_node_has_a_haproxy_with_the_replicas_and_nothing_is_left_after_kill_9(cluster: LocalCluster) -> None:
    haproxy = part(cluster, SHOWS_HAPROXY)

    def listed() -> list[int] | NotYet:
        cluster.components()
        rows = cluster.dashboard.serve().replicas
        wanted = {server_name(f"{row.app}#{row.deployment}#{row.replica_id.rpartition('#')[2]}") for row in rows}
        found = [haproxy.routes(one) for one in haproxy.generations() if one.serves]
        counts = [len(wanted & names) for routes in found for name, names in routes.servers.items() if "sleepy" in name]
        return counts if counts == [2, 2] else NotYet(str(counts))

    clock.wait_until("both to have both replicas", clock.patient(listed), timeout=30.0, interval=0.3)
    assert not OF_OTHERS.exists()
    supervisor = cluster._view.link.pid
    os.kill(supervisor, signal.SIGKILL)

    def clean() -> bool | NotYet:
        left = {cluster._view.plan.run} & runs()
        there = {Path(cluster._view.plan.directory).name} & directories()
        return NotYet(f"runs {left}, directories {there}") if left or there else True

    clock.wait_until("all to be gone", clean, timeout=10.0, interval=0.1)
    assert not OF_OTHERS.exists()
