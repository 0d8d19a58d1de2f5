"""Where Serve has proxies: what a Serve config may say, and what follows from what Serve reports."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.kubernetes.install.rayservice_file import parse_own_file
from pytest_serve_chaos.cluster.proxy_location import check_proxy_location
from pytest_serve_chaos.cluster.rest import NodeRow, ReplicaRow, ServeStatus, nodes_with_proxy
from pytest_serve_chaos.cluster.serve_config import serve_config
from pytest_serve_chaos.errors import SettingsError
from pytest_serve_chaos.model import Component, Identity, Topology
from pytest_serve_chaos.observe.health import whole_at_first
from pytest_serve_chaos.observe.observer import Observer, Report

APPS = "applications: [{name: edge, import_path: 'edge:app'}]"
NODES = (NodeRow("h", "10.0.0.1", "ALIVE", True), NodeRow("w", "10.0.0.2", "ALIVE", False))
REPLICA = ReplicaRow("r", "app", "App", "RUNNING", "a1", "w", 1)


@pytest.mark.parametrize(
    "config",
    [{}, {"proxy_location": "EveryNode"}, {"proxy_location": "HeadOnly"}, {"http_options": {"location": "NoServer"}}],
    ids=["default", "every node", "head only", "Serve's REST ignores that one"],
)
def test_with_proxies_a_config_can_be_tested(config: dict[str, object]) -> None:
    check_proxy_location(config, "edge.yaml")  # type: ignore[arg-type]


@pytest.mark.parametrize("location", ["Disabled", "NoServer", "headonly", None, 3])
def test_without_proxies_or_with_an_unknown_word_it_is_refused_with_the_setting(location: object) -> None:
    with pytest.raises(SettingsError, match="proxy_location is") as refused:
        check_proxy_location({"proxy_location": location}, "edge.yaml")  # type: ignore[dict-item]
    assert refused.value.checked == ("edge.yaml",)
    assert any("EveryNode" in fix for fix in refused.value.fix)


def test_a_serve_config_file_without_proxies_is_refused_before_there_is_a_cluster(tmp_path: Path) -> None:
    file = tmp_path / "edge.yaml"
    file.write_text(f"proxy_location: Disabled\n{APPS}\n")
    with pytest.raises(SettingsError, match="no request reaches the app"):
        serve_config(ClusterSpec(app=str(file)))
    file.write_text(f"proxy_location: HeadOnly\n{APPS}\n")
    assert serve_config(ClusterSpec(app=str(file)))["proxy_location"] == "HeadOnly"


def test_so_is_the_file_of_a_rayservice() -> None:
    container = "template: {spec: {containers: [{name: ray, image: 'rayproject/ray:2.60.0'}]}}"
    content = f"""
apiVersion: ray.io/v1
kind: RayService
metadata: {{name: edge}}
spec:
  serveConfigV2: "{{proxy_location: Disabled, {APPS}}}"
  rayClusterConfig:
    headGroupSpec: {{rayStartParams: {{}}, {container}}}
    workerGroupSpecs: [{{groupName: w, replicas: 1, rayStartParams: {{}}, {container}}}]
"""
    with pytest.raises(SettingsError, match="proxy_location is Disabled"):
        parse_own_file(content, Path("edge.yaml"))


# -- what Serve reports ------------------------------------------------------------------------------------------------


def status(location: str, *, target: int = 1, replicas: tuple[ReplicaRow, ...] = (REPLICA,)) -> ServeStatus:
    return ServeStatus({"app": "RUNNING"}, {"app#App": target}, {}, {}, replicas, {}, "c", proxy_location=location)


@pytest.mark.parametrize(("location", "nodes"), [("EveryNode", {"h", "w"}), ("HeadOnly", {"h"}), ("", {"h", "w"})])
def test_a_proxy_must_be_where_serve_has_them(location: str, nodes: set[str]) -> None:
    assert nodes_with_proxy(status(location), NODES) == nodes


def test_a_node_without_replicas_needs_no_proxy_and_a_dead_head_has_none() -> None:
    assert nodes_with_proxy(status("EveryNode", replicas=()), NODES) == {"h"}
    assert nodes_with_proxy(status("EveryNode"), NODES[1:]) == {"w"}


def first_look(location: str, *proxies: str, there: int = 1, target: int = 1) -> Topology | NotYet:
    parts = [Component("proxy", node, Identity("process", ("b", node, "1"))) for node in proxies]
    identities = [Identity("process", ("b", str(n), "1")) for n in range(there)]
    parts += [Component("replica", "w", identity, deployment="app#App") for identity in identities]
    topology = Topology(0.0, tuple(parts), wanted={"app#App": target}, pending={"app#App": 1} if there < target else {})
    observer = SimpleNamespace(
        lacks_haproxy=False, see=lambda: topology, report=Report(serve=status(location, target=target))
    )
    return whole_at_first(cast("Observer", observer))


def test_a_new_cluster_is_whole_with_the_proxies_that_the_config_asks_for() -> None:
    assert isinstance(first_look("HeadOnly", "head"), Topology)
    assert isinstance(first_look("EveryNode", "head", "w"), Topology)
    assert str(first_look("EveryNode", "head")) == str(NotYet("no proxy on w"))
    assert str(first_look("HeadOnly", "w")) == str(NotYet("no proxy on head"))


def test_a_new_cluster_may_be_scaled_to_zero_and_lack_nothing_else() -> None:
    assert isinstance(first_look("EveryNode", "head", there=0, target=0), Topology)
    assert str(first_look("EveryNode", "head", there=0)) == str(NotYet("replicas are missing: 1 of app#App"))


def test_a_serve_that_says_that_it_has_no_proxies_is_refused_at_once() -> None:
    with pytest.raises(SettingsError, match="proxy_location is Disabled") as refused:
        first_look("Disabled")
    assert refused.value.checked == ("what Serve says of itself",)
