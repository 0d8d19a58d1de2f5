"""One experiment as all graphic reports show it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_serve_chaos.events import (
    ChildrenSeen,
    ComponentCame,
    ComponentGone,
    FaultLanded,
    HAProxyReloaded,
    ProxyStale,
    ServeSaid,
)
from pytest_serve_chaos.model import Component, Expectations, Identity, Outage
from pytest_serve_chaos.report.demanded import Demand
from pytest_serve_chaos.report.lanes import Life, natural
from pytest_serve_chaos.report.timeline import Timeline, outline_of, timeline_of
from pytest_serve_chaos.report.timeline_facts import facts_of
from pytest_serve_chaos.results import result_of
from tests.unit.histories import FAULT, Story, cluster, component, head_failure, node_failure


def shown(story: Story) -> Timeline:
    history = story.history()
    return timeline_of(result_of(history, story.experiment), history)


def went_and_came(story: Story, went: Component, gone_at: float, came: Component, back_at: float) -> Story:
    story.add(gone_at, ComponentGone("gone", component=went))
    return story.add(back_at, ComponentCame("came", component=came))


def lane(timeline: Timeline, name: str) -> Sequence[Life]:
    return next(one.lives for one in timeline.lanes if one.name == name)


def test_times_count_from_the_fault() -> None:
    timeline = shown(head_failure())
    assert (timeline.zero, timeline.begin, timeline.end) == (FAULT, -10.0, 60.0)
    (fault,) = timeline.faults
    assert (fault.asked, fault.landed, fault.victims) == (0.0, 8.0, ("head",))
    assert [sign.kind for sign in fault.evidence] == ["victim", "cluster"]
    assert [sign.at for sign in fault.evidence] == pytest.approx([0.02, 8.0])
    assert [phase.text for phase in timeline.phases] == ["steady state", "fault", "recovery", "settle"]
    assert timeline.phases[-1].end == 60.0


def test_requests_are_columns_and_words() -> None:
    requests = shown(head_failure()).requests
    assert len(requests) == 3501
    assert requests.outcomes == ("", "RemoteProtocolError")
    assert [requests.scheduled[i] for i, outcome in enumerate(requests.outcome) if outcome] == pytest.approx(
        [-0.04, -0.02, 0.0]
    )
    assert requests.latency[0] == pytest.approx(0.008)
    assert requests.ways[requests.way[0]] == "proxies"


def test_strips_count_every_request_on_a_new_connection_once() -> None:
    story = node_failure(Expectations(slow_after=0.5)).slow(30.0, 31.0, 1.0)
    kept = replace(story.requests[0], stream="kept:0", error="ReadError")
    story.requests.append(kept)
    timeline = shown(story)
    strips = timeline.strips
    assert sum(strips.sent) == len(timeline.requests) - 1
    assert sum(strips.lost) == sum(map(bool, timeline.requests.outcome)) - 1 == 400
    assert sum(strips.late) == 50
    assert strips.begin + strips.width * len(strips.sent) >= timeline.end
    assert (strips.sent[0], strips.lost[100], strips.lost[99]) == (5, 2, 0)


def test_an_outline_lacks_the_requests_alone_and_says_the_same() -> None:
    story = node_failure()
    history = story.history()
    result = result_of(history, story.experiment)
    whole, outline = timeline_of(result, history), outline_of(result)
    bare = replace(whole, requests=outline.requests, strips=outline.strips, known=())
    assert bare == outline
    assert facts_of(whole) == facts_of(outline)


def test_where_no_fault_landed_nobody_says_that_there_was_no_outage() -> None:
    story = head_failure().without("landed", "evidence")
    assert "There was no outage." not in facts_of(shown(story))
    assert "There was no outage." in facts_of(shown(Story()))


def test_an_outage_in_which_each_answer_was_in_time_lost_nothing() -> None:
    timeline = replace(shown(head_failure()), outages=(Outage(1.0, 4.0, 0, 12),))
    assert "Outage from +1.0 s to +4.0 s (3.0 s): no answer to anybody; all 12 requests answered later." in facts_of(
        timeline
    )


def test_outages_are_those_of_the_verdict() -> None:
    (outage,) = shown(node_failure()).outages
    assert isinstance(outage, Outage)
    assert (outage.start, outage.end) == pytest.approx((0.0, 24.0), abs=0.05)


def test_a_successor_is_in_the_lane_of_what_it_replaces() -> None:
    story = went_and_came(
        head_failure(), component("controller", "head"), 0.1, component("controller", "head", incarnation=2), 7.0
    )
    first, second = lane(shown(story), "controller")
    assert (first.begin, first.end, first.was_there) == pytest.approx((-10.0, 0.1, True))
    assert (second.begin, second.end, second.was_there) == pytest.approx((7.0, None, False))
    assert first.identity != second.identity


def test_what_went_at_the_very_moment_of_the_fault_has_its_successor_in_its_lane() -> None:
    story = went_and_came(
        head_failure(), component("controller", "head"), 0.0, component("controller", "head", incarnation=2), 7.0
    )
    assert [life.begin for life in lane(shown(story), "controller")] == pytest.approx([-10.0, 7.0])


def test_lanes_are_in_the_order_of_the_roles_and_of_their_numbers() -> None:
    names = [one.name for one in shown(head_failure()).lanes]
    assert names[:4] == ["head", "worker-1", "worker-2", "gcs"]
    assert names[-2:] == ["replica default#SleepyPid on worker-2 #1", "replica default#SleepyPid on worker-2 #2"]
    assert sorted(["worker-10", "worker-9", "head"], key=natural) == ["head", "worker-9", "worker-10"]


def test_an_older_history_does_not_say_when_something_went() -> None:
    first, second = lane(shown(head_failure()), "gcs")
    assert (first.end, second.begin) == (59.0, 59.0), "by then it had"
    (whole,) = lane(shown(head_failure()), "worker-1")
    assert (whole.begin, whole.end) == (-10.0, None)


def test_a_history_without_topologies_has_no_lanes() -> None:
    timeline = shown(Story(before=None, after=None))
    assert (timeline.lanes, timeline.statuses) == ((), ())
    assert len(timeline.requests) == 3501


def test_reloads_are_marks_in_the_lane_of_the_proxy() -> None:
    story = head_failure().add(3.0, HAProxyReloaded("reloaded", proxy="proxy on worker-1", pid=7))
    found = {one.name: [mark.at for mark in one.marks] for one in shown(story).lanes if one.marks}
    assert found == {"proxy on worker-1": [3.0]}


def test_a_mark_is_in_the_lane_of_the_process_that_was_there_then() -> None:
    old, new = component("proxy", "worker-1"), component("proxy", "worker-1", incarnation=2)
    story = (
        head_failure().add(10.0, ComponentCame("came", component=new)).add(20.0, ComponentGone("gone", component=old))
    )
    story.add(30.0, ProxyStale("stale", proxy="proxy on worker-1"))
    marks = [[mark.at for mark in one.marks] for one in shown(story).lanes if one.name.startswith("proxy on worker-1")]
    assert marks == [[], [30.0]]


# -- what replicas have started ----------------------------------------------------------------------------------------

REPLICA = component("replica", "worker-1")


def engine(number: int) -> Identity:
    return Identity("process", ("boot", str(number), "1"))


def looked(story: Story, at: float, *engines: tuple[int, float], struck: int = 7) -> Story:
    """At that moment these are below the replica, each that old."""
    return story.add(
        at,
        ChildrenSeen(
            "below", parent=REPLICA.identity, processes=tuple(engine(number) for number, _ in engines),
            titles=("llama-server",) * len(engines), ages=tuple(age for _, age in engines), struck=(engine(struck),),
        ),
    )  # fmt: skip


def test_what_a_replica_has_started_has_a_lane_and_its_successor_begins_where_its_age_says() -> None:
    story = looked(looked(head_failure(), 0.0, (7, 3600.0)), 0.3)
    looked(story, 40.0, (8, 38.5))
    name = "llama-server of replica default#SleepyPid on worker-1"
    first, second = lane(shown(story), name)
    assert (first.pid, first.begin, first.was_there, first.victim) == (7, -10.0, True, True)
    assert (second.pid, second.end, second.was_there, second.victim) == (8, None, False, False)
    assert (first.end, second.begin) == pytest.approx((0.3, 1.5))
    roles = [one.role for one in shown(story).lanes]
    assert roles[-1] == "child"
    assert f"{name}: gone PID 7 at +0.3 s, there PID 8 since +1.5 s." in facts_of(shown(story))


def test_what_a_replica_has_started_goes_with_it_and_of_unknown_age_was_there_before() -> None:
    story = looked(head_failure(), 0.0, (7, 0.0), (9, 0.0)).add(5.0, ComponentGone("gone", component=REPLICA))
    found = [one for one in shown(story).lanes if one.role == "child"]
    assert [one.name[-2:] for one in found] == ["#1", "#2"], "both at once"
    assert [(life.begin, life.end, life.was_there) for one in found for life in one.lives] == [(-10.0, 5.0, True)] * 2


# -- what Serve said ---------------------------------------------------------------------------------------------------


def said(story: Story, at: float, **statuses: str) -> Story:
    return story.add(at, ServeSaid("said", statuses={name.replace("_", " "): word for name, word in statuses.items()}))


def test_what_serve_said_is_spans_with_gaps_while_it_is_silent() -> None:
    story = said(head_failure(), -9.0, Serve="answers", app_shop="RUNNING", proxy_on_head="HEALTHY")
    said(story, 1.0, Serve="does not answer")
    said(story, 4.0, Serve="answers", app_shop="")
    said(story, 6.0, app_shop="DEPLOYING")
    lanes = {one.subject: [(s.begin, s.end, s.text) for s in one.spans] for one in shown(story).statuses}
    assert lanes == {
        "Serve": [(-9.0, 1.0, "answers"), (1.0, 4.0, "does not answer"), (4.0, None, "answers")],
        "app shop": [(-9.0, 1.0, "RUNNING"), (6.0, None, "DEPLOYING")],
        "proxy on head": [(-9.0, 1.0, "HEALTHY"), (4.0, None, "HEALTHY")],
    }


def test_what_was_demanded_stands_beside_what_was_seen() -> None:
    expected = Expectations(lost_beyond_in_flight=0, replaced=("head",), kept=("worker",))
    found = {one.what: one for one in shown(node_failure(expected)).demands if not one.what.startswith("unchanged")}
    assert (found["availability"].demanded, found["availability"].met) == ("at least 99 % in 20 s", False)
    assert found["longest outage"].met is False
    assert found["lost beyond those in flight"].met is False
    assert (found["redundancy back"].seen, found["redundancy back"].met) == ("after 19.8 s", True)
    assert found["replaced: head"].met is False


def test_a_ratio_to_latencies_of_which_some_were_lost_is_unknown() -> None:
    story = head_failure(Expectations(p99_ratio=2.0)).lose(-2.0, -1.5, takes=0.1).lose(1.0, 3.0)
    (found,) = (one for one in shown(story).demands if one.what == "p99 latency")
    assert (found.seen, found.met) == ("lost, then lost", None)


def test_replicas_that_must_survive_are_counted() -> None:
    replicas = cluster().of("replica")
    after = replace(cluster(), components=tuple(c for c in cluster().components if c not in replicas[:3]))
    story = Story(expectations=Expectations(surviving=0.5), after=after).without("landed")
    story.add(8.0, FaultLanded("landed", victims=tuple(c.identity for c in replicas)))
    (found,) = (one for one in shown(story).demands if one.what == "surviving replicas")
    assert found == Demand("surviving replicas", "at least 50 %, and one may always be gone", "1 of 4", False)


def test_nothing_broken_has_a_timeline_from_its_beginning() -> None:
    story = Story("idle").without("asked", "evidence", "landed", "redundancy_back", "settled")
    timeline = shown(story)
    assert (timeline.faults, timeline.begin, timeline.outages) == ((), 0.0, ())


@given(st.lists(st.tuples(st.sampled_from([1, 2, 3]), st.floats(0.0, 50.0), st.booleans()), max_size=12))
def test_whatever_comes_and_goes_no_lane_has_two_at_a_time(changes: list[tuple[int, float, bool]]) -> None:
    story = Story(before=cluster(), after=None, rate=0.5)
    for number, at, comes in changes:
        one = component("replica", "worker-1", incarnation=number)
        event = ComponentCame("came", component=one) if comes else ComponentGone("gone", component=one)
        story.add(at, event)
    for found in shown(story).lanes:
        ends = [life.end if life.end is not None else math.inf for life in found.lives]
        assert all(end <= later.begin for end, later in zip(ends, found.lives[1:], strict=False))
        assert all(life.begin <= (math.inf if life.end is None else life.end) for life in found.lives)
