"""What was done to somebody's pods and nodes is undone when the cluster is given back, or by the next run."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM
from typing import cast

import pytest
from kubernetes.config import kube_config

from pytest_serve_chaos.backends import kind_repair
from pytest_serve_chaos.backends.kubernetes import KUBERNETES
from pytest_serve_chaos.backends.kubernetes_undo import Entries, Place
from pytest_serve_chaos.backends.registry import BUILT_IN
from pytest_serve_chaos.cli import main
from pytest_serve_chaos.cluster.base import Progress
from pytest_serve_chaos.cluster.capabilities import (
    DRAINS_MACHINES,
    FREEZES_NODES,
    IS_EXTERNAL,
    SETS_HEALTH_FLAGS,
    SIGNALS_PROCESSES,
)
from pytest_serve_chaos.cluster.kubernetes import in_pod
from pytest_serve_chaos.cluster.kubernetes.client.api import ExecResult
from pytest_serve_chaos.cluster.kubernetes.client.drain import CordonNote
from pytest_serve_chaos.cluster.kubernetes.client.records import Pod, mapped, name_of
from pytest_serve_chaos.cluster.kubernetes.external import drains as module
from pytest_serve_chaos.cluster.kubernetes.external.admitted_faults import AdmittedSignals
from pytest_serve_chaos.cluster.kubernetes.rayservice.cluster import RayServiceCluster
from pytest_serve_chaos.cluster.policy import Touch
from pytest_serve_chaos.cluster.watchdog import Watchdogs
from pytest_serve_chaos.errors import CommandFailed, NoSuchTarget, Unsupported, WaitTimeout
from pytest_serve_chaos.model import Component, Identity, Json
from pytest_serve_chaos.settings import Settings
from tests.capabilities import part
from tests.unit.api_server import ApiServer, api_server
from tests.unit.external_services import cordoned_by, external, losing, running
from tests.unit.rayservices import FakeApi, pod
from tests.unit.test_external_start import NODE, PODS, server
from tests.unit.test_external_start import external as connected
from tests.unit.test_external_start import settings as settings_for
from tests.unit.test_kind_programs import Channel
from tests.unit.test_lease import ELSEWHERE, Leases
from tests.unit.test_safety import unlocked

__all__ = ["server"]  # the fixture

NODES = "/api/v1/nodes"
CONTROLLER = Identity("process", ("w", "container-w", "113", "7"))
REPLICA = Component("replica", "worker-1", CONTROLLER, 113, deployment="ranker#Ranker")


@pytest.fixture(autouse=True)
def no_docker(monkeypatch: pytest.MonkeyPatch) -> None:
    """No kind cluster of this machine is looked for."""
    monkeypatch.setattr(kind_repair, "_made_here", lambda _: None)


@pytest.fixture(autouse=True)
def later(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The commands that undo something once this process is gone; no test leaves a watchdog behind."""
    commands: dict[str, tuple[str, ...]] = {}
    waiting: list[tuple[str, ...]] = []

    def watch(_: Watchdogs, claim: str, lasts: float | None, *, command: tuple[str, ...], **options: object) -> None:
        assert (lasts, options["owned"]) == (None, True)
        commands[claim] = command
        waiting.append(command)

    monkeypatch.setattr(Watchdogs, "watch", watch)
    monkeypatch.setattr(Watchdogs, "end", lambda _, claim: waiting.remove(commands[claim]))
    return waiting


# -- on record ---------------------------------------------------------------------------------------------------------


class Programs(FakeApi):
    """Pods in which programs end as a test wants; it is noted what was on record when each began."""

    def __init__(self, returncode: int = 0) -> None:
        super().__init__(pod("w", "worker", "10.0.0.2"))
        self.returncode = returncode
        self.open: list[str] = []
        self.on_record: list[list[str]] = []

    def record(self, pod: Pod) -> Callable[[], None]:
        self.open.append(pod.name)
        return lambda: self.open.remove(pod.name)

    def run(
        self, name: str, container: str, command: Sequence[str], *, timeout: float = 30.0, stdin: str | None = None
    ) -> ExecResult:
        self.on_record.append([*self.open])
        return ExecResult(json.dumps({"left": [], "processes": 3}), "no", self.returncode)


def admitted(cluster: RayServiceCluster) -> RayServiceCluster:
    """The cluster, whose policy has let a fault on that replica's container pass."""
    touch = Touch(actions=("run in pods",), victims=(REPLICA,))
    part(cluster, IS_EXTERNAL).admit(touch, ())
    return cluster


BREAK: dict[str, Callable[[RayServiceCluster], object]] = {
    "signal": lambda cluster: part(admitted(cluster), SIGNALS_PROCESSES).signal_process(CONTROLLER, SIGSTOP),
    "freeze": lambda cluster: part(losing(cluster, "worker-1"), FREEZES_NODES).freeze_node("worker-1"),
    "flag": lambda cluster: part(admitted(cluster), SETS_HEALTH_FLAGS).set_health_flag(REPLICA, "hang"),
}
HEAL: dict[str, Callable[[RayServiceCluster], object]] = {
    "signal": lambda cluster: part(cluster, SIGNALS_PROCESSES).signal_process(CONTROLLER, SIGCONT),
    "freeze": lambda cluster: part(cluster, FREEZES_NODES).thaw_node("worker-1"),
    "flag": lambda cluster: part(cluster, SETS_HEALTH_FLAGS).clear_health_flag(REPLICA),
}


@pytest.mark.parametrize("how", BREAK)
def test_a_pod_is_on_record_before_it_is_touched_and_until_it_is_healed(how: str) -> None:
    api = Programs()
    cluster = external(api=api, on_break=api.record)
    BREAK[how](cluster)
    BREAK[how](cluster)
    assert api.open == ["pod-w"]
    HEAL[how](cluster)
    assert (api.on_record, api.open) == ([["pod-w"]] * 3, [])


@pytest.mark.parametrize("how", ["signal", "flag"])
def test_what_could_not_be_healed_stays_on_record(how: str) -> None:
    api = Programs()
    cluster = external(api=api, on_break=api.record)
    BREAK[how](cluster)
    api.returncode = 1
    with pytest.raises(CommandFailed):
        HEAL[how](cluster)
    assert api.open == ["pod-w"]


def test_two_faults_in_one_pod_are_healed_one_by_one() -> None:
    api = Programs()
    cluster = external(api=api, on_break=api.record)
    BREAK["signal"](cluster)
    BREAK["flag"](cluster)
    HEAL["signal"](cluster)
    assert api.open == ["pod-w"]


def test_a_process_that_is_gone_needs_no_mending() -> None:
    api = Programs()
    cluster = external(api=api, on_break=api.record)
    BREAK["signal"](cluster)
    api.returncode = in_pod.GONE
    with pytest.raises(NoSuchTarget):
        HEAL["signal"](cluster)
    assert api.open == []


def test_a_pod_without_flags_needs_no_mending() -> None:
    api = Programs(in_pod.NO_DIRECTORY)
    with pytest.raises(Unsupported):
        BREAK["flag"](external(api=api, on_break=api.record))
    assert api.open == []


@pytest.mark.parametrize("signal", [SIGKILL, SIGTERM])
def test_a_process_that_is_killed_is_not_put_on_record(signal: int) -> None:
    api = Programs()
    part(admitted(external(api=api, on_break=api.record)), SIGNALS_PROCESSES).signal_process(CONTROLLER, signal)
    assert api.on_record == [[]]


# -- undone ------------------------------------------------------------------------------------------------------------


class Printed(Channel):
    """A program that printed something, and ended."""

    def __init__(self, text: str) -> None:
        super().__init__(ends=True)
        self.text = text

    def read_stdout(self, timeout: float) -> str:
        return self.text


@pytest.fixture
def ran(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Pod and text of each program that is run in the head, which is there."""
    programs: list[tuple[str, str]] = []

    def stream(method: object, name: str, namespace: str, *, command: Sequence[str], **options: object) -> Channel:
        assert namespace == "ml"
        programs.append((name, command[2]))
        return Printed(
            "[]" if command[2] == in_pod.command("stale", "u")[2] else json.dumps({"stopped": 1, "flags": 0})
        )

    monkeypatch.setattr("kubernetes.stream.stream", stream)
    server.objects[PODS] = {"items": [running("head")]}
    return programs


def killed_while_frozen(given: Settings, directory: Path) -> Path:
    """The journal's entry of a run that froze a process in the head's pod, and was killed."""
    cluster = connected(given, directory)
    process = Identity("process", ("u", "abc", "113", "7"))
    signals = cast("AdmittedSignals", part(cluster, SIGNALS_PROCESSES))
    signals.signals.signal_process(process, SIGSTOP)  # past the policy: this user lacks the right to run programs
    cluster.close()
    ((entry, _),) = given.journal.entries()
    return unlocked(entry)


@pytest.mark.parametrize("changes", [{}, {"context": "staging", "allow_context": "staging"}], ids=["kind", "staging"])
def test_what_a_killed_run_left_frozen_goes_on(
    server: ApiServer,
    ran: list[tuple[str, str]],
    changes: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entry = killed_while_frozen(settings_for(server, tmp_path, monkeypatch, **changes), tmp_path)
    said: list[str] = []
    allowed = [changes[name] for name in changes if name == "allow_context"]
    assert BUILT_IN.undo(tmp_path / "reports", said.append, allowed=allowed) == []
    context = changes.get("context", "kind-test")
    assert said == [f"undo: what a run that ended by force stopped, or flagged, in the pod head of context {context}"]
    assert ran[-1] == ("head", in_pod.command("tidy", "u")[2])
    assert not entry.exists()


def test_a_pod_that_is_gone_needs_nothing(
    server: ApiServer, ran: list[tuple[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = killed_while_frozen(settings_for(server, tmp_path, monkeypatch), tmp_path)
    server.objects[PODS] = {"items": [running("another")]}
    ran.clear()
    assert BUILT_IN.undo(tmp_path / "reports", print) == []
    assert (ran, entry.exists()) == ([], False)


def test_a_pod_that_is_not_the_rayservices_is_not_entered(
    server: ApiServer, ran: list[tuple[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = killed_while_frozen(settings_for(server, tmp_path, monkeypatch), tmp_path)
    server.objects[PODS] = {"items": [running("head", owner="another")]}
    ran.clear()
    (failure,) = BUILT_IN.undo(tmp_path / "reports", print)
    assert "refused on the external cluster: EXEC" in failure
    assert (ran, entry.exists()) == ([], True)


def test_a_context_that_leads_elsewhere_now_is_not_followed(
    server: ApiServer, ran: list[tuple[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = killed_while_frozen(settings_for(server, tmp_path, monkeypatch), tmp_path)
    elsewhere = ApiServer("https://k8s.example.com").kubeconfig(tmp_path, context="kind-test")
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(elsewhere))
    ran.clear()
    (failure,) = BUILT_IN.undo(tmp_path / "reports", print)
    assert "the context kind-test leads to https://k8s.example.com:443" in failure
    assert (ran, entry.exists()) == ([], True)


def test_an_entry_cannot_say_itself_that_its_context_is_meant(
    server: ApiServer, ran: list[tuple[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    staging = {"context": "staging", "allow_context": "staging"}
    entry = killed_while_frozen(settings_for(server, tmp_path, monkeypatch, **staging), tmp_path)
    record = json.loads(entry.read_text())
    entry.write_text(json.dumps({**record, "arguments": {**record["arguments"], "allow_context": "staging"}}))
    ran.clear()
    (failure,) = BUILT_IN.undo(tmp_path / "reports", print)
    assert "serve-chaos undo --allow-context=staging" in failure
    assert (ran, entry.exists()) == ([], True)


def test_another_cluster_under_the_same_context_is_not_mended_in_its_place(
    server: ApiServer, ran: list[tuple[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = killed_while_frozen(settings_for(server, tmp_path, monkeypatch), tmp_path)
    with api_server() as another:
        another.objects = {PODS: {"items": []}}
        elsewhere = another.kubeconfig(tmp_path, context="kind-test")
        monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(elsewhere))
        ran.clear()
        (failure,) = BUILT_IN.undo(tmp_path / "reports", print)
        assert another.asked == []
    assert f"leads to {another.address} (CA: none) now, and what is to be undone is on {server.address}" in failure
    assert (ran, entry.exists()) == ([], True)


# -- drained nodes -----------------------------------------------------------------------------------------------------


class Nodes(FakeApi):
    """A node whose pods a disruption budget keeps, and an API server that refuses some patches of it.

    Attributes:
        refuses: How many times the node is not opened.
        cordoned: Whether the node is.
    """

    namespace = "ml"

    def __init__(self, refuses: int) -> None:
        super().__init__(pod("w", "worker", "10.0.0.2"))
        self.refuses = refuses
        self.cordoned = False
        self.closed = False

    def call(self, method: str, *arguments: object, what: str, **options: object) -> dict[str, Json]:
        if method == "create_namespaced_pod_eviction":
            raise CommandFailed("disruption budget")
        if method == "patch_node":
            wanted = arguments[1] == {"spec": {"unschedulable": True}}
            if not wanted and self.refuses:
                self.refuses -= 1
                raise CommandFailed(f"{what}: refused")
            self.cordoned = wanted
        return cordoned_by("pytest-serve-chaos") if self.cordoned else {"spec": {}}

    def close(self) -> None:
        self.closed = True


def test_a_node_that_could_not_be_opened_when_it_was_healed_is_opened_at_the_end() -> None:
    api = Nodes(refuses=1)
    cluster = external(api=api, allow=["node"])
    with pytest.raises(CommandFailed, match="disruption budget"):
        part(losing(cluster, "worker-1"), DRAINS_MACHINES).drain_machine("worker-1")
    with pytest.raises(CommandFailed, match="refused"):
        part(cluster, DRAINS_MACHINES).reopen_machine("worker-1")
    assert api.cordoned
    cluster.close()
    assert (api.cordoned, api.closed) == (False, True)


def test_it_is_tried_again_and_then_said_loudly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_OPENED_WITHIN", 0.05)
    api = Nodes(refuses=1_000_000)
    cluster = external(api=api, allow=["node"])
    with pytest.raises(CommandFailed, match="disruption budget"):
        part(losing(cluster, "worker-1"), DRAINS_MACHINES).drain_machine("worker-1")
    with pytest.raises(WaitTimeout, match=r"the cordon of kind-worker to be removed; last seen: .*: refused") as late:
        cluster.close()
    assert "serve-chaos undo" in late.value.fix[0]
    assert (api.refuses < 1_000_000 - 1, api.closed) == (True, True)


def test_what_was_healed_is_left_alone_at_the_end() -> None:
    api = Nodes(refuses=0)
    cluster = external(api=api, allow=["node"])
    with pytest.raises(CommandFailed, match="disruption budget"):
        part(losing(cluster, "worker-1"), DRAINS_MACHINES).drain_machine("worker-1")
    part(cluster, DRAINS_MACHINES).reopen_machine("worker-1")
    api.cordoned = True  # by somebody else
    cluster.close()
    assert api.cordoned


def drained(
    server: ApiServer, directory: Path, monkeypatch: pytest.MonkeyPatch, progress: Progress = print
) -> tuple[RayServiceCluster, Path]:
    """A cluster whose drain of the node under the head was refused once the node was cordoned; the journal's entry."""
    server.objects[PODS] = {"items": [running("head")]}
    server.refusals[f"{PODS}/head/eviction"] = [403]
    given = settings_for(server, directory, monkeypatch, allow=("node",))
    cluster = connected(given, directory, progress)
    with pytest.raises(CommandFailed, match="eviction of pod head"):
        part(losing(cluster, "head"), DRAINS_MACHINES).drain_machine("head")
    ((entry, _),) = given.journal.entries()
    server.objects[NODE] = cordoned_by("pytest-serve-chaos")
    server.asked.clear()
    return cluster, entry


def test_a_drained_node_that_an_autoscaler_has_removed_needs_no_healing(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    cluster, entry = drained(server, tmp_path, monkeypatch, told.append)
    del server.objects[NODE]
    part(cluster, DRAINS_MACHINES).reopen_machine("head")
    assert told[-1] == "kubernetes: the node node-1 is gone, so there is nothing to uncordon"
    assert not entry.exists()
    server.asked.clear()
    cluster.close()
    assert NODE not in [asked.path for asked in server.asked]


def test_a_drained_node_that_somebody_else_has_cordoned_since_is_left_to_them(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    cluster, entry = drained(server, tmp_path, monkeypatch, told.append)
    server.objects[NODE] = cordoned_by("kubectl-cordon")
    part(cluster, DRAINS_MACHINES).reopen_machine("head")
    cluster.close()
    assert told[-1].endswith("node-1 stays cordoned, now by kubectl-cordon")
    assert [asked.path for asked in server.asked if asked.method != "GET"] == []
    assert not entry.exists()


def asked_of_nodes(server: ApiServer) -> list[tuple[str, str, Json]]:
    """Method, path and body of each request about nodes."""
    return [(asked.method, asked.path, asked.body) for asked in server.asked if asked.path.startswith(NODES)]


UNCORDONED = {"spec": {"unschedulable": None}, "metadata": {"annotations": {"pytest-serve-chaos/undo": None}}}


@pytest.fixture
def cordoned(server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The journal's entry of a run that cordoned the node under the head, and was killed."""
    _, entry = drained(server, tmp_path, monkeypatch)
    return unlocked(entry)


@pytest.mark.usefixtures("ran")
def test_a_cordon_that_nobody_is_left_to_remove_is_removed_by_the_same_command(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, later: list[tuple[str, ...]]
) -> None:
    cluster, entry = drained(server, tmp_path, monkeypatch)
    ((python, *arguments),) = later
    assert (python, arguments[:2]) == (sys.executable, ["-m", "pytest_serve_chaos.cli"])
    unlocked(entry)
    server.objects[NODES] = {"items": []}
    assert main(arguments[2:]) == 0
    assert [asked for asked in asked_of_nodes(server) if asked[0] != "GET"] == [("PATCH", NODE, UNCORDONED)]
    cluster.close()


def test_the_run_that_removes_its_cordon_needs_nobody_else(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, later: list[tuple[str, ...]]
) -> None:
    cluster, _ = drained(server, tmp_path, monkeypatch)
    part(cluster, DRAINS_MACHINES).reopen_machine("head")
    assert later == []
    cluster.close()


def test_a_controller_that_is_killed_for_good_leaves_somebody_to_replace_its_proxies(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, later: list[tuple[str, ...]]
) -> None:
    given = settings_for(server, tmp_path, monkeypatch)
    place = Place("kind-test", server.address, "", "ml/ranker", "uid-of-ranker")
    records = Entries(given.journal, place).records
    first, second = records.stale(), records.stale()
    assert len(later) == 1
    first()
    assert len(later) == 1
    second()
    assert later == []


def test_what_a_killed_run_left_cordoned_is_opened(server: ApiServer, cordoned: Path, tmp_path: Path) -> None:
    assert BUILT_IN.undo(tmp_path / "reports", print) == []
    assert asked_of_nodes(server) == [("GET", NODE, None), ("PATCH", NODE, UNCORDONED)]
    assert not cordoned.exists()


@pytest.mark.parametrize(
    ("node", "says"),
    [
        (None, "the node node-1 is gone, so there is nothing to uncordon"),
        ({"metadata": {"uid": "n"}, "spec": {}}, "the node node-1 is not cordoned any more"),
        (cordoned_by("kubectl"), "the node node-1 stays cordoned, now by kubectl"),
    ],
    ids=["gone", "open", "somebody-elses"],
)
def test_what_is_not_ours_to_open_any_more_is_left_and_said(
    server: ApiServer, cordoned: Path, node: dict[str, Json] | None, says: str, tmp_path: Path
) -> None:
    server.objects[NODE] = node or {}
    if node is None:
        del server.objects[NODE]
    told: list[str] = []
    assert BUILT_IN.undo(tmp_path / "reports", told.append) == []
    assert told[-1] == f"undo: {says}"
    assert asked_of_nodes(server) == [("GET", NODE, None)]
    assert not cordoned.exists()


def test_a_node_that_cannot_be_read_stays_in_the_journal(server: ApiServer, cordoned: Path, tmp_path: Path) -> None:
    server.hiccups = 1
    (failure,) = BUILT_IN.undo(tmp_path / "reports", print)
    assert "status 500" in failure
    assert cordoned.exists()


def test_a_context_that_leads_elsewhere_now_is_not_opened(
    server: ApiServer, cordoned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = ApiServer("https://k8s.example.com").kubeconfig(tmp_path, context="kind-test")
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(elsewhere))
    (failure,) = BUILT_IN.undo(tmp_path / "reports", print)
    assert "the context kind-test leads to https://k8s.example.com:443" in failure
    assert (server.asked, cordoned.exists()) == ([], True)


def test_a_node_that_was_made_again_under_its_name_is_not_the_one_that_was_cordoned(
    server: ApiServer, cordoned: Path, tmp_path: Path
) -> None:
    again = cordoned_by("pytest-serve-chaos")
    server.objects[NODE] = {**again, "metadata": {**mapped(again["metadata"]), "uid": "another"}}
    told: list[str] = []
    assert BUILT_IN.undo(tmp_path / "reports", told.append) == []
    assert told[-1] == "undo: the node node-1 is another one of that name now, so there is nothing to uncordon"
    assert (asked_of_nodes(server), cordoned.exists()) == ([("GET", NODE, None)], False)


# -- without a journal -------------------------------------------------------------------------------------------------


REPAIR = ("undo", "--context=kind-test", "--rayservice=ml/ranker")


def drained_node(name: str, rayservice: str = "ml/ranker", by: str = "pytest-serve-chaos") -> dict[str, Json]:
    """A node that was drained for a RayService, as the API server gives it."""
    node = cordoned_by(by)
    annotations: Json = {"pytest-serve-chaos/undo": str(CordonNote(rayservice, "a-uid"))}
    return {**node, "metadata": {**mapped(node["metadata"]), "name": name, "annotations": annotations}}


@pytest.fixture
def left_broken(server: ApiServer, ran: list[tuple[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A RayService whose head has a stopped process, and nodes that were drained, for it and for others."""
    settings_for(server, tmp_path, monkeypatch)
    nodes: list[dict[str, Json]] = [
        drained_node("gpu-1"),
        drained_node("gpu-2", rayservice="ml/other"),
        drained_node("gpu-3", by="kubectl"),
        {"metadata": {"name": "gpu-4"}, "spec": {}},
    ]
    server.objects[NODES] = {"items": [*nodes]}
    for node in nodes:
        server.objects[f"{NODES}/{name_of(node)}"] = node


@pytest.mark.usefixtures("left_broken")
def test_a_rayservice_is_repaired_by_what_the_cluster_shows_where_nothing_is_in_a_journal(
    server: ApiServer, ran: list[tuple[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(REPAIR) == 0
    assert capsys.readouterr().out.splitlines() == [
        "undo: 1 processes of head were stopped",
        "undo: the node gpu-1 was cordoned",
        "undo: the node gpu-3 stays cordoned, now by kubectl",
    ]
    assert [name for name, program in ran if program == in_pod.command("tidy", "u")[2]] == ["head"]
    assert [asked for asked in asked_of_nodes(server) if asked[0] != "GET"] == [
        ("PATCH", f"{NODES}/gpu-1", UNCORDONED),
        ("PATCH", f"{NODES}/gpu-3", {"metadata": {"annotations": {"pytest-serve-chaos/undo": None}}}),
    ]


@pytest.mark.usefixtures("left_broken")
def test_of_a_rayservice_that_is_gone_the_drained_nodes_are_uncordoned(
    server: ApiServer, capsys: pytest.CaptureFixture[str]
) -> None:
    del server.objects["/apis/ray.io/v1/namespaces/ml/rayservices/ranker"]
    assert main(REPAIR) == 0
    assert capsys.readouterr().out.splitlines()[:2] == [
        "undo: there is no RayService ml/ranker any more",
        "undo: the node gpu-1 was cordoned",
    ]


@pytest.mark.usefixtures("left_broken")
def test_what_fails_keeps_nothing_else_from_being_repaired(
    server: ApiServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: object, **__: object) -> None:
        raise OSError("no websocket")

    monkeypatch.setattr("kubernetes.stream.stream", refuses)
    assert main(REPAIR) == 1
    said = capsys.readouterr().out
    assert "could not be undone: the pod head of RayService ml/ranker: a program could not be run in pod head" in said
    assert "undo: the node gpu-1 was cordoned" in said


@pytest.mark.usefixtures("left_broken")
def test_a_context_that_is_not_a_kind_cluster_has_to_be_named_twice(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings_for(server, tmp_path, monkeypatch, context="staging")
    staging = ["undo", "--context=staging", "--rayservice=ml/ranker"]
    assert main(staging) == 2
    assert "serve-chaos undo --allow-context=staging" in capsys.readouterr().err
    assert server.asked == []
    assert main([*staging, "--allow-context=staging"]) == 0


@pytest.mark.usefixtures("left_broken")
def test_whoever_may_not_list_nodes_is_told_which_were_not_looked_at(
    server: ApiServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.forbidden = {NODES}
    assert main(REPAIR) == 1
    assert "this user may not list nodes, so only node-1 could be looked at" in capsys.readouterr().out


@pytest.mark.usefixtures("left_broken")
def test_whoever_may_not_read_nodes_has_drained_none(server: ApiServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.forbidden = {NODES, NODE}
    assert main(REPAIR) == 0
    assert "no node was looked at: this user may not read nodes" in capsys.readouterr().out


@pytest.mark.usefixtures("left_broken")
def test_what_a_run_has_now_is_left_to_it_and_that_is_said(
    server: ApiServer, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with ExitStack() as run:
        with monkeypatch.context() as of_a_run:
            of_a_run.setattr(os, "getpid", lambda: 1)
            run.enter_context(KUBERNETES.locked(settings_for(server, tmp_path, monkeypatch)))
        assert main(REPAIR) == 1
    assert "ml/ranker: another run is using the cluster kind-test/ml/ranker" in capsys.readouterr().out
    assert asked_of_nodes(server) == []


@pytest.mark.usefixtures("left_broken")
def test_what_a_run_on_another_machine_has_now_is_left_to_it(
    server: ApiServer, capsys: pytest.CaptureFixture[str]
) -> None:
    Leases(server).put(ELSEWHERE)
    assert main(REPAIR) == 1
    assert "another run is testing RayService ml/ranker: ann@laptop" in capsys.readouterr().out
    assert asked_of_nodes(server) == []


def test_an_entry_is_kept_while_a_run_on_another_machine_tests_the_rayservice(
    server: ApiServer, cordoned: Path, tmp_path: Path
) -> None:
    leases = Leases(server)
    leases.put(ELSEWHERE)
    (failure,) = BUILT_IN.undo(tmp_path / "reports", print)
    assert "another run is testing RayService ml/ranker: ann@laptop" in failure
    assert (asked_of_nodes(server), cordoned.exists()) == ([], True)
    leases.delete()
    assert BUILT_IN.undo(tmp_path / "reports", print) == []
    assert (leases.is_there, cordoned.exists()) == (False, False)


@pytest.mark.parametrize("given", [["--context=kind-test"], ["--rayservice=ml/ranker"]])
def test_half_a_name_names_nothing(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["undo", *given]) == 2
    assert "is missing" in capsys.readouterr().err
