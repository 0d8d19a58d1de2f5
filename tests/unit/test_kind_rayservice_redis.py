"""The Redis of a RayService on kind nodes: what is started beside it, held, and asked for its keys."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.capabilities import SHARES_REDIS
from pytest_serve_chaos.cluster.kubernetes.client.api import ExecResult
from pytest_serve_chaos.cluster.kubernetes.kind.rayservice import KindRayService
from pytest_serve_chaos.cluster.kubernetes.rayservice.redis_store import RedisStore
from pytest_serve_chaos.errors import CommandFailed, ObservationError, Unsupported
from tests.unit.kind_services import Api, Neighbour, Nodes, fake_api, fake_service
from tests.unit.test_kuberay_pods import FakeDashboard


@pytest.fixture
def api() -> Api:
    return fake_api()


@pytest.fixture
def closed() -> list[str]:
    """What was closed, in order."""
    return []


@pytest.fixture
def service(api: Api, closed: list[str], monkeypatch: pytest.MonkeyPatch) -> KindRayService:
    return fake_service(api, Nodes(), FakeDashboard(None, {}, {}), closed, monkeypatch)


def test_what_is_started_beside_it_is_a_head_alone_and_goes_before_it(
    service: KindRayService, closed: list[str]
) -> None:
    assert service.capability(SHARES_REDIS) is not None
    other = service.start_beside()
    assert other.spec == ClusterSpec(workers=0)
    service.start_beside("somebody's")
    service.close()
    assert closed == ["beside it: somebody's", "beside it: None", "the RayService"]


def test_what_is_beside_it_and_cannot_be_closed_keeps_nothing_else_from_its_end(
    service: KindRayService, closed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def close(self: Neighbour) -> None:
        raise CommandFailed("it did not go")

    monkeypatch.setattr(Neighbour, "close", close)
    service.start_beside()
    with pytest.raises(CommandFailed, match="did not go"):
        service.close()
    assert closed == ["the RayService"]


def test_without_redis_there_is_nothing_to_share(service: KindRayService) -> None:
    service._redis_selector = None
    with pytest.raises(Unsupported, match="no Redis"):
        service.start_beside()


def test_redis_is_held_by_its_deployment(service: KindRayService, api: Api) -> None:
    api.on_call = lambda: setattr(api, "redis", ())
    service.kill_redis(how="kill", hold=True)
    service.restore_redis()
    service.restore_redis()
    scales = [call[3] for call in api.calls if call[0] == "patch_namespaced_deployment_scale"]
    assert scales == [{"spec": {"replicas": 0}}, {"spec": {"replicas": 1}}]


def test_the_keys_of_redis_are_asked_in_its_own_pod(service: KindRayService, api: Api) -> None:
    api.result = ExecResult("RAYx@KV\nRAYx@NODE\n", "", 0)
    assert service.redis_keys() == ("RAYx@KV", "RAYx@NODE")
    api.result = ExecResult("NOAUTH Authentication required.\n", "", 0)
    with pytest.raises(ObservationError, match="NOAUTH"):
        service.redis_keys()
    api.redis = ()
    with pytest.raises(ObservationError, match="not running"):
        service.redis_keys()


def test_the_redis_of_a_users_own_is_held_by_what_runs_it_and_asked_as_the_rayservice_does(
    service: KindRayService, api: Api
) -> None:
    service.redis_store = RedisStore("StatefulSet", "store", 3, 6400, "ray", "open sesame")
    api.on_call = lambda: setattr(api, "redis", ())
    service.kill_redis(how="kill", hold=True)
    service.restore_redis()
    scales = [call for call in api.calls if call[0] == "patch_namespaced_stateful_set_scale"]
    assert [(call[1], call[3]) for call in scales] == [
        ("store", {"spec": {"replicas": 0}}),
        ("store", {"spec": {"replicas": 3}}),
    ]
    assert service.redis_store.list_keys[-8:] == ("redis-cli", "-p", "6400", "--user", "ray", "--raw", "KEYS", "*")


def test_keys_of_a_redis_whose_password_is_not_known_cannot_be_listed(service: KindRayService, api: Api) -> None:
    service.redis_store = RedisStore(unknown="it comes from fieldRef")
    with pytest.raises(Unsupported, match="password of Redis is unknown: it comes from fieldRef"):
        service.redis_keys()
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
