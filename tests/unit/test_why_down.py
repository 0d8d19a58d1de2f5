"""A node that is down is said to be so in Kubernetes' own words: what its pod waits for, and how it ended."""

from __future__ import annotations

import pytest

from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.cluster.kubernetes.client import records
from pytest_serve_chaos.cluster.kubernetes.client.records import Pod
from pytest_serve_chaos.cluster.kubernetes.rayservice.cluster import RayServiceCluster
from pytest_serve_chaos.model import Json
from pytest_serve_chaos.observe.observer import Observer, Report
from pytest_serve_chaos.observe.shape import Shape, lacks
from tests.unit.rayservices import FakeApi, FakeDashboard, cluster, cluster_on, pod, view_of

BACK_OFF = "back-off 1m20s restarting failed container=ray-head pod=serve-chaos-abcde-head-x7k2p_serve-chaos(0b9c1f62)"
CRASHES: dict[str, Json] = {"reason": "CrashLoopBackOff"}
NO_ROOM = (
    "0/4 nodes are available: 1 node(s) had untolerated taint {node-role.kubernetes.io/control-plane: }, 3 node(s)"
    " didn't match pod anti-affinity rules. preemption: 0/4 nodes are available: 4 Preemption is not helpful."
)
UNSCHEDULED: Json = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": NO_ROOM}]


def head(state: Json = None, *, deleting: bool = False, node: str = "", **status: Json) -> Pod:
    """A head's pod as the API server gives it."""
    reported: Json = [{"name": "ray-head", "state": state, "restartCount": 4}] if state else []
    metadata: Json = {
        "name": "head",
        "uid": "h",
        "labels": {names.RAY_NODE_TYPE: "head"},
        "deletionTimestamp": "2026-11-22T10:00:00Z" if deleting else None,
    }
    spec: Json = {"nodeName": node, "containers": [{"name": "ray-head"}], "initContainers": [{"name": "wait-gcs"}]}
    return records.pod(
        {"metadata": metadata, "spec": spec, "status": {"phase": "Pending", "containerStatuses": reported, **status}}
    )


def said_of(service: RayServiceCluster, name: str = "head") -> str:
    """What is said to be missing of a cluster that needs nothing but this node."""
    wanted = Shape(frozenset({name}), {}, {}, frozenset(), redis=False)
    return lacks(Observer(service).look(), Report(), wanted)[0]


@pytest.mark.parametrize(
    ("there", "why"),
    [
        (
            head({"waiting": {**CRASHES, "message": BACK_OFF}}, node="kind-worker"),
            "CrashLoopBackOff (back-off 1m20s restarting failed container=ray-head) on kind-worker",
        ),
        (
            head({"waiting": {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "ranker:1"'}}),
            'ImagePullBackOff (Back-off pulling image "ranker:1")',
        ),
        (head(conditions=UNSCHEDULED), f"Pending ({NO_ROOM.partition(' preemption')[0]})"),
        (head({"terminated": {"reason": "OOMKilled", "exitCode": 137}}), "OOMKilled (exit status 137)"),
        (head({"terminated": {"reason": "Error", "exitCode": 1}}, deleting=True, node="kind-worker"),
         "Terminating on kind-worker"),
        (
            head(
                {"waiting": {"reason": "PodInitializing"}},
                initContainerStatuses=[{"name": "wait-gcs", "state": {"running": {}}}],
            ),
            "PodInitializing (init container wait-gcs: Running)",
        ),
        (
            head(
                {"waiting": {"reason": "PodInitializing"}},
                initContainerStatuses=[
                    {"name": "wait-gcs", "state": {"waiting": {**CRASHES, "message": "back-off 10s"}}}
                ],
            ),
            "PodInitializing (init container wait-gcs: CrashLoopBackOff: back-off 10s)",
        ),
        (
            head({"terminated": {"reason": "Error", "exitCode": 137}}, message="The node was low on resource: memory."),
            "Error (The node was low on resource: memory.)",
        ),
        (head({"waiting": {"reason": "ContainerCreating"}}), "ContainerCreating"),
    ],
    ids=["back-off", "image", "no room", "memory", "deleted", "init", "init fails", "evicted", "creating"],
)  # fmt: skip
def test_a_node_that_is_down_has_the_reason_of_its_pod(there: Pod, why: str) -> None:
    assert said_of(cluster(FakeApi(there))) == f"node head is down: {why}"


def test_of_two_pods_of_a_node_the_one_that_is_to_stay_says_why() -> None:
    waits = head(conditions=UNSCHEDULED)
    goes = head({"terminated": {"reason": "Error"}}, deleting=True)
    assert said_of(cluster(FakeApi(waits, goes))).startswith("node head is down: Pending (0/4 nodes")


def test_a_node_whose_pod_is_not_made_yet_has_none() -> None:
    service = cluster(FakeApi(pod("h", "head", "10.0.0.1")))
    assert said_of(service, "worker-1") == "node worker-1 is down: it has no pod"


def test_a_node_whose_machine_is_lost_is_down_whatever_kubernetes_says() -> None:
    view = view_of(FakeApi(pod("h", "head", "10.0.0.1")), FakeDashboard(None, {}, {}), redis_selector=None)
    view.pods.lose(["container-h"])
    service = cluster_on(view)
    assert said_of(service) == "node head is down: lost, though Kubernetes calls it Running on kind-worker"


def test_a_long_reason_is_cut() -> None:
    pulls = head({"waiting": {"reason": "ErrImagePull", "message": "failed to pull\n" * 40}})
    assert len(pulls.state) < 230
    assert pulls.state.endswith("...)")
