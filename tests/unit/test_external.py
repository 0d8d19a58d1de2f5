"""A RayService that is somebody's: what may be done to it, what is asked of it, and what a user has no right to ask."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP
from typing import cast

import pytest

from pytest_serve_chaos.cluster.asking import path_in_serve
from pytest_serve_chaos.cluster.base import Cluster, ClusterSpec
from pytest_serve_chaos.cluster.capabilities import (
    DRAINS_MACHINES,
    FREEZES_NODES,
    IS_EXTERNAL,
    KILLS_ACTORS,
    KILLS_NODES,
    SEES_PROCESSES,
    SETS_HEALTH_FLAGS,
    SIGNALS_PROCESSES,
    STREAMS_LOGS,
    Endpoint,
)
from pytest_serve_chaos.cluster.kubernetes.client.api import ExecResult, KubeApi
from pytest_serve_chaos.cluster.kubernetes.client.records import Pod
from pytest_serve_chaos.cluster.kubernetes.external import rights
from pytest_serve_chaos.cluster.kubernetes.external.start import OwnPods, unkept_logs
from pytest_serve_chaos.cluster.kubernetes.rayservice.existing import FoundRayService, differences, read_ray_service
from pytest_serve_chaos.cluster.kubernetes.rayservice.probe import Probe, ask
from pytest_serve_chaos.cluster.serve_config import serve_port
from pytest_serve_chaos.errors import (
    ClusterStartError,
    CommandFailed,
    ObservationError,
    SafetyError,
    SettingsError,
    Unsupported,
)
from pytest_serve_chaos.faults.catalogue import BUILT_IN
from pytest_serve_chaos.model import Component, Identity, Json
from pytest_serve_chaos.traffic.request import Message
from tests.capabilities import part
from tests.unit.external_services import (
    CONFIG,
    Status,
    WithFlags,
    cordoned_by,
    external,
    losing,
    owned_pod,
    ray_service,
    why_not,
)
from tests.unit.rayservices import KubeCalls, pod
from tests.unit.test_kind_programs import KUBECONFIG

# -- what it is --------------------------------------------------------------------------------------------------------


def test_a_rayservice_is_read_as_it_is() -> None:
    found = read_ray_service(ray_service())
    assert found == FoundRayService(
        "ranker",
        "redis",
        4,
        CONFIG,
        redis="redis:6379",
        ray_cluster="ranker-abcde",
        head_service="ranker-abcde-head-svc",
    )
    assert found.spec == ClusterSpec(gcs="redis", workers=4, profile="guide", app="ranker:app")


def test_the_workers_that_an_autoscaler_wants_count() -> None:
    item = ray_service()
    status: dict[str, Json] = {"desiredWorkerReplicas": 7, "head": {"serviceName": "head"}}
    item["status"] = {"activeServiceStatus": {"rayClusterName": "r", "rayClusterStatus": status}}
    found = read_ray_service(item)
    assert (found.workers, found.head_service) == (7, "head")


def test_the_older_way_to_fault_tolerance_is_seen() -> None:
    env: Json = [{"name": "RAY_REDIS_ADDRESS", "value": "redis://redis.other.svc:6379"}]
    head: Json = {"template": {"spec": {"containers": [{"env": env}]}}}
    item = ray_service(gcsFaultToleranceOptions=None, headGroupSpec=head)
    assert read_ray_service(item).gcs == "none"
    item["metadata"] = {"name": "ranker", "annotations": {"ray.io/ft-enabled": "true"}}
    found = read_ray_service(item)
    assert (found.gcs, found.redis) == ("redis", "redis.other.svc:6379")


@pytest.mark.parametrize(("value", "ingress"), [("1", "haproxy"), ("0", "python"), ("", "python")])
def test_the_environment_of_the_head_says_what_takes_the_requests(value: str, ingress: str) -> None:
    env: Json = [{"name": "RAY_SERVE_ENABLE_HA_PROXY", "value": value}]
    head: Json = {"template": {"spec": {"containers": [{"env": env}]}}}
    found = read_ray_service(ray_service(headGroupSpec=head))
    assert (found.ingress, found.spec.ingress) == (ingress, ingress)


@pytest.mark.parametrize("config", ["", "applications: []", "applications: [", "just text"])
def test_a_rayservice_without_an_app_cannot_be_tested(config: str) -> None:
    item = ray_service()
    item["spec"] = {"serveConfigV2": config, "rayClusterConfig": {}}
    with pytest.raises(ClusterStartError, match="ranker"):
        read_ray_service(item)


def test_what_a_test_wants_otherwise_is_said() -> None:
    found = read_ray_service(ray_service()).spec
    assert differences(found, found) == []
    assert differences(ClusterSpec("none", 4, "guide", "ranker:app", (("a", 1),)), found) == [
        "gcs='none' and not 'redis'",
        "app_args={'a': 1} and not {}",
    ]


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("https://staging.example.com/rank", "/rank"),
        ("https://staging.example.com/rank/best?n=3", "/rank/best?n=3"),
        ("https://ranker.example.com/", "/rank"),
        ("https://ranker.example.com/ranking", "/rank"),
    ],
)
def test_a_proxy_is_asked_for_what_the_users_url_means(url: str, path: str) -> None:
    assert path_in_serve(url, CONFIG) == path


@pytest.mark.parametrize(("config", "port"), [(CONFIG, 8000), ({**CONFIG, "http_options": {"port": 9000}}, 9000)])
def test_its_proxies_are_asked_on_the_port_of_its_config(config: dict[str, Json], port: int) -> None:
    assert serve_port(config) == port


# -- whose pods they are -----------------------------------------------------------------------------------------------


class Pods:
    """The API server, as far as pods are asked for."""

    def __init__(self, *items: dict[str, Json]) -> None:
        self.items = list(items)

    def ray_service(self, name: str) -> dict[str, Json]:
        assert name == "ranker"
        return ray_service()

    def raw_pods(self, selector: str) -> Sequence[dict[str, Json]]:
        assert selector == "ray.io/cluster=ranker-abcde"
        return self.items


def test_a_pod_belongs_to_the_rayservice_by_its_owner_and_stays_known() -> None:
    api = Pods(owned_pod("head"), owned_pod("stranger", owner="another"))
    own = OwnPods(cast("KubeApi", api), "ranker")
    assert own.owns("head")
    assert not own.owns("stranger")
    assert own.carries("node-1")
    assert not own.carries("node-2")
    api.items = [owned_pod("new-head", node="node-2")]
    assert own.owns("new-head")
    assert own.owns("head")
    assert own.carries("node-2")


# -- what may be done --------------------------------------------------------------------------------------------------


KILL: dict[str, str | float] = {"how": "kill"}
ONE_REPLICA = "ranker#Ranker has one replica, so losing it leaves none (allow_total_loss=True breaks it all the same)"


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("head_failure", KILL),
        ("head_failure", {"how": "stop"}),
        ("worker_failure", KILL),
        ("controller_failure", {"how": "kill", "replacement": "new_actor"}),
        ("replica_failure", KILL),
        ("proxy_failure", KILL),
        ("gcs_failure", KILL),
        ("health_check_failure", {"how": "fail_health_check"}),
    ],
)
def test_what_the_owner_allows_can_be_broken(kind: str, options: dict[str, str | float]) -> None:
    assert why_not(external(), kind, options, ()) == ""


@pytest.mark.parametrize(
    ("kind", "options", "reason"),
    [
        ("redis_failure", KILL, "Redis does not belong"),
        ("rayservice_upgrade", {"how": "upgrade"}, "does not change the spec of an external RayService"),
        ("head_failure", {"how": "kill", "hold": True}, "none can be kept down"),
        ("node_failure", KILL, "how='drain' works here"),
        ("node_failure", {"how": "drain"}, "--serve-chaos-allow=node"),
    ],
)
def test_what_is_not_the_rayservices_is_left_alone(kind: str, options: dict[str, str | float], reason: str) -> None:
    assert reason in why_not(external(), kind, options, ())


def test_nodes_can_be_drained_where_that_is_allowed() -> None:
    assert why_not(external(allow=["node"]), "node_failure", {"how": "drain"}, ()) == ""


@pytest.mark.parametrize(
    ("lacking", "kind", "how"),
    [
        (rights.DELETE, "head_failure", "stop"),
        (rights.RUN[0], "head_failure", "kill"),
        (rights.RUN[1], "proxy_failure", "kill"),
        (rights.RUN[0], "worker_failure", "freeze"),
        (rights.DRAIN[2], "node_failure", "drain"),
    ],
)
def test_what_this_user_has_no_right_to_is_not_tried(lacking: rights.Right, kind: str, how: str) -> None:
    cluster = external(lacking=[lacking], allow=["node"])
    assert why_not(cluster, kind, {"how": how}, ()) == f"this user may not {lacking} (SelfSubjectAccessReview)"
    assert part(cluster, SEES_PROCESSES).sees_processes == (lacking not in rights.RUN)


def test_without_fault_tolerance_the_head_is_only_taken_where_the_test_asks_for_that() -> None:
    weak = external(gcs="none")
    assert "no GCS fault tolerance" in why_not(weak, "head_failure", KILL, ())
    assert why_not(weak, "head_failure", KILL, ("gcs",)) == ""
    assert why_not(weak, "replica_failure", KILL, ()) == ""


def test_what_would_leave_nothing_is_not_broken() -> None:
    one = external(targets={"ranker#Ranker": 1, "ranker#Cache": 2})
    assert why_not(one, "replica_failure", KILL, ()) == ONE_REPLICA
    assert why_not(one, "replica_failure", {**KILL, "deployment": "Cache"}, ()) == ""
    assert "1 worker" in why_not(external(workers=1), "worker_failure", KILL, ())


@pytest.mark.parametrize("kind", ["proxy_failure", "head_failure", "gcs_failure"])
def test_the_only_proxy_is_not_broken_whatever_takes_it(kind: str) -> None:
    only_on_head = external(proxy_location="HeadOnly")
    assert why_not(only_on_head, kind, KILL, ()) == (
        "only the head has a proxy (proxy_location: HeadOnly), so losing it leaves none"
        " (allow_total_loss=True breaks it all the same)"
    )
    assert why_not(only_on_head, kind, {**KILL, "allow_total_loss": True}, ()) == ""
    assert why_not(only_on_head, "worker_failure", KILL, ()) == ""


def test_the_only_proxy_is_not_made_stale() -> None:
    only_on_head = external(proxy_location="HeadOnly")
    new = {**KILL, "replacement": "new_actor"}
    assert "may not hear a new controller" in why_not(only_on_head, "controller_failure", new, ())
    assert why_not(only_on_head, "controller_failure", KILL, ()) == ""


ALONE = "KubeRay's Service sends requests to the pod of worker-1 alone, so losing its proxy leaves none"


def behind_the_service(**ready: bool) -> Cluster:
    """A RayService whose head KubeRay keeps out of its Service; worker -> whether it is Ready."""
    head = replace(pod("h", "head", "10.0.0.1"), labels={**pod("h", "head", "").labels, "ray.io/serve": "false"})
    workers = []
    for number, (name, is_ready) in enumerate(ready.items()):
        one = pod(name, "worker", f"10.0.0.{number + 2}")
        (container,) = one.containers
        container = replace(container, ready=is_ready)
        workers.append(replace(one, labels={**one.labels, "ray.io/serve": "true"}, containers=(container,)))
    return external(api=WithFlags(head, *workers))


def hit(cluster: Cluster, kind: str, *victims: Component, **options: object) -> None:
    touch = BUILT_IN.choose(kind, {**KILL, **options}).touch()
    part(cluster, IS_EXTERNAL).admit(replace(touch, victims=victims), ())


def proxy(node: str) -> Component:
    return Component("proxy", node, Identity("process", ("uid", "container", "5", "7")), 5)


def test_the_only_proxy_behind_the_service_is_not_broken() -> None:
    one_ready = behind_the_service(w1=True, w2=False)
    for kind in ("proxy_failure", "worker_failure"):
        with pytest.raises(Unsupported, match=ALONE):
            hit(one_ready, kind, proxy("worker-1"))
        hit(one_ready, kind, proxy("worker-2"))
        hit(one_ready, kind, proxy("worker-1"), allow_total_loss=True)
    hit(one_ready, "proxy_failure", proxy("head"))
    hit(behind_the_service(w1=True, w2=True), "proxy_failure", proxy("worker-1"))
    hit(behind_the_service(w1=False, w2=False), "proxy_failure", proxy("worker-1"))


def test_the_node_of_the_only_proxy_behind_the_service_is_not_taken_by_the_cluster_itself_either() -> None:
    one_ready = behind_the_service(w1=True, w2=False)
    with pytest.raises(Unsupported, match=ALONE):
        part(one_ready, KILLS_NODES).kill_node("worker-1", how="stop", hold=False)


@pytest.mark.parametrize(
    ("cluster", "kind"),
    [
        (external(targets={"ranker#Ranker": 1}), "replica_failure"),
        (external(workers=1), "worker_failure"),
        (external(gcs="none"), "head_failure"),
    ],
    ids=["the only replica", "the only worker", "a head without fault tolerance"],
)
def test_what_would_leave_nothing_is_broken_where_the_test_says_so(cluster: Cluster, kind: str) -> None:
    assert why_not(cluster, kind, KILL, ()) != ""
    assert why_not(cluster, kind, {**KILL, "allow_total_loss": True}, ()) == ""


def test_total_loss_allows_nothing_else() -> None:
    allowed = {"how": "kill", "hold": True, "allow_total_loss": True}
    assert "none can be kept down" in why_not(external(), "worker_failure", allowed, ())
    lacking = external(lacking=[rights.DELETE])
    assert "may not delete pods" in why_not(lacking, "worker_failure", {**KILL, "allow_total_loss": True}, ())


@pytest.mark.parametrize("said", [None, {}], ids=["nothing", "no deployments"])
def test_the_only_replica_is_known_also_while_the_dashboard_does_not_tell(said: dict[str, int] | None) -> None:
    one = external(targets={"ranker#Ranker": 1})
    status = cast("Status", one.dashboard)
    status.targets = said
    assert why_not(one, "replica_failure", KILL, ()) == ONE_REPLICA
    status.targets = {"ranker#Ranker": 2}
    assert why_not(one, "replica_failure", KILL, ()) == ""
    status.targets = said
    assert why_not(one, "replica_failure", KILL, ()) == ""


def test_handles_that_would_stay_deaf_are_not_made() -> None:
    composed = external(targets={"ranker#Ranker": 2, "ranker#Cache": 2})
    assert "stale" in why_not(composed, "controller_failure", {**KILL, "replacement": "new_actor"}, ())
    assert why_not(composed, "controller_failure", KILL, ()) == ""


def test_its_config_is_not_changed() -> None:
    with pytest.raises(Unsupported, match="does not change the Serve config of an external RayService"):
        external().apply_serve_config({})


# -- nodes -------------------------------------------------------------------------------------------------------------


class Nodes(WithFlags):
    """Kubernetes nodes; the pods that are evicted are gone, and come again on the next node."""

    namespace = "ml"

    def __init__(self) -> None:
        super().__init__(replace(pod("w1", "worker", "10.0.0.2"), node="node-1"))
        self.cordoned: list[tuple[str, Json]] = []
        self.closed: set[object] = set()

    def call(self, method: str, *arguments: object, what: str, **options: object) -> dict[str, Json]:
        if method == "patch_node":
            node, body = cast("tuple[str, dict[str, dict[str, Json]]]", arguments)
            self.cordoned.append((node, body["spec"]["unschedulable"]))
            self.closed ^= {node}
        if method == "create_namespaced_pod_eviction":
            self.ray_pods = (
                [replace(pod("w2", "worker", "10.0.0.3"), node="node-2")] if arguments[0] == "pod-w1" else []
            )
        return cordoned_by("pytest-serve-chaos") if arguments[0] in self.closed else {}


def test_each_node_that_was_drained_under_the_same_name_is_opened_again() -> None:
    api = Nodes()
    cluster = external(allow=["node"], api=api)
    drains = part(losing(cluster, "worker-1"), DRAINS_MACHINES)
    drains.drain_machine("worker-1")
    drains.drain_machine("worker-1")
    part(cluster, DRAINS_MACHINES).reopen_machine("worker-1")
    part(cluster, DRAINS_MACHINES).reopen_machine("worker-1")
    part(cluster, DRAINS_MACHINES).reopen_machine("worker-1")
    assert api.cordoned == [("node-1", True), ("node-2", True), ("node-2", None), ("node-1", None)]


@pytest.mark.parametrize(
    ("gcs", "roles", "reason"),
    [
        ("none", ("head", "worker"), "without GCS fault tolerance its loss restarts all"),
        ("redis", ("worker", "worker"), "draining it leaves none"),
    ],
)
def test_a_node_that_carries_too_much_of_the_rayservice_is_not_drained(
    gcs: str, roles: tuple[str, str], reason: str
) -> None:
    api = Nodes()
    api.ray_pods = [replace(pod(f"p{n}", role, f"10.0.0.{n}"), node="node-1") for n, role in enumerate(roles)]
    cluster = external(gcs=gcs, allow=["node"], api=api)
    with pytest.raises(Unsupported, match=reason):
        part(cluster, DRAINS_MACHINES).drain_machine("worker-1")
    assert api.cordoned == []


def test_the_heads_node_is_only_drained_without_fault_tolerance_where_the_test_asks_for_that() -> None:
    drain: dict[str, str | float] = {"how": "drain", "which": "head"}
    weak = external(gcs="none", allow=["node"])
    assert "losing the head restarts all of it" in why_not(weak, "node_failure", drain, ())
    assert why_not(weak, "node_failure", drain, ("gcs",)) == ""
    assert why_not(external(allow=["node"]), "node_failure", drain, ()) == ""


# -- by hand -----------------------------------------------------------------------------------------------------------


def test_what_nobody_has_thought_of_is_refused() -> None:
    with pytest.raises(SettingsError, match="there is no fault 'disk_failure'"):
        why_not(external(), "disk_failure", KILL)
    with pytest.raises(SettingsError, match="Invalid how='melt'"):
        why_not(external(), "worker_failure", {"how": "melt"})


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("replica_failure", {**KILL, "deployment": "Nowhere"}),
        ("controller_failure", {**KILL, "replacement": "new_actor"}),
    ],
)
def test_what_would_be_left_must_be_known(kind: str, options: dict[str, str | float]) -> None:
    cluster = external(targets={} if kind == "controller_failure" else None)
    cast("Status", cluster.dashboard).targets = None
    assert "it is unknown what would be left" in why_not(cluster, kind, options, ())


@pytest.mark.parametrize(("node", "gcs", "workers"), [("head", "none", 2), ("worker-1", "redis", 1)])
def test_whoever_holds_the_cluster_itself_breaks_no_more_than_a_fault_may(node: str, gcs: str, workers: int) -> None:
    api = WithFlags(pod("h", "head", "10.0.0.1"), pod("w", "worker", "10.0.0.2"))
    cluster = external(api=api, gcs=gcs, workers=workers)
    with pytest.raises(Unsupported, match="losing"):
        part(cluster, KILLS_NODES).kill_node(node, how="stop", hold=False)
    with pytest.raises(Unsupported, match="losing"):
        part(cluster, FREEZES_NODES).freeze_node(node)
    assert api.deleted == []


BY_A_NODE: dict[str, Callable[[Cluster], object]] = {
    "kill": lambda cluster: part(cluster, KILLS_NODES).kill_node("worker-2", how="stop", hold=False),
    "freeze": lambda cluster: part(cluster, FREEZES_NODES).freeze_node("worker-2"),
    "drain": lambda cluster: part(cluster, DRAINS_MACHINES).drain_machine("worker-2"),
}


@pytest.mark.parametrize("how", BY_A_NODE)
def test_a_node_that_no_admitted_fault_takes_away_is_left_alone(how: str) -> None:
    places = (("h", "head"), ("w1", "worker"), ("w2", "worker"))
    api = Nodes()
    api.ray_pods = [replace(pod(name, role, f"10.0.0.{n}"), node=name) for n, (name, role) in enumerate(places)]
    cluster = losing(external(allow=["node"], api=api), "worker-1")
    with pytest.raises(Unsupported, match="worker-2 is not a victim of the fault that was admitted last"):
        BY_A_NODE[how](cluster)
    assert (api.deleted, api.cordoned) == ([], [])


def test_a_test_that_asks_for_no_fault_tolerance_may_take_the_head() -> None:
    cluster = external(gcs="none")
    with pytest.raises(Unsupported, match="no GCS fault tolerance"):
        part(cluster, IS_EXTERNAL).admit(BUILT_IN.choose("head_failure", KILL).touch(), ())
    part(cluster, IS_EXTERNAL).admit(BUILT_IN.choose("head_failure", KILL).touch(), ("gcs",))


# -- requests past the client ------------------------------------------------------------------------------------------


def test_the_guard_stands_before_every_request(tmp_path: Path) -> None:
    (tmp_path / "kubeconfig").write_text(KUBECONFIG)
    asked: list[tuple[str, str]] = []

    def permit(method: str, path: str, body: object = None, /) -> None:
        asked.append((method, path))
        raise SafetyError("no")

    api = KubeApi(tmp_path / "kubeconfig", namespace="ml", permit=permit)
    for change in (
        lambda: api.delete_pod("a", "uid", grace=0),
        lambda: api.patch_ray_service("ranker", {}),
        lambda: api.nodes.patch("n", {}, what="n"),
        lambda: api.run("a", "c", ["true"]),
        lambda: api.pods(),
    ):
        with pytest.raises(SafetyError, match="no"):
            change()
    api.close()
    assert asked == [
        ("DELETE", "/api/v1/namespaces/ml/pods/a"),
        ("PATCH", "/apis/ray.io/v1/namespaces/ml/rayservices/ranker"),
        ("PATCH", "/api/v1/nodes/n"),
        ("EXEC", "/api/v1/namespaces/ml/pods/a/exec"),
        ("GET", "/api/v1/namespaces/ml/pods"),
    ]


def test_a_token_is_sent_with_what_goes_through_the_api_server(tmp_path: Path) -> None:
    (tmp_path / "kubeconfig").write_text(KUBECONFIG)
    api = KubeApi(tmp_path / "kubeconfig", namespace="ml")
    way = api.access()
    api.close()
    assert (way.server, dict(way.headers())) == ("http://127.0.0.1:9", {"Authorization": "Bearer none"})


class Answering(BaseHTTPRequestHandler):
    """Says which replica it is, and keeps what it was asked."""

    asked: list[tuple[str, str, str | None]]
    status = 200

    def do_POST(self) -> None:
        self.asked.append((self.path, self.headers["X-Request-ID"], self.headers["Authorization"]))
        self.send_response(self.status)
        self.send_header("x-serve-chaos-replica", "ranker#Ranker#abc")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def answering(status: int) -> Iterator[tuple[str, list[tuple[str, str, str | None]]]]:
    handler = type("Handler", (Answering,), {"asked": [], "status": status})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/rank", handler.asked  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(("status", "replica"), [(200, "ranker#Ranker#abc"), (503, "")])
def test_a_proxy_is_asked_as_the_traffic_does(status: int, replica: str) -> None:
    with answering(status) as (url, asked):
        probe = Probe("POST", {"Accept": "*/*"}, b"{}", 5.0, path="/rank")
        (message,) = probe.asking.source({}).one_of_each_app
        endpoint = Endpoint(url.removesuffix("/rank"), {"Authorization": "Bearer t"})
        assert ask(endpoint, probe, message, "id-1") == replica
        assert asked == [("/rank", "id-1", "Bearer t")]


def test_nobody_there_is_no_answer() -> None:
    assert ask(Endpoint("http://127.0.0.1:9/"), Probe(timeout=1.0), Message(), "id") == ""


# -- rights ------------------------------------------------------------------------------------------------------------


class Reviews(KubeCalls):
    """An API server that allows some rights."""

    namespace = "ml"

    def __init__(self, *allowed: str) -> None:
        self.allowed = allowed
        self.asked: list[Json] = []

    def call(self, method: str, *arguments: object, what: str, **options: object) -> dict[str, Json]:
        if method != "create_self_subject_access_review":
            raise CommandFailed(what)
        (body,) = cast("tuple[dict[str, dict[str, dict[str, str]]]]", arguments)
        spec = body["spec"]["resourceAttributes"]
        self.asked.append(cast("Json", spec))
        return {"status": {"allowed": f"{spec['verb']} {spec['resource']}/{spec['subresource']}" in self.allowed}}


def test_each_right_is_reviewed_by_the_api_server() -> None:
    api = Reviews("delete pods/", "get pods/exec")
    lacking = rights.missing(cast("KubeApi", api), [rights.DELETE, *rights.RUN, rights.DRAIN[1]])
    assert lacking == (rights.RUN[1], rights.DRAIN[1])
    assert api.asked[0] == {"verb": "delete", "resource": "pods", "subresource": "", "group": "", "namespace": "ml"}
    assert "namespace" not in cast("dict[str, Json]", api.asked[-1])


@pytest.mark.parametrize(
    ("lacking", "notes"),
    [
        ([rights.DELETE], []),
        ([rights.LOGS], ["what containers write to their output will not be kept: this user may not get pods/log"]),
        ([rights.RUN[1]], ["Ray's and Serve's log files will not be kept: this user may not create pods/exec"]),
    ],
)
def test_logs_that_will_be_lost_are_said_beforehand(lacking: list[rights.Right], notes: list[str]) -> None:
    assert unkept_logs(lacking) == notes
    assert unkept_logs(lacking, "kuberay-system") == notes


def test_a_right_in_another_namespace_is_asked_for_there() -> None:
    api = Reviews("list pods/")
    wanted = rights.operator_log("kuberay-system")
    assert rights.missing(cast("KubeApi", api), wanted) == (wanted[1],)
    assert {cast("dict[str, Json]", asked)["namespace"] for asked in api.asked} == {"kuberay-system"}
    assert str(wanted[1]) == "get pods/log in namespace kuberay-system"
    assert rights.operator_log(None) == ()


@pytest.mark.parametrize(("lacking", "output", "files"), [([rights.LOGS], 0, 1), ([rights.RUN[0]], 1, 0), ([], 1, 1)])
def test_only_the_logs_that_this_user_may_read_are_streamed(
    lacking: list[rights.Right], output: int, files: int, tmp_path: Path
) -> None:
    class Api(WithFlags):
        namespace = "ml"
        opened = programs = 0

        def pods(self, selector: str = "", *, namespace: str | None = None) -> tuple[Pod, ...]:
            return () if "operator" in selector else (pod("h", "head", "10.0.0.1"),)

        def ray_service(self, name: str) -> dict[str, Json]:
            return ray_service()

        @property
        def pod_logs(self) -> Api:
            return self

        def open(self, *arguments: object, **options: object) -> None:
            self.opened += 1
            raise ObservationError("no")

        def follow(self, *arguments: object, **options: object) -> Iterator[str]:
            self.programs += 1
            raise CommandFailed("no")

    api = Api()
    stream = part(external(lacking=lacking, api=api), STREAMS_LOGS).stream_logs(tmp_path)
    stream.close()
    assert (min(api.opened, 1), min(api.programs, 1)) == (output, files)


# -- by its capabilities -----------------------------------------------------------------------------------------------


VICTIM = Component("replica", "worker-1", Identity("process", ("w", "container-w", "113", "7")), 113, "actor-1")
SAME_CONTAINER = Identity("process", ("w", "container-w", "200", "9"))
ANOTHER = Component("controller", "head", Identity("process", ("h", "container-h", "80", "5")), 80, "actor-2")


class Counting(WithFlags):
    """Pods that count the programs that were run in them."""

    ran = 0

    def run(
        self, name: str, container: str, command: Sequence[str], *, timeout: float = 30.0, stdin: str | None = None
    ) -> ExecResult:
        self.ran += 1
        return super().run(name, container, command, timeout=timeout)


BY_ITS_CAPABILITIES: dict[str, Callable[[Cluster, Component], object]] = {
    "SIGKILL": lambda cluster, one: part(cluster, SIGNALS_PROCESSES).signal_process(one.identity, SIGKILL),
    "SIGSTOP": lambda cluster, one: part(cluster, SIGNALS_PROCESSES).signal_process(one.identity, SIGSTOP),
    "ray.kill": lambda cluster, one: part(cluster, KILLS_ACTORS).kill_actor(one.actor_id or "", no_restart=True),
    "a flag": lambda cluster, one: part(cluster, SETS_HEALTH_FLAGS).set_health_flag(one, "hang"),
}


@pytest.mark.parametrize("how", BY_ITS_CAPABILITIES)
@pytest.mark.parametrize("hit", [VICTIM, ANOTHER], ids=["of a fault that was not admitted", "of another one"])
def test_what_no_admitted_fault_hits_is_left_alone(how: str, hit: Component) -> None:
    api = Counting(pod("h", "head", "10.0.0.1"), pod("w", "worker", "10.0.0.2"))
    cluster = external(api=api)
    if hit is ANOTHER:
        touch = replace(BUILT_IN.choose("replica_failure").touch(), victims=(VICTIM,))
        part(cluster, IS_EXTERNAL).admit(touch, ())
    with pytest.raises(Unsupported, match="not a victim of the fault that was admitted last"):
        BY_ITS_CAPABILITIES[how](cluster, hit)
    assert api.ran == 0


def test_what_an_admitted_fault_hits_is_hit_with_what_is_in_its_container() -> None:
    api = Counting(pod("h", "head", "10.0.0.1"), pod("w", "worker", "10.0.0.2"))
    cluster = external(api=api)
    part(cluster, IS_EXTERNAL).admit(replace(BUILT_IN.choose("child_failure").touch(), victims=(VICTIM,)), ())
    part(cluster, SIGNALS_PROCESSES).signal_process(SAME_CONTAINER, SIGKILL)
    assert api.ran == 1


def test_what_was_refused_admits_nothing() -> None:
    api = Counting(pod("w", "worker", "10.0.0.2"))
    cluster = external(api=api, targets={"ranker#Ranker": 1})
    with pytest.raises(Unsupported, match="has one replica"):
        part(cluster, IS_EXTERNAL).admit(replace(BUILT_IN.choose("replica_failure").touch(), victims=(VICTIM,)), ())
    with pytest.raises(Unsupported, match="not a victim"):
        part(cluster, SIGNALS_PROCESSES).signal_process(VICTIM.identity, SIGKILL)
    assert api.ran == 0


def test_what_was_stopped_is_resumed_whatever_was_admitted_since() -> None:
    api = Counting(pod("w", "worker", "10.0.0.2"))
    part(external(api=api), SIGNALS_PROCESSES).signal_process(VICTIM.identity, SIGCONT)
    assert api.ran == 1
