from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import cast

import pytest

from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.capabilities import Endpoint
from pytest_serve_chaos.cluster.kuberay import rights
from pytest_serve_chaos.cluster.kuberay.api import KubeApi
from pytest_serve_chaos.cluster.kuberay.asking import Probe, ask
from pytest_serve_chaos.cluster.kuberay.borrow import OwnPods, unkept_logs
from pytest_serve_chaos.cluster.kuberay.borrowed import BorrowedRayService, path_in_serve
from pytest_serve_chaos.cluster.kuberay.found import FoundRayService, differences, read_ray_service
from pytest_serve_chaos.cluster.kuberay.records import Pod
from pytest_serve_chaos.cluster.rest import Dashboard, ServeStatus
from pytest_serve_chaos.cluster.serve_config import serve_port
from pytest_serve_chaos.errors import ClusterStartError, CommandFailed, ObservationError, SafetyError, Unsupported
from pytest_serve_chaos.model import ClusterDescription, Json
from tests.unit.test_kind_programs import KUBECONFIG
from tests.unit.test_kuberay_pods import FakeApi, pod

CONFIG: dict[str, Json] = {"applications": [{"name": "ranker", "route_prefix": "/rank", "import_path": "ranker:app"}]}
SERVE_CONFIG = "applications: [{name: ranker, route_prefix: /rank, import_path: 'ranker:app'}]"


def ray_service(**changes: Json) -> dict[str, Json]:
    """A RayService as the API server gives it, with a Redis."""
    head: dict[str, Json] = {"template": {"spec": {"containers": [{"name": "ray-head", "env": []}]}}}
    cluster: dict[str, Json] = {
        "headGroupSpec": head,
        "workerGroupSpecs": [{"replicas": 2}, {"minReplicas": 1, "numOfHosts": 2}],
        "gcsFaultToleranceOptions": {"redisAddress": "redis:6379"},
        **changes,
    }
    return {
        "metadata": {"name": "ranker"},
        "spec": {"serveConfigV2": SERVE_CONFIG, "rayClusterConfig": cluster},
        "status": {"activeServiceStatus": {"rayClusterName": "ranker-abcde"}},
    }


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


def owned_pod(name: str, owner: str = "ranker-abcde", node: str = "node-1") -> dict[str, Json]:
    return {
        "metadata": {"name": name, "ownerReferences": [{"kind": "RayCluster", "name": owner}]},
        "spec": {"nodeName": node},
    }


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


class Status:
    """A dashboard that knows how many replicas there are."""

    url = "http://dashboard"

    def __init__(self, targets: Mapping[str, int]) -> None:
        self.targets = targets

    def serve(self) -> ServeStatus:
        return ServeStatus({}, self.targets, {}, {}, (), {}, None)

    def close(self) -> None:
        pass


class WithFlags(FakeApi):
    """Pods that have the directory for health flags."""

    def raw_pods(self, selector: str) -> tuple[dict[str, Json], ...]:
        return ({"spec": {"containers": [{"env": [{"name": "SERVE_CHAOS_FLAGS", "value": "/tmp/f"}]}]}},)


def borrowed(
    *,
    gcs: str = "redis",
    workers: int = 2,
    lacking: Sequence[rights.Right] = (),
    allow: Sequence[str] = (),
    targets: Mapping[str, int] | None = None,
    api: FakeApi | None = None,
) -> BorrowedRayService:
    found = FoundRayService("ranker", gcs, workers, CONFIG)  # type: ignore[arg-type]
    return BorrowedRayService(
        found,
        api=cast("KubeApi", api or WithFlags()),
        dashboard=cast("Dashboard", Status(targets or {"ranker#Ranker": 4})),
        description=ClusterDescription("kubernetes", "2.60.0", workers, gcs, "ranker:app", "guide", 4, "http://x/rank"),
        probe=Probe(),
        lacking=[*lacking, rights.WATCH],
        allow=allow,
    )


KILL: dict[str, str | float] = {"how": "kill"}


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
    assert borrowed().why_not(kind, options, ()) == ""


@pytest.mark.parametrize(
    ("kind", "options", "reason"),
    [
        ("redis_failure", KILL, "Redis does not belong"),
        ("rayservice_upgrade", {"how": "upgrade"}, "spec of a borrowed RayService is not ours to change"),
        ("head_failure", {"how": "kill", "hold": True}, "none can be kept down"),
        ("node_failure", KILL, "how='drain' works here"),
        ("node_failure", {"how": "drain"}, "--serve-chaos-allow node"),
    ],
)
def test_what_is_not_the_rayservices_is_left_alone(kind: str, options: dict[str, str | float], reason: str) -> None:
    assert reason in borrowed().why_not(kind, options, ())


def test_nodes_can_be_drained_where_that_is_allowed() -> None:
    assert borrowed(allow=["node"]).why_not("node_failure", {"how": "drain"}, ()) == ""


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
    cluster = borrowed(lacking=[lacking], allow=["node"])
    assert cluster.why_not(kind, {"how": how}, ()) == f"this user may not {lacking} (SelfSubjectAccessReview)"
    assert cluster.sees_processes == (lacking not in rights.RUN)


def test_without_fault_tolerance_the_head_is_only_taken_where_the_test_asks_for_that() -> None:
    weak = borrowed(gcs="none")
    assert "no GCS fault tolerance" in weak.why_not("head_failure", KILL, ())
    assert weak.why_not("head_failure", KILL, ("gcs",)) == ""
    assert weak.why_not("replica_failure", KILL, ()) == ""


def test_what_would_leave_nothing_is_not_broken() -> None:
    one = borrowed(targets={"ranker#Ranker": 1, "ranker#Cache": 2})
    assert one.why_not("replica_failure", KILL, ()) == "ranker#Ranker has one replica, so losing it leaves none"
    assert one.why_not("replica_failure", {**KILL, "deployment": "Cache"}, ()) == ""
    assert "one worker" in borrowed(workers=1).why_not("worker_failure", KILL, ())


def test_handles_that_would_stay_deaf_are_not_made() -> None:
    composed = borrowed(targets={"ranker#Ranker": 2, "ranker#Cache": 2})
    assert "deaf" in composed.why_not("controller_failure", {**KILL, "replacement": "new_actor"}, ())
    assert composed.why_not("controller_failure", KILL, ()) == ""


def test_its_config_is_not_changed() -> None:
    with pytest.raises(Unsupported, match="not ours to change"):
        borrowed().apply_serve_config({})


# -- requests past the client ------------------------------------------------------------------------------------------


def test_the_guard_stands_before_every_request(tmp_path: Path) -> None:
    (tmp_path / "kubeconfig").write_text(KUBECONFIG)
    asked: list[tuple[str, str]] = []

    def permit(method: str, path: str) -> None:
        asked.append((method, path))
        raise SafetyError("no")

    api = KubeApi(tmp_path / "kubeconfig", namespace="ml", permit=permit)
    for change in (
        lambda: api.delete_pod("a", "uid", grace=0),
        lambda: api.patch_ray_service("ranker", {}),
        lambda: api.call("patch_node", "n", {}, what="n"),
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
        probe = Probe("POST", {"Accept": "*/*"}, b"{}", 5.0)
        assert ask(Endpoint(url, {"Authorization": "Bearer t"}), probe, "id-1") == replica
        assert asked == [("/rank", "id-1", "Bearer t")]


def test_nobody_there_is_no_answer() -> None:
    assert ask(Endpoint("http://127.0.0.1:9/"), Probe(timeout=1.0), "id") == ""


# -- rights ------------------------------------------------------------------------------------------------------------


class Reviews:
    """An API server that allows some rights."""

    namespace = "ml"

    def __init__(self, *allowed: str) -> None:
        self.allowed = allowed
        self.asked: list[Json] = []

    def call(self, method: str, body: dict[str, Json], *, what: str) -> dict[str, Json]:
        if method != "create_self_subject_access_review":
            raise CommandFailed(what)
        spec = cast("dict[str, dict[str, str]]", body["spec"])["resourceAttributes"]
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


@pytest.mark.parametrize(("lacking", "output", "files"), [([rights.LOGS], 0, 1), ([rights.RUN[0]], 1, 0), ([], 1, 1)])
def test_only_the_logs_that_this_user_may_read_are_streamed(
    lacking: list[rights.Right], output: int, files: int, tmp_path: Path
) -> None:
    class Api(WithFlags):
        namespace = "ml"
        opened = programs = 0

        def pods(self, selector: str = "", *, namespace: str | None = None) -> tuple[Pod, ...]:
            return () if "operator" in selector else (pod("h", "head", "10.0.0.1"),)

        def open(self, *arguments: object, **options: object) -> None:
            self.opened += 1
            raise ObservationError("no")

        def follow(self, *arguments: object, **options: object) -> Iterator[str]:
            self.programs += 1
            raise CommandFailed("no")

    api = Api()
    stream = borrowed(lacking=lacking, api=api).stream_logs(tmp_path)
    stream.close()
    assert (min(api.opened, 1), min(api.programs, 1)) == (output, files)
