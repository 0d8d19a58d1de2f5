"""From the settings to an external cluster, past an API server that speaks HTTP: what is asked, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from kubernetes.config import kube_config

from pytest_serve_chaos import clock
from pytest_serve_chaos.backends.kubernetes import KUBERNETES
from pytest_serve_chaos.cluster.base import ClusterSpec, Progress
from pytest_serve_chaos.cluster.capabilities import DRAINS_MACHINES, IS_EXTERNAL, STREAMS_LOGS
from pytest_serve_chaos.cluster.kubernetes.client import access
from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.client.connection import KubeConnection
from pytest_serve_chaos.cluster.kubernetes.client.drain import cordon, uncordon
from pytest_serve_chaos.cluster.kubernetes.client.records import mapped
from pytest_serve_chaos.cluster.kubernetes.logs.operator import SELECTOR
from pytest_serve_chaos.cluster.kubernetes.rayservice.cluster import RayServiceCluster
from pytest_serve_chaos.cluster.kubernetes.rayservice.head_service import dashboard_behind
from pytest_serve_chaos.errors import ClusterStartError, CommandFailed, SafetyError, Unsupported
from pytest_serve_chaos.model import Json
from pytest_serve_chaos.settings import Settings
from tests.capabilities import part
from tests.unit.api_server import ApiServer, api_server
from tests.unit.external_services import owned_pod, ray_service, running, why_not
from tests.unit.test_log_stream import wait_for

PODS = "/api/v1/namespaces/ml/pods"
NODE = "/api/v1/nodes/node-1"
QUOTAS = "/api/v1/namespaces/ml/resourcequotas"
RANGES = "/api/v1/namespaces/ml/limitranges"
HEAD = "/api/v1/namespaces/ml/services/ranker-abcde-head-svc:8265/proxy"


@pytest.fixture
def server() -> Iterator[ApiServer]:
    """A cluster with one RayService, whose app runs; this user may not watch, which would never end here."""
    with api_server() as api:
        app: Json = {"status": "RUNNING", "deployments": {"Ranker": {"target_num_replicas": 2}}}
        api.objects = {
            "/apis/ray.io/v1/namespaces/ml/rayservices/ranker": ray_service(),
            PODS: {"items": [owned_pod("head"), owned_pod("worker")]},
            NODE: {"metadata": {"uid": "n"}, "spec": {}},
            QUOTAS: {"items": []},
            RANGES: {"items": []},
            "/version/": {"gitVersion": "v1.34.2"},
            f"{HEAD}/api/version": {"ray_version": "2.60.0"},
            f"{HEAD}/api/serve/applications/": {"applications": {"ranker": app}},
        }
        api.lacking = {"watch pods", "get pods/exec"}
        yield api


def settings(
    server: ApiServer, directory: Path, monkeypatch: pytest.MonkeyPatch, context: str = "kind-test", **changes: object
) -> Settings:
    kubeconfig = server.kubeconfig(directory, context=context)
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(kubeconfig))
    return Settings(
        backend="kubernetes",
        context=context,
        rayservice="ml/ranker",
        url="http://127.0.0.1:9/rank",
        report_dir=directory / "reports",
        **changes,  # type: ignore[arg-type]
    )


def external(given: Settings, directory: Path, progress: Progress = lambda _: None) -> RayServiceCluster:
    found = KUBERNETES.adapt(given)
    spec = ClusterSpec(gcs=found.gcs, workers=found.workers, profile=found.profile, app=found.app)
    cluster = KUBERNETES.start(spec, given, directory, progress)
    assert isinstance(cluster, RayServiceCluster)
    return cluster


def changes(server: ApiServer) -> list[str]:
    return [f"{asked.method} {asked.path}" for asked in server.asked if asked.method != "GET"]


def test_it_is_taken_as_it_is_and_given_back_unchanged(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = external(settings(server, tmp_path, monkeypatch), tmp_path)
    assert cluster.spec == ClusterSpec(gcs="redis", workers=4, profile="guide", app="ranker:app")
    assert (cluster.description.ray_version, cluster.description.replicas) == ("2.60.0", 2)
    assert cluster.description.details["kubernetes version"] == "v1.34.2"
    assert "pods/exec" in why_not(cluster, "controller_failure", {"how": "kill"}, ())
    cluster.close()
    assert changes(server) == []


def test_a_cluster_that_has_to_be_named_twice_is_refused_before_it_is_asked_for_anything(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = settings(server, tmp_path, monkeypatch, context="staging")
    with pytest.raises(SafetyError, match="name it twice"):
        KUBERNETES.adapt(once)
    with pytest.raises(SafetyError, match="name it twice"):
        KUBERNETES.start(ClusterSpec(), once, tmp_path, print)
    assert server.asked == []
    twice = settings(server, tmp_path, monkeypatch, context="staging", allow_context="staging")
    assert KUBERNETES.adapt(twice).app == "ranker:app"


@pytest.mark.parametrize(
    ("method", "lacking", "says"),
    [
        ("GET", "list pods", "may not list pods in namespace ml"),
        ("GET", "get services/proxy", "may not get services/proxy in namespace ml"),
        ("POST", "create pods/proxy", "may not create pods/proxy in namespace ml"),
    ],
)
def test_without_the_right_to_look_it_says_which(
    server: ApiServer, method: str, lacking: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.lacking.add(lacking)
    with pytest.raises(ClusterStartError, match=says):
        external(settings(server, tmp_path, monkeypatch, method=method), tmp_path)


def test_what_is_sent_by_another_method_needs_no_right_to_that_one(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.lacking.add("create pods/proxy")
    external(settings(server, tmp_path, monkeypatch), tmp_path).close()


def test_a_node_is_cordoned_and_opened_by_a_patch_of_that_field_alone(server: ApiServer, tmp_path: Path) -> None:
    api = KubeApi(server.kubeconfig(tmp_path), namespace="ml")
    cordon(api, "node-1")
    uncordon(api, "node-1")
    api.close()
    assert {asked.content_type for asked in server.asked} == {"application/strategic-merge-patch+json"}
    assert {asked.query for asked in server.asked} == {"fieldManager=pytest-serve-chaos"}
    assert [asked.body for asked in server.asked] == [
        {"spec": {"unschedulable": True}},
        {"spec": {"unschedulable": None}, "metadata": {"annotations": {"pytest-serve-chaos/undo": None}}},
    ]


@pytest.mark.parametrize(
    ("allow", "lacking", "says"),
    [
        ((), "", "--serve-chaos-allow=node"),
        (("node",), "patch nodes", "may not patch nodes"),
    ],
)
def test_a_drain_that_must_not_be_leaves_nothing_to_undo(
    server: ApiServer,
    allow: tuple[str, ...],
    lacking: str,
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server.lacking.add(lacking)
    given = settings(server, tmp_path, monkeypatch, allow=allow)
    cluster = external(given, tmp_path)
    with pytest.raises(Unsupported, match=says):
        part(cluster, DRAINS_MACHINES).drain_machine("worker-1")
    part(cluster, DRAINS_MACHINES).reopen_machine("worker-1")
    cluster.close()
    assert changes(server) == []
    assert given.journal.entries() == ()


def test_the_guard_knows_a_path_behind_a_server_of_several_clusters(tmp_path: Path) -> None:
    asked = []
    with api_server("/k8s/clusters/c-7") as server:
        api = KubeApi(
            server.kubeconfig(tmp_path), namespace="ml", permit=lambda method, path, body=None: asked.append(path)
        )
        api.delete_pod("head", "uid", grace=0)
        api.close()
    assert asked == [f"{PODS}/head"]
    assert changes(server) == [f"DELETE {PODS}/head"]


def test_a_ray_that_wants_its_token_is_not_asked_by_who_may_not_read_it_in_a_pod(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.objects["/apis/ray.io/v1/namespaces/ml/rayservices/ranker"] = ray_service(authOptions={"mode": "token"})
    with pytest.raises(ClusterStartError, match="has authOptions, and this user may not get pods/exec"):
        external(settings(server, tmp_path, monkeypatch), tmp_path)
    assert not [asked for asked in server.asked if HEAD in asked.path]


def test_a_token_that_is_written_anew_is_sent_from_then_on(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = tmp_path / "token"
    token.write_text("first")
    api = KubeApi(server.kubeconfig(tmp_path, user=f"{{tokenFile: {token}}}"), namespace="ml")
    api.raw_pods()
    token.write_text("second")
    api.raw_pods()
    now = clock.now
    monkeypatch.setattr(clock, "now", lambda: now() + access._RENEWED_EVERY + 1)
    api.raw_pods()
    api.raw_pods()
    assert [asked.token for asked in server.asked] == ["first", "first", "second", "second"]
    assert dict(api.access().headers()) == {"Authorization": "Bearer second"}
    api.close()


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_the_api_server_is_reached_directly(
    server: ApiServer, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = "http://127.0.0.1:9"
    monkeypatch.setenv(name, nowhere)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    kubeconfig = server.kubeconfig(tmp_path)
    said = kubeconfig.read_text()
    for cluster in ("", f', proxy-url: "{nowhere}", tls-server-name: elsewhere'):
        kubeconfig.write_text(said.replace(f'server: "{server.address}"', f'server: "{server.address}"{cluster}'))
        api = KubeApi(kubeconfig, namespace="ml")
        assert len(api.raw_pods()) == 2
        with pytest.raises(CommandFailed, match="404"):  # our server's word
            api.run("head", "ray-head", ["true"])
        dashboard = dashboard_behind(api, "ranker-abcde-head-svc")
        assert dashboard.ray_version() == "2.60.0"
        dashboard.close()
        api.close()


def test_the_name_on_the_certificate_is_the_servers_for_all_requests(tmp_path: Path) -> None:
    kubeconfig = ApiServer("https://k8s.example.com", "").kubeconfig(tmp_path)
    kubeconfig.write_text(kubeconfig.read_text().replace("server:", "tls-server-name: elsewhere, server:"))
    connection = KubeConnection(kubeconfig, context=None, namespace="ml", permit=None)
    assert connection._load().tls_server_name is None
    connection.close()


def test_a_kubeconfig_that_is_gone_for_a_moment_costs_nothing(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kubeconfig = server.kubeconfig(tmp_path)
    api = KubeApi(kubeconfig, namespace="ml")
    kubeconfig.unlink()
    now = clock.now
    monkeypatch.setattr(clock, "now", lambda: now() + access._RENEWED_EVERY + 1)
    assert len(api.raw_pods()) == 2
    assert server.asked[-1].token == "none"
    api.close()


def test_the_dashboard_of_a_head_is_asked_through_the_api_server(server: ApiServer, tmp_path: Path) -> None:
    api = KubeApi(server.kubeconfig(tmp_path), namespace="ml")
    dashboard = dashboard_behind(api, "ranker-abcde-head-svc")
    assert dashboard.ray_version() == "2.60.0"
    assert server.asked[-1].token == "none"
    dashboard.close()
    api.close()


def test_no_serve_config_gets_past_the_guard(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = external(settings(server, tmp_path, monkeypatch), tmp_path)
    with pytest.raises(SafetyError, match=f"refused on the external cluster: PUT {HEAD}/api/serve/applications/"):
        cluster.dashboard.put_serve({"applications": []})
    cluster.close()
    assert changes(server) == []


def test_the_guard_knows_the_dashboards_path_behind_a_server_of_several_clusters(tmp_path: Path) -> None:
    asked = []
    with api_server("/k8s/clusters/c-7") as server:
        server.objects[f"{HEAD}/api/version"] = {"ray_version": "2.60.0"}
        api = KubeApi(
            server.kubeconfig(tmp_path),
            namespace="ml",
            permit=lambda method, path, body=None: asked.append((method, path)),
        )
        dashboard = dashboard_behind(api, "ranker-abcde-head-svc")
        assert dashboard.ray_version() == "2.60.0"
        dashboard.close()
        api.close()
    assert asked == [("GET", f"{HEAD}/api/version")]


def test_how_many_replicas_there_are_is_known_from_the_start(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app: Json = {"status": "RUNNING", "deployments": {"Ranker": {"target_num_replicas": 1}}}
    server.objects[f"{HEAD}/api/serve/applications/"] = {"applications": {"ranker": app}}
    cluster = external(settings(server, tmp_path, monkeypatch), tmp_path)
    del server.objects[f"{HEAD}/api/serve/applications/"]
    assert "has one replica" in why_not(cluster, "worker_failure", {"how": "stop"}, ())
    cluster.close()


# -- the operator's log ------------------------------------------------------------------------------------------------


NAMESPACE = "kuberay-system"
THERE = f"/api/v1/namespaces/{NAMESPACE}/pods"
LOST = "kubernetes: the log of KubeRay's operator will not be kept: "


@pytest.fixture
def operator(server: ApiServer) -> None:
    """The operator in its namespace, which has written a line; the RayService's namespace has none."""
    pod = running("kuberay-operator-1")
    status: Json = {"name": "manager", "ready": True, "state": {"running": {}}, "containerID": "containerd://op"}
    pod["spec"] = {"nodeName": "node-1", "containers": [{"name": "manager", "image": "operator:1"}]}
    pod["status"] = {**mapped(pod["status"]), "containerStatuses": [status]}
    server.objects[THERE] = {"items": [pod]}
    server.objects[f"{THERE}/kuberay-operator-1/log"] = "2026-11-22T18:04:11Z reconciled\n"
    server.objects[PODS] = {"items": []}


def asked_there(server: ApiServer) -> set[tuple[str, str]]:
    """Methods and paths of what was asked in the operator's namespace."""
    return {(asked.method, asked.path.removeprefix(THERE)) for asked in server.asked if NAMESPACE in asked.path}


@pytest.mark.usefixtures("operator")
def test_it_is_kept_where_the_user_says_where_it_is_and_nothing_is_changed_there(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    given = settings(server, tmp_path, monkeypatch, operator_namespace=NAMESPACE)
    cluster = external(given, tmp_path, told.append)
    stream = part(cluster, STREAMS_LOGS).stream_logs(tmp_path / "logs")
    file = tmp_path / "logs" / "operator_kuberay-operator-1" / "container.log"
    wait_for(lambda: file.exists() and "reconciled" in file.read_text())
    stream.close()
    cluster.close()
    assert not [line for line in told if line.startswith(LOST)]
    assert cluster.description.details["operator image"] == "operator:1"
    assert asked_there(server) == {("GET", ""), ("GET", "/kuberay-operator-1/log")}
    assert changes(server) == []


@pytest.mark.usefixtures("operator")
@pytest.mark.parametrize("right", ["list pods", "get pods/log"])
def test_without_the_right_to_it_that_is_said_and_nothing_is_asked_there(
    server: ApiServer, right: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.lacking.add(f"{right} in {NAMESPACE}")
    told: list[str] = []
    given = settings(server, tmp_path, monkeypatch, operator_namespace=NAMESPACE)
    cluster = external(given, tmp_path, told.append)
    part(cluster, STREAMS_LOGS).stream_logs(tmp_path / "logs").close()
    cluster.close()
    lost = [line for line in told if line.startswith(LOST)]
    assert lost == [f"{LOST}this user may not {right} in namespace {NAMESPACE}"]
    assert asked_there(server) == set()


def test_where_it_is_not_that_is_said(server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.objects[THERE] = {"items": []}
    told: list[str] = []
    external(settings(server, tmp_path, monkeypatch, operator_namespace=NAMESPACE), tmp_path, told.append).close()
    assert told[-1] == f"{LOST}no pod in namespace {NAMESPACE} has the label {SELECTOR}"


@pytest.mark.usefixtures("operator")
def test_unless_it_is_said_no_other_namespace_is_looked_at(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = external(settings(server, tmp_path, monkeypatch), tmp_path)
    part(cluster, STREAMS_LOGS).stream_logs(tmp_path / "logs").close()
    cluster.close()
    assert asked_there(server) == set()


# -- what its owner has, and does --------------------------------------------------------------------------------------


def test_no_program_is_run_in_pods_that_share_processes(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    server.lacking = {"watch pods"}
    head: Json = {"template": {"spec": {"hostPID": True, "containers": [{"name": "ray-head"}]}}}
    server.objects["/apis/ray.io/v1/namespaces/ml/rayservices/ranker"] = ray_service(headGroupSpec=head)
    cluster = external(settings(server, tmp_path, monkeypatch), tmp_path, told.append)
    assert any("the pods have hostPID, so the plugin runs no program in them" in line for line in told)
    assert "the pods have hostPID" in why_not(cluster, "controller_failure", {"how": "kill"}, ())
    assert why_not(cluster, "worker_failure", {"how": "stop"}, ()) == ""
    cluster.nodes()
    cluster.components()
    cluster.close()
    assert not [asked.path for asked in server.asked if asked.path.endswith("/exec")]


def test_what_its_owner_does_after_the_connection_is_noticed(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = "/apis/ray.io/v1/namespaces/ml/rayservices/ranker"
    cluster = external(settings(server, tmp_path, monkeypatch), tmp_path)
    owner = part(cluster, IS_EXTERNAL)
    assert owner.owner_change() == ""
    server.objects[path] = {**ray_service(), "metadata": {"name": "ranker", "uid": "another"}}
    assert owner.owner_change() == "RayService ranker was deleted and created again"
    del server.objects[path]
    assert owner.owner_change() == "RayService ranker was deleted"
    cluster.close()


def test_a_rayservice_that_its_owner_has_deleted_is_one_clear_line(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = settings(server, tmp_path, monkeypatch)
    spec = external(given, tmp_path).spec
    del server.objects["/apis/ray.io/v1/namespaces/ml/rayservices/ranker"]
    with pytest.raises(ClusterStartError) as gone:
        KUBERNETES.start(spec, given, tmp_path, print)
    assert gone.value.what == "there is no RayService ml/ranker in context kind-test"
