"""Logs of pods on their way into files, with an API server that only says what a test lets it say."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from pytest_serve_chaos import clock
from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.logs import followers as log_followers
from pytest_serve_chaos.cluster.kubernetes.logs import stream as log_stream
from pytest_serve_chaos.cluster.kubernetes.logs.followers import Source
from pytest_serve_chaos.cluster.kubernetes.logs.stream import LogAccess, LogStream
from pytest_serve_chaos.errors import CommandFailed, ObservationError

HEAD = Source("head", "pod-h", "ray-head", "id-h", has_files=True)
WORKER = Source("worker-1", "pod-a", "ray-worker", "id-a", has_files=True)
REDIS = Source("redis", "pod-r", "redis", "id-r")
OPERATOR = Source("operator", "pod-o", "manager", "id-o", namespace="ray-system")


class Output:
    """An answer that goes on until the server or a reader ends it."""

    def __init__(self) -> None:
        self.coming: queue.Queue[list[str] | None] = queue.Queue()

    def say(self, *lines: str) -> None:
        self.coming.put(list(lines))

    def end(self) -> None:
        self.coming.put(None)

    def batches(self) -> Iterator[list[bytes]]:
        while (lines := self.coming.get(timeout=20.0)) is not None:
            yield [line.encode() for line in lines]


class Program:
    """A program in a container."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self.age = float(arguments[2])
        self.offsets = arguments[3]
        self.coming: queue.Queue[str | None] = queue.Queue()

    def say(self, *chunks: tuple[str, int, int, str]) -> None:
        self.coming.put(json.dumps([time.time(), time.localtime().tm_gmtoff, chunks]))

    def end(self) -> None:
        self.coming.put(None)


class FakeApi:
    """Remembers what was opened, run after run; pods in `refused` have no log and take no program.

    What is not followed is in `once`: pod, container, whether the one before it is meant. It says what is `written`.
    """

    namespace = "serve-chaos"

    def __init__(self) -> None:
        self.outputs: dict[str, list[Output]] = {}
        self.programs: dict[str, list[Program]] = {}
        self.asked: list[tuple[str, str, object]] = []
        self.once: list[tuple[str, str, bool]] = []
        self.written: dict[str, tuple[str, ...]] = {}
        self.refused: set[str] = set()

    @property
    def pod_logs(self) -> FakeApi:
        return self

    def open(self, pod: str, namespace: str, *, wait: float, **options: object) -> Output:
        self.asked.append((namespace, pod, options.get("since_seconds")))
        if not options["follow"]:
            self.once.append((pod, str(options["container"]), bool(options["previous"])))
            output = Output()
            output.say(*(stamped(1, text) for text in self.written.get(str(options["container"]), ())))
            output.end()
            return output
        if pod in self.refused:
            raise ObservationError("no")
        self.outputs.setdefault(pod, []).append(Output())
        return self.outputs[pod][-1]

    def follow(
        self, pod: str, container: str, command: Sequence[str], *, until: threading.Event, patience: float
    ) -> Iterator[str]:
        if pod in self.refused:
            raise CommandFailed("no")
        self.programs.setdefault(pod, []).append(Program(command[3:]))
        program = self.programs[pod][-1]
        while not until.is_set():
            try:
                line = program.coming.get(timeout=0.02)
            except queue.Empty:
                continue
            if line is None:
                return
            yield line


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_followers, "_AGAIN_AFTER", 0.05)
    monkeypatch.setattr(log_followers, "_FIRST_AFTER", 0.02)
    monkeypatch.setattr(log_followers, "_AT_LEAST_EVERY", 0.1)
    monkeypatch.setattr(log_stream, "_LOOK_EVERY", 0.02)


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


@pytest.fixture
def there() -> list[Source]:
    """The containers that run."""
    return [HEAD, WORKER, REDIS, OPERATOR]


@pytest.fixture
def begin(api: FakeApi, there: list[Source], tmp_path: Path) -> Iterator[Callable[..., LogStream]]:
    streams: list[LogStream] = []

    def begun(access: LogAccess | None = None) -> LogStream:
        stream = LogStream(cast("KubeApi", api), access or LogAccess(), lambda: list(there), tmp_path / "logs")
        streams.append(stream)
        return stream

    yield begun
    for stream in streams:
        stream.close()
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("serve-chaos-logs")]


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10.0
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def stamped(number: int, text: str) -> str:
    return f"2026-11-22T18:04:11.{number:09}Z {text}"


def text_of(path: Path) -> str:
    return path.read_text() if path.is_file() else ""


def program_of(api: FakeApi, pod: str, run: int = 0) -> Program:
    wait_for(lambda: len(api.programs.get(pod, ())) > run)
    return api.programs[pod][run]


def output_of(api: FakeApi, pod: str, run: int = 0) -> Output:
    wait_for(lambda: len(api.outputs.get(pod, ())) > run)
    return api.outputs[pod][run]


def test_each_container_has_a_directory_with_its_output_and_its_files(
    api: FakeApi, begin: Callable[..., LogStream], tmp_path: Path
) -> None:
    begin()
    output_of(api, "pod-a").say(stamped(1, "up"), stamped(2, "running"))
    output_of(api, "pod-o").say(stamped(1, "reconcile"))
    program_of(api, "pod-a").say(("serve/proxy.log", 7, 3, "hi\n"), ("raylet.out", 8, 4, "raylet\n"))
    logs = tmp_path / "logs"
    wait_for(lambda: text_of(logs / "worker-1_pod-a" / "raylet.out") == "raylet\n")
    wait_for(lambda: text_of(logs / "operator_pod-o" / "container.log").endswith("reconcile\n"))
    wait_for(lambda: (logs / "worker-1_pod-a" / "container.log").exists())
    assert text_of(logs / "worker-1_pod-a" / "serve" / "proxy.log") == "hi\n"
    assert text_of(logs / "worker-1_pod-a" / "container.log") == f"{stamped(1, 'up')}\n{stamped(2, 'running')}\n"
    wait_for(lambda: set(api.programs) == {"pod-h", "pod-a"})
    assert {(namespace, pod) for namespace, pod, _ in api.asked} == {
        ("serve-chaos", "pod-h"),
        ("serve-chaos", "pod-a"),
        ("serve-chaos", "pod-r"),
        ("ray-system", "pod-o"),
    }


def test_a_container_that_comes_is_followed_from_its_start_and_one_that_was_there_is_not(
    api: FakeApi, there: list[Source], begin: Callable[..., LogStream], tmp_path: Path
) -> None:
    there[:] = [HEAD]
    stream = begin()
    assert program_of(api, "pod-h").age >= 0
    there.append(WORKER)
    assert program_of(api, "pod-a").age < 0
    output_of(api, "pod-a")
    (of_the_head, of_the_worker) = (seconds for _, _, seconds in api.asked)
    assert of_the_head is None, "some lines from before say what it is"
    assert 1 <= cast("int", of_the_worker) <= 20
    again = Source("worker-1", "pod-a", "ray-worker", "id-a2", restarts=1, has_files=True)
    there[:] = [HEAD, again]
    wait_for(lambda: "id-a" in stream._containers and stream._containers["id-a"].gone_at is not None)
    program_of(api, "pod-a").end()
    program_of(api, "pod-a", 1).say(("raylet.out", 8, 4, "second life\n"))
    wait_for(lambda: text_of(tmp_path / "logs" / "worker-1_pod-a_restart-1" / "raylet.out") == "second life\n")


def test_what_no_look_has_seen_running_is_asked_for_once(
    api: FakeApi, there: list[Source], begin: Callable[..., LogStream], tmp_path: Path
) -> None:
    api.written["ray-worker"] = ("Traceback",)
    there[:] = [HEAD, replace(WORKER, restarts=4), replace(REDIS, ended=True)]
    begin()
    wait_for(lambda: set(api.programs) == {"pod-h", "pod-a"})
    assert api.once == [], "that was before"

    there[:] = [HEAD, replace(WORKER, id="id-a6", restarts=6)]
    output_of(api, "pod-a", 1).say(stamped(1, "sixth"))
    wait_for(lambda: "sixth" in text_of(tmp_path / "logs" / "worker-1_pod-a_restart-6" / "container.log"))
    wait_for(lambda: "Traceback" in text_of(tmp_path / "logs" / "worker-1_pod-a_restart-5" / "container.log"))
    there[:] = [HEAD, replace(WORKER, id="id-a7", restarts=7, ended=True)]
    wait_for(lambda: "Traceback" in text_of(tmp_path / "logs" / "worker-1_pod-a_restart-7" / "container.log"))
    time.sleep(0.2)
    assert api.once == [("pod-a", "ray-worker", True), ("pod-a", "ray-worker", False)]
    assert len(api.programs["pod-a"]) == 2, "nothing can be run in one that has ended"


def test_what_stands_alongside_the_first_container_has_a_file_alongside_its_output(
    api: FakeApi, there: list[Source], begin: Callable[..., LogStream], tmp_path: Path
) -> None:
    init = replace(WORKER, container="wait-gcs-ready", id="id-i", has_files=False, is_main=False)
    api.written["wait-gcs-ready"] = ("GCS is ready",)
    there[:] = [HEAD]
    begin()
    there += [replace(init, ended=True), replace(init, id="id-s", container="sidecar", restarts=2), WORKER]
    logs = tmp_path / "logs" / "worker-1_pod-a"
    wait_for(lambda: "GCS is ready" in text_of(logs / "container-wait-gcs-ready.log"))
    wait_for(lambda: len(api.outputs.get("pod-a", ())) == 2)
    for output in api.outputs["pod-a"]:
        output.say(stamped(1, "text"))
    wait_for(lambda: "text" in text_of(logs / "container-sidecar_restart-2.log"))
    wait_for(lambda: "text" in text_of(logs / "container.log"))
    assert sorted(path.name for path in (tmp_path / "logs").iterdir()) == ["worker-1_pod-a"]


def test_a_container_goes_by_the_name_that_it_has_now(
    api: FakeApi, there: list[Source], begin: Callable[..., LogStream], tmp_path: Path
) -> None:
    there[:] = [replace(HEAD, node="head of new")]
    stream = begin()
    since = clock.now()
    program_of(api, "pod-h").say(("gcs_server.out", 7, 3, "up\n"))
    wait_for(lambda: stream.lines(["*"], "", since, node="head of new", but=()) == ["head of new: gcs_server.out: up"])
    there[:] = [HEAD]
    wait_for(lambda: stream.lines(["*"], "", since, node="head", but=()) == ["head: gcs_server.out: up"])
    assert (tmp_path / "logs" / "head_of_new_pod-h" / "gcs_server.out").exists()
    assert len(api.programs["pod-h"]) == 1


def test_the_last_lines_of_a_container_that_is_gone_are_taken_and_can_be_found(
    api: FakeApi, there: list[Source], begin: Callable[..., LogStream]
) -> None:
    stream = begin()
    since = clock.now()
    program, output = program_of(api, "pod-a"), output_of(api, "pod-a")
    program.say(("serve/replica_app_Pid_x.log", 7, 3, "ERROR one\nINFO two\n"))
    there.remove(WORKER)
    wait_for(lambda: "id-a" in stream._containers and stream._containers["id-a"].gone_at is not None)
    program.say(("serve/replica_app_Pid_x.log", 7, 9, "ERROR last words\n"))
    output.say(stamped(1, "ERROR killed"))
    program.end()
    output.end()

    def found() -> list[str]:
        return stream.lines(["serve/*"], "ERROR", since, node="worker-1", but=())

    lines = ["worker-1: replica_app_Pid_x.log: ERROR one", "worker-1: replica_app_Pid_x.log: ERROR last words"]
    wait_for(lambda: found() == lines)
    time.sleep(0.3)
    assert len(api.programs["pod-a"]) == len(api.outputs["pod-a"]) == 1, "what is gone is not asked for again"
    stream.close()
    assert found() == lines
    assert stream.lines(["serve/*"], "ERROR", since, node="head", but=()) == []
    assert stream.lines(["serve/*"], "ERROR", since, node=None, but=["id-a"]) == []


def test_lines_of_several_nodes_are_in_order_of_time(api: FakeApi, begin: Callable[..., LogStream]) -> None:
    stream = begin()
    wall = time.time()

    def line(later: float, text: str) -> str:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(wall + later)) + f",000 {text}\n"

    program_of(api, "pod-h").say(("gcs_server.out", 1, 9, line(1, "a") + line(3, "c")))
    program_of(api, "pod-a").say(("raylet.out", 1, 9, line(2, "b")))

    def found() -> list[str]:
        lines = stream.lines(["*.out"], "", clock.now() - 60, node=None, but=())
        return [text.rpartition(" ")[2] for text in lines]

    wait_for(lambda: found() == ["a", "b", "c"])


def test_what_redis_and_the_operator_say_is_kept_and_not_mixed_with_rays_lines(
    api: FakeApi, begin: Callable[..., LogStream], tmp_path: Path
) -> None:
    stream = begin()
    output_of(api, "pod-r").say(stamped(1, "ERROR of redis"))
    wait_for(lambda: "of redis" in text_of(tmp_path / "logs" / "redis_pod-r" / "container.log"))
    assert stream.lines(["*.log"], "ERROR", 0.0, node=None, but=()) == []


def test_a_program_that_was_broken_off_is_told_what_was_read(
    api: FakeApi, begin: Callable[..., LogStream], tmp_path: Path
) -> None:
    stream = begin()
    since = clock.now()
    program = program_of(api, "pod-a")
    assert not stream.has_all("id-a", since)
    program.say(("raylet.out", 7, 300, "one\n"), ("worker.out", 8, 12, "two\n"))
    wait_for(lambda: stream.has_all("id-a", since))
    assert not stream.has_all("id-a", since - 1000.0), "it was not there then"
    assert not stream.has_all("id-of-nobody", since)
    program.coming.put("no JSON")
    again = program_of(api, "pod-a", 1)
    assert again.offsets == "7:300,8:12"
    assert not stream.has_all("id-a", since)
    again.say(("raylet.out", 7, 320, "three\n"))
    wait_for(lambda: text_of(tmp_path / "logs" / "worker-1_pod-a" / "raylet.out") == "one\nthree\n")


def test_output_that_was_broken_off_goes_on_without_a_line_twice(
    api: FakeApi, begin: Callable[..., LogStream], tmp_path: Path
) -> None:
    begin()
    first = output_of(api, "pod-a")
    first.say(stamped(1, "one"), stamped(2, "two"))
    first.end()
    second = output_of(api, "pod-a", 1)
    second.say(stamped(1, "one"), stamped(2, "two"), stamped(3, "three"))
    second.say(stamped(3, "three at the same moment"))
    log = tmp_path / "logs" / "worker-1_pod-a" / "container.log"
    wait_for(lambda: "moment" in text_of(log))
    assert [line.partition(" ")[2] for line in text_of(log).splitlines()] == [
        "one",
        "two",
        "three",
        "three at the same moment",
    ]


def test_a_container_that_does_not_answer_yet_is_asked_again(
    api: FakeApi, begin: Callable[..., LogStream], tmp_path: Path
) -> None:
    api.refused.add("pod-a")
    begin()
    wait_for(lambda: [pod for _, pod, _ in api.asked].count("pod-a") > 2)
    api.refused.clear()
    output_of(api, "pod-a").say(stamped(1, "up"))
    program_of(api, "pod-a").say(("raylet.out", 7, 3, "up\n"))
    wait_for(lambda: text_of(tmp_path / "logs" / "worker-1_pod-a" / "raylet.out") == "up\n")
    wait_for(lambda: bool(text_of(tmp_path / "logs" / "worker-1_pod-a" / "container.log")))


def test_what_this_user_may_not_is_not_tried(api: FakeApi, begin: Callable[..., LogStream]) -> None:
    begin(LogAccess(output=False))
    wait_for(lambda: set(api.programs) == {"pod-h", "pod-a"})
    begin(LogAccess(output=False, files=False)).close()
    assert api.asked == []
    assert sum(map(len, api.programs.values())) == 2


def test_the_operators_output_is_another_right_than_that_of_rays_pods(
    api: FakeApi, begin: Callable[..., LogStream]
) -> None:
    begin(LogAccess(output=False, operator_namespace="ray-system"))
    wait_for(lambda: bool(api.asked))
    assert {pod for _, pod, _ in api.asked} == {"pod-o"}


def test_an_api_server_that_is_silent_ends_nothing(api: FakeApi, tmp_path: Path) -> None:
    answers: list[list[Source] | ObservationError] = [[WORKER], ObservationError("silent"), [WORKER, HEAD]]

    def sources() -> list[Source]:
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, ObservationError):
            raise answer
        return answer

    stream = LogStream(cast("KubeApi", api), LogAccess(), sources, tmp_path)
    program_of(api, "pod-h")
    program_of(api, "pod-a").say(("raylet.out", 7, 3, "on and on\n"))
    wait_for(lambda: text_of(tmp_path / "worker-1_pod-a" / "raylet.out") == "on and on\n")
    stream.close()
    assert len(api.programs["pod-a"]) == 1
