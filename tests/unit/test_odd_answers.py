"""Whatever JSON an answer is, whoever reads it raises an error of ours, or takes it for something that it can use."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.cluster.base import Cluster
from pytest_serve_chaos.cluster.haproxy import Generation
from pytest_serve_chaos.cluster.json_fields import Fields
from pytest_serve_chaos.cluster.kubernetes import in_pod
from pytest_serve_chaos.cluster.kubernetes.client.api import ExecResult, KubeApi
from pytest_serve_chaos.cluster.kubernetes.client.connection import KubeConnection, Method
from pytest_serve_chaos.cluster.kubernetes.client.errors import reason
from pytest_serve_chaos.cluster.kubernetes.client.objects import KubePodChanges
from pytest_serve_chaos.cluster.kubernetes.client.pod_watch import PodWatch
from pytest_serve_chaos.cluster.kubernetes.client.records import (
    Pod,
    event_line,
    event_time,
    node_is_ready,
    pod,
    ray_clusters_of,
)
from pytest_serve_chaos.cluster.kubernetes.kind.images import DockerImages
from pytest_serve_chaos.cluster.kubernetes.kind.record import from_text, moved
from pytest_serve_chaos.cluster.kubernetes.logs.files import LogFiles
from pytest_serve_chaos.cluster.kubernetes.logs.followers import FileFollower, Source
from pytest_serve_chaos.cluster.kubernetes.logs.operator import operator_errors
from pytest_serve_chaos.cluster.kubernetes.rayservice import process_watch
from pytest_serve_chaos.cluster.kubernetes.rayservice.children import PodChildren
from pytest_serve_chaos.cluster.kubernetes.rayservice.existing import workers_wanted
from pytest_serve_chaos.cluster.kubernetes.rayservice.haproxy import PodHAProxy
from pytest_serve_chaos.cluster.kubernetes.rayservice.node_faults import NodeFreezes
from pytest_serve_chaos.cluster.kubernetes.rayservice.pods import RayPods
from pytest_serve_chaos.cluster.kubernetes.rayservice.process_watch import Place, ProcessWatch, parse
from pytest_serve_chaos.cluster.kubernetes.rayservice.programs import tidy
from pytest_serve_chaos.cluster.kubernetes.rayservice.topology import PodTopology
from pytest_serve_chaos.cluster.local.link import SupervisorLink
from pytest_serve_chaos.cluster.local.reported import Reported
from pytest_serve_chaos.cluster.rest import Dashboard, autoscaled, nodes_with_proxy
from pytest_serve_chaos.errors import CommandFailed, ObservationError, ServeChaosError
from pytest_serve_chaos.events import Note, of_kind
from pytest_serve_chaos.history import History
from pytest_serve_chaos.model import Identity, Json
from pytest_serve_chaos.observe import pressure
from pytest_serve_chaos.observe.handles import requests_logged
from pytest_serve_chaos.observe.observer import Observer
from pytest_serve_chaos.observe.post_recovery import routes_in
from pytest_serve_chaos.observe.pressure import MachineWatch
from pytest_serve_chaos.observe.watcher import scaled_numbers
from pytest_serve_chaos.traffic.kept import in_a_thread

DEEP = "[" * 100_000 + "]" * 100_000
KEYS = st.sampled_from(
    ["data", "result", "applications", "deployments", "proxies", "status", "metadata", "spec", "items", "name", "uid"]
) | st.text(max_size=3)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
ANY = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3))

few = settings(max_examples=25, deadline=None)


def around(*path: str, inner: st.SearchStrategy[Json]) -> st.SearchStrategy[Json]:
    """Any JSON, or an object whose value at that path of keys is any: most of what is any is refused at once."""
    for key in reversed(path):
        inner = st.fixed_dictionaries({key: inner})
    return cast("st.SearchStrategy[Json]", st.one_of(ANY, inner))


def usable(question: Callable[[], object]) -> None:
    """Asks it: nothing but an error of ours may come out."""
    with contextlib.suppress(ServeChaosError):
        question()


SERVE = around("applications", "default", "deployments", "Pid", inner=ANY) | around(
    "applications", "default", "deployment_topology", "nodes", inner=ANY
)
ROWS = around("data", "result", "result", inner=st.lists(ANY, max_size=3))


@few
@given(SERVE, ROWS)
def test_of_ray_and_of_serve(serve: Json, rows: Json) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        said = rows if request.url.path.startswith("/api/v0") else serve
        return httpx.Response(200, content=json.dumps(said))

    dashboard = Dashboard("http://127.0.0.1:1")
    dashboard._client = httpx.Client(base_url="http://127.0.0.1:1", transport=httpx.MockTransport(answer))
    usable(dashboard.ray_version)
    usable(dashboard.silent_raylets)
    observer = Observer(cast("Cluster", SimpleNamespace(dashboard=dashboard, capability=lambda _: None)))
    report = observer.refresh()
    assert report.error is None or isinstance(report.error, ObservationError)
    scaled_numbers(report)
    if report.serve is not None:
        autoscaled(report.serve)
        nodes_with_proxy(report.serve, (report.nodes or {}).values())


def test_of_ray_and_of_serve_that_is_deep() -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=DEEP))
    dashboard = Dashboard("http://127.0.0.1:1")
    dashboard._client = httpx.Client(base_url="http://127.0.0.1:1", transport=transport)
    for question in (dashboard.serve, dashboard.nodes, dashboard.actors):
        with pytest.raises(ObservationError, match="nested too deeply"):
            question()


@few
@given(ANY)
def test_of_a_proxy_and_in_a_log(said: Json) -> None:
    text = json.dumps(said)
    assert all(isinstance(route, str) for route in routes_in(200, text))
    logs = SimpleNamespace(replica_log=lambda *_, **__: [f"replica.log: {text}"])
    replica = SimpleNamespace(replica="a#B#1")
    found = requests_logged(cast("Cluster", SimpleNamespace(capability=lambda _: logs)), [replica], 0.0)  # type: ignore[list-item]
    assert all(isinstance(one, str) for one in found)


def test_of_a_proxy_and_in_a_log_that_is_deep() -> None:
    assert routes_in(200, DEEP) == frozenset()
    logs = SimpleNamespace(replica_log=lambda *_, **__: ['{"a":' + DEEP + "}"])
    cluster = cast("Cluster", SimpleNamespace(capability=lambda _: logs))
    assert requests_logged(cluster, [SimpleNamespace()], 0.0) == set()  # type: ignore[list-item]


POD = around("metadata", inner=ANY) | around("status", "containerStatuses", inner=st.lists(ANY, max_size=2))
SPEC = around("spec", "terminationGracePeriodSeconds", inner=ANY) | around("metadata", "labels", inner=ANY)


@few
@given(POD | SPEC)
def test_of_the_kubernetes_api(item: Json) -> None:
    given_item = item if isinstance(item, dict) else {}
    for read in (pod, node_is_ready, event_line, event_time, ray_clusters_of, workers_wanted):
        read(given_item)
    assert pod(given_item).summary is not None


class Connection:
    """A connection to an API server that answers any question with the same text."""

    namespace = "ml"
    core = SimpleNamespace(list_namespaced_pod=None)

    def __init__(self, text: str) -> None:
        self.text = text

    def send(self, *_: object, **__: object) -> bytes:
        return self.text.encode()

    def open(self, *_: object, **__: object) -> object:
        return SimpleNamespace(batches=lambda: iter([[self.text.encode()]]))


@few
@given(ANY.map(json.dumps))
def test_of_the_kubernetes_api_as_a_whole(text: str) -> None:
    whole(text)


@pytest.mark.parametrize("text", [DEEP, "", "<html>", '{"a":'])
def test_of_the_kubernetes_api_that_is_no_json(text: str) -> None:
    whole(text)


def whole(text: str) -> None:
    connection = cast("KubeConnection", Connection(text))
    usable(lambda: KubeConnection.read(connection, cast("Method", None), what="it", error=CommandFailed))
    usable(lambda: list(KubePodChanges(connection).since("1", seconds=1)))
    reason(cast("Exception", SimpleNamespace(body=text, status=500)))


class Pods:
    """The API of a namespace whose pods are any JSON; each question has the next answer, and the last one stays."""

    def __init__(self, *answers: Json) -> None:
        self.answers = list(answers)
        self.asked = threading.Event()

    @property
    def pod_changes(self) -> Pods:
        return self

    def all(self) -> Json:
        if len(self.answers) == 1:
            self.asked.set()
        return self.answers[0] if len(self.answers) == 1 else self.answers.pop(0)

    def since(self, version: str, *, seconds: int) -> Iterator[Json]:
        del version, seconds
        yield {"type": "ADDED", "object": {"metadata": 7}}
        raise TypeError("an answer that nobody foresaw")


def test_no_odd_event_ends_the_watch_of_pods(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_serve_chaos.cluster.kubernetes.client.pod_watch._AGAIN_AFTER", 0.0)
    first: Json = {"metadata": {"resourceVersion": "1"}, "items": []}
    api = Pods(first, {"items": 5, "metadata": {"resourceVersion": "2"}}, {"metadata": [1]}, first)
    watch = PodWatch(cast("KubeApi", api))
    assert api.asked.wait(10.0)
    assert watch.dead == ()
    watch.close()


# -- what programs in pods print ---------------------------------------------------------------------------------------

PROCESS = Identity("process", ("pod", "container", "7", "100"))


class Programs:
    """Pods in which every program prints the same."""

    def __init__(self, text: str) -> None:
        self.text = text

    def run(self, *_: object, **__: object) -> ExecResult:
        return ExecResult(self.text, "", 0)

    def running(self, _: object) -> Pod:
        return pod({})

    with_process = running

    def follow(
        self, pod: str, container: str, command: Sequence[str], *, until: threading.Event, patience: float
    ) -> Iterator[str]:
        del pod, container, command, until, patience
        yield self.text


def programs(text: str) -> None:
    """Reads what a program prints in all places where one does."""
    fake = Programs(text)
    api, pods = cast("KubeApi", fake), cast("RayPods", fake)
    usable(lambda: NodeFreezes(api, pods).freeze_node("head"))
    usable(lambda: NodeFreezes(api, pods).thaw_node("head"))
    usable(lambda: tidy(api, pod({})))
    usable(lambda: PodChildren(api, pods).children(PROCESS))
    usable(lambda: PodChildren(api, pods).states([PROCESS]))
    generation = Generation("head", PROCESS, 7, None, serves=True, directory="/tmp")
    usable(lambda: PodHAProxy(api, pods, cast("PodTopology", None)).routes(generation))
    for read in (lambda: parse(text), lambda: in_pod.moment(text, 0.0)):
        with contextlib.suppress(ValueError):
            read()


@few
@given(ANY.map(json.dumps))
def test_of_a_program_in_a_pod(text: str) -> None:
    programs(text)


@pytest.mark.parametrize("text", [DEEP, "", "Traceback (most recent call last):\n", "[[1, 2, 3, 4, 5]]", "\x1b[2J"])
def test_of_a_program_in_a_pod_that_is_odd(text: str) -> None:
    programs(text)


def test_who_reports_nonsense_about_processes_makes_the_topology_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_watch, "_AGAIN_AFTER", 0.0)
    watch = ProcessWatch(cast("KubeApi", Programs('[["ray", {}, null]]')))
    places = {"id": Place("pod-a", "ray", "uid-a")}

    def look() -> None:
        clock.wait_until("a report", lambda: NotYet(str(watch.rows(places))), timeout=10.0, interval=0.005)

    with pytest.raises(ObservationError, match="pod-a reports nonsense"):
        look()  # else a dead process would look alive
    assert watch.dead == ()
    watch.close()


@few
@given(ANY.map(json.dumps))
def test_no_odd_line_ends_who_follows_logs(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    files = LogFiles(tmp_path_factory.getbasetemp() / "logs")
    source = Source("head", "pod-a", "ray", "id", has_files=True)
    follower = FileFollower(cast("KubeApi", Programs(text)), source, files, since=0.0, whole=True)
    follower.let_go()
    follower._stopped.wait = lambda timeout=None: True  # type: ignore[method-assign]
    assert follower._turn() == 0.0


# -- Docker, and what others wrote into a cluster ----------------------------------------------------------------------


@few
@given(ANY.map(json.dumps))
def test_of_docker_and_of_an_annotation(text: str) -> None:
    images = DockerImages(lambda *_, **__: text, "kind")
    usable(lambda: images.environment_of("rayproject/ray"))
    record = from_text(text)
    if record is not None:
        moved({"default#Pid": [1]}, record.placement)


@few
@given(st.dictionaries(KEYS, ANY, max_size=3).map(lambda data: {"machines": "m", "placement": data}))
def test_of_an_annotation_that_looks_right(data: Json) -> None:
    record = from_text(json.dumps(data))
    if record is not None:
        moved({"default#Pid": [1]}, record.placement)


@few
@given(ANY.map(json.dumps))
def test_of_the_operators_log(text: str) -> None:
    logs = SimpleNamespace(tail=lambda *_, **__: [text, DEEP])
    api = SimpleNamespace(pods=lambda *_, **__: [pod({})], pod_logs=logs)
    assert all(isinstance(line, str) for line in operator_errors(cast("KubeApi", api), "ml"))


def test_a_number_that_is_not_one_is_an_odd_answer() -> None:
    for value in (True, "1", None, float("inf")):
        with pytest.raises(ObservationError, match="not a number"):
            Fields("it", {"asked": value}).seconds("asked")


# -- who else asks in a thread -----------------------------------------------------------------------------------------


def test_an_odd_answer_about_a_proxys_address_is_none() -> None:
    def odd() -> str:
        return cast("dict[str, str]", {})["address"]

    assert asyncio.run(in_a_thread(odd, none_for=Exception)) is None


def test_who_watches_the_processors_notes_what_went_wrong_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pressure, "_EVERY", 0.0)
    looks = iter([*["two"] * 5, "three", "three"])

    def roots() -> tuple[int, ...]:
        said = next(looks, None)
        if said is None:
            done.set()
            return ()
        raise IndexError(f"Docker said {said}")

    done = threading.Event()
    history = History()
    watch = MachineWatch(history, roots)
    watch.start()
    assert done.wait(10.0)
    assert watch.dead == ""
    watch.stop()
    notes = [event.text for event in of_kind(Note, history.events)]
    assert notes == [
        "the processors of this machine cannot be watched: IndexError: Docker said two",
        "the processors of this machine cannot be watched: IndexError: Docker said three",
    ]


def test_a_line_of_the_supervisor_that_makes_no_sense_changes_nothing(tmp_path: Path) -> None:
    link = object.__new__(SupervisorLink)
    link._log, link._reported = tmp_path / "log", Reported()
    for line in (b"5", b"null", DEEP.encode(), b"{}", b'{"event":"unit"}', b"\xff", b'{"event":"ready","slot":3}'):
        link._hear(line)
    assert {"slot": link._reported.slot, "units": link.units()} == {"slot": 3, "units": {}}
    assert (tmp_path / "log").read_text().count("makes no sense") == 6
