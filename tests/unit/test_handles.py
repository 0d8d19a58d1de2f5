"""The post-recovery check of handles: a Serve that does not answer has not said that there are none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import pytest

from pytest_serve_chaos.cluster.base import Cluster
from pytest_serve_chaos.cluster.capabilities import KILLS_ACTORS, SHOWS_REPLICA_LOGS
from pytest_serve_chaos.cluster.rest import ReplicaRow, ServeStatus
from pytest_serve_chaos.errors import Inconclusive, Unsupported
from pytest_serve_chaos.model import Component, Identity, Topology
from pytest_serve_chaos.observe import handles
from pytest_serve_chaos.observe.handles import HandleCheck, check_handles, children_of, requests_logged
from pytest_serve_chaos.observe.observer import Report
from pytest_serve_chaos.observe.watcher import Watcher
from tests.unit.rigs import cluster_with

NO_ANSWER = Report()
NO_APPS = Report(serve=ServeStatus({}, {}, {}, {}, (), {}, None))
RUNNING = (ReplicaRow("x", "app", "Child", "RUNNING", None, None, None),)
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
    stale: bool = False
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
        requests = ["r1"] if self.stale and replica.deployment == "app#Parent" else ["r1", f"r{replica.pid}", "r3"]
        if replica.pid == 3:
            requests = ["r3"]
        return tuple(f"INFO replica {request} -- CALL who OK 0.4ms" for request in requests)


def cluster_of(composed: Composed) -> Cluster:
    return cluster_with(KILLS_ACTORS.by(composed), SHOWS_REPLICA_LOGS.by(composed))


def check(composed: Composed, answering: Sequence[str] = ("app#Parent",)) -> HandleCheck:
    return check_handles(cluster_of(composed), composed.watcher, since=0.0, answering=frozenset(answering))


@pytest.mark.parametrize("first", [NO_ANSWER, NO_APPS], ids=["no answer", "no applications"])
def test_who_holds_handles_is_asked_until_serve_says_it(first: Report) -> None:
    composed = Composed([first, first, COMPOSED])
    result = check(composed)
    assert (result.passed, result.children) == (True, ("app#Child",))
    assert composed.killed == ["a2"], "it has looked, and not taken silence for an app without children"


def test_a_parent_that_is_deaf_is_found_though_serve_was_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handles, "REACHED_WITHIN", 0.1)
    result = check(Composed([NO_ANSWER, COMPOSED], stale=True))
    assert [c.name for c in result.stale] == [replica("Parent", 1).name]


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


# -- what the logs do not say -----------------------------------------------------------------------------------


def holds(**children: str) -> Report:
    """Serve says that each of these parents holds a handle to that child."""
    handles = {f"app#{parent}": (f"app#{child}",) for parent, child in children.items()}
    return Report(serve=ServeStatus({"app": "RUNNING"}, {}, {}, {}, RUNNING, {}, "c", handles=handles))


@dataclass
class Logged(Composed):
    """One whose deployments log what a test wants.

    Attributes:
        lines: Deployment -> what each of its replicas logs; a replica that came later logs the same.
    """

    lines: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def sample(self) -> Topology:
        killed = len(self.killed)
        names = ["Parent", "Other", "Child", "Grandchild"]
        return Topology(0.0, tuple(replica(n, 10 * i + (killed if n == "Child" else 0)) for i, n in enumerate(names)))

    def replica_log(self, replica: Component, *, since: float) -> tuple[str, ...]:
        return tuple(self.lines.get(replica.deployment or "", ()))


CALL = "INFO 2026-11-29 13:12:02,498 app_Child x7 0c5f-1 -- CALL who OK 0.4ms"
GET = "INFO 2026-11-29 13:12:02,498 app_Parent x8 0c5f-1 -- GET / 200 3.1ms"
NOT_A_REQUEST = "INFO 2026-11-29 13:12:02,498 app_Child x7 -- Replica is ready"
FIX = (
    "set enable_access_log: true and log_level: INFO in the app's logging_config."
    " To do without the check, demand settled=False."
)


@pytest.mark.parametrize("answering", [["app#Parent"], []], ids=["answers name the app", "answers name nobody"])
def test_where_neither_child_nor_parent_logs_a_request_it_is_unknown(answering: Sequence[str]) -> None:
    composed = Logged([COMPOSED], lines={"app#Child": [NOT_A_REQUEST]})
    result = check(composed, answering)
    assert not result.passed
    assert (result.stale, result.problem, composed.killed) == ((), "", [])
    assert result.text == (
        "whether handles to app#Child hear the controller is unknown: its request log is empty, and that of app#Parent"
        f" as well. To have it checked, {FIX}"
    )


def test_a_child_that_answers_and_logs_nothing_is_unknown() -> None:
    composed = Logged([COMPOSED], lines={"app#Parent": [GET]})
    result = check(composed, ["app#Parent", "app#Child"])
    assert result.unknown.startswith(
        "whether handles to app#Child hear the controller is unknown: it answers, but its request log is empty"
    )
    assert composed.killed == []


def test_parents_that_log_nothing_are_not_taken_for_deaf() -> None:
    composed = Logged([COMPOSED], lines={"app#Child": [CALL]})
    result = check(composed)
    assert result.unknown.startswith(
        "whether handles to app#Child hear the controller is unknown: the request log of app#Parent is empty"
    )
    assert composed.killed == []


def test_a_cluster_that_cannot_show_logs_leaves_it_unknown() -> None:
    result = check_handles(cluster_with(), Composed([COMPOSED]).watcher, 0.0, answering=frozenset())
    assert result.text == (
        "whether handles to app#Child hear the controller is unknown: this backend cannot read the request log of its"
        " replicas. To do without the check, demand settled=False."
    )
    assert not result.passed


def test_a_child_that_its_parents_do_not_call_is_left_alone_and_named() -> None:
    composed = Logged([COMPOSED], lines={"app#Parent": [GET]})
    result = check(composed)
    assert result.passed
    assert (result.children, result.text) == ((), "this traffic does not call app#Child")
    assert composed.killed == []


def test_the_child_of_a_child_that_is_not_called_is_not_called_either() -> None:
    composed = Logged([holds(Child="Grandchild", Parent="Child")], lines={"app#Parent": [GET]})
    result = check(composed)
    assert result.passed
    assert result.not_called == ("app#Child", "app#Grandchild")


def test_an_app_without_traffic_is_left_alone() -> None:
    composed = Logged([COMPOSED])
    result = check(composed, ["other#Front"])
    assert (result.passed, result.not_called, composed.killed) == (True, ("app#Child",), [])


def test_a_second_parent_without_requests_is_not_taken_for_deaf(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handles, "REACHED_WITHIN", 0.1)
    composed = Logged([holds(Parent="Child", Other="Child")], lines={"app#Parent": [GET], "app#Child": [CALL]})
    result = check(composed)
    assert result.passed
    assert result.text == "every parent reached the new replica of app#Child; this traffic does not call app#Other"


# -- logs in JSON -----------------------------------------------------------------------------------------------

# As Ray 2.60 writes it with `logging_config: {encoding: JSON}`, after the file's name as a backend puts it.
JSON_CALL = (
    "worker-1: replica_app_Child_x7k2p9q1.log: "
    '{"asctime": "2026-11-29 13:12:02,498", "levelname": "INFO", "message": "CALL who OK 0.4ms", "filename":'
    ' "replica.py", "lineno": 1499, "process": 7138, "route": "/", "request_id":'
    ' "0c5f4a2e-7a57-4f27-9d57-3f6f3a0b2f0e", "application": "app", "deployment": "app_Child", "replica": "x7k2p9q1",'
    ' "component_name": "replica", "timestamp_ns": 1795957922498195488}'
)
JSON_OTHER = JSON_CALL.replace("CALL who OK 0.4ms", "Replica is ready")


def test_a_request_is_found_in_a_log_in_json() -> None:
    logs = Logged([COMPOSED], lines={"app#Child": [JSON_CALL, JSON_OTHER, '{"message": "cut', '{"message": 3}']})
    child = replica("Child", 1)
    assert requests_logged(cluster_of(logs), [child], since=0.0) == {"0c5f4a2e-7a57-4f27-9d57-3f6f3a0b2f0e"}


def test_the_handles_of_an_app_that_logs_json_are_checked() -> None:
    composed = Logged([COMPOSED], lines={"app#Parent": [JSON_CALL], "app#Child": [JSON_CALL]})
    result = check(composed)
    assert (result.passed, result.children) == (True, ("app#Child",))
    assert len(composed.killed) == 1


def test_a_child_that_must_not_be_lost_is_not_replaced() -> None:
    def admit(replica: Component) -> None:
        raise Unsupported(f"{replica.name} is the last one")

    composed = Composed([COMPOSED])
    with pytest.raises(Unsupported, match="replica app#Child on worker-1 is the last one"):
        check_handles(cluster_of(composed), composed.watcher, 0.0, answering=frozenset({"app#Parent"}), admit=admit)
    assert composed.killed == []
