"""Each attempt to touch what is not allowed, by marker and by hand, with the answer that a user gets.

With SERVE_CHAOS_ATTEMPTS=FILE the answers are written there, as a table in Markdown.
"""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import pytest

from pytest_serve_chaos.cluster.base import Cluster
from pytest_serve_chaos.cluster.capabilities import DRAINS_MACHINES, KILLS_NODES, SIGNALS_PROCESSES, Offer
from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.external.policy import Grants, Terms
from pytest_serve_chaos.cluster.kubernetes.external.rights import RUN
from pytest_serve_chaos.cluster.kubernetes.external.start import OwnPods
from pytest_serve_chaos.cluster.policy import Touch
from pytest_serve_chaos.errors import SafetyError, Unsupported
from pytest_serve_chaos.history import History
from pytest_serve_chaos.model import Identity, Json
from pytest_serve_chaos.safety.guard import Guard
from pytest_serve_chaos.testing import FakeBackend, FakeCluster
from pytest_serve_chaos.testing.kubernetes import FakeMachines
from tests.capabilities import part
from tests.plugin.conftest import SOON_GIVEN_UP, Ran, RunChaos
from tests.plugin.test_external import ExternalFake
from tests.plugin.test_owner import UPGRADED
from tests.unit.external_services import WithFlags, external, owned_by, owned_pod, ray_service
from tests.unit.rayservices import pod


@dataclass(frozen=True, slots=True)
class Attempt:
    """Something that a test tries, in one way or in two.

    Attributes:
        what: What it would touch.
        answer: A pattern for what the user reads.
        marker: The marker of a test with an experiment; "" where there is none for it.
        by_hand: The statement of a test with the fixtures `chaos` and `serve_cluster`; "" where there is none for it.
    """

    what: str
    answer: str
    marker: str = ""
    by_hand: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """Where it is tried.

    Attributes:
        called: What the cluster is called in the table.
        cluster: The fake cluster.
        attempts: What is tried there.
        replicas: How many its app has.
        options: Of pytest.
    """

    called: str
    cluster: type[FakeCluster]
    attempts: tuple[Attempt, ...]
    replicas: int = 4
    options: tuple[str, ...] = ()


class WithMachines(ExternalFake):
    """One whose nodes could be drained."""

    def offers(self) -> tuple[Offer, ...]:
        """What it can do."""
        return (*super().offers(), DRAINS_MACHINES.by(FakeMachines(self.world)))


class WithoutPrograms(ExternalFake):
    """One in whose pods this user may run nothing."""

    lacking = RUN


class SharesProcesses(ExternalFake):
    """One whose pods have `hostPID`."""

    def why_not(self, touch: Touch, asked_for: object) -> str:
        """As its policy has it."""
        terms = Terms(self.spec, Grants((), (), "hostPID"), self.world.plan.targets, lambda: False)
        return terms.why_not(touch, ())


class Upgraded(ExternalFake):
    """One whose owner has upgraded it since the connection."""

    changed = UPGRADED


class Unseen(ExternalFake):
    """One at whose RayService nobody can look."""

    changed = None


LEAVES_NONE = "* so losing * leaves none (allow_total_loss=True breaks it all the same)"
NO_RIGHT = "this user may not get pods/exec, create pods/exec (SelfSubjectAccessReview)"
SHARED = "the pods have hostPID, so a program in them could reach processes of others, and none is run there"
NO_UPDATE = "the plugin does not change the Serve config of an external RayService, so it updates no app"
CHANGED = "its owner changed it: RayCluster ranker-fghij serves for RayService ranker now*"

PLACES = (
    Place(
        "4 replicas on 2 workers, with GCS fault tolerance",
        WithMachines,
        (
            Attempt("Redis", "Redis does not belong to the RayService*", "redis_failure", "chaos.redis.kill()"),
            Attempt("its Serve config", NO_UPDATE, "app_update", "chaos.app().update()"),
            Attempt(
                "its Serve config",
                "the Serve config is not ours to change",
                by_hand="serve_cluster.update('sleepy_pid#SleepyPid', num_replicas=1)",
            ),
            Attempt("its spec", "the plugin does not change the spec of an external RayService*", "rayservice_upgrade"),
            Attempt(
                "a pod that is kept away",
                "KubeRay makes a new pod at once, so none can be kept down",
                "worker_failure(hold=True)",
                "chaos.worker().kill(hold=True)",
            ),
            Attempt(
                "the machine under a worker",
                "how='kill' needs the machines under a cluster of your own*",
                "node_failure",
                "chaos.node().kill()",
            ),
            Attempt(
                "a node that is drained",
                "faults on nodes are not allowed: --serve-chaos-allow=node",
                'node_failure(how="drain")',
                "chaos.node().drain()",
            ),
            Attempt(
                "something else, by a fault of the test's own",
                "* is a fault of the test itself, and the plugin does not know what it does to this cluster",
                by_hand="chaos.custom(exit, exit, exit, name='disk').inject()",
            ),
        ),
    ),
    Place(
        "without GCS fault tolerance",
        ExternalFake,
        (
            Attempt("the head", "the RayService has no GCS fault tolerance*", "head_failure", "chaos.head.kill()"),
            Attempt("the GCS", "the RayService has no GCS fault tolerance*", "gcs_failure", "chaos.gcs.stop()"),
            Attempt(
                "the head, by another fault's marker",
                "the RayService has no GCS fault tolerance*",
                by_hand="chaos.raylet('head').kill()",
            ),
        ),
        options=("--serve-chaos-gcs=none",),
    ),
    Place(
        "one replica",
        ExternalFake,
        (
            Attempt("the only replica", LEAVES_NONE, "replica_failure", "chaos.replica().kill()"),
            Attempt("the only replica", LEAVES_NONE, 'replica_failure(how="freeze")', "chaos.replica().freeze()"),
            Attempt("the only replica's process", LEAVES_NONE, "child_failure", "chaos.replica().child().kill()"),
            Attempt("the worker with it", LEAVES_NONE, "worker_failure", "chaos.worker().stop()"),
            Attempt("the raylet above it", LEAVES_NONE, "raylet_failure", "chaos.raylet().kill()"),
        ),
        replicas=1,
    ),
    Place(
        "two replicas, one of them stopped",
        ExternalFake,
        (
            Attempt(
                "the last healthy replica",
                LEAVES_NONE,
                by_hand="chaos.replica(on='worker-1').freeze(must_land=False); chaos.replica(on='worker-2').kill()",
            ),
            Attempt(
                "the last healthy worker",
                LEAVES_NONE,
                by_hand="chaos.worker('worker-1').freeze(must_land=False); chaos.worker('worker-2').kill()",
            ),
        ),
        replicas=2,
    ),
    Place(
        "one worker",
        ExternalFake,
        (Attempt("the only worker", LEAVES_NONE, "worker_failure", "chaos.worker().kill()"),),
        options=("--serve-chaos-workers=1",),
    ),
    Place(
        "without the right to run programs",
        WithoutPrograms,
        (
            Attempt("the controller", NO_RIGHT, "controller_failure", "chaos.controller.kill()"),
            Attempt("a proxy", NO_RIGHT, "proxy_failure", "chaos.proxy().freeze()"),
        ),
    ),
    Place(
        "with hostPID in its pods",
        SharesProcesses,
        (
            Attempt("a worker's processes", SHARED, 'worker_failure(how="freeze")', "chaos.worker().freeze()"),
            Attempt("a replica", SHARED, "replica_failure", "chaos.replica().kill()"),
        ),
    ),
    Place(
        "upgraded by its owner meanwhile",
        Upgraded,
        (Attempt("a replica", CHANGED, "replica_failure", "chaos.replica().kill()"),),
    ),
    Place(
        "whose API server does not answer",
        Unseen,
        (
            Attempt(
                "a worker",
                "it is unknown whether its owner changed it: *status 503*",
                "worker_failure",
                "chaos.worker().kill()",
            ),
        ),
    ),
)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    cluster: str
    what: str
    tried: str
    answer: str


@dataclass
class Answers(FakeBackend):
    """A backend that keeps what a user reads of each test."""

    answers: dict[str, str] = field(default_factory=dict)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keeps the outcome, and the first line of the reason."""
        if report.when != "call" and report.outcome == "passed":
            return
        text = report.longrepr[2] if isinstance(report.longrepr, tuple) else _reason(str(report.longrepr))
        outcome = getattr(report, "serve_chaos_outcome", "") or report.outcome
        self.answers.setdefault(report.nodeid.rpartition("::")[2], f"{outcome}: {text.removeprefix('Skipped: ')}")


def _reason(text: str) -> str:
    lines = [line.removeprefix("E").strip() for line in text.splitlines() if line.startswith("E")]
    first = next(iter(lines), text)
    return first.rpartition("inconclusive: ")[2].rpartition("OwnerChangedIt: ")[2]


@pytest.fixture(scope="module")
def table() -> Iterator[list[Row]]:
    """What was tried, with the answers; written to a file for whoever asks for that."""
    rows: list[Row] = []
    yield rows
    path = os.environ.get("SERVE_CHAOS_ATTEMPTS")
    if path:
        lines = [f"| {row.cluster} | {row.what} | `{row.tried}` | {row.answer} |\n" for row in rows]
        titles = "| cluster | what would be touched | tried | the answer |\n| --- | --- | --- | --- |\n"
        Path(path).write_text(titles + "".join(lines), encoding="utf-8")


@pytest.mark.parametrize("place", PLACES, ids=[place.called for place in PLACES])
def test_what_is_not_allowed_is_refused_before_the_first_change(
    run_chaos: RunChaos, table: list[Row], place: Place
) -> None:
    tries = [(attempt, by_marker) for attempt in place.attempts for by_marker in (True, False)]
    tries = [(a, by_marker) for a, by_marker in tries if (a.marker if by_marker else a.by_hand)]
    source = "import pytest\n\n" + "\n".join(_test(n, *one) for n, one in enumerate(tries))
    behaviour = replace(SOON_GIVEN_UP, replicas=place.replicas)  # without traffic no sign of a freeze ever comes
    backend = Answers(behaviour, place.cluster)
    ran = run_chaos(source, *place.options, backend=backend)

    for number, (attempt, by_marker) in enumerate(tries):
        answer = backend.answers[f"test_{number}"]
        tried = f"@pytest.mark.{attempt.marker}" if by_marker else attempt.by_hand
        table.append(Row(place.called, attempt.what, tried, answer))
        assert fnmatch.fnmatchcase(answer.partition(": ")[2], attempt.answer.replace("[", "[[]")), f"{tried}: {answer}"
        assert answer.startswith(("skipped", "inconclusive")), f"{tried}: {answer}"
    assert _broken(ran) <= _first_faults(place)


def _test(number: int, attempt: Attempt, by_marker: bool) -> str:
    if by_marker:
        return f"@pytest.mark.{attempt.marker}\ndef test_{number}(experiment):\n    experiment.run(availability=0.5)\n"
    return f"def test_{number}(chaos, serve_cluster):\n    {attempt.by_hand}\n"


def _broken(ran: Ran) -> int:
    """How many faults were injected, whatever the test asked for."""
    return sum(event.kind == "asked" for event in History.load(ran.directory / "history.jsonl").events)


def _first_faults(place: Place) -> int:
    """How many faults its tests may inject, before what they may not."""
    return sum(attempt.by_hand.count(";") for attempt in place.attempts)


# -- requests past the faults ------------------------------------------------------------------------------------------


class OneRayService:
    """The API server: a RayService with one pod, and one of somebody else with the same labels."""

    def ray_service(self, name: str) -> dict[str, Json]:
        return ray_service()

    def raw_pods(self, selector: str) -> Sequence[dict[str, Json]]:
        stranger: dict[str, Json] = {
            "metadata": {"name": "stranger", "ownerReferences": [owned_by("another")]},
            "spec": {"nodeName": "node-2"},
        }
        return [owned_pod("head"), stranger]


REQUESTS = (
    ("a pod of another owner with its labels", "DELETE", "/api/v1/namespaces/ml/pods/stranger", "it is not a pod of"),
    ("a program in that pod", "EXEC", "/api/v1/namespaces/ml/pods/stranger/exec", "it is not a pod of"),
    ("its eviction", "POST", "/api/v1/namespaces/ml/pods/stranger/eviction", "it is not a pod of"),
    ("a pod of another namespace", "DELETE", "/api/v1/namespaces/prod/pods/head", "it is not a pod of"),
    ("all pods", "DELETE", "/api/v1/namespaces/ml/pods", "nothing but pods may be changed"),
    ("the RayService", "PATCH", "/apis/ray.io/v1/namespaces/ml/rayservices/ranker", "nothing but pods may be"),
    ("a node", "PATCH", "/api/v1/nodes/node-1", "faults on nodes are not allowed"),
)


@pytest.mark.parametrize(("what", "method", "path", "why"), REQUESTS, ids=[what for what, *_ in REQUESTS])
def test_requests_are_refused_whoever_sends_them(table: list[Row], what: str, method: str, path: str, why: str) -> None:
    own = OwnPods(cast("KubeApi", OneRayService()), "ranker")
    guard = Guard("staging", "ml", "ranker", (), own.owns, own.carries)
    with pytest.raises(SafetyError, match=why) as refused:
        guard.permit(method, path)
    table.append(Row("any", what, f"{method} {path}", f"error: {refused.value.what}"))


def test_a_node_without_its_pods_is_refused_though_nodes_are_allowed(table: list[Row]) -> None:
    own = OwnPods(cast("KubeApi", OneRayService()), "ranker")
    guard = Guard("staging", "ml", "ranker", ("node",), own.owns, own.carries)
    cordon = {"spec": {"unschedulable": True}}
    guard.permit("PATCH", "/api/v1/nodes/node-1", cordon)
    with pytest.raises(SafetyError, match="no pod of that RayService is on it") as refused:
        guard.permit("PATCH", "/api/v1/nodes/node-2", cordon)
    table.append(Row("any", "a node with pods of others", "PATCH /api/v1/nodes/node-2", f"error: {refused.value.what}"))


# -- the cluster itself, in the hands of a test ------------------------------------------------------------------------


GCS = Identity("process", ("h", "container-h", "80", "5"))

BY_CAPABILITIES: dict[str, Callable[[Cluster], object]] = {
    "KILLS_NODES: kill_node('head')": lambda c: part(c, KILLS_NODES).kill_node("head", how="stop", hold=False),
    "SIGNALS_PROCESSES: SIGKILL to the GCS": lambda c: part(c, SIGNALS_PROCESSES).signal_process(GCS, 9),
    "apply_serve_config({})": lambda c: c.apply_serve_config({}),
}


@pytest.mark.parametrize("tried", BY_CAPABILITIES)
def test_who_has_the_cluster_itself_can_do_no_more(table: list[Row], tried: str) -> None:
    cluster = external(gcs="none", api=WithFlags(pod("h", "head", "10.0.0.1"), pod("w", "worker", "10.0.0.2")))
    with pytest.raises(Unsupported) as refused:
        BY_CAPABILITIES[tried](cluster)
    row = Row("without GCS fault tolerance", "serve_cluster.backend", tried, f"skipped: {refused.value.what}")
    table.append(row)
