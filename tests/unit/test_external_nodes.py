"""A drained node of somebody's cluster is opened when the cluster is given back, or after a kill by the next run."""

from __future__ import annotations

from pathlib import Path

import pytest
from kubernetes.config import kube_config

from pytest_serve_chaos.backends.registry import BUILT_IN
from pytest_serve_chaos.cluster.base import Progress
from pytest_serve_chaos.cluster.capabilities import DRAINS_MACHINES
from pytest_serve_chaos.cluster.kubernetes.external import drains as module
from pytest_serve_chaos.cluster.kubernetes.rayservice.cluster import RayServiceCluster
from pytest_serve_chaos.errors import CommandFailed, WaitTimeout
from pytest_serve_chaos.model import Json
from tests.capabilities import part
from tests.unit.api_server import ApiServer
from tests.unit.external_services import cordoned_by, external
from tests.unit.test_external_start import NODE, PODS, server
from tests.unit.test_external_start import external as connected
from tests.unit.test_external_start import settings as settings_for
from tests.unit.test_kuberay_pods import FakeApi, pod
from tests.unit.test_safety import unlocked
from tests.unit.test_undo_in_external_pods import running

__all__ = ["server"]  # the fixture


class Nodes(FakeApi):
    """A node whose pods a disruption budget keeps, and an API server that refuses some patches of it.

    Attributes:
        refuses: How many times the node is not opened.
        cordoned: Whether the node is.
    """

    namespace = "ml"

    def __init__(self, refuses: int) -> None:
        super().__init__(pod("w", "worker", "10.0.0.2"))
        self.refuses = refuses
        self.cordoned = False
        self.closed = False

    def call(self, method: str, *arguments: object, what: str, **options: object) -> dict[str, Json]:
        if method == "create_namespaced_pod_eviction":
            raise CommandFailed("disruption budget")
        if method == "patch_node":
            wanted = arguments[1] == {"spec": {"unschedulable": True}}
            if not wanted and self.refuses:
                self.refuses -= 1
                raise CommandFailed(f"{what}: refused")
            self.cordoned = wanted
        return cordoned_by("pytest-serve-chaos") if self.cordoned else {"spec": {}}

    def close(self) -> None:
        self.closed = True


def test_a_node_that_could_not_be_opened_when_it_was_healed_is_opened_at_the_end() -> None:
    api = Nodes(refuses=1)
    cluster = external(api=api, allow=["node"])
    with pytest.raises(CommandFailed, match="disruption budget"):
        part(cluster, DRAINS_MACHINES).drain_machine("worker-1")
    with pytest.raises(CommandFailed, match="refused"):
        part(cluster, DRAINS_MACHINES).reopen_machine("worker-1")
    assert api.cordoned
    cluster.close()
    assert (api.cordoned, api.closed) == (False, True)


def test_it_is_tried_again_and_then_said_loudly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_OPENED_WITHIN", 0.05)
    api = Nodes(refuses=1_000_000)
    cluster = external(api=api, allow=["node"])
    with pytest.raises(CommandFailed, match="disruption budget"):
        part(cluster, DRAINS_MACHINES).drain_machine("worker-1")
    with pytest.raises(WaitTimeout, match=r"the cordon of kind-worker to be removed; last seen: .*: refused") as late:
        cluster.close()
    assert "serve-chaos undo" in late.value.fix[0]
    assert (api.refuses < 1_000_000 - 1, api.closed) == (True, True)


def test_what_was_healed_is_left_alone_at_the_end() -> None:
    api = Nodes(refuses=0)
    cluster = external(api=api, allow=["node"])
    with pytest.raises(CommandFailed, match="disruption budget"):
        part(cluster, DRAINS_MACHINES).drain_machine("worker-1")
    part(cluster, DRAINS_MACHINES).reopen_machine("worker-1")
    api.cordoned = True  # by somebody else
    cluster.close()
    assert api.cordoned


def drained(
    server: ApiServer, directory: Path, monkeypatch: pytest.MonkeyPatch, progress: Progress = print
) -> tuple[RayServiceCluster, Path]:
    """A cluster whose drain of the node under the head was refused once the node was cordoned; the journal's entry."""
    server.objects[PODS] = {"items": [running("head")]}
    server.refusals[f"{PODS}/head/eviction"] = [403]
    given = settings_for(server, directory, monkeypatch, allow=("node",))
    cluster = connected(given, directory, progress)
    with pytest.raises(CommandFailed, match="eviction of pod head"):
        part(cluster, DRAINS_MACHINES).drain_machine("head")
    (entry,) = (given.report_dir / "undo").glob("*.json")
    server.objects[NODE] = cordoned_by("pytest-serve-chaos")
    server.asked.clear()
    return cluster, entry


def test_a_drained_node_that_an_autoscaler_has_removed_needs_no_healing(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    cluster, entry = drained(server, tmp_path, monkeypatch, told.append)
    del server.objects[NODE]
    part(cluster, DRAINS_MACHINES).reopen_machine("head")
    assert told[-1] == "kubernetes: the node node-1 is gone, so there is nothing to uncordon"
    assert not entry.exists()
    server.asked.clear()
    cluster.close()
    assert NODE not in [asked.path for asked in server.asked]


def test_a_drained_node_that_somebody_else_has_cordoned_since_is_left_to_them(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    cluster, entry = drained(server, tmp_path, monkeypatch, told.append)
    server.objects[NODE] = cordoned_by("kubectl-cordon")
    part(cluster, DRAINS_MACHINES).reopen_machine("head")
    cluster.close()
    assert told[-1].endswith("node-1 stays cordoned, now by kubectl-cordon")
    assert [asked.path for asked in server.asked if asked.method != "GET"] == []
    assert not entry.exists()


@pytest.fixture
def cordoned(server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The journal's entry of a run that cordoned the node under the head, and was killed."""
    _, entry = drained(server, tmp_path, monkeypatch)
    return unlocked(entry)


def test_what_a_killed_run_left_cordoned_is_opened(server: ApiServer, cordoned: Path, tmp_path: Path) -> None:
    assert BUILT_IN.undo(tmp_path / "reports", print) == []
    looked, opened = server.asked
    assert (looked.method, looked.path) == ("GET", NODE)
    assert (opened.method, opened.path, opened.body) == ("PATCH", NODE, {"spec": {"unschedulable": None}})
    assert not cordoned.exists()


@pytest.mark.parametrize(
    ("node", "says"),
    [
        (None, "the node node-1 is gone, so there is nothing to uncordon"),
        ({"spec": {}}, "the node node-1 is not cordoned any more"),
        (cordoned_by("kubectl"), "the node node-1 stays cordoned, now by kubectl"),
    ],
    ids=["gone", "open", "somebody-elses"],
)
def test_what_is_not_ours_to_open_any_more_is_left_and_said(
    server: ApiServer, cordoned: Path, node: dict[str, Json] | None, says: str, tmp_path: Path
) -> None:
    server.objects[NODE] = node or {}
    if node is None:
        del server.objects[NODE]
    told: list[str] = []
    assert BUILT_IN.undo(tmp_path / "reports", told.append) == []
    assert told[-1] == f"undo: {says}"
    assert [asked.method for asked in server.asked] == ["GET"]
    assert not cordoned.exists()


def test_a_node_that_cannot_be_read_stays_in_the_journal(server: ApiServer, cordoned: Path, tmp_path: Path) -> None:
    server.hiccups = 1
    (failure,) = BUILT_IN.undo(tmp_path / "reports", print)
    assert "node node-1: status 500" in failure
    assert cordoned.exists()


def test_a_context_that_leads_elsewhere_now_is_not_opened(
    server: ApiServer, cordoned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = ApiServer("https://k8s.example.com").kubeconfig(tmp_path, context="kind-test")
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(elsewhere))
    (failure,) = BUILT_IN.undo(tmp_path / "reports", print)
    assert "name it twice" in failure
    assert (server.asked, cordoned.exists()) == ([], True)
