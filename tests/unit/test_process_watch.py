from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import cast

import pytest

from pytest_serve_chaos import clock
from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.rayservice import process_watch
from pytest_serve_chaos.cluster.kubernetes.rayservice.process_watch import Place, ProcessWatch, Row
from pytest_serve_chaos.errors import CommandFailed, ObservationError, SafetyError, ServeChaosError

REPLICA = [113, 5000, "R", "ray::ServeReplica:app:Pid", 7]
ROW = Row(113, 5000, "replica", "app#Pid", False, 7, "ray::ServeReplica:app:Pid")


class FakeExec:
    """The programs in some pods: what each prints, run after run; a run that has printed all waits to be stopped."""

    def __init__(self, **runs: list[list[str] | ServeChaosError]) -> None:
        self.runs = runs
        self.running: set[str] = set()

    def follow(
        self, pod: str, container: str, command: Sequence[str], *, until: threading.Event, patience: float
    ) -> Iterator[str]:
        lines = self.runs[pod].pop(0) if self.runs[pod] else []
        if isinstance(lines, ServeChaosError):
            raise lines
        self.running.add(pod)
        yield from lines
        if not self.runs[pod]:
            until.wait(20.0)
        self.running.discard(pod)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_watch, "_AGAIN_AFTER", 0.01)


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 5.0
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def places(*pods: str) -> dict[str, Place]:
    return {f"id-{pod}": Place(pod, "ray", f"uid-of-{pod}") for pod in pods}


def test_each_container_tells_of_its_own_processes() -> None:
    fake = FakeExec(a=[[json.dumps([REPLICA])]], b=[["[]"]])
    watch = ProcessWatch(cast("KubeApi", fake))
    wait_for(lambda: watch.rows(places("a", "b")) == {"id-a": (ROW,), "id-b": ()})
    watch.close()
    assert fake.running == set()


def test_a_container_that_has_not_told_of_any_is_not_taken_for_an_empty_one() -> None:
    watch = ProcessWatch(cast("KubeApi", FakeExec(a=[[]])))
    assert watch.rows(places("a")) == {}
    watch.close()


def test_what_was_told_last_stays_until_a_program_that_was_broken_off_is_back() -> None:
    fake = FakeExec(a=[CommandFailed("not yet"), [json.dumps([REPLICA])], ["no JSON"], CommandFailed("gone"), []])
    watch = ProcessWatch(cast("KubeApi", fake))
    wait_for(lambda: bool(watch.rows(places("a"))))
    wait_for(lambda: not fake.runs["a"])
    assert watch.rows(places("a")) == {"id-a": (ROW,)}
    watch.close()


def test_a_container_that_reports_nothing_any_more_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the right to run programs was taken away in the middle of a run."""
    watch = ProcessWatch(cast("KubeApi", FakeExec(a=[[json.dumps([REPLICA])]], b=[["[]"]])))
    wait_for(lambda: len(watch.rows(places("a", "b"))) == 2)
    assert watch.silent() == ()
    later = clock.now() + 41
    monkeypatch.setattr(clock, "now", lambda: later)
    assert watch.silent() == tuple(f"pod {pod} has not reported its processes for 41 s" for pod in "ab")
    watch.close()


@pytest.mark.parametrize(
    "trouble", [ObservationError("the API server was silent"), SafetyError("the guard does not know the pod yet")]
)
def test_a_guard_that_cannot_say_yes_at_once_does_not_end_the_watch(trouble: ServeChaosError) -> None:
    watch = ProcessWatch(cast("KubeApi", FakeExec(a=[trouble, [json.dumps([REPLICA])]])))
    wait_for(lambda: watch.rows(places("a")) == {"id-a": (ROW,)})
    watch.close()


def test_a_container_that_is_not_there_any_more_is_left() -> None:
    fake = FakeExec(a=[["[]"]], b=[["[]"]])
    watch = ProcessWatch(cast("KubeApi", fake))
    wait_for(lambda: len(watch.rows(places("a", "b"))) == 2)
    assert list(watch.rows(places("b"))) == ["id-b"]
    wait_for(lambda: fake.running == {"b"})
    watch.close()
    assert watch.rows(places("a")) == {}
