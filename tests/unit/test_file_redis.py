"""What is made of the Redis of a RayService file, and what is known of it then."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.cluster.kubernetes.install import render
from pytest_serve_chaos.cluster.kubernetes.install.workload import Workload
from pytest_serve_chaos.cluster.kubernetes.rayservice.redis import RedisStore
from pytest_serve_chaos.errors import SettingsError
from tests.unit.file_workloads import DOCUMENTS, Change, adapted, cluster, env, pods, ray, said


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
    assert work.redis == RedisStore(name="store-of-the-gcs", password="0123456789")
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
    assert work.redis == RedisStore("StatefulSet", "store-of-the-gcs", 3, 6400, password="0123456789")
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
    assert work.redis == RedisStore(name="store-of-the-gcs", user="ray", password=password)
    assert cluster(work)["gcsFaultToleranceOptions"]["redisAddress"] == "store:6379"
    assert password == "" or password not in repr(work.redis)


def test_in_the_older_style_the_password_may_be_in_a_variable() -> None:
    def change(documents: list[dict[str, Any]]) -> None:
        cluster(documents)["headGroupSpec"]["rayStartParams"]["redis-password"] = "$REDIS_PASSWORD"
        ray(pods(documents)[0])["env"].append({"name": "REDIS_PASSWORD", **REFERENCE})
        documents.insert(0, secret(stringData={"password": "plain"}))

    store = adapted(change).redis
    assert store is not None
    assert store.password == "plain"


def test_a_password_that_cannot_be_told_leaves_redis_breakable() -> None:
    for reference, more in ((REFERENCE, [secret(data={})]), ({"valueFrom": {"fieldRef": {"fieldPath": "x"}}}, [])):
        store = adapted(by_options(reference, *more)).redis
        assert store is not None
        assert store.unknown


def test_what_the_pods_would_wait_for_in_vain_is_refused() -> None:
    with pytest.raises(SettingsError, match="has no Secret store"):
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
    assert said(work, "is run by no Deployment or StatefulSet of the file, and is left alone")
