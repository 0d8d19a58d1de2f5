"""What "away" means: verdicts on apps that make their users wait, and on figures that hide an outage."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_serve_chaos.analysis.result import Result
from pytest_serve_chaos.checks.verdict import judge
from pytest_serve_chaos.faults.catalogue import BUILT_IN
from pytest_serve_chaos.model import Expectations
from pytest_serve_chaos.results import result_of
from tests.unit.histories import FAULT, Story, cluster, head_failure, request
from tests.unit.test_verdict import assert_failed, assert_passed, only, verdict

HEAD = BUILT_IN["head_failure"].expectations


def stalled(story: Story, until: float) -> Story:
    """Nobody gets an answer from the fault on; then all who wait do."""
    for i, r in enumerate(story.requests):
        at = r.scheduled - FAULT
        if 0 <= at < until:
            story.requests[i] = request(r.scheduled, takes=until - at + 0.01)
    return story


def result(story: Story) -> Result:
    return result_of(story.history(), story.experiment)


def test_a_stall_that_is_answered_in_the_end_fails_with_all_defaults() -> None:
    found = result(stalled(Story(expectations=HEAD), 4.9))
    assert found.outcome == "failed"
    assert found.lost == 0
    assert found.longest_outage == pytest.approx(4.9, abs=0.03)
    assert found.traffic_back == pytest.approx(4.9, abs=0.03)
    assert any(
        "the longest outage lasted 4.9 s (requests that wait longer than 1.0 s count)" in r for r in found.reasons
    )


def test_answers_that_all_take_nearly_as_long_as_the_timeout_fail_with_all_defaults() -> None:
    found = result(Story(expectations=HEAD).slow(0.0, 61.0, 4.9))
    assert found.outcome == "failed"
    assert found.traffic_back is None
    assert found.late == found.sent == 1001


def test_a_longer_timeout_hides_no_outage() -> None:
    demands = replace(BUILT_IN["controller_failure"].expectations, lost_beyond_in_flight=0)
    story = stalled(Story("controller_failure", demands, after=cluster(new=("controller",))), 19.0)
    found = result(story)
    assert (found.outcome, found.lost_beyond_in_flight) == ("failed", 0)
    assert found.longest_outage == pytest.approx(19.0, abs=0.03)


def test_what_is_too_slow_can_be_said() -> None:
    slow = Story(expectations=replace(HEAD, slow_after=6.0)).slow(0.0, 30.0, 4.9)
    assert_passed(slow)
    assert result(slow).measurement.slow_after == 6.0


def test_what_is_too_slow_follows_from_the_latency_before_and_from_the_outage_that_is_allowed() -> None:
    quick = Story(expectations=only(longest_outage=0.5))
    assert result(quick).measurement.slow_after == pytest.approx(0.008 + 0.25)
    ranks = Story(expectations=only(longest_outage=10.0)).slow(-10.0, 61.0, 1.5)
    assert result(ranks).measurement.slow_after == pytest.approx(1.5 + 2.0)


def test_one_long_request_that_was_in_flight_is_no_outage() -> None:
    story = Story(expectations=HEAD)
    i = next(i for i, r in enumerate(story.requests) if r.scheduled >= FAULT - 4)
    story.requests[i] = request(story.requests[i].scheduled, "RemoteProtocolError", takes=4.01)
    found = result(story)
    assert found.passed, found.reasons
    assert (found.lost, found.in_flight) == (1, 1)
    assert found.longest_outage == pytest.approx(0.02, abs=0.001)


def test_an_outage_after_the_window_counts_in_the_share_of_good_answers() -> None:
    found = result(Story(expectations=only(availability=0.99)).lose(21.0, 59.5))
    assert found.outcome == "failed"
    assert "1925 of 2976 requests lost in the 59.5 s after the fault" in found.reasons[0]


def test_the_p99_before_is_that_of_the_steady_seconds() -> None:
    story = Story(expectations=only(p99_ratio=1.5)).slow(-10.0, -9.8, 4.5).slow(0.0, 20.0, 0.9)
    assert_failed(story, "the p99 latency went from 8 ms to 900 ms, 112.5 times as long. Allowed: 1.5 times.")


def test_an_outage_long_after_a_slow_window_does_not_make_it_quick() -> None:
    demands = only(p99_ratio=10.0, window=1.0)
    story = Story(expectations=demands, traffic_until=59.0).slow(0.0, 0.3, takes=0.5).lose(58.0, 58.1, takes=0.01)
    found = result(story)
    assert found.measurement.seconds == pytest.approx(58.1, abs=0.02)
    assert found.outcome == "failed"
    assert "the p99 latency went from 8 ms to 500 ms" in found.reasons[0]


def test_the_steady_seconds_are_those_since_it_was_confirmed() -> None:
    story = Story(expectations=only(p99_ratio=1.5)).slow(-10.0, -6.0, 0.5).event(-8.0, "steady", "steady since then")
    before = result(story).measurement.before
    assert before is not None
    assert before.p99 == pytest.approx(0.5)


def test_to_refuse_every_request_at_once_is_not_fast() -> None:
    story = Story(expectations=only(p99_ratio=1.0)).lose(0.0, 61.0, takes=0.0005, error="ConnectError")
    assert_failed(
        story,
        "the p99 latency went from 8 ms to infinity, because more than 1 % of the"
        " requests in the window were lost. Allowed: 1 times.",
    )


@pytest.mark.parametrize(("lost", "outcome"), [(28, "passed"), (29, "failed")])
def test_shares_are_compared_exactly(lost: int, outcome: str) -> None:
    story = Story(expectations=only(availability=0.93), rate=20)
    inside = [i for i, r in enumerate(story.requests) if 0 <= r.scheduled - FAULT <= 20.0]
    del story.requests[inside[-1]]
    for i in inside[100 : 100 + lost]:
        story.requests[i] = request(story.requests[i].scheduled, "HTTP 500", takes=0.01)
    assert verdict(story).outcome == outcome


def test_every_second_request_lost_for_a_minute_is_an_outage_of_a_minute_at_any_rate() -> None:
    for rate in (1.0, 50.0):
        story = Story(expectations=only(longest_outage=2.0), rate=rate).lose(0.0, 59.0, every=2, takes=0.01)
        longest = result(story).longest_outage
        assert longest is not None
        assert longest > 57.0
        assert verdict(story).outcome == "failed"


@pytest.mark.parametrize("lost_until", [0.0, 5.5])
def test_an_outage_shorter_than_the_spacing_of_requests_is_neither_shown_nor_excluded(lost_until: float) -> None:
    story = Story(expectations=only(longest_outage=0.5), rate=1.0)
    found = verdict(story.lose(5.0, lost_until, takes=0.01, error="ConnectError"))
    assert found.outcome == "inconclusive"
    assert found.reasons == (
        "requests that are 1.0 s apart do not show longest_outage=0.5 s: send more, or allow more",
    )


def test_an_outage_far_beyond_the_limit_fails_at_any_rate() -> None:
    story = Story(expectations=only(longest_outage=0.5), rate=1.0).lose(5.0, 20.0, takes=0.01)
    assert verdict(story).outcome == "failed"


def test_a_generator_that_stood_still_during_the_window_is_late_however_long_the_observation() -> None:
    story = Story(expectations=only(availability=0.99, longest_outage=0.5), begin=-100.0)
    for i, r in enumerate(story.requests):
        if 5.0 <= r.scheduled - FAULT < 6.28:
            late = FAULT + 6.28 - r.scheduled
            story.requests[i] = request(r.scheduled, lag=late, takes=late + 0.01)
    found = verdict(story)
    assert found.outcome == "inconclusive"
    assert "the load generator was late" in found.reasons[0]


def test_a_generator_that_was_late_where_nothing_is_judged_is_no_reason() -> None:
    story = Story(expectations=only(longest_outage=0.5))
    for i, r in enumerate(story.requests):
        if r.scheduled - FAULT < -5.0:
            story.requests[i] = request(r.scheduled, lag=3.0, takes=3.01)
    assert_passed(story)


def test_how_late_a_generator_may_be_follows_from_all_that_is_demanded() -> None:
    assert only(longest_outage=75.0).latest == 2.0
    assert only(longest_outage=75.0, availability=0.99).latest == pytest.approx(0.2)
    assert only(longest_outage=6.0, availability=0.9).latest == pytest.approx(0.6)


# -- requests that could not be sent ---------------------------------------------------------------------------------


def test_the_more_completely_an_app_hangs_the_more_surely_it_fails() -> None:
    story = Story(expectations=HEAD).lose(0.0, 40.0)
    for i, r in enumerate(story.requests):
        if 15.0 <= r.scheduled - FAULT < 40.0:
            story.requests[i] = replace(request(r.scheduled, "NotSent", takes=0.0), sent=None)
    found = verdict(story)
    assert found.outcome == "failed"
    assert "did not send 1250 of 3501 requests" in found.reasons[-1]
    assert "it fails even if all of these had been answered at once" in found.reasons[-1]


def test_where_only_the_requests_that_were_not_sent_would_fail_nothing_is_said() -> None:
    story = Story(expectations=HEAD)
    for i, r in enumerate(story.requests):
        if 15.0 <= r.scheduled - FAULT < 18.0:
            story.requests[i] = replace(request(r.scheduled, "NotSent", takes=0.0), sent=None)
    assert verdict(story).outcome == "inconclusive"


# -- persistent connections ------------------------------------------------------------------------------------------


def with_persistent(story: Story, lost_from: float, paths: tuple[str, ...]) -> Story:
    """Two requests a second on a persistent connection to each proxy; on those paths all are lost from then on."""
    for number, proxy in enumerate(("proxy on head", "proxy on worker-1", "proxy on worker-2")):
        for k in range(-20, 120):
            lost = k / 2 >= lost_from and proxy in paths
            one = request(FAULT + k / 2, "ReadTimeout" if lost else None, takes=5.0 if lost else 0.01)
            story.requests.append(replace(one, index=k + 20, stream=f"kept:{number}", path=proxy))
    return story


def test_losses_on_every_persistent_connection_fail() -> None:
    everywhere = ("proxy on head", "proxy on worker-1", "proxy on worker-2")
    found = verdict(with_persistent(Story(expectations=HEAD), 0.0, everywhere))
    assert found.outcome == "failed"
    assert "on persistent connections lost. Allowed: 10 % (persistent_availability)." in found.reasons[0]


def test_the_connection_to_the_victims_own_proxy_may_be_away_until_redundancy_is_back() -> None:
    story = with_persistent(Story(expectations=HEAD), 0.0, ("proxy on head",))
    back = [r for r in story.requests if r.path == "proxy on head" and r.scheduled >= FAULT + 21]
    for r in back:
        story.requests.remove(r)
        story.requests.append(replace(request(r.scheduled), index=r.index, stream=r.stream, path=r.path))
    assert_passed(story)


def test_a_connection_to_the_victims_own_proxy_that_never_works_again_fails() -> None:
    found = verdict(with_persistent(Story(expectations=HEAD), 0.0, ("proxy on head",)))
    assert found.outcome == "failed"


def test_losses_on_persistent_connections_are_judged_no_more_strictly_than_on_fresh_ones() -> None:
    lenient = replace(HEAD, availability=0.3, longest_outage=None)
    paths = ("proxy on worker-1",)
    assert_passed(with_persistent(Story(expectations=lenient), 0.0, paths))
    assert (
        verdict(with_persistent(Story(expectations=replace(lenient, availability=0.9)), 0.0, paths)).outcome == "failed"
    )
    assert_passed(with_persistent(Story(expectations=replace(HEAD, persistent_availability=None)), 0.0, paths))


# -- no demand, and figures that were not measured -------------------------------------------------------------------


def test_without_a_demand_on_the_requests_an_experiment_only_measures() -> None:
    lost_everything = Story("redis_failure", BUILT_IN["redis_failure"].expectations).lose(0.0, 61.0)
    found = result(lost_everything)
    assert (found.outcome, found.passed) == ("measured", False)
    assert found.lost == found.sent


def test_what_was_not_measured_is_none_and_cannot_be_compared() -> None:
    found = result(head_failure().without("landed"))
    figures = (found.sent, found.lost, found.in_flight, found.lost_beyond_in_flight, found.availability)
    assert figures == (None,) * 5
    with pytest.raises(TypeError):
        assert found.longest_outage < 90  # type: ignore[operator]


def test_each_fault_needs_evidence_of_its_own() -> None:
    story = Story(expectations=Expectations()).event(20.0, "asked", "SIGKILL to a replica")
    found = judge(story.history(), story.experiment)
    assert found.outcome == "inconclusive"
    assert "one of 2 faults did not land: SIGKILL to a replica" in found.reasons


def test_a_window_without_requests_in_its_beginning_is_not_full() -> None:
    story = Story(expectations=only(longest_outage=1.0, window=12.0))
    story.requests = [r for r in story.requests if not -1.0 <= r.scheduled - FAULT < 8.0]
    found = verdict(story)
    assert found.outcome == "inconclusive"
    assert "from 0.0 s to 8.0 s after the fault none was sent, and the window of 12 s was over" in found.reasons[0]


# -- who looks, and when -------------------------------------------------------------------------------------------


def test_few_requests_on_persistent_connections_fail_only_where_it_is_no_chance() -> None:
    for lost, outcome in ((1, "passed"), (8, "failed")):
        story = Story(expectations=only(availability=0.9, persistent_availability=0.9))
        for k in range(8):
            error = "ReadTimeout" if k < lost else None
            one = replace(request(FAULT + 1.0 + k, error), index=k, stream="kept:0", path="proxy on worker-1")
            story.requests.append(one)
        assert verdict(story).outcome == outcome


@pytest.mark.parametrize(("lost", "outcome"), [(0, "inconclusive"), (1, "inconclusive"), (2, "failed")])
def test_few_requests_on_persistent_connections_do_not_show_a_high_share(lost: int, outcome: str) -> None:
    """40 requests: two that are lost are more than a share of 99.9 % loses by chance, and one may be the only one."""
    story = Story(expectations=only(availability=0.999, persistent_availability=0.999, window=20.0), rate=200.0)
    for k in range(40):
        one = request(FAULT + k / 2, "ReadTimeout" if k < lost else None)
        story.requests.append(replace(one, index=k, stream="kept:0", path="proxy on worker-1"))
    found = verdict(story)
    assert found.outcome == outcome, found.reasons
    if outcome == "inconclusive":
        (reason,) = found.reasons
        assert reason.startswith(f"too few requests: 40 requests on persistent connections, {lost} of them lost. ")
        assert "persistent_availability of 99.9 % is judged on 3000 or more" in reason


def test_what_is_sent_on_persistent_connections_after_the_window_is_not_judged() -> None:
    story = Story(expectations=only(availability=0.9, persistent_availability=0.9))
    for k in range(60):
        error = "ReadTimeout" if k > 25 else None
        story.requests.append(
            replace(request(FAULT + k, error), index=k, stream="kept:0", path="proxy on worker-1")
        )  # the window is 20 s
    assert result(story).measurement.persistent_sent == 21
    assert_passed(story)


def test_a_generator_that_was_late_just_before_or_after_a_late_outage_cannot_be_believed() -> None:
    for begin, end in ((39.2, 40.0), (42.0, 42.8)):
        story = Story(expectations=only(longest_outage=3.0)).lose(40.0, 42.0)
        for i, r in enumerate(story.requests):
            if begin <= r.scheduled - FAULT < end:
                story.requests[i] = request(r.scheduled, lag=0.5, takes=0.51)
        assert verdict(story).outcome == "inconclusive", (begin, end)


def test_redundancy_that_was_back_and_gone_at_the_end_never_came() -> None:
    story = Story(expectations=only(redundancy_back=30.0, traffic_back=30.0))
    story.event(50.0, "redundancy_missing", "no proxy on head")
    found = result(story)
    assert found.redundancy_back is None
    assert found.never_redundant
    assert result(story.event(55.0, "redundancy_back", "all are there")).redundancy_back == pytest.approx(55.0)


def test_the_longest_of_several_outages_is_named() -> None:
    story = Story(expectations=only(longest_outage=1.0)).lose(5.0, 8.0).slow(30.0, 31.5, 4.0)
    (reason,) = verdict(story).reasons
    assert reason == "the longest outage lasted 3.0 s, and 1 shorter one came with it. Allowed: 1 s."


def test_few_requests_that_were_not_sent_are_no_failure_of_the_app() -> None:
    story = Story(expectations=only(lost_beyond_in_flight=0))
    i = next(i for i, r in enumerate(story.requests) if r.scheduled >= FAULT + 3)
    story.requests[i] = replace(request(story.requests[i].scheduled, "NotSent", takes=0.0), sent=None)
    found = verdict(story)
    assert found.outcome == "inconclusive"
    assert found.reasons == (
        "a demand was missed only because the load generator did not send 1 of 3501 requests: "
        "1 request lost beyond the 0 that were in flight when the fault hit. Allowed: 0.",
    )


# -- requests that show nothing ---------------------------------------------------------------------------------------


def test_a_window_in_which_no_request_was_due_shows_nothing() -> None:
    sparse = Story(expectations=only(longest_outage=20.0, window=1.0), rate=0.2)
    sparse.requests = [replace(r, scheduled=r.scheduled + 2, finished=r.finished + 2) for r in sparse.requests]
    found = result(sparse)
    assert (found.outcome, found.availability) == ("inconclusive", None)
    assert found.reasons == ("no requests were sent in the 1 s after the fault",)


def test_an_outage_after_a_short_window_gives_it_no_more_requests() -> None:
    story = Story(expectations=only(availability=0.9, window=1.0), rate=5.0).lose(50.0, 50.2)
    found = result(story)
    assert found.sent == 252
    assert found.outcome == "inconclusive"
    assert "too few requests: 6 in the 1 s after the fault" in found.reasons[0]


@pytest.mark.parametrize("demand", ["longest_outage", "traffic_back"])
def test_requests_that_are_too_far_apart_do_not_show_how_short_an_outage_is(demand: str) -> None:
    found = verdict(Story(expectations=only(**{demand: 0.5}), rate=1.0))
    assert found.outcome == "inconclusive"
    assert found.reasons == (f"requests that are 1.0 s apart do not show {demand}=0.5 s: send more, or allow more",)
    assert_passed(Story(expectations=only(**{demand: 2.0}), rate=1.0))


def test_where_requests_were_lost_before_the_fault_too_there_is_no_p99_to_compare_with() -> None:
    found = verdict(Story(expectations=only(p99_ratio=2.0)).lose(-2.0, -1.0, takes=0.01))
    assert found.outcome == "inconclusive"
    assert found.reasons == (
        "more than 1 % of the requests were lost before the fault, so there is no p99 to compare with",
    )


def test_traffic_that_ended_before_a_victim_that_ends_slowly_tested_nothing() -> None:
    story = Story(expectations=only(longest_outage=2.0), traffic_until=25.0)
    assert_passed(story.event(24.0, "hit", "worker-1 has ended"))
    late = Story(expectations=only(longest_outage=2.0), traffic_until=25.0).event(30.0, "hit", "worker-1 has ended")
    found = verdict(late)
    assert found.outcome == "inconclusive"
    assert found.reasons == ("no requests were sent after the victim had ended, so nothing was tested",)


# -- waits that may be usual ------------------------------------------------------------------------------------------


def now_and_then(story: Story, *, every: int, takes: float) -> Story:
    """An app of whose answers one in so many takes long, before the fault as after it."""
    for i, r in enumerate(story.requests):
        if i % every == 0 and r.error is None:
            story.requests[i] = request(r.scheduled, takes=takes)
    return story


@pytest.mark.parametrize("every", [150, 400])
def test_answers_that_take_long_now_and_then_are_no_failure(every: int) -> None:
    found = result(now_and_then(head_failure(HEAD), every=every, takes=3.0))
    assert found.outcome == "inconclusive"
    assert "waited longer than 1.0 s now and then, as others may have before the fault" in found.reasons[0]
    assert "say slow_after, and a longest_outage that is no shorter" in found.reasons[0]
    assert "traffic was back 5" in found.reasons[0]


def test_who_says_what_is_too_long_may_have_answers_that_take_long_now_and_then() -> None:
    demands = replace(HEAD, slow_after=3.5, longest_outage=4.0)
    assert_passed(now_and_then(head_failure(demands), every=150, takes=3.0))
    strict = result(now_and_then(head_failure(replace(HEAD, slow_after=1.0)), every=150, takes=3.0))
    assert strict.outcome == "failed"


def test_what_waits_far_more_often_than_before_fails_where_some_waited_before_too() -> None:
    story = now_and_then(Story(expectations=HEAD), every=150, takes=3.0)
    for i, r in enumerate(story.requests):
        if 0 <= r.scheduled - FAULT < 30.0 and i % 3 == 0:
            story.requests[i] = request(r.scheduled, takes=4.0)
    found = result(story)
    assert found.outcome == "failed"
    assert any(reason.startswith("the longest outage lasted 30.") for reason in found.reasons)


def test_a_few_that_wait_close_together_are_no_chance() -> None:
    # Five of ten within 0.2 s: among the hundred of the two seconds around them they would not be seen.
    story = Story(expectations=only(longest_outage=0.1)).slow(0.02, 0.22, 0.009)
    for i, r in enumerate(story.requests):
        if 0.02 <= r.scheduled - FAULT < 0.22 and i % 2 == 0:
            story.requests[i] = request(r.scheduled, takes=0.1)
    found = result(story)
    assert found.outcome == "failed"
    assert any("the longest outage lasted 0.2" in reason for reason in found.reasons)


def test_who_waits_as_usual_alongside_what_was_not_sent_is_no_failure() -> None:
    # The requests that were not sent would have been answered at once: they do not make usual waits more frequent.
    story = Story(expectations=only(traffic_back=5.0, window=14.0), rate=0.5)
    for i, r in enumerate(story.requests):
        at = r.scheduled - FAULT
        if at in (2.0, 4.0):
            story.requests[i] = replace(request(r.scheduled, "NotSent", takes=0.0), sent=None)
        elif at == 8.0:
            story.requests[i] = request(r.scheduled, takes=3.0)
    found = result(story)
    assert found.outcome == "inconclusive"
    assert "did not send 2 of 36 requests and 1 request waited longer" in found.reasons[0]
