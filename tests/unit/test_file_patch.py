"""Patches for a RayService file: merge patches, with lists of named items merged by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_serve_chaos.cluster.kubernetes.install.file_patch import merge_named, parse_patches, patched, read_patches
from pytest_serve_chaos.cluster.kubernetes.install.rayservice_file import parse_own_file, read_own_file
from pytest_serve_chaos.errors import SettingsError
from pytest_serve_chaos.manifests import Manifest, merge
from pytest_serve_chaos.model import Json

FILE = Path(__file__).parents[1] / "kind" / "data" / "k8s_config.yaml"
PATCH = Path("for-kind.yaml")
SERVICE: Manifest = yaml.safe_load("""
kind: RayService
metadata: {name: ranker}
spec:
  serveConfigV2: |
    applications:
      - {name: ranker, import_path: "ranker:app", deployments: [{name: A, num_replicas: 2}, {name: B}]}
  rayClusterConfig:
    workerGroupSpecs:
      - {groupName: gpu, replicas: 2, template: {spec: {containers: [
          {name: ray, image: "a:1", resources: {limits: {nvidia.com/gpu: 1, cpu: 2}}, env: [{name: X, value: x}]},
          {name: proxy, image: "p:1"}]}}}
      - {groupName: cpu, replicas: 1}
""")
SECRET: Manifest = {"kind": "ExternalSecret", "metadata": {"name": "hub"}}


def apply(text: str, *objects: Manifest) -> tuple[list[Any], list[str]]:
    found, notes = patched([*objects, SERVICE], parse_patches(text, PATCH))
    return [cast("Any", item) for item in found], notes


def workers(text: str) -> Any:
    return apply(f"- {{kind: RayService, name: ranker, patch: {{spec: {{rayClusterConfig: {text}}}}}}}")[0][-1]["spec"][
        "rayClusterConfig"
    ]["workerGroupSpecs"]


def test_a_gpu_is_taken_out_of_a_container_that_is_found_by_its_name() -> None:
    found = workers(
        "{workerGroupSpecs: [{groupName: gpu, template: {spec: {containers: [{name: ray, image: 'b:2',"
        " resources: {limits: {nvidia.com/gpu: null}}, env: [{name: X, value: y}, {name: Z, value: z}]}]}}}]}"
    )
    assert [group["groupName"] for group in found] == ["gpu", "cpu"]
    ray, proxy = found[0]["template"]["spec"]["containers"]
    assert ray["resources"] == {"limits": {"cpu": 2}}
    assert ray["image"] == "b:2"
    assert ray["env"] == [{"name": "X", "value": "y"}, {"name": "Z", "value": "z"}]
    assert proxy == {"name": "proxy", "image": "p:1"}


def test_an_item_of_a_list_can_be_deleted_and_a_list_without_names_is_replaced() -> None:
    found = workers("{workerGroupSpecs: [{groupName: cpu, $patch: delete}, {groupName: gpu, args: [a]}]}")
    assert [group["groupName"] for group in found] == ["gpu"]
    assert merge_named({"command": ["a", "b"]}, {"command": ["c"]}, "x") == {"command": ["c"]}
    assert merge_named({"env": [{"name": "A"}]}, {"env": []}, "x") == {"env": []}


def test_volume_mounts_are_found_by_their_path() -> None:
    mounts: Json = [{"name": "v", "mountPath": "/a"}, {"name": "v", "mountPath": "/b"}]
    change: Json = [{"mountPath": "/b", "readOnly": True}]
    (a, b) = cast("list[Any]", merge_named({"volumeMounts": mounts}, {"volumeMounts": change}, "x")["volumeMounts"])
    assert "readOnly" not in a
    assert b == {"name": "v", "mountPath": "/b", "readOnly": True}


def test_the_serve_config_is_patched_as_what_it_says() -> None:
    found, _ = apply("""
- kind: RayService
  patch: {spec: {serveConfigV2: {applications: [{name: ranker, deployments: [{name: A, num_replicas: 1}]}]}}}
""")
    config = yaml.safe_load(found[-1]["spec"]["serveConfigV2"])
    (app,) = config["applications"]
    assert app["import_path"] == "ranker:app"
    assert app["deployments"] == [{"name": "A", "num_replicas": 1}, {"name": "B"}]


@pytest.mark.parametrize(
    "text",
    [
        "[{kind: ExternalSecret, name: hub, patch: null}]",
        "[{kind: ExternalSecret, patch: null}]",
        "{kind: ExternalSecret, metadata: {name: hub}, $patch: delete}",
    ],
)
def test_an_object_can_be_left_out(text: str) -> None:
    found, notes = apply(text, SECRET)
    assert found == [None, SERVICE]
    assert notes == [f"ExternalSecret hub is left out, as patch 1 of {PATCH} says"]


def test_a_patch_can_be_written_as_kustomize_takes_it() -> None:
    found, _ = apply("""
apiVersion: ray.io/v1
kind: RayService
metadata: {name: ranker, labels: {a: b}}
spec: {rayClusterConfig: {rayVersion: "2.60.0"}}
""")
    assert found[-1]["metadata"] == {"name": "ranker", "labels": {"a": "b"}}
    assert found[-1]["spec"]["rayClusterConfig"]["rayVersion"] == "2.60.0"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[{kind: RayService, name: rankr, patch: {}}]", "is for RayService rankr, and the file has no such object"),
        ("[{kind: Secret, patch: null}]", "is for Secret, and the file has no such object"),
        ("[{name: ranker, patch: {}}]", "names no kind"),
        ("[7]", "names no kind"),
        ("[{kind: RayService, patch: 7}]", "has a patch that is not a mapping"),
        ("[{kind: RayService, patch: {}, spec: {}}]", "has spec in addition to patch"),
        ("[{kind: RayService, name: ranker}]", "changes nothing"),
        ("{", "is not YAML"),
    ],
)
def test_a_patch_for_nothing_is_refused_with_what_there_is(text: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        apply(text)
    assert said in caught.value.what
    assert caught.value.fix


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("{workerGroupSpecs: [{groupName: gpus, replicas: 1}]}", "groupName gpu"),
        ("{workerGroupSpecs: [{groupName: gpu, template: {spec: {containers: [{name: rya}]}}}]}", "name ray"),
    ],
)
def test_an_unknown_container_or_group_is_refused_with_those_that_there_are(text: str, known: str) -> None:
    with pytest.raises(SettingsError) as caught:
        workers(text)
    assert known in caught.value.checked


def test_what_a_patch_removes_in_vain_is_said() -> None:
    _, notes = apply("[{kind: RayService, patch: {spec: {rayClusterConfig: {headGroupSpecs: null}}}}]")
    assert notes[-1].endswith("removes spec.rayClusterConfig.headGroupSpecs, which RayService ranker does not have")


def test_two_objects_of_a_kind_need_a_name() -> None:
    with pytest.raises(SettingsError, match="has 2 such objects"):
        apply("[{kind: ExternalSecret, patch: null}]", SECRET, {**SECRET, "metadata": {"name": "other"}})


def test_a_patched_file_is_what_is_checked_and_what_was_patched_is_told(tmp_path: Path) -> None:
    gpu = FILE.read_text() + "\n---\n{apiVersion: x.io/v1, kind: Thing, metadata: {name: t}}\n"
    with pytest.raises(SettingsError, match="kind does not know Thing"):
        parse_own_file(gpu, FILE)
    patches = parse_patches("[{kind: Thing, patch: null}]", PATCH)
    own = parse_own_file(gpu, FILE, patches=patches)
    assert own.notes == (f"Thing t is left out, as patch 1 of {PATCH} says",)
    file = tmp_path / "patch.yaml"
    file.write_text("[{kind: RayService, patch: {metadata: {labels: {a: b}}}}]")
    assert read_own_file(FILE, patch=file).ray_service["metadata"]["labels"] == {"a": "b"}  # type: ignore[index,call-overload]
    with pytest.raises(SettingsError, match="cannot be read"):
        read_patches(tmp_path / "none.yaml")


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(0, 9) | st.text("ab", max_size=2),
    lambda inner: st.dictionaries(st.sampled_from(["a", "b", "c"]), inner, max_size=3),
    max_leaves=8,
)
MAPPING = st.dictionaries(st.sampled_from(["a", "b", "c"]), PLAIN, max_size=3)


@settings(deadline=None)
@given(MAPPING, MAPPING)
def test_without_lists_it_is_a_json_merge_patch(base: dict[str, Json], patch: dict[str, Json]) -> None:
    assert merge_named(base, patch, "x") == merge(base, patch)


@settings(deadline=None)
@given(MAPPING, MAPPING)
def test_a_patch_twice_is_the_patch_once(base: dict[str, Json], patch: dict[str, Json]) -> None:
    once = merge_named(base, patch, "x")
    assert merge_named(once, patch, "x") == once
