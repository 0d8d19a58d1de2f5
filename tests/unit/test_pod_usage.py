"""What processes in pods use: a program in each container says it while it is asked."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import cast

import pytest

from pytest_serve_chaos.cluster.haproxy import Generation
from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.rayservice import usage
from pytest_serve_chaos.cluster.kubernetes.rayservice.pods import RayPods
from pytest_serve_chaos.cluster.kubernetes.rayservice.usage import PodUsage, parse
from pytest_serve_chaos.errors import CommandFailed
from pytest_serve_chaos.model import Component, Identity
from pytest_serve_chaos.usage import ProcessUsage

MIB = 2**20


def row(pid: int, *, memory: int = 50, started: int = 5000) -> list[float]:
    return [pid, started, memory * MIB, 1.5, 20, 8, 4]


class FakeExec:
    """The programs in some pods: what each prints, run after run; one that has printed all waits to be stopped."""

    def __init__(self, **runs: list[list[object]]) -> None:
        self.runs = runs
        self.running: set[str] = set()
        self.started = 0

    def follow(
        self, pod: str, container: str, command: Sequence[str], *, until: threading.Event, patience: float
    ) -> Iterator[str]:
        del container, patience
        self.started += 1
        if not self.runs[pod]:
            raise CommandFailed("the container is gone")
        self.running.add(pod)
        yield from (json.dumps(one) for one in self.runs[pod].pop(0))
        if not self.runs[pod]:
            until.wait(20.0)
        self.running.discard(pod)


def pods_of(*names: str, shares: str = "") -> RayPods:
    """Pods with a container each, as the class that knows them shows them."""
    pods = [SimpleNamespace(name=name, uid=f"uid-{name}", shares_processes=shares) for name in names]
    live = [(pod.name, pod, SimpleNamespace(name="ray", id=f"{pod.name}-0123456789abcdef")) for pod in pods]
    return cast("RayPods", SimpleNamespace(live_named=lambda: live))


def process(pod: str, pid: int, *, started: int = 5000) -> Identity:
    return Identity("process", (f"uid-{pod}", f"{pod}-0123456789abcdef"[:12], str(pid), str(started)))


def replica(pod: str, pid: int, *, started: int = 5000) -> Component:
    return Component("replica", pod, process(pod, pid, started=started), pid, deployment="app#App")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "_AGAIN_AFTER", 0.01)


def wait_for(seen: Callable[[], object]) -> None:
    end = time.monotonic() + 5.0
    while not seen():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_each_process_is_known_by_its_container_pid_and_start_time() -> None:
    fake = FakeExec(head=[[[]]], worker=[[[row(7), row(8, memory=60)]]])
    shows = PodUsage(cast("KubeApi", fake), pods_of("head", "worker"), lambda: ())
    asked = [replica("worker", 7), replica("worker", 8, started=6000), replica("head", 7)]

    wait_for(lambda: shows.usage(asked))
    assert shows.usage(asked) == (
        ProcessUsage("replica app#App on worker", process("worker", 7), 7, 50 * MIB, 1.5, 20, 8, 4),
    )
    shows.close()
    wait_for(lambda: not fake.running)
    assert shows.usage(asked) == ()


def test_haproxy_is_watched_too() -> None:
    one = Generation("worker", process("worker", 9), 9, None, True, "/tmp")
    shows = PodUsage(cast("KubeApi", FakeExec(worker=[[[row(9)]]])), pods_of("worker"), lambda: (one,))

    wait_for(lambda: [found.place for found in shows.usage([])] == ["haproxy on worker"])
    shows.close()


def test_what_was_reported_before_a_program_ended_is_not_reported_again() -> None:
    """A container that is gone would look like one whose processes do nothing."""
    fake = FakeExec(worker=[[[row(7)]], []])
    shows = PodUsage(cast("KubeApi", fake), pods_of("worker"), lambda: ())

    shows.usage([])
    wait_for(lambda: fake.started > 1)
    wait_for(lambda: not shows.usage([replica("worker", 7)]))
    shows.close()


def test_programs_end_when_nobody_asks_any_more_and_start_again_with_the_next_question(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake = FakeExec(worker=[[[row(7)], [row(7)]], [[row(7)]]])
    shows = PodUsage(cast("KubeApi", fake), pods_of("worker"), lambda: ())
    monkeypatch.setattr(usage, "_UNASKED", -1.0)
    shows.usage([])
    wait_for(lambda: fake.started == 1 and not fake.running)

    monkeypatch.setattr(usage, "_UNASKED", 60.0)
    wait_for(lambda: shows.usage([replica("worker", 7)]))
    shows.close()


def test_nothing_is_run_where_it_would_see_processes_of_others() -> None:
    fake = FakeExec(worker=[])
    assert PodUsage(cast("KubeApi", fake), pods_of("worker", shares="hostPID"), lambda: ()).usage([]) == ()
    assert not fake.started


@pytest.mark.parametrize(
    "line", ["no JSON", "{}", "[[1, 2]]", '[[1, 2, 3, "x", 5, 6, 7]]', "[[1, 2, 3, 4, 5, 6, null]]"]
)
def test_nonsense_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"line|not a list|not what a process uses"):
        parse(line)
