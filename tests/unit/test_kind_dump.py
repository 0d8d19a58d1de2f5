"""The comparison of a cluster before and after: it must not miss a change, nor take a replaced pod for one."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import cast

import pytest

from pytest_serve_chaos.cluster.kubernetes.client.records import mapped
from pytest_serve_chaos.manifests import Manifest, merge
from pytest_serve_chaos.model import Json
from tests.kind.dump import differences, normalised, take


def ray_pod(name: str, node: str = "node-1", *, role: str = "worker", start: str = "ray start --a=1 --b=2") -> Manifest:
    token = f"kube-api-access-{name}"
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "generateName": "ray-",
            "namespace": "ml",
            "uid": f"uid-{name}",
            "resourceVersion": name,
            "creationTimestamp": name,
            "labels": {"ray.io/node-type": role, "app": "ranker"},
            "ownerReferences": [{"kind": "RayCluster", "name": "ranker-abcde", "uid": "c", "controller": True}],
        },
        "spec": {
            "nodeName": node,
            "volumes": [{"name": token}],
            "containers": [{"args": [f"ulimit -n 65536; {start}"], "volumeMounts": [{"name": token}]}],
        },
        "status": {"podIP": name},
    }


def node(name: str, spec: Manifest) -> Manifest:
    metadata: Json = {"name": name, "uid": "n", "labels": {"role": "ray"}, "resourceVersion": str(spec)}
    return {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": spec, "status": {"spec": str(spec)}}


def rayservice(**changes: Json) -> Manifest:
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "metadata": {"name": "ranker", "namespace": "ml", "uid": "s", "generation": 1, "annotations": {}},
        "spec": {"serveConfigV2": "applications: []"},
        **changes,
    }


def changes(before: list[Manifest], after: list[Manifest]) -> list[str]:
    return differences(normalised(before), normalised(after))


def test_pods_that_were_replaced_are_the_same() -> None:
    before = [ray_pod("a"), ray_pod("b", "node-2"), ray_pod("h", role="head")]
    after = [
        ray_pod("c", "node-2", start="ray start --b=2 --a=1"),
        merge(ray_pod("i", "node-3", role="head"), {"metadata": {"labels": {"ray.io/serve": "true"}}}),
        ray_pod("d", "node-1"),
    ]
    assert changes(before, after) == []


def test_what_only_tells_of_what_happens_does_not_count() -> None:
    told: list[Manifest] = [
        {"apiVersion": version, "kind": kind, "metadata": {"name": "x", "namespace": "ml"}}
        for version, kind in [("v1", "Event"), ("coordination.k8s.io/v1", "Lease"), ("v1", "Endpoints")]
    ]
    assert changes(told, []) == []
    assert changes([rayservice(status={"a": 1})], [rayservice(status={"b": 2})]) == []


@pytest.mark.parametrize(
    ("patch", "seen"),
    [
        ({"metadata": {"labels": {"app": "other"}}}, '"app": "other"'),
        ({"metadata": {"annotations": {"who": "was here"}}}, "was here"),
        ({"spec": {"containers": [{"args": ["sleep"]}]}}, "sleep"),
    ],
)
def test_a_pod_that_is_another_than_its_template_made_is_seen(patch: Manifest, seen: str) -> None:
    (change,) = changes([ray_pod("a")], [merge(ray_pod("b"), patch)])
    assert change.startswith("changed: Pod ml/of RayCluster ranker-abcde: ")
    assert seen in change


def test_a_pod_that_is_missing_or_of_nobody_is_seen() -> None:
    stray = merge(ray_pod("s"), {"metadata": {"ownerReferences": []}})
    assert changes([ray_pod("a"), ray_pod("b")], [ray_pod("a")]) == [
        "changed: Pod ml/of RayCluster ranker-abcde: 1 instead of 2"
    ]
    assert changes([], [stray]) == ["new: Pod ml/s"]
    assert changes([stray], [merge(stray, {"metadata": {"uid": "another"}})]) != []


@pytest.mark.parametrize(
    "spec",
    [
        {"unschedulable": True},
        {"taints": [{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule", "timeAdded": "now"}]},
    ],
)
def test_a_node_that_is_still_cordoned_is_seen(spec: Manifest) -> None:
    (change,) = changes([node("n", {})], [node("n", spec)])
    assert "unschedulable" in change


def test_who_set_a_nodes_fields_is_no_change() -> None:
    before, after = node("n", {}), node("n", {})
    mapped(after["metadata"])["managedFields"] = [{"manager": "pytest-serve-chaos"}]
    assert changes([before], [after]) == []


def test_taints_are_the_same_in_any_order_and_whenever_they_were_added() -> None:
    one: Json = {"key": "a", "effect": "NoSchedule", "timeAdded": "yesterday"}
    other: Json = {"key": "b", "effect": "NoSchedule"}
    younger: Json = {"key": "a", "effect": "NoSchedule", "timeAdded": "today"}
    assert changes([node("n", {"taints": [one, other]})], [node("n", {"taints": [other, younger]})]) == []


@pytest.mark.parametrize(
    "patch",
    [
        {"spec": {"serveConfigV2": "applications: [a]"}},
        {"metadata": {"annotations": {"a": "b"}}},
        {"metadata": {"uid": "made anew"}},
        {"metadata": {"finalizers": ["ours"]}},
    ],
)
def test_an_object_that_was_changed_or_made_anew_is_seen(patch: Manifest) -> None:
    (change,) = changes([rayservice()], [merge(rayservice(), patch)])
    assert change.startswith("changed: RayService.ray.io ml/ranker: ")


def test_objects_that_came_or_went_are_named() -> None:
    role: Manifest = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "x"}}
    assert changes([role], [rayservice()]) == [
        "gone: ClusterRole.rbac.authorization.k8s.io x",
        "new: RayService.ray.io ml/ranker",
    ]


def test_what_a_secret_says_is_compared_and_not_shown() -> None:
    def secret(value: str) -> Manifest:
        return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"key": value}}

    (change,) = changes([secret("b2xk")], [secret("bmV3")])
    assert "b2xk" not in change
    assert "bmV3" not in change


def test_the_objects_of_before_are_left_as_they_are() -> None:
    item = ray_pod("a")
    before = copy.deepcopy(item)
    normalised([item])
    assert item == before


def test_all_kinds_that_can_be_listed_are_taken() -> None:
    asked: list[tuple[str, ...]] = []

    def kubectl(*arguments: str) -> str:
        asked.append(arguments)
        return "pods\nnodes\n" if arguments[0] == "api-resources" else json.dumps({"items": [node("n", {})]})

    assert list(take(cast("Callable[..., str]", kubectl))) == ["Node n"]
    assert asked[1] == ("get", "pods,nodes", "-A", "-o", "json")
