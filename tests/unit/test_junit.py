from __future__ import annotations

from dataclasses import replace

from pytest_serve_chaos.model import NO_DEMANDS, Checked, ClusterDescription, ConfigWarning
from pytest_serve_chaos.report.junit import properties
from pytest_serve_chaos.results import result_of
from tests.unit.histories import FAULT, Story, deaf_controller, head_failure, node_failure, not_started, request


def properties_of(story: Story) -> list[tuple[str, str]]:
    return properties(result_of(story.history(), story.experiment))


def test_a_test_case_carries_verdict_and_figures() -> None:
    assert properties_of(head_failure()) == [
        ("serve_chaos_experiment", "head_failure"),
        ("serve_chaos_fault", "SIGKILL to the head"),
        ("serve_chaos_verdict", "passed"),
        ("serve_chaos_sent", "1003"),
        ("serve_chaos_lost", "3"),
        ("serve_chaos_late", "0"),
        ("serve_chaos_in_flight", "3"),
        ("serve_chaos_lost_beyond_in_flight", "0"),
        ("serve_chaos_persistent_sent", "0"),
        ("serve_chaos_persistent_lost", "0"),
        ("serve_chaos_not_sent", "0"),
        ("serve_chaos_most_in_flight", "4"),
        ("serve_chaos_availability", "0.997009"),
        ("serve_chaos_availability_low", "0.991284"),
        ("serve_chaos_availability_high", "0.999383"),
        ("serve_chaos_seconds", "20.000"),
        ("serve_chaos_outages", "1"),
        ("serve_chaos_longest_outage", "0.020"),
        ("serve_chaos_slow_after", "1.008"),
        ("serve_chaos_traffic_back", "0.020"),
        ("serve_chaos_send_lag_p99", "0.000"),
        ("serve_chaos_error", "RemoteProtocolError: 3"),
        ("serve_chaos_p99_before", "0.008"),
        ("serve_chaos_p99_during", "0.008"),
        ("serve_chaos_redundancy_back", "19.800"),
        ("serve_chaos_settled", "21.000"),
    ]


def test_what_was_under_test_what_foresaw_it_and_what_checks_found_are_properties() -> None:
    result = result_of(head_failure().history(), "head_failure")
    described = replace(
        result,
        description=ClusterDescription("local", "2.60.0", 2, "redis", "a:app", "fast", 4, "http://127.0.0.1/"),
        warnings=(ConfigWarning("no_spread", "one node has all replicas", "losing it is an outage", "spread them"),),
        checks=(Checked("p999", missed=("over 1 s",)), Checked("tokens")),
    )
    found = properties(described)
    assert ("serve_chaos_ray_version", "2.60.0") in found
    assert ("serve_chaos_backend", "local") in found
    warned = "one node has all replicas: losing it is an outage. To fix this: spread them."
    assert ("serve_chaos_warning", warned) in found
    checks = [value for name, value in found if name == "serve_chaos_check"]
    assert checks == ["p999: missed: over 1 s", "tokens: met"]


def test_when_a_fault_was_healed_is_a_property() -> None:
    assert ("serve_chaos_healed", "15.000") in properties_of(Story().event(15.0, "healed", "it may start"))


def test_what_nobody_demanded_is_measured_and_carries_its_figures() -> None:
    found = dict(properties_of(head_failure(NO_DEMANDS)))
    assert (found["serve_chaos_verdict"], found["serve_chaos_lost"]) == ("measured", "3")


def test_late_answers_and_losses_on_persistent_connections_are_figures() -> None:
    story = Story().slow(3.0, 8.0, takes=4.0)
    kept = [request(FAULT + at, error) for at, error in ((1.0, None), (2.0, "ReadError"))]
    story.requests += [replace(one, stream="kept:0") for one in kept]
    found = dict(properties_of(story))
    assert (found["serve_chaos_lost"], found["serve_chaos_late"]) == ("0", "250")
    assert (found["serve_chaos_persistent_sent"], found["serve_chaos_persistent_lost"]) == ("2", "1")


def test_a_share_names_the_seconds_that_it_is_of() -> None:
    """The outage ends 48 s after the fault, so the share is that of 48 s, and not of the window."""
    found = dict(properties_of(Story().lose(25.0, 48.0)))
    assert found["serve_chaos_seconds"] == "48.000"
    assert found["serve_chaos_availability"] == f"{1251 / 2401:.6f}"


def test_a_p99_that_is_a_lost_request_is_never() -> None:
    assert ("serve_chaos_p99_during", "never") in properties_of(node_failure())


def test_every_remark_is_a_property() -> None:
    story = head_failure().event(40.0, "remark", "4 replicas per node instead of 2/2")
    assert ("serve_chaos_remark", "4 replicas per node instead of 2/2") in properties_of(story)


def test_every_reason_is_a_property() -> None:
    reasons = [value for name, value in properties_of(node_failure()) if name == "serve_chaos_reason"]
    assert len(reasons) == 2
    assert reasons[1].startswith("the longest outage lasted 24.0 s")


def test_what_did_not_come_is_never() -> None:
    assert ("serve_chaos_settled", "never") in properties_of(deaf_controller())
    assert ("serve_chaos_traffic_back", "never") in properties_of(Story().lose(50.0, 70.0))
    in_vain = Story(expectations=NO_DEMANDS).without("redundancy_back")
    assert "serve_chaos_redundancy_back" not in dict(properties_of(in_vain))
    in_vain.event(50.0, "redundancy_missing", "redundancy is not back")
    assert ("serve_chaos_redundancy_back", "never") in properties_of(in_vain)


def test_what_was_not_measured_is_left_out() -> None:
    assert [name for name, _ in properties_of(not_started())] == [
        "serve_chaos_experiment",
        "serve_chaos_verdict",
        "serve_chaos_reason",
        "serve_chaos_not_sent",
        "serve_chaos_most_in_flight",
        "serve_chaos_p99_before",
    ]
