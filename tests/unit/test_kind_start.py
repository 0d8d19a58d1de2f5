"""Start after start of a kind cluster that is to be kept, on machines that only remember what was done to them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest

from pytest_serve_chaos import backends
from pytest_serve_chaos.cluster import kind_cluster, kind_installation, kind_keep
from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.kind_cluster import delete_kind_cluster, start_kind_cluster
from pytest_serve_chaos.cluster.kind_settings import KindSettings
from pytest_serve_chaos.cluster.kuberay.own_file import read_own_file
from pytest_serve_chaos.cluster.kuberay.own_workload import OwnRayService
from pytest_serve_chaos.cluster.kuberay.records import name_of
from pytest_serve_chaos.errors import ClusterStartError, CommandFailed, SafetyError, SettingsError, WaitTimeout
from pytest_serve_chaos.manifests import Manifest
from pytest_serve_chaos.model import Json
from pytest_serve_chaos.settings import Settings
from tests.unit.kept_cluster import CONTROL_PLANE, NAME, WORKER, Api, FakeDashboard, Machines, pod, status

SPEC = ClusterSpec(workers=1)
ABOVE = ["install redis", "install services", "install rayservice"]
ALL = ["install namespace", "load", "install operator", ABOVE[0], "load", *ABOVE[1:]]

OVER = ["remove", ALL[0], "remove operator", *ALL[1:]]


@dataclass
class KindMachines(Machines):
    """Machines that kind makes and deletes, and what is installed on them.

    Attributes:
        api: What runs on them.
        fails: What does not work the next time: ``create``, ``load``, ``remove`` or ``serve``.
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

    def image_id(self, image: str) -> str:
        return self.ids.get(image, "1f")

    def image_environment(self, image: str) -> dict[str, str] | None:
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
        pass

    def describe(self) -> None:
        pass


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

    def __init__(self, *_: object, **options: Any) -> None:
        self.vouch: Callable[[], None] | None = options["on_vouch"]
        self.close: Callable[[], None] = options["on_close"]
        self.options = options

    def read_storage_namespace(self) -> None:
        pass


@dataclass
class Runs:
    """Runs that use the same cluster, one after the other.

    Attributes:
        machines: The cluster.
        said: All progress.
        settings: What the next run is made of.
        journal: The names of the clusters that would be deleted if the run ended by force now.
    """

    machines: KindMachines
    directory: Path
    said: list[str] = field(default_factory=list)
    settings: KindSettings = field(default_factory=lambda: KindSettings(keep=True, node_image="kindest/node:v1.34.2"))
    journal: list[str] = field(default_factory=list)

    def start(self, spec: ClusterSpec = SPEC, own: OwnRayService | None = None) -> FakeService:
        """Starts one."""
        (self.directory / "operator.yaml").write_text("kind: Deployment\nspec: {template: {spec: {containers: [{}]}}}")
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


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    machines = KindMachines()
    for module in (kind_cluster, kind_keep):
        monkeypatch.setattr(module, "KubeApi", lambda *_, **__: machines.api)
    monkeypatch.setattr(kind_cluster, "find_programs", lambda: None)
    monkeypatch.setattr(kind_cluster, "KindNodes", lambda *_: machines)
    monkeypatch.setattr(kind_cluster, "Stack", lambda *arguments: FakeStack(machines, arguments[-1]))

    def bring_up(_: object, ray_service: str, **__: object) -> FakeBringUp:
        machines.followed.append(ray_service)
        return FakeBringUp(machines)

    monkeypatch.setattr(kind_cluster, "BringUp", bring_up)
    said = replace(status(), apps={"sleepy_pid": "RUNNING"})
    monkeypatch.setattr(kind_cluster, "Dashboard", lambda _: FakeDashboard(said))
    monkeypatch.setattr(kind_cluster, "KindRayService", FakeService)
    return Runs(machines, tmp_path)


def test_the_second_run_takes_over_all_that_the_first_has_made(runs: Runs) -> None:
    assert runs.run() == ["create", *ALL]
    assert runs.said[-1] == f"kind: kept {NAME}; to delete it: kind delete cluster --name {NAME}"
    for _ in range(2):
        runs.said.clear()
        assert runs.run() == []
        assert f"kind: took over {NAME} in " in runs.said[-2]


def test_another_cluster_for_the_next_test_takes_the_same_machines_and_images(runs: Runs) -> None:
    runs.run()
    without = replace(SPEC, gcs="none")
    assert runs.run(without) == ["remove", *ABOVE[1:]]
    assert runs.run(without) == []
    assert runs.run() == ["remove", *ABOVE]


def test_a_run_that_was_ended_by_force_leaves_a_ray_service_on_which_nobody_relies(runs: Runs) -> None:
    runs.run()
    runs.start()
    assert runs.run() == ["remove", *ABOVE]
    assert f"kind: {NAME} is there, but the run that used it last did not leave it as it was" in "\n".join(runs.said)
    assert runs.run() == []


def test_a_cluster_that_no_run_vouched_for_is_not_relied_upon(runs: Runs) -> None:
    runs.start().close()
    runs.machines.taken()
    assert runs.run() == ["remove", *ABOVE]


def test_what_turns_out_not_to_be_as_it_was_left_is_made_anew(runs: Runs) -> None:
    runs.run()
    runs.machines.fails["serve"] = WaitTimeout("Serve to run its apps", timeout=45, last_seen="no apps")
    assert runs.run() == ["remove", *ABOVE]
    assert "waited 45 s for Serve to run its apps" in "\n".join(runs.said)


@pytest.mark.parametrize(
    "image", ["rayproject/ray:2.60.0", "redis:7.0", "quay.io/kuberay/operator:v1.6.2"], ids=["ray", "redis", "operator"]
)
def test_an_image_that_is_another_one_by_now_is_loaded_and_all_is_installed(runs: Runs, image: str) -> None:
    runs.run()
    runs.machines.ids[image] = "2e"
    assert runs.run() == OVER
    assert runs.run() == []


def test_other_machines_are_another_cluster(runs: Runs) -> None:
    runs.run()
    runs.machines.ids["kindest/node:v1.34.2"] = "2e"
    assert runs.run() == ["delete", "create", *ALL]
    assert runs.run() == []
    runs.settings = replace(runs.settings, node_image=None)
    assert runs.run() == ["delete", "create", *ALL]
    reason = "its machines are of kindest/node:v1.34.2 (2e); wanted: of the image of kind v0.30.0"
    assert reason in "\n".join(runs.said)


def test_another_number_of_workers_is_another_cluster(runs: Runs) -> None:
    runs.run()
    assert runs.run(replace(SPEC, workers=2)) == ["delete", "create", *ALL]
    assert "it has 2 machines for Ray, and 3 are wanted; it is built anew" in "\n".join(runs.said)


def test_a_ray_service_that_does_not_go_takes_the_machines_along(runs: Runs) -> None:
    runs.run()
    runs.machines.fails["remove"] = CommandFailed("the RayService's pods did not go")
    assert runs.run(replace(SPEC, gcs="none")) == ["remove", "delete", "create", *[a for a in ALL if "redis" not in a]]


# -- starts that do not come to their end --


def test_machines_that_are_not_finished_are_not_kept(runs: Runs) -> None:
    runs.machines.fails["create"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        runs.start()
    assert runs.machines.taken() == ["create", "delete"]
    assert runs.journal == []


@pytest.mark.parametrize("moment", ["load", "serve"])
def test_machines_on_which_not_all_was_installed_are_kept(runs: Runs, moment: str) -> None:
    runs.machines.fails[moment] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        runs.start()
    assert "delete" not in runs.machines.taken()
    assert runs.journal == [], "from now on nobody deletes it"
    assert runs.run() == OVER


def test_a_kept_cluster_that_cannot_be_used_is_left_with_the_way_to_delete_it(runs: Runs) -> None:
    runs.run()
    runs.machines.no_kubeconfig = True
    with pytest.raises(ClusterStartError, match="cannot be used") as caught:
        runs.start()
    assert runs.machines.taken() == []
    assert caught.value.mend[-1] == f"delete it: kind delete cluster --name {NAME}"


def test_without_keep_a_cluster_that_is_there_is_let_alone(runs: Runs) -> None:
    runs.run()
    runs.settings = replace(runs.settings, keep=False)
    with pytest.raises(SafetyError, match="already"):
        runs.start()
    assert runs.machines.taken() == []


def test_without_keep_nothing_is_written_down_and_all_goes(runs: Runs) -> None:
    runs.settings = replace(runs.settings, keep=False)
    assert runs.run() == ["create", *ALL, "delete"]
    assert runs.machines.api.record is None


# -- the journal --


def test_only_an_unfinished_cluster_that_was_to_be_kept_is_undone(runs: Runs, tmp_path: Path) -> None:
    runs.run()
    delete_kind_cluster(NAME, tmp_path, unfinished=True)
    assert runs.machines.taken() == []
    runs.machines.api.annotations = None
    delete_kind_cluster(NAME, tmp_path, unfinished=True)
    assert runs.machines.taken() == ["delete"]


def test_a_run_stands_in_the_journal_while_it_makes_machines(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(backend="kind", keep=True, report_dir=tmp_path)
    written: list[list[str]] = []

    def verbs() -> list[str]:
        return [json.loads(file.read_text())["verb"] for file in (tmp_path / "undo").iterdir()]

    def create(config: Mapping[str, Json]) -> None:
        written.append(verbs())
        KindMachines.create(runs.machines, config)

    monkeypatch.setattr(runs.machines, "create", create)
    monkeypatch.setattr(kind_installation, "read_manifests", lambda *_: "kind: Namespace")
    backends.start_cluster(SPEC, settings, tmp_path, runs.said.append)
    assert written == [[backends.DELETE_UNFINISHED_KIND]]
    assert verbs() == []


# -- a RayService of the user's own ------------------------------------------------------------------------------------

DATA = Path(__file__).parents[1] / "kind" / "data"


def own_rayservice(directory: Path, **changes: str) -> OwnRayService:
    """That of the file, with one worker, and other values for some of its keys."""
    content = (DATA / "k8s_config.yaml").read_text()
    for key, value in {"replicas": "1", "minReplicas": "1", "maxReplicas": "1", **changes}.items():
        content = re.sub(rf"\b{key}: \d+", f"{key}: {value}", content)
    path = directory / "k8s_config.yaml"
    path.write_text(content)
    return OwnRayService(read_own_file(path), "rayproject/ray:2.60.0", "redis:7.0", (DATA,))


def test_a_rayservice_of_the_users_own_is_checked_and_then_installed_with_all_that_belongs_to_it(
    runs: Runs, tmp_path: Path
) -> None:
    runs.settings = replace(runs.settings, keep=False)
    own = own_rayservice(tmp_path)
    cluster = runs.start(own.file.spec, own)
    machines = runs.machines
    assert machines.taken() == ["create", *ALL[:3], "check", *ALL[3:]]
    assert runs.said[0] == f"k8s_config.yaml: app sleepy_pid:app: its code travels to the pods: sleepy_pid.py of {DATA}"
    assert machines.loaded[1:] == [("redis:7.0", CONTROL_PLANE), ("rayproject/ray:2.60.0", WORKER)]
    assert [name_of(item) for item in machines.documents["redis"]] == ["redis-settings", "store", "store-of-the-gcs"]
    assert name_of(machines.documents["services"][0]) == "rayservice-of-the-guide-serve-svc"
    assert machines.followed == ["rayservice-of-the-guide"]
    assert cluster.options["ray_service"] == "rayservice-of-the-guide"
    assert cluster.options["redis_store"].name == "store-of-the-gcs"
    assert cluster.options["description"].details["rayservice file"].endswith("k8s_config.yaml")


def test_a_kept_rayservice_of_the_users_own_is_taken_over_until_its_file_is_another(runs: Runs, tmp_path: Path) -> None:
    own = own_rayservice(tmp_path)
    assert runs.run(own.file.spec, own) == ["create", *ALL[:3], "check", *ALL[3:]]
    assert runs.run(own.file.spec, own) == []
    assert runs.run() == ["remove", *ABOVE]
    another = own_rayservice(tmp_path, num_replicas="4")
    assert runs.run(another.file.spec, another) == ["remove", "check", *ABOVE]


def test_code_that_cannot_travel_is_refused_before_anything_is_made(runs: Runs, tmp_path: Path) -> None:
    (tmp_path / "sleepy_pid.py").write_text("#" * 1_000_000)
    own = replace(own_rayservice(tmp_path), directories=(tmp_path,))
    with pytest.raises(SettingsError, match="a ConfigMap holds"):
        runs.start(own.file.spec, own)
    assert runs.machines.taken() == []
