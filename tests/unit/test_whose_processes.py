"""Whose processes a fault reaches: pods that share them, sidecars before Ray's container, and what a program sees."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.capabilities import SEES_PROCESSES
from pytest_serve_chaos.cluster.kubernetes import in_pod
from pytest_serve_chaos.cluster.kubernetes.client.records import Pod
from pytest_serve_chaos.cluster.kubernetes.client.records import pod as read_pod
from pytest_serve_chaos.cluster.kubernetes.in_pod import container, freeze
from pytest_serve_chaos.cluster.kubernetes.rayservice.pods import RayPods, RayServiceRef
from pytest_serve_chaos.cluster.kubernetes.rayservice.programs import run_program
from pytest_serve_chaos.cluster.kubernetes.rayservice.ray_containers import names_of, shared_by
from pytest_serve_chaos.errors import CommandFailed
from pytest_serve_chaos.model import Json
from tests.capabilities import part
from tests.unit.external_services import external, ray_service, why_not
from tests.unit.rayservices import FakeApi, pod
from tests.unit.test_file_needs import cluster as ray_cluster
from tests.unit.test_file_needs import refused

SHARED = pytest.mark.parametrize("field", ["hostPID", "shareProcessNamespace"])


# -- what is refused ---------------------------------------------------------------------------------------------------


@SHARED
@pytest.mark.parametrize(
    ("kind", "how"),
    [
        ("head_failure", "kill"),
        ("worker_failure", "freeze"),
        ("controller_failure", "kill"),
        ("replica_failure", "freeze"),
        ("proxy_failure", "kill"),
        ("gcs_failure", "stop"),
        ("raylet_failure", "kill"),
        ("child_failure", "kill"),
    ],
)
def test_no_program_is_run_where_it_could_reach_processes_of_others(field: str, kind: str, how: str) -> None:
    cluster = external(shared_processes=field)
    reason = f"the pods have {field}, so a program in them could reach processes of others, and none is run there"
    assert why_not(cluster, kind, {"how": how}, ()) == reason


@SHARED
def test_what_takes_no_program_is_broken_there_too(field: str) -> None:
    cluster = external(shared_processes=field)
    assert why_not(cluster, "worker_failure", {"how": "stop"}, ()) == ""
    assert not part(cluster, SEES_PROCESSES).sees_processes


@SHARED
def test_by_its_template_or_by_its_pods_it_is_known_before_anything_is_run(field: str) -> None:
    workers: Json = [{"groupName": "w", "template": {"spec": {field: True, "containers": [{"name": "ray"}]}}}]
    assert shared_by(ray_service(workerGroupSpecs=workers), ()) == field
    changed = read_pod({"metadata": {"name": "w"}, "spec": {field: True, "containers": [{"name": "ray"}]}})
    assert shared_by(ray_service(), (changed,)) == field
    assert shared_by(ray_service(), (pod("w", "worker", "10.0.0.2"),)) == ""


@SHARED
def test_a_pod_that_shares_processes_is_not_entered_whatever_the_template_says(field: str) -> None:
    api = FakeApi(replace(pod("w", "worker", "10.0.0.2"), shares_processes=field))
    with pytest.raises(CommandFailed, match=f"no program is run in pod pod-w: it has {field}"):
        run_program(api, api.ray_pods[0], "freeze", "stop")  # type: ignore[arg-type]


@SHARED
@pytest.mark.parametrize("role", ["head", "worker"])
def test_a_file_for_kind_with_such_pods_is_refused(field: str, role: str) -> None:
    def change(service: dict[str, Any]) -> None:
        cluster = ray_cluster(service)
        group = cluster["headGroupSpec"] if role == "head" else cluster["workerGroupSpecs"][0]
        group["template"]["spec"][field] = True

    said = refused(change)
    assert f"with {field} a fault could reach processes that are not Ray's" in said
    assert f"{{{field}: null}}" in said


# -- which container is Ray's ------------------------------------------------------------------------------------------


def with_sidecar(*, ray_runs: bool, marked: bool = True) -> dict[str, Json]:
    """A worker before whose Ray container somebody's webhook has put another one."""
    start: Json = [{"name": "KUBERAY_GEN_RAY_START_CMD", "value": "ray start --block"}] if marked else []
    state: Json = {"running": {}} if ray_runs else {"terminated": {"reason": "OOMKilled"}}
    return {
        "metadata": {"name": "w1", "uid": "u", "labels": {"ray.io/node-type": "worker", "ray.io/group": "gpu"}},
        "spec": {"containers": [{"name": "istio-proxy"}, {"name": "ray-worker", "env": start}]},
        "status": {
            "phase": "Running",
            "containerStatuses": [
                {"name": "istio-proxy", "containerID": "containerd://proxy", "state": {"running": {}}, "ready": True},
                {"name": "ray-worker", "containerID": "containerd://ray", "state": state, "ready": ray_runs},
            ],
        },
    }


def test_a_sidecar_that_comes_first_is_not_taken_for_ray() -> None:
    found = read_pod(with_sidecar(ray_runs=True))
    assert found.main is not None
    assert (found.main.name, found.main.id) == ("ray-worker", "ray")
    assert found.runs


def test_a_node_whose_ray_has_ended_does_not_live_by_its_sidecar() -> None:
    found = read_pod(with_sidecar(ray_runs=False))
    assert not found.runs
    assert found.state == "OOMKilled"


def ray_pods(item: dict[str, Json], by_group: Mapping[str, str]) -> tuple[Pod, ...]:
    ref = RayServiceRef(ClusterSpec(), "ranker", "ranker-abcde", ray_containers=by_group)
    return RayPods(FakeApi(read_pod(item)), ref).of("ranker-abcde")  # type: ignore[arg-type]


def test_the_template_of_its_group_says_which_container_is_rays() -> None:
    unmarked = with_sidecar(ray_runs=True, marked=False)
    (found,) = ray_pods(unmarked, {"gpu": "ray-worker"})
    assert found.main is not None
    assert found.main.name == "ray-worker"


def test_a_pod_without_the_container_of_its_template_is_no_ray_node() -> None:
    (found,) = ray_pods(with_sidecar(ray_runs=True), {"gpu": "ray-of-the-template"})
    assert found.main is None
    assert not found.runs


def test_the_names_are_those_that_the_templates_have_first() -> None:
    groups: Json = [
        {"groupName": "gpu", "template": {"spec": {"containers": [{"name": "ray-gpu"}, {"name": "logs"}]}}},
        {"groupName": "none"},
    ]
    assert names_of(ray_service(workerGroupSpecs=groups)) == {"headgroup": "ray-head", "gpu": "ray-gpu"}


# -- what a program in a container takes for its own -------------------------------------------------------------------


OURS, OTHER = "a" * 64, "b" * 64
POD = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod7.slice"


@pytest.mark.parametrize(
    ("theirs", "ours", "own"),
    [
        ("0::/", "0::/", True),
        ("0::/ray-node_1/system", "0::/", True),
        ("0::/ray-node_1/system", "0::/ray-node_1/application", True),
        ("0::/../cri-containerd-" + OTHER + ".scope", "0::/", False),
        ("0::/../../../../system.slice/kubelet.service", "0::/", False),
        ("0::/../../../../init.scope", "0::/ray-node_1/system", False),
        (f"0::{POD}/cri-containerd-{OURS}.scope/system", f"0::{POD}/cri-containerd-{OURS}.scope", True),
        (f"0::{POD}/cri-containerd-{OTHER}.scope", f"0::{POD}/cri-containerd-{OURS}.scope", False),
        ("0::/system.slice/kubelet.service", f"0::{POD}/cri-containerd-{OURS}.scope", False),
        (f"12:cpu:/kubepods/pod7/{OURS}\n1:name=x:/kubepods/pod7/{OURS}", f"1:cpu:/kubepods/pod7/{OURS}", True),
        (f"12:cpu:/kubepods/pod7/{OTHER}\n0::/", f"12:cpu:/kubepods/pod7/{OURS}\n0::/", False),
    ],
)
def test_processes_of_one_container_are_known_by_their_control_group(
    theirs: str, ours: str, own: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proc(tmp_path, monkeypatch, {"7": theirs, "self": ours})
    assert container.is_own(7) is own


def test_without_control_groups_the_pid_namespace_counts_and_the_unknown_is_not_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proc(tmp_path, monkeypatch, {}, {"self": "pid:[1]", "7": "pid:[1]", "8": "pid:[2]"})
    assert container.is_own(7)
    assert not container.is_own(8)
    assert not container.is_own(9)


def proc(
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    groups: Mapping[str, str],
    namespaces: Mapping[str, str] | None = None,
) -> None:
    """Has the program read process tables from files."""
    for pid, text in groups.items():
        (directory / pid).mkdir(exist_ok=True)
        (directory / pid / "cgroup").write_text(text + "\n")
    for pid, name in (namespaces or {}).items():
        (directory / pid / "ns").mkdir(parents=True, exist_ok=True)
        (directory / pid / "ns" / "pid").symlink_to(name)
    monkeypatch.setattr(container, "PROC", str(directory))


def test_a_freeze_leaves_processes_of_others_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {row.pid for row in freeze.descendants_of_the_first()}
    monkeypatch.setattr(freeze, "is_own", lambda pid: pid == os.getpid())
    assert {row.pid for row in freeze.descendants_of_the_first()} == there & {os.getpid()}


@pytest.mark.parametrize("program", ["freeze", "tidy", "signal_process", "children", "watch_processes"])
def test_each_program_that_looks_at_processes_is_complete_in_itself(program: str, tmp_path: Path) -> None:
    file = tmp_path / f"{program}.py"
    file.write_text(in_pod.source(program))
    assert "pytest_serve_chaos" not in file.read_text()
    assert runpy.run_path(str(file), run_name="imported")["is_own"](os.getpid())


def test_a_signal_to_a_process_of_another_container_is_not_sent(tmp_path: Path) -> None:
    text = in_pod.source("signal_process").replace("def is_own(", "def _unused(")
    text = text.replace("GONE = 3", "GONE = 3\nis_own = lambda pid: False", 1)
    with subprocess.Popen(["sleep", "30"]) as process:
        started = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[19]
        arguments = [sys.executable, "-c", text, str(process.pid), started, "9"]
        ran = subprocess.run(arguments, capture_output=True, text=True, check=False)
        still_there = process.poll() is None
        process.kill()
    assert ran.returncode == 1
    assert "belongs to another container" in ran.stderr
    assert still_there
