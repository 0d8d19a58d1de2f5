"""Where log lines come from: programs in the pods, or the files that a stream has written."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from pytest_serve_chaos import clock
from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.capabilities import SHOWS_CONTROLLER_LOG, SHOWS_REPLICA_LOGS, STREAMS_LOGS, KeptLogs
from pytest_serve_chaos.cluster.kubernetes.client.api import ExecResult
from pytest_serve_chaos.cluster.kubernetes.client.records import Pod
from pytest_serve_chaos.cluster.kubernetes.logs import sources as log_sources
from pytest_serve_chaos.cluster.kubernetes.logs.operator import SELECTOR
from pytest_serve_chaos.cluster.kubernetes.logs.stream import LogAccess
from pytest_serve_chaos.cluster.kubernetes.rayservice.cluster import RayServiceCluster
from pytest_serve_chaos.cluster.kubernetes.rayservice.view import RayServiceView, Sight
from pytest_serve_chaos.errors import CommandFailed, ObservationError
from pytest_serve_chaos.model import Component, Identity, Json
from tests.capabilities import part
from tests.unit import test_log_stream
from tests.unit.rayservices import FakeApi, FakeDashboard, cluster_on, pod, view_of
from tests.unit.test_log_stream import Output, output_of, program_of, quick, wait_for

__all__ = ["quick"]

NEXT = "serve-chaos-next"
REPLICA = Component("replica", "worker-1", Identity("process", ("a",)), 113, replica="app#Pid#x7")


class Api(FakeApi):
    """Pods that log; programs in them that read logs say what was asked of them."""

    namespace = "serve-chaos"

    def __init__(self) -> None:
        super().__init__(pod("h", "head", "10.0.0.1"), pod("a", "worker", "10.0.0.2"), redis=[pod("r", "redis", "")])
        self.streams = test_log_stream.FakeApi()
        self.outputs = self.streams.outputs
        self.programs = self.streams.programs
        self.operator = pod("o", "operator", "")
        self.broken: set[str] = set()
        self.is_silent = False
        self.active, self.pending = "serve-chaos-abcde", ""
        self.next_pods = [pod("n", "head", "10.0.0.7"), pod("m", "worker", "10.0.0.8")]
        self.selectors: list[str] = []

    def pods(self, selector: str = "", *, namespace: str | None = None) -> tuple[Pod, ...]:
        if self.is_silent:
            raise ObservationError("silent")
        if selector == SELECTOR:
            return (self.operator,) if namespace == "ray-system" else ()
        self.selectors.append(selector)
        return tuple(self.next_pods) if NEXT in selector else super().pods(selector)

    def ray_service(self, name: str) -> dict[str, Json]:
        assert name == "serve-chaos"
        parts = {"active": self.active, "pending": self.pending}
        return {"status": {f"{which}ServiceStatus": {"rayClusterName": part} for which, part in parts.items() if part}}

    def run(
        self, name: str, container: str, command: Sequence[str], *, timeout: float = 30.0, stdin: str | None = None
    ) -> ExecResult:
        if name in self.broken:
            raise CommandFailed("no")
        globs, expression, _, lines = command[3:]
        return ExecResult(f"file.log: read {globs} for {expression!r}, {lines} lines\n", "", 0)

    def open(self, pod_name: str, namespace: str, *, wait: float, **options: object) -> Output:
        return self.streams.open(pod_name, namespace, wait=wait, **options)

    def follow(
        self, name: str, container: str, command: Sequence[str], *, until: threading.Event, patience: float
    ) -> Iterator[str]:
        return self.streams.follow(name, container, command, until=until, patience=patience)


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.fixture
def view(api: Api) -> RayServiceView:
    sight = Sight(logs=LogAccess(operator_namespace="ray-system"))
    return view_of(api, FakeDashboard(None, {}, {}), spec=ClusterSpec(workers=1), sight=sight)


@pytest.fixture
def cluster(view: RayServiceView) -> RayServiceCluster:
    return cluster_on(view)


@pytest.fixture
def streaming(cluster: RayServiceCluster, tmp_path: Path) -> Iterator[KeptLogs]:
    stream = part(cluster, STREAMS_LOGS).stream_logs(tmp_path)
    yield stream
    stream.close()


def test_a_rayservice_has_the_capabilities(cluster: RayServiceCluster) -> None:
    assert cluster.capability(STREAMS_LOGS) is not None
    assert cluster.capability(SHOWS_REPLICA_LOGS) is not None


def test_without_a_stream_they_are_read_in_the_pods(cluster: RayServiceCluster, api: Api) -> None:
    everything = "*.log,*.out,*.err,serve/*.log"
    assert cluster.log_excerpt(clock.now(), pattern="ERROR", lines=9) == (
        f"head: file.log: read {everything} for 'ERROR', 9 lines",
        f"worker-1: file.log: read {everything} for 'ERROR', 9 lines",
    )
    assert part(cluster, SHOWS_CONTROLLER_LOG).controller_log(pattern="x", since=0.0) == (
        "head: file.log: read serve/controller_* for 'x', 1000 lines",
    )
    assert part(cluster, SHOWS_REPLICA_LOGS).replica_log(REPLICA, since=0.0) == (
        "worker-1: file.log: read serve/replica_*_x7.log for '', 2000 lines",
    )
    api.broken.add("pod-h")
    assert part(cluster, SHOWS_CONTROLLER_LOG).controller_log(pattern="x", since=0.0) == ()


def test_what_is_streamed_has_its_node_its_file_and_its_time(streaming: KeptLogs, api: Api) -> None:
    moment = clock.now()
    program_of(api.streams, "pod-h").say(("serve/controller_7.log", 1, 9, "INFO a\nWARNING b\n"))

    def lines() -> list[tuple[str, str, str]]:
        return [(line.node, line.file, line.text) for line in streaming.around(moment, before=1.0, after=60.0)]

    wait_for(lambda: lines() == [("head", "serve/controller_7.log", text) for text in ("INFO a", "WARNING b")])
    assert not streaming.around(moment, before=60.0, after=-1.0)


@pytest.mark.usefixtures("streaming")
def test_what_is_streamed_is_not_asked_for(cluster: RayServiceCluster, api: Api) -> None:
    since = clock.now()
    program_of(api.streams, "pod-h").say(("serve/controller_7.log", 1, 9, "INFO a\nWARNING b\n"))
    wait_for(
        lambda: (
            part(cluster, SHOWS_CONTROLLER_LOG).controller_log(pattern="WARN", since=since)
            == ("head: controller_7.log: WARNING b",)
        )
    )
    excerpt = cluster.log_excerpt(since, pattern="WARN")
    assert [line for line in excerpt if line.startswith("head")] == ["head: controller_7.log: WARNING b"]
    assert [line for line in excerpt if line.startswith("worker-1")], "it has said nothing yet, so it was asked"


@pytest.mark.usefixtures("streaming")
def test_lines_of_a_pod_that_is_gone_are_found(cluster: RayServiceCluster, api: Api) -> None:
    since = clock.now()
    program, output = program_of(api.streams, "pod-a"), output_of(api.streams, "pod-a")
    program.say(("serve/replica_app_Pid_x7.log", 1, 9, "GET / 200 3ms\n"), ("raylet.out", 2, 9, "ERROR out\n"))
    output.say("2099-11-22T18:04:11.000000001Z ERROR of the container")
    api.ray_pods.pop()
    program.end()
    output.end()
    wait_for(
        lambda: (
            part(cluster, SHOWS_REPLICA_LOGS).replica_log(REPLICA, since=since)
            == ("worker-1: replica_app_Pid_x7.log: GET / 200 3ms",)
        )
    )

    def of_the_worker() -> list[str]:
        return [line for line in cluster.log_excerpt(since, pattern="ERROR") if line.startswith("worker-1")]

    wait_for(lambda: len(of_the_worker()) == 2)
    assert of_the_worker() == [
        "worker-1: raylet.out: ERROR out",
        "worker-1: container.log: 2099-11-22T18:04:11.000000001Z ERROR of the container",
    ]
    api.is_silent = True
    assert len(of_the_worker()) == 2


def test_without_a_stream_an_api_server_that_is_silent_is_an_error(cluster: RayServiceCluster, api: Api) -> None:
    api.is_silent = True
    with pytest.raises(ObservationError):
        cluster.log_excerpt(0.0)


@pytest.mark.usefixtures("streaming")
def test_a_program_that_does_not_run_any_more_is_stood_in_for(cluster: RayServiceCluster, api: Api) -> None:
    since = clock.now()
    program = program_of(api.streams, "pod-h")
    program.say(("serve/controller_7.log", 1, 9, "streamed\n"))
    wait_for(
        lambda: (
            part(cluster, SHOWS_CONTROLLER_LOG).controller_log(pattern="", since=since)
            == ("head: controller_7.log: streamed",)
        )
    )
    program.end()
    wait_for(lambda: "file.log" in "".join(part(cluster, SHOWS_CONTROLLER_LOG).controller_log(pattern="", since=since)))
    api.broken.add("pod-h")
    assert part(cluster, SHOWS_CONTROLLER_LOG).controller_log(pattern="", since=since) == (
        "head: controller_7.log: streamed",
    )


@pytest.mark.usefixtures("streaming")
def test_redis_and_the_operator_are_streamed_too(api: Api, tmp_path: Path) -> None:
    for name in ("pod-r", "pod-o"):
        output_of(api.streams, name).say("2026-11-22T18:04:11.000000001Z text")
    wait_for(lambda: (tmp_path / "operator_pod-o" / "container.log").exists())
    wait_for(lambda: (tmp_path / "redis_pod-r" / "container.log").exists())
    assert ("ray-system", "pod-o") in {(namespace, name) for namespace, name, _ in api.streams.asked}


@pytest.mark.usefixtures("streaming")
def test_a_cluster_that_is_to_serve_is_streamed_and_so_are_the_last_words_of_the_one_before(
    view: RayServiceView, cluster: RayServiceCluster, api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_sources, "_CLUSTERS_EVERY", 0.0)
    since = clock.now()

    def says(name: str, file: str, text: str) -> None:
        program_of(api.streams, name).say((file, 1, 9, f"{text}\n"))

    def of_the_controller() -> set[str]:
        return set(part(cluster, SHOWS_CONTROLLER_LOG).controller_log(pattern="", since=since))

    def everything() -> tuple[str, ...]:
        return cluster.log_excerpt(since, pattern="ERROR", lines=1000)

    api.pending = NEXT
    says("pod-h", "serve/controller_7.log", "old")
    says("pod-n", "serve/controller_9.log", "ERROR of the next")
    wait_for(lambda: of_the_controller() == {"head: controller_7.log: old"})
    wait_for(lambda: f"head of {NEXT}: controller_9.log: ERROR of the next" in everything())
    program_of(api.streams, "pod-m")
    assert (tmp_path / f"head_of_{NEXT}_pod-n" / "serve" / "controller_9.log").exists()

    api.active, api.pending, view.pods.ray_cluster = NEXT, "", NEXT  # as an upgrade does
    switched = "head: controller_9.log: ERROR of the next"
    wait_for(lambda: of_the_controller() == {"head: controller_7.log: old", switched})
    says("pod-h", "serve/controller_7.log", "last words")
    wait_for(lambda: "head: controller_7.log: last words" in of_the_controller())

    api.ray_pods.clear()
    seen = len(api.selectors)
    wait_for(lambda: any(NEXT in s for s in api.selectors[seen + 20 :]))
    assert not any("abcde" in s for s in api.selectors[seen + 10 :]), "it is not asked for for ever"
    assert len(api.programs["pod-n"]) == len(api.programs["pod-h"]) == 1


def test_the_end_of_the_cluster_ends_the_stream(cluster: RayServiceCluster, api: Api, tmp_path: Path) -> None:
    part(cluster, STREAMS_LOGS).stream_logs(tmp_path)
    program_of(api.streams, "pod-a")
    cluster.stop_watching()
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("serve-chaos-logs")]


def test_another_stream_ends_the_one_before(cluster: RayServiceCluster, api: Api, tmp_path: Path) -> None:
    part(cluster, STREAMS_LOGS).stream_logs(tmp_path / "one")
    program_of(api.streams, "pod-a")
    part(cluster, STREAMS_LOGS).stream_logs(tmp_path / "two")
    program_of(api.streams, "pod-a", 1).say(("raylet.out", 1, 9, "text\n"))
    wait_for(lambda: (tmp_path / "two" / "worker-1_pod-a" / "raylet.out").exists())
    assert not (tmp_path / "one").exists()
    cluster.stop_watching()
