"""Runs of pytest on a kind cluster, on machines that only remember what was done to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import pytest

from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.kubernetes.install.file_workload import OwnRayService
from pytest_serve_chaos.cluster.kubernetes.kind import reuse as kind_reuse
from pytest_serve_chaos.cluster.kubernetes.kind import start as kind_cluster
from pytest_serve_chaos.cluster.kubernetes.kind.settings import KindSettings
from pytest_serve_chaos.cluster.kubernetes.kind.start import start_kind_cluster
from pytest_serve_chaos.cluster.kubernetes.rayservice.owned import BroughtUp
from pytest_serve_chaos.manifests import Manifest
from pytest_serve_chaos.model import Json
from tests.unit.reused_cluster import CONTROL_PLANE, WORKER, Api, FakeDashboard, Machines, pod, status

SPEC = ClusterSpec(workers=1)
ABOVE = ["check", "install redis", "install services", "install rayservice"]
ALL = ["install namespace", "load", "install operator", *ABOVE[:2], "load", *ABOVE[2:]]

OVER = ["remove", ALL[0], "remove operator", *ALL[1:]]

OPERATOR = """
kind: CustomResourceDefinition
metadata:
  name: rayservices.ray.io
---
kind: Deployment
spec: {template: {spec: {containers: [{name: manager, image: "registry.example/operator:v1.7.0"}]}}}
"""


@dataclass
class KindMachines(Machines):
    """Machines that kind makes and deletes, and what is installed on them.

    Attributes:
        api: What runs on them.
        fails: What does not work the next time: ``create``, ``load``, ``remove``, ``serve``, ``describe`` or ``close``.
        ids: Docker's ids of images; the others have one, too.
        loaded: The images that were loaded, each with the first of its nodes.
        documents: What was installed, by the name of its file.
        followed: The RayServices that were waited for.
    """

    states: dict[str, str] = field(default_factory=dict)
    api: Api = field(default_factory=Api)
    fails: dict[str, BaseException] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)
    loaded: list[tuple[str, str]] = field(default_factory=list)
    documents: dict[str, Sequence[Manifest]] = field(default_factory=dict)
    followed: list[str] = field(default_factory=list)

    def do(self, what: str) -> None:
        self.done.append(what)
        self.may_fail(what)

    def may_fail(self, what: str) -> None:
        if what in self.fails:
            raise self.fails.pop(what)

    def taken(self) -> list[str]:
        """What was done since the last time, but for the DNS, which is told where to be."""
        done, self.done = self.done, []
        return [what for what in done if "coredns" not in what and not what.startswith("signal")]

    def exists(self) -> bool:
        return bool(self.states)

    def last_said(self) -> str:
        return "Preparing nodes"

    def create(self, config: Mapping[str, Json]) -> None:
        workers = [WORKER, *(f"{WORKER}{number}" for number in range(2, 9))]
        number = len(cast("list[Json]", config["nodes"])) - 1
        self.states = dict.fromkeys([CONTROL_PLANE, *workers[:number]], "running")
        self.api.nodes_now = {name: {} for name in self.states}
        self.api.annotations = None
        self.do("create")

    def delete(self) -> None:
        self.states = {}
        self.do("delete")

    def kind_version(self) -> str:
        return "kind v0.30.0"

    def id_of(self, image: str) -> str:
        return self.ids.get(image, "1f")

    def environment_of(self, image: str) -> dict[str, str] | None:
        return {}

    def load(self, images: Sequence[str], nodes: Sequence[str]) -> tuple[str, ...]:
        self.loaded += [(image, nodes[0]) for image in images]
        self.do("load")
        return ()

    def ray_nodes(self) -> tuple[str, ...]:
        return tuple(name for name in self.states if name != CONTROL_PLANE)

    def host_port(self, node_port: int) -> int:
        return node_port

    def limit_processors(self) -> None:
        pass


class FakeStack:
    """Installs and removes, so that the fake API has it."""

    def __init__(self, machines: KindMachines, operator_namespace: str) -> None:
        self._machines = machines
        self.operator_namespace = operator_namespace

    def check(self, documents: Sequence[Manifest]) -> None:
        self._machines.do("check")

    def install(self, name: str, documents: Sequence[Manifest]) -> None:
        self._machines.documents[name] = documents
        self._machines.do(f"install {name}")
        if name == "namespace":
            self._machines.api.annotations = self._machines.api.annotations or {}
        if name == "rayservice":
            self._machines.api.service = documents[0]

    def install_operator(self, text: str) -> None:
        self._machines.do("install operator")
        self.operator_namespace = "kuberay"

    def install_redis(self, documents: Sequence[Manifest]) -> None:
        self._machines.documents["redis"] = documents
        self._machines.do("install redis")

    def wait_for_operator(self) -> None:
        pass

    def wait_for_redis(self) -> None:
        pass

    def complaints(self) -> Sequence[str]:
        return ()

    def remove_left_overs(self) -> None:
        self._machines.do("remove")

    def remove_operator(self) -> None:
        self._machines.do("remove operator")

    def remove(self) -> None:
        self._machines.may_fail("close")

    def describe(self) -> None:
        self._machines.may_fail("describe")


class FakeBringUp:
    """A RayService that serves at once, unless it is said to fail."""

    def __init__(self, machines: KindMachines) -> None:
        self._machines = machines

    def ray_cluster(self) -> str:
        return "serve-chaos-abcde"

    def pods(self, ray_cluster: str, number: int) -> None:
        self._machines.api.ray_pods = tuple(pod(f"pod-{n}") for n in range(number))

    def serve(self, dashboard: object) -> None:
        self._machines.may_fail("serve")

    def ready(self) -> None:
        pass

    def traffic(self, url: str) -> None:
        pass


class FakeService:
    """The cluster that a start gives."""

    def __init__(
        self,
        of: BroughtUp,
        *_: object,
        on_close: Callable[[], None],
        on_vouch: Callable[[], None] | None = None,
        **__: object,
    ) -> None:
        self.vouch = on_vouch
        self.close = on_close
        self.of = of


@dataclass
class Runs:
    """Runs that use the same cluster, one after the other.

    Attributes:
        machines: The cluster.
        said: All progress.
        settings: What the next run is made of.
        journal: The names of the clusters that would be deleted if the run ended by force now.
        operator: The manifests of KubeRay's operator.
    """

    machines: KindMachines
    directory: Path
    said: list[str] = field(default_factory=list)
    settings: KindSettings = field(default_factory=lambda: KindSettings(keep=True, node_image="kindest/node:v1.34.2"))
    journal: list[str] = field(default_factory=list)
    operator: str = OPERATOR

    def start(self, spec: ClusterSpec = SPEC, own: OwnRayService | None = None) -> FakeService:
        """Starts one."""
        (self.directory / "operator.yaml").write_text(self.operator)
        settings = replace(self.settings, kuberay_manifests=str(self.directory / "operator.yaml"))
        cluster = start_kind_cluster(
            spec, settings, self.directory, self.said.append, own=own, on_create=self.journal.append, on_done=self.done
        )
        return cast("FakeService", cluster)

    def done(self, name: str) -> None:
        """Nothing more is to be undone of that cluster."""
        self.journal = [other for other in self.journal if other != name]

    def run(self, spec: ClusterSpec = SPEC, own: OwnRayService | None = None) -> list[str]:
        """A whole run that ends well; returns what was done to the machines."""
        cluster = self.start(spec, own)
        if cluster.vouch is not None:
            cluster.vouch()
        cluster.close()
        return self.machines.taken()


def fake_runs(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    """Runs whose machines, API and RayService are fakes."""
    machines = KindMachines()
    for module in (kind_cluster, kind_reuse):
        monkeypatch.setattr(module, "KubeApi", lambda *_, **__: machines.api)
    monkeypatch.setattr(kind_cluster, "find_programs", lambda: None)
    monkeypatch.setattr(kind_cluster, "KindNodes", lambda *_: machines)
    monkeypatch.setattr(kind_cluster, "Stack", lambda *arguments: FakeStack(machines, arguments[-1]))

    def bring_up(_: object, ray_service: str, **__: object) -> FakeBringUp:
        machines.followed.append(ray_service)
        return FakeBringUp(machines)

    monkeypatch.setattr(kind_cluster, "BringUp", bring_up)
    said = replace(status(), apps={"sleepy_pid": "RUNNING"})
    monkeypatch.setattr(kind_cluster, "Dashboard", lambda *_: FakeDashboard(said))
    monkeypatch.setattr(kind_cluster, "sight_from_machines", lambda *_: None)
    monkeypatch.setattr(kind_cluster, "owned_rayservice", FakeService)
    return Runs(machines, directory)
