"""Whether the ResourceQuotas and LimitRanges of a namespace let what is lost be replaced."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_serve_chaos.analysis.configuration import Configuration, Room
from pytest_serve_chaos.analysis.configuration import check as check_for
from pytest_serve_chaos.backends.kubernetes import KUBERNETES
from pytest_serve_chaos.cluster.capabilities import KNOWS_ITS_SETUP
from pytest_serve_chaos.cluster.kubernetes.client.limit_ranges import DEFAULTS_NOTE, limit_range
from pytest_serve_chaos.cluster.kubernetes.client.quotas import Quota, quota
from pytest_serve_chaos.cluster.kubernetes.rayservice.room import Limits, room
from pytest_serve_chaos.faults.catalogue import BUILT_IN
from pytest_serve_chaos.model import Json
from tests.capabilities import part
from tests.unit.api_server import ApiServer
from tests.unit.external_services import running
from tests.unit.histories import cluster as topology
from tests.unit.test_configuration import DEPLOYMENTS, KIND, SOUND
from tests.unit.test_external_start import PODS, QUOTAS, RANGES, external, server, settings

__all__ = ["server"]  # the fixture

SIZES: Json = {"requests": {"cpu": "1", "memory": "4Gi"}, "limits": {"cpu": "2", "memory": "4Gi"}}


def pod(resources: Json = SIZES, **metadata: Json) -> dict[str, Any]:
    return {"metadata": metadata, "spec": {"containers": [{"name": "ray", "resources": resources}]}}


def ray(**others: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {"head": pod(), "worker-1": pod(), "worker-2": pod()} | others


def team(hard: dict[str, Json], used: dict[str, Json]) -> Quota:
    return quota({"metadata": {"name": "team"}, "spec": {"hard": hard}, "status": {"hard": hard, "used": used}})


def sizes(**limits: Json) -> Any:
    return limit_range({"metadata": {"name": "sizes"}, "spec": {"limits": [{"type": "Container", **limits}]}})


def refused(limits: Limits, pods: Mapping[str, Mapping[str, Json]] | None = None) -> Mapping[str, str]:
    return room(limits, ray() if pods is None else pods, several=True).refused


# -- a pod in place of another -----------------------------------------------------------------------------------------


def test_a_quota_that_is_full_lets_a_lost_pod_be_replaced() -> None:
    assert refused(Limits([team({"limits.memory": "12Gi", "pods": 3}, {"limits.memory": "12Gi", "pods": 3})])) == {}


def test_a_quota_of_which_more_is_used_than_it_allows_does_not() -> None:
    lowered = team({"limits.memory": "10Gi", "pods": 3}, {"limits.memory": "12Gi", "pods": 3})
    why = "ResourceQuota team allows limits.memory 10Gi, and 12Gi is used already"
    assert refused(Limits([lowered])) == {"": why}


def test_it_does_not_matter_to_pods_that_use_nothing_of_it() -> None:
    lowered = team({"requests.nvidia.com/gpu": 1}, {"requests.nvidia.com/gpu": 2})
    gpu: Json = {"limits": {"nvidia.com/gpu": 1}}
    assert refused(Limits([lowered])) == {}
    assert list(refused(Limits([lowered]), ray(**{"worker-2": pod(gpu)}))) == ["worker-2"]


@given(st.integers(1, 100), st.integers(0, 100), st.integers(1, 50))
def test_a_pod_is_replaced_exactly_if_what_its_end_frees_is_enough(hard: int, used: int, wanted: int) -> None:
    """The API server admits a pod if what is used then, and what it wants, are at most what is allowed."""
    of_pod: Json = {"requests": {"cpu": str(wanted)}}
    used += wanted  # by itself
    found = room(Limits([team({"cpu": hard}, {"cpu": used})]), {"head": pod(of_pod)}, several=False)
    assert bool(found.refused) is ((used - wanted) + wanted > hard)


def test_a_quota_that_came_later_may_want_what_the_pods_do_not_say() -> None:
    later = team({"limits.cpu": 100}, {"limits.cpu": 4})
    head = pod({"requests": {"cpu": 1}})
    why = "ResourceQuota team counts limits.cpu, which container ray does not say"
    assert refused(Limits([later]), ray(head=head)) == {"head": why}
    assert refused(Limits([later], sizes(default={"cpu": "2"})), ray(head=head)) == {}


def test_a_limit_range_that_came_later_refuses_what_runs() -> None:
    limits = Limits((), sizes(max={"memory": "2Gi"}))
    why = "LimitRange sizes: memory: each container may have a limit of 2Gi at most, and not 4Gi"
    assert refused(limits) == {"": why}


def test_what_a_limit_range_gave_once_its_successor_need_not_get() -> None:
    limits = Limits((), sizes(max={"memory": "2Gi"}))
    given_by_it: Json = {DEFAULTS_NOTE: "LimitRanger plugin set: memory limit for container ray"}
    assert refused(limits, {"head": pod(annotations=given_by_it)}) == {}


# -- a second cluster --------------------------------------------------------------------------------------------------


def test_a_second_cluster_needs_as_much_again() -> None:
    enough = team({"limits.memory": "24Gi"}, {"limits.memory": "12Gi"})
    assert room(Limits([enough]), ray(), several=True).second == ""
    short = team({"limits.memory": "23Gi"}, {"limits.memory": "12Gi"})
    said = "ResourceQuota team has limits.memory 11Gi left, and a second RayCluster needs 12Gi"
    assert room(Limits([short]), ray(), several=True) == Room({}, said)
    assert room(Limits([short]), ray(), several=False) == Room()


def test_a_quota_for_one_ray_cluster_has_no_second() -> None:
    one = team({"count/rayclusters.ray.io": 1}, {"count/rayclusters.ray.io": 1})
    assert "a second RayCluster needs 1" in room(Limits([one]), ray(), several=True).second


# -- warnings ----------------------------------------------------------------------------------------------------------


def warnings(of: Room) -> dict[str, Any]:
    found = check_for(Configuration(KIND, replace(SOUND, room=of), topology(), DEPLOYMENTS), BUILT_IN)
    return {warning.code: warning for warning in found}


def test_what_cannot_be_replaced_is_a_warning_for_the_faults_after_which_a_pod_is_made() -> None:
    warning = warnings(Room({"worker-1": "ResourceQuota team allows pods 3, and 4 is used already"}))["no_replacement"]
    assert warning.line == (
        "ResourceQuota team allows pods 3, and 4 is used already: Kubernetes refuses the pod that would replace that of"
        " worker-1. To fix this: change that ResourceQuota, or LimitRange."
    )
    assert warning.node == "worker-1"
    assert set(warning.faults) == {"head_failure", "worker_failure", "node_failure"}
    assert warnings(Room({"": "why"}))["no_replacement"].node == ""


def test_what_a_second_cluster_lacks_is_a_warning_for_an_upgrade_alone() -> None:
    found = warnings(Room(second="ResourceQuota team has pods 1 left, and a second RayCluster needs 3"))
    assert set(found) == {"no_room_for_upgrade"}
    assert found["no_room_for_upgrade"].faults == ("rayservice_upgrade",)


# -- an external cluster -----------------------------------------------------------------------------------------------


def limited(server: ApiServer) -> None:
    """Its namespace has a quota that was lowered, and its pods say what they request."""
    pods = [running("ranker-abcde-head-x"), running("ranker-abcde-worker-y")]
    for item, role in zip(pods, ("head", "worker"), strict=True):
        item["metadata"] = {**item["metadata"], "uid": role, "labels": {"ray.io/node-type": role}}  # type: ignore[dict-item]
        item["spec"] = {"nodeName": "node-1", "containers": [{"name": "ray-head", "resources": copy.deepcopy(SIZES)}]}
    server.objects[PODS] = {"items": [*pods]}
    status: Json = {"hard": {"limits.memory": "6Gi"}, "used": {"limits.memory": "8Gi"}}
    server.objects[QUOTAS] = {"items": [{"metadata": {"name": "team"}, "spec": {}, "status": status}]}


WHY = "ResourceQuota team allows limits.memory 6Gi, and 8Gi is used already"


def test_an_external_cluster_is_looked_at_before_the_first_change(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited(server)
    cluster = external(settings(server, tmp_path, monkeypatch), tmp_path)
    found = part(cluster, KNOWS_ITS_SETUP).setup()
    cluster.close()
    assert found.room == Room({"": WHY}), "and nothing of an upgrade, which the plugin does not make there"


@pytest.mark.parametrize("path", [QUOTAS, RANGES])
def test_what_may_not_be_looked_at_is_no_error(
    server: ApiServer, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited(server)
    right = f"list {path.rpartition('/')[2]}"
    server.forbidden.add(path)
    server.lacking.add(right)
    told: list[str] = []
    cluster = external(settings(server, tmp_path, monkeypatch), tmp_path, told.append)
    found = part(cluster, KNOWS_ITS_SETUP).setup()
    cluster.close()
    assert found.room == Room()
    assert found.machines, "all else is known"
    (line,) = (line for line in told if "could not be looked at" in line)
    assert line.endswith(f"this user may not {right}")


def doctors(server: ApiServer, directory: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    findings = KUBERNETES.doctor(settings(server, directory, monkeypatch))
    (found,) = (finding for finding in findings if finding.what == "room for pods")
    assert not found.needed
    return found


def test_the_doctor_says_what_would_be_refused(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert doctors(server, tmp_path, monkeypatch).line.endswith("there are no ResourceQuotas and no LimitRanges")
    limited(server)
    found = doctors(server, tmp_path, monkeypatch)
    assert not found.ok
    assert found.found.startswith(f"each Ray pod cannot be replaced: {WHY}; for an upgrade by its owner: ")


def test_the_doctor_says_that_each_pod_can_be_replaced_though_there_is_no_room_for_an_upgrade(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited(server)
    status: Json = {"hard": {"limits.memory": "9Gi"}, "used": {"limits.memory": "8Gi"}}
    server.objects[QUOTAS] = {"items": [{"metadata": {"name": "team"}, "spec": {}, "status": status}]}
    found = doctors(server, tmp_path, monkeypatch)
    assert found.ok
    assert found.found == (
        "each Ray pod can be replaced; for an upgrade by its owner: ResourceQuota team has limits.memory 1Gi left, and"
        " a second RayCluster needs 8Gi"
    )


def test_the_doctor_says_what_it_may_not_look_at(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.lacking.add("list limitranges")
    found = doctors(server, tmp_path, monkeypatch)
    assert (found.ok, found.fix) == (False, "serve-chaos rbac ml/ranker --tier look")
    assert found.found == "could not be looked at: this user may not list limitranges"


def test_a_quantity_of_a_pod_is_exact() -> None:
    three = {name: pod({"requests": {"cpu": "100m"}}) for name in ("head", "worker-1", "worker-2")}
    exact = Quota("team", {"cpu": Fraction(3, 10)})
    assert room(Limits([exact]), three, several=True).second == ""
