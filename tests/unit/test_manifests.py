from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pytest_serve_chaos import manifests
from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.cluster.kubernetes.install import render
from pytest_serve_chaos.errors import SettingsError
from pytest_serve_chaos.manifests import Manifest, merge
from pytest_serve_chaos.model import Json

# Small, and of few letters: all of Unicode takes seconds to load on a busy machine, which Hypothesis calls too slow.
SCALARS = st.none() | st.booleans() | st.integers(0, 9) | st.sampled_from(["", "x", "yes"])
VALUES: st.SearchStrategy[Json] = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.dictionaries(st.sampled_from("abc"), VALUES, max_size=3)

LABELS = {names.MANAGED_BY: names.PROJECT, names.RUN: "serve-chaos-1"}
CODE = {"pytest_serve_chaos/__init__.py": "", "pytest_serve_chaos/apps/canary.py": "app = 1\n"}


def settings(
    *, workers: int = 2, gcs: str = "redis", head_env: dict[str, str] | None = None
) -> render.RayServiceSettings:
    return render.RayServiceSettings(
        image="registry.example/ray:2.61.0-py312",
        ray_version="2.61.0",
        workers=workers,
        gcs=gcs,
        serve_config={"applications": [{"name": "pid", "import_path": "sleepy_pid:app"}]},
        head_env=head_env or {},
        worker_env={"WORKER": "1"},
        termination_grace=15.0,
        code=CODE,
        labels=LABELS,
    )


def at(value: Json, *path: str | int) -> Json:
    for key in path:
        value = value[key]  # type: ignore[index]
    return value


CLUSTER = ("spec", "rayClusterConfig")
HEAD_POD = (*CLUSTER, "headGroupSpec", "template", "spec")
WORKER_POD = (*CLUSTER, "workerGroupSpecs", 0, "template", "spec")


def environment(service: Manifest, *pod: str | int) -> dict[str, str]:
    variables = cast("list[dict[str, str]]", at(service, *pod, "containers", 0, "env"))
    return {variable["name"]: variable["value"] for variable in variables}


def test_the_kind_config_of_the_repository_is_that_of_the_package() -> None:
    repository = Path(__file__).parents[2] / "kind-config.yaml"
    assert repository.read_text() == manifests.text("kind-config.yaml")


@pytest.mark.parametrize("name", ["kind-config.yaml", "redis.yaml", "rayservice.yaml", "services.yaml"])
def test_every_manifest_is_a_kubernetes_object_as_it_stands(name: str) -> None:
    documents = manifests.load(name)
    assert documents
    assert all(document.get("kind") and document.get("apiVersion") for document in documents)


def test_a_patch_adds_replaces_and_removes() -> None:
    base: Manifest = {"spec": {"replicas": 1, "image": "a", "list": [1, 2]}, "kind": "Thing"}
    patched = merge(base, {"spec": {"replicas": 3, "image": None, "list": [4]}})
    assert patched == {"spec": {"replicas": 3, "list": [4]}, "kind": "Thing"}


@given(OBJECTS, OBJECTS)
def test_a_patch_applied_twice_is_a_patch_applied_once(base: Manifest, patch: Manifest) -> None:
    once = merge(base, patch)
    assert merge(once, patch) == once


@given(OBJECTS, OBJECTS)
def test_a_patch_leaves_its_arguments_alone(base: Manifest, patch: Manifest) -> None:
    before = yaml.safe_dump([base, patch])
    merge(base, patch)
    assert yaml.safe_dump([base, patch]) == before


@given(OBJECTS)
def test_an_empty_patch_changes_nothing(base: Manifest) -> None:
    assert merge(base, {}) == base


@given(st.text(st.sampled_from("aye013xo.-+:_ \n\t'\"#"), max_size=6))
def test_every_text_reads_back_as_it_was(text: str) -> None:
    assert yaml.safe_load(manifests.dump(({"text": text},))) == {"text": text}


@pytest.mark.parametrize("text", ["0123456789", "1e3", "12e4", "0o17", "2.60", "+5", "y", "N", "1_000", ".5"])
def test_a_text_that_kubernetes_would_take_for_something_else_is_quoted(text: str) -> None:
    assert manifests.dump(({"text": text},)) == f"text: '{text}'\n"


def test_texts_of_several_lines_can_be_read_by_people() -> None:
    assert manifests.dump(({"text": "a: 1\nb: 2\n"},)) == "text: |\n  a: 1\n  b: 2\n"


def test_the_ports_of_a_run_are_filled_in_on_the_loopback_address_only() -> None:
    config = render.kind_config(18000, 18265)
    mappings = cast("list[dict[str, Json]]", at(config, "nodes", 0, "extraPortMappings"))
    assert {m["containerPort"]: m["hostPort"] for m in mappings} == {30800: 18000, 30865: 18265}
    assert {m["listenAddress"] for m in mappings} == {"127.0.0.1"}


def test_the_node_ports_of_the_services_are_those_that_kind_maps() -> None:
    mapped = {
        at(m, "containerPort")
        for m in cast("list[Json]", at(manifests.load("kind-config.yaml")[0], "nodes", 0, "extraPortMappings"))
    }
    assert {at(service, "spec", "ports", 0, "nodePort") for service in render.services({})} == mapped


def test_kuberay_takes_our_service_for_its_own_and_leaves_it_a_node_port() -> None:
    """It finds it by its name, and the API server keeps the node port of a port with the same name."""
    traffic, dashboard = render.services({})
    service = render.ray_service(settings())
    assert at(traffic, "metadata", "name") == f"{at(service, 'metadata', 'name')}-serve-svc"
    assert at(dashboard, "metadata", "name") == names.DASHBOARD_SERVICE
    assert at(service, "spec", "serveService") == {"spec": {"type": at(traffic, "spec", "type")}}
    ports = cast("list[dict[str, Json]]", at(service, *HEAD_POD, "containers", 0, "ports"))
    (serve,) = [p for p in ports if p["name"] == at(traffic, "spec", "ports", 0, "name")]
    assert serve["containerPort"] == at(traffic, "spec", "ports", 0, "port")


def test_a_changed_rayservice_gets_a_second_cluster() -> None:
    assert at(render.ray_service(settings()), "spec", "upgradeStrategy", "type") == "NewCluster"


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_there_is_a_node_for_the_head_and_for_each_worker(workers: int) -> None:
    config = render.kind_config(1, 2, ray_nodes=workers + 1)
    roles = [at(node, "role") for node in cast("list[Json]", config["nodes"])]
    assert roles == ["control-plane", *["worker"] * (workers + 1)]


def test_the_head_takes_no_replicas() -> None:
    service = render.ray_service(settings())
    assert at(service, *CLUSTER, "headGroupSpec", "rayStartParams", "num-cpus") == "0"


def test_every_pod_of_a_ray_cluster_is_alone_on_its_node_and_keeps_off_the_services_node() -> None:
    service = render.ray_service(settings())
    for pod in (HEAD_POD, WORKER_POD):
        rule = at(service, *pod, "affinity", "podAntiAffinity", "requiredDuringSchedulingIgnoredDuringExecution", 0)
        selected = cast("dict[str, str]", at(rule, "labelSelector", "matchLabels"))
        labels = cast("dict[str, str]", at(service, *pod[:-1], "metadata", "labels"))
        assert at(rule, "topologyKey") == "kubernetes.io/hostname"
        assert selected.items() <= labels.items()
        assert at(rule, "matchLabelKeys") == [names.RAY_CLUSTER], "alongside it there is room for another RayCluster"
        assert at(service, *pod, "nodeSelector") == {names.ROLE: "ray"}


def test_redis_and_operator_are_on_the_services_node() -> None:
    text = "kind: Deployment\nspec: {template: {spec: {containers: [{name: manager}]}}}\n"
    operator = yaml.safe_load(render.operator_manifests(text, image="op:1", labels=LABELS))
    assert at(operator, "spec", "template", "spec", "containers") == [{"name": "manager", "image": "op:1"}]
    redis = next(d for d in render.redis("redis:7.0", LABELS) if d["kind"] == "Deployment")
    for deployment in (operator, redis):
        pod = at(deployment, "spec", "template", "spec")
        assert at(pod, "nodeSelector") == {names.ROLE: "services"}
        assert at(pod, "tolerations", 0, "key") == "node-role.kubernetes.io/control-plane"


def test_resource_definitions_pass_through_as_they_are() -> None:
    definition = "kind: CustomResourceDefinition\nmetadata: {name:   x}  # kept\n"
    both = render.operator_manifests(f"{definition}---\nkind: Service\n", image=None, labels={"a": "b"})
    first, second = both.split("---\n")
    assert first == definition
    assert yaml.safe_load(second) == {"kind": "Service", "metadata": {"labels": {"a": "b"}}}


def test_a_document_of_comments_only_is_left_out() -> None:
    text = "# Copyright\n# Apache-2.0\n---\nkind: Service\n---\n# the end\n"
    assert yaml.safe_load(render.operator_manifests(text, image=None, labels={}))["kind"] == "Service"


@pytest.mark.parametrize("text", ["<html>", "- kind: Service", "metadata: {name: x}", "kind: [", "'", "7"])
def test_a_document_that_is_no_object_is_refused_in_words(text: str) -> None:
    with pytest.raises(SettingsError, match="a document of KubeRay's manifests is not") as caught:
        render.operator_manifests(f"kind: Service\n---\n{text}\n", image=None, labels={})
    assert caught.value.checked == (text,)


def test_the_operators_image_is_that_of_its_deployment() -> None:
    text = "kind: Service\n---\nkind: Deployment\nspec: {template: {spec: {containers: [{name: m, image: op:7}]}}}\n"
    assert render.operator_image(render.operator_manifests(text, image=None, labels=LABELS)) == "op:7"
    assert render.operator_image(render.operator_manifests(text, image="op:8", labels=LABELS)) == "op:8"
    assert render.operator_image("kind: Service\n") == ""


@pytest.mark.parametrize(("gcs", "fault_tolerant"), [("redis", True), ("none", False)])
def test_without_fault_tolerance_there_is_no_word_of_redis(gcs: str, fault_tolerant: bool) -> None:
    service = render.ray_service(settings(gcs=gcs))
    assert ("gcsFaultToleranceOptions" in cast("Manifest", at(service, *CLUSTER))) is fault_tolerant
    assert ("redis" in yaml.safe_dump(service)) is fault_tolerant


@pytest.mark.parametrize("workers", [1, 3])
def test_the_group_has_as_many_workers_as_wanted_and_never_more(workers: int) -> None:
    group = cast("Manifest", at(render.ray_service(settings(workers=workers)), *CLUSTER, "workerGroupSpecs", 0))
    assert [group["replicas"], group["minReplicas"], group["maxReplicas"]] == [workers] * 3


def test_image_version_and_environment_reach_all_ray_containers() -> None:
    service = render.ray_service(settings(head_env={"HEAD": "1"}))
    images = {at(service, *pod, "containers", 0, "image") for pod in (HEAD_POD, WORKER_POD)}
    assert images == {"registry.example/ray:2.61.0-py312"}
    assert at(service, *CLUSTER, "rayVersion") == "2.61.0"
    assert environment(service, *HEAD_POD).items() >= {"HEAD": "1", "PYTHONPATH": names.CODE_PATH}.items()
    assert environment(service, *WORKER_POD).items() >= {"WORKER": "1", "PYTHONPATH": names.CODE_PATH}.items()


def test_a_path_of_the_user_comes_after_our_code() -> None:
    service = render.ray_service(settings(head_env={"PYTHONPATH": "/app"}))
    assert environment(service, *HEAD_POD)["PYTHONPATH"] == f"{names.CODE_PATH}:/app"


@pytest.mark.parametrize(
    ("image", "version"), [("ray:2.60.0", "2.60.0"), ("r:5000/ray:2.61.0-py312", "2.61.0"), ("ray:nightly", None)]
)
def test_the_image_says_which_ray_it_is(image: str, version: str | None) -> None:
    assert render.version_of(image) == version


def test_the_serve_config_is_yaml_that_reads_back_as_it_was() -> None:
    service = render.ray_service(settings())
    assert yaml.safe_load(str(at(service, "spec", "serveConfigV2"))) == settings().serve_config


def test_modules_get_their_paths_back_from_the_keys_of_the_config_map() -> None:
    data = cast("dict[str, str]", render.code_config_map(CODE, LABELS)["data"])
    items = cast(
        "list[dict[str, str]]", at(render.ray_service(settings()), *WORKER_POD, "volumes", 0, "configMap", "items")
    )
    assert {item["path"]: data[item["key"]] for item in items} == CODE
    assert not any("/" in key for key in data)


def test_the_code_of_the_package_is_its_apps_and_nothing_else() -> None:
    code = render.package_code()
    assert code["pytest_serve_chaos/__init__.py"] == ""
    assert "pytest_serve_chaos/apps/sleepy_pid.py" in code
    assert all(path.startswith("pytest_serve_chaos/apps/") for path in code if path != "pytest_serve_chaos/__init__.py")


def test_code_that_no_config_map_can_hold_is_refused() -> None:
    with pytest.raises(SettingsError, match="a ConfigMap holds"):
        render.code_config_map({"big.py": "x" * 1_000_000}, LABELS)


def test_all_that_is_made_is_labelled() -> None:
    made = [
        render.namespace(LABELS),
        *render.redis("redis:7.0", LABELS),
        *render.services(LABELS),
        render.code_config_map(CODE, LABELS),
        render.ray_service(settings()),
    ]
    for manifest in made:
        labels = cast("dict[str, str]", at(manifest, "metadata", "labels"))
        assert labels.items() >= LABELS.items(), manifest["kind"]
