"""Where the GCS keeps its state: what a RayService says of it, what is refused, and what each place has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_serve_chaos.backends.kind import KIND as KIND_BACKEND
from pytest_serve_chaos.backends.local import LOCAL
from pytest_serve_chaos.cluster.base import ClusterSpec, Gcs
from pytest_serve_chaos.cluster.kubernetes.install import kuberay, render
from pytest_serve_chaos.cluster.kubernetes.install.file_rules import check as check_file_rules
from pytest_serve_chaos.cluster.kubernetes.install.kuberay import check_file, check_storage, kuberay_version
from pytest_serve_chaos.cluster.kubernetes.install.workload import our_workload
from pytest_serve_chaos.cluster.kubernetes.rayservice.existing import read_ray_service
from pytest_serve_chaos.cluster.local import commands, preflight
from pytest_serve_chaos.cluster.local.layout import Layout
from pytest_serve_chaos.cluster.local.start import LocalSettings, _plan
from pytest_serve_chaos.cluster.storage import KIND, PATH, gcs_of, no_redis
from pytest_serve_chaos.errors import MissingDependency, SettingsError
from pytest_serve_chaos.faults.catalogue import BUILT_IN
from pytest_serve_chaos.settings import Settings

EMBEDDED = {"backend": "rocksdb", "storage": {"size": "1Gi"}}


def service(options: dict[str, Any] | None = None, **head: Any) -> dict[str, Any]:
    """A RayService whose head's container and pod have that much."""
    env = [{"name": name, "value": value} for name, value in head.get("env", {}).items()]
    container = {"name": "ray", "image": "rayproject/ray:2.60.0", "env": env, "volumeMounts": head.get("mounts", [])}
    pod = {"containers": [container], "volumes": head.get("volumes", [])}
    cluster: dict[str, Any] = {"headGroupSpec": {"rayStartParams": {}, "template": {"spec": pod}}}
    if options is not None:
        cluster["gcsFaultToleranceOptions"] = options
    config = "applications: [{name: default, route_prefix: /, import_path: 'a:app'}]"
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "metadata": {"name": "sleepy", "annotations": head.get("annotations", {})},
        "spec": {"serveConfigV2": config, "rayClusterConfig": cluster},
    }


def rocks_in(path: str | None, *, volume: dict[str, Any], mounted: str = "/data") -> dict[str, Any]:
    env = {KIND: "rocksdb", **({PATH: path} if path else {})}
    mounts = [{"name": "gcs", "mountPath": mounted}]
    return service(env=env, mounts=mounts, volumes=[{"name": "gcs", **volume}])


CLAIM = {"persistentVolumeClaim": {"claimName": "gcs"}}
EMPTY: dict[str, Any] = {"emptyDir": {}}


@pytest.mark.parametrize(
    ("item", "gcs", "lost"),
    [
        pytest.param(service(), "none", "", id="nothing"),
        pytest.param(service({"redisAddress": "redis:6379"}), "redis", "", id="redis"),
        pytest.param(service({"backend": "redis", "redisAddress": "redis:6379"}), "redis", "", id="redis-by-name"),
        pytest.param(service(annotations={"ray.io/ft-enabled": "true"}), "redis", "", id="annotation"),
        pytest.param(service(EMBEDDED), "rocksdb", "", id="kuberay"),
        pytest.param(rocks_in("/data/gcs", volume=CLAIM), "rocksdb", "", id="claim"),
        pytest.param(rocks_in("/data", volume={"hostPath": {"path": "/x"}}), "rocksdb", "", id="the-mount-itself"),
        pytest.param(rocks_in("/database", volume=CLAIM), "none", "RocksDB in /database", id="a-neighbour"),
        pytest.param(rocks_in("/data/gcs", volume=EMPTY), "none", "RocksDB in /data/gcs", id="emptyDir"),
        pytest.param(rocks_in("/tmp/gcs", volume=CLAIM), "none", "RocksDB in /tmp/gcs", id="elsewhere"),
        pytest.param(rocks_in(None, volume=CLAIM), "rocksdb", "", id="unknown-path"),
        pytest.param(rocks_in(None, volume=EMPTY), "none", "RocksDB", id="unknown-path-nowhere"),
        pytest.param(service(env={KIND: "memory"}), "none", "", id="memory"),
    ],
)
def test_a_rayservice_says_where_its_gcs_keeps_its_state(item: dict[str, Any], gcs: str, lost: str) -> None:
    found = read_ray_service(item)
    assert (found.gcs, found.lost) == (gcs, lost)
    assert found.spec.gcs == gcs


def test_a_mount_within_a_mount_is_the_one_that_counts() -> None:
    item = rocks_in("/data/gcs/db", volume=CLAIM)
    pod = item["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]
    pod["volumes"].append({"name": "scratch", **EMPTY})
    pod["containers"][0]["volumeMounts"].append({"name": "scratch", "mountPath": "/data/gcs"})
    assert read_ray_service(item).gcs == "none"


@pytest.mark.parametrize(
    ("address", "host", "tls"),
    [
        ("redis:6379", "redis:6379", False),
        ("redis://redis:6379", "redis:6379", False),
        ("rediss://redis.ml.svc:6380", "redis.ml.svc:6380", True),
    ],
)
def test_the_address_says_whether_ray_speaks_tls(address: str, host: str, tls: bool) -> None:
    found = read_ray_service(service({"redisAddress": address}))
    assert (found.redis, found.redis_tls) == (host, tls)


# -- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "manifests", "version"),
    [
        ("quay.io/kuberay/operator:v1.6.2", "github.com/x?ref=v1.7.0", (1, 6)),
        ("registry:5000/kuberay/operator:1.7.0-rc.1", "/x", (1, 7)),
        (None, "github.com/ray-project/kuberay/ray-operator/config/default?ref=v1.7.0", (1, 7)),
        (None, "https://example.org/v1.10.1/kuberay.yaml", (1, 10)),
        ("operator:nightly", "github.com/x?ref=v1.6.2", None),
        (None, "/srv/kuberay", None),
    ],
)
def test_which_kuberay_a_run_installs(image: str | None, manifests: str, version: tuple[int, int] | None) -> None:
    assert kuberay_version(image, manifests) == version


def test_a_storage_that_kuberay_or_ray_does_not_know_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"KubeRay 1\.7 is the first that knows it, and the run installs 1\.6"):
        check_storage("rocksdb", (1, 6), "2.60.0")
    with pytest.raises(SettingsError, match=r"Ray 2\.57 is the first that knows it, and the pods have 2\.56\.1"):
        check_storage("rocksdb", (1, 7), "2.56.1")
    with pytest.raises(SettingsError) as both:
        check_storage("rocksdb", (1, 6), "2.9.3")
    assert "2.9.3" in both.value.checked[0]
    check_storage("rocksdb", (1, 10), "2.57.0")
    check_storage("rocksdb", None, None)
    check_storage("redis", (1, 0), "2.9.0")


def test_the_way_to_redis_is_one_that_the_user_has() -> None:
    with pytest.raises(SettingsError) as option:
        check_storage("rocksdb", (1, 6), None)
    assert option.value.fix[-1] == "or take Redis: --serve-chaos-gcs=redis"
    with pytest.raises(SettingsError) as file:  # with a file, that option is refused
        check_file(service(EMBEDDED), (1, 6), None)
    assert "redisAddress" in file.value.fix[-1]
    assert "--serve-chaos-gcs" not in file.value.fix[-1]


def test_a_file_with_fields_that_the_installed_kuberay_does_not_know_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"RocksDB here: KubeRay 1\.7"):
        check_file(service(EMBEDDED), (1, 6), None)
    with pytest.raises(SettingsError, match=r"does not know gcsFaultToleranceOptions\.backend"):
        check_file(service({"backend": "redis", "redisAddress": "redis:6379"}), (1, 6), None)
    with pytest.raises(SettingsError, match=r"the pods have 2\.50\.1"):
        check_file(service(EMBEDDED), (1, 7), "2.50.1")
    check_file(service(EMBEDDED), (1, 7), None)
    check_file(service({"redisAddress": "redis:6379"}), (1, 6), None)
    check_file(rocks_in("/data", volume=CLAIM), (1, 6), None)  # which Ray does by itself


def test_the_option_is_refused_before_there_is_anything(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"KubeRay 1\.7"):
        KIND_BACKEND.adapt(Settings(backend="kind", gcs="rocksdb"))
    newer = Settings(backend="kind", gcs="rocksdb", operator_image="quay.io/kuberay/operator:v1.7.0")
    assert KIND_BACKEND.adapt(newer) == newer
    said: list[str] = []
    with pytest.raises(SettingsError, match=r"KubeRay 1\.7"):
        KIND_BACKEND.start(ClusterSpec(gcs="rocksdb"), Settings(backend="kind"), tmp_path, said.append)
    assert (said, list(tmp_path.iterdir())) == ([], [])


def test_the_doctor_says_so_too() -> None:
    settings = Settings(backend="kind", gcs="rocksdb")
    (found,) = (finding for finding in KIND_BACKEND.doctor(settings) if finding.what == "RocksDB")
    assert not found.ok
    (found,) = (f for f in LOCAL.doctor(replace(settings, backend="local")) if f.what == "RocksDB")
    assert found.ok


def test_the_file_is_refused_before_there_is_anything(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "apiVersion: ray.io/v1\nkind: RayService\nmetadata: {name: sleepy, namespace: ranking}\nspec:\n"
        "  serveConfigV2: |\n    applications: [{name: default, route_prefix: /, import_path: 'a:app'}]\n"
        "  rayClusterConfig:\n    rayVersion: '2.60.0'\n"
        "    gcsFaultToleranceOptions: {backend: rocksdb, storage: {size: 1Gi}}\n"
        "    headGroupSpec: {rayStartParams: {}, template: {spec: {containers: [{name: r, image: 'ray:2.60.0'}]}}}\n"
    )
    with pytest.raises(SettingsError, match=r"KubeRay 1\.7 is the first that knows it, and the run installs 1\.6"):
        KIND_BACKEND.adapt(Settings(backend="kind", rayservice_file=path))
    operator = "quay.io/kuberay/operator:v1.7.0"
    adapted = KIND_BACKEND.adapt(Settings(backend="kind", rayservice_file=path, operator_image=operator))
    assert adapted.gcs == "rocksdb"


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (service({"backend": "etcd"}), "backend is etcd"),
        (service({"storage": {"size": "1Gi"}, "redisAddress": "redis:6379"}), "storage goes with backend: rocksdb"),
        (service({}), "names no Redis"),
        (service({**EMBEDDED, "redisAddress": "redis:6379"}), "redisAddress does not go with"),
        (service({**EMBEDDED, "externalStorageNamespace": "x"}), "externalStorageNamespace does not go with"),
        (service(EMBEDDED, env={PATH: "/x"}), f"KubeRay sets {PATH} itself"),
        (service(EMBEDDED, mounts=[{"name": "mine", "mountPath": "/data/gcs"}]), "mounts its volume at /data/gcs"),
    ],
)
def test_what_kuberay_would_refuse_of_a_storage_is_said_before(item: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        check_file_rules(item, "mine.yaml")


def test_what_kuberay_takes_is_not_refused() -> None:
    check_file_rules(service(EMBEDDED), "mine.yaml")
    check_file_rules(service({"backend": "rocksdb"}), "mine.yaml")
    check_file_rules(service({"redisAddress": "redis:6379"}), "mine.yaml")


@pytest.mark.parametrize(
    ("wanted", "env", "said", "gcs"),
    [
        ("redis", {}, True, "redis"),
        ("none", {}, True, "none"),
        ("none", {KIND: "rocksdb"}, True, "rocksdb"),
        ("redis", {KIND: "rocksdb"}, False, "rocksdb"),
        ("rocksdb", {KIND: "rocksdb", PATH: "/x"}, True, "rocksdb"),
        ("none", {KIND: "memory"}, True, "none"),
        ("redis", {KIND: "redis"}, True, "redis"),
    ],
)
def test_the_environment_of_a_test_says_it_too(wanted: Gcs, env: dict[str, str], said: bool, gcs: str) -> None:
    assert gcs_of(wanted, env, said=said) == gcs


@pytest.mark.parametrize(
    ("wanted", "env"),
    [("redis", {KIND: "rocksdb"}), ("redis", {KIND: "memory"}), ("rocksdb", {KIND: "redis"}), ("none", {KIND: "etcd"})],
)
def test_an_environment_that_says_otherwise_is_refused(wanted: Gcs, env: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match=KIND):
        gcs_of(wanted, env, said=True)


# -- what each place has ---------------------------------------------------------------------------------------------


def test_a_local_head_has_its_database_outside_of_itself_and_no_redis() -> None:
    plan = _plan(ClusterSpec(gcs="rocksdb"), LocalSettings(), {}, None)
    head, worker = (commands.node_command(plan, Layout(0), index) for index in (0, 1))
    assert head.environment[KIND] == "rocksdb"
    database = Path(head.environment[PATH])
    assert database.is_relative_to(plan.directory)
    assert not database.is_relative_to(commands.temp_directory(plan, 0))
    assert not {"RAY_REDIS_ADDRESS", "RAY_REDIS_PASSWORD"} & set(head.environment)
    assert not any("redis" in word for word in head.arguments)
    assert KIND not in worker.environment
    assert not plan.has_redis


def test_a_users_own_directory_is_taken() -> None:
    spec = ClusterSpec(gcs="rocksdb", env=((KIND, "rocksdb"), (PATH, "/mnt/gcs")))
    plan = _plan(spec, LocalSettings(), {}, None)
    assert commands.node_command(plan, Layout(0), 0).environment[PATH] == "/mnt/gcs"


def test_an_older_ray_on_this_machine_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "ray_version", lambda: "2.56.1")
    with pytest.raises(MissingDependency, match=r"Ray 2\.57 is the first that can"):
        preflight.check_rocksdb()
    monkeypatch.setattr(preflight, "ray_version", lambda: "2.57.0")
    assert "2.57.0" in preflight.check_rocksdb()


def test_on_kind_kuberay_gives_it_a_volume_and_there_is_no_redis() -> None:
    work = our_workload(ClusterSpec(gcs="rocksdb"), "rayproject/ray:2.60.0", "redis:7.0", {})
    assert read_ray_service(work.ray_service).gcs == "rocksdb"
    options: Any = work.ray_service["spec"]
    assert options["rayClusterConfig"]["gcsFaultToleranceOptions"] == EMBEDDED
    assert (work.before, work.redis) == ((), None)
    assert kuberay.wants_rocksdb(work.ray_service)


@pytest.mark.parametrize(
    ("args", "gates"),
    [
        ("", "--feature-gates=A=true"),
        ("        args: [--x, --feature-gates=B=true]\n", "--feature-gates=B=true,A=true"),
        ("        args: ['--feature-gates=A=false,B=false']\n", "--feature-gates=B=false,A=true"),
    ],
)
def test_the_operator_gets_the_gate_that_it_needs_and_keeps_its_own(args: str, gates: str) -> None:
    text = (
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: operator}\nspec:\n  template:\n    spec:\n"
        f"      containers:\n      - name: operator\n        image: operator:v1.7.0\n{args}"
    )
    assert gates in render.operator_manifests(text, image=None, labels={}, gates=("A",))
    assert "A=true" not in render.operator_manifests(text, image=None, labels={})


def test_a_fault_of_redis_knows_where_there_is_none() -> None:
    fault = BUILT_IN.choose("redis_failure", {})
    fault.check_cluster(ClusterSpec())
    for gcs in ("rocksdb", "none"):
        with pytest.raises(type(no_redis(gcs)), match="this cluster has no Redis"):
            fault.check_cluster(ClusterSpec(gcs=gcs))
    BUILT_IN.choose("head_failure", {}).check_cluster(ClusterSpec(gcs="rocksdb"))


def test_the_loss_of_the_head_costs_with_rocksdb_what_it_costs_with_redis() -> None:
    for name in ("head_failure", "gcs_failure"):
        fault = BUILT_IN.choose(name, {})
        assert fault.expectations(ClusterSpec(gcs="rocksdb")) == fault.expectations(ClusterSpec(gcs="redis"))
        assert fault.expectations(ClusterSpec(gcs="none")).kept == ()
