from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_serve_chaos.checks.verdict import judge
from pytest_serve_chaos.errors import SettingsError
from pytest_serve_chaos.events import TopologySeen
from pytest_serve_chaos.history import History
from pytest_serve_chaos.model import NO_DEMANDS, Expectations, Verdict
from tests.unit.histories import (
    FAULT,
    Story,
    cluster,
    deaf_controller,
    head_failure,
    idle_worker,
    node_failure,
    not_started,
    request,
)


def verdict(story: Story) -> Verdict:
    return judge(story.history(), story.experiment)


def only(**demands: Any) -> Expectations:
    """These demands and no others."""
    return replace(NO_DEMANDS, **demands)


def assert_failed(story: Story, reason: str) -> None:
    found = verdict(story)
    assert (found.outcome, len(found.reasons)) == ("failed", 1), found
    assert found.reasons[0] == reason


def assert_inconclusive(story: Story, reason: str) -> None:
    found = verdict(story)
    assert (found.outcome, len(found.reasons)) == ("inconclusive", 1), found
    assert reason in found.reasons[0]


def assert_passed(story: Story) -> None:
    """All that is demanded was judged and met; where nothing is demanded of the requests, it is only measured."""
    assert verdict(story) == Verdict("passed" if story.expectations.demands_traffic else "measured")


def test_losing_what_was_in_flight_passes_by_default() -> None:
    assert_passed(head_failure())


def test_a_history_from_a_file_gives_the_same_verdict(tmp_path: Path) -> None:
    story = node_failure(Expectations(replaced=("replica@worker-2",), kept=("controller",)))
    live = story.history(tmp_path / "history.jsonl")
    assert judge(History.load(tmp_path / "history.jsonl"), "node_failure") == judge(live, "node_failure")


# -- the rig cannot be believed


def test_not_started_says_why() -> None:
    assert_inconclusive(not_started(), "the pod held no replica")


def test_a_fault_that_was_never_asked_for() -> None:
    story = Story().without("asked", "evidence", "landed", "redundancy_back", "settled").until(-1.0)
    assert_inconclusive(story, "the test injected no fault: it ended in the phase done")


def test_a_fault_that_did_not_land() -> None:
    story = head_failure().without("landed")
    assert_inconclusive(
        story, "the fault did not land within 60 s; signs of it: 14 processes are gone, the GCS says DEAD"
    )
    assert_inconclusive(story.without("evidence"), "signs of it: none")


@pytest.mark.parametrize(
    ("lag", "demands", "outcome"),
    [
        (0.099, {}, "measured"),
        (1.999, {}, "measured"),
        (2.001, {}, "inconclusive"),
        (0.101, {"longest_outage": 0.5}, "inconclusive"),
        (0.499, {"longest_outage": 5.0}, "passed"),
        (0.501, {"longest_outage": 5.0}, "inconclusive"),
        (0.101, {"longest_outage": 5.0, "p99_ratio": 3.0}, "inconclusive"),
        (0.101, {"longest_outage": 5.0, "send_lag_limit": 0.1}, "inconclusive"),
        (0.499, {"traffic_back": 5.0}, "passed"),
        (0.501, {"traffic_back": 5.0}, "inconclusive"),
        (1.001, {"traffic_back": 50.0}, "inconclusive"),
        (0.101, {"traffic_back": 50.0, "availability": 0.9}, "inconclusive"),
        (0.101, {"traffic_back": 50.0, "lost_beyond_in_flight": 0}, "inconclusive"),
        (0.101, {"traffic_back": 50.0, "p99_ratio": 3.0}, "inconclusive"),
    ],
)
def test_a_generator_may_be_late_by_a_tenth_of_what_is_judged(
    lag: float, demands: dict[str, float], outcome: str
) -> None:
    found = verdict(Story(lag=lag, expectations=only(**demands)))
    assert found.outcome == outcome
    assert ["the load generator was late: 1 % of its requests" in r for r in found.reasons] == [True] * len(
        found.reasons
    )


def test_how_late_the_generator_may_be_is_a_setting() -> None:
    assert_passed(Story(lag=0.2, expectations=only(send_lag_limit=0.3, longest_outage=2.0)))
    assert_inconclusive(Story(lag=0.02, expectations=only(send_lag_limit=0.01)), "sent 20 ms or more after their time")


@pytest.mark.parametrize(("unsent", "outcome"), [(3, "passed"), (4, "inconclusive")])
def test_requests_that_the_generator_did_not_send(unsent: int, outcome: str) -> None:
    story = Story()
    for i in range(unsent):
        story.requests[i] = replace(request(story.requests[i].scheduled, "NotSent"), sent=None)
    found = verdict(story)
    assert found.outcome == outcome
    assert all(f"did not send {unsent} of 3501 requests (limit 0.1 %)" in reason for reason in found.reasons)


def test_nothing_is_failed_with_a_rig_that_cannot_be_believed() -> None:
    assert verdict(node_failure()).outcome == "failed"
    assert verdict(node_failure().without("landed")).outcome == "inconclusive"
    late = Story(lag=0.5).lose(0.0, 4.0)
    assert verdict(late).outcome == "inconclusive"


@pytest.mark.parametrize(
    ("lasts", "allowed", "outcome"),
    [(4.0, 2.0, "inconclusive"), (12.0, 11.9, "inconclusive"), (12.0, 10.0, "failed"), (24.0, 2.0, "failed")],
)
def test_a_late_generator_makes_no_outage_that_lasts_far_longer_than_it_was_late(
    lasts: float, allowed: float, outcome: str
) -> None:
    late = Story(lag=0.5, expectations=only(longest_outage=allowed, send_lag_limit=0.2)).lose(0.0, lasts)
    found = verdict(late)
    assert found.outcome == outcome
    if outcome == "failed":
        assert found.reasons[0].startswith("the longest outage lasted")
        assert found.reasons[-1].endswith("lasted far longer than that, and these reasons count nothing else")
    assert verdict(late.without("landed")).outcome == "inconclusive"


def sent_late(story: Story, begin: float, end: float, lag: Callable[[float], float], **changes: object) -> Story:
    """The generator sends what is due in that time late; the app answers in 8 ms, unless `changes` says otherwise."""
    for number, one in enumerate(story.requests):
        due = one.scheduled - FAULT
        if begin <= due < end:
            sent = one.scheduled + lag(due)
            story.requests[number] = replace(one, **{"sent": sent, "finished": sent + 0.008, **changes})  # type: ignore[arg-type]
    return story


@pytest.mark.parametrize(
    "lag",
    [lambda _: 0.3, lambda due: max(0.0, 0.4 - due % 0.9), lambda due: 0.04 * due],
    ids=["always", "again and again", "growing"],
)
def test_its_own_lateness_is_no_outage_of_the_app(lag: Callable[[float], float]) -> None:
    story = sent_late(Story(expectations=only(longest_outage=0.5)), 0.0, 12.0, lag)
    assert verdict(story).outcome == "inconclusive"


def test_timeouts_that_it_slept_through_are_not_the_apps() -> None:
    story = Story(expectations=only(longest_outage=0.5))
    for number, one in enumerate(story.requests):
        due = one.scheduled - FAULT
        if 0 <= due < 12 and due % 0.9 < 0.45:
            sent = one.scheduled + 0.45 - due % 0.9
            story.requests[number] = replace(one, sent=sent, finished=sent + 0.4, status=None, error="ReadTimeout")
    assert verdict(story).outcome == "inconclusive"


def test_what_is_refused_at_once_is_lost_however_late_it_was_sent() -> None:
    lag = 0.3
    story = Story(lag=lag, expectations=only(longest_outage=0.5)).lose(0.0, 12.0, error="HTTP 503", takes=0.31)
    assert verdict(story).outcome == "failed"


def test_a_hiccup_of_the_generator_before_the_fault_makes_no_answer_usual() -> None:
    story = Story(expectations=only(longest_outage=2.0)).event(-4.0, "steady", "steady since then")
    sent_late(story, -3.9, -1.9, lambda due: -1.9 - due)
    for number, one in enumerate(story.requests):
        if 0 <= one.scheduled - FAULT < 2.9:
            story.requests[number] = replace(one, finished=FAULT + 2.91)
    assert verdict(story).reasons == (
        "the longest outage lasted 2.9 s (requests that wait longer than 1.0 s count). Allowed: 2 s.",
    )


def test_a_latency_that_only_the_generator_made_longer_is_not_the_apps() -> None:
    story = sent_late(Story(expectations=only(p99_ratio=1.5)), 0.0, 20.0, lambda _: 0.02)
    found = verdict(story)
    assert found.outcome == "inconclusive"
    assert found.reasons[0].endswith("only because the load generator sent late")
    slower = Story(expectations=only(p99_ratio=1.5))
    assert verdict(sent_late(slower.slow(0.0, 20.0, takes=0.05), 30.0, 31.0, lambda _: 0.02)).outcome == "failed"


def test_an_outage_that_has_not_ended_may_be_longer() -> None:
    story = Story(expectations=only(longest_outage=10.0), traffic_until=24.0).lose(22.0, 25.0, takes=0.01)
    assert "still lost or late when the traffic ended" in verdict(story).reasons[0]
    assert verdict(story).outcome == "inconclusive"


def test_what_had_waited_too_long_before_our_own_check_began_counts() -> None:
    story = Story(expectations=only(longest_outage=2.0))
    for number, one in enumerate(story.requests):
        if 0 <= one.scheduled - FAULT < 4.9:
            story.requests[number] = replace(one, finished=FAULT + 4.91)
    story.event(4.8, "checking", "begins", begins=True).event(7.0, "checking", "ends", begins=False)
    assert verdict(story).outcome == "failed"


def test_replicas_that_our_own_check_kills_cost_the_app_nothing() -> None:
    def checked(*, replaces: bool) -> Story:
        story = Story(expectations=only(longest_outage=2.0)).lose(20.0, 24.0, takes=0.01)
        story.event(19.8, "checking", "begins", begins=True, replaces=replaces)
        return story.event(25.0, "checking", "ends", begins=False)

    assert verdict(checked(replaces=False)).outcome == "failed"
    found = verdict(checked(replaces=True))
    assert found.outcome == "inconclusive"
    assert "or were lost, while the post-recovery check started replicas" in found.reasons[0]


def test_how_late_the_generator_may_be_depends_on_what_is_too_slow() -> None:
    assert only(longest_outage=2.0).latest == 0.2
    assert only(longest_outage=2.0, slow_after=0.15).latest == 0.075
    assert only(longest_outage=2.0, slow_after=5.0).latest == 0.2


def test_what_our_own_check_slows_down_fails_nobody() -> None:
    def checked() -> Story:
        story = Story(expectations=only(longest_outage=2.0)).slow(20.0, 24.0, takes=4.0)
        return story.event(19.8, "checking", "begins", begins=True)

    during = verdict(checked().event(25.0, "checking", "ends", begins=False))
    assert during.outcome == "inconclusive"
    assert "200 requests waited longer than" in during.reasons[0]
    assert "call wait_settled after assert_available" in during.reasons[0]
    assert verdict(checked()).outcome == "inconclusive", "it may have been broken off"
    assert verdict(checked().event(19.9, "checking", "ends", begins=False)).outcome == "failed"


def test_what_is_lost_during_our_own_check_counts() -> None:
    story = Story(expectations=only(longest_outage=2.0)).lose(20.0, 24.0)
    assert verdict(story.event(19.8, "checking", "begins", begins=True)).outcome == "failed"


def test_what_else_was_missed_while_the_generator_was_late_is_not_failed_with_it() -> None:
    """A machine that has no time for the generator may have had none for the health checks of a replica."""
    kept = Story(lag=0.5, expectations=only(longest_outage=2.0, send_lag_limit=0.2, kept=("controller",)))
    assert verdict(kept).outcome == "inconclusive"


# -- a demand could not be judged


def test_a_victim_that_answered_nothing() -> None:
    assert_inconclusive(idle_worker(), "the victim (worker-2) answered nothing before the fault, so nothing was tested")


def test_a_victim_that_does_not_serve_by_itself_may_have_answered_nothing() -> None:
    assert_passed(Story().without("landed").event(0.05, "landed", "the GCS is gone", victims=[], served=None))
    assert_passed(Story().without("landed").event(0.05, "landed", "the GCS is gone"))


def test_a_failure_beats_a_doubt_and_tells_it_too() -> None:
    found = verdict(idle_worker().lose(0.0, 10.0))
    assert found.outcome == "failed"
    assert "longest outage" in found.reasons[1]
    assert "nothing was tested" in found.reasons[-1]


def test_too_few_requests_for_the_availability_demanded() -> None:
    assert_inconclusive(
        Story(expectations=Expectations(availability=0.999)),
        "too few requests: 1001 in the 20 s after the fault. An availability of 99.9 % is judged on 3000 or more: "
        "150 requests/s, or a longer window.",
    )
    assert_passed(Story(expectations=Expectations(availability=0.999, window=60.0, traffic_back=None)))


def test_on_too_few_requests_availability_does_not_fail_either() -> None:
    story = Story(expectations=only(availability=0.999)).lose(0.0, 0.5)
    assert_inconclusive(story, "too few requests: 1001")


def test_more_confidence_needs_more_requests() -> None:
    demand = only(availability=0.997, confidence=0.99)
    assert_inconclusive(Story(expectations=demand), "judged on 1533 or more")
    assert_passed(Story(expectations=replace(demand, confidence=0.95)))


def test_an_availability_of_one_cannot_be_shown_and_can_be_missed() -> None:
    demand = only(availability=1.0)
    assert_inconclusive(
        Story(expectations=demand), "no number of requests shows an availability of 100 %; 1001 without"
    )
    found = verdict(head_failure(demand))
    assert found.outcome == "failed"
    assert found.reasons[0].endswith("Allowed: 0 % lost.")


def test_no_requests_at_all() -> None:
    story = Story(expectations=only(longest_outage=2.0))
    story.requests = []
    assert_inconclusive(story, "no requests were sent in the 20 s after the fault")
    story = Story(expectations=only(redundancy_back=30.0))
    story.requests = []
    assert_passed(story)


@pytest.mark.parametrize(
    "demand",
    [{"availability": 0.99}, {"longest_outage": 2.0}, {"lost_beyond_in_flight": 0}, {"p99_ratio": 3.0}],
)
def test_an_observation_that_ended_before_the_window_did(demand: dict[str, float]) -> None:
    early = Story(expectations=only(**demand)).until(12.0)
    assert_inconclusive(early, "too few requests: they end 12.0 s after the fault, before the window of 20 s was over")
    assert_passed(Story(expectations=only(**demand)).until(20.0))


def test_traffic_that_stopped_before_the_window_did() -> None:
    story = Story(expectations=only(longest_outage=2.0), traffic_until=5.0)
    assert_inconclusive(story, "they end 5.0 s after the fault")


def test_slow_traffic_covers_the_window_too() -> None:
    assert_passed(Story(expectations=only(longest_outage=4.0, window=21.5), rate=0.5, traffic_until=20.0))


def test_what_was_already_lost_fails_though_the_window_was_cut_short() -> None:
    found = verdict(Story(expectations=only(longest_outage=2.0)).lose(0.0, 5.0).until(12.0))
    assert found.outcome == "failed"
    assert found.reasons[0].startswith("the longest outage lasted 5.0 s")


def test_without_requests_before_there_is_nothing_to_compare_latency_with() -> None:
    story = Story(expectations=only(p99_ratio=2.0))
    story.requests = [r for r in story.requests if r.scheduled >= FAULT]
    assert_inconclusive(story, "no requests were sent before the fault, so there is no p99 to compare with")


def test_traffic_that_still_had_time_to_come_back() -> None:
    story = Story(expectations=only(traffic_back=50.0)).lose(10.0, 70.0).until(40.0)
    assert_inconclusive(
        story, "traffic was not back when the observation ended, 40.0 s after the fault. Allowed: 50 s."
    )


def test_redundancy_that_still_had_time_to_come_back() -> None:
    story = Story(expectations=only(redundancy_back=120.0), after=None).without("redundancy_back")
    story.add(40.0, TopologySeen("sample", topology=cluster(without=("replica@worker-2",)), moment=None))
    assert_inconclusive(
        story,
        "redundancy was not back (missing: 2 x replica default#SleepyPid on worker-2) when the observation ended, "
        "60.0 s after the fault. Allowed: 120 s.",
    )


def test_redundancy_that_was_given_up_before_its_time_is_not_passed() -> None:
    story = Story(expectations=only(redundancy_back=120.0)).without("redundancy_back")
    story.event(50.0, "redundancy_missing", "redundancy is not back")
    assert_inconclusive(story, "redundancy was not back when the observation ended, 60.0 s after the fault")


def test_a_post_recovery_check_that_did_not_run() -> None:
    assert_inconclusive(
        Story(expectations=only(settled=True)).without("settled"), "the post-recovery check did not run"
    )
    assert_passed(Story(expectations=only(settled=False)).without("settled"))


def test_identities_that_nobody_looked_at() -> None:
    demand = only(replaced=("head",), kept=("replica@workers",))
    assert_inconclusive(
        Story(expectations=demand, after=None),
        "it was not seen who was alive after it. Demanded: head replaced, replica@workers kept.",
    )
    assert_inconclusive(Story(expectations=demand, before=None), "it was not seen who was alive before the fault")
    assert_passed(Story(expectations=only(), before=None, after=None))


# -- a demand was not met


def test_too_little_available() -> None:
    assert_failed(
        node_failure(only(availability=0.99, window=40.0)),
        "400 of 2001 requests lost in the 40 s after the fault (400 ReadTimeout; 1 in flight when it hit): "
        "80.01 % available (95 % interval 78.19 % to 81.74 %). Allowed: 1 % lost.",
    )
    assert_passed(node_failure(only(availability=0.8, window=40.0)))


def test_available_but_not_with_confidence() -> None:
    demand = only(availability=0.995, confidence=0.95)
    assert_failed(
        head_failure(demand),
        "3 of 1003 requests lost in the 20 s after the fault (3 RemoteProtocolError; all in flight when it "
        "hit): more than 99.23 % available at 95 % confidence. Demanded: 99.5 %.",
    )
    assert_passed(head_failure(replace(demand, confidence=None)))
    assert_passed(head_failure(replace(demand, availability=0.99)))


def test_too_long_an_outage() -> None:
    story = node_failure(only(longest_outage=5.0)).lose(40.0, 41.0)
    assert_failed(story, "the longest outage lasted 24.0 s, and 1 shorter one came with it. Allowed: 5 s.")
    assert_passed(node_failure(only(longest_outage=24.0)))


def test_lost_beyond_what_was_in_flight() -> None:
    demand = only(lost_beyond_in_flight=398)
    assert_failed(
        node_failure(demand),
        "399 requests lost beyond the 1 that were in flight when the fault hit. Allowed: 398.",
    )
    assert_passed(node_failure(replace(demand, lost_beyond_in_flight=399)))
    assert_passed(head_failure(only(lost_beyond_in_flight=0)))


def test_too_slow() -> None:
    story = Story(expectations=only(p99_ratio=5.0)).slow(1.0, 3.0, takes=0.048)
    assert_failed(story, "the p99 latency went from 8 ms to 48 ms, 6.0 times as long. Allowed: 5 times.")
    assert_passed(Story(expectations=only(p99_ratio=6.1)).slow(1.0, 3.0, takes=0.048))


def test_traffic_back_too_late() -> None:
    assert_failed(node_failure(only(traffic_back=10.0)), "traffic was back 24.0 s after the fault. Allowed: 10 s.")
    assert_passed(node_failure(only(traffic_back=24.0)))


def test_traffic_that_never_came_back() -> None:
    demand = only(traffic_back=30.0)
    assert_failed(
        Story(expectations=demand).lose(10.0, 70.0),
        "traffic never came back in 60.0 s of observation. Allowed: 30 s.",
    )
    assert_passed(Story(expectations=demand).lose(10.0, 29.0))


def test_redundancy_back_too_late() -> None:
    assert_failed(
        Story(expectations=only(redundancy_back=10.0)), "redundancy was back 19.8 s after the fault. Allowed: 10 s."
    )
    assert_passed(Story(expectations=only(redundancy_back=20.0)))


def test_redundancy_that_never_came_back() -> None:
    story = Story(expectations=only(redundancy_back=60.0), after=cluster(without=("proxy@worker-1",)))
    assert_failed(
        story.without("redundancy_back"),
        "redundancy never came back in 60.0 s of observation (missing: proxy on worker-1). Allowed: 60 s.",
    )
    assert_passed(Story(expectations=only(redundancy_back=None)).without("redundancy_back"))


def test_deaf_proxies_have_names() -> None:
    assert_failed(
        deaf_controller(),
        "3 proxies do not hear their controller (proxy on head, proxy on worker-1, proxy on worker-2): "
        "a new route was not served by them within 10 s (ray#63784)",
    )
    assert_passed(deaf_controller(Expectations(settled=False)))


def test_a_post_recovery_check_that_failed_without_a_stale_proxy() -> None:
    story = Story().without("settled").event(30.0, "unsettled", "Parent does not reach its new child")
    assert_failed(story, "the post-recovery check was not passed: Parent does not reach its new child")


@pytest.mark.parametrize("problem", ["2 controllers are ALIVE", "a replica of the dead node still runs: PID 4711"])
def test_a_problem_fails_whatever_was_demanded(problem: str) -> None:
    assert_failed(Story(expectations=only()).event(30.0, "problem", problem), problem)
    assert_passed(Story(expectations=only()))


def test_what_had_to_be_replaced_and_was_not() -> None:
    demand = only(replaced=("head", "controller"))
    assert_failed(
        Story(expectations=demand, after=cluster(new=("head",))),
        "1 of 1 controller not replaced: controller (PID 200). Demanded: controller replaced.",
    )
    assert_passed(Story(expectations=demand))


def test_what_had_to_be_kept_and_was_not() -> None:
    demand = only(kept=("replicas@workers",))
    assert_failed(
        Story(expectations=demand, after=cluster(new=("replica@worker-2",))),
        "2 of 4 replicas on workers not kept: replica default#SleepyPid on worker-2 (PID 370), "
        "replica default#SleepyPid on worker-2 (PID 371). Demanded: replicas@workers kept.",
    )
    assert_passed(Story(expectations=demand))


def test_the_victim_itself_can_be_demanded_to_be_replaced() -> None:
    demand = only(replaced=("head@victims",), kept=("worker@others",))
    assert_passed(Story(expectations=demand))
    assert verdict(Story(expectations=demand, after=cluster())).outcome == "failed"


def test_an_unknown_selector_is_the_users_error() -> None:
    with pytest.raises(SettingsError, match="'pods' does not select anything"):
        verdict(Story(expectations=only(kept=("pods",))))


def test_all_that_is_wrong_is_told() -> None:
    found = verdict(node_failure(Expectations(traffic_back=10.0, lost_beyond_in_flight=0, p99_ratio=2.0)))
    assert found.outcome == "failed"
    assert [reason.split(" ", 3)[:3] for reason in found.reasons] == [
        ["334", "of", "1001"],
        ["the", "longest", "outage"],
        ["399", "requests", "lost"],
        ["the", "p99", "latency"],
        ["traffic", "was", "back"],
    ]


def test_requests_that_are_due_together_leave_no_smaller_gaps_than_one_would() -> None:
    """Two apps are asked at the same moments, every 5 s: that is no gap in the traffic."""
    story = Story(rate=0.2, begin=-25.0, expectations=only(lost_beyond_in_flight=0, window=10.0))
    story.requests = [replace(request, index=index) for request in story.requests for index in (0, 1)]
    assert_passed(story)
