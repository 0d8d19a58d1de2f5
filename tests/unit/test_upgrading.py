"""An upgrade of a RayService, with an API that plays KubeRay's part a step at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import cast

import pytest

from pytest_serve_chaos import clock
from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.capabilities import FAILS_UPGRADES, HAS_REDIS, UPGRADES_RAY_SERVICE
from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.client.records import Pod, mapped, text
from pytest_serve_chaos.cluster.kubernetes.rayservice import upgrades
from pytest_serve_chaos.cluster.kubernetes.rayservice.cluster import RayServiceCluster
from pytest_serve_chaos.cluster.kubernetes.rayservice.redis import PodRedis
from pytest_serve_chaos.cluster.kubernetes.rayservice.upgrades import Upgrades, aim_dashboard
from pytest_serve_chaos.errors import CommandFailed, ObservationError, Unsupported, WaitTimeout
from pytest_serve_chaos.manifests import merge
from pytest_serve_chaos.model import ClusterDescription, Json
from tests.capabilities import part
from tests.unit.quick_time import QuickTime
from tests.unit.rayservices import FakeDashboard, KubeCalls, cluster_on, pod, view_of

DETAILS: Mapping[str, Json] = {"ray cluster": "old", "image": "ray:2.60.0"}
DESCRIPTION = ClusterDescription("kind", "2.60.0", 1, "redis", "app", "fast", 1, "http://127.0.0.1:1/", details=DETAILS)


def pods_of(ray_cluster: str, *, running: bool = True) -> list[Pod]:
    head = pod(f"{ray_cluster}-head", "head", "10.0.0.1", running=running)
    worker = pod(f"{ray_cluster}-worker", "worker", "10.0.0.2", running=running)
    return [replace(head, grace=0.0), replace(worker, grace=0.0)]


class KubeRay(KubeCalls):
    """The API server with KubeRay behind it: from a change of the RayService on it does one step a look.

    Attributes:
        steps: What is still to be done.
        on_look: Called at each look at the RayService.
        patches: The changes of the RayService.
        calls: What else was asked of the API.
    """

    namespace = "serve-chaos"

    def __init__(self) -> None:
        self.item: dict[str, Json] = {
            "spec": {"upgradeStrategy": {"type": "NewCluster"}},
            "status": {"activeServiceStatus": {"rayClusterName": "old"}, "pendingServiceStatus": {}},
        }
        self.there = {"old": pods_of("old")}
        self.steps: Iterator[Callable[[], None]] = iter(())
        self.plan: tuple[Callable[[], None], ...] = (
            self.prepare,
            self.start,
            self.run,
            self.switch,
            self.stay,
            self.delete,
        )
        self.on_look: Callable[[], None] = lambda: None
        self.patches: list[Mapping[str, Json]] = []
        self.calls: list[tuple[object, ...]] = []

    def prepare(self) -> None:
        self.say(pendingServiceStatus={"rayClusterName": "new"})

    def start(self) -> None:
        self.there["new"] = pods_of("new", running=False)

    def run(self) -> None:
        self.there["new"] = pods_of("new")
        self.say(
            pendingServiceStatus={"rayClusterName": "new", "applicationStatuses": {"sleepy": {"status": "DEPLOYING"}}}
        )

    def switch(self) -> None:
        self.say(activeServiceStatus={"rayClusterName": "new"}, pendingServiceStatus={})

    def stay(self) -> None:
        self.there["old"] = [replace(p, deleting=True) for p in self.there["old"]]

    def delete(self) -> None:
        del self.there["old"]

    def fail(self) -> None:
        raise ObservationError("the API server is away")

    def say(self, **status: Json) -> None:
        self.item["status"] = {**mapped(self.item["status"]), **status}

    # -- what is asked of it --

    def ray_service(self, name: str) -> dict[str, Json]:
        self.on_look()
        self.go_on()
        return self.item

    def patch_ray_service(self, name: str, patch: Mapping[str, Json]) -> None:
        self.patches.append(patch)
        self.item = merge(self.item, patch)
        self.steps = iter(self.plan)

    def pods(self, selector: str = "", *, namespace: str | None = None) -> tuple[Pod, ...]:
        if selector == f"{names.PART}=redis":
            return ()
        ray_cluster = selector.split(",")[0].removeprefix(f"{names.RAY_CLUSTER}=")
        found = tuple(self.there.get(ray_cluster, ()))
        if ray_cluster == "old" and mapped(mapped(self.item["status"])["activeServiceStatus"]) != OLD:
            self.go_on()
        return found

    def go_on(self) -> None:
        next(self.steps, lambda: None)()

    def call(self, method: str, *arguments: object, what: str, **options: object) -> dict[str, Json]:
        self.calls.append((method, *arguments))
        if method != "read_namespaced_pod":
            return {}
        uid = f"uid-of-{str(arguments[0]).removeprefix('pod-')}"
        return {"spec": {"containers": [{"env": [{"name": "RAY_external_storage_namespace", "value": uid}]}]}}


OLD: Mapping[str, Json] = {"rayClusterName": "old"}


@pytest.fixture
def kuberay(monkeypatch: pytest.MonkeyPatch) -> KubeRay:
    monkeypatch.setattr(upgrades, "_LOOK_EVERY", 0.01)
    monkeypatch.setattr(clock, "time", QuickTime())
    return KubeRay()


def ray_service(kuberay: KubeRay, *, spec: ClusterSpec | None = None, redis: bool = True) -> RayServiceCluster:
    view = view_of(
        kuberay,
        FakeDashboard(None, {}, {}),
        spec=spec or ClusterSpec(workers=1),
        ray_cluster="old",
        redis_selector=f"{names.PART}=redis" if redis else None,
    )
    store = PodRedis(view)
    ours = Upgrades(view, store)
    offers = (HAS_REDIS.by(store), FAILS_UPGRADES.by(ours), UPGRADES_RAY_SERVICE.by(ours))
    return cluster_on(view, *offers, description=DESCRIPTION)


def annotation(patch: Mapping[str, Json]) -> str:
    head = mapped(mapped(mapped(patch["spec"])["rayClusterConfig"])["headGroupSpec"])
    return text(mapped(mapped(mapped(head["template"])["metadata"])["annotations"]), names.UPGRADE)


def pods_seen(service: RayServiceCluster) -> set[str]:
    return {c.identity.parts[0] for c in service.components() if c.role in ("head", "worker")}


def test_it_is_over_when_the_new_one_serves_and_the_pods_of_the_old_one_have_ended(kuberay: KubeRay) -> None:
    service = ray_service(kuberay)
    assert service.capability(UPGRADES_RAY_SERVICE) is not None
    assert part(service, UPGRADES_RAY_SERVICE).serving() == "old"
    (sign,) = part(service, UPGRADES_RAY_SERVICE).upgrade()
    assert "old" not in kuberay.there
    assert part(service, UPGRADES_RAY_SERVICE).serving() == "new"
    assert (sign.side, sign.text) == ("victim", "the kubelets reported the 2 pods of RayCluster old ended")


def test_the_old_one_is_seen_until_the_switch_and_then_the_new_one(kuberay: KubeRay) -> None:
    service = ray_service(kuberay)
    seen: list[set[str]] = []
    kuberay.on_look = lambda: seen.append(pods_seen(service))
    part(service, UPGRADES_RAY_SERVICE).upgrade()
    assert len(seen) > 3
    assert all(pods == {"old-head", "old-worker"} for pods in seen)
    assert pods_seen(service) == {"new-head", "new-worker"}
    assert [node.name for node in service.nodes() if node.alive] == ["head", "worker-1"]


def test_the_dashboard_the_store_and_the_report_follow(kuberay: KubeRay) -> None:
    service = ray_service(kuberay)
    store = part(service, HAS_REDIS)
    assert isinstance(store, PodRedis)
    store.read_namespace()
    assert part(service, HAS_REDIS).redis_namespace == "uid-of-old-head"
    part(service, UPGRADES_RAY_SERVICE).upgrade()
    assert part(service, HAS_REDIS).redis_namespace == "uid-of-new-head"
    assert service.description.details == {"ray cluster": "new", "image": "ray:2.60.0"}
    (aimed,) = [call for call in kuberay.calls if call[0] == "patch_namespaced_service"]
    selector: Json = {"spec": {"selector": {names.RAY_CLUSTER: "new"}}}
    assert aimed[1:] == (names.DASHBOARD_SERVICE, "serve-chaos", selector)


def test_without_fault_tolerance_no_namespace_is_looked_for(kuberay: KubeRay) -> None:
    part(ray_service(kuberay, redis=False), UPGRADES_RAY_SERVICE).upgrade()
    assert [call[0] for call in kuberay.calls] == ["patch_namespaced_service"]


def test_each_upgrade_changes_the_heads_pod_and_nothing_else_of_the_cluster(kuberay: KubeRay) -> None:
    part(ray_service(kuberay), UPGRADES_RAY_SERVICE).upgrade()
    kuberay.say(activeServiceStatus={"rayClusterName": "old"})
    kuberay.there["old"] = pods_of("old")
    part(ray_service(kuberay), UPGRADES_RAY_SERVICE).upgrade()
    assert [annotation(patch) for patch in kuberay.patches] == ["1", "2"]
    assert all(
        list(mapped(mapped(patch["spec"])["rayClusterConfig"])) == ["headGroupSpec"] for patch in kuberay.patches
    )


@pytest.mark.parametrize(
    ("profile", "said", "asked_for"), [("fast", None, 10), ("guide", None, 60), ("fast", 0, None), ("guide", 5, None)]
)
def test_how_long_the_old_one_stays_is_what_the_rayservice_says_or_else_the_profile(
    kuberay: KubeRay, profile: str, said: int | None, asked_for: int | None
) -> None:
    if said is not None:
        kuberay.item = merge(kuberay.item, {"spec": {"rayClusterDeletionDelaySeconds": said}})
    spec = ClusterSpec(workers=1, profile=profile)  # type: ignore[arg-type]
    part(ray_service(kuberay, spec=spec), UPGRADES_RAY_SERVICE).upgrade()
    assert mapped(kuberay.patches[0]["spec"]).get("rayClusterDeletionDelaySeconds") == asked_for


@pytest.mark.parametrize("strategy", ["None", "NewClusterWithIncrementalUpgrade"])
def test_a_rayservice_that_wants_another_strategy_is_not_changed(kuberay: KubeRay, strategy: str) -> None:
    kuberay.item = merge(kuberay.item, {"spec": {"upgradeStrategy": {"type": strategy}}})
    with pytest.raises(Unsupported, match=f"upgradeStrategy is {strategy}"):
        part(ray_service(kuberay), UPGRADES_RAY_SERVICE).upgrade()
    assert kuberay.patches == []


def test_where_nothing_is_said_kuberay_makes_a_new_cluster(kuberay: KubeRay) -> None:
    kuberay.item = merge(kuberay.item, {"spec": {"upgradeStrategy": None}})
    part(ray_service(kuberay), UPGRADES_RAY_SERVICE).upgrade()
    assert len(kuberay.patches) == 1


def test_one_upgrade_at_a_time(kuberay: KubeRay) -> None:
    kuberay.prepare()
    with pytest.raises(CommandFailed, match="under way already, to RayCluster new"):
        part(ray_service(kuberay), UPGRADES_RAY_SERVICE).upgrade()
    assert kuberay.patches == []


def test_an_api_server_that_is_away_for_a_moment_is_waited_for(kuberay: KubeRay) -> None:
    kuberay.plan = (kuberay.prepare, kuberay.fail, kuberay.run, kuberay.switch, kuberay.fail, kuberay.delete)
    assert part(ray_service(kuberay), UPGRADES_RAY_SERVICE).upgrade()


@pytest.mark.parametrize(
    ("done", "seen"),
    [
        (0, "KubeRay has not made a second RayCluster"),
        (1, "new has no pods"),
        (2, "pod-new-head: Error; pod-new-worker: Error"),
        (3, "pod-new-head: Running; pod-new-worker: Running; app sleepy DEPLOYING"),
    ],
)
def test_one_that_does_not_take_over_says_how_far_it_came(
    kuberay: KubeRay, monkeypatch: pytest.MonkeyPatch, done: int, seen: str
) -> None:
    monkeypatch.setattr(upgrades, "_SWITCHED_WITHIN", 0.5)
    kuberay.plan = kuberay.plan[:done]
    service = ray_service(kuberay)
    with pytest.raises(WaitTimeout) as caught:
        part(service, UPGRADES_RAY_SERVICE).upgrade()
    assert caught.value.last_seen == seen
    assert any("1.31" in line for line in caught.value.fix)
    assert pods_seen(service) == {"old-head", "old-worker"}


def test_an_old_one_that_does_not_go_is_no_upgrade(kuberay: KubeRay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upgrades, "_MARGIN", 0.1)
    kuberay.item = merge(kuberay.item, {"spec": {"rayClusterDeletionDelaySeconds": 0}})
    kuberay.plan = kuberay.plan[:-1]
    with pytest.raises(WaitTimeout, match="pods of RayCluster old to end; last seen: pod-old-head: Terminating"):
        part(ray_service(kuberay), UPGRADES_RAY_SERVICE).upgrade()


def test_the_dashboard_is_aimed_at_one_head(kuberay: KubeRay) -> None:
    aim_dashboard(cast("KubeApi", kuberay), "one")
    selector: Json = {"spec": {"selector": {names.RAY_CLUSTER: "one"}}}
    assert kuberay.calls == [("patch_namespaced_service", names.DASHBOARD_SERVICE, "serve-chaos", selector)]


# -- an upgrade that never ends ----------------------------------------------------------------------------------------


def stuck(kuberay: KubeRay) -> None:
    kuberay.there["new"] = [replace(one, node="") for one in pods_of("new", running=False)]


def third(kuberay: KubeRay) -> None:
    """KubeRay makes a third RayCluster for the old spec, which takes over."""
    kuberay.there["third"] = pods_of("third")
    kuberay.say(activeServiceStatus={"rayClusterName": "third"}, pendingServiceStatus={})


def forget(kuberay: KubeRay) -> None:
    kuberay.there = {"third": kuberay.there["third"]}


def node_selector(kuberay: KubeRay) -> Mapping[str, Json]:
    head = mapped(mapped(mapped(kuberay.item["spec"])["rayClusterConfig"])["headGroupSpec"])
    return mapped(mapped(mapped(head["template"]).get("spec")).get("nodeSelector"))


def test_an_upgrade_in_vain_begins_when_no_node_takes_the_new_head(kuberay: KubeRay) -> None:
    kuberay.plan = (kuberay.prepare, lambda: stuck(kuberay))
    service = ray_service(kuberay)

    (sign,) = part(service, FAILS_UPGRADES).begin_in_vain()

    assert (sign.side, "pod-new-head" in sign.text) == ("victim", True)
    assert part(service, FAILS_UPGRADES).pending() == "new"
    assert part(service, UPGRADES_RAY_SERVICE).serving() == "old"
    assert node_selector(kuberay) == {names.NOWHERE: "true"}
    assert annotation(kuberay.patches[0]) == "1"
    assert pods_seen(service) == {"old-head", "old-worker"}, "what is looked at is what serves"


def test_a_head_that_a_node_takes_is_no_upgrade_in_vain(kuberay: KubeRay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upgrades, "_STUCK_WITHIN", 0.5)
    kuberay.plan = (kuberay.prepare, kuberay.run)

    with pytest.raises(WaitTimeout, match="which no node takes"):
        part(ray_service(kuberay), FAILS_UPGRADES).begin_in_vain()


@pytest.mark.parametrize("annotated", [None, "3"])
def test_it_ends_with_the_spec_of_before_and_whatever_cluster_kuberay_makes_of_it(
    kuberay: KubeRay, annotated: str | None
) -> None:
    annotations: Json = {"metadata": {"annotations": {names.UPGRADE: annotated}}}
    first: dict[str, Json] = {"rayClusterConfig": {"headGroupSpec": {"template": annotations}}}
    kuberay.item = merge(kuberay.item, {"spec": first} if annotated else {})
    kuberay.plan = (kuberay.prepare, lambda: stuck(kuberay))
    service = ray_service(kuberay)
    part(service, FAILS_UPGRADES).begin_in_vain()
    kuberay.plan = (lambda: third(kuberay), kuberay.stay, lambda: None, lambda: forget(kuberay))

    part(service, FAILS_UPGRADES).end_in_vain()
    part(service, FAILS_UPGRADES).end_in_vain()

    assert len(kuberay.patches) == 2, "the second time there is nothing to end"
    assert node_selector(kuberay) == {}
    assert annotation(kuberay.patches[1]) == (annotated or "")
    assert pods_seen(service) == {"third-head", "third-worker"}


def test_an_end_in_vain_that_was_broken_off_is_tried_again(kuberay: KubeRay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upgrades, "_SWITCHED_WITHIN", 0.5)
    kuberay.plan = (kuberay.prepare, lambda: stuck(kuberay))
    service = ray_service(kuberay)
    part(service, FAILS_UPGRADES).begin_in_vain()
    kuberay.plan = ()
    with pytest.raises(WaitTimeout, match="a new RayCluster to take over"):
        part(service, FAILS_UPGRADES).end_in_vain()
    kuberay.plan = (lambda: third(kuberay), lambda: forget(kuberay))

    part(service, FAILS_UPGRADES).end_in_vain()

    assert pods_seen(service) == {"third-head", "third-worker"}
