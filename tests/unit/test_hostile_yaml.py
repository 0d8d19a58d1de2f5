"""YAML that is inside of other objects, and that others wrote: it is refused in one line, and soon."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_serve_chaos.cluster.kubernetes.install.crd_schema import read_schema
from pytest_serve_chaos.cluster.kubernetes.install.file_patch import parse_patches, patched
from pytest_serve_chaos.cluster.kubernetes.install.render import operator_manifests
from pytest_serve_chaos.cluster.kubernetes.rayservice.existing import read_ray_service
from pytest_serve_chaos.errors import ServeChaosError
from pytest_serve_chaos.manifests import Manifest
from pytest_serve_chaos.traffic.request_file import read_requests

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)
)
DEEP = "a: " + "[" * 50_000


def of_a_cluster(text: str, directory: Path) -> object:
    """The serveConfigV2 of somebody's RayService."""
    del directory
    return read_ray_service({"metadata": {"name": "svc"}, "spec": {"serveConfigV2": text}})


def of_a_patched_file(text: str, directory: Path) -> object:
    patch = "kind: RayService\nname: svc\npatch: {spec: {serveConfigV2: {http_options: {port: 1}}}}\n"
    item: Manifest = {"kind": "RayService", "metadata": {"name": "svc"}, "spec": {"serveConfigV2": text}}
    return patched([item], parse_patches(patch, directory / "patch.yaml"))


def of_requests(text: str, directory: Path) -> object:
    (directory / "requests.yaml").write_text(text)
    return read_requests(directory / "requests.yaml")


def of_an_operator(text: str, directory: Path) -> object:
    del directory
    return operator_manifests(text, image=None, labels={}, gates=())


@pytest.mark.parametrize("text", [LAUGHS, DEEP, "a: 2026-13-01\n"], ids=["laughs", "deep", "date"])
@pytest.mark.parametrize("read", [of_a_cluster, of_a_patched_file, of_requests, of_an_operator])
def test_it_is_refused_in_one_line(read: Callable[[str, Path], object], text: str, tmp_path: Path) -> None:
    with pytest.raises(ServeChaosError) as caught:
        read(text, tmp_path)
    assert "\n" not in caught.value.what
    assert len(caught.value.what) < 300


@pytest.mark.parametrize("text", [LAUGHS, DEEP], ids=["laughs", "deep"])
def test_of_manifests_that_are_hostile_there_is_no_schema(text: str, tmp_path: Path) -> None:
    file = tmp_path / "operator.yaml"
    file.write_text(f"kind: CustomResourceDefinition\nmetadata: {{name: rayservices.ray.io}}\n{text}")
    assert read_schema(str(file)) is None


def test_a_request_in_a_line_that_is_deep_is_refused_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "requests.jsonl").write_text('{"path": "/"}\n' + "[" * 100_000 + "\n")
    with pytest.raises(ServeChaosError, match="line 2: it is nested too deeply"):
        read_requests(tmp_path / "requests.jsonl")
