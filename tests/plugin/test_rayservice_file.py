"""With a RayService file tests get the cluster that it describes; what it is not is skipped, or refused at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_serve_chaos.backends.kind import KIND as BACKEND
from pytest_serve_chaos.backends.kind import own_rayservice
from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.errors import SettingsError, Unsupported
from pytest_serve_chaos.settings import COMMAND_LINE, Settings
from tests.plugin.conftest import RunChaos

FILE = Path(__file__).parents[1] / "kind" / "data" / "k8s_config.yaml"
KIND = ("--serve-chaos-backend=kind", f"--serve-chaos-rayservice-file={FILE}")
TEST = "def test_it(serve_cluster): print(f'spec {serve_cluster.spec}')"


def test_a_test_gets_the_cluster_of_the_file(run_chaos: RunChaos) -> None:
    ran = run_chaos(TEST, *KIND)
    ran.outcomes(passed=1)
    assert ran.backend.clusters[0].spec == ClusterSpec("redis", 2, "guide", "sleepy_pid:app")


def test_another_app_may_take_the_place_of_its_first(run_chaos: RunChaos) -> None:
    ran = run_chaos(TEST, *KIND, "--serve-chaos-app=ranker:app")
    ran.outcomes(passed=1)
    assert ran.backend.clusters[0].spec.app == "ranker:app"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("--serve-chaos-workers=3", "--serve-chaos-workers was given, and the RayService of * says that itself*"),
        ("--serve-chaos-gcs=none", "--serve-chaos-gcs was given, and the RayService of * says that itself*"),
        ("--serve-chaos-profile=fast", "--serve-chaos-profile was given, and the RayService of * says that itself*"),
        (f"--serve-chaos-app={FILE}", "--serve-chaos-app=* is a Serve config, and the RayService of * has its own*"),
    ],
)
def test_what_contradicts_the_file_is_a_usage_error(run_chaos: RunChaos, given: str, said: str) -> None:
    ran = run_chaos(TEST, *KIND, given)
    assert ran.result.ret == pytest.ExitCode.USAGE_ERROR
    ran.result.stderr.fnmatch_lines([f"ERROR: {said}"])


def test_what_is_set_for_other_backends_too_does_not_count(
    run_chaos: RunChaos, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVE_CHAOS_WORKERS", "5")
    monkeypatch.setenv("SERVE_CHAOS_APP", "ranker:app")
    ran = run_chaos(TEST, *KIND)
    ran.outcomes(passed=1)
    assert ran.backend.clusters[0].spec == ClusterSpec("redis", 2, "guide", "sleepy_pid:app")


def test_a_file_that_cannot_run_is_a_usage_error(run_chaos: RunChaos, tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text(FILE.read_text().replace('ray.io/ft-enabled: "true"', 'ray.io/ft-enabled: "false"'))
    ran = run_chaos(TEST, KIND[0], f"--serve-chaos-rayservice-file={broken}")
    assert ran.result.ret == pytest.ExitCode.USAGE_ERROR
    ran.result.stderr.fnmatch_lines(
        [f"ERROR: {broken} cannot run on kind as it is: RAY_REDIS_ADDRESS is set, and GCS fault tolerance is not on*"]
    )


def test_a_test_that_wants_another_cluster_is_skipped_before_anything_is_made(tmp_path: Path) -> None:
    settings = Settings(backend="kind", rayservice_file=FILE, report_dir=tmp_path)
    wanted = ClusterSpec("none", 2, "guide", "sleepy_pid:app")
    with pytest.raises(Unsupported, match=r"wants gcs='none' and not 'redis', and the RayService of .* is as it is"):
        BACKEND.start(wanted, settings, tmp_path, print)
    assert list(tmp_path.iterdir()) == []


def test_images_count_only_where_they_were_asked_for() -> None:
    given = Settings(backend="kind", rayservice_file=FILE, ray_image="ray:1", sources={"ray_image": COMMAND_LINE})
    own = own_rayservice(given, FILE)
    assert (own.ray_image, own.redis_image) == ("ray:1", None)
    assert own.directories[0] == FILE.parent


OWN = """
apiVersion: ray.io/v1
kind: RayService
metadata: {{name: ranker}}
spec:
  serveConfigV2: "applications: [{{name: ranker, import_path: '{app}'}}]"
  rayClusterConfig:
    rayVersion: "2.60.0"
    headGroupSpec:
      rayStartParams: {{num-cpus: "0"}}
      template: {{spec: {{containers: [{{name: ray-head, image: "{image}"}}]}}}}
    workerGroupSpecs:
      - groupName: w
        replicas: 2
        rayStartParams: {{}}
        template: {{spec: {{containers: [{{name: ray-worker, image: "{image}"}}]}}}}
"""


def check_app_of_file(tmp_path: Path, app: str, image: str = "ranker:2.60.0") -> None:
    (tmp_path / "ranker.py").write_text("def app(args): pass\ntext = 'hello'\n")
    (tmp_path / "own.yaml").write_text(OWN.format(app=app, image=image))
    settings = Settings(backend="kind", rayservice_file=tmp_path / "own.yaml")
    BACKEND.check_app(ClusterSpec(app=app), settings, print)


@pytest.mark.parametrize(
    ("app", "said"),
    [
        ("ranker:ap", "write ranker:app, which it has"),
        ("ranker:text", "it is of the type str, and not a bound deployment"),
    ],
)
def test_an_app_of_the_file_whose_code_is_here_is_checked_before_anything_is_made(
    tmp_path: Path, app: str, said: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        check_app_of_file(tmp_path, app)
    assert said in str(caught.value)


def test_an_app_of_the_file_may_be_in_its_image_unless_that_is_rays_own(tmp_path: Path) -> None:
    for app in ("ranker:app", "elsewhere.front:app"):
        check_app_of_file(tmp_path, app)
    with pytest.raises(SettingsError, match=r"there is no module 'elsewhere\.front' here"):
        check_app_of_file(tmp_path, "elsewhere.front:app", image="rayproject/ray:2.60.0")


def test_a_serve_config_is_not_taken_alongside_the_file() -> None:
    given = Settings(backend="kind", rayservice_file=FILE, app="config.yaml", sources={"app": COMMAND_LINE})
    with pytest.raises(SettingsError, match="has its own"):
        BACKEND.adapt(given)


def test_what_kind_lacks_is_a_usage_error_that_lists_all_of_it_and_a_patch_is_a_way_out(
    run_chaos: RunChaos, tmp_path: Path
) -> None:
    wants = FILE.read_text() + "\n---\n{apiVersion: monitoring.coreos.com/v1, kind: PodMonitor, metadata: {name: m}}\n"
    file, patch = tmp_path / "wants.yaml", tmp_path / "patch.yaml"
    file.write_text(wants)
    given = (KIND[0], f"--serve-chaos-rayservice-file={file}")
    ran = run_chaos(TEST, *given)
    assert ran.result.ret == pytest.ExitCode.USAGE_ERROR
    ran.result.stderr.fnmatch_lines(["*kind does not know PodMonitor of monitoring.coreos.com/v1*"])
    patch.write_text("[{kind: PodMonitor, patch: null}]")
    run_chaos(TEST, *given, f"--serve-chaos-rayservice-patch={patch}").outcomes(passed=1)


@pytest.mark.parametrize(
    ("service", "said"),
    [
        ("stor", "the file has no Service stor, at which its RayService looks for Redis"),
        ("store-0.stores.mine.svc", "the file has no Service stores, at which its RayService looks for Redis"),
        ("store-0.store.mine.svc", "the RayService looks for Redis in the pod store-0 of the Service store"),
    ],
)
def test_a_redis_that_is_not_in_the_file_is_a_usage_error_together_with_all_else(
    run_chaos: RunChaos, tmp_path: Path, service: str, said: str
) -> None:
    file = tmp_path / "lost.yaml"
    lost = FILE.read_text().replace("value: store:6379", f"value: {service}:6379")
    assert lost != FILE.read_text()
    file.write_text(f"{lost}\n---\n{{apiVersion: monitoring.coreos.com/v1, kind: PodMonitor, metadata: {{name: m}}}}\n")
    ran = run_chaos(TEST, KIND[0], f"--serve-chaos-rayservice-file={file}")
    assert ran.result.ret == pytest.ExitCode.USAGE_ERROR
    ran.result.stderr.fnmatch_lines(
        [f"ERROR: {file} cannot run on kind*", f"*{said}*", "*kind does not know PodMonitor*"]
    )


def test_a_patch_without_a_file_is_a_usage_error(run_chaos: RunChaos, tmp_path: Path) -> None:
    patch = tmp_path / "patch.yaml"
    patch.write_text("[{kind: PodMonitor, patch: null}]")
    ran = run_chaos(TEST, KIND[0], f"--serve-chaos-rayservice-patch={patch}")
    assert ran.result.ret == pytest.ExitCode.USAGE_ERROR
    ran.result.stderr.fnmatch_lines(
        ["*--serve-chaos-rayservice-patch was given without --serve-chaos-rayservice-file*"]
    )
