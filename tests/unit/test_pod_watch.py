from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import cast

import pytest

from pytest_serve_chaos.cluster.kubernetes.client import pod_watch
from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.client.pod_watch import PodWatch
from pytest_serve_chaos.errors import ObservationError
from pytest_serve_chaos.model import Json

RAY: dict[str, Json] = {"part": "ray"}


def item(uid: str, version: int = 1, *, phase: str = "Running", **labels: str) -> dict[str, Json]:
    carried: dict[str, Json] = {**labels} if labels else RAY
    return {
        "metadata": {"name": f"pod-{uid}", "uid": uid, "resourceVersion": str(version), "labels": carried},
        "status": {"phase": phase},
    }


class FakeApi:
    """Answers each request for a list or a watch with what comes next; the last watch waits to be ended.

    Where no list is left, it refuses.
    """

    namespace = "serve-chaos"

    def __init__(self, lists: list[list[dict[str, Json]]], watches: list[list[dict[str, Json]] | Exception]) -> None:
        self.lists = lists
        self.watches = watches
        self.versions: list[str] = []
        self.gate = threading.Event()

    @property
    def pod_changes(self) -> FakeApi:
        return self

    def all(self) -> dict[str, Json]:
        if not self.lists:
            raise ObservationError("refused again")
        items: list[Json] = [*self.lists.pop(0)]
        return {"items": items, "metadata": {"resourceVersion": "100"}}

    def since(self, version: str, *, seconds: int) -> Iterator[dict[str, Json]]:
        self.versions.append(version)
        if not self.watches:
            self.gate.wait(0.02)
            return
        events = self.watches.pop(0)
        if isinstance(events, Exception):
            raise events
        yield from events


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pod_watch, "_AGAIN_AFTER", 0.01)


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 5.0
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def names(watch: PodWatch, **labels: str) -> list[str]:
    return [pod.name for pod in watch.pods(labels)]


def test_pods_come_change_and_go() -> None:
    events: list[dict[str, Json]] = [
        {"type": "ADDED", "object": item("b", 101)},
        {"type": "MODIFIED", "object": item("a", 102, phase="Failed")},
        {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "103"}}},
        {"type": "DELETED", "object": item("b", 104)},
        {"type": "ADDED", "object": item("c", 105, part="redis")},
    ]
    fake = FakeApi([[item("a")]], [events[:3], events[3:]])
    watch = PodWatch(cast("KubeApi", fake))
    wait_for(lambda: names(watch, part="redis") == ["pod-c"])
    assert [(p.name, p.phase) for p in watch.pods({"part": "ray"})] == [("pod-a", "Failed")]
    wait_for(lambda: len(fake.versions) > 2)
    assert fake.versions[:3] == ["100", "103", "105"]
    assert watch.gone("b") is not None
    assert (watch.gone("a"), watch.gone("never there")) == (None, None)
    watch.close()


@pytest.mark.parametrize(
    "end",
    [ObservationError("broken off"), [{"type": "ERROR", "object": {"code": 410, "message": "too old"}}]],
    ids=["broken-off", "too-old"],
)
def test_a_watch_that_may_have_missed_something_begins_anew(end: list[dict[str, Json]] | Exception) -> None:
    fake = FakeApi([[item("a")], [item("b")]], [end])
    watch = PodWatch(cast("KubeApi", fake))
    wait_for(lambda: names(watch, part="ray") == ["pod-b"])
    assert watch.gone("a") is not None, "the new list lacks it"
    assert watch.gone("b") is None
    watch.close()


def test_what_was_said_long_ago_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pod_watch, "_STALE", 0.1)
    watch = PodWatch(cast("KubeApi", FakeApi([[item("a")]], [ObservationError("refused")])))
    wait_for(lambda: watch._trouble == "refused again")
    time.sleep(0.1)
    with pytest.raises(ObservationError, match="refused again"):
        watch.pods({})
    watch.close()
