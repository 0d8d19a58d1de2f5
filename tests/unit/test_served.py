"""Which replicas served before the fault, and that what was sent before has its answer first."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, cast

import pytest

from pytest_serve_chaos import clock, load
from pytest_serve_chaos.checks.verdict import judge
from pytest_serve_chaos.cluster.capabilities import SHOWS_REPLICA_LOGS
from pytest_serve_chaos.events import ComponentCame, Demanded, FaultLanded
from pytest_serve_chaos.faults.answers import answers_of, answers_to
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.load import Load, Traffic
from pytest_serve_chaos.model import Component, Expectations, Identity, Request, Slowness, Topology
from pytest_serve_chaos.observe.observer import Report
from pytest_serve_chaos.steady import idle_replicas
from tests.unit.histories import FAULT, Story
from tests.unit.rigs import cluster_with, rig_around

PARENT, CHILD = "composed#Parent", "composed#Child"


def replica(deployment: str, number: int) -> Component:
    identity = Identity("process", ("boot", deployment, str(number)))
    return Component(
        "replica", "worker-1", identity, pid=number, deployment=deployment, replica=f"{deployment}#{number}"
    )


@dataclass
class Watched:
    """A watcher that always sees the same replicas."""

    replicas: tuple[Component, ...]
    report: Report = field(default_factory=Report)

    def sample(self) -> Topology:
        return Topology(clock.now(), self.replicas)


@dataclass
class Logs:
    """A cluster of which nothing but the logs of its replicas is looked at."""

    lines: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def replica_log(self, replica: Component, *, since: float) -> tuple[str, ...]:
        return self.lines.get(replica.replica or "", ())


def rig(*replicas: Component, logs: Logs | None = None) -> Rig:
    return rig_around(cluster_with(SHOWS_REPLICA_LOGS.by(logs or Logs())), Watched(replicas))


def answered(rig: Rig, replica: str | None, parent: str | None = None, error: str | None = None) -> None:
    now = clock.now()
    rig.history.add_request(Request(0, "fresh", now, now, now, status=200, error=error, replica=replica, parent=parent))


def test_an_answer_counts_for_the_child_that_gave_it_and_for_the_parent_that_asked() -> None:
    parent, child = replica(PARENT, 1), replica(CHILD, 1)
    r = rig(parent, child)
    answered(r, child.replica, parent.replica)

    assert answers_of(r, [parent], since=0.0) == 1
    assert answers_of(r, [child], since=0.0) == 1
    assert answers_of(r, [replica(PARENT, 2)], since=0.0) == 0


def test_where_no_answer_names_a_replica_its_log_says_whether_it_served() -> None:
    child, idle = replica(CHILD, 1), replica(CHILD, 2)
    line = "INFO 2026-01-01 00:00:00,000 composed_Child 1 0f-1 -- CALL who OK 0.4ms"
    r = rig(child, idle, logs=Logs({f"{CHILD}#1": (line, "INFO no request"), f"{CHILD}#2": ("INFO no request",)}))
    answered(r, f"{PARENT}#1")

    assert answers_of(r, [child], since=0.0) == 1
    assert answers_of(r, [idle], since=0.0) == 0


def test_of_a_deployment_that_answers_name_its_log_says_nothing_more() -> None:
    """It has a line for each request: those of other traffic, and those that are asked of one proxy alone, as well."""
    one, other = replica(CHILD, 1), replica(CHILD, 2)
    line = "INFO 2026-01-01 00:00:00,000 composed_Child 1 0f-1 -- GET / 200 0.4ms"
    r = rig(one, other, logs=Logs({f"{CHILD}#2": (line,)}))
    answered(r, one.replica)
    assert answers_of(r, [other], since=0.0) == 0


def test_what_other_traffic_got_is_not_what_the_judged_traffic_got() -> None:
    one, other = replica(CHILD, 1), replica(CHILD, 2)
    r = rig(one, other)
    r.traffic.begin("traffic-1")
    r.traffic.begin("")
    for victim, source in ((one, ""), (other, "traffic-1"), (other, "traffic-1")):
        now = clock.now()
        r.history.add_request(Request(0, "fresh", now, now, now, 200, replica=victim.replica, source=source))
    assert [answers_of(r, [victim], since=0.0) for victim in (one, other)] == [1, 0]
    assert [answers_to(r, "traffic-1", [victim], since=0.0) for victim in (one, other)] == [0, 2]
    assert r.traffic.serving([one, other]) == [one]
    assert r.traffic.serving([other, replica(CHILD, 3)]) == [other], "of a deployment that only other traffic asks"


@pytest.mark.parametrize(("judged", "outcome"), [("", "inconclusive"), ("traffic-2", "passed"), ("third", "passed")])
def test_a_victim_that_served_only_other_traffic_shows_nothing(judged: str, outcome: str) -> None:
    story = Story().without("landed")
    served = {"": 0, "traffic-1": 0, "traffic-2": 7} if judged else {"": 0, "traffic-2": 7}
    first = served.pop("traffic-1" if judged == "third" else "")
    landed = FaultLanded("down", served=9 if judged == "third" else first, served_others=served)
    story.add(0.05, landed)
    if judged:  # what is judged of traffic by hand is what was sent until it is demanded
        story.events = [
            replace(e, source=judged, at=FAULT + 50.0) if isinstance(e, Demanded) else e for e in story.events
        ]
    story.requests = [replace(request, source=judged) for request in story.requests]
    assert judge(story.history(), story.experiment).outcome == outcome


@pytest.mark.parametrize(("others", "outcome"), [({"traffic-2": 7}, "measured"), ({"traffic-2": 0}, "inconclusive")])
def test_where_nothing_is_demanded_of_requests_a_victim_may_serve_any_traffic(
    others: dict[str, int], outcome: str
) -> None:
    nothing = Expectations(
        availability=None, longest_outage=None, traffic_back=None, persistent_availability=None, redundancy_back=None,
        settled=False, spread=False,
    )  # fmt: skip
    story = Story(expectations=nothing).without("landed")
    story.add(0.05, FaultLanded("down", served=0, served_others=others))
    assert judge(story.history(), story.experiment).outcome == outcome


def test_the_experiments_own_traffic_is_judged_live_while_other_traffic_runs() -> None:
    traffic = rig().traffic
    traffic.begin("traffic-1")
    traffic.slowness = Slowness(after=7.0)
    traffic.begin("")
    traffic.begin("traffic-2")
    assert (traffic.source, traffic.slowness) == ("", Slowness())
    traffic.end("")
    assert (traffic.source, traffic.slowness.after) == ("traffic-1", 7.0)


def test_a_parent_that_asks_nobody_any_more_is_idle_though_its_children_answer() -> None:
    parents, child = (replica(PARENT, 1), replica(PARENT, 2)), replica(CHILD, 1)
    r = rig(*parents, child)
    for parent in parents:
        answered(r, child.replica, parent.replica)
    later = clock.now()
    answered(r, child.replica, parents[0].replica)

    assert idle_replicas(r, later, chance=0.0) == f"{parents[1].name} (PID 2)"


def test_a_replica_that_answers_wrongly_is_not_idle() -> None:
    right, wrong = replica(CHILD, 1), replica(CHILD, 2)
    r = rig(right, wrong)
    answered(r, right.replica)
    later = clock.now()
    answered(r, right.replica)
    answered(r, wrong.replica, error="WrongAnswer")

    assert idle_replicas(r, later, chance=0.0) == ""


@pytest.mark.parametrize(
    ("scales", "came_before", "idle"),
    [(True, 1.0, False), (True, 9.0, True), (False, 1.0, True)],
    ids=["it just came", "it had its time", "a fixed number"],
)
def test_a_replica_that_came_because_serve_scales_gets_time_to_answer(
    scales: bool, came_before: float, idle: bool
) -> None:
    old, new = replica(CHILD, 1), replica(CHILD, 2)
    r = rig(old, new)
    if scales:
        r.health.expect(replace(r.health.shape, autoscaled={CHILD: (1, 4)}))
    answered(r, old.replica)
    now = clock.now()
    r.log.add(ComponentCame("it came", at=now - came_before, component=new))
    assert idle_replicas(r, now - 10.0, chance=5.0) == (f"{new.name} (PID 2)" if idle else "")


if TYPE_CHECKING:
    from pytest_serve_chaos.traffic.generator import Generator


def in_flight(index: int, source: str, *, since: float) -> Request:
    return Request(index, "fresh", since, since, since, source=source)


def running(monkeypatch: pytest.MonkeyPatch) -> Traffic:
    """Traffic that is sent, whose requests may take 0.2 s."""
    traffic = Traffic(rig(), Load(timeout=0.2), source="mine")
    monkeypatch.setattr(traffic, "_generator", cast("Generator", object()))
    monkeypatch.setattr(load, "_TO_END", 0.0)
    return traffic


def test_it_is_over_when_what_was_in_flight_has_ended_though_others_are(monkeypatch: pytest.MonkeyPatch) -> None:
    traffic = running(monkeypatch)
    begun = clock.now()
    history = traffic.rig.history
    history.open_request(in_flight(1, "another", since=begun - 1))
    history.open_request(in_flight(2, "mine", since=begun + 60))
    traffic.wait_answered()
    assert clock.now() - begun < 0.2


def test_a_request_that_hangs_is_waited_for_as_long_as_one_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    traffic = running(monkeypatch)
    begun = clock.now()
    traffic.rig.history.open_request(in_flight(1, "mine", since=begun - 1))
    traffic.wait_answered()
    assert clock.now() - begun >= 0.2


def test_without_traffic_there_is_nothing_to_wait_for() -> None:
    Traffic(rig(), Load(), wait=False).wait_answered()
