"""A real kind cluster that is kept: the next start takes it over, with what was left broken in it, and quickly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx
import pytest

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.capabilities import FREEZES_NODES, OUTLIVES_RUNS
from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.cluster.kubernetes.kind.settings import KindSettings
from pytest_serve_chaos.cluster.kubernetes.kind.start import start_kind_cluster
from pytest_serve_chaos.cluster.kubernetes.rayservice.cluster import RayServiceCluster
from pytest_serve_chaos.cluster.private_files import PRIVATE
from pytest_serve_chaos.cluster.serve_config import canary, with_app
from tests.capabilities import part
from tests.kind.needs import SHARED, kind_settings, needs_kind, run

pytestmark = needs_kind

TAKEN_OVER = 15.0
MADE_ANEW = 300.0


@dataclass
class Kept:
    """Starts of the cluster, one after the other; the tests are in their order.

    Attributes:
        took: Seconds that the last start took.
        said: All that it said.
    """

    directory: Path
    settings: KindSettings = field(default_factory=lambda: replace(kind_settings(), keep=True))
    took: float = 0.0
    said: list[str] = field(default_factory=list)

    def start(self, spec: ClusterSpec | None = None) -> RayServiceCluster:
        """Starts it, and sends it a request."""
        self.said = []
        begun = clock.now()
        cluster = start_kind_cluster(spec or ClusterSpec(), self.settings, self.directory, self._say)
        self.took = clock.now() - begun
        answer = httpx.get(cluster.url, timeout=5.0, trust_env=False)
        assert answer.status_code == 200
        return cluster

    def _say(self, line: str) -> None:
        self.said.append(line)
        print(line)

    def machines(self) -> set[str]:
        """The ids of the containers that are the nodes."""
        of_it = f"label=io.x-k8s.kind.cluster={self.settings.name}"
        return set(run("docker", "ps", "--all", "--quiet", "--filter", of_it).split())

    def kubectl(self, *arguments: str) -> str:
        """Runs kubectl against it."""
        return run("kubectl", "--kubeconfig", str(self.directory / PRIVATE / "kubeconfig"), *arguments)

    def pods(self) -> dict[str, str]:
        """The UID of every pod in our namespace."""
        form = 'jsonpath={range .items[*]}{.metadata.name} {.metadata.uid}{"\\n"}{end}'
        lines = self.kubectl("-n", names.NAMESPACE, "get", "pods", "-o", form).splitlines()
        return dict(line.split() for line in lines)

    def machine_of_a_worker(self) -> str:
        """The kind node under one of the workers."""
        form = "jsonpath={.items[0].spec.nodeName}"
        return self.kubectl("-n", names.NAMESPACE, "get", "pods", "-l", f"{names.RAY_NODE_TYPE}=worker", "-o", form)

    def end(self, cluster: RayServiceCluster) -> None:
        """Ends a run that left it as it was."""
        part(cluster, OUTLIVES_RUNS).vouch()
        cluster.close()


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    kept = Kept(tmp_path_factory.mktemp("keep"))
    yield kept
    if SHARED is None:
        run("kind", "delete", "cluster", "--name", str(kept.settings.name))


def test_the_second_start_takes_over_all_of_the_first(kept: Kept) -> None:
    kept.end(kept.start())
    nodes, pods = kept.machines(), kept.pods()
    assert len(nodes) == 4

    cluster = kept.start()
    assert kept.took < TAKEN_OVER, kept.said
    assert any(line.startswith(f"kind: took over {kept.settings.name} in ") for line in kept.said)
    assert (kept.machines(), kept.pods()) == (nodes, pods)
    assert sorted(node.name for node in cluster.nodes() if node.alive) == ["head", "worker-1", "worker-2"]
    kept.end(cluster)


def test_what_was_left_broken_is_mended_first_and_kept(kept: Kept) -> None:
    cluster = kept.start()
    pods, machine = kept.pods(), kept.machine_of_a_worker()
    kept.kubectl("cordon", machine)
    kept.kubectl("taint", "nodes", machine, f"{names.NO_WORKER}=held:NoSchedule")
    # As short as can be: beyond some 9 s Serve replaces what does not answer its health checks.
    part(cluster, FREEZES_NODES).freeze_node("worker-1")
    kept.end(cluster)
    run("docker", "pause", machine)

    cluster = kept.start()
    said = "\n".join(kept.said)
    for what in ("was paused", "was cordoned", f"had the taint {names.NO_WORKER}"):
        assert f"{machine} {what}" in said
    assert "were stopped" in said
    assert "took over" in said
    assert kept.pods() == pods
    node = kept.kubectl("get", "node", machine, "-o", "jsonpath={.spec}")
    assert "unschedulable" not in node
    assert names.NO_WORKER not in node
    kept.end(cluster)


def test_another_serve_config_is_put_back(kept: Kept) -> None:
    cluster = kept.start()
    pods = kept.pods()
    cluster.apply_serve_config(with_app(cluster.serve_config, canary(1)))
    clock.wait_until("the canary", clock.patient(lambda: _runs_canary(cluster)), timeout=60.0)
    kept.end(cluster)

    cluster = kept.start()
    assert "the Serve config was another" in "\n".join(kept.said)
    apps = clock.wait_until("Serve to answer", clock.patient(lambda: {*cluster.dashboard.serve().apps}), timeout=30.0)
    assert apps == {"sleepy_pid"}
    assert kept.pods() == pods
    kept.end(cluster)


def _runs_canary(cluster: RayServiceCluster) -> bool | NotYet:
    apps = cluster.dashboard.serve().apps
    return apps.get("serve_chaos_canary_1") == "RUNNING" or NotYet(str(apps))


def test_a_redis_that_was_left_down_costs_the_ray_service_and_nothing_else(kept: Kept) -> None:
    nodes, pods = kept.machines(), kept.pods()
    kept.kubectl("-n", names.NAMESPACE, "scale", "deployment", names.REDIS, "--replicas=0")

    cluster = kept.start()
    assert kept.took < MADE_ANEW
    assert "its Redis was down" in "\n".join(kept.said)
    assert not any("loaded" in line for line in kept.said), "the images are there"
    assert kept.machines() == nodes
    assert not set(kept.pods().values()) & set(pods.values())
    kept.end(cluster)


def test_after_a_run_that_ended_by_force_the_ray_service_is_new(kept: Kept) -> None:
    cluster = kept.start()
    assert kept.took < TAKEN_OVER, kept.said
    cluster.stop_watching()  # and nothing else, as after kill -9
    machine = kept.machine_of_a_worker()
    run("docker", "kill", machine)
    pods = kept.pods()

    cluster = kept.start(replace(ClusterSpec(), gcs="none"))
    assert f"{machine} was exited" in "\n".join(kept.said)
    assert kept.took < MADE_ANEW
    assert names.REDIS not in kept.kubectl("-n", names.NAMESPACE, "get", "deployments", "-o", "name")
    assert not set(kept.pods().values()) & set(pods.values())
    kept.end(cluster)
