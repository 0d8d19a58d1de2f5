"""A head alone on the Redis of a RayService: its manifest, and its way from `kubectl apply` to `kubectl delete`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
import yaml

from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.cluster.kubernetes.client.records import inner
from pytest_serve_chaos.cluster.kubernetes.install import render
from pytest_serve_chaos.cluster.kubernetes.kind.second_cluster import SecondClusters, lone_head
from pytest_serve_chaos.errors import ClusterStartError, CommandFailed
from pytest_serve_chaos.manifests import Manifest, merge
from pytest_serve_chaos.model import Json
from tests.unit.api_server import ApiServer, api_server

LABELS = {names.MANAGED_BY: names.PROJECT}
RAY_SERVICE = render.ray_service(
    render.RayServiceSettings(
        image="rayproject/ray:2.60.0",
        workers=2,
        gcs="redis",
        serve_config={"applications": []},
        head_env={"RAY_x": "1"},
        code={"app.py": ""},
        labels=LABELS,
    )
)


def spec_of(manifest: Manifest) -> dict[str, dict[str, Json]]:
    return cast("dict[str, dict[str, Json]]", manifest["spec"])


def pod_of(manifest: Manifest) -> dict[str, dict[str, Json]]:
    return cast("dict[str, dict[str, Json]]", spec_of(manifest)["headGroupSpec"]["template"])


# -- its manifest ------------------------------------------------------------------------------------------------------


def test_it_is_the_head_of_the_rayservice_without_workers() -> None:
    head = lone_head(RAY_SERVICE, "other", None)
    assert (head["apiVersion"], head["kind"]) == ("ray.io/v1", "RayCluster")
    assert head["metadata"] == {"name": "other", "labels": LABELS}
    assert "workerGroupSpecs" not in spec_of(head)
    theirs = spec_of(RAY_SERVICE)["rayClusterConfig"]
    own = cast("dict[str, dict[str, dict[str, Json]]]", theirs["headGroupSpec"])["template"]
    for key in ("containers", "volumes", "nodeSelector"):
        assert pod_of(head)["spec"][key] == own["spec"][key]
    assert spec_of(head)["gcsFaultToleranceOptions"] == theirs["gcsFaultToleranceOptions"]


def test_no_service_leads_to_it_and_it_may_share_a_machine() -> None:
    head = lone_head(RAY_SERVICE, "other", None)
    assert pod_of(head)["metadata"]["labels"] == LABELS
    assert "affinity" not in pod_of(head)["spec"]


def test_its_keys_lie_where_they_are_wanted() -> None:
    assert spec_of(lone_head(RAY_SERVICE, "other", "n"))["gcsFaultToleranceOptions"]["externalStorageNamespace"] == "n"
    assert "externalStorageNamespace" not in spec_of(lone_head(RAY_SERVICE, "other", None))["gcsFaultToleranceOptions"]


def test_in_the_older_style_its_keys_lie_where_an_annotation_says() -> None:
    older = merge(RAY_SERVICE, {
        "metadata": {"annotations": {names.FT_ENABLED: "true", names.STORAGE_NAMESPACE: "first"}},
        "spec": {"rayClusterConfig": {"gcsFaultToleranceOptions": None}},
    })  # fmt: skip
    head = lone_head(older, "other", "n")
    assert inner(head, "metadata", "annotations") == {names.FT_ENABLED: "true", names.STORAGE_NAMESPACE: "n"}
    assert "gcsFaultToleranceOptions" not in spec_of(head)
    assert inner(lone_head(older, "other", None), "metadata", "annotations") == {names.FT_ENABLED: "true"}


def test_the_rayservice_is_left_as_it_is() -> None:
    before = yaml.safe_dump(RAY_SERVICE)
    lone_head(RAY_SERVICE, "other", "n")
    assert yaml.safe_dump(RAY_SERVICE) == before


# -- from apply to delete ----------------------------------------------------------------------------------------------


class Kubectl:
    """Makes a head that is up at once, or one that never is; remembers what it was asked."""

    def __init__(self, server: ApiServer, *, alive: str = "10.0.0.7") -> None:
        self.server = server
        self.alive = alive
        self.asked: list[tuple[str, ...]] = []
        self.made: list[Manifest] = []

    def __call__(self, *arguments: str, timeout: float = 60.0) -> str:
        self.asked.append(arguments)
        if arguments[2] == "apply":
            (made,) = yaml.safe_load_all(Path(arguments[-1]).read_text())
            self.made.append(made)
            self._up(made["metadata"]["name"])
        return ""

    @property
    def verbs(self) -> list[str]:
        return [arguments[2] for arguments in self.asked]

    def _up(self, name: str) -> None:
        status: Json = {
            "podIP": "10.0.0.7",
            "containerStatuses": [{"name": "ray-head", "containerID": "c://7", "state": {"running": {}}}],
        }
        metadata: Json = {"name": f"{name}-head-1", "uid": "7", "labels": {names.RAY_NODE_TYPE: "head"}}
        pod: Json = {"metadata": metadata, "spec": {"containers": [{"name": "ray-head"}]}, "status": status}
        proxy = f"/api/v1/namespaces/{names.NAMESPACE}/services/{name}-head-svc:8265/proxy"
        node: Json = {"node_id": "n", "node_ip": self.alive, "state": "ALIVE", "is_head_node": True}
        self.server.objects |= {
            f"/api/v1/namespaces/{names.NAMESPACE}/pods": {"items": [pod]},
            f"/api/v1/namespaces/{names.NAMESPACE}/events": {"items": []},
            f"{proxy}/api/v0/nodes": {"data": {"result": {"result": [node]}}},
            f"{proxy}/api/serve/applications/": {"applications": {}},
            f"{proxy}/api/version": {"ray_version": "2.60.0"},
        }


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with api_server() as api:
        yield api


def alongside(kubectl: Kubectl, directory: Path, said: list[str], *, timeout: float = 30.0) -> SecondClusters:
    kubeconfig = kubectl.server.kubeconfig(directory)
    return SecondClusters(RAY_SERVICE, kubectl, kubeconfig, directory, said.append, lambda: (), timeout)


def test_it_is_there_when_it_answers_and_gone_when_it_is_closed(server: ApiServer, tmp_path: Path) -> None:
    kubectl, said = Kubectl(server), []  # type: Kubectl, list[str]
    head = alongside(kubectl, tmp_path, said).start(ClusterSpec(workers=0), "theirs")
    (made,) = kubectl.made
    name = str(cast("dict[str, Json]", made["metadata"])["name"])
    assert head.description.details == {"ray cluster": name}
    assert [(node.name, node.alive) for node in head.nodes()] == [("head", True)]
    assert len(head.dashboard.nodes()) == 1
    assert not head.dashboard.serve().apps
    assert kubectl.verbs == ["apply"]
    head.close()
    head.close()
    assert kubectl.verbs == ["apply", "delete"]
    assert kubectl.asked[-1][3:5] == ("raycluster.ray.io", name)
    assert "--wait" in kubectl.asked[-1]
    assert [line.partition(" s ")[2] or line.partition(" in ")[0] for line in said] == [
        "for 1 Ray pods to run",
        f"for the head of {name} to answer",
        f"kuberay: deleted {name}",
    ]


def test_one_whose_gcs_knows_the_nodes_of_others_only_is_not_up_and_is_taken_away(
    server: ApiServer, tmp_path: Path
) -> None:
    kubectl = Kubectl(server, alive="10.0.0.1")
    with pytest.raises(ClusterStartError, match=r"did not come up: .* the GCS has \['10.0.0.1'\] as ALIVE nodes"):
        alongside(kubectl, tmp_path, [], timeout=0.5).start(ClusterSpec(workers=0), "theirs")
    assert kubectl.verbs == ["apply", "delete"]


def test_a_manifest_that_is_refused_is_an_error_of_the_start(server: ApiServer, tmp_path: Path) -> None:
    class Refusing(Kubectl):
        def __call__(self, *arguments: str, timeout: float = 60.0) -> str:
            self.asked.append(arguments)
            raise CommandFailed("the API server said no")

    kubectl, said = Refusing(server), []  # type: Refusing, list[str]
    with pytest.raises(ClusterStartError, match="did not come up: the API server said no"):
        alongside(kubectl, tmp_path, said).start(ClusterSpec(workers=0), None)
    assert kubectl.verbs == ["apply", "delete"]
    assert said == ["kuberay: the API server said no"]


def test_an_app_is_handed_to_serve_itself(server: ApiServer, tmp_path: Path) -> None:
    kubectl = Kubectl(server)
    head = alongside(kubectl, tmp_path, []).start(ClusterSpec(workers=0), None)
    head.apply_serve_config({"applications": [{"name": "a"}]})
    put = [asked for asked in server.asked if asked.method == "PUT"]
    assert [asked.body for asked in put] == [{"applications": [{"name": "a"}]}]
    assert head.serve_config == {"applications": [{"name": "a"}]}
    head.close()
