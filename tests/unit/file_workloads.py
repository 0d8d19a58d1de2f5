"""The RayService file of the guide, changed by a test and adapted to kind, and the ways to what is in it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.cluster.kubernetes.install.file_workload import OwnRayService, own_workload
from pytest_serve_chaos.cluster.kubernetes.install.rayservice_file import parse_own_file
from pytest_serve_chaos.cluster.kubernetes.install.workload import Workload

DATA = Path(__file__).parents[1] / "kind" / "data"
FILE = DATA / "k8s_config.yaml"
LABELS = {names.MANAGED_BY: names.PROJECT, names.RUN: "serve-chaos-1"}
DOCUMENTS: list[dict[str, Any]] = list(yaml.safe_load_all(FILE.read_text()))

Change = Callable[[list[dict[str, Any]]], object]
"""Changes the objects of the file in place; the last is the RayService."""


def no_image(image: str) -> None:
    """Docker has no image."""


def ray_is_here(image: str) -> dict[str, str] | None:
    return {"PYTHONPATH": "/image"} if image.startswith("rayproject/") else None


def adapted(
    change: Change = lambda _: None,
    *,
    ray_image: str | None = None,
    ray_version: str | None = None,
    redis_image: str | None = None,
    directories: tuple[Path, ...] = (),
    environment: Callable[[str], Mapping[str, str] | None] = no_image,
) -> Workload:
    documents = copy.deepcopy(DOCUMENTS)
    change(documents)
    own = parse_own_file(yaml.safe_dump_all(documents), FILE)
    return own_workload(OwnRayService(own, ray_image, redis_image, directories, ray_version), LABELS, environment)


def cluster(of: Workload | list[dict[str, Any]]) -> Any:
    service: Any = of.ray_service if isinstance(of, Workload) else of[-1]
    return service["spec"]["rayClusterConfig"]


def spec(of: Workload) -> Any:
    return of.ray_service["spec"]


def pods(of: Workload | list[dict[str, Any]]) -> list[Any]:
    """The templates of the head and of the workers."""
    return [cluster(of)["headGroupSpec"]["template"], cluster(of)["workerGroupSpecs"][0]["template"]]


def ray(template: Any) -> Any:
    return template["spec"]["containers"][0]


def env(template: Any) -> dict[str, Any]:
    return {v["name"]: v.get("value", v.get("valueFrom")) for v in ray(template)["env"]}


def said(work: Workload, *words: str) -> list[str]:
    return [line for line in work.told if all(word in line for word in words)]
