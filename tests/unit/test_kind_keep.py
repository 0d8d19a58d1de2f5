"""Taking over a kind cluster that an earlier run left: whose it is, what is broken in it, whether it is whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import cast

import pytest

from pytest_serve_chaos import clock
from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.client.records import Container, Pod
from pytest_serve_chaos.cluster.kubernetes.install import render
from pytest_serve_chaos.cluster.kubernetes.install.stack import Stack
from pytest_serve_chaos.cluster.kubernetes.kind import reuse as kind_reuse
from pytest_serve_chaos.cluster.kubernetes.kind.nodes import KindNodes
from pytest_serve_chaos.cluster.kubernetes.kind.record import (
    Record,
    Step,
    Wishes,
    fingerprint,
    fingerprint_of_spec,
    from_text,
    lacks,
    moved,
    placement,
    plan,
    to_text,
)
from pytest_serve_chaos.cluster.kubernetes.kind.repair import ClusterRepair
from pytest_serve_chaos.cluster.kubernetes.kind.reuse import Kept, is_finished, open_kept
from pytest_serve_chaos.cluster.kubernetes.rayservice.redis import RedisStore
from pytest_serve_chaos.cluster.kubernetes.rayservice.upgrades import change_for_upgrade
from pytest_serve_chaos.cluster.rest import NodeRow, ReplicaRow, ServeStatus
from pytest_serve_chaos.errors import ClusterError, CommandFailed, ObservationError, SafetyError, WaitTimeout
from pytest_serve_chaos.manifests import merge
from pytest_serve_chaos.model import Json
from tests.unit.kind_runs import (
    CONTROL_PLANE,
    LEFT,
    NAME,
    RAY_SERVICE,
    REDIS_TEMPLATE,
    WANTED,
    WISHES,
    WORKER,
    Api,
    FakeDashboard,
    Machines,
    as_dashboard,
    kept,
    pod,
    status,
)


@pytest.fixture
def opened(machines: Machines, api: Api, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Kept]:
    monkeypatch.setattr(kind_reuse, "KubeApi", lambda *_, **__: api)
    return lambda: open_kept(cast("KindNodes", machines), WISHES, lambda _: None)


# -- whose it is --


def test_a_cluster_that_carries_our_label_is_opened_and_nothing_is_done_to_it(
    opened: Callable[[], Kept], machines: Machines
) -> None:
    assert opened().record == LEFT
    assert machines.done == []


def test_a_cluster_without_our_label_is_somebody_elses(
    opened: Callable[[], Kept], machines: Machines, api: Api
) -> None:
    api.roles = False
    machines.states[WORKER] = "paused"
    with pytest.raises(SafetyError, match="did not make") as caught:
        opened()
    assert machines.done == []
    assert api.closed
    assert caught.value.fix[-1] == f"or delete it: kind delete cluster --name {NAME}"


def test_a_control_plane_that_a_reboot_has_stopped_is_started_first_and_alone(
    opened: Callable[[], Kept], machines: Machines
) -> None:
    machines.states = dict.fromkeys(machines.states, "exited")
    found = opened()
    assert machines.done == [f"start {CONTROL_PLANE}"]
    assert found.look().step == "renew"
    assert machines.done == [f"start {CONTROL_PLANE}", f"start {WORKER}", f"start {WORKER}2"]


def test_a_stopped_control_plane_that_is_not_ours_stays_stopped(opened: Callable[[], Kept], machines: Machines) -> None:
    machines.states[CONTROL_PLANE] = "exited"
    machines.ours = False
    with pytest.raises(SafetyError, match="did not make"):
        opened()
    assert machines.done == []


def test_an_api_server_that_comes_up_late_is_waited_for(
    opened: Callable[[], Kept], api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kind_reuse, "_ANSWERS", 0.1)
    api.refuses = "list_node"
    with pytest.raises(WaitTimeout, match="the API server to answer"):
        opened()


@pytest.mark.parametrize(("annotations", "finished"), [({names.KEPT: to_text(LEFT)}, True), ({}, False), (None, False)])
def test_a_cluster_is_finished_when_it_says_what_is_in_it(
    annotations: dict[str, str] | None,
    finished: bool,
    machines: Machines,
    api: Api,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kind_reuse, "KubeApi", lambda *_, **__: api)
    api.annotations = annotations
    assert is_finished(cast("KindNodes", machines)) == finished
    assert api.closed


def test_a_cluster_without_a_kubeconfig_is_not_finished(machines: Machines) -> None:
    machines.no_kubeconfig = True
    assert not is_finished(cast("KindNodes", machines))


# -- the machines --


def test_a_sound_cluster_is_adopted_without_a_change(machines: Machines, api: Api) -> None:
    assert kept(machines, api).look().step == "adopt"
    assert machines.done == []
    assert machines.forgot, "a run may have lost connections just before"
    assert not [call for call in api.calls if call.startswith(("patch", "delete"))]


def test_what_was_left_closed_is_opened_and_the_rest_adopted(machines: Machines, api: Api) -> None:
    said: list[str] = []
    machines.states[WORKER] = "paused"
    api.nodes_now[WORKER] = {"unschedulable": True}
    taints: list[Json] = [{"key": key} for key in (names.NO_HEAD, "node.kubernetes.io/not-ready")]
    api.nodes_now[f"{WORKER}2"] = {"taints": taints}
    assert kept(machines, api, said.append).look().step == "adopt"
    assert machines.done == [f"unpause {WORKER}", f"taint nodes {WORKER}2 {names.NO_HEAD}:NoSchedule-"]
    without_note: Json = {"annotations": {names.UNDO: None}}
    assert api.patched == [(WORKER, {"spec": {"unschedulable": None}, "metadata": without_note})]
    assert machines.unwatched
    assert said[0] == (
        f"kind: repaired {NAME}: {WORKER} was paused; {WORKER} was cordoned; {WORKER}2 had the taint {names.NO_HEAD}"
    )


def test_what_ran_on_a_machine_that_was_stopped_is_not_relied_upon(machines: Machines, api: Api) -> None:
    machines.states[WORKER] = "exited"
    found = kept(machines, api).look()
    assert machines.done == [f"start {WORKER}"]
    assert (found.step, found.reason) == ("renew", f"what ran there was lost: {WORKER} was exited")


def test_a_node_that_was_deleted_registers_again(machines: Machines, api: Api) -> None:
    del api.nodes_now[WORKER]
    found = kept(machines, api).look()
    assert machines.done == [f"kubelet {WORKER}"]
    assert found.step == "renew"


def test_the_machines_are_waited_for(machines: Machines, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kind_reuse, "_READY", 0.1)
    machines.states[f"{WORKER}3"] = "paused"
    api.annotations = {names.KEPT: to_text(LEFT)}
    cluster = Kept(
        cast("KindNodes", machines), kept(machines, api).api, replace(WISHES, number=3), lambda _: None, LEFT
    )
    with pytest.raises(WaitTimeout, match=f"{WORKER}3 not Ready"):
        cluster.look()


def test_machines_that_are_of_no_use_are_not_mended(machines: Machines, api: Api) -> None:
    machines.states[f"{WORKER}3"] = "paused"
    assert kept(machines, api).look().step == "create"
    assert machines.done == []


def test_a_cluster_that_says_nothing_of_itself_is_not_deleted(machines: Machines, api: Api) -> None:
    api.annotations = None
    assert kept(machines, api).look().step == "install"
    del machines.states[WORKER]
    with pytest.raises(SafetyError, match="did not make"):
        kept(machines, api).look()


# -- what is on them --


def test_a_ray_service_that_somebody_changed_is_made_anew(machines: Machines, api: Api) -> None:
    api.service = merge(RAY_SERVICE, {"spec": {"rayClusterConfig": {"rayVersion": "2.61.0"}}})
    assert kept(machines, api).look().reason == "somebody has changed its RayService or its Redis"


def test_a_redis_that_somebody_put_elsewhere_is_made_anew(machines: Machines, api: Api) -> None:
    api.redis_template = merge(REDIS_TEMPLATE, {"spec": {"nodeSelector": {"kubernetes.io/hostname": WORKER}}})
    assert kept(machines, api).look().reason == "somebody has changed its RayService or its Redis"


@pytest.mark.parametrize("redis", [False, None])
def test_a_redis_that_is_away_has_forgotten_everything(machines: Machines, api: Api, redis: bool | None) -> None:
    api.redis = redis
    assert kept(machines, api).look().step == "renew"


@pytest.mark.parametrize("pods", [(), (pod("operator", running=False),)])
def test_without_an_operator_nothing_is_adopted(machines: Machines, api: Api, pods: tuple[()]) -> None:
    api.operator_pods = pods
    assert kept(machines, api).look().reason == "its operator does not run"


def test_processes_and_flags_in_pods_are_mended(machines: Machines, api: Api) -> None:
    said: list[str] = []
    api.tidied = {"stopped": 2, "flags": 1}
    api.ray_pods = (pod("head"), pod("gone", running=False))
    kept(machines, api, said.append).repair_pods()
    assert api.ran == ["head"]
    assert said == [f"kind: repaired {NAME}: 2 processes of head were stopped; head had 1 health flags"]


def test_another_serve_config_is_put_back(machines: Machines, api: Api) -> None:
    api.service = merge(RAY_SERVICE, {"spec": {"serveConfigV2": "applications: [{name: canary}]"}})
    kept(machines, api).repair_pods()
    assert api.service == RAY_SERVICE


def test_a_serve_config_that_is_only_written_otherwise_is_left(machines: Machines, api: Api) -> None:
    otherwise = "applications: [{import_path: 'm:app', name: app}]"
    api.service = merge(RAY_SERVICE, {"spec": {"serveConfigV2": otherwise}})
    said: list[str] = []
    kept(machines, api, said.append).repair_pods()
    assert said == []


# -- whether it is whole --


def test_what_runs_where_it_ran_is_whole_at_once(machines: Machines, api: Api) -> None:
    dashboard = FakeDashboard()
    kept(machines, api).wait_until_whole(as_dashboard(dashboard))


def test_after_something_was_mended_all_has_to_be_well_for_a_while(
    machines: Machines, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kind_reuse, "_HOLDS", 0.7)
    api.tidied = {"stopped": 1, "flags": 0}
    cluster = kept(machines, api)
    cluster.repair_pods()
    dashboard = FakeDashboard(status(), status(states=("RUNNING", "STOPPING")), ObservationError("no head"), status())
    begun = clock.now()
    cluster.wait_until_whole(as_dashboard(dashboard))
    assert clock.now() - begun >= 3 * 0.3 + 0.7, "it counts from the last time when something was missing"


def test_what_does_not_run_in_time_is_given_up(machines: Machines, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kind_reuse, "WHOLE_WITHIN", 0.1)
    api.ray_pods = (pod("head"), pod("worker", running=False))
    with pytest.raises(WaitTimeout, match="worker: Error"):
        kept(machines, api).wait_until_whole(as_dashboard(FakeDashboard()))


def test_replicas_that_have_moved_are_not_adopted(machines: Machines, api: Api) -> None:
    elsewhere = FakeDashboard(status(nodes=("w", "h")))
    with pytest.raises(ClusterError, match="1/1 replicas per node instead of 2"):
        kept(machines, api).wait_until_whole(as_dashboard(elsewhere))


# -- the record --


def test_the_record_says_at_every_moment_what_may_be_relied_upon(machines: Machines, api: Api) -> None:
    api.annotations = {}
    cluster = kept(machines, api)
    cluster.note_machines()
    assert api.record == Record(machines=WANTED.machines)
    cluster.note_all("kuberay", status())
    assert api.record == replace(LEFT, sound=False)
    cluster.vouch()
    assert api.record == LEFT
    kept(machines, api).begin()
    assert api.record == replace(LEFT, sound=False)


def test_where_nobody_can_write_that_all_is_well_the_next_run_does_not_rely_on_it(machines: Machines, api: Api) -> None:
    said: list[str] = []
    cluster = kept(machines, api, said.append)
    cluster.begin()
    api.refuses = "patch_namespace"
    cluster.vouch()
    assert api.record == replace(LEFT, sound=False)
    assert said[0].startswith("kind: the next run will recreate the RayService")


# -- taking it away --


class FakeStack:
    def __init__(self, api: Api, failure: CommandFailed | None = None) -> None:
        self._api = api
        self._failure = failure
        self.seen: tuple[bool | None, Record | None] = (None, None)
        self.scaled: dict[str, int] = {}

    def remove_left_overs(self) -> None:
        self.seen = (self._api.redis, self._api.record)
        self.scaled = dict(self._api.scaled)
        if self._failure:
            raise self._failure


def test_redis_answers_and_nothing_is_relied_upon_before_the_ray_service_goes(machines: Machines, api: Api) -> None:
    api.redis = False
    stack = FakeStack(api)
    assert kept(machines, api).clear(cast("Stack", stack))
    assert stack.seen == (True, replace(LEFT, service="", sound=False))
    assert machines.done == [f"signal 18 to c-redis on {WORKER}"]


def test_a_redis_that_another_run_has_left_without_pods_gets_them_before_the_ray_service_goes(
    machines: Machines, api: Api
) -> None:
    api.redis, api.their_redis = None, 0
    stack = FakeStack(api)
    assert kept(machines, api).clear(cast("Stack", stack))
    assert stack.scaled == {"theirs": 1}


def test_the_redis_that_is_wanted_gets_as_many_pods_as_are_wanted(machines: Machines, api: Api) -> None:
    api.redis, api.their_redis, api.redis_pods = None, 0, (pod("redis-0"), pod("redis-1"))
    repair = ClusterRepair(cast("KindNodes", machines), cast("KubeApi", api))
    repair.redis(RedisStore("StatefulSet", "theirs", replicas=2))
    assert api.scaled == {"theirs": 2}


def test_a_redis_that_has_its_pods_is_not_scaled(machines: Machines, api: Api) -> None:
    kept(machines, api).clear(cast("Stack", FakeStack(api)))
    assert api.scaled == {}


def test_redis_is_waited_for_though_the_api_server_fails_once(
    machines: Machines, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[bool | ObservationError] = [ObservationError("timed out"), False, True]

    def available(name: str) -> bool:
        now = said.pop(0)
        if isinstance(now, ObservationError):
            raise now
        return now

    monkeypatch.setattr(api, "deployment_available", available)
    ClusterRepair(cast("KindNodes", machines), cast("KubeApi", api)).redis(None)
    assert said == []


def test_a_cluster_without_redis_is_cleared_too(machines: Machines, api: Api) -> None:
    api.redis, api.redis_pods = None, ()
    assert kept(machines, api).clear(cast("Stack", FakeStack(api)))


def test_what_does_not_go_takes_the_machines_along_if_they_are_ours(machines: Machines, api: Api) -> None:
    stack = cast("Stack", FakeStack(api, CommandFailed("the RayService's pods did not go")))
    assert not kept(machines, api).clear(stack)
    api.annotations = None
    with pytest.raises(CommandFailed, match="did not go"):
        kept(machines, api).clear(stack)


# -- what follows from the record --


ADOPTABLE = replace(WANTED, spec="5pec", operator="kuberay", placement={"app#Pid": [3, 3]}, sound=True)


@pytest.mark.parametrize(
    ("record", "machines", "step", "reason"),
    [
        (ADOPTABLE, 3, "adopt", ""),
        (replace(ADOPTABLE, sound=False), 3, "renew", "did not leave it as it was"),
        (replace(ADOPTABLE, service="s2"), 3, "renew", "another RayService is wanted"),
        (replace(ADOPTABLE, service="", sound=False), 3, "renew", "has never served"),
        (replace(ADOPTABLE, base="b2"), 3, "install", "other images or another operator"),
        (Record(machines=ADOPTABLE.machines), 3, "install", "never finished"),
        (None, 3, "install", "nothing says what is in it"),
        (
            replace(ADOPTABLE, machines="of kindest/node:v1.33.0"),
            3,
            "create",
            "v1.33.0; wanted: of kindest/node:v1.34.2",
        ),
        (ADOPTABLE, 4, "create", "4 machines for Ray, and 3 are wanted"),
        (None, 2, "create", "2 machines for Ray, and 3 are wanted"),
    ],
)
def test_no_more_is_made_anew_than_must_be(record: Record | None, machines: int, step: Step, reason: str) -> None:
    found = plan(record, WANTED, machines=machines, number=3)
    assert found.step == step
    assert reason in found.reason
    assert bool(found.reason) == (step != "adopt")


def test_a_record_comes_back_from_its_text() -> None:
    assert from_text(to_text(ADOPTABLE)) == ADOPTABLE


@pytest.mark.parametrize("said", ["", "{", "[1]", "{}", '{"machines": "m", "since": "another version"}'])
def test_a_text_that_is_no_record_of_this_version_says_nothing(said: str) -> None:
    assert from_text(said) is None


def test_a_fingerprint_depends_on_every_part_and_on_their_order() -> None:
    assert fingerprint(["a", "b"]) == fingerprint(["a", "b"])
    assert len({fingerprint(parts) for parts in (["a", "b"], ["b", "a"], ["ab"], ["a", "b", ""])}) == 4


def test_the_serve_config_which_is_put_back_is_not_in_the_fingerprint_of_a_spec() -> None:
    spec: dict[str, Json] = {"serveConfigV2": "applications: []", "rayClusterConfig": {"rayVersion": "2.60.0"}}
    changed: dict[str, Json] = {**spec, "serveConfigV2": "applications: [canary]"}
    other: dict[str, Json] = {**spec, "rayClusterConfig": {"rayVersion": "2.61.0"}}
    assert fingerprint_of_spec({"spec": spec}, {}) == fingerprint_of_spec({"spec": changed}, {})
    assert fingerprint_of_spec({"spec": spec}, {}) != fingerprint_of_spec({"spec": other}, {})


def test_a_ray_service_that_was_upgraded_is_the_same_and_one_with_another_annotation_is_not() -> None:
    spec: dict[str, Json] = {"rayClusterConfig": {"headGroupSpec": {"template": {"spec": {"containers": []}}}}}
    upgraded = merge(spec, change_for_upgrade(spec, 10.0))
    assert upgraded != spec
    assert fingerprint_of_spec({"spec": upgraded}, {}) == fingerprint_of_spec({"spec": spec}, {})
    twice = merge(upgraded, change_for_upgrade(upgraded, 10.0))
    assert fingerprint_of_spec({"spec": twice}, {}) == fingerprint_of_spec({"spec": spec}, {})
    theirs: dict[str, Json] = {"template": {"metadata": {"annotations": {"their.own/note": "1"}}}}
    other = merge(spec, {"rayClusterConfig": {"headGroupSpec": theirs}})
    assert fingerprint_of_spec({"spec": other}, {}) != fingerprint_of_spec({"spec": spec}, {})


def test_the_apps_that_are_wanted_stand_in_the_rendered_ray_service() -> None:
    config: dict[str, Json] = {"applications": [{"name": "pid", "import_path": "a:b"}, {"import_path": "c:d"}]}
    settings = render.RayServiceSettings("ray:2.60.0", workers=2, gcs="none", serve_config=config)
    wishes = Wishes(WANTED, render.ray_service(settings), redis=None, number=3)
    assert wishes.apps == {"pid", "default"}


# -- whether what was adopted is whole --


def ray_pod(name: str, *, running: bool = True, ready: bool = True, deleting: bool = False) -> Pod:
    container = Container("ray", f"c-{name}", running, ready, 0, "Running" if running else "Error")
    return Pod(name, name, "kind-worker", "10.0.0.1", "Running", name, deleting, {}, (container,))


PODS = (ray_pod("head"), ray_pod("a"), ray_pod("b"))
NODES = (
    NodeRow("h", "10.0.0.1", "ALIVE", True),
    NodeRow("a", "10.0.0.2", "ALIVE", False),
    NodeRow("b", "10.0.0.3", "ALIVE", False),
    NodeRow("x", "10.0.0.4", "DEAD", False),
)


def replica(number: int, node: str, state: str = "RUNNING") -> ReplicaRow:
    return ReplicaRow(f"r{number}", "app", "Pid", state, None, node, 100 + number)


STATUS = ServeStatus(
    apps={"app": "RUNNING"},
    targets={"app#Pid": 3},
    deployments={"app#Pid": "HEALTHY"},
    messages={},
    replicas=(replica(1, "a"), replica(2, "a"), replica(3, "b")),
    proxies={"h": "HEALTHY", "a": "HEALTHY", "b": "HEALTHY"},
    controller="c",
)


def missing(pods: tuple[Pod, ...] = PODS, status: ServeStatus = STATUS, nodes: tuple[NodeRow, ...] = NODES) -> str:
    return "; ".join(lacks(pods, status, nodes, apps={"app"}, number=3))


def test_a_cluster_in_which_all_runs_is_whole() -> None:
    assert missing() == ""


def test_a_worker_without_replicas_is_never_ready_and_needs_no_proxy() -> None:
    idle = replace(STATUS, replicas=tuple(replica(n, "a") for n in (1, 2, 3)), proxies={"h": "HEALTHY", "a": "HEALTHY"})
    assert missing((ray_pod("head"), ray_pod("a"), ray_pod("b", ready=False)), idle) == ""


@pytest.mark.parametrize(
    "pods",
    [
        PODS[:2],
        (*PODS[:2], ray_pod("b", running=False)),
        (*PODS[:2], ray_pod("b", deleting=True)),
        (*PODS, ray_pod("another")),
    ],
)
def test_pods_must_run_and_be_no_more_and_no_fewer_than_wanted(pods: tuple[Pod, ...]) -> None:
    assert pods[-1].summary in missing(pods)


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (replace(STATUS, apps={}), "app: not there"),
        (replace(STATUS, apps={"app": "DEPLOYING"}), "app: DEPLOYING"),
        (replace(STATUS, apps={"app": "RUNNING", "canary": "DELETING"}), "there is the app canary"),
        (replace(STATUS, replicas=STATUS.replicas[:2]), "app#Pid: 2 of 3 replicas"),
        (replace(STATUS, replicas=(*STATUS.replicas, replica(4, "b"))), "app#Pid: 4 of 3 replicas"),
        (replace(STATUS, replicas=(*STATUS.replicas[:2], replica(3, "b", "STARTING"))), "Pid is STARTING"),
        (replace(STATUS, proxies={**STATUS.proxies, "b": "UNHEALTHY"}), "1 of 3 proxies are not HEALTHY"),
        (replace(STATUS, proxies={"a": "HEALTHY", "b": "HEALTHY"}), "1 of 3 proxies are not HEALTHY"),
    ],
)
def test_what_serve_lacks_is_said(status: ServeStatus, said: str) -> None:
    assert said in missing(status=status)


def test_a_node_that_the_gcs_calls_dead_is_missing() -> None:
    dead = cast("tuple[NodeRow, ...]", (*NODES[:2], replace(NODES[2], state="DEAD")))
    assert missing(nodes=dead) == "2 of 3 Ray nodes ALIVE"


def test_replicas_that_have_moved_are_found_whichever_node_has_how_many() -> None:
    at_first = placement(STATUS)
    assert at_first == {"app#Pid": [2, 1]}
    swapped = replace(STATUS, replicas=(replica(1, "b"), replica(2, "b"), replica(3, "a")))
    assert moved(placement(swapped), at_first) == ""
    together = replace(STATUS, replicas=tuple(replica(n, "a") for n in (1, 2, 3)))
    assert moved(placement(together), at_first) == "app#Pid: 3 replicas per node instead of 2/1"


def test_a_deployment_that_has_scaled_since_then_may_be_anywhere() -> None:
    assert moved({"app#Pid": [1]}, {"app#Pid": [2, 1]}) == ""


def test_where_only_the_head_has_a_proxy_no_worker_needs_one() -> None:
    head_only = replace(STATUS, proxies={"h": "HEALTHY"})
    assert missing(status=replace(head_only, proxy_location="HeadOnly")) == ""
    assert missing(status=replace(head_only, proxy_location="EveryNode")) == "2 of 3 proxies are not HEALTHY"
    assert missing(status=replace(STATUS, proxies={}, proxy_location="HeadOnly")) == "1 of 1 proxies are not HEALTHY"


def test_where_serve_has_put_what_it_scales_is_not_compared() -> None:
    scales: Mapping[str, Json] = {"autoscaling_config": {"min_replicas": 1, "max_replicas": 4}}
    scaled = replace(STATUS, options={"app#Pid": scales})
    together = replace(scaled, replicas=tuple(replica(n, "a") for n in (1, 2, 3)))
    assert moved(placement(together), placement(scaled)) == ""
