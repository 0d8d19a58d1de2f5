"""What ResourceQuotas count of pods, and what LimitRanges give them and refuse."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pytest_serve_chaos.cluster.kubernetes.client.limit_ranges import limit_range, refusals, with_defaults
from pytest_serve_chaos.cluster.kubernetes.client.pod_resources import counted, of_container, of_pod
from pytest_serve_chaos.cluster.kubernetes.client.quotas import Quota, quota

GI = Fraction(2**30)


def spec(text: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def container(name: str = "ray", **resources: dict[str, str]) -> dict[str, Any]:
    return {"name": name, "resources": resources}


# -- what a pod counts -------------------------------------------------------------------------------------------------


def test_the_largest_init_container_counts_if_it_wants_more_than_the_others_together() -> None:
    pod = spec("""
        initContainers:
          - {name: a, resources: {requests: {cpu: 3}}}
          - {name: proxy, restartPolicy: Always, resources: {requests: {cpu: 500m}}}
          - {name: b, resources: {requests: {cpu: 1, memory: 1Gi}}}
        containers:
          - {name: ray, resources: {requests: {cpu: 1}}}
          - {name: logs, resources: {requests: {cpu: 250m}}}
    """)
    assert of_pod(pod, "requests") == {"cpu": 3, "memory": GI}
    pod["containers"][0]["resources"]["requests"]["cpu"] = 4
    assert of_pod(pod, "requests")["cpu"] == Fraction("4.75")


def test_a_container_with_a_limit_alone_requests_as_much() -> None:
    pod: dict[str, Any] = {
        "containers": [container(limits={"cpu": "2", "nvidia.com/gpu": "1"}, requests={"memory": "1Gi"})]
    }
    assert counted(pod) == {
        "pods": 1,
        "count/pods": 1,
        "cpu": 2,
        "requests.cpu": 2,
        "limits.cpu": 2,
        "memory": GI,
        "requests.memory": GI,
        "requests.nvidia.com/gpu": 1,
    }


def test_what_a_pod_says_itself_is_instead_of_the_sum() -> None:
    pod: dict[str, Any] = {
        "resources": {"requests": {"cpu": "1"}},
        "containers": [container(requests={"cpu": "5", "memory": "1Gi"})],
    }
    assert of_pod(pod, "requests") == {"cpu": 1, "memory": GI}


@given(st.lists(st.integers(0, 8000), max_size=4), st.lists(st.integers(0, 8000), min_size=1, max_size=4))
def test_a_pod_requests_at_least_what_each_container_does(before: list[int], alongside: list[int]) -> None:
    pod: dict[str, Any] = {
        "initContainers": [container(requests={"cpu": f"{n}m"}) for n in before],
        "containers": [container(requests={"cpu": f"{n}m"}) for n in alongside],
    }
    whole = of_pod(pod, "requests")["cpu"]
    assert whole >= max(Fraction(n, 1000) for n in (*before, *alongside))
    assert whole in {Fraction(sum(alongside), 1000), *(Fraction(n, 1000) for n in before)}


# -- quotas ------------------------------------------------------------------------------------------------------------


def test_what_a_cluster_enforces_is_in_the_status() -> None:
    item = spec("""
        metadata: {name: team}
        spec: {hard: {limits.cpu: 8}}
        status: {hard: {limits.cpu: 4}, used: {limits.cpu: 1500m}}
    """)
    found = quota(item)
    assert found == Quota("team", {"limits.cpu": Fraction(4)}, {"limits.cpu": Fraction("1.5")})
    assert found.lacks({"limits.cpu": Fraction("2.5"), "pods": Fraction(9)}) == {}
    assert found.lacks({"limits.cpu": Fraction("2.6")}) == {"limits.cpu": Fraction("2.6")}


@pytest.mark.parametrize(
    ("scope", "pod", "counts"),
    [
        ({}, {}, True),
        ({"scopes": ["BestEffort"]}, {"containers": [container()]}, True),
        ({"scopes": ["BestEffort"]}, {"containers": [container(limits={"cpu": "1"})]}, False),
        ({"scopes": ["NotBestEffort"]}, {"containers": [container(limits={"cpu": "1"})]}, True),
        ({"scopes": ["NotBestEffort", "Terminating"]}, {"containers": [container(limits={"cpu": "1"})]}, False),
        ({"scopes": ["Terminating"]}, {"activeDeadlineSeconds": 5}, True),
        ({"scopes": ["NotTerminating"]}, {}, True),
        ({"scopes": ["CrossNamespacePodAffinity"]}, {}, False),
        ({"scopes": ["PriorityClass"]}, {"priorityClassName": "high"}, True),
        ({"scopes": ["PriorityClass"]}, {}, False),
    ],
)
def test_a_quota_counts_the_pods_of_its_scopes(scope: Any, pod: Any, counts: bool) -> None:
    assert quota({"spec": scope}).counts(pod) is counts


@pytest.mark.parametrize(
    ("operator", "values", "class_of_pod", "counts"),
    [
        ("In", ["high", "low"], "low", True),
        ("In", ["high"], "low", False),
        ("NotIn", ["high"], "low", True),
        ("NotIn", ["high"], "", False),
        ("Exists", [], "low", True),
        ("DoesNotExist", [], "", False),
    ],
)
def test_a_quota_for_priority_classes_is_judged_only_where_it_surely_counts_a_pod(
    operator: str, values: list[str], class_of_pod: str, counts: bool
) -> None:
    one: dict[str, Any] = {"scopeName": "PriorityClass", "operator": operator, "values": values}
    found = quota({"spec": {"scopeSelector": {"matchExpressions": [one]}}})
    assert found.counts({"priorityClassName": class_of_pod}) is counts


def test_each_container_says_what_a_quota_counts() -> None:
    counted_by = Quota("team", {"limits.memory": GI, "cpu": Fraction(4), "pods": Fraction(9), "requests.storage": GI})
    pod: dict[str, Any] = {
        "initContainers": [container("wait", limits={"cpu": "1", "memory": "1Gi"})],
        "containers": [container("ray", requests={"cpu": "1"}), container("logs")],
    }
    assert counted_by.unsaid_by(pod) == {"ray": ["limits.memory"], "logs": ["limits.memory", "cpu"]}
    assert counted_by.unsaid_by({**pod, "resources": {"limits": {"memory": "4Gi"}}}) == {}


# -- limit ranges ------------------------------------------------------------------------------------------------------


def ranges(text: str) -> Any:
    return limit_range({"metadata": {"name": "sizes"}, "spec": {"limits": [spec(text)]}})


def only_container(pod: dict[str, Any], found: Any) -> dict[str, Any]:
    changed: Any = with_defaults(pod, found)
    (ray,) = changed["containers"]
    return dict(ray)


def test_a_container_gets_the_defaults_as_the_api_server_fills_them_in() -> None:
    # Without `default` the limit is `max`; without `defaultRequest` the request is the limit; without both, `min`.
    found = ranges("{type: Container, max: {memory: 4Gi}, default: {cpu: 1}, min: {ephemeral-storage: 1Gi}}")
    ray = only_container({"containers": [{"name": "ray"}]}, found)
    assert of_container(ray, "limits") == {"cpu": 1, "memory": 4 * GI}
    assert of_container(ray, "requests") == {"cpu": 1, "memory": 4 * GI, "ephemeral-storage": GI}


def test_a_container_keeps_what_it_says_itself() -> None:
    found = ranges("{type: Container, default: {cpu: 1}, defaultRequest: {cpu: 500m}}")
    ray = only_container({"containers": [container(limits={"cpu": "4"})]}, found)
    assert of_container(ray, "limits") == of_container(ray, "requests") == {"cpu": 4}


@pytest.mark.parametrize(
    ("limits", "resources", "said"),
    [
        ("{type: Container, max: {cpu: 2}}", {"limits": {"cpu": "8"}}, "a limit of 2 at most, and not 8"),
        ("{type: Container, max: {cpu: 2}}", {"limits": {"cpu": "2"}}, ""),
        ("{type: Container, max: {cpu: 2}}", {}, ""),
        ("{type: Container, min: {cpu: 1}}", {"requests": {"cpu": "500m"}}, "must request 1 at least, and not 500m"),
        ("{type: Container, min: {cpu: 1}}", {}, ""),
        ("{type: Container, default: {cpu: 1}}", {"requests": {"cpu": "4"}}, "gives the limit 1 to a container that"),
        ("{type: Container, maxLimitRequestRatio: {cpu: 2}}", {"limits": {"cpu": "4"}, "requests": {"cpu": "1"}},
         "2 times its request at most, and not 4 for 1"),
        ("{type: Container, maxLimitRequestRatio: {cpu: 2}}", {"limits": {"cpu": "4"}}, ""),
        ("{type: Pod, max: {memory: 8Gi}}", {"limits": {"memory": "9Gi"}}, "each pod may have a limit of 8Gi at most"),
        ("{type: Pod, max: {memory: 8Gi}}", {}, "each pod must have a limit of 8Gi at most, and there is no limit"),
        ("{type: Pod, min: {memory: 8Gi}}", {}, "each pod must request 8Gi at least, and there is no request"),
        ("{type: PersistentVolumeClaim, max: {storage: 1Gi}}", {}, ""),
    ],
)  # fmt: skip
def test_a_pod_is_refused_as_the_limit_ranger_refuses_it(limits: str, resources: Any, said: str) -> None:
    found = ranges(limits)
    pod = with_defaults({"containers": [container(**resources)]}, found)
    refused = [one.what for one in refusals(pod, found)]
    assert (said in " ".join(refused)) if said else not refused


@given(st.integers(1, 64), st.integers(1, 64), st.integers(1, 64))
def test_defaults_of_a_range_are_within_it(least: int, given_by_default: int, most: int) -> None:
    low, middle, high = sorted((least, given_by_default, most))
    found = ranges(f"{{type: Container, min: {{cpu: {low}}}, default: {{cpu: {middle}}}, max: {{cpu: {high}}}}}")
    assert not list(refusals(with_defaults({"containers": [{"name": "ray"}]}, found), found))
