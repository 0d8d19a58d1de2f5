"""Somebody's RayService on a real cluster: broken as far as its policy allows, and left as it was.

Each test runs pytest in a process of its own, as the user of an external cluster does, and compares all objects of the
cluster before and after. Where SERVE_CHAOS_TEST_KUBECONFIG and SERVE_CHAOS_TEST_URL name a kind cluster, that is taken;
else it is that of the backend `kind`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.client.drain import cordon
from pytest_serve_chaos.cluster.kubernetes.external.start import OwnPods
from pytest_serve_chaos.cluster.kubernetes.kind.start import start_kind_cluster
from pytest_serve_chaos.cluster.private_files import PRIVATE
from pytest_serve_chaos.cluster.watchdog import GRACE
from pytest_serve_chaos.errors import SafetyError
from pytest_serve_chaos.manifests import Manifest
from pytest_serve_chaos.model import Json
from pytest_serve_chaos.safety.guard import Guard
from pytest_serve_chaos.safety.journal import directory_of_journals
from tests.kind.external_rayservice import PACKAGE, Somebodys
from tests.kind.needs import given_cluster, kind_settings, needs_kind

pytestmark = needs_kind

SUITE = ("--pyargs", "pytest_serve_chaos.suite")

PASSES = {
    "test_head_lost": "test_1_head",
    "test_controller_lost": "test_2_controller",
    "test_replica_lost": "test_3_replicas",
    "test_health_check_fails": "test_3_replicas",
    "test_proxy_lost": "test_4_proxies",
    "test_worker_lost": "test_5_workers",
    "test_gcs_lost": "test_6_stores",
}
"""What the guide says that holds on an external cluster: test -> its module."""

DEAF = "test_controller_killed_as_in_the_guide"

_CONFIG = "the plugin does not change the Serve config of an external RayService"
NO_UPDATE = "the plugin does not change the Serve config of an external RayService, so it updates no app"
SKIPPED = {
    "test_no_updates_while_the_head_is_away": "KubeRay makes a new pod at once, so none can be kept down",
    "test_storage_namespace": "this cluster has no Redis of its own",
    "test_head_lost_without_fault_tolerance": "the test wants gcs='none' and not 'redis'",
    "test_nothing_is_replaced_or_scaled_while_the_controller_is_away": _CONFIG,
    "test_a_replica_is_lost_while_serve_scales_up": _CONFIG,
    "test_a_replica_is_lost_while_serve_scales_down": _CONFIG,
    "test_parent_reaches_the_new_child": _CONFIG,
    "test_node_lost": "how='kill' needs the machines under a cluster of your own",
    "test_node_drained": "faults on nodes are not allowed: --serve-chaos-allow=node",
    "test_spread_deployments_survive_their_fullest_node": _CONFIG,
    "test_replicas_run_again_on_the_survivor": _CONFIG,
    "test_redis_lost": "Redis does not belong to the RayService",
    "test_app_updated": NO_UPDATE,
    "test_app_updated_to_a_version_that_does_not_start": NO_UPDATE,
    "test_rayservice_upgraded": (
        "the plugin does not change the spec of an external RayService, so it cannot upgrade it"
    ),
}
"""What cannot, or must not, be done to it: test -> the reason."""

DRAIN = ("--serve-chaos-allow", "node", "--pyargs", "pytest_serve_chaos.suite.test_5_workers::test_node_drained")

FROZEN = """
import pytest

@pytest.mark.controller_failure(how="freeze", for_="60s")
def test_frozen(experiment):
    experiment.run()
"""

BY_HAND = """
def test_drained_by_hand(chaos):
    chaos.node().drain()
"""

WATCHED_FOR_LONG = """
import pytest

@pytest.mark.replica_failure
def test_watched(experiment):
    experiment.run(window="40s")
"""

WITH_FEW_RIGHTS = """
import pytest

@pytest.mark.worker_failure(how="stop")
def test_stop(experiment):
    result = experiment.measure(settled=False)
    assert result.replaced("worker", on="victims")
    assert result.kept("head")
    assert {sign.side for sign in result.evidence} == {"victim", "cluster"}

@pytest.mark.worker_failure
def test_kill(experiment):
    experiment.run()

@pytest.mark.controller_failure
def test_controller(experiment):
    experiment.run()

@pytest.mark.node_failure(how="drain")
def test_drain(experiment):
    experiment.run()
"""


# -- the cluster -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Somebodys]:
    """The external RayService; its owner, who looks on, may do all."""
    directory = tmp_path_factory.mktemp("external")
    given = given_cluster()
    if given is not None:
        yield _somebodys(given.kubeconfig, given.rayservice, given.url, directory)
        return
    with closing(start_kind_cluster(ClusterSpec(), kind_settings(), directory, print)) as cluster:
        cluster.stop_watching()  # from now on it is somebody's, and nobody watches it
        rayservice = f"{names.NAMESPACE}/{names.RAY_SERVICE}"
        found = _somebodys(directory / PRIVATE / "kubeconfig", rayservice, cluster.url, directory)
        _wait_until_nothing_is_left(found)
        yield found


def _somebodys(kubeconfig: Path, rayservice: str, url: str, directory: Path) -> Somebodys:
    found = Somebodys(kubeconfig, "", rayservice, url, kubeconfig)
    return found.seen_as(directory, found.kubectl("config", "current-context").strip())


def _wait_until_nothing_is_left(somebodys: Somebodys) -> None:
    def probe() -> bool | NotYet:
        left = somebodys.left()
        return NotYet("; ".join(left)) if left else True

    clock.wait_until("the programs of the backend `kind` to end", probe, timeout=120.0, interval=2.0)


# -- the guide ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("test", PASSES)
def test_the_guide_holds_on_an_external_cluster(theirs: Somebodys, test: str, tmp_path: Path) -> None:
    ran = theirs.run(tmp_path, "--pyargs", f"pytest_serve_chaos.suite.{PASSES[test]}::{test}")
    assert {case.outcome for case in ran.cases.values()} == {"passed"}
    assert {name.partition("[")[0] for name in ran.cases} == {test}
    assert ran.experiments
    for name, experiment in ran.experiments.items():
        assert ran.verdict(name) == "passed"
        assert experiment["cluster"]["backend"] == "kubernetes"  # type: ignore[index, call-overload]
    assert ran.status == 0


def test_the_guides_own_controller_step_leaves_proxies_deaf_and_they_are_replaced(
    theirs: Somebodys, tmp_path: Path
) -> None:
    ran = theirs.run(tmp_path, *SUITE, "-k", DEAF)
    assert (ran.cases[DEAF].outcome, ran.status) == ("xfailed", 0)
    (experiment,) = ran.experiments
    assert ran.verdict(experiment).startswith("failed ")
    assert "proxies do not hear their controller" in ran.verdict(experiment)
    assert "which does not hear the new controller" in ran.text


def test_what_cannot_be_done_is_skipped_with_its_reason(theirs: Somebodys, tmp_path: Path) -> None:
    ran = theirs.run(tmp_path, *SUITE, "-k", " or ".join(SKIPPED))
    assert {name: case.outcome for name, case in ran.cases.items()} == dict.fromkeys(SKIPPED, "skipped")
    unsaid = {name: ran.cases[name].message for name, why in SKIPPED.items() if why not in ran.cases[name].message}
    assert unsaid == {}
    assert ran.experiments == {}
    assert ran.status == 0


# -- nodes -------------------------------------------------------------------------------------------------------------


def test_nodes_are_left_alone_unless_they_are_allowed(theirs: Somebodys, tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(BY_HAND)
    ran = theirs.run(tmp_path, "test_it.py")
    assert {name: case.outcome for name, case in ran.cases.items()} == {"test_drained_by_hand": "skipped"}
    assert "--serve-chaos-allow=node" in ran.cases["test_drained_by_hand"].message
    assert not directory_of_journals().exists()


def test_an_allowed_node_is_drained_and_opened_again(theirs: Somebodys, tmp_path: Path) -> None:
    ran = theirs.run(tmp_path, *DRAIN)
    assert (ran.cases["test_node_drained"].outcome, ran.verdict("node_drained")) == ("passed", "passed")
    assert not directory_of_journals().exists()


def test_a_node_that_was_drained_when_the_run_was_killed_is_opened_by_undo(theirs: Somebodys, tmp_path: Path) -> None:
    before = theirs.dump()
    cordoned = _killed_in_a_drain(theirs, tmp_path)
    said = _undo(theirs, tmp_path)
    assert said.stdout.startswith(f"undo: the node {cordoned} of context {theirs.context}"), said
    assert "stays cordoned" not in said.stdout
    assert said.returncode == 0
    theirs.wait_until_as(before)


def test_undo_leaves_a_node_to_whoever_has_cordoned_it_since(theirs: Somebodys, tmp_path: Path) -> None:
    before = theirs.dump()
    cordoned = _killed_in_a_drain(theirs, tmp_path)
    try:
        theirs.kubectl("uncordon", cordoned)
        theirs.kubectl("cordon", cordoned)
        said = _undo(theirs, tmp_path)
        spec = json.loads(theirs.kubectl("get", "node", cordoned, "-o", "json"))["spec"]
    finally:
        theirs.kubectl("uncordon", cordoned)
    assert f"undo: the node {cordoned} stays cordoned, now by kubectl" in said.stdout
    assert (said.returncode, spec.get("unschedulable")) == (0, True)
    assert not directory_of_journals().exists()
    theirs.wait_until_as(before)


def _killed_in_a_drain(theirs: Somebodys, directory: Path) -> str:
    process = theirs.start(directory, *DRAIN)
    try:
        return clock.wait_until("a node to be cordoned", lambda: _cordoned(theirs, process), timeout=240.0)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30.0)


def test_what_a_killed_run_left_is_repaired_on_another_machine(theirs: Somebodys, tmp_path: Path) -> None:
    before = theirs.dump()
    cordoned = _killed_in_a_drain(theirs, tmp_path)
    elsewhere = {"XDG_STATE_HOME": str(tmp_path / "of-another-machine")}
    there = ("--context", theirs.context, "--rayservice", theirs.rayservice, "--allow-context", theirs.context)
    said = _undo(theirs, tmp_path, *there, **elsewhere)
    assert (said.returncode, f"{cordoned} was cordoned" in said.stdout) == (0, True), said
    theirs.wait_until_as(before)
    again = _undo(theirs, tmp_path)
    # Half a minute after its end the watchdog of the killed run may have done the same.
    done = "is not cordoned any more" in again.stdout or "nothing is left to undo" in again.stdout
    assert (again.returncode, done) == (0, True), again


def _undo(theirs: Somebodys, directory: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    undo = [sys.executable, "-m", "pytest_serve_chaos.cli", "undo", *arguments]
    return subprocess.run(
        undo,
        cwd=directory,
        env={**theirs.environment(), **environment},
        capture_output=True,
        text=True,
        timeout=120.0,
        check=False,
    )


def test_what_was_frozen_when_the_run_was_killed_goes_on_by_undo(theirs: Somebodys, tmp_path: Path) -> None:
    before = theirs.dump()
    (tmp_path / "test_it.py").write_text(FROZEN)
    process = theirs.start(tmp_path, "test_it.py")
    try:
        frozen = clock.wait_until("the controller to be frozen", lambda: _frozen(theirs, process), timeout=240.0)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30.0)
    assert theirs.stopped() == frozen  # nobody else lets it go on
    said = _undo(theirs, tmp_path)
    (pod,) = {line.partition(":")[0] for line in frozen}
    ours = f"undo: what a run that ended by force stopped, or flagged, in the pod {pod} of context {theirs.context}\n"
    assert (said.returncode, said.stdout) == (0, ours), said
    assert theirs.stopped() == []
    assert not directory_of_journals().exists()
    theirs.wait_until_as(before)


def test_what_was_frozen_when_the_run_was_killed_goes_on_by_itself(theirs: Somebodys, tmp_path: Path) -> None:
    before = theirs.dump()
    (tmp_path / "test_it.py").write_text(FROZEN.replace("60s", "20s"))
    process = theirs.start(tmp_path, "test_it.py")
    try:
        clock.wait_until("the controller to be frozen", lambda: _frozen(theirs, process), timeout=240.0)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30.0)

    def resumed() -> bool | NotYet:
        stopped = theirs.stopped()
        return NotYet(f"stopped: {stopped}") if stopped else True

    clock.wait_until("the controller to go on", resumed, timeout=20.0 + GRACE + 15.0)
    theirs.wait_until_as(before)
    assert _undo(theirs, tmp_path).returncode == 0


def _frozen(theirs: Somebodys, process: subprocess.Popen[bytes]) -> list[str] | NotYet:
    assert process.poll() is None, "it ended before it had frozen anything"
    stopped = theirs.stopped()
    return stopped if any("ServeController" in line for line in stopped) else NotYet(f"stopped: {stopped}")


def _cordoned(theirs: Somebodys, process: subprocess.Popen[bytes]) -> str | NotYet:
    assert process.poll() is None, "it ended before it had drained a node"
    nodes = json.loads(theirs.kubectl("get", "nodes", "-o", "json"))["items"]
    found = [node["metadata"]["name"] for node in nodes if node["spec"].get("unschedulable")]
    return str(found[0]) if found else NotYet("no node is cordoned")


# -- its owner ---------------------------------------------------------------------------------------------------------


def test_what_its_owner_edits_in_the_middle_of_a_test_shows_nothing(theirs: Somebodys, tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(WATCHED_FOR_LONG)
    process = theirs.start(tmp_path, "test_it.py")
    try:
        clock.wait_until("the fault", lambda: _injected(tmp_path, process), timeout=240.0)
        _set_deletion_delay(theirs, 61)
        process.wait(300.0)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(30.0)
        _set_deletion_delay(theirs, None)
    text = (tmp_path / "output.txt").read_text(errors="replace")
    assert f"its owner changed it: the spec of RayService {theirs.name} was edited" in text
    assert "1 inconclusive" in text


def _injected(directory: Path, process: subprocess.Popen[bytes]) -> bool | NotYet:
    assert process.poll() is None, "it ended before it had broken anything"
    return "inject: " in (directory / "output.txt").read_text(errors="replace") or NotYet("nothing is broken yet")


def _set_deletion_delay(theirs: Somebodys, seconds: int | None) -> None:
    """An edit of the spec for which KubeRay replaces nothing."""
    patch = json.dumps({"spec": {"rayClusterDeletionDelaySeconds": seconds}})
    theirs.kubectl("-n", theirs.namespace, "patch", "rayservice", theirs.name, "--type=merge", "-p", patch)


# -- refusals ----------------------------------------------------------------------------------------------------------


def test_a_context_that_is_not_there_is_refused(theirs: Somebodys, tmp_path: Path) -> None:
    ran = theirs.run(tmp_path, "--serve-chaos-context=kind-nobodys", *SUITE)
    assert (ran.status, ran.cases) == (pytest.ExitCode.USAGE_ERROR, {})
    assert "the kubeconfig cannot be used" in ran.text


def test_a_rayservice_that_is_not_there_is_refused(theirs: Somebodys, tmp_path: Path) -> None:
    ran = theirs.run(tmp_path, f"--serve-chaos-rayservice={theirs.namespace}/nobodys", *SUITE)
    assert (ran.status, ran.cases) == (pytest.ExitCode.USAGE_ERROR, {})
    assert "RayService nobodys: status 404" in ran.text


def test_a_cluster_that_is_no_kind_cluster_has_to_be_named_twice(theirs: Somebodys, tmp_path: Path) -> None:
    staging = theirs.seen_as(tmp_path, "staging")
    once = staging.run(tmp_path, *SUITE)
    assert (once.status, once.cases) == (pytest.ExitCode.USAGE_ERROR, {})
    assert "the context staging is not a kind cluster on this machine, so you have to name it twice" in once.text
    other = staging.run(tmp_path, "--serve-chaos-allow-context=production", *SUITE)
    assert other.status == pytest.ExitCode.USAGE_ERROR
    twice = staging.run(tmp_path, "--serve-chaos-allow-context=staging", *SUITE, "-k", "test_redis_lost")
    assert "Redis does not belong" in twice.cases["test_redis_lost"].message
    assert twice.status == 0


def test_the_guard_lets_nothing_through_but_what_is_the_rayservices(theirs: Somebodys) -> None:
    before = theirs.dump()
    with closing(KubeApi(theirs.kubeconfig, context=theirs.context, namespace=theirs.namespace)) as reader:
        own = OwnPods(reader, theirs.name)
        guard = Guard(theirs.context, theirs.namespace, theirs.name, (), own.owns, own.carries)
        guarded = KubeApi(theirs.kubeconfig, context=theirs.context, namespace=theirs.namespace, permit=guard.permit)
        with closing(guarded) as api:
            head = next(pod for pod in api.pods() if pod.labels.get(names.RAY_NODE_TYPE) == "head")
            stranger = next(pod for pod in api.pods() if not own.owns(pod.name))  # Redis
            assert stranger.main is not None
            assert head.main is not None
            container = stranger.main.name
            attempts: list[Callable[[], object]] = [
                lambda: api.delete_pod(stranger.name, stranger.uid, grace=0),
                lambda: api.run(stranger.name, container, ["true"]),
                lambda: api.patch_ray_service(theirs.name, {"spec": {"serveConfigV2": ""}}),
                lambda: cordon(api, head.node),
                lambda: api.nodes.delete(head.node),
            ]
            for attempt in attempts:
                with pytest.raises(SafetyError, match="refused on the external cluster"):
                    attempt()
            assert api.run(head.name, head.main.name, ["true"]).returncode == 0
    theirs.wait_until_as(before)


# -- rights ------------------------------------------------------------------------------------------------------------

LOOK: list[Json] = [
    {"apiGroups": ["ray.io"], "resources": ["rayservices"], "verbs": ["get"]},
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch", "delete"]},
    {"apiGroups": [""], "resources": ["pods/proxy", "services/proxy"], "verbs": ["get"]},
]
"""What docs/how-to.md asks for, without the right to run anything in a pod."""


@pytest.fixture
def user(theirs: Somebodys, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Somebodys]:
    """Somebody who has the rules of the test's parameter, and no other rights."""
    name = "serve-chaos-guest"
    metadata: Json = {"name": name, "namespace": theirs.namespace}
    rbac = "rbac.authorization.k8s.io"
    account: Manifest = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}
    role: Manifest = {"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": metadata, "rules": request.param}
    binding: Manifest = {
        "apiVersion": f"{rbac}/v1",
        "kind": "RoleBinding",
        "metadata": metadata,
        "roleRef": {"apiGroup": rbac, "kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": theirs.namespace}],
    }
    before = theirs.dump()
    theirs.apply(account, role, binding)
    token = theirs.kubectl("-n", theirs.namespace, "create", "token", name, "--duration=2h").strip()
    yield theirs.seen_as(tmp_path, theirs.context, {"token": token})
    theirs.kubectl("-n", theirs.namespace, "delete", "serviceaccount,role,rolebinding", name)
    theirs.wait_until_as(before)


@pytest.mark.parametrize("user", [LOOK[:1]], indirect=True, ids=["one-object"])
def test_a_user_who_may_not_look_is_told_what_is_missing(user: Somebodys, tmp_path: Path) -> None:
    ran = user.run(tmp_path, *SUITE, "-k", "test_controller_lost")
    case = ran.cases["test_controller_lost"]
    assert case.outcome == "error"
    assert "this user may not list pods, get pods/proxy, get services/proxy in namespace" in case.message
    assert f"serve-chaos rbac {user.rayservice} --tier look" in case.message


@pytest.mark.parametrize("user", [[]], indirect=True, ids=["nothing"])
def test_a_user_who_may_do_nothing_is_told_so_before_the_first_test(user: Somebodys, tmp_path: Path) -> None:
    ran = user.run(tmp_path, *SUITE)
    assert (ran.status, ran.cases) == (pytest.ExitCode.USAGE_ERROR, {})
    assert f"RayService {user.name}: status 403" in ran.text


@pytest.mark.parametrize("user", [LOOK], indirect=True, ids=["no-exec"])
def test_a_user_who_may_run_nothing_deletes_pods_and_the_rest_is_skipped(user: Somebodys, tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(WITH_FEW_RIGHTS)
    ran = user.run(tmp_path, "--serve-chaos-allow", "node", "test_it.py")
    run = "this user may not get pods/exec, create pods/exec (SelfSubjectAccessReview)"
    drain = "this user may not get nodes, patch nodes, create pods/eviction (SelfSubjectAccessReview)"
    assert {name: case.outcome for name, case in ran.cases.items()} == {
        "test_stop": "passed",
        "test_kill": "skipped",
        "test_controller": "skipped",
        "test_drain": "skipped",
    }
    assert run in ran.cases["test_kill"].message
    assert run in ran.cases["test_controller"].message
    assert drain in ran.cases["test_drain"].message
    for lost, right in (("what containers write to their output", "get pods/log"), ("log files", "get pods/exec")):
        assert f"{lost} will not be kept: this user may not {right}" in ran.text


def test_they_run_with_the_code_that_is_tested_here(theirs: Somebodys, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import pytest_serve_chaos; print(pytest_serve_chaos.__file__)"]
    said = subprocess.run(command, cwd=tmp_path, env=theirs.environment(), capture_output=True, text=True, check=True)
    assert Path(said.stdout.strip()).parents[1] == PACKAGE
