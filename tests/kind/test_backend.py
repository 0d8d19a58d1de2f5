"""A real kind cluster with KubeRay and Redis: it comes up, loses a head and a worker, and goes without a trace."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import httpx
import pytest

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.capabilities import HAS_REDIS, KILLS_ACTORS, KILLS_NODES, SHARES_REDIS
from pytest_serve_chaos.cluster.kubernetes.kind.settings import KindSettings
from pytest_serve_chaos.cluster.kubernetes.kind.start import start_kind_cluster
from pytest_serve_chaos.cluster.kubernetes.rayservice.cluster import RayServiceCluster
from pytest_serve_chaos.cluster.serve_config import canary, with_app
from pytest_serve_chaos.errors import NoSuchTarget, ObservationError, SafetyError
from pytest_serve_chaos.model import Component, Role, Topology
from pytest_serve_chaos.observe.observer import Observer
from tests.capabilities import part
from tests.kind.needs import kind_settings, needs_kind, run

pytestmark = needs_kind

BACK = 180.0

T = TypeVar("T")


def observe(cluster: RayServiceCluster) -> Topology:
    return Observer(cluster).see()


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kind")


@pytest.fixture(scope="module")
def settings() -> KindSettings:
    return kind_settings()


@pytest.fixture(scope="module")
def cluster(directory: Path, settings: KindSettings) -> Iterator[RayServiceCluster]:
    cluster = start_kind_cluster(ClusterSpec(), settings, directory, print)
    yield cluster
    cluster.close()
    assert (settings.name in run("kind", "get", "clusters").split()) == settings.keep


def test_traffic_reaches_a_replica_through_the_node_port(cluster: RayServiceCluster) -> None:
    answer = httpx.get(cluster.url, timeout=5.0, trust_env=False)
    assert answer.status_code == 200
    assert int(answer.text) > 0


def test_replicas_are_on_the_workers_and_proxies_everywhere(cluster: RayServiceCluster) -> None:
    seen = clock.wait_until("all processes to be seen", lambda: _with_all_of_it(cluster), timeout=30.0, interval=0.5)
    assert sorted(c.node for c in seen.of("replica")) == ["worker-1"] * 3 + ["worker-2"] * 3
    assert sorted(c.node for c in seen.of("proxy")) == ["head", "worker-1", "worker-2"]
    assert [c.node for c in seen.of("controller")] == ["head"]
    assert len(seen.of("redis")) == len(seen.of("gcs")) == 1


def _with_all_of_it(cluster: RayServiceCluster) -> Topology | NotYet:
    """Each container says what runs in it a moment after it is first asked."""
    seen = observe(cluster)
    wanted: dict[Role, int] = {"replica": 6, "proxy": 3, "controller": 1, "gcs": 1, "redis": 1}
    there = {role: len(seen.of(role)) for role in wanted}
    return seen if there == wanted else NotYet(str(there))


def test_a_cluster_of_that_name_is_not_touched(
    cluster: RayServiceCluster, settings: KindSettings, tmp_path: Path
) -> None:
    taken = replace(settings, keep=False)
    with pytest.raises(SafetyError, match="already"):
        start_kind_cluster(ClusterSpec(), taken, tmp_path, print)
    assert all(node.alive for node in cluster.nodes())


def test_every_proxy_can_be_asked_by_itself(cluster: RayServiceCluster) -> None:
    before = cluster.serve_config
    cluster.apply_serve_config(with_app(before, canary(1)))
    for proxy in observe(cluster).of("proxy"):
        _wait_for_route(cluster, proxy.node, "/serve_chaos_canary_1")
    cluster.apply_serve_config(before)


def test_a_head_alongside_it_has_keys_of_its_own_which_go_with_it(cluster: RayServiceCluster) -> None:
    assert isinstance(cluster, RayServiceCluster)
    before = _strange_keys(cluster)  # KubeRay's clean-up after a RayCluster is best effort
    with closing(part(cluster, SHARES_REDIS).start_alongside("alongside")) as other:
        assert _answer(lambda: len(other.dashboard.nodes())) == 1
        assert not _answer(lambda: {*other.dashboard.serve().apps})
        keys = [key for key in _strange_keys(cluster) if key not in before]
    assert keys
    assert all(key.startswith("RAYalongside@") for key in keys)
    assert not {*_strange_keys(cluster)} & {*keys}
    assert all(node.alive for node in cluster.nodes())


def _answer(ask: Callable[[], T]) -> T:
    """What a dashboard says, which may be busy."""
    return clock.wait_until("the dashboard to answer", clock.patient(ask), timeout=30.0)


def _strange_keys(cluster: RayServiceCluster) -> list[str]:
    return [
        key
        for key in part(cluster, HAS_REDIS).redis_keys()
        if not key.startswith(f"RAY{part(cluster, HAS_REDIS).redis_namespace}@")
    ]


def test_the_controller_comes_back_as_the_same_actor(cluster: RayServiceCluster) -> None:
    before = clock.wait_until("the GCS to say which actor it is", lambda: _controller(cluster), timeout=30.0)
    assert before.actor_id is not None
    asked = clock.now()
    killed = part(cluster, KILLS_ACTORS).kill_actor(before.actor_id, no_restart=False)
    assert asked <= killed <= clock.now()

    def probe() -> str | NotYet:
        controllers = observe(cluster).of("controller")
        # Its process is seen a moment before the GCS says which actor it is.
        new = [c.actor_id for c in controllers if c.identity != before.identity and c.actor_id is not None]
        return new[0] if new else NotYet(f"{len(controllers)} controllers, none new that is known to the GCS")

    assert clock.wait_until("a new controller", probe, timeout=BACK) == before.actor_id


def _controller(cluster: RayServiceCluster) -> Component | NotYet:
    known = [c for c in observe(cluster).of("controller") if c.actor_id is not None]
    return known[0] if known else NotYet("no controller of which the actor is known")


def test_the_workers_keep_their_replicas_while_the_head_is_replaced(cluster: RayServiceCluster) -> None:
    before = observe(cluster)
    signs = part(cluster, KILLS_NODES).kill_node("head", how="kill", hold=False)
    assert {sign.side for sign in signs} == {"cluster", "victim"}
    without = observe(cluster)
    assert without.of("controller") == ()
    assert without.find(before.of("head")[0].identity) is None

    def probe() -> bool | NotYet:
        seen = observe(cluster)
        missing = [role for role in ("head", "gcs", "controller") if not seen.of(role)]
        return NotYet(f"no {missing}") if missing or len(seen.of("proxy")) < 3 else True

    clock.wait_until("the head to be back", probe, timeout=BACK, interval=1.0)
    after = observe(cluster)
    assert {c.identity for c in after.of("replica")} == {c.identity for c in before.of("replica")}
    assert after.find(before.of("proxy", on="worker-1")[0].identity) is not None


def test_a_gracefully_deleted_worker_is_reported_by_its_kubelet(cluster: RayServiceCluster) -> None:
    before = {node.name: node for node in cluster.nodes()}
    signs = part(cluster, KILLS_NODES).kill_node("worker-2", how="stop", hold=True)
    assert any("kubelet" in sign.text for sign in signs)
    with pytest.raises(NoSuchTarget):
        part(cluster, KILLS_NODES).kill_node("worker-2", how="kill", hold=False)
    part(cluster, KILLS_NODES).restore_node("worker-2")

    def probe() -> bool | NotYet:
        node = next(node for node in cluster.nodes() if node.name == "worker-2")
        return (node.alive and node.identity != before["worker-2"].identity) or NotYet(str(node))

    clock.wait_until("a new worker-2", probe, timeout=BACK, interval=1.0)


def _wait_for_route(cluster: RayServiceCluster, node: str, route: str) -> None:
    def probe() -> bool | NotYet:
        try:
            proxy = next(c for c in observe(cluster).of("proxy") if c.node == node)
            status, body = cluster.ask_proxy(proxy, "/-/routes", timeout=2.0)
        except (StopIteration, ObservationError) as error:
            return NotYet(repr(error))
        return route in body or NotYet(f"{status} {body}")

    clock.wait_until(f"{node} to know {route}", probe, timeout=30.0)
