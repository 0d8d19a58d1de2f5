"""What the ResourceQuotas, LimitRanges and NetworkPolicies of a RayService file do on kind."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_serve_chaos.cluster.kubernetes.install.file_objects import FileObject
from pytest_serve_chaos.cluster.kubernetes.install.file_quotas import notes, quotas
from pytest_serve_chaos.cluster.kubernetes.install.file_workload import OwnRayService, own_workload
from pytest_serve_chaos.cluster.kubernetes.install.rayservice_file import parse_own_file
from pytest_serve_chaos.cluster.kubernetes.install.workload import Workload
from pytest_serve_chaos.errors import SettingsError
from tests.unit.test_file_needs import FILE, SERVICE, obj

SIZES = {"requests": {"cpu": "1", "memory": "2Gi"}, "limits": {"cpu": "2", "memory": "4Gi"}}


def service(head: Any = SIZES, worker: Any = SIZES, **cluster: Any) -> dict[str, Any]:
    item = copy.deepcopy(SERVICE)
    of_cluster = item["spec"]["rayClusterConfig"]
    of_cluster["headGroupSpec"]["template"]["spec"]["containers"][0]["resources"] = head
    of_cluster["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]["resources"] = worker
    of_cluster.update(cluster)
    return item


def quota(hard: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return obj("ResourceQuota", "team", spec={"hard": hard, **fields})


def sizes(**limits: Any) -> dict[str, Any]:
    return obj("LimitRange", "sizes", spec={"limits": [{"type": "Container", **limits}]})


def redis(replicas: int = 1, memory: str = "1Gi") -> dict[str, Any]:
    resources = {"limits": {"cpu": "1", "memory": memory}}
    pod = {"containers": [{"name": "redis", "image": "redis:7", "resources": resources}]}
    return obj("Deployment", "redis", "apps/v1", spec={"replicas": replicas, "template": {"spec": pod}})


def problems(*objects: dict[str, Any]) -> list[str]:
    return [one.line for one in quotas([FileObject(item, number) for number, item in enumerate(objects, start=1)])]


def told(*objects: dict[str, Any]) -> list[str]:
    return list(notes([FileObject(item, 0) for item in objects]))


def workload(*objects: dict[str, Any]) -> Workload:
    own = parse_own_file(yaml.safe_dump_all(objects, sort_keys=False), FILE)
    return own_workload(OwnRayService(own), {}, lambda _: None)


# -- quotas ------------------------------------------------------------------------------------------------------------


def test_a_quota_that_is_too_small_for_the_file_says_by_how_much_and_what_for() -> None:
    (line,) = problems(quota({"limits.memory": "10Gi", "pods": 4}), redis(), service())
    assert line == (
        "document 1: ResourceQuota team, spec.hard.limits.memory: it allows 10Gi, and the pods of the file need 13Gi"
        " (Deployment redis 1Gi, head 4Gi, 2 x group w 8Gi). To fix this: request less, or allow more in a patch:"
        " {spec: {hard: {limits.memory: 13Gi}}}; or leave the ResourceQuota out: {kind: ResourceQuota, name: team,"
        " patch: null}"
    ).replace("group w 8Gi", "group w 4Gi")


def test_all_of_it_is_refused_with_the_other_needs_before_anything_is_made() -> None:
    text = yaml.safe_dump_all([quota({"limits.memory": "10Gi", "pods": 2}), service(head={})], sort_keys=False)
    with pytest.raises(SettingsError) as caught:
        parse_own_file(text, FILE)
    said = str(caught.value)
    assert "document 1, line" in said
    assert "spec.hard.pods: it allows 2, and the pods of the file need 3" in said
    assert "container ray-head does not say it" in said


@settings(max_examples=40)
@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(0, 6))
def test_a_quota_for_exactly_the_pods_of_the_file_is_enough_and_a_smaller_one_is_not(
    head: int, worker: int, number: int
) -> None:
    item = service({"requests": {"cpu": f"{head}m"}}, {"requests": {"cpu": f"{worker}m"}})
    item["spec"]["rayClusterConfig"]["workerGroupSpecs"][0].update(replicas=number, minReplicas=0)
    each = max(worker, 200)  # KubeRay's init container requests that much
    needed = head + number * each
    assert not problems(quota({"requests.cpu": f"{needed}m"}), item)
    assert len(problems(quota({"requests.cpu": f"{needed - 1}m"}), item)) == 1


def test_the_autoscaler_of_the_head_counts() -> None:
    exact = quota({"limits.cpu": 6})
    assert not problems(exact, service())
    (line,) = problems(exact, service(enableInTreeAutoscaling=True))
    assert "the pods of the file need 6500m" in line
    own = {"resources": {"limits": {"cpu": "2"}}}
    (line,) = problems(exact, service(enableInTreeAutoscaling=True, autoscalerOptions=own))
    assert "need 8 (head 4, 2 x group w 2)" in line


def test_a_suspended_group_has_no_pods() -> None:
    item = service()
    item["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]["suspend"] = True
    assert not problems(quota({"pods": 1}), item)


def test_a_container_that_does_not_say_what_a_quota_counts_is_named_with_its_place() -> None:
    (line,) = problems(quota({"limits.memory": "64Gi", "requests.cpu": 9}), service(worker={"requests": {"cpu": 1}}))
    assert (
        "containers[ray-worker]: ResourceQuota team counts limits.memory, so Kubernetes refuses the pod: container"
        " ray-worker does not say it"
    ) in line
    assert "{resources: {limits: {memory: ...}}}" in line
    assert not problems(quota({"limits.memory": "64Gi"}), sizes(default={"memory": "4Gi"}), service(worker={}))


def test_a_quota_that_counts_other_pods_alone_is_nothing_to_these() -> None:
    assert not problems(quota({"pods": 0}, scopes=["BestEffort"]), service())
    assert not problems(quota({"pods": 0}, scopes=["Terminating"]), service())
    assert problems(quota({"pods": 0}, scopes=["NotTerminating"]), service())


@pytest.mark.parametrize(
    ("name", "enough"),
    [
        ("services.nodeports", 2),
        ("services", 5),
        ("count/services", 5),
        ("configmaps", 3),
        ("count/configmaps", 3),
        ("secrets", 1),
    ],
)
def test_objects_of_the_plugin_and_of_kuberay_count_too(name: str, enough: int) -> None:
    objects = [obj("Service", "redis", spec={}), obj("ConfigMap", "redis"), obj("Secret", "redis"), service()]
    assert not problems(quota({name: enough}), *objects)
    (line,) = problems(quota({name: enough - 1}), *objects)
    assert f"it allows {enough - 1}, and there are {enough} at least" in line


def test_a_quota_of_another_namespace_is_left_out_and_limits_nothing() -> None:
    other = quota({"pods": 0})
    other["metadata"]["namespace"] = "caches"
    assert not problems(other, service())
    made = workload(other, service())
    assert [item["kind"] for item in made.before] == []
    assert any("ResourceQuota team is left out: it is for the namespace caches" in line for line in made.told)


def test_a_quota_without_room_for_an_upgrade_is_mentioned() -> None:
    (line,) = told(quota({"limits.memory": "20Gi"}), redis(), service())
    assert line == (
        "ResourceQuota team allows limits.memory 20Gi, and with a second RayCluster there would be 25Gi: an upgrade"
        " (`rayservice_upgrade`) does not get all of its pods"
    )
    assert not told(quota({"limits.memory": "25Gi"}), redis(), service())


def test_what_fits_is_applied_with_the_rest() -> None:
    made = workload(quota({"pods": 12}), sizes(max={"cpu": 4}), service())
    assert {item["kind"] for item in made.before} == {"ResourceQuota", "LimitRange"}
    assert all(item["metadata"]["namespace"] == "ranking" for item in made.before)  # type: ignore[index,call-overload]


@pytest.mark.parametrize(
    "odd",
    [
        obj("ResourceQuota", "team", spec={"hard": {1: 2, "cpu": ["x"], "pods": None, "memory": {}}}),
        obj("ResourceQuota", "team", spec=[1]),
        obj(
            "ResourceQuota", "team", spec={"hard": "all", "scopes": [1, {}], "scopeSelector": {"matchExpressions": [3]}}
        ),
        obj("LimitRange", "sizes", spec={"limits": [1, {"type": "Container", "max": {2: "x"}, "default": [1]}]}),
        obj("LimitRange", "sizes", spec={"limits": [{"type": "Container", "default": {1: "1"}, "min": {"cpu": None}}]}),
    ],
)
def test_what_is_no_quota_and_no_range_is_left_to_the_api_server(odd: dict[str, Any]) -> None:
    problems(odd, service())
    told(odd, service())


# -- limit ranges ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"max": {"cpu": "1"}}, "containers[ray-worker].resources.limits.cpu: LimitRange sizes refuses the pod: cpu:"
         " each container may have a limit of 1 at most, and not 2"),
        ({"min": {"memory": "3Gi"}}, "resources.requests.memory: LimitRange sizes refuses the pod: memory"),
        ({"min": {"memory": "512Mi"}}, "not 256Mi (container wait-gcs-ready, which KubeRay adds)"),
        ({"maxLimitRequestRatio": {"cpu": "1.5"}}, "1.5 times its request at most, and not 2 for 1"),
    ],
)  # fmt: skip
def test_a_limit_range_that_refuses_ray_pods_is_named_with_the_field(limits: dict[str, Any], said: str) -> None:
    assert any(said in line for line in problems(sizes(**limits), service()))


def test_a_limit_that_a_range_gives_to_ray_is_mentioned_and_one_that_it_does_not_is_not() -> None:
    lines = told(sizes(default={"cpu": "1", "memory": "512Mi"}), service(head={}))
    assert lines == [
        "LimitRange sizes limits container ray-head (head) to cpu 1, memory 512Mi, which the file itself does not"
    ]
    assert not told(sizes(default={"cpu": "1"}), service())


# -- network policies --------------------------------------------------------------------------------------------------


def policy(selector: dict[str, Any], *rules: dict[str, Any], **fields: Any) -> dict[str, Any]:
    spec = {"podSelector": selector, "ingress": list(rules), **fields}
    return obj("NetworkPolicy", "only-ours", "networking.k8s.io/v1", spec=spec)


WAYS_IN = {"ports": [{"port": 8000, "protocol": "TCP"}, {"port": 8265, "protocol": "TCP"}]}
FROM_RAY = {"from": [{"podSelector": {"matchLabels": {"ray.io/is-ray-node": "yes"}}}]}


def rules_of(made: Workload) -> Any:
    (item,) = (item for item in made.before if item["kind"] == "NetworkPolicy")
    return item["spec"]["ingress"]  # type: ignore[index,call-overload]


@pytest.mark.parametrize(
    "selector",
    [
        {},
        {"matchLabels": {"ray.io/node-type": "head"}},
        {"matchLabels": {"app": "ranker"}},
        {"matchExpressions": [{"key": "app", "operator": "In", "values": ["ranker", "other"]}]},
        {"matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]},
    ],
)
def test_a_policy_about_ray_pods_lets_in_the_node_ports_and_the_operator_too(selector: dict[str, Any]) -> None:
    item = service()
    item["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]["metadata"] = {"labels": {"app": "ranker"}}
    made = workload(policy(selector, FROM_RAY), item)
    assert rules_of(made) == [FROM_RAY, WAYS_IN]
    assert any(
        "NetworkPolicy only-ours also lets everybody in at the ports 8000 and 8265" in line for line in made.told
    )


@pytest.mark.parametrize(
    "given",
    [
        policy({"matchLabels": {"app": "redis"}}, FROM_RAY),
        policy({"matchExpressions": [{"key": "app", "operator": "Exists"}]}, FROM_RAY),
        policy({}, FROM_RAY, policyTypes=["Egress"]),
        policy({}, {}),
    ],
    ids=["others-by-label", "others-by-expression", "egress-alone", "everybody"],
)
def test_any_other_policy_stays_as_it_is(given: dict[str, Any]) -> None:
    made = workload(given, service())
    assert rules_of(made) == given["spec"]["ingress"]
    assert not any("NetworkPolicy" in line for line in made.told)


def test_a_policy_that_lets_nobody_in_is_opened_for_these_alone() -> None:
    nobody = policy({}, policyTypes=["Ingress", "Egress"], egress=[])
    del nobody["spec"]["ingress"]
    made = workload(nobody, service())
    assert rules_of(made) == [WAYS_IN]


def test_the_file_stays_as_it_is(tmp_path: Path) -> None:
    given = policy({}, FROM_RAY)
    before = copy.deepcopy(given)
    workload(given, service())
    assert given == before
