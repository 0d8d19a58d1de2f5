"""What a start waits for: it says so while it takes long, with reasons, and one answer that fails does not end it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from pytest_serve_chaos import progress
from pytest_serve_chaos.cluster import rest
from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.cluster.kubernetes.client import waits
from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.install import stack
from pytest_serve_chaos.cluster.kubernetes.install.stack import Stack
from pytest_serve_chaos.cluster.kubernetes.kind import reuse as kind_reuse
from pytest_serve_chaos.cluster.kubernetes.kind.reuse import wait_for_nodes
from pytest_serve_chaos.cluster.kubernetes.rayservice.bring_up import BringUp, serving
from pytest_serve_chaos.cluster.rest import Dashboard, ServeStatus
from pytest_serve_chaos.errors import ClusterStartError, WaitTimeout
from pytest_serve_chaos.model import Json
from tests.unit.api_server import ApiServer, api_server

OPERATOR = "kuberay"
OURS = f"/api/v1/namespaces/{names.NAMESPACE}"
THEIRS = f"/api/v1/namespaces/{OPERATOR}"
RAY_SERVICE = f"/apis/ray.io/v1/namespaces/{names.NAMESPACE}/rayservices/{names.RAY_SERVICE}"

PULLED = "Pod pod-1: Failed: Failed to pull image"
COMPLAINT = "operator: Reconciler error: no kind is registered"


def a_pod(*, runs: bool) -> Json:
    state: Json = {"running": {}} if runs else {"waiting": {"reason": "ErrImagePull"}}
    return {
        "metadata": {"name": "pod-1", "uid": "1"},
        "spec": {"containers": [{"name": "it"}]},
        "status": {"containerStatuses": [{"name": "it", "ready": runs, "state": state}]},
    }


def a_node(*, ready: bool) -> Json:
    return {
        "metadata": {"name": "kind-worker"},
        "status": {"conditions": [{"type": "Ready", "status": str(ready)}]},
    }


def warning(message: str, kind: str = "Pod", name: str = "pod-1") -> Json:
    about: Json = {"kind": kind, "name": name}
    return {"items": [{"involvedObject": about, "reason": "Failed", "message": message}]}


class Start:
    """The steps of a start that wait, against an API server.

    Attributes:
        server: The API server.
        said: All progress.
        established: What stands on KubeRay's resource definition.
    """

    def __init__(self, server: ApiServer, directory: Path, timeout: float) -> None:
        self.server = server
        self.said: list[str] = []
        self.established: Json = []
        self._api = KubeApi(server.kubeconfig(directory), namespace=names.NAMESPACE)
        self._stack = Stack(self._kubectl, self._api, directory, self.said.append, OPERATOR)
        self._up = BringUp(
            self._api, names.RAY_SERVICE, progress=self.said.append, complaints=self._stack.complaints, timeout=timeout
        )

    def close(self) -> None:
        self._api.close()

    def _kubectl(self, *arguments: str, timeout: float = 60.0) -> str:
        return json.dumps({"status": {"conditions": self.established}}) if "-o" in arguments else ""

    def operator(self) -> None:
        self._stack.wait_for_operator()

    def redis(self) -> None:
        self._stack.wait_for_redis()

    def kinds(self) -> None:
        self._stack.check([])

    def removal(self) -> None:
        self._stack.remove_left_overs()

    def ray_cluster(self) -> None:
        self._up.ray_cluster()

    def pods(self) -> None:
        self._up.pods("serve-chaos-abcde", 1)

    def serve(self, dashboard: Dashboard) -> None:
        self._up.serve(dashboard)

    def ready(self) -> None:
        self._up.ready()

    def nodes(self) -> None:
        wait_for_nodes(self._api, self.said.append)


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """One of which all is there; it gives up at once where something is not."""
    with begun(tmp_path, monkeypatch, timeout=0.2) as one:
        yield one


@pytest.fixture
def patient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """One of which all is there, on a machine that may be busy."""
    with begun(tmp_path, monkeypatch, timeout=60.0) as one:
        yield one


@contextlib.contextmanager
def begun(directory: Path, monkeypatch: pytest.MonkeyPatch, *, timeout: float) -> Iterator[Start]:
    for module, name in ((stack, "_PULLED"), (stack, "_ESTABLISHED"), (kind_reuse, "_READY")):
        monkeypatch.setattr(module, name, timeout)
    with api_server() as server:
        one = Start(server, directory, timeout)
        one.established = [{"type": "Established", "status": "True"}]
        server.objects |= {
            f"{OURS}/pods": {"items": [a_pod(runs=True)]},
            f"{THEIRS}/pods": {"items": [a_pod(runs=True)]},
            "/api/v1/nodes": {"items": [a_node(ready=True)]},
            RAY_SERVICE: {
                "status": {
                    "activeServiceStatus": {"rayClusterName": "serve-chaos-abcde"},
                    "conditions": [{"type": "Ready", "status": "True"}],
                }
            },
        }
        yield one
        one.close()


@pytest.mark.parametrize(
    ("stated", "name"),
    [({}, ""), ({"pending": "new"}, "new"), ({"active": "old"}, "old"), ({"active": "old", "pending": "new"}, "old")],
    ids=["none", "first", "serves", "upgrade"],
)
def test_the_ray_cluster_is_the_one_that_serves_or_else_the_one_that_is_to(stated: dict[str, str], name: str) -> None:
    status: dict[str, Json] = {f"{which}ServiceStatus": {"rayClusterName": one} for which, one in stated.items()}
    assert serving({"status": status}) == name


def test_an_app_that_serve_has_given_up_is_not_waited_for(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest, "_GIVEN_UP_AFTER", 0.0)
    gone = ServeStatus({"ranker": "DEPLOY_FAILED"}, {}, {}, {"ranker": "No module named 'ranker'"}, (), {}, None)
    dashboard = SimpleNamespace(serve=lambda: gone)

    with pytest.raises(ClusterStartError, match="the app cannot be deployed") as caught:
        start.serve(cast("Dashboard", dashboard))

    assert caught.value.checked == ("ranker: No module named 'ranker'",)


def test_an_app_that_loses_a_replica_while_it_comes_up_is_waited_for(start: Start) -> None:
    runs = ServeStatus({"ranker": "RUNNING"}, {}, {}, {}, (), {}, None)
    said = [replace(runs, apps={"ranker": "DEPLOY_FAILED"})]
    start.serve(cast("Dashboard", SimpleNamespace(serve=lambda: said.pop(0) if said else runs)))
    assert start.said[-1].endswith("for Serve to run its apps")


# -- long waits --


@pytest.fixture
def slow(start: Start, monkeypatch: pytest.MonkeyPatch) -> Start:
    """One of which nothing comes, and all is late at once."""
    for module, name in ((waits, "_SLOW"), (waits, "_PAUSE"), (progress, "REPORT_EVERY")):
        monkeypatch.setattr(module, name, 0.0)
    start.established = []
    start.server.objects |= {
        f"{OURS}/pods": {"items": [a_pod(runs=False)]},
        f"{OURS}/events": warning("Failed to pull image"),
        f"{THEIRS}/pods": {"items": [a_pod(runs=False)]},
        f"{THEIRS}/events": warning("Failed to pull image"),
        f"{THEIRS}/pods/pod-1/log": {"level": "error", "msg": "Reconciler error", "error": "no kind is registered"},
        "/api/v1/nodes": {"items": [a_node(ready=False)]},
        "/api/v1/namespaces/default/events": warning("no space", "Node", "kind-worker"),
        "/api/v1/namespaces/kube-system/events": warning("Failed to pull image"),
        RAY_SERVICE: {},
    }
    return start


@pytest.mark.parametrize(
    ("step", "line"),
    [
        (Start.operator, f"kuberay: still waiting for the KubeRay operator to run: pod-1: ErrImagePull | {PULLED} | "),
        (Start.redis, f"kuberay: still waiting for Redis to be ready: pod-1: ErrImagePull | {PULLED}"),
        (Start.kinds, "kuberay: still waiting for the API server to serve KubeRay's kinds: the conditions of "),
        (Start.pods, f"kuberay: still waiting for 1 Ray pods to run: pod-1: ErrImagePull | {PULLED} | {COMPLAINT}"),
        (Start.ready, f"kuberay: still waiting for the RayService to be Ready: no status yet | {PULLED} | {COMPLAINT}"),
        (
            Start.nodes,
            "kind: still waiting for the nodes to be Ready: kind-worker not Ready"
            f" | Node kind-worker: Failed: no space | {PULLED}",
        ),
    ],
)
def test_a_long_wait_says_what_it_waits_for_and_why(slow: Start, step: Callable[[Start], None], line: str) -> None:
    with pytest.raises(WaitTimeout) as caught:
        step(slow)
    assert slow.said[0].startswith(line)
    assert caught.value.last_seen == slow.said[0].partition(" to ")[2].partition(": ")[2]


def test_of_the_operator_its_own_last_errors_are_said(slow: Start) -> None:
    with pytest.raises(WaitTimeout) as caught:
        slow.operator()
    assert COMPLAINT in caught.value.last_seen
    assert slow.said[0].endswith(COMPLAINT)


def test_reasons_that_cannot_be_read_do_not_end_a_wait(slow: Start) -> None:
    del slow.server.objects[f"{OURS}/events"]
    with pytest.raises(WaitTimeout, match=r"pod-1: ErrImagePull \| events: "):
        slow.redis()


def test_a_short_wait_asks_for_no_reasons(patient: Start) -> None:
    patient.redis()
    assert {asked.path for asked in patient.server.asked} == {f"{OURS}/pods"}


def test_a_wait_that_is_half_over_asks_for_reasons(start: Start) -> None:
    start.server.objects |= {f"{OURS}/pods": {"items": []}, f"{OURS}/events": warning("Failed to pull image")}
    with pytest.raises(WaitTimeout, match=rf"last seen: no pods \| {PULLED}"):
        start.redis()


# -- an answer that fails --


@pytest.mark.parametrize(
    "step",
    [Start.operator, Start.redis, Start.ray_cluster, Start.pods, Start.ready, Start.nodes],
)
def test_an_api_server_that_fails_once_does_not_end_a_start(patient: Start, step: Callable[[Start], None]) -> None:
    patient.server.hiccups = 1
    step(patient)
    assert len(patient.server.asked) == 2


def test_an_api_server_that_fails_once_does_not_end_a_removal(patient: Start) -> None:
    patient.server.objects[f"{OURS}/pods"] = {"items": []}
    patient.server.hiccups = 1
    patient.removal()
    assert len(patient.server.asked) == 2


def test_an_api_server_that_goes_on_failing_is_what_was_seen_last(start: Start) -> None:
    start.server.hiccups = 100
    with pytest.raises(WaitTimeout, match="leader changed"):
        start.operator()
