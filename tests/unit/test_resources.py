"""Replicas that want more than a local or a kind cluster will have are refused before there is one."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Mapping
from pathlib import Path

import pytest

from pytest_serve_chaos.backends.kind import KIND
from pytest_serve_chaos.backends.local import LOCAL
from pytest_serve_chaos.cluster import resources
from pytest_serve_chaos.cluster.app_check import check_app
from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.kubernetes.install.render import cpus_of_a_worker
from pytest_serve_chaos.cluster.own_apps import deployments_of
from pytest_serve_chaos.cluster.resources import Offer, has_accelerators, merged, shortages
from pytest_serve_chaos.errors import SettingsError
from pytest_serve_chaos.model import Json
from pytest_serve_chaos.settings import Settings

OFFER = Offer("a local cluster", 2, 4.0)

DEPLOYMENT = """
class Deployment:
    def __init__(self, name, actor, *args, replicas=1, scaling=None, bundles=None):
        self.name, self.init_args, self.init_kwargs = name, args, {}
        self._deployment_config = type("Config", (), {"num_replicas": replicas, "autoscaling_config": scaling})
        self._replica_config = type("Config", (), {"ray_actor_options": actor, "placement_group_bundles": bundles})

class Application:
    def __init__(self, deployment):
        self._bound_deployment = deployment
"""
"""What stands for Ray's own classes."""

BUILD_APP = """
from types import SimpleNamespace

def build_app(app, name):
    found, left = [], [app]
    while left:
        value = left.pop()
        if isinstance(value, (list, tuple)):
            left += value
        elif isinstance(value, dict):
            left += value.values()
        elif hasattr(value, "_bound_deployment"):
            found.append(value._bound_deployment)
            left += [found[-1].init_args, found[-1].init_kwargs]
    return SimpleNamespace(deployments=found)
"""
"""What stands for Ray's own module of that name."""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with what stands for Ray."""
    monkeypatch.chdir(tmp_path)
    private = tmp_path / "ray" / "serve" / "_private"
    private.mkdir(parents=True)
    for directory in (private, private.parent, private.parent.parent):
        (directory / "__init__.py").touch()
    (private / "build_app.py").write_text(BUILD_APP)
    return tmp_path


def wants(**options: Json) -> list[str]:
    return [shortage.what for shortage in shortages({"shop": {"Ranker": options}}, OFFER)]


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"ray_actor_options": {"num_cpus": 4}}, []),
        ({"ray_actor_options": {"num_cpus": 8}}, ["each replica wants 8 CPUs on one node"]),
        ({"ray_actor_options": {"num_gpus": 0.5}}, ["each replica wants 0.5 GPUs, which no node offers"]),
        ({"ray_actor_options": {"num_gpus": 0, "resources": {}}}, []),
        (
            {"ray_actor_options": {"resources": {"scratch": 1}}},
            ["each replica wants 1 of the resource scratch, which no node offers"],
        ),
        (
            {"ray_actor_options": {"accelerator_type": "A10G"}},
            ["each replica wants 0.001 of the resource accelerator_type:A10G, which no node offers"],
        ),
        ({"placement_group_bundles": [{"CPU": 1}, {"GPU": 1}]}, ["each replica wants 1 GPU, which no node offers"]),
        ({"placement_group_bundles": [{"CPU": 1}, {"CPU": 5}]}, ["each replica wants 5 CPUs on one node"]),
        ({"ray_actor_options": {"num_cpus": 3}, "num_replicas": 2}, []),
        (
            {"ray_actor_options": {"num_cpus": 3}, "num_replicas": 3},
            ["3 replicas of 3 CPUs each are wanted, and there is room for 2"],
        ),
        (
            {"ray_actor_options": {}, "num_replicas": 9},
            ["9 replicas of 1 CPU each are wanted, and there is room for 8"],
        ),
        ({"num_replicas": 9}, []),
        ({"ray_actor_options": {"num_cpus": 0.1}, "num_replicas": 80}, []),
        ({"ray_actor_options": {"num_cpus": 3}, "autoscaling_config": {"max_replicas": 9}}, []),
        (
            {"ray_actor_options": {"num_cpus": 3}, "autoscaling_config": {"min_replicas": 1, "initial_replicas": 3}},
            ["3 replicas of 3 CPUs each are wanted, and there is room for 2"],
        ),
        ({"ray_actor_options": {"num_cpus": 0.1}, "max_replicas_per_node": 3, "num_replicas": 6}, []),
        (
            {"ray_actor_options": {"num_cpus": 0.1}, "max_replicas_per_node": 3, "num_replicas": 7},
            ["7 replicas are wanted, 3 at most on a node, and 2 nodes can have them"],
        ),
        ({"ray_actor_options": {"num_cpus": 0}, "max_replicas_per_node": 3, "num_replicas": 9}, []),
        (
            {"ray_actor_options": {"num_cpus": 0}, "max_replicas_per_node": 3, "num_replicas": 10},
            ["10 replicas are wanted, 3 at most on a node, and 3 nodes can have them"],
        ),
        (
            {"placement_group_bundles": [{"CPU": 3}], "num_replicas": 3},
            ["all replicas together want 9 CPUs, and there are 8"],
        ),
    ],
)
def test_what_can_never_run_is_found_and_nothing_else(options: Mapping[str, Json], what: list[str]) -> None:
    assert wants(**options) == what


def test_apps_that_each_have_room_may_have_none_together() -> None:
    one: dict[str, Json] = {"ray_actor_options": {"num_cpus": 2}, "num_replicas": 3}
    (found,) = shortages({"a": {"A": one}, "b": {"B": one}}, OFFER)
    assert found.what == "all replicas together want 12 CPUs, and there are 8"
    assert found.fix == "more workers: --serve-chaos-workers=3"


def test_more_workers_are_the_way_out_where_few_replicas_may_be_on_a_node() -> None:
    wanted: dict[str, Json] = {"ray_actor_options": {"num_cpus": 0.1}, "max_replicas_per_node": 2, "num_replicas": 6}
    (found,) = shortages({"shop": {"Ranker": wanted}}, OFFER)
    assert found.fix == ("allow more on a node, want no more than 4 replicas, or more workers: --serve-chaos-workers=3")


def test_a_machine_with_accelerators_may_offer_any(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Json] = {"ray_actor_options": {"num_gpus": 1, "resources": {"neuron_cores": 1}}}
    assert shortages({"a": {"A": options}}, Offer("a local cluster", 2, 4.0, others=True)) == []
    monkeypatch.delenv("RAY_OVERRIDE_RESOURCES", raising=False)
    assert not has_accelerators(tmp_path)
    (tmp_path / "nvidia0").touch()
    assert has_accelerators(tmp_path)


def test_a_config_takes_the_place_of_what_the_code_says() -> None:
    code: dict[str, Json] = {"num_replicas": 9, "ray_actor_options": {"num_gpus": 1}}
    config: dict[str, Json] = {"autoscaling_config": {"min_replicas": 1}, "ray_actor_options": {"num_cpus": 1}}
    assert merged(code, config) == config
    assert merged({"autoscaling_config": {}, "ray_actor_options": {}}, {"num_replicas": 2}) == {
        "num_replicas": 2, "ray_actor_options": {},
    }  # fmt: skip


CONFIG = """\
applications:
  - name: shop
    import_path: shop:app
    runtime_env: {pip: [something]}
    deployments:
      - name: Ranker
        ray_actor_options:
          num_gpus: 1
      - name: Front
        num_replicas: 2
        ray_actor_options:
          num_cpus: 16
"""


def refused(app: str, offer: Offer = OFFER, *, in_image: bool = False) -> str:
    with pytest.raises(SettingsError) as caught:
        check_app(ClusterSpec(app=app), lambda _: None, offer=offer, in_image=in_image)
    return str(caught.value)


def test_a_config_that_wants_too_much_is_refused_with_line_and_way_out_and_nothing_is_imported(project: Path) -> None:
    (project / "config.yaml").write_text(CONFIG)
    text = refused("config.yaml")
    assert text.startswith(
        "the Serve config config.yaml wants more than there will be (a local cluster has no CPU for replicas on its"
        " head, and on each of its 2 workers 4 CPUs, no GPU and no custom resource): 2 of its parts"
    )
    assert "line 8, applications[shop].deployments[Ranker].ray_actor_options.num_gpus: deployment Ranker: each" in text
    assert "deployment Front: each replica wants 16 CPUs on one node. To fix this: give it 4 or less" in text


@pytest.mark.parametrize("in_image", [False, True], ids=["local", "kind"])
def test_an_app_that_wants_too_much_is_refused_with_the_deployment(project: Path, in_image: bool) -> None:
    (project / "deep.py").write_text(
        f"{DEPLOYMENT}\nengine = Application(Deployment('Engine', {{'num_gpus': 1}}))\n"
        "app = Application(Deployment('Front', {'num_cpus': 1}, [{'engine': engine}]))"
    )
    text = refused("deep:app", in_image=in_image)
    assert "the app 'deep:app' wants more than there will be" in text
    assert "deployment Engine: each replica wants 1 GPU, which no node offers" in text
    assert "say it in a Serve config: --serve-chaos-app=config.yaml" in text


def test_what_a_config_does_not_say_counts_by_the_code(project: Path) -> None:
    (project / "many.py").write_text(f"{DEPLOYMENT}\napp = Application(Deployment('Front', {{'num_cpus': 3}}))")
    config = project / "config.yaml"
    config.write_text(
        "applications:\n- {name: shop, import_path: many:app, deployments: [{name: Front, num_replicas: 3}]}\n"
    )
    assert "deployment Front: 3 replicas of 3 CPUs each are wanted, and there is room for 2" in refused("config.yaml")
    config.write_text(config.read_text().replace("num_replicas: 3", "num_replicas: 2"))
    check_app(ClusterSpec(app="config.yaml"), lambda _: None, offer=OFFER)


def test_the_default_app_is_refused_where_its_replicas_have_too_few_nodes(project: Path) -> None:
    one = Offer("a local cluster", 1, 4.0)
    spec = ClusterSpec(workers=1)
    with pytest.raises(SettingsError) as caught:
        check_app(spec, lambda _: None, offer=one)
    assert "deployment SleepyPid: 6 replicas are wanted, 3 at most on a node, and 1 node can have them" in str(
        caught.value
    )
    assert "--serve-chaos-workers=2, or say it to the marker: serve_cluster(app_args=" in str(caught.value)
    check_app(ClusterSpec(workers=1, app_args=(("options", {"num_replicas": 3}),)), lambda _: None, offer=one)
    check_app(ClusterSpec(), lambda _: None, offer=OFFER)


def test_the_deployments_of_a_composed_app_each_have_options_of_their_own() -> None:
    app: dict[str, Json] = {
        "import_path": "pytest_serve_chaos.apps.composed:app",
        "args": {"options": {"num_replicas": 1, "max_ongoing_requests": 2}, "child_options": {"num_replicas": 5}},
    }
    assert deployments_of(app) == {
        "Parent": {"num_replicas": 1, "max_ongoing_requests": 2},
        "Child": {"num_replicas": 5, "max_ongoing_requests": 2},
    }
    assert deployments_of({"import_path": "pytest_serve_chaos.apps.canary:app"}) is None


@pytest.mark.parametrize("name", ["sleepy_pid", "composed"])
def test_the_deployments_of_own_apps_are_those_that_their_code_has(name: str) -> None:
    import_path = f"pytest_serve_chaos.apps.{name}:app"
    tree = ast.parse(Path(importlib.import_module("pytest_serve_chaos.apps").__path__[0], f"{name}.py").read_text())
    coded = {
        item.name
        for item in tree.body
        if isinstance(item, ast.ClassDef) and any("deployment" in ast.unparse(one) for one in item.decorator_list)
    }
    assert set(deployments_of({"import_path": import_path}) or {}) == coded


def test_an_app_whose_deployments_cannot_be_read_is_left_to_the_cluster(project: Path) -> None:
    (project / "odd.py").write_text("app = type('App', (), {'_bound_deployment': object()})()")
    check_app(ClusterSpec(app="odd:app"), lambda _: None, offer=OFFER)


def test_nodes_that_are_told_what_they_offer_may_offer_anything(project: Path) -> None:
    (project / "config.yaml").write_text(CONFIG)
    spec = ClusterSpec(app="config.yaml", env=(("RAY_OVERRIDE_RESOURCES", '{"GPU": 1}'),))
    check_app(spec, lambda _: None, offer=OFFER)


def test_both_backends_say_what_their_workers_offer(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "config.yaml").write_text(CONFIG)
    monkeypatch.setattr(resources, "has_accelerators", lambda: False)
    for backend, offers in ((LOCAL, "a local cluster"), (KIND, "the kind cluster")):
        with pytest.raises(SettingsError, match=rf"wants more than there will be \({offers}"):
            backend.check_app(ClusterSpec(app="config.yaml"), Settings(backend=backend.name), print)
    assert cpus_of_a_worker() == 2.0
