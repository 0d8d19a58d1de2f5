"""What is made of a RayService file and its Redis so that it runs, and can be broken, on kind."""

from __future__ import annotations

import base64
import copy
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.cluster.kubernetes.client.records import name_of
from pytest_serve_chaos.cluster.kubernetes.install import render
from pytest_serve_chaos.cluster.kubernetes.install.file_workload import OwnRayService, own_workload
from pytest_serve_chaos.cluster.kubernetes.install.rayservice_file import parse_own_file
from pytest_serve_chaos.cluster.kubernetes.install.workload import Workload
from pytest_serve_chaos.cluster.kubernetes.rayservice.redis import RedisStore
from pytest_serve_chaos.errors import SettingsError
from pytest_serve_chaos.model import Json

DATA = Path(__file__).parents[1] / "kind" / "data"
FILE = DATA / "k8s_config.yaml"
LABELS = {names.MANAGED_BY: names.PROJECT, names.RUN: "serve-chaos-1"}
DOCUMENTS: list[dict[str, Any]] = list(yaml.safe_load_all(FILE.read_text()))

Change = Callable[[list[dict[str, Any]]], object]
"""Changes the objects of the file in place; the last is the RayService."""


def no_image(image: str) -> None:
    """Docker has no image."""


def ray_is_here(image: str) -> dict[str, str] | None:
    return {"PYTHONPATH": "/image"} if image.startswith("rayproject/") else None


def adapted(
    change: Change = lambda _: None,
    *,
    ray_image: str | None = None,
    ray_version: str | None = None,
    redis_image: str | None = None,
    directories: tuple[Path, ...] = (),
    environment: Callable[[str], Mapping[str, str] | None] = no_image,
) -> Workload:
    documents = copy.deepcopy(DOCUMENTS)
    change(documents)
    own = parse_own_file(yaml.safe_dump_all(documents), FILE)
    return own_workload(OwnRayService(own, ray_image, redis_image, directories, ray_version), LABELS, environment)


def cluster(of: Workload | list[dict[str, Any]]) -> Any:
    service: Any = of.ray_service if isinstance(of, Workload) else of[-1]
    return service["spec"]["rayClusterConfig"]


def spec(of: Workload) -> Any:
    return of.ray_service["spec"]


def pods(of: Workload | list[dict[str, Any]]) -> list[Any]:
    """The templates of the head and of the workers."""
    return [cluster(of)["headGroupSpec"]["template"], cluster(of)["workerGroupSpecs"][0]["template"]]


def ray(template: Any) -> Any:
    return template["spec"]["containers"][0]


def env(template: Any) -> dict[str, Any]:
    return {v["name"]: v.get("value", v.get("valueFrom")) for v in ray(template)["env"]}


def said(work: Workload, *words: str) -> list[str]:
    return [line for line in work.told if all(word in line for word in words)]


# -- everything --------------------------------------------------------------------------------------------------------


def test_all_of_it_is_ours_and_in_our_namespace_and_nothing_is_lost() -> None:
    work = adapted()
    made: list[Any] = [*work.before, work.ray_service]
    assert [(i["kind"], i["metadata"]["name"]) for i in made] == [(d["kind"], d["metadata"]["name"]) for d in DOCUMENTS]
    for item in made:
        assert item["metadata"]["namespace"] == names.NAMESPACE
        assert item["metadata"]["labels"].items() >= LABELS.items()
    assert made[0]["data"] == DOCUMENTS[0]["data"]
    assert made[2]["metadata"]["labels"]["app"] == "store"
    assert work.name == "rayservice-of-the-guide"


def test_every_line_that_is_told_names_the_file() -> None:
    work = adapted(ray_image="rayproject/ray:2.60.0", environment=ray_is_here)
    assert work.told
    assert all(line.startswith("k8s_config.yaml: ") for line in work.told)
    assert len(set(work.told)) == len(work.told)


def test_what_was_changed_stands_in_the_reports_too() -> None:
    work = adapted()
    assert work.details["changed"] == [line.removeprefix("k8s_config.yaml: ") for line in work.told]
    replicas = "headGroupSpec.replicas is left out: ray.io/v1 does not know it, and there is one head"
    assert replicas in work.details["changed"]


def test_an_image_that_does_not_say_which_ray_it_is_is_said() -> None:
    assert said(adapted(ray_image="ranker:latest"), "no rayVersion")
    assert not said(adapted(ray_image="ranker:2.60.0"), "no rayVersion")


TOKENS = [
    ("ranker:latest", None, "it is not set"),
    ("ranker:2.46.0", None, "it is 2.46.0"),
    ("ranker:latest", "2.60.0", ""),
    (None, None, ""),
]


@pytest.mark.parametrize(("image", "version", "said"), TOKENS, ids=["unknown", "older", "given", "of-the-file"])
def test_a_ray_that_wants_tokens_has_a_version_that_knows_them(
    image: str | None, version: str | None, said: str
) -> None:
    def change(documents: list[dict[str, Any]]) -> None:
        cluster(documents)["authOptions"] = {"mode": "token"}

    with pytest.raises(SettingsError, match=said) if said else nullcontext():
        adapted(change, ray_image=image, ray_version=version)


def test_which_ray_an_image_has_can_be_given() -> None:
    work = adapted(ray_image="ranker:latest", ray_version="2.56.0")

    assert not said(work, "no rayVersion")
    assert cluster(work)["rayVersion"] == "2.56.0"


def test_the_objects_of_another_namespace_move_and_that_is_said() -> None:
    def elsewhere(documents: list[dict[str, Any]]) -> None:
        documents[1]["metadata"]["namespace"] = "ml"

    work = adapted(elsewhere)
    assert said(work, "Service store is in the namespace serve-chaos and not in ml")
    assert not said(adapted(), "is in the namespace")


def test_the_same_file_gives_the_same_and_stays_as_it_was() -> None:
    own = parse_own_file(FILE.read_text(), FILE)
    before = copy.deepcopy(own)
    given_once = own_workload(OwnRayService(own, directories=(DATA,)), LABELS, ray_is_here)
    assert own_workload(OwnRayService(own, directories=(DATA,)), LABELS, ray_is_here) == given_once
    assert own == before


# -- Ray's pods --------------------------------------------------------------------------------------------------------


def test_every_ray_pod_can_be_taken_alone_as_those_of_our_own_rayservice() -> None:
    for role, template in zip(("head", "worker"), pods(adapted()), strict=True):
        assert template["metadata"]["labels"].items() >= {**LABELS, names.PART: "ray"}.items()
        ours = render.placement(role)  # type: ignore[arg-type]
        assert {key: template["spec"][key] for key in ours} == ours


def test_a_placement_of_the_users_own_is_kept_as_far_as_kind_can_have_it() -> None:
    def place(documents: list[dict[str, Any]]) -> None:
        pods(documents)[0]["spec"] |= {
            "affinity": {"podAntiAffinity": {"mine": 1}},
            "nodeSelector": {"kubernetes.io/arch": "amd64", "pool": "gpu"},
            "topologySpreadConstraints": [{"topologyKey": "topology.kubernetes.io/zone"}],
            "tolerations": [{"operator": "Exists"}, {"key": "gpu", "operator": "Exists"}],
        }

    work = adapted(place)
    head = pods(work)[0]["spec"]
    assert head["affinity"] == {"podAntiAffinity": {"mine": 1}}
    assert head["nodeSelector"] == {"kubernetes.io/arch": "amd64", names.ROLE: "ray"}
    assert [t["key"] for t in head["tolerations"]] == ["gpu", names.NO_WORKER]
    assert "topologySpreadConstraints" not in head
    assert said(work, "the head: its topologySpreadConstraints are left out")
    assert said(work, "its own affinity")
    assert said(work, "nodeSelector", "pool")
    assert said(work, "a toleration of every taint is left out")


def test_our_code_comes_first_on_pythonpath_and_what_was_there_stays() -> None:
    def paths(documents: list[dict[str, Any]]) -> None:
        head, worker = pods(documents)
        ray(head)["env"].insert(0, {"name": "PYTHONPATH", "value": "/app"})
        reference = {"configMapKeyRef": {"name": "paths", "key": "python", "optional": True}}
        ray(worker)["env"].append({"name": "PYTHONPATH", "valueFrom": reference})

    head, worker = pods(adapted(paths, environment=ray_is_here))
    assert env(head)["PYTHONPATH"] == f"{names.CODE_PATH}:/app"
    assert ray(head)["env"][0]["name"] == "PYTHONPATH", "variables may refer to those before them"
    assert env(worker)["PYTHONPATH"] == f"{names.CODE_PATH}:$(SERVE_CHAOS_USERS_PYTHONPATH)"
    users = env(worker)["SERVE_CHAOS_USERS_PYTHONPATH"]
    assert users == {"configMapKeyRef": {"name": "paths", "key": "python", "optional": True}}
    assert env(pods(adapted(environment=ray_is_here))[0])["PYTHONPATH"] == f"{names.CODE_PATH}:/image"
    assert env(pods(adapted())[0])["PYTHONPATH"] == names.CODE_PATH


def test_health_flags_can_be_set_in_ray_containers_and_the_code_is_mounted() -> None:
    def volumes(documents: list[dict[str, Any]]) -> None:
        pods(documents)[0]["spec"]["volumes"] = [{"name": "code", "emptyDir": {}}]
        ray(pods(documents)[0])["volumeMounts"] = [{"name": "code", "mountPath": "/code"}]
        ray(pods(documents)[0])["env"].append({"name": "RAY_USAGE_STATS_ENABLED", "value": "1"})

    work = adapted(volumes)
    for template in pods(work):
        assert env(template)[names.FLAGS_VARIABLE] == names.FLAGS_PATH
        mounts = {m["name"]: m["mountPath"] for m in ray(template)["volumeMounts"]}
        (ours,) = [
            v for v in template["spec"]["volumes"] if v.get("configMap", {}).get("name") == names.CODE_CONFIG_MAP
        ]
        assert mounts[ours["name"]] == names.CODE_PATH
        assert {item["path"] for item in ours["configMap"]["items"]} == set(work.code)
    assert "pytest_serve_chaos/apps/canary.py" in work.code
    head = pods(work)[0]
    assert head["spec"]["volumes"][0] == {"name": "code", "emptyDir": {}}
    assert env(head)["RAY_USAGE_STATS_ENABLED"] == "1"


def test_resources_and_hooks_of_the_user_stay() -> None:
    for before, after in zip(pods(DOCUMENTS), pods(adapted()), strict=True):
        assert ray(after)["resources"] == ray(before)["resources"]
        assert ray(after).get("lifecycle") == ray(before).get("lifecycle")


def test_what_ray_io_v1_does_not_know_is_dropped() -> None:
    def older(documents: list[dict[str, Any]]) -> None:
        documents[-1]["apiVersion"] = "ray.io/v1alpha1"

    work = adapted(older)
    assert "replicas" not in cluster(work)["headGroupSpec"]
    assert said(work, "headGroupSpec.replicas is left out")
    assert work.ray_service["apiVersion"] == "ray.io/v1"
    assert said(work, "ray.io/v1, not ray.io/v1alpha1")


def test_what_the_user_wants_of_an_upgrade_stays_and_a_second_cluster_has_room() -> None:
    assert "upgradeStrategy" not in spec(adapted()), "KubeRay's own choice is a new RayCluster"
    kept = adapted(lambda d: d[-1]["spec"].update(upgradeStrategy={"type": "None"}))
    assert spec(kept)["upgradeStrategy"] == {"type": "None"}


def test_traffic_has_a_node_port_in_the_service_that_kuberay_points_at_what_serves() -> None:
    assert adapted().serve_service == "rayservice-of-the-guide-serve-svc"
    assert spec(adapted())["serveService"] == {"spec": {"type": "NodePort"}}

    def balanced(documents: list[dict[str, Any]]) -> None:
        metadata = {"name": "front", "namespace": "ml", "labels": {"a": "b"}}
        documents[-1]["spec"]["serveService"] = {"metadata": metadata, "spec": {"type": "LoadBalancer"}}

    work = adapted(balanced)
    assert work.serve_service == "front"
    assert spec(work)["serveService"] == {
        "metadata": {"name": "front", "labels": {"a": "b"}},
        "spec": {"type": "NodePort"},
    }
    assert said(work, "serveService.spec is left out")
    assert [name_of(s) for s in render.services(LABELS, "front")] == ["front", names.DASHBOARD_SERVICE]


# -- images ------------------------------------------------------------------------------------------------------------


def test_the_users_image_stays_and_is_used_where_docker_has_it() -> None:
    here, away = adapted(environment=ray_is_here), adapted()
    assert here.ray_images == away.ray_images == ("rayproject/ray:2.56.0",)
    assert [ray(t)["imagePullPolicy"] for t in pods(here)] == ["IfNotPresent"] * 2
    assert said(here, "ray-head", "IfNotPresent instead of Always")
    assert [ray(t)["imagePullPolicy"] for t in pods(away)] == ["Always"] * 2
    assert not said(away, "IfNotPresent")
    assert cluster(here)["rayVersion"] == "2.56.0"


def test_an_image_that_was_asked_for_goes_into_all_ray_containers_and_says_which_ray_it_is() -> None:
    def sidecars(documents: list[dict[str, Any]]) -> None:
        spec = pods(documents)[0]["spec"]
        spec["initContainers"] = [{"name": "first", "image": "rayproject/ray:2.56.0"}]
        spec["containers"].append({"name": "logs", "image": "fluent:1.0"})

    work = adapted(sidecars, ray_image="rayproject/ray:2.60.0", redis_image="redis:7.0")
    assert work.ray_images == ("rayproject/ray:2.60.0", "fluent:1.0")
    assert work.redis_images == ("redis:7.0",)
    assert cluster(work)["rayVersion"] == "2.60.0"
    assert said(work, "machine-learning: image rayproject/ray:2.60.0 instead of rayproject/ray:2.56.0")
    assert said(work, "container redis: image redis:7.0")


@pytest.mark.parametrize(
    ("image", "given", "policy"),
    [
        ("mine", None, "IfNotPresent"),
        ("host:5000/mine", None, "IfNotPresent"),
        ("mine:latest", None, "IfNotPresent"),
        ("mine:latest", "Never", "Never"),
        ("mine:1.0", None, None),
        ("mine@sha256:" + "01" * 32, None, None),
    ],
)
def test_an_image_without_a_version_is_pulled_always_unless_it_is_here(
    image: str, given: str | None, policy: str | None
) -> None:
    def set_image(documents: list[dict[str, Any]]) -> None:
        ray(pods(documents)[0]).update(image=image, imagePullPolicy=given)

    head = ray(pods(adapted(set_image, environment=lambda _: {}))[0])
    assert head.get("imagePullPolicy") == policy


def test_other_pods_of_the_file_are_left_alone_and_said_to_be_in_harms_way() -> None:
    client = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "client"},
        "spec": {"containers": [{"name": "c", "image": "c:1"}]},
    }
    work = adapted(lambda d: d.insert(0, client))
    assert work.before[0]["spec"] == client["spec"]
    assert said(work, "the pods of Pod client are on the nodes of Ray")
    assert work.ray_images == ("rayproject/ray:2.56.0", "c:1")


# -- the app -----------------------------------------------------------------------------------------------------------


def apps(work: Workload) -> Any:
    return work.serve_config["applications"]


def test_an_app_whose_code_is_here_needs_no_internet() -> None:
    work = adapted(directories=(DATA,))
    assert work.code["sleepy_pid.py"] == (DATA / "sleepy_pid.py").read_text()
    assert "runtime_env" not in apps(work)[0]
    assert said(work, "sleepy_pid:app: its code travels", "sleepy_pid.py")
    assert said(work, "working_dir https://example.com/apps/archive/main.zip is left out")
    assert yaml.safe_load(work.ray_service["spec"]["serveConfigV2"]) == work.serve_config  # type: ignore[index,call-overload,arg-type]


def test_an_app_whose_code_is_not_here_comes_from_where_the_user_said() -> None:
    work = adapted()
    assert apps(work)[0]["runtime_env"] == {"working_dir": "https://example.com/apps/archive/main.zip"}
    assert not said(work, "travels")


def test_the_rest_of_a_runtime_env_stays_and_its_pythonpath_finds_our_code() -> None:
    config = {"applications": [{
        "name": "a", "import_path": "sleepy_pid:app",
        "runtime_env": {"working_dir": "s3://x.zip", "env_vars": {"PYTHONPATH": "lib", "A": "1"}},
    }]}  # fmt: skip
    work = adapted(lambda d: d[-1]["spec"].update(serveConfigV2=yaml.safe_dump(config)), directories=(DATA,))
    assert apps(work)[0]["runtime_env"] == {"env_vars": {"PYTHONPATH": f"{names.CODE_PATH}:lib", "A": "1"}}


# -- properties --------------------------------------------------------------------------------------------------------

POD_PARTS: st.SearchStrategy[dict[str, Json]] = st.fixed_dictionaries(
    {},
    optional={
        "nodeSelector": st.none() | st.dictionaries(st.sampled_from(["a", "kubernetes.io/os"]), st.just("x")),
        "tolerations": st.none() | st.lists(st.sampled_from([{"operator": "Exists"}, {"key": "a"}]), max_size=2),
        "affinity": st.sampled_from([None, {}, {"nodeAffinity": {}}]),
        "volumes": st.none() | st.lists(st.just({"name": "v", "emptyDir": {}}), max_size=1),
        "initContainers": st.none() | st.just([{"name": "i", "image": "i:1"}]),
        "priorityClassName": st.just("system-node-critical"),
    },
)


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_whatever_pods_the_user_has_a_fault_can_take_them_and_nothing_else_of_them_changes(data: st.DataObject) -> None:
    parts = [data.draw(POD_PARTS) for _ in range(2)]

    def change(documents: list[dict[str, Any]]) -> None:
        for template, part in zip(pods(documents), parts, strict=True):
            template["spec"] |= part

    work = adapted(change)
    for template, taint in zip(pods(work), (names.NO_WORKER, names.NO_HEAD), strict=True):
        pod = template["spec"]
        assert template["metadata"]["labels"][names.PART] == "ray"
        assert pod["nodeSelector"][names.ROLE] == "ray"
        assert set(pod["nodeSelector"]) <= {names.ROLE, "kubernetes.io/os"}
        assert taint in [t.get("key") for t in pod["tolerations"]]
        assert all(t.get("key") for t in pod["tolerations"])
        assert pod["affinity"]
    for template, part in zip(pods(work), parts, strict=True):
        assert template["spec"].get("priorityClassName") == part.get("priorityClassName")
        assert template["spec"]["volumes"][:-1] == (part.get("volumes") or [])


# -- Redis -------------------------------------------------------------------------------------------------------------


def redis(of: Workload | list[dict[str, Any]]) -> Any:
    items: Any = of.before if isinstance(of, Workload) else of
    return next(item for item in items if item["kind"] in ("Deployment", "StatefulSet"))


def test_redis_is_found_through_its_service_and_kept_out_of_harms_way() -> None:
    work = adapted()
    pod = redis(work)["spec"]["template"]
    assert pod["metadata"]["labels"] == {"app": "store", names.PART: "redis"}
    assert pod["spec"].items() >= render.on_services_node().items()
    assert pod["spec"]["containers"] == DOCUMENTS[2]["spec"]["template"]["spec"]["containers"]
    assert redis(work)["spec"]["selector"] == DOCUMENTS[2]["spec"]["selector"]
    assert work.redis == RedisStore(name="store-of-the-gcs", password="0123456789", container="redis")
    assert not said(work, "Redis")


def test_where_the_user_wanted_redis_is_said_to_be_ignored() -> None:
    def pinned(documents: list[dict[str, Any]]) -> None:
        redis(documents)["spec"]["template"]["spec"] |= {"nodeSelector": {"pool": "db"}, "affinity": {"x": 1}}

    work = adapted(pinned)
    assert redis(work)["spec"]["template"]["spec"]["nodeSelector"] == {names.ROLE: "services"}
    assert "affinity" not in redis(work)["spec"]["template"]["spec"]
    assert said(work, "Deployment store-of-the-gcs: its nodeSelector and affinity are left out")


def test_a_redis_of_another_kind_port_and_address() -> None:
    def other(documents: list[dict[str, Any]]) -> None:
        documents[1]["metadata"]["namespace"] = "ml"
        documents[1]["spec"]["ports"] = [{"port": 6380, "targetPort": "db"}]
        redis(documents)["kind"] = "StatefulSet"
        redis(documents)["spec"]["replicas"] = 3
        redis(documents)["spec"]["template"]["spec"]["containers"][0]["ports"] = [{"name": "db", "containerPort": 6400}]
        ray(pods(documents)[0])["env"][-1]["value"] = "redis://store.ml.svc.cluster.local:6380"

    work = adapted(other)
    assert work.redis == RedisStore(
        "StatefulSet", "store-of-the-gcs", 3, 6400, password="0123456789", container="redis"
    )
    assert env(pods(work)[0])["RAY_REDIS_ADDRESS"] == "redis://store:6380"
    assert said(work, "Redis is called store:6380 and not store.ml.svc.cluster.local:6380")


def by_options(password: Any, *more: dict[str, Any]) -> Change:
    """Fault tolerance in the newer style, with objects that the password comes from."""

    def change(documents: list[dict[str, Any]]) -> None:
        del documents[-1]["metadata"]["annotations"]
        head = cluster(documents)["headGroupSpec"]
        del head["rayStartParams"]["redis-password"]
        ray(head["template"])["env"].pop()
        options: dict[str, Any] = {"redisAddress": "store.ml:6379", "redisUsername": {"value": "ray"}}
        cluster(documents)["gcsFaultToleranceOptions"] = options | ({"redisPassword": password} if password else {})
        documents[:0] = more

    return change


def secret(**fields: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "store"}, **fields}


REFERENCE = {"valueFrom": {"secretKeyRef": {"name": "store", "key": "password"}}}


@pytest.mark.parametrize(
    ("change", "password"),
    [
        pytest.param(by_options({"value": "open"}), "open", id="literal"),
        pytest.param(by_options(None), "", id="none"),
        pytest.param(by_options(REFERENCE, secret(stringData={"password": "plain"})), "plain", id="secret"),
        pytest.param(
            by_options(REFERENCE, secret(data={"password": base64.b64encode(b"coded").decode()})), "coded", id="encoded"
        ),
    ],
)
def test_the_password_of_redis_is_that_of_the_rayservice(change: Change, password: str) -> None:
    work = adapted(change)
    assert work.redis == RedisStore(name="store-of-the-gcs", user="ray", password=password, container="redis")
    assert cluster(work)["gcsFaultToleranceOptions"]["redisAddress"] == "store:6379"
    assert password == "" or password not in repr(work.redis)


def test_a_redis_with_tls_is_asked_with_its_own_certificates() -> None:
    def change(documents: list[dict[str, Any]]) -> None:
        by_options(REFERENCE, secret(stringData={"password": "plain"}))(documents)
        cluster(documents)["gcsFaultToleranceOptions"]["redisAddress"] = "rediss://store.ml:6379"
        container = redis(documents)["spec"]["template"]["spec"]["containers"][0]
        container["args"] = ["redis-server", "--tls-port", "6379", "--tls-ca-cert-file", "/tls/ca.crt"]

    work = adapted(change)
    assert cluster(work)["gcsFaultToleranceOptions"]["redisAddress"] == "rediss://store:6379"
    assert work.redis is not None
    assert work.redis.stdin == "plain\n"
    assert work.redis.list_keys[3:] == (
        *("sh", "redis-cli", "--tls", "--cacert", "/tls/ca.crt"),
        *("-p", "6379", "--user", "ray", "--raw", "KEYS", "*"),
    )


@pytest.mark.parametrize(
    ("args", "replicas", "told"),
    [
        (["redis-server", "/x.conf", "--sentinel"], 3, "is a Sentinel (its container redis has --sentinel)"),
        (["--cluster-enabled", "yes"], 6, "a single shard only; `redis_failure` is skipped"),
        (["--cluster-enabled", "yes"], 1, "is a Redis Cluster (its container redis has --cluster-enabled yes)"),
    ],
)
def test_what_is_no_ordinary_redis_is_named_before_a_cluster_exists(args: list[str], replicas: int, told: str) -> None:
    def change(documents: list[dict[str, Any]]) -> None:
        redis(documents)["spec"]["replicas"] = replicas
        redis(documents)["spec"]["template"]["spec"]["containers"][0]["args"] = args

    assert said(adapted(change), told)
    assert not said(adapted(), "Redis Cluster")


def test_in_the_older_style_the_password_may_be_in_a_variable() -> None:
    def change(documents: list[dict[str, Any]]) -> None:
        cluster(documents)["headGroupSpec"]["rayStartParams"]["redis-password"] = "$REDIS_PASSWORD"
        ray(pods(documents)[0])["env"].append({"name": "REDIS_PASSWORD", **REFERENCE})
        documents.insert(0, secret(stringData={"password": "plain"}))

    store = adapted(change).redis
    assert store is not None
    assert store.password == "plain"


def test_a_password_that_cannot_be_told_leaves_redis_breakable() -> None:
    of_a_field = {"valueFrom": {"fieldRef": {"fieldPath": "x"}}}
    for reference, more in ((REFERENCE, [secret(data={"password": "/w=="})]), (of_a_field, [])):
        store = adapted(by_options(reference, *more)).redis
        assert store is not None
        assert store.unknown


def test_what_the_pods_would_wait_for_in_vain_is_refused() -> None:
    with pytest.raises(SettingsError, match="the file has no Secret store"):
        adapted(by_options(REFERENCE))
    with pytest.raises(SettingsError, match="has no Service store, at which its RayService looks for Redis"):
        adapted(lambda d: d.pop(1))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda d: ray(pods(d)[0])["env"][-1].update(value="redis.example.com:6379"), id="elsewhere"),
        pytest.param(lambda d: d.pop(2), id="no-deployment"),
        pytest.param(lambda d: d[1]["spec"].update(selector=None), id="no-selector"),
    ],
)
def test_a_redis_that_the_file_does_not_run_is_left_alone(change: Change) -> None:
    work = adapted(change)
    assert work.redis is None
    assert said(work, "no Deployment or StatefulSet of the file runs the Redis at")


def set_of(documents: list[dict[str, Any]], address: str, **fields: Any) -> None:
    """Redis as charts have it: a StatefulSet behind a headless Service, called by the name of its pod."""
    for item in documents:
        item["metadata"]["namespace"] = "ranking"
    documents[1]["metadata"]["name"] = "redis-headless"
    workload = redis(documents)
    workload["kind"] = "StatefulSet"
    workload["metadata"]["name"] = "redis"
    workload["spec"] |= {"serviceName": "redis-headless", **fields}
    ray(pods(documents)[0])["env"][-1]["value"] = address


NAMES_OF_A_POD = [
    "redis-0.redis-headless.ranking.svc.cluster.local:6379",
    "redis-0.redis-headless.ranking.svc:6379",
    "redis-0.redis-headless.ranking:6379",
    "redis://redis-0.redis-headless:6379",
    "redis-headless.ranking.svc.cluster.local:6379",
    "redis-headless.ranking",
    "redis-headless:6379",
    "redis-0.redis-headless.ranking.svc.cluster.local.:6379",
]


@pytest.mark.parametrize("address", NAMES_OF_A_POD)
def test_redis_is_found_by_every_name_of_its_pod_and_of_its_service(address: str) -> None:
    work = adapted(lambda documents: set_of(documents, address))
    assert work.redis == RedisStore("StatefulSet", "redis", password="0123456789", container="redis")
    assert redis(work)["spec"]["template"]["spec"]["nodeSelector"] == {names.ROLE: "services"}
    assert env(pods(work)[0])["RAY_REDIS_ADDRESS"] == address, "its namespace is kept, so the name is good"
    assert work.namespaces == ("ranking",)
    assert work.ray_service["metadata"]["namespace"] == "ranking"  # type: ignore[index,call-overload]


@pytest.mark.parametrize(
    ("address", "fields", "said"),
    [
        ("redis-1.redis-headless:6379", {}, "it has 1 pods"),
        ("store-0.redis-headless:6379", {}, "the StatefulSet is called redis"),
        ("redis-0.redis-headless:6379", {"serviceName": "other"}, "its serviceName is other"),
        ("redis-0.redis:6379", {}, "has no Service redis"),
    ],
)
def test_a_pod_of_redis_that_does_not_exist_is_refused(address: str, fields: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        adapted(lambda documents: set_of(documents, address, **fields))
    assert said in str(caught.value)


@pytest.mark.parametrize("host", ["redis-0.redis-headless", "redis-headless"])
def test_the_domain_of_another_cluster_is_left_out(host: str) -> None:
    work = adapted(lambda documents: set_of(documents, f"{host}.ranking.svc.prod.example.org:6379"))
    assert env(pods(work)[0])["RAY_REDIS_ADDRESS"] == f"{host}:6379"
    assert said(work, f"Redis is called {host}:6379 and not {host}.ranking.svc.prod.example.org:6379")


def test_a_port_that_the_service_of_redis_does_not_have_is_refused() -> None:
    with pytest.raises(SettingsError) as caught:
        adapted(lambda documents: set_of(documents, "redis-headless:6380"))
    assert "at port 6380 of the Service redis-headless, which does not have it" in str(caught.value)
    assert "its ports: 6379" in str(caught.value)


def test_a_headless_service_leads_to_any_port_of_its_pods() -> None:
    def headless(documents: list[dict[str, Any]]) -> None:
        set_of(documents, "redis-headless:6380")
        documents[1]["spec"]["clusterIP"] = "None"

    assert adapted(headless).redis is not None


def test_the_names_of_another_namespace_still_lead_to_what_was_moved() -> None:
    def two(documents: list[dict[str, Any]]) -> None:
        set_of(documents, "redis-0.redis-headless.data.svc.cluster.local:6379")
        for item in documents[:3]:
            item["metadata"]["namespace"] = "data"

    work = adapted(two)
    assert env(pods(work)[0])["RAY_REDIS_ADDRESS"] == "redis-0.redis-headless:6379"
    assert work.namespaces == ("ranking", "data")
    alias = work.before[-1]
    assert alias["metadata"] == {"name": "redis-headless", "namespace": "data", "labels": LABELS}
    assert alias["spec"] == {
        "type": "ExternalName",
        "externalName": "redis-headless.ranking.svc.cluster.local",
    }
    assert {item["metadata"]["namespace"] for item in work.before[:-1]} == {"ranking"}  # type: ignore[index,call-overload]


def test_what_belongs_to_no_namespace_gets_none_and_namespaces_are_made_by_us() -> None:
    def more(documents: list[dict[str, Any]]) -> None:
        api = "scheduling.k8s.io/v1"
        documents.insert(0, {"apiVersion": api, "kind": "PriorityClass", "metadata": {"name": "p"}, "value": 1})
        documents.insert(0, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ranking"}})

    first, *_ = adapted(more).before
    assert first["kind"] == "PriorityClass"
    assert first["metadata"] == {"name": "p", "labels": LABELS}


def test_other_pods_may_be_on_any_node() -> None:
    pod = {"nodeSelector": {"pool": "x"}, "nodeName": "n", "containers": [{"name": "c", "image": "c:1"}]}
    job = {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "clean"}}
    job["spec"] = {"schedule": "@daily", "jobTemplate": {"spec": {"template": {"spec": pod}}}}
    work = adapted(lambda documents: documents.insert(0, job))
    made: Any = work.before[0]
    assert set(made["spec"]["jobTemplate"]["spec"]["template"]["spec"]) == {"containers"}
    assert said(work, "CronJob clean: its nodeSelector is left out: no kind node has the labels pool: x")


def test_an_affinity_for_nodes_that_kind_lacks_is_left_out() -> None:
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    expressions = [{"key": "accelerator", "operator": "Exists"}]
    foreign = {"nodeAffinity": {required: {"nodeSelectorTerms": [{"matchExpressions": expressions}]}}}
    apart = {"podAntiAffinity": {required: [{"topologyKey": "kubernetes.io/hostname"}]}}

    def change(documents: list[dict[str, Any]]) -> None:
        pods(documents)[1]["spec"]["affinity"] = foreign | apart

    work = adapted(change)
    assert pods(work)[1]["spec"]["affinity"] == apart
    assert said(work, "its nodeAffinity is left out", "labels that kind nodes lack (accelerator)")
