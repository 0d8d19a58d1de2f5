"""The Redis of a RayService on kind nodes: what is started alongside it, held, and asked for its keys."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.capabilities import HAS_REDIS, SHARES_REDIS
from pytest_serve_chaos.cluster.kubernetes.client.api import ExecResult
from pytest_serve_chaos.cluster.kubernetes.rayservice.cluster import RayServiceCluster
from pytest_serve_chaos.cluster.kubernetes.rayservice.redis import RedisStore
from pytest_serve_chaos.errors import CommandFailed, ObservationError, Unsupported
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


def test_redis_is_held_by_its_deployment(service: RayServiceCluster, api: Api) -> None:
    api.on_call = lambda: setattr(api, "redis", ())
    part(service, HAS_REDIS).kill_redis(how="kill", hold=True)
    part(service, HAS_REDIS).restore_redis()
    part(service, HAS_REDIS).restore_redis()
    scales = [call[3] for call in api.calls if call[0] == "patch_namespaced_deployment_scale"]
    assert scales == [{"spec": {"replicas": 0}}, {"spec": {"replicas": 1}}]


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
    scales = [call for call in api.calls if call[0] == "patch_namespaced_stateful_set_scale"]
    assert [(call[1], call[3]) for call in scales] == [
        ("store", {"spec": {"replicas": 0}}),
        ("store", {"spec": {"replicas": 3}}),
    ]
    assert store.list_keys[-8:] == ("redis-cli", "-p", "6400", "--user", "ray", "--raw", "KEYS", "*")


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
    ran = subprocess.run(store.list_keys, env=env, check=True, capture_output=True, text=True)
    assert ran.stdout == f"{said}\n"
