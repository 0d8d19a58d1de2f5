"""What a run has changed in a kind cluster is undone when the run is gone, by docker and kubectl, whoever is there."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.cluster.kubernetes.in_pod import freeze
from pytest_serve_chaos.cluster.kubernetes.kind import late_undo
from pytest_serve_chaos.cluster.kubernetes.kind.docker_machines import DockerMachines
from pytest_serve_chaos.cluster.kubernetes.kind.late_undo import KindLateUndo
from pytest_serve_chaos.cluster.watchdog import Watchdogs
from pytest_serve_chaos.model import Json

KUBECTL = ["kubectl", "--kubeconfig=/etc/kubernetes/admin.conf"]
NODE: dict[str, Json] = {"metadata": {"name": "kind-worker", "labels": {"said": 'it\'s "$HOME" `here`'}}}
DOCKER = """#!/usr/bin/env python3
import json, os, sys
with open({log!r}, "a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\\n")
"""

CHANGES: dict[str, tuple[Callable[[KindLateUndo], None], str, list[list[str]]]] = {
    "taint": (
        lambda late: late.of_taint(names.NO_HEAD),
        names.NO_HEAD,
        [[*KUBECTL, "taint", "nodes", "--selector", f"{names.ROLE}=ray", f"{names.NO_HEAD}:NoSchedule-"]],
    ),
    "cordon": (
        lambda late: late.of_cordon("kind-worker"),
        "kind-worker",
        [
            [*KUBECTL, "uncordon", "kind-worker"],
            [*KUBECTL, "annotate", "node", "kind-worker", f"{names.UNDO}-"],
        ],
    ),
    "scaling": (
        lambda late: late.of_scaling("statefulset/redis", "ml", 3),
        "statefulset/redis",
        [
            [*KUBECTL, "scale", "--namespace", "ml", "statefulset/redis", "--replicas=3"],
            [*KUBECTL, "annotate", "--namespace", "ml", "statefulset/redis", f"{names.UNDO}-"],
        ],
    ),
}


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """What docker was asked, a line of JSON each."""
    return tmp_path / "asked"


@pytest.fixture
def cluster(tmp_path: Path) -> str:
    """The name of a kind cluster that no other test has."""
    return f"kind{abs(hash(tmp_path))}"


@pytest.fixture
def late(tmp_path: Path, log: Path, cluster: str) -> Iterator[KindLateUndo]:
    docker = tmp_path / "a docker"
    docker.write_text(DOCKER.format(log=str(log)))
    docker.chmod(0o755)
    watchdogs = Watchdogs(grace=0.1)
    yield KindLateUndo(watchdogs, str(docker), f"{cluster}-control-plane")
    watchdogs.end_all()


def asked(log: Path, number: int) -> list[list[str]]:
    deadline = time.monotonic() + 10.0
    while not log.exists() or len(log.read_text().splitlines()) < number:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return [json.loads(line) for line in log.read_text().splitlines()]


@pytest.mark.parametrize("what", CHANGES)
def test_it_is_undone_on_the_control_plane(
    what: str, late: KindLateUndo, log: Path, cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(late_undo, "LONGEST_CHANGE", 0.0)
    change, _, expected = CHANGES[what]
    change(late)
    assert asked(log, len(expected)) == [["exec", f"{cluster}-control-plane", *words] for words in expected]


def test_a_node_is_registered_again_as_it_was(
    late: KindLateUndo, log: Path, cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(late_undo, "LONGEST_CHANGE", 0.0)
    late.of_deletion(NODE)
    create, restart = asked(log, 2)
    assert create[:4] == ["exec", f"{cluster}-control-plane", "sh", "-c"]
    assert create[4] == 'printf %s "$0" | kubectl --kubeconfig=/etc/kubernetes/admin.conf create -f -'
    assert json.loads(create[5]) == NODE
    assert restart == ["exec", "kind-worker", "systemctl", "restart", "kubelet"]


@pytest.mark.parametrize("what", CHANGES)
def test_nobody_undoes_what_the_run_has_undone(what: str, late: KindLateUndo, cluster: str) -> None:
    change, healed, _ = CHANGES[what]
    change(late)
    assert len(of(cluster)) == 1
    late.not_needed(healed)
    assert none_is_left(cluster)


def test_with_a_cluster_that_is_deleted_all_of_them_end(tmp_path: Path, cluster: str) -> None:
    machines = DockerMachines(lambda *_, **__: "", lambda *_, **__: "", f"{cluster}-control-plane")
    late = machines.late_undo
    late.of_taint(names.NO_HEAD)
    late.of_cordon(f"{cluster}-worker2")
    late.of_deletion({"metadata": {"name": f"{cluster}-worker"}})
    late.of_scaling("deployment/redis", "serve-chaos", 1)
    assert len(of(cluster)) == 4
    DockerMachines(
        lambda *_, **__: "", lambda *_, **__: "", f"{cluster}-control-plane"
    ).end_watchdogs()  # of a later run
    assert none_is_left(cluster)


def none_is_left(cluster: str) -> bool:
    """Whether all watchdogs of such a cluster end, which takes the kernel a moment."""
    deadline = time.monotonic() + 10.0
    while of(cluster) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not of(cluster)


def of(cluster: str) -> list[str]:
    """The claims of watchdogs that know such a cluster."""
    return [one.claim for one in freeze.watchdogs() if cluster in one.claim or one.claim.endswith(":kind-worker")]
