"""The Redis of a RayService on kind nodes: what is started alongside it, held, and asked for its keys."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.capabilities import HAS_REDIS, SHARES_REDIS
from pytest_serve_chaos.cluster.kubernetes.client.api import ExecResult
from pytest_serve_chaos.cluster.kubernetes.rayservice.cluster import RayServiceCluster
from pytest_serve_chaos.cluster.kubernetes.rayservice.redis import PodRedis, RedisStore
from pytest_serve_chaos.errors import CommandFailed, ObservationError, Unsupported
from pytest_serve_chaos.model import Json
from tests.capabilities import part
from tests.unit.kind_services import Api, Neighbour, Nodes, fake_api, fake_service
from tests.unit.rayservices import FakeDashboard


@pytest.fixture
def api() -> Api:
    return fake_api()


@pytest.fixture
def closed() -> list[str]:
    """What was closed, in order."""
    return []


@pytest.fixture
def service(api: Api, closed: list[str]) -> RayServiceCluster:
    return fake_service(api, Nodes(), FakeDashboard(None, {}, {}), closed)


def test_what_is_started_alongside_it_is_a_head_alone_and_goes_before_it(
    service: RayServiceCluster, closed: list[str]
) -> None:
    assert service.capability(SHARES_REDIS) is not None
    other = part(service, SHARES_REDIS).start_alongside()
    assert other.spec == ClusterSpec(workers=0)
    part(service, SHARES_REDIS).start_alongside("somebody's")
    service.close()
    assert closed == ["alongside it: somebody's", "alongside it: None", "the RayService"]


def test_what_is_alongside_it_and_cannot_be_closed_keeps_nothing_else_from_its_end(
    service: RayServiceCluster, closed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def close(self: Neighbour) -> None:
        raise CommandFailed("it did not go")

    monkeypatch.setattr(Neighbour, "close", close)
    part(service, SHARES_REDIS).start_alongside()
    with pytest.raises(CommandFailed, match="did not go"):
        service.close()
    assert closed == ["the RayService"]


def test_without_redis_there_is_nothing_to_share(api: Api) -> None:
    service = fake_service(api, Nodes(), FakeDashboard(None, {}, {}), [], has_redis=False)
    with pytest.raises(Unsupported, match="no Redis"):
        part(service, SHARES_REDIS).start_alongside()


def wanted(replicas: int, note: str | None) -> Json:
    """A patch: how many pods there are to be, and how many there were, so that no journal is needed."""
    return {"metadata": {"annotations": {"pytest-serve-chaos/undo": note}}, "spec": {"replicas": replicas}}


def test_redis_is_held_by_its_deployment(service: RayServiceCluster, api: Api) -> None:
    api.on_call = lambda: setattr(api, "redis", ())
    part(service, HAS_REDIS).kill_redis(how="kill", hold=True)
    part(service, HAS_REDIS).restore_redis()
    part(service, HAS_REDIS).restore_redis()
    scales = [call[3] for call in api.calls if call[0] == "patch_namespaced_deployment"]
    assert scales == [wanted(0, "1"), wanted(1, None)]


@pytest.mark.parametrize(
    "line",
    [
        "NOPERM this user has no permissions to run the 'keys' command",
        "WRONGPASS invalid username-password pair or user is disabled.",
        "ERR unknown command 'KEYS', with args beginning with: '*'",
        "(error) MOVED 1 10.0.0.1:6379",
    ],
)
def test_a_refusal_of_redis_is_no_key(service: RayServiceCluster, api: Api, line: str) -> None:
    api.result = ExecResult(f"{line}\n", "", 0)
    with pytest.raises(ObservationError, match=re.escape(line)):
        part(service, HAS_REDIS).redis_keys()


@pytest.mark.parametrize(
    ("store", "message"),
    [
        (RedisStore("StatefulSet", "store", 3, mode="sentinel", shown="its port is 26379"), "are Sentinels"),
        (RedisStore("StatefulSet", "store", 6, mode="cluster"), "a Redis Cluster of 6 pods"),
    ],
)
def test_what_is_no_ordinary_redis_is_neither_broken_nor_asked(api: Api, store: RedisStore, message: str) -> None:
    redis = part(fake_service(api, Nodes(), FakeDashboard(None, {}, {}), [], redis=store), HAS_REDIS)
    with pytest.raises(Unsupported, match=message):
        redis.kill_redis(how="kill", hold=False)
    with pytest.raises(Unsupported, match=message):
        redis.redis_keys()
    assert not api.calls


def test_a_redis_cluster_in_one_pod_can_be_broken(api: Api) -> None:
    store = RedisStore("StatefulSet", "store", 1, mode="cluster")
    api.result = ExecResult("RAYx@KV\n", "", 0)
    redis = part(fake_service(api, Nodes(), FakeDashboard(None, {}, {}), [], redis=store), HAS_REDIS)
    assert redis.redis_keys() == ("RAYx@KV",)


def test_what_redis_says_of_itself_counts_more_than_what_its_file_shows(service: RayServiceCluster, api: Api) -> None:
    redis = part(service, HAS_REDIS)
    assert isinstance(redis, PodRedis)
    api.result = ExecResult("# Server\nredis_version:7.0.0\nredis_mode:sentinel\n", "", 0)
    redis.read_mode()
    assert redis.mode == "sentinel"
    with pytest.raises(Unsupported, match="are Sentinels"):
        redis.redis_keys()
    api.result = ExecResult("NOAUTH Authentication required.\n", "", 0)
    redis.read_mode()
    assert redis.mode == "sentinel"


def test_the_keys_of_redis_are_asked_in_its_own_pod(service: RayServiceCluster, api: Api) -> None:
    api.result = ExecResult("RAYx@KV\nRAYx@NODE\n", "", 0)
    assert part(service, HAS_REDIS).redis_keys() == ("RAYx@KV", "RAYx@NODE")
    api.result = ExecResult("NOAUTH Authentication required.\n", "", 0)
    with pytest.raises(ObservationError, match="NOAUTH"):
        part(service, HAS_REDIS).redis_keys()
    api.redis = ()
    with pytest.raises(ObservationError, match="not running"):
        part(service, HAS_REDIS).redis_keys()


def test_the_redis_of_a_users_own_is_held_by_what_runs_it_and_asked_as_the_rayservice_does(
    api: Api,
) -> None:
    store = RedisStore("StatefulSet", "store", 3, 6400, "ray", "open sesame")
    service = fake_service(api, Nodes(), FakeDashboard(None, {}, {}), [], redis=store)
    api.on_call = lambda: setattr(api, "redis", ())
    part(service, HAS_REDIS).kill_redis(how="kill", hold=True)
    part(service, HAS_REDIS).restore_redis()
    scales = [call for call in api.calls if call[0] == "patch_namespaced_stateful_set"]
    assert [(call[1], call[3]) for call in scales] == [("store", wanted(0, "3")), ("store", wanted(3, None))]
    assert store.list_keys[-8:] == ("redis-cli", "-p", "6400", "--user", "ray", "--raw", "KEYS", "*")


def test_the_password_of_a_users_redis_is_an_argument_of_nothing(api: Api) -> None:
    store = RedisStore("StatefulSet", "store", 1, 6400, "ray", "open sesame")
    part(fake_service(api, Nodes(), FakeDashboard(None, {}, {}), [], redis=store), HAS_REDIS).redis_keys()
    assert "open sesame" not in str((store.list_keys, api.ran))
    assert api.read == ["open sesame\n"]


@pytest.mark.parametrize("password", [" open  sesame ", "a\\b'\"$x"])
def test_the_client_of_a_users_redis_gets_its_password_as_it_is(password: str, tmp_path: Path) -> None:
    client = tmp_path / "redis-cli"
    client.write_text('#!/bin/sh\nprintf %s "$REDISCLI_AUTH"\n')
    client.chmod(0o755)
    store = RedisStore(password=password)
    path = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    ran = subprocess.run(store.list_keys, input=store.stdin, env=path, capture_output=True, text=True, check=True)
    assert ran.stdout == password


@pytest.mark.parametrize(("password", "read"), [(None, None), ("", None)], ids=["that of its container", "none"])
def test_the_client_of_a_redis_reads_nothing_where_it_needs_no_password_of_ours(
    password: str | None, read: str | None
) -> None:
    assert RedisStore(password=password).stdin is read


def test_keys_of_a_redis_whose_password_is_not_known_cannot_be_listed(api: Api) -> None:
    store = RedisStore(unknown="it comes from fieldRef")
    service = fake_service(api, Nodes(), FakeDashboard(None, {}, {}), [], redis=store)
    with pytest.raises(Unsupported, match="password of Redis is unknown: it comes from fieldRef"):
        part(service, HAS_REDIS).redis_keys()
    assert api.ran == []


@pytest.mark.parametrize(
    ("store", "said"),
    [
        (RedisStore(password="open sesame"), "open sesame|-p 6379 --raw KEYS *"),
        (RedisStore(password="", port=6400), "|-p 6400 --raw KEYS *"),
        (RedisStore(), "of the container|-p 6379 --raw KEYS *"),
    ],
)
def test_a_client_of_redis_gets_the_password_by_its_environment(store: RedisStore, said: str, tmp_path: Path) -> None:
    client = tmp_path / "redis-cli"
    client.write_text('#!/bin/sh\necho "$REDISCLI_AUTH|$*"\n')
    client.chmod(0o755)
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin", "REDIS_PASSWORD": "of the container"}
    ran = subprocess.run(store.list_keys, env=env, input=store.stdin, check=True, capture_output=True, text=True)
    assert ran.stdout == f"{said}\n"
