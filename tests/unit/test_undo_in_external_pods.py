"""What is stopped or flagged in somebody's pods is on record until it is healed, and mended from there after a kill."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM

import pytest
from kubernetes.config import kube_config

from pytest_serve_chaos.backends.registry import BUILT_IN
from pytest_serve_chaos.cluster.capabilities import FREEZES_NODES, SETS_HEALTH_FLAGS, SIGNALS_PROCESSES
from pytest_serve_chaos.cluster.kubernetes import in_pod
from pytest_serve_chaos.cluster.kubernetes.client.api import ExecResult
from pytest_serve_chaos.cluster.kubernetes.client.records import mapped
from pytest_serve_chaos.cluster.kubernetes.rayservice.cluster import RayServiceCluster
from pytest_serve_chaos.errors import CommandFailed, NoSuchTarget, Unsupported
from pytest_serve_chaos.model import Component, Identity, Json
from pytest_serve_chaos.settings import Settings
from tests.capabilities import part
from tests.unit.api_server import ApiServer, api_server
from tests.unit.external_services import external, owned_pod
from tests.unit.test_external_start import PODS, server
from tests.unit.test_external_start import external as connected
from tests.unit.test_external_start import settings as settings_for
from tests.unit.test_kind_programs import Channel
from tests.unit.test_kuberay_pods import FakeApi, pod
from tests.unit.test_safety import unlocked

__all__ = ["server"]  # the fixture

CONTROLLER = Identity("process", ("w", "container-w", "113", "7"))
REPLICA = Component("replica", "worker-1", CONTROLLER, 113, deployment="ranker#Ranker")


# -- on record ---------------------------------------------------------------------------------------------------------


class Programs(FakeApi):
    """Pods in which programs end as a test wants; it is noted what was on record when each began."""

    def __init__(self, returncode: int = 0) -> None:
        super().__init__(pod("w", "worker", "10.0.0.2"))
        self.returncode = returncode
        self.open: list[str] = []
        self.on_record: list[list[str]] = []

    def record(self, name: str) -> Callable[[], None]:
        self.open.append(name)
        return lambda: self.open.remove(name)

    def run(self, name: str, container: str, command: Sequence[str], *, timeout: float = 30.0) -> ExecResult:
        self.on_record.append([*self.open])
        return ExecResult(json.dumps({"left": [], "processes": 3}), "no", self.returncode)


BREAK: dict[str, Callable[[RayServiceCluster], object]] = {
    "signal": lambda cluster: part(cluster, SIGNALS_PROCESSES).signal_process(CONTROLLER, SIGSTOP),
    "freeze": lambda cluster: part(cluster, FREEZES_NODES).freeze_node("worker-1"),
    "flag": lambda cluster: part(cluster, SETS_HEALTH_FLAGS).set_health_flag(REPLICA, "hang"),
}
HEAL: dict[str, Callable[[RayServiceCluster], object]] = {
    "signal": lambda cluster: part(cluster, SIGNALS_PROCESSES).signal_process(CONTROLLER, SIGCONT),
    "freeze": lambda cluster: part(cluster, FREEZES_NODES).thaw_node("worker-1"),
    "flag": lambda cluster: part(cluster, SETS_HEALTH_FLAGS).clear_health_flag(REPLICA),
}


@pytest.mark.parametrize("how", BREAK)
def test_a_pod_is_on_record_before_it_is_touched_and_until_it_is_healed(how: str) -> None:
    api = Programs()
    cluster = external(api=api, on_break=api.record)
    BREAK[how](cluster)
    BREAK[how](cluster)
    assert api.open == ["pod-w"]
    HEAL[how](cluster)
    assert (api.on_record, api.open) == ([["pod-w"]] * 3, [])


@pytest.mark.parametrize("how", ["signal", "flag"])
def test_what_could_not_be_healed_stays_on_record(how: str) -> None:
    api = Programs()
    cluster = external(api=api, on_break=api.record)
    BREAK[how](cluster)
    api.returncode = 1
    with pytest.raises(CommandFailed):
        HEAL[how](cluster)
    assert api.open == ["pod-w"]


def test_two_faults_in_one_pod_are_healed_one_by_one() -> None:
    api = Programs()
    cluster = external(api=api, on_break=api.record)
    BREAK["signal"](cluster)
    BREAK["flag"](cluster)
    HEAL["signal"](cluster)
    assert api.open == ["pod-w"]


def test_a_process_that_is_gone_needs_no_mending() -> None:
    api = Programs()
    cluster = external(api=api, on_break=api.record)
    BREAK["signal"](cluster)
    api.returncode = in_pod.GONE
    with pytest.raises(NoSuchTarget):
        HEAL["signal"](cluster)
    assert api.open == []


def test_a_pod_without_flags_needs_no_mending() -> None:
    api = Programs(in_pod.NO_DIRECTORY)
    with pytest.raises(Unsupported):
        BREAK["flag"](external(api=api, on_break=api.record))
    assert api.open == []


@pytest.mark.parametrize("signal", [SIGKILL, SIGTERM])
def test_a_process_that_is_killed_is_not_put_on_record(signal: int) -> None:
    api = Programs()
    part(external(api=api, on_break=api.record), SIGNALS_PROCESSES).signal_process(CONTROLLER, signal)
    assert api.on_record == [[]]


# -- undone ------------------------------------------------------------------------------------------------------------


class Tidied(Channel):
    """A program that says what it has tidied."""

    def read_stdout(self, timeout: float) -> str:
        return json.dumps({"stopped": 1, "flags": 0})


@pytest.fixture
def ran(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Pod and text of each program that is run in the head, which is there."""
    programs: list[tuple[str, str]] = []

    def stream(method: object, name: str, namespace: str, *, command: Sequence[str], **options: object) -> Channel:
        assert namespace == "ml"
        programs.append((name, command[2]))
        return Tidied(ends=True)

    monkeypatch.setattr("kubernetes.stream.stream", stream)
    server.objects[PODS] = {"items": [running("head")]}
    return programs


def running(name: str, owner: str = "ranker-abcde") -> dict[str, Json]:
    """A pod of a RayCluster, as the API server gives it."""
    item = owned_pod(name, owner)
    status: Json = {"name": "ray-head", "ready": True, "state": {"running": {}}, "containerID": "containerd://abc"}
    metadata: Json = {**mapped(item["metadata"]), "uid": "u", "labels": {"ray.io/node-type": "head"}}
    spec: Json = {"nodeName": "node-1", "containers": [{"name": "ray-head"}]}
    return {"metadata": metadata, "spec": spec, "status": {"phase": "Running", "containerStatuses": [status]}}


def killed_while_frozen(given: Settings, directory: Path) -> Path:
    """The journal's entry of a run that froze a process in the head's pod, and was killed."""
    cluster = connected(given, directory)
    part(cluster, SIGNALS_PROCESSES).signal_process(Identity("process", ("u", "abc", "113", "7")), SIGSTOP)
    cluster.close()
    (entry,) = (given.report_dir / "undo").glob("*.json")
    return unlocked(entry)


@pytest.mark.parametrize("changes", [{}, {"context": "staging", "allow_context": "staging"}], ids=["kind", "staging"])
def test_what_a_killed_run_left_frozen_goes_on(
    server: ApiServer,
    ran: list[tuple[str, str]],
    changes: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entry = killed_while_frozen(settings_for(server, tmp_path, monkeypatch, **changes), tmp_path)
    said: list[str] = []
    allowed = [changes[name] for name in changes if name == "allow_context"]
    assert BUILT_IN.undo(tmp_path / "reports", said.append, allowed=allowed) == []
    context = changes.get("context", "kind-test")
    assert said == [f"undo: what a run that ended by force stopped, or flagged, in the pod head of context {context}"]
    assert ran[-1] == ("head", in_pod.source("tidy"))
    assert not entry.exists()


def test_a_pod_that_is_gone_needs_nothing(
    server: ApiServer, ran: list[tuple[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = killed_while_frozen(settings_for(server, tmp_path, monkeypatch), tmp_path)
    server.objects[PODS] = {"items": [running("another")]}
    ran.clear()
    assert BUILT_IN.undo(tmp_path / "reports", print) == []
    assert (ran, entry.exists()) == ([], False)


def test_a_pod_that_is_not_the_rayservices_is_not_entered(
    server: ApiServer, ran: list[tuple[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = killed_while_frozen(settings_for(server, tmp_path, monkeypatch), tmp_path)
    server.objects[PODS] = {"items": [running("head", owner="another")]}
    ran.clear()
    (failure,) = BUILT_IN.undo(tmp_path / "reports", print)
    assert "refused on the external cluster: EXEC" in failure
    assert (ran, entry.exists()) == ([], True)


def test_a_context_that_leads_elsewhere_now_is_not_followed(
    server: ApiServer, ran: list[tuple[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = killed_while_frozen(settings_for(server, tmp_path, monkeypatch), tmp_path)
    elsewhere = ApiServer("https://k8s.example.com").kubeconfig(tmp_path, context="kind-test")
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(elsewhere))
    ran.clear()
    (failure,) = BUILT_IN.undo(tmp_path / "reports", print)
    assert "name it twice" in failure
    assert (ran, entry.exists()) == ([], True)


def test_an_entry_cannot_say_itself_that_its_context_is_meant(
    server: ApiServer, ran: list[tuple[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    staging = {"context": "staging", "allow_context": "staging"}
    entry = killed_while_frozen(settings_for(server, tmp_path, monkeypatch, **staging), tmp_path)
    record = json.loads(entry.read_text())
    entry.write_text(json.dumps({**record, "arguments": {**record["arguments"], "allow_context": "staging"}}))
    ran.clear()
    (failure,) = BUILT_IN.undo(tmp_path / "reports", print)
    assert "serve-chaos undo --allow-context=staging" in failure
    assert (ran, entry.exists()) == ([], True)


def test_another_cluster_under_the_same_context_is_not_mended_in_its_place(
    server: ApiServer, ran: list[tuple[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = killed_while_frozen(settings_for(server, tmp_path, monkeypatch), tmp_path)
    with api_server() as another:
        another.objects = {PODS: {"items": []}}
        elsewhere = another.kubeconfig(tmp_path, context="kind-test")
        monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(elsewhere))
        ran.clear()
        (failure,) = BUILT_IN.undo(tmp_path / "reports", print)
        assert another.asked == []
    assert f"leads to {another.address} now, and what is to be undone is on {server.address}" in failure
    assert (ran, entry.exists()) == ([], True)
