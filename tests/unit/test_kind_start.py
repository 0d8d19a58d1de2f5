"""Start after start of a kind cluster, on machines that only remember what was done to them."""

from __future__ import annotations

import errno
import re
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_serve_chaos.backends.kind import DELETE, DELETE_UNFINISHED, KIND
from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.kubernetes.client.records import mapped, name_of
from pytest_serve_chaos.cluster.kubernetes.install.file_workload import OwnRayService
from pytest_serve_chaos.cluster.kubernetes.install.rayservice_file import read_own_file
from pytest_serve_chaos.cluster.kubernetes.kind import installation as kind_installation
from pytest_serve_chaos.cluster.kubernetes.kind import start as kind_cluster
from pytest_serve_chaos.cluster.kubernetes.kind.start import delete_kind_cluster
from pytest_serve_chaos.errors import (
    ClusterStartError,
    CommandFailed,
    ObservationError,
    SafetyError,
    SettingsError,
    WaitTimeout,
)
from pytest_serve_chaos.model import Json
from pytest_serve_chaos.settings import Settings
from tests.unit.kind_runs import (
    ABOVE,
    ALL,
    CONTROL_PLANE,
    NAME,
    OPERATOR,
    OVER,
    SPEC,
    WORKER,
    KindMachines,
    Runs,
    fake_runs,
)


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    monkeypatch.setattr("pytest_serve_chaos.backends.kind.docker_id", lambda: "here")
    return fake_runs(tmp_path, monkeypatch)


def test_the_second_run_takes_over_all_that_the_first_has_made(runs: Runs) -> None:
    assert runs.run() == ["create", *ALL]
    assert runs.said[-1] == f"kind: left {NAME} for the next run; to delete it: kind delete cluster --name {NAME}"
    for _ in range(2):
        runs.said.clear()
        assert runs.run() == []
        assert f"kind: took over {NAME} in " in runs.said[-2]


def test_another_cluster_for_the_next_test_takes_the_same_machines_and_images(runs: Runs) -> None:
    runs.run()
    without = replace(SPEC, gcs="none")
    assert runs.run(without) == ["remove", *[a for a in ABOVE if "redis" not in a]]
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
    assert "it has 2 machines for Ray, and 3 are wanted; the plugin rebuilds it" in "\n".join(runs.said)


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
    with pytest.raises(ClusterStartError, match="cannot be reused") as caught:
        runs.start()
    assert runs.machines.taken() == []
    assert caught.value.fix[-1] == f"delete it: kind delete cluster --name {NAME}"


def test_without_keep_a_cluster_that_is_there_is_let_alone(runs: Runs) -> None:
    runs.run()
    runs.settings = replace(runs.settings, keep=False)
    with pytest.raises(SafetyError, match="already"):
        runs.start()
    assert runs.machines.taken() == []


def test_pods_with_another_ray_than_was_wanted_are_no_cluster(runs: Runs) -> None:
    runs.settings = replace(runs.settings, ray_image="ranker:latest", ray_version="2.60.0")
    assert runs.run() == ["create", *ALL]

    runs.settings = replace(runs.settings, ray_version="2.56.0")
    with pytest.raises(ClusterStartError, match=r"the pods run Ray 2\.60\.0, and not 2\.56\.0"):
        runs.start()


def test_without_keep_nothing_is_written_down_and_all_goes(runs: Runs) -> None:
    runs.settings = replace(runs.settings, keep=False)
    assert runs.run() == ["create", *ALL, "delete"]
    assert runs.machines.api.record is None


# -- the end --


FULL = OSError(errno.ENOSPC, "No space left on device")
SLOW = ObservationError("pods: timed out")


@pytest.mark.parametrize("failure", [SLOW, FULL, KeyboardInterrupt()], ids=["slow", "full", "ctrl-c"])
@pytest.mark.parametrize("step", ["describe", "close"])
def test_a_start_that_fails_deletes_its_machines_whatever_else_fails(
    runs: Runs, step: str, failure: BaseException
) -> None:
    runs.settings = replace(runs.settings, keep=False)
    runs.machines.fails |= {"serve": WaitTimeout("Serve", timeout=600, last_seen="no apps"), step: failure}
    with pytest.raises(KeyboardInterrupt if isinstance(failure, KeyboardInterrupt) else ClusterStartError):
        runs.start()
    assert runs.machines.taken()[-1] == "delete"
    assert runs.journal == []
    if isinstance(failure, Exception):
        assert str(failure) in "\n".join(runs.said)


def test_who_ends_a_start_does_not_wait_for_what_can_be_learned_of_it(runs: Runs) -> None:
    runs.settings = replace(runs.settings, keep=False)
    runs.machines.fails |= {"serve": KeyboardInterrupt(), "describe": SLOW}
    with pytest.raises(KeyboardInterrupt):
        runs.start()
    assert runs.machines.taken()[-1] == "delete"
    assert list(runs.machines.fails) == ["describe"], "nobody has tried it"
    assert "remove" not in runs.machines.taken()


@pytest.mark.parametrize("failure", [SLOW, FULL, KeyboardInterrupt()], ids=["slow", "full", "ctrl-c"])
def test_the_machines_go_even_if_what_is_on_them_does_not(runs: Runs, failure: BaseException) -> None:
    runs.settings = replace(runs.settings, keep=False)
    cluster = runs.start()
    runs.machines.fails["close"] = failure
    with pytest.raises(KeyboardInterrupt) if isinstance(failure, KeyboardInterrupt) else nullcontext():
        cluster.close()
    assert runs.machines.taken()[-1] == "delete"
    assert runs.journal == []


def test_machines_that_do_not_go_do_not_hide_why_the_start_failed(runs: Runs) -> None:
    runs.settings = replace(runs.settings, keep=False)
    runs.machines.fails |= {"serve": WaitTimeout("Serve", timeout=600, last_seen="no apps"), "delete": SLOW}
    with pytest.raises(ClusterStartError, match="waited 600 s for Serve"):
        runs.start()
    assert runs.journal == [NAME], "the next run deletes them"


# -- the journal --


def test_only_an_unfinished_cluster_that_was_to_be_kept_is_undone(runs: Runs, tmp_path: Path) -> None:
    runs.run()
    delete_kind_cluster(NAME, tmp_path, unfinished=True)
    assert runs.machines.taken() == []
    runs.machines.api.annotations = None
    delete_kind_cluster(NAME, tmp_path, unfinished=True)
    assert runs.machines.taken() == ["delete"]


@pytest.mark.parametrize("name", ["somebody-elses", "serve-chaos", "serve-chaos-12345", "serve-chaos-abcdef-x"])
def test_a_cluster_of_another_name_is_not_deleted(runs: Runs, tmp_path: Path, name: str) -> None:
    runs.run()
    with pytest.raises(SafetyError, match="is not a name that this plugin gives"):
        delete_kind_cluster(name, tmp_path)
    assert runs.machines.taken() == []


@pytest.mark.parametrize("unlike", ["ports", "labels"])
def test_a_cluster_that_does_not_carry_our_marks_is_not_deleted(runs: Runs, tmp_path: Path, unlike: str) -> None:
    runs.run()
    runs.machines.ours, runs.machines.api.roles = unlike != "ports", unlike != "labels"
    with pytest.raises(SafetyError, match="did not make"):
        delete_kind_cluster("serve-chaos-abcdef", tmp_path)
    assert runs.machines.taken() == []


def test_a_cluster_of_ours_is_deleted_also_where_its_api_does_not_answer(runs: Runs, tmp_path: Path) -> None:
    runs.run()
    runs.machines.no_kubeconfig = True
    delete_kind_cluster("serve-chaos-abcdef", tmp_path)
    assert runs.machines.taken() == ["delete"]


def test_a_run_stands_in_the_journal_while_it_makes_machines(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(backend="kind", keep=True, report_dir=tmp_path)
    written: list[list[str]] = []

    def verbs() -> list[str]:
        return [entry.verb for _, entry in settings.journal.entries()]

    def create(config: Mapping[str, Json]) -> None:
        written.append(verbs())
        KindMachines.create(runs.machines, config)

    monkeypatch.setattr(runs.machines, "create", create)
    monkeypatch.setattr(kind_installation, "read_manifests", lambda *_: OPERATOR)
    KIND.start(SPEC, settings, tmp_path, runs.said.append)
    assert written == [[DELETE_UNFINISHED]]
    assert verbs() == []


def test_the_tests_of_a_run_use_the_same_machines_which_go_when_it_ends(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A test that leaves its RayService dirty costs the next one a RayService, and not four machines."""
    settings = Settings(backend="kind", keep=False, report_dir=tmp_path)
    monkeypatch.setattr(kind_installation, "read_manifests", lambda *_: OPERATOR)

    def nodes(name: str, *_: object) -> KindMachines:
        runs.machines.name = name
        return runs.machines

    monkeypatch.setattr(kind_cluster, "KindNodes", nodes)

    def start(spec: ClusterSpec = SPEC) -> None:
        KIND.start(spec, settings, tmp_path / "run", runs.said.append).close()

    def journal() -> list[str]:
        return [entry.verb for _, entry in settings.journal.entries()]

    start()
    assert runs.machines.taken() == ["create", *ALL]
    start()
    assert runs.machines.taken() == ["remove", *ABOVE]
    start(replace(SPEC, gcs="none"))
    assert "create" not in runs.machines.taken()
    assert journal() == [DELETE], "until its end, for it may be killed"
    KIND.end(settings, tmp_path / "run", runs.said.append)
    assert runs.machines.taken() == ["delete"]
    assert journal() == []
    assert runs.said[-1].startswith("kind: deleted serve-chaos-")
    assert not any(line.startswith("kind: left") for line in runs.said)


def test_the_end_of_a_run_that_made_no_machines_deletes_none(runs: Runs, tmp_path: Path) -> None:
    KIND.end(Settings(backend="kind", report_dir=tmp_path), tmp_path / "run", runs.said.append)
    assert runs.machines.taken() == []
    assert runs.said == []


def test_two_runs_have_machines_of_their_own(runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named: list[str] = []

    def nodes(name: str, *_: object) -> KindMachines:
        named.append(name)
        return runs.machines

    monkeypatch.setattr(kind_cluster, "KindNodes", nodes)
    monkeypatch.setattr(kind_installation, "read_manifests", lambda *_: OPERATOR)
    for directory in ("one", "two", "one"):
        KIND.start(SPEC, Settings(backend="kind", report_dir=tmp_path), tmp_path / directory, runs.said.append)
    assert named[0] == named[2] != named[1]
    assert all(re.fullmatch("serve-chaos-[0-9a-f]{6}", name) for name in named)


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
    assert machines.taken() == ["create", *ALL]
    assert runs.said[0] == f"k8s_config.yaml: app sleepy_pid:app: its code travels to the pods: sleepy_pid.py of {DATA}"
    assert machines.loaded[1:] == [("redis:7.0", CONTROL_PLANE), ("rayproject/ray:2.60.0", WORKER)]
    assert [name_of(item) for item in machines.documents["redis"]] == ["redis-settings", "store", "store-of-the-gcs"]
    assert name_of(machines.documents["services"][0]) == "rayservice-of-the-guide-serve-svc"
    assert machines.followed == ["rayservice-of-the-guide"]
    assert cluster.of.ref.ray_service == "rayservice-of-the-guide"
    assert cluster.of.redis is not None
    assert cluster.of.redis.name == "store-of-the-gcs"
    assert str(cluster.of.description.details["rayservice file"]).endswith("k8s_config.yaml")


def test_a_kept_rayservice_of_the_users_own_is_taken_over_until_its_file_is_another(runs: Runs, tmp_path: Path) -> None:
    own = own_rayservice(tmp_path)
    assert runs.run(own.file.spec, own) == ["create", *ALL]
    assert runs.run(own.file.spec, own) == []
    assert runs.run() == ["remove", *ABOVE]
    another = own_rayservice(tmp_path, num_replicas="4")
    assert runs.run(another.file.spec, another) == ["remove", *ABOVE]


def test_the_namespace_of_a_file_is_kept_and_made_before_its_objects_are_checked(runs: Runs, tmp_path: Path) -> None:
    runs.settings = replace(runs.settings, keep=False)
    own = own_rayservice(tmp_path)
    text = re.sub(r"^metadata:\n", "metadata:\n  namespace: ranking\n", own.file.path.read_text(), flags=re.MULTILINE)
    own.file.path.write_text(text)
    own = replace(own, file=read_own_file(own.file.path))
    assert own.file.namespace == "ranking"
    runs.start(own.file.spec, own)
    documents = runs.machines.documents
    assert [name_of(item) for item in documents["namespaces"]] == ["ranking"]
    placed = [*documents["redis"], *documents["rayservice"]]
    assert {mapped(item["metadata"])["namespace"] for item in placed} == {"ranking"}


def test_code_that_cannot_travel_is_refused_before_anything_is_made(runs: Runs, tmp_path: Path) -> None:
    (tmp_path / "sleepy_pid.py").write_text("#" * 1_000_000)
    own = replace(own_rayservice(tmp_path), directories=(tmp_path,))
    with pytest.raises(SettingsError, match="a ConfigMap holds"):
        runs.start(own.file.spec, own)
    assert runs.machines.taken() == []
