"""What autoscalers did: what they took away is no loss, what they added replaces nobody, and all else still counts."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_serve_chaos.analysis.identities import kept, missing, replaced
from pytest_serve_chaos.analysis.scaling import NO_SCALING, Scaling, scaling_of
from pytest_serve_chaos.events import (
    WORKERS,
    ComponentCame,
    ComponentGone,
    Event,
    FaultLanded,
    RedundancyBack,
    Rescaled,
)
from pytest_serve_chaos.model import HEAD, Component, Identity, Topology

APP, OTHER = "app#App", "app#Other"


def replica(number: int, node: str = "worker-1", deployment: str = APP) -> Component:
    return Component("replica", node, Identity("process", ("b", str(number), "1")), number, deployment=deployment)


def node(name: str) -> Component:
    return Component("head" if name == HEAD else "worker", name, Identity("process", ("b", name, "1")))


def proxy(name: str) -> Component:
    return Component("proxy", name, Identity("process", ("b", f"proxy-{name}", "1")))


def topology(*components: Component, wanted: int | None = None, pending: int = 0) -> Topology:
    numbers = {} if wanted is None else {APP: wanted}
    return Topology(0.0, components, pending={APP: pending} if pending else {}, wanted=numbers)


def rescaled(at: float, before: int, now: int, what: str = APP) -> Rescaled:
    return Rescaled("", at=at, what=what, before=before, now=now)


ONE, TWO, THREE, FOUR, FIVE = (replica(n) for n in range(1, 6))
BEFORE = topology(ONE, TWO, THREE, FOUR, wanted=4)
VICTIMS = [ONE.identity]


# -- what happened -----------------------------------------------------------------------------------------------------


def test_where_nothing_scales_there_is_nothing() -> None:
    assert scaling_of((), [], None, topology()) == NO_SCALING


def came(at: float, *components: Component) -> list[Event]:
    return [ComponentCame("", at=at, component=component) for component in components]


def test_each_step_down_counts_where_what_was_wanted_between_them_came() -> None:
    events = [rescaled(1.0, 4, 2), rescaled(2.0, 2, 4), *came(2.5, FIVE, replica(6)), rescaled(3.0, 4, 3)]
    events.append(rescaled(4.0, 5, 3, WORKERS))
    for before in (None, replace(BEFORE, components=(*BEFORE.components, *(node(f"worker-{n}") for n in range(5))))):
        found = scaling_of([APP], events, before, topology(wanted=3))
        assert found == Scaling(frozenset({APP}), {APP: 3}, {APP: 3}, 2)


@pytest.mark.parametrize("before", [None, BEFORE], ids=["unseen", "seen"])
def test_a_number_that_goes_up_and_down_takes_no_more_away_than_there_was(before: Topology | None) -> None:
    """Serve takes back what it wanted before that came, so it stops nothing of what was there in addition."""
    swings = [rescaled(1.0, 4, 3), rescaled(2.0, 3, 4), rescaled(3.0, 4, 3)]
    assert scaling_of([APP], swings, before, topology(wanted=3)).stopped == {APP: 1}
    workers = [rescaled(at, a, b, WORKERS) for at, a, b in ((1.0, 4, 3), (2.0, 3, 4), (3.0, 4, 3))]
    nodes = None if before is None else topology(*(node(f"worker-{n}") for n in range(4)))
    assert scaling_of([], workers, nodes, topology()).workers_stopped == 1
    one_came = [*swings[:2], *came(2.5, FIVE), swings[2]]
    assert scaling_of([APP], one_came, before, topology(wanted=3)).stopped == {APP: 2}
    more = [*swings, rescaled(4.0, 3, 2)]
    assert scaling_of([APP], more, before, topology(wanted=2)).stopped == {APP: 2}


def test_what_succeeds_a_victim_is_not_in_addition() -> None:
    hit: list[Event] = [FaultLanded("", at=0.5, victims=(ONE.identity,)), ComponentGone("", at=0.6, component=ONE)]
    events = [*hit, rescaled(1.0, 4, 3), rescaled(2.0, 3, 4), *came(2.5, FIVE), rescaled(3.0, 4, 3)]
    assert scaling_of([APP], events, BEFORE, topology(wanted=3)).stopped == {APP: 1}


@given(st.lists(st.integers(0, 6), max_size=8), st.integers(0, 6))
def test_without_newcomers_no_more_is_taken_away_than_the_lowest_number_leaves(numbers: list[int], there: int) -> None:
    before = topology(*(replica(n) for n in range(there)), wanted=there)
    steps = [there, *numbers]
    events: list[Event] = [rescaled(float(n), a, b) for n, (a, b) in enumerate(itertools.pairwise(steps))]
    stopped = scaling_of([APP], events, before, topology(wanted=steps[-1])).stopped
    assert stopped.get(APP, 0) == there - min(there, *steps)


def test_what_serve_was_about_to_stop_when_the_fault_came_counts_as_taken_away() -> None:
    """Serve wanted two of four already; the two others are stopped a moment later."""
    before = topology(ONE, TWO, THREE, FOUR, wanted=2)
    assert scaling_of([APP], [], before, topology(wanted=2)).stopped == {APP: 2}
    assert scaling_of([APP], [rescaled(1.0, 2, 1)], before, topology(wanted=1)).stopped == {APP: 3}
    starting = topology(ONE, TWO, wanted=4)
    assert scaling_of([APP], [], starting, topology(wanted=4)).stopped == {}
    workers = replace(topology(node("worker-1"), node("worker-2")), wanted={WORKERS: 1})
    assert scaling_of([], [], workers, topology()).workers_stopped == 1


def test_that_one_deployment_gets_fewer_says_nothing_of_another() -> None:
    there = topology(*BEFORE.components, replica(11, deployment=OTHER), replica(12, deployment=OTHER))
    found = scaling_of([APP], [rescaled(1.0, 2, 1, OTHER)], there, topology(wanted=4))
    assert found.stopped == {OTHER: 1}
    assert found.deployments == {APP, OTHER}, "also one that an update changes, and that Serve does not scale"


@pytest.mark.parametrize(
    ("events", "needed"),
    [
        ([rescaled(1.0, 2, 4)], 4),
        ([rescaled(1.0, 2, 4), RedundancyBack("", at=2.0)], 4),
        ([RedundancyBack("", at=2.0), rescaled(3.0, 2, 4)], 2),
        ([RedundancyBack("", at=2.0), rescaled(3.0, 2, 3, OTHER)], 4),
    ],
    ids=["not seen there", "there after the step up", "a step up since all was there", "another deployment"],
)
def test_what_serve_wanted_only_after_all_was_there_may_be_on_its_way(events: list[Event], needed: int) -> None:
    assert scaling_of([APP], events, BEFORE, topology(wanted=4)).needed == {APP: needed}


def test_where_serve_does_not_say_what_it_wants_nothing_is_known_of_it() -> None:
    assert scaling_of([APP], [], BEFORE, topology()).needed == {}
    assert scaling_of([APP], [], BEFORE, None).needed == {}


# -- who was kept ------------------------------------------------------------------------------------------------------


def down_by(number: int, workers: int = 0) -> Scaling:
    return Scaling(frozenset({APP}), {APP: number} if number else {}, {}, workers)


def test_what_serve_takes_away_is_kept_and_no_more_than_that() -> None:
    after = topology(TWO, FIVE, wanted=2)
    assert kept(BEFORE, after, "replica@others", victims=VICTIMS, scaling=down_by(2)).holds
    one_less = kept(BEFORE, after, "replica@others", victims=VICTIMS, scaling=down_by(1))
    assert one_less.reason.startswith("2 of 3 replicas not among the victims not kept")
    assert not kept(BEFORE, after, "replica@others", victims=VICTIMS, scaling=down_by(0)).holds


def test_a_victim_is_never_what_serve_takes_away() -> None:
    assert not kept(BEFORE, topology(TWO, THREE, FOUR), "replicas", victims=VICTIMS, scaling=down_by(4)).holds


def test_that_one_deployment_scales_excuses_no_other() -> None:
    fixed = [replica(n, deployment=OTHER) for n in (11, 12)]
    before = topology(*BEFORE.components, *fixed)
    after = topology(TWO, *fixed[:1])
    assert not kept(before, after, "replica@others", victims=VICTIMS, scaling=down_by(4)).holds


def test_the_proxy_of_a_node_whose_replicas_were_all_taken_away_goes_with_them() -> None:
    there = [replica(6, "worker-2"), proxy("worker-1"), proxy("worker-2"), proxy(HEAD)]
    before = topology(ONE, TWO, *there)
    after = topology(ONE, TWO, proxy("worker-1"), proxy(HEAD))
    assert kept(before, after, "proxies", scaling=down_by(1)).holds
    assert not kept(before, after, "proxies", scaling=down_by(0)).holds
    without_head = topology(ONE, TWO, proxy("worker-1"))
    assert not kept(before, without_head, "proxies", scaling=down_by(1)).holds, "the head has one in any case"
    with_replica = topology(ONE, TWO, replica(6, "worker-2"), proxy("worker-1"), proxy(HEAD))
    assert not kept(before, with_replica, "proxies", scaling=down_by(1)).holds, "its node has a replica"


def test_the_proxy_of_a_node_goes_with_victims_that_have_no_successor_there() -> None:
    """An update replaced all of them, and Serve wanted fewer meanwhile."""
    old = [ONE, replica(6, "worker-2")]
    victims = [c.identity for c in old]
    before = topology(*old, proxy("worker-1"), proxy("worker-2"))
    after = topology(replica(11), proxy("worker-1"))
    assert kept(before, after, "proxies", victims=victims, scaling=down_by(1)).holds
    assert not kept(before, after, "proxies", victims=victims, scaling=down_by(0)).holds
    elsewhere = topology(replica(11, "worker-2"), proxy("worker-1"))
    assert not kept(before, elsewhere, "proxies", victims=victims, scaling=down_by(1)).holds


def test_a_victim_that_its_fault_spares_may_be_what_serve_takes_away() -> None:
    after = topology(TWO, THREE, FOUR)
    spared = [FaultLanded("", at=0.5, victims=tuple(VICTIMS), spared=True), rescaled(1.0, 4, 3)]
    scaling = scaling_of([APP], spared, BEFORE, replace(after, wanted={APP: 3}))
    assert kept(BEFORE, after, "replica@victims", victims=VICTIMS, scaling=scaling).holds
    assert not kept(BEFORE, topology(THREE, FOUR), "replica", victims=VICTIMS, scaling=scaling).holds


def test_a_worker_that_the_autoscaler_removes_takes_along_what_is_on_it() -> None:
    before = topology(node(HEAD), *(node(f"worker-{n}") for n in (1, 2, 3)), ONE, replica(7, "worker-3"))
    after = topology(node(HEAD), node("worker-1"), node("worker-2"), ONE)
    for selector in ("workers", "replicas"):
        assert kept(before, after, selector, scaling=down_by(0, workers=1)).holds
        assert not kept(before, after, selector, scaling=down_by(0)).holds
    two_less = topology(node(HEAD), node("worker-1"), ONE)
    assert not kept(before, two_less, "workers", scaling=down_by(0, workers=1)).holds


@given(st.integers(1, 8), st.integers(0, 8), st.integers(0, 8))
def test_no_more_are_excused_than_were_taken_away(number: int, gone: int, stopped: int) -> None:
    gone = min(gone, number)
    every = [replica(n) for n in range(number)]
    finding = kept(topology(*every), topology(*every[gone:]), "replicas", scaling=down_by(stopped))
    assert finding.holds == (gone <= stopped)


# -- who was replaced --------------------------------------------------------------------------------------------------


def wants(number: int, stopped: int = 0) -> Scaling:
    return Scaling(frozenset({APP}), {APP: stopped} if stopped else {}, {APP: number})


def test_what_comes_because_serve_wants_more_replaces_nobody() -> None:
    after = topology(TWO, THREE, FOUR, FIVE, wanted=5)
    finding = replaced(BEFORE, after, "replica@victims", victims=VICTIMS, scaling=wants(5))
    assert finding.reason == f"not replaced: 4 replicas of {APP}, and Serve wants 5"
    enough = topology(*after.components, replica(6))
    assert replaced(BEFORE, enough, "replica@victims", victims=VICTIMS, scaling=wants(5)).holds


def test_a_victim_whose_successor_serve_does_not_want_any_more_is_not_missed() -> None:
    after = topology(TWO, THREE, wanted=2)
    assert replaced(BEFORE, after, "replica@victims", victims=VICTIMS, scaling=wants(2, stopped=2)).holds


def test_a_victim_that_lives_was_not_replaced_whatever_came() -> None:
    after = topology(*BEFORE.components, FIVE, replica(6))
    assert not replaced(BEFORE, after, "replica@victims", victims=VICTIMS, scaling=wants(6)).holds


def test_where_it_is_unknown_what_serve_wants_there_must_be_as_many_as_before() -> None:
    without = Scaling(frozenset({APP}))
    assert not replaced(BEFORE, topology(TWO, THREE, FOUR), "replica@victims", victims=VICTIMS, scaling=without).holds
    assert replaced(BEFORE, topology(TWO, THREE, FOUR, FIVE), "replica@victims", victims=VICTIMS, scaling=without).holds


def test_replicas_of_another_deployment_replace_nobody() -> None:
    before = topology(ONE, TWO, replica(11, deployment=OTHER))
    after = topology(TWO, replica(11, deployment=OTHER), replica(12, deployment=OTHER))
    assert not replaced(before, after, "replica@victims", victims=VICTIMS, scaling=wants(2)).holds


def test_fewer_workers_are_enough_where_the_autoscaler_wants_fewer() -> None:
    before = topology(*(node(f"worker-{n}") for n in (1, 2, 3)))
    victims = [node("worker-1").identity]
    after = topology(node("worker-2"), node("worker-3"))
    assert not replaced(before, after, "worker@victims", victims=victims).holds
    assert replaced(before, after, "worker@victims", victims=victims, scaling=down_by(0, workers=1)).holds


def test_missing_of_what_serve_scales_is_what_it_wants_and_has_not() -> None:
    after = topology(ONE, wanted=3, pending=2)
    assert missing(BEFORE, after, wants(3)) == f"2 x replica {APP}"
    assert missing(BEFORE, topology(ONE, wanted=1), wants(1)) == ""
    assert missing(BEFORE, topology(ONE)) == "3 x replica app#App on worker-1"
