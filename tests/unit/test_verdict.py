from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_serve_chaos.analysis.verdict import judge
from pytest_serve_chaos.errors import SettingsError
from pytest_serve_chaos.history import History, topology_to_json
from pytest_serve_chaos.model import Expectations, Verdict
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

UNDEMANDING = Expectations(
    availability=None, longest_outage=None, traffic_back=None, redundancy_back=None, settled=False
)


def verdict(story: Story) -> Verdict:
    return judge(story.history(), story.experiment)


def only(**demands: Any) -> Expectations:
    """These demands and no others."""
    return replace(UNDEMANDING, **demands)


def assert_failed(story: Story, reason: str) -> None:
    found = verdict(story)
    assert (found.outcome, len(found.reasons)) == ("failed", 1), found
    assert found.reasons[0] == reason


def assert_inconclusive(story: Story, reason: str) -> None:
    found = verdict(story)
    assert (found.outcome, len(found.reasons)) == ("inconclusive", 1), found
    assert reason in found.reasons[0]


def assert_passed(story: Story) -> None:
    assert verdict(story) == Verdict("passed")


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
    assert_inconclusive(story, "no fault was asked for: it ended in the phase done")


def test_a_fault_that_did_not_land() -> None:
    story = head_failure().without("landed")
    assert_inconclusive(
        story, "the fault did not land within 60 s; signs of it: 14 processes are gone, the GCS says DEAD"
    )
    assert_inconclusive(story.without("evidence"), "signs of it: none")


@pytest.mark.parametrize(
    ("lag", "demands", "outcome"),
    [
        (0.099, {}, "passed"),
        (0.101, {}, "inconclusive"),
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
    assert_passed(Story(lag=0.2, expectations=only(send_lag_limit=0.3)))
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
    late = Story(lag=0.5).lose(0.0, 24.0, every=3)
    assert verdict(late).outcome == "inconclusive"


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
    assert_passed(Story(expectations=only(longest_outage=2.0, window=21.5), rate=0.5, traffic_until=20.0))


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
    story.event(40.0, "topology", "sample", **topology_to_json(cluster(without=("replica@worker-2",))))
    assert_inconclusive(
        story,
        "redundancy was not back (missing: 2 x replica default#SleepyPid on worker-2) when the observation ended, "
        "60.0 s after the fault. Allowed: 120 s.",
    )


def test_an_aftershock_that_was_not_run() -> None:
    assert_inconclusive(Story(expectations=only(settled=True)).without("settled"), "the aftershock was not run")
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
        "400 of 2001 requests lost in the 40 s after the fault (400 ReadTimeout): 80.01 % available "
        "(95 % interval 78.19 % to 81.74 %). Allowed: 1 % lost.",
    )
    assert_passed(node_failure(only(availability=0.8, window=40.0)))


def test_available_but_not_with_confidence() -> None:
    demand = only(availability=0.995, confidence=0.95)
    assert_failed(
        head_failure(demand),
        "3 of 1003 requests lost in the 20 s after the fault (3 RemoteProtocolError): more than 99.23 % available at "
        "95 % confidence. Demanded: 99.5 %.",
    )
    assert_passed(head_failure(replace(demand, confidence=None)))
    assert_passed(head_failure(replace(demand, availability=0.99)))


def test_too_long_an_outage() -> None:
    story = node_failure(only(longest_outage=5.0)).lose(40.0, 41.0)
    assert_failed(story, "the longest outage lasted 24.0 s, beside 1 shorter one. Allowed: 5 s.")
    assert_passed(node_failure(only(longest_outage=24.0)))


def test_lost_beyond_what_was_in_flight() -> None:
    demand = only(lost_beyond_in_flight=398)
    assert_failed(
        node_failure(demand),
        "399 requests lost beyond the 1 that were in flight when the fault landed. Allowed: 398.",
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


def test_an_aftershock_that_failed_without_a_deaf_proxy() -> None:
    story = Story().without("settled").event(30.0, "unsettled", "Parent does not reach its new child")
    assert_failed(story, "the aftershock was not passed: Parent does not reach its new child")


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
