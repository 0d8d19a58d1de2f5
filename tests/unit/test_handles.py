"""The aftershock of handles: a Serve that does not answer has not said that there are none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import pytest

from pytest_serve_chaos.cluster.base import Cluster
from pytest_serve_chaos.cluster.rest import ReplicaRow, ServeStatus
from pytest_serve_chaos.errors import Inconclusive
from pytest_serve_chaos.model import Component, Identity, Topology
from pytest_serve_chaos.observe import handles
from pytest_serve_chaos.observe.handles import HandleCheck, check_handles, children_of
from pytest_serve_chaos.observe.observer import Report
from pytest_serve_chaos.observe.watcher import Watcher

NO_ANSWER = Report()
NO_APPS = Report(serve=ServeStatus({}, {}, {}, {}, (), {}, None))
RUNNING = (ReplicaRow("x", "app", "Child", "RUNNING", None, "w", 1),)
SIMPLE = Report(serve=ServeStatus({"app": "RUNNING"}, {}, {}, {}, RUNNING, {}, "c"))
COMPOSED = Report(
    serve=ServeStatus({"app": "RUNNING"}, {}, {}, {}, RUNNING, {}, "c", handles={"app#Parent": ("app#Child",)})
)


def replica(deployment: str, number: int) -> Component:
    name, identity = f"app#{deployment}", Identity("process", (deployment, str(number)))
    return Component("replica", "worker-1", identity, number, f"a{number}", name, replica=f"{name}#{number}")


@dataclass
class Composed:
    """A parent and its child; what Ray and Serve say comes report after report, and the last one stays.

    Attributes:
        killed: The actors that were killed; each child that was has a successor at once.
    """

    said: Sequence[Report]
    deaf: bool = False
    killed: list[str] = field(default_factory=list)

    @property
    def watcher(self) -> Watcher:
        return cast("Watcher", self)

    @property
    def observer(self) -> Composed:
        return self

    @property
    def report(self) -> Report:
        """The last that was heard, by whoever asked."""
        return self.said[0]

    def refresh(self) -> Report:
        self.said = self.said[1:] or self.said
        return self.report

    def sample(self) -> Topology:
        return Topology(0.0, (replica("Parent", 1), replica("Child", 2 + len(self.killed))))

    def kill_actor(self, actor_id: str, *, no_restart: bool) -> float:
        self.killed.append(actor_id)
        return 0.0

    def replica_log(self, replica: Component, *, since: float) -> tuple[str, ...]:
        requests = ["r1"] if self.deaf and replica.deployment == "app#Parent" else ["r1", f"r{replica.pid}", "r3"]
        if replica.pid == 3:
            requests = ["r3"]
        return tuple(f"INFO replica {request} -- CALL who OK 0.4ms" for request in requests)


def check(composed: Composed) -> HandleCheck:
    return check_handles(cast("Cluster", composed), composed.watcher, since=0.0)


@pytest.mark.parametrize("first", [NO_ANSWER, NO_APPS], ids=["no answer", "no applications"])
def test_who_holds_handles_is_asked_until_serve_says_it(first: Report) -> None:
    composed = Composed([first, first, COMPOSED])
    result = check(composed)
    assert (result.passed, result.children) == (True, ("app#Child",))
    assert composed.killed == ["a2"], "it has looked, and not taken silence for an app without children"


def test_a_parent_that_is_deaf_is_found_though_serve_was_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handles, "REACHED_WITHIN", 0.1)
    result = check(Composed([NO_ANSWER, COMPOSED], deaf=True))
    assert [c.name for c in result.deaf] == [replica("Parent", 1).name]


@pytest.mark.parametrize(
    ("said", "why"), [(NO_ANSWER, "does not answer"), (NO_APPS, "knows no applications")], ids=["silent", "no apps"]
)
def test_a_serve_that_never_says_it_leaves_it_open(said: Report, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handles, "TOLD_WITHIN", 0.0)
    composed = Composed([said])
    with pytest.raises(Inconclusive, match=f"not known whether handles hear the controller: .*{why}"):
        check(composed)
    assert composed.killed == []


def test_an_app_without_handles_has_no_children() -> None:
    assert children_of(Composed([SIMPLE]).watcher) == {}
    assert check(Composed([SIMPLE])).passed
