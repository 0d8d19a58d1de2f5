"""What an address that Ray takes for Redis leads to, as commands, configuration, ports and labels show it."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_serve_chaos.cluster.kubernetes.rayservice.redis_kind import (
    mode_of_info,
    mode_of_pod,
    pods_mode,
    tls_arguments,
)
from pytest_serve_chaos.model import Json


def container(command: str = "", **more: Any) -> dict[str, Any]:
    return {
        "name": "redis",
        "image": "redis:7.0",
        "command": command.split(),
        "ports": [{"containerPort": 6379}],
        **more,
    }


@pytest.mark.parametrize(
    ("of", "mode"),
    [
        pytest.param(container("redis-server /etc/redis.conf"), "", id="redis"),
        pytest.param(container("redis-server --cluster-enabled no"), "", id="not-a-cluster"),
        pytest.param(container(), "", id="image-alone"),
        pytest.param(container("redis-sentinel /etc/sentinel.conf"), "sentinel", id="program"),
        pytest.param(container("redis-server /etc/x.conf --sentinel"), "sentinel", id="option"),
        pytest.param(container("valkey-sentinel /etc/x.conf"), "sentinel", id="valkey"),
        pytest.param(container(image="bitnami/redis-sentinel:7.2"), "sentinel", id="image"),
        pytest.param(container("/opt/start-scripts/start-sentinel.sh"), "sentinel", id="script"),
        pytest.param(
            container("sh -c redis-cli -h redis-sentinel -p 26379 ping; exec redis-server"), "", id="asks-a-sentinel"
        ),
        pytest.param(container("redis-server --cluster-enabled yes"), "cluster", id="cluster"),
        pytest.param(container("redis-server --cluster-enabled=yes"), "cluster", id="cluster-in-one-word"),
        pytest.param(container(env=[{"name": "REDIS_NODES", "value": "a b c"}]), "cluster", id="bitnami-cluster"),
        pytest.param(container(env=[{"name": "REDIS_CLUSTER_ENABLED", "value": "no"}]), "", id="variable-off"),
    ],
)
def test_a_command_line_shows_it(of: dict[str, Any], mode: str) -> None:
    found, shown = mode_of_pod({"containers": [of]}, {}, 6379)
    assert found == mode
    assert bool(shown) == bool(mode)


@pytest.mark.parametrize(
    ("labels", "mode"),
    [
        ({"app": "redis"}, ""),
        ({"app.kubernetes.io/name": "redis"}, ""),
        ({"app.kubernetes.io/name": "redis-cluster"}, "cluster"),
        ({"helm.sh/chart": "redis-cluster-9.1.0"}, "cluster"),
        ({"helm.sh/chart": "redis-18.1.0"}, ""),
        ({"app.kubernetes.io/component": "sentinel"}, "sentinel"),
        ({"redis_setup_type": "sentinel"}, "sentinel"),
        ({"redis_setup_type": "standalone"}, ""),
    ],
)
def test_labels_of_well_known_charts_show_it(labels: dict[str, Any], mode: str) -> None:
    assert mode_of_pod({"containers": [container()]}, labels, 6379)[0] == mode


def test_the_port_tells_redis_and_sentinel_in_one_pod_apart() -> None:
    beside = container("redis-sentinel /s.conf", name="sentinel", ports=[{"containerPort": 26380}])
    pod: dict[str, Json] = {"containers": [container("redis-server"), beside]}
    assert mode_of_pod(pod, {}, 6379)[0] == ""
    assert mode_of_pod(pod, {}, 26380)[0] == "sentinel"
    assert mode_of_pod(pod, {}, 26379)[0] == "sentinel"


def test_the_configuration_that_the_command_names_shows_it() -> None:
    files = {
        "redis.conf": "# see sentinel.conf; sentinel monitor is for that\ncluster-enabled no\n",
        "sentinel.conf": "port 5000\nsentinel monitor mymaster redis-0 6379 2\n",
        "cluster.conf": "appendonly yes\ncluster-enabled yes\n",
        "commented.conf": "# cluster-enabled yes\n",
    }

    def mode(command: str) -> str:
        return mode_of_pod({"containers": [container(command)]}, {}, 6379, files)[0]

    assert mode("redis-server /conf/redis.conf") == ""
    assert mode("redis-server /conf/cluster.conf") == "cluster"
    assert mode("redis-server /conf/commented.conf") == ""
    assert mode("sh /conf/run-sentinel.conf") == "sentinel"
    assert mode("sh /start.sh") == "sentinel"  # whichever of them it reads


def test_pods_show_it_as_far_as_they_can_be_seen() -> None:
    of = container("redis-server --cluster-enabled yes")
    pod: dict[str, Json] = {"metadata": {"labels": {}}, "spec": {"containers": [of]}}
    assert pods_mode([pod], 6379) == "cluster"
    assert pods_mode([], 6379) == ""
    assert pods_mode([], 26379) == "sentinel"


@pytest.mark.parametrize(
    ("info", "mode"),
    [
        ("# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\n", "standalone"),
        ("redis_mode:sentinel", "sentinel"),
        ("server_name:valkey\nserver_mode:cluster\n", "cluster"),
        ("NOAUTH Authentication required.", ""),
        ("", ""),
    ],
)
def test_redis_says_it_itself(info: str, mode: str) -> None:
    assert mode_of_info(info) == mode


SERVER = "redis-server --tls-port 6379 --port 0 --tls-cert-file /tls/tls.crt --tls-key-file /tls/tls.key"


@pytest.mark.parametrize(
    ("of", "files", "arguments"),
    [
        pytest.param(container(), {}, "--tls --insecure", id="unknown"),
        pytest.param(
            container(f"{SERVER} --tls-ca-cert-file /tls/ca.crt"),
            {},
            "--tls --cacert /tls/ca.crt --cert /tls/tls.crt --key /tls/tls.key",
            id="arguments",
        ),
        pytest.param(container(SERVER), {}, "--tls --insecure --cert /tls/tls.crt --key /tls/tls.key", id="no-ca"),
        pytest.param(
            container("redis-server /c/redis.conf"),
            {"redis.conf": "tls-port 6379\ntls-ca-cert-file /x/ca.crt\ntls-cert-file /x/only\n"},
            "--tls --cacert /x/ca.crt",
            id="configuration-without-a-key",
        ),
        pytest.param(
            container(
                env=[
                    {"name": "REDIS_TLS_CA_FILE", "value": "/b/ca.crt"},
                    {"name": "REDIS_TLS_CERT_FILE", "value": "/b/tls.crt"},
                    {"name": "REDIS_TLS_KEY_FILE", "value": "/b/tls.key"},
                ]
            ),
            {},
            "--tls --cacert /b/ca.crt --cert /b/tls.crt --key /b/tls.key",
            id="variables",
        ),
    ],
)
def test_the_client_takes_the_certificates_that_the_server_has(
    of: dict[str, Any], files: dict[str, str], arguments: str
) -> None:
    assert " ".join(tls_arguments({"containers": [of]}, 6379, files)) == arguments
