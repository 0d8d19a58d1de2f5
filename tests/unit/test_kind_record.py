"""What follows from the record of a kept kind cluster, and whether what was adopted is whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

import pytest

from pytest_serve_chaos.cluster.kubernetes.client.records import Container, Pod
from pytest_serve_chaos.cluster.kubernetes.install import render
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
from pytest_serve_chaos.cluster.kubernetes.rayservice.upgrades import change_for_upgrade
from pytest_serve_chaos.cluster.rest import NodeRow, ReplicaRow, ServeStatus
from pytest_serve_chaos.manifests import merge
from pytest_serve_chaos.model import Json

WANTED = Record(machines="of kindest/node:v1.34.2", base="b1", service="s1")
LEFT = replace(WANTED, spec="5pec", operator="kuberay", placement={"app#Pid": [3, 3]}, sound=True)


@pytest.mark.parametrize(
    ("record", "machines", "step", "reason"),
    [
        (LEFT, 3, "adopt", ""),
        (replace(LEFT, sound=False), 3, "renew", "did not leave it as it was"),
        (replace(LEFT, service="s2"), 3, "renew", "another RayService is wanted"),
        (replace(LEFT, service="", sound=False), 3, "renew", "has never served"),
        (replace(LEFT, base="b2"), 3, "install", "other images or another operator"),
        (Record(machines=LEFT.machines), 3, "install", "never finished"),
        (None, 3, "install", "nothing says what is in it"),
        (replace(LEFT, machines="of kindest/node:v1.33.0"), 3, "create", "v1.33.0; wanted: of kindest/node:v1.34.2"),
        (LEFT, 4, "create", "4 machines for Ray, and 3 are wanted"),
        (None, 2, "create", "2 machines for Ray, and 3 are wanted"),
    ],
)
def test_no_more_is_made_anew_than_must_be(record: Record | None, machines: int, step: Step, reason: str) -> None:
    found = plan(record, WANTED, machines=machines, number=3)
    assert found.step == step
    assert reason in found.reason
    assert bool(found.reason) == (step != "adopt")


def test_a_record_comes_back_from_its_text() -> None:
    assert from_text(to_text(LEFT)) == LEFT


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


# -- whether it is whole --


def pod(name: str, *, running: bool = True, ready: bool = True, deleting: bool = False) -> Pod:
    container = Container("ray", f"c-{name}", running, ready, 0, "Running" if running else "Error")
    return Pod(name, name, "kind-worker", "10.0.0.1", "Running", name, deleting, {}, (container,))


PODS = (pod("head"), pod("a"), pod("b"))
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
    assert missing((pod("head"), pod("a"), pod("b", ready=False)), idle) == ""


@pytest.mark.parametrize(
    "pods",
    [PODS[:2], (*PODS[:2], pod("b", running=False)), (*PODS[:2], pod("b", deleting=True)), (*PODS, pod("another"))],
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
