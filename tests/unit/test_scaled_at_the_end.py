"""The end of an experiment on an app that Serve scales: what it took away is no problem, and what died is."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import cast

import pytest

from pytest_serve_chaos.events import ComponentCame, ComponentGone, Event, Problem, RedundancyBack, Remark, Rescaled
from pytest_serve_chaos.faults.injection import Injection
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.final_check import look_at_the_end
from pytest_serve_chaos.model import Component, Expectations, Identity, Topology
from pytest_serve_chaos.observe.observer import Report
from tests.unit.rigs import rig_around

APP = "app#App"


def replica(number: int, node: str = "worker-1") -> Component:
    return Component("replica", node, Identity("process", ("b", str(number), "1")), number, deployment=APP)


@dataclass
class Watched:
    topology: Topology
    report: Report = field(default_factory=Report)

    def sample(self) -> Topology:
        return self.topology


def at_the_end(now: tuple[Component, ...], before: tuple[Component, ...], *events: Event) -> Rig:
    """The rig at the end of an experiment whose fault was asked for at 1.0, with redundancy back at 2.0."""
    rig = rig_around(watcher=Watched(Topology(9.0, now)))
    rig.health.expect(replace(rig.health.shape, autoscaled={APP: (1, 4)}, replicas={APP: len(before)}))
    found: list[Event] = [RedundancyBack("back", at=2.0), *events]
    for event in found:
        rig.log.add(event)
    injection = SimpleNamespace(
        rig=rig, asked=1.0, before=Topology(0.5, before), missing=list, fault=SimpleNamespace(victims=())
    )
    look_at_the_end(cast("Injection", injection), Expectations())
    return rig


SPREAD = (replica(1, "worker-1"), replica(2, "worker-2"), replica(3, "worker-1"))
DOWN = Rescaled("fewer", at=3.0, what=APP, before=3, now=1)


@pytest.mark.parametrize(("events", "kind"), [((DOWN,), Remark), ((), Problem)], ids=["scaled down", "not scaled"])
def test_replicas_that_are_together_because_serve_wants_fewer_are_no_problem(
    events: tuple[Rescaled, ...], kind: type[Remark] | type[Problem]
) -> None:
    rig = at_the_end(SPREAD[:1], SPREAD, *events)
    said: list[Event] = [*rig.log.of(Problem), *rig.log.of(Remark)]
    assert [type(one) for one in said] == [kind]
    assert said[0].text.startswith(f"{APP}: the only replica is on worker-1, before 2/1")


def test_replicas_that_were_together_before_are_no_problem_whatever_the_first_shape_was() -> None:
    rig = at_the_end(tuple(replica(n) for n in (1, 2, 3, 4)), (replica(1), replica(2)))
    assert not rig.log.has(Problem, Remark)


def dies(number: int, at: float, node: str = "worker-1") -> tuple[ComponentCame, ComponentGone]:
    one = replica(number, node)
    return ComponentCame("came", at=at, component=one), ComponentGone("gone", at=at + 0.1, component=one)


@pytest.mark.parametrize(
    ("node", "where"), [("worker-1", "worker-1"), ("worker-2", "worker-1 and worker-2")], ids=["there", "elsewhere"]
)
def test_a_replica_that_dies_again_and_again_is_found_on_whichever_node_and_where_serve_scales(
    node: str, where: str
) -> None:
    rig = at_the_end(SPREAD, SPREAD, *dies(11, 3.0), *dies(12, 4.0, node))
    assert [p.text for p in rig.log.of(Problem)] == [
        f"replica {APP} on {where} died again and again: 2 times since redundancy was first back"
    ]


def test_two_that_were_there_together_and_died_once_each_did_not_die_again_and_again() -> None:
    """Both succeeded victims before redundancy was back; no process dies twice."""
    victims = [replica(11), replica(12)]
    events: list[Event] = [ComponentCame("came", at=1.5, component=one) for one in victims]
    events += [ComponentGone("gone", at=at, component=one) for at, one in zip((3.0, 4.0), victims, strict=True)]
    assert not at_the_end(SPREAD, SPREAD, *events).log.has(Problem)
    assert at_the_end(SPREAD, SPREAD, *events, *dies(13, 5.0)).log.has(Problem)


def test_as_many_as_serve_wants_fewer_did_not_die() -> None:
    deaths = [event for number, at in ((11, 4.0), (12, 5.0)) for event in dies(number, at)]
    assert not at_the_end(SPREAD, SPREAD, DOWN, *deaths).log.has(Problem)
    one = replace(DOWN, now=2)
    assert not at_the_end(SPREAD, SPREAD, one, *deaths).log.has(Problem), "once is not again and again"
    more = [event for number, at in ((11, 4.0), (12, 5.0), (13, 6.0)) for event in dies(number, at)]
    assert at_the_end(SPREAD, SPREAD, one, *more).log.has(Problem)
