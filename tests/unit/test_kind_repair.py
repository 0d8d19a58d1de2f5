"""A kind cluster of this plugin is repaired by what it shows itself: ``serve-chaos undo --context kind-NAME``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pytest

from pytest_serve_chaos.backends import kind_repair
from pytest_serve_chaos.backends.kind import DELETE
from pytest_serve_chaos.backends.kind_repair import not_in_use, repair_kind_cluster
from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.client.server_identity import ServerIdentity
from pytest_serve_chaos.cluster.kubernetes.kind.nodes import KindNodes
from pytest_serve_chaos.cluster.kubernetes.rayservice.cluster import config_of_ray_service
from pytest_serve_chaos.cluster.kubernetes.rayservice.redis import RedisStore
from pytest_serve_chaos.cluster.kubernetes.rayservice.upgrades import change_in_vain
from pytest_serve_chaos.cluster.serve_config import serve_config_text
from pytest_serve_chaos.errors import Locked
from pytest_serve_chaos.manifests import merge
from pytest_serve_chaos.model import Json
from pytest_serve_chaos.safety.journal import Journal
from tests.unit.kind_runs import NAME, RAY_SERVICE, WORKER, Api, Machines, pod

CONFIG: dict[str, Json] = {"applications": [{"name": "app", "import_path": "m:app"}]}
RAY_SERVICE_NAME = f"{names.NAMESPACE}/{names.RAY_SERVICE}"
SERVER = ServerIdentity("https://127.0.0.1:6443", "ca")


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal")


@pytest.fixture(autouse=True)
def ours(machines: Machines, api: Api, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The kind cluster, which this plugin made."""

    @contextmanager
    def own(cluster: str, namespace: str, server: ServerIdentity) -> Iterator[tuple[KindNodes, KubeApi] | None]:
        found = (cast("KindNodes", machines), cast("KubeApi", api))
        yield found if (cluster, namespace, server) == (NAME, names.NAMESPACE, SERVER) else None

    monkeypatch.setattr(kind_repair, "_own", own)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


def repair(
    journal: Journal, context: str = f"kind-{NAME}", server: ServerIdentity = SERVER
) -> tuple[list[str], list[str]]:
    """What was said, and what could not be repaired."""
    said: list[str] = []
    with not_in_use(context, journal):
        return said, [*repair_kind_cluster(context, RAY_SERVICE_NAME, server, said.append)]


def test_what_faults_change_is_repaired_without_a_journal(machines: Machines, api: Api, journal: Journal) -> None:
    machines.states[WORKER] = "paused"
    api.nodes_now[f"{WORKER}2"] = {"unschedulable": True, "taints": [{"key": names.NO_WORKER}]}
    del api.nodes_now[WORKER]
    kube = cast("KubeApi", api)
    api.their_redis, api.redis, api.redis_pods = 3, None, (pod("a"), pod("b"), pod("c"))
    RedisStore("StatefulSet", "theirs", replicas=3).keep_away(kube)
    first = api.ray_service("")
    change, _ = change_in_vain(cast("dict[str, Json]", first["spec"]), 60.0)
    config_of_ray_service(kube, names.RAY_SERVICE, CONFIG).change({"applications": [{"name": "canary"}]})
    api.patch_ray_service("", {"spec": change})

    said, failed = repair(journal)

    assert failed == []
    assert said == [
        f"undo: {WORKER} was deleted from Kubernetes",
        f"undo: {WORKER} was paused",
        f"undo: {WORKER}2 was cordoned",
        f"undo: {WORKER}2 had the taint {names.NO_WORKER}",
        "undo: Redis (statefulset/theirs) was kept away",
        "undo: the Serve config was another",
        "undo: the head of its next RayCluster was wanted on no node",
    ]
    assert f"kubelet {WORKER}" in machines.done
    assert f"unpause {WORKER}" in machines.done
    assert api.scaled == {"theirs": 3}, "as many as its annotation says, which nobody else knows"
    spec = cast("dict[str, Json]", api.ray_service("")["spec"])
    assert spec["serveConfigV2"] == serve_config_text(CONFIG)
    assert names.NOWHERE not in str(spec)
    assert names.UNDO not in str(api.ray_service(""))


def test_one_failure_leaves_nothing_else_unrepaired(machines: Machines, api: Api, journal: Journal) -> None:
    api.refuses = "list_node"
    api.service = merge(RAY_SERVICE, {"metadata": {"annotations": {names.UNDO: "applications: []"}}})
    said, (failure,) = repair(journal)
    assert failure == f"machines of {NAME}: nodes: refused"
    assert said == ["undo: the Serve config was another"]


@pytest.mark.parametrize(
    ("context", "server"),
    [("staging", SERVER), ("kind-other", SERVER), (f"kind-{NAME}", ServerIdentity("https://elsewhere", "ca"))],
)
def test_nothing_is_done_to_the_cluster_of_somebody_else(
    machines: Machines, api: Api, journal: Journal, context: str, server: ServerIdentity
) -> None:
    machines.states[WORKER] = "paused"
    assert repair(journal, context, server) == ([], [])
    assert (machines.done, api.calls) == ([], [])


def test_what_a_run_has_now_is_left_to_it(machines: Machines, api: Api, journal: Journal) -> None:
    entry = journal.write(DELETE, "the kind cluster of a run", name=NAME)
    with pytest.raises(Locked, match=f"a run is using the kind cluster {NAME}"):
        repair(journal)
    assert (machines.done, api.calls) == ([], [])
    journal.done(entry)


def test_the_serve_config_of_before_is_noted_while_it_is_another(api: Api) -> None:
    config = config_of_ray_service(cast("KubeApi", api), names.RAY_SERVICE, CONFIG)
    config.change({"applications": []})
    noted = cast("dict[str, dict[str, str]]", api.ray_service("")["metadata"])["annotations"][names.UNDO]
    assert noted == serve_config_text(CONFIG)
    config.change(CONFIG)
    assert names.UNDO not in str(api.ray_service(""))
