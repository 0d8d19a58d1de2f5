"""Workers of a RayService that Ray's autoscaler scales, and pods that run and are not Ready."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from pytest_serve_chaos.backends.kubernetes import KUBERNETES
from pytest_serve_chaos.cluster.base import Cluster, ClusterSpec
from pytest_serve_chaos.cluster.capabilities import AUTOSCALES_WORKERS
from pytest_serve_chaos.cluster.kubernetes.client import records
from pytest_serve_chaos.cluster.kubernetes.client.records import Pod
from pytest_serve_chaos.cluster.kubernetes.external.policy import Grants, Terms
from pytest_serve_chaos.cluster.kubernetes.rayservice.existing import differences, read_ray_service, worker_range
from pytest_serve_chaos.cluster.kubernetes.rayservice.scaled_workers import ScaledWorkers
from pytest_serve_chaos.cluster.policy import touch_pod
from pytest_serve_chaos.errors import ObservationError, SettingsError, Unsupported
from pytest_serve_chaos.model import Json
from pytest_serve_chaos.observe.observer import Observer
from tests.capabilities import part
from tests.unit.api_server import ApiServer
from tests.unit.external_services import ray_service
from tests.unit.rayservices import FakeApi, FakeDashboard, cluster_on, pod, view_of
from tests.unit.test_external_start import external, settings
from tests.unit.test_external_start import server as server

GROUPS: Json = [{"replicas": 2, "minReplicas": 1, "maxReplicas": 4}, {"maxReplicas": 3, "numOfHosts": 2}]
RAY_SERVICE = "/apis/ray.io/v1/namespaces/ml/rayservices/ranker"


def autoscaled(wanted: int | None = None, groups: Json = GROUPS) -> dict[str, Json]:
    """A RayService whose workers are scaled, of which so many are wanted now."""
    item = ray_service(enableInTreeAutoscaling=True, workerGroupSpecs=groups)
    status: dict[str, Json] = {"rayClusterName": "ranker-abcde"}
    if wanted is not None:
        status["rayClusterStatus"] = {"desiredWorkerReplicas": wanted}
    return {**item, "status": {"activeServiceStatus": status}}


# -- how many there may be ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("groups", "bounds"),
    [
        (GROUPS, (1, 10)),
        ([{"minReplicas": 2, "maxReplicas": 2}], (2, 2)),
        ([{"minReplicas": 3, "maxReplicas": 1}], (3, 3)),
        ([{"minReplicas": 1, "maxReplicas": 2}, {"minReplicas": 5, "maxReplicas": 9, "suspend": True}], (1, 2)),
        ([{}], (0, 2**31 - 1)),
        ([], (0, 0)),
    ],
)
def test_the_range_is_that_of_all_groups(groups: Json, bounds: tuple[int, int]) -> None:
    assert worker_range(autoscaled(groups=groups)) == bounds


def test_without_an_autoscaler_their_number_is_fixed() -> None:
    assert worker_range(ray_service(workerGroupSpecs=GROUPS)) is None
    assert worker_range({}) is None


def test_a_test_may_want_any_number_in_the_range() -> None:
    found = read_ray_service(autoscaled(wanted=3))
    spec = found.spec
    assert spec.workers == 3
    for number in (1, 2, 10):
        wanted = replace(spec, workers=number)
        assert differences(wanted, found.as_wanted(wanted).spec) == []
    for number in (0, 11):
        wanted = replace(spec, workers=number)
        assert differences(wanted, found.as_wanted(wanted).spec) == [f"workers={number} and not 3"]
    fixed = read_ray_service(ray_service())
    assert differences(replace(fixed.spec, workers=3), fixed.as_wanted(replace(fixed.spec, workers=3)).spec) != []


# -- which are there ---------------------------------------------------------------------------------------------------


def scaled(*pods: Pod, least: int = 1, most: int = 4) -> Cluster:
    view = view_of(FakeApi(*pods), FakeDashboard(None, {}, {}), worker_range=(least, most))
    return cluster_on(view)


HEAD_POD = pod("h", "head", "10.0.0.1")
WORKERS = (pod("a", "worker", "10.0.1.1"), pod("b", "worker", "10.0.1.2"))
WAITING = replace(pod("c", "worker", "", running=False), unschedulable=True)


def scaler(item: dict[str, Json], *pods: Pod) -> ScaledWorkers:
    """Where the RayService is that object, and has these pods."""
    view = view_of(FakeApi(*pods), FakeDashboard(None, {}, {}), worker_range=(1, 4))
    api = SimpleNamespace(ray_service=lambda name: item)
    return ScaledWorkers(api, view.pods, "ranker", (1, 4))  # type: ignore[arg-type]


def test_workers_come_and_go_and_only_the_least_must_be_there() -> None:
    one, two, three = (pod(uid, "worker", f"10.0.1.{n}") for n, uid in enumerate("abc"))
    assert [n.name for n in scaled(HEAD_POD, one, two, three).nodes()] == ["head", "worker-1", "worker-2", "worker-3"]
    assert [(n.name, n.alive) for n in scaled(HEAD_POD, one).nodes()] == [("head", True), ("worker-1", True)]
    assert [(n.name, n.alive) for n in scaled(HEAD_POD, one, least=2).nodes()] == [
        ("head", True),
        ("worker-1", True),
        ("worker-2", False),
    ]
    assert [(n.name, n.alive) for n in scaled(least=0).nodes()] == [("head", False)]


def test_a_pod_that_is_not_up_yet_is_a_node_that_is_down() -> None:
    pending = pod("a", "worker", "", running=False)
    (_, node) = scaled(HEAD_POD, pending).nodes()
    assert (node.name, node.alive) == ("worker-1", False)
    assert "worker-1" in Observer(scaled(HEAD_POD, pending)).look().down


def test_only_a_rayservice_with_an_autoscaler_has_the_capability() -> None:
    assert part(scaled(HEAD_POD), AUTOSCALES_WORKERS).worker_range == (1, 4)
    fixed = cluster_on(view_of(FakeApi(HEAD_POD), FakeDashboard(None, {}, {})))
    assert fixed.capability(AUTOSCALES_WORKERS) is None


@pytest.mark.parametrize(
    ("item", "wanted"), [(autoscaled(wanted=3), 3), (autoscaled(wanted=0), 0), (autoscaled(), None)]
)
def test_the_status_says_how_many_are_wanted_now(item: dict[str, Json], wanted: int | None) -> None:
    assert scaler(item).workers_wanted() == wanted


@pytest.mark.parametrize(
    ("third", "wanted"),
    [
        pytest.param(WAITING, 2, id="no node for it"),
        pytest.param(replace(WAITING, unschedulable=False), 3, id="it starts"),
    ],
)
def test_a_worker_for_which_kubernetes_has_no_node_is_not_waited_for(third: Pod, wanted: int) -> None:
    assert scaler(autoscaled(wanted=3), HEAD_POD, *WORKERS, third).workers_wanted() == wanted


def test_a_worker_that_waits_for_the_place_of_one_that_is_being_deleted_is_waited_for() -> None:
    one, two = WORKERS
    assert scaler(autoscaled(wanted=3), HEAD_POD, one, replace(two, deleting=True), WAITING).workers_wanted() == 3


def test_the_scheduler_says_that_there_is_no_node() -> None:
    said: Json = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/4 nodes"}
    assert records.pod({"status": {"conditions": [said]}}).unschedulable
    assert not records.pod({"status": {"conditions": [{"type": "PodScheduled", "status": "True"}]}}).unschedulable


def test_an_api_server_that_does_not_answer_says_nothing_and_hides_nothing_else() -> None:
    class Silent:
        worker_range = (1, 4)

        def workers_wanted(self) -> int | None:
            raise ObservationError("no answer")

    dashboard = FakeDashboard([], {"n1": "10.0.0.1"}, {"app#App": 2})
    cluster = SimpleNamespace(dashboard=dashboard, capability=lambda key: Silent())
    report = Observer(cast("Cluster", cluster)).refresh()
    assert (report.workers, report.error) == (None, None)
    assert report.serve is not None


# -- what may be broken of it ------------------------------------------------------------------------------------------


def terms(now: int) -> Terms:
    return Terms(ClusterSpec(workers=3), Grants(), lambda: {"app#App": 4}, lambda: True, lambda: now)


def test_the_only_worker_of_now_is_not_broken_however_many_there_were() -> None:
    lost = touch_pod("kill", hold=False, loses=("worker", "Ray node", "replica"))
    assert terms(2).why_not(lost, ()) == ""
    assert terms(1).why_not(lost, ()).startswith("the RayService has 1 worker, so losing one leaves none (")
    assert "leaves none" in terms(2).taken_along("worker-1", ("worker-1", "worker-2"))
    assert terms(3).taken_along("worker-1", ("worker-1", "worker-2")) == ""


# -- an external cluster -----------------------------------------------------------------------------------------------


def test_a_test_is_not_skipped_because_the_autoscaler_has_scaled_since_the_run_began(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.objects[RAY_SERVICE] = autoscaled(wanted=4)
    given = settings(server, tmp_path, monkeypatch)
    first = external(given, tmp_path)
    assert (first.spec.workers, first.description.workers) == (4, 4)
    first.close()
    server.objects[RAY_SERVICE] = autoscaled(wanted=2)
    second = KUBERNETES.start(first.spec, given, tmp_path, print)
    assert second.spec == first.spec, "so the next test can use it"
    assert second.description.workers == 2
    assert part(second, AUTOSCALES_WORKERS).workers_wanted() == 2
    second.close()
    with pytest.raises(Unsupported, match="workers=11 and not 2"):
        KUBERNETES.start(replace(first.spec, workers=11), given, tmp_path, print)


def test_a_rayservice_without_proxies_is_refused_with_the_setting(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = ray_service()
    config = "proxy_location: Disabled\napplications: [{name: ranker, import_path: 'ranker:app'}]"
    item["spec"] = {**cast("dict[str, Json]", item["spec"]), "serveConfigV2": config}
    server.objects[RAY_SERVICE] = item
    with pytest.raises(SettingsError, match="proxy_location is Disabled"):
        external(settings(server, tmp_path, monkeypatch), tmp_path)


# -- pods that run and are not Ready -----------------------------------------------------------------------------------


def state_of(ready: bool, **conditions: str) -> str:
    listed: Json = [{"type": kind, "status": status} for kind, status in conditions.items()]
    status: Json = {
        "phase": "Running",
        "podIP": "10.0.0.1",
        "conditions": listed,
        "containerStatuses": [
            {"name": "ray-head", "containerID": "containerd://c", "ready": ready, "state": {"running": {}}}
        ],
    }
    metadata: Json = {"name": "head", "uid": "h", "labels": {"ray.io/node-type": "head"}}
    item = records.pod({"metadata": metadata, "spec": {"containers": [{"name": "ray-head"}]}, "status": status})
    (head, _) = cluster_on(view_of(FakeApi(item), FakeDashboard(None, {}, {}))).components()
    return head.state


def test_a_pod_is_ready_if_kubernetes_says_so_of_all_of_it() -> None:
    """A sidecar that is not ready, or a readiness gate, keeps requests away from a Ray container that is."""
    assert state_of(True, Ready="True") == "Ready"
    assert state_of(True, Ready="False") == "NotReady"
    assert state_of(False, Ready="False") == "NotReady"
    assert state_of(True, PodScheduled="True") == "Ready"
    assert state_of(False) == "NotReady"
