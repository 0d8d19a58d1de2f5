"""The registry of backends: what they can be called, and which options are whose."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_serve_chaos.backends import Backend, Finding, Leftover, Option, kind, probes
from pytest_serve_chaos.backends.kind import own_rayservice
from pytest_serve_chaos.backends.registry import BUILT_IN
from pytest_serve_chaos.cluster.base import Cluster, ClusterSpec, Progress
from pytest_serve_chaos.cluster.kubernetes.install.file_workload import own_workload
from pytest_serve_chaos.cluster.local import preflight
from pytest_serve_chaos.cluster.serve_config import applications
from pytest_serve_chaos.doctor import examine
from pytest_serve_chaos.errors import MissingDependency, SettingsError
from pytest_serve_chaos.kinds import Integer, Kind
from pytest_serve_chaos.options import GENERAL, OPTIONS, option
from pytest_serve_chaos.safety.journal import directory_of_journals, journal_of
from pytest_serve_chaos.settings import Settings, resolve
from tests.unit.test_safety import of_a_dead_run
from tests.unit.test_settings import Given


def start(spec: ClusterSpec, settings: Settings, directory: Path, progress: Progress) -> Cluster:
    raise AssertionError("nobody starts it")


def backend(name: str = "farm", **fields: object) -> Backend:
    return Backend(name=name, description="machines", start=start, **fields)  # type: ignore[arg-type]


def test_each_option_of_the_table_is_general_or_used_by_a_backend() -> None:
    used = {row.name for one in BUILT_IN for row in one.options}
    assert {row.name for row in OPTIONS} == used | {row.name for row in GENERAL}
    assert not used & {row.name for row in GENERAL}


def test_backends_of_others_come_after_ours() -> None:
    rows = (Option("farm_host", Kind("a host"), None, "the host"), option("workers"))
    both = BUILT_IN.and_those([backend(options=rows)])
    assert both.names == ("local", "kind", "kubernetes", "farm")
    assert both.options[-1].name == "farm_host"
    assert both.users(option("workers")) == ("local", "kind", "farm")
    assert both.users(option("rate")) == both.names
    assert BUILT_IN.names == ("local", "kind", "kubernetes")


@pytest.mark.parametrize(
    ("added", "says"),
    [
        ([backend("kind")], "a backend cannot have the name 'kind'"),
        ([backend(), backend()], "a backend cannot have the name 'farm'"),
        ([backend("Farm of ours")], "a backend cannot have the name 'Farm of ours'"),
        ([backend(options=(Option("workers", Integer(1), "1", "machines"),))], "adds the option --serve-chaos-workers"),
        ([backend(undo={"tidy_pod": lambda left: None})], "adds the verb tidy_pod to the undo journal"),
        (["farm"], r"returned \['farm'\], which is not a list of backends"),
        (backend(), r"returned Backend\(.*, which is not a list of backends"),
    ],
)
def test_what_cannot_be_added_is_refused(added: Sequence[Backend], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        BUILT_IN.and_those(added)


def test_a_doctor_that_fails_is_a_finding() -> None:
    def doctor(_: Settings) -> Iterator[Finding]:
        yield Finding("client", "1.0")
        raise MissingDependency("the farm does not answer", fix=["start it"])

    both = BUILT_IN.and_those([backend(doctor=doctor)])
    assert examine("farm", {}, {}, both)[2:] == (
        Finding("client", "1.0"),
        Finding("farm", "the farm does not answer", False, "start it"),
    )


def test_a_leftover_is_undone_by_the_backend_that_knows_its_verb(tmp_path: Path) -> None:
    undone: list[Leftover] = []
    both = BUILT_IN.and_those([backend(undo={"release": undone.append})])
    of_a_dead_run(Settings(report_dir=tmp_path).journal, "release", host="a")
    assert both.undo(tmp_path, print, allowed=["staging"]) == []
    assert undone == [Leftover({"host": "a"}, directory_of_journals(), print, ["staging"])]


def test_a_run_undoes_what_its_backend_has_left_elsewhere_and_nothing_else_there(tmp_path: Path) -> None:
    undone: list[Leftover] = []
    both = BUILT_IN.and_those([backend(undo={"release": undone.append, "close": undone.append})])
    elsewhere = journal_of(tmp_path / "elsewhere")
    of_a_dead_run(elsewhere, "release", host="a")
    of_a_dead_run(elsewhere, "mend")
    assert both.undo(tmp_path, print, backend="local") == []
    assert (undone, len(elsewhere.left())) == ([], 2)
    assert both.undo(tmp_path, print, backend="farm") == []
    assert ([left.arguments for left in undone], len(elsewhere.left())) == ([{"host": "a"}], 1)


def test_what_is_to_be_undone_can_be_narrowed_to_one_place(tmp_path: Path) -> None:
    undone: list[Leftover] = []
    both = BUILT_IN.and_those([backend(undo={"release": undone.append})])
    for host in "ab":
        of_a_dead_run(journal_of(tmp_path), "release", host=host, of="me")
    assert both.undo(None, print, only={"host": "b"}) == []
    assert [left.arguments["host"] for left in undone] == ["b"]


def test_only_local_and_kind_look_for_the_app_and_others_where_they_say_so() -> None:
    nowhere = ClusterSpec(app="no_such_module:app")
    asked: list[ClusterSpec] = []

    def check(spec: ClusterSpec, _: Settings, __: Progress) -> None:
        asked.append(spec)

    with pytest.raises(SettingsError, match="no module 'no_such_module'"):
        BUILT_IN["local"].check_app(nowhere, Settings(), print)
    BUILT_IN["kubernetes"].check_app(nowhere, Settings(), print)
    backend().check_app(nowhere, Settings(), print)
    backend(check_app=check).check_app(nowhere, Settings(), print)
    assert asked == [nowhere]


def test_local_looks_for_what_a_cluster_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "check_ray", lambda: "2.60.0")
    with pytest.raises(SettingsError, match="99 workers do not fit on this machine"):
        BUILT_IN["local"].check(ClusterSpec(workers=99, gcs="none"), Settings())
    backend().check(ClusterSpec(workers=99), Settings())


def test_the_value_of_an_option_of_others_has_its_type() -> None:
    rows = (
        Option("farm_machines", Integer(1), "3", "machines"),
        Option("farm_host", Kind("a host"), None, "the host"),
    )
    both = BUILT_IN.and_those([backend(options=rows)])
    settings = resolve(Given(), {"SERVE_CHAOS_BACKEND": "farm", "SERVE_CHAOS_FARM_MACHINES": "5"}, both)
    assert settings.value("farm_machines", int) == 5
    assert settings.source("farm_machines") == "SERVE_CHAOS_FARM_MACHINES"
    assert settings.others == {"farm_machines": 5, "farm_host": None}
    with pytest.raises(SettingsError, match="the setting farm_host is not set, and the backend farm reads it as str"):
        settings.value("farm_host", str)
    with pytest.raises(SettingsError, match="the setting farm_size is not set"):
        settings.value("farm_size", int)
    with pytest.raises(SettingsError, match=r"the setting farm_machines is of type int, .* reads it as str"):
        settings.value("farm_machines", str)


@pytest.mark.parametrize(
    ("limit", "others", "ok"),
    [(128, [], True), (128, ["serve-chaos"] * 4, True), (128, ["theirs"] * 4, False), (512, ["theirs"] * 4, True)],
    ids=["alone", "a cluster that is reused", "with another cluster", "with another cluster and more of them"],
)
def test_the_doctor_of_kind_counts_inotify_instances(
    limit: int, others: list[str], ok: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "max_user_instances").write_text(f"{limit}\n")
    monkeypatch.setattr(kind, "INOTIFY_INSTANCES", tmp_path / "max_user_instances")
    monkeypatch.setattr(probes, "run", lambda command: "\n".join(others))
    monkeypatch.setattr(probes, "program", lambda *_: "there")

    (found,) = (one for one in BUILT_IN["kind"].doctor(Settings()) if one.what == "inotify instances")
    assert found.ok == ok, found
    assert ok or found.fix == "sudo sysctl fs.inotify.max_user_instances=512"


RANKER = """
apiVersion: ray.io/v1
kind: RayService
metadata: {name: ranker, namespace: ranking}
spec:
  serveConfigV2: "applications: [{import_path: 'ranker:app'}]"
  rayClusterConfig:
    rayVersion: "1.0.0"
    headGroupSpec:
      rayStartParams: {}
      template: {spec: {containers: [{name: ray-head, image: 'ranker:1', resources: {limits: {nvidia.com/gpu: 1}}}]}}
"""


def test_a_file_that_kind_cannot_run_is_refused_and_a_patch_is_a_way_out(tmp_path: Path) -> None:
    file, patch = tmp_path / "ranker.yaml", tmp_path / "patch.yaml"
    file.write_text(RANKER)
    container = "{name: ray-head, resources: {limits: {nvidia.com/gpu: null}}}"
    head = f"{{headGroupSpec: {{template: {{spec: {{containers: [{container}]}}}}}}}}"
    patch.write_text(f"- {{kind: RayService, name: ranker, patch: {{spec: {{rayClusterConfig: {head}}}}}}}")
    settings = Settings(backend="kind", rayservice_file=file, kuberay_manifests="https://example.com/x.yaml")
    with pytest.raises(SettingsError, match=r"no kind node has nvidia\.com/gpu"):
        BUILT_IN["kind"].adapt(settings)
    adapted = BUILT_IN["kind"].adapt(replace(settings, rayservice_patch=patch))
    assert (adapted.app, adapted.gcs, adapted.workers) == ("ranker:app", "none", 0)


@pytest.mark.parametrize("checked", [False, True])
def test_a_local_working_dir_of_a_file_is_left_out_where_the_code_is_next_to_it(tmp_path: Path, checked: bool) -> None:
    file = tmp_path / "ranker.yaml"
    app = "{import_path: 'ranker:app', runtime_env: {working_dir: .}}"
    config = RANKER.replace("{import_path: 'ranker:app'}", app)
    file.write_text(config.replace(", resources: {limits: {nvidia.com/gpu: 1}}", ""))
    settings = Settings(backend="kind", rayservice_file=file, kuberay_manifests="https://example.com/x.yaml")
    with pytest.raises(SettingsError, match="local path"):
        own_rayservice(settings, file, checked=checked)
    (tmp_path / "ranker.py").write_text("app = 1")
    work = own_workload(own_rayservice(settings, file, checked=checked), {}, lambda _: None)
    assert applications(work.serve_config) == [{"import_path": "ranker:app"}]
    assert any("working_dir . of its runtime_env is left out" in line for line in work.told)


def test_a_patch_needs_a_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="rayservice-patch was given without --serve-chaos-rayservice-file"):
        BUILT_IN["kind"].adapt(Settings(backend="kind", rayservice_patch=tmp_path))


@pytest.mark.parametrize(
    ("image", "manifests", "known"),
    [
        ("quay.io/kuberay/operator:v1.6.2", None, False),
        ("quay.io/kuberay/operator:v1.7.0", None, True),
        (None, "github.com/ray-project/kuberay/ray-operator/config/default?ref=v1.7.1", True),
        (None, "https://example.com/operator.yaml", True),
    ],
)
def test_which_kuberay_is_installed_is_read_from_its_image_or_manifests(
    tmp_path: Path, image: str | None, manifests: str | None, known: bool
) -> None:
    file = tmp_path / "ranker.yaml"
    options = "gcsFaultToleranceOptions: {backend: rocksdb}\n    headGroupSpec:"
    file.write_text(
        RANKER.replace("headGroupSpec:", options)
        .replace(", resources: {limits: {nvidia.com/gpu: 1}}", "")
        .replace("1.0.0", "2.60.0")
    )
    given = {"operator_image": image, "kuberay_manifests": manifests}
    settings = Settings(
        backend="kind",
        rayservice_file=file,
        sources=dict.fromkeys([name for name, value in given.items() if value], "the command line"),
        **{name: value for name, value in given.items() if value},  # type: ignore[arg-type]
    )
    if known:
        BUILT_IN["kind"].adapt(settings)
    else:
        with pytest.raises(SettingsError, match=r"KubeRay 1\.7 is the first that knows it, and the run installs 1\.6"):
            BUILT_IN["kind"].adapt(settings)
