from __future__ import annotations

from pytest_serve_chaos.analysis.result import result_of
from pytest_serve_chaos.report.junit import properties
from tests.unit.histories import Story, deaf_controller, head_failure, node_failure, not_started


def properties_of(story: Story) -> list[tuple[str, str]]:
    return properties(result_of(story.history(), story.experiment))


def test_a_test_case_carries_verdict_and_figures() -> None:
    assert properties_of(head_failure()) == [
        ("serve_chaos_experiment", "head_failure"),
        ("serve_chaos_fault", "SIGKILL to the head"),
        ("serve_chaos_verdict", "passed"),
        ("serve_chaos_sent", "1003"),
        ("serve_chaos_lost", "3"),
        ("serve_chaos_in_flight", "3"),
        ("serve_chaos_lost_beyond_in_flight", "0"),
        ("serve_chaos_availability", "0.997009"),
        ("serve_chaos_availability_low", "0.991284"),
        ("serve_chaos_availability_high", "0.999383"),
        ("serve_chaos_longest_outage", "0.060"),
        ("serve_chaos_traffic_back", "0.020"),
        ("serve_chaos_p99_before", "0.008"),
        ("serve_chaos_p99_during", "0.008"),
        ("serve_chaos_redundancy_back", "19.800"),
        ("serve_chaos_settled", "21.000"),
    ]


def test_every_reason_is_a_property() -> None:
    reasons = [value for name, value in properties_of(node_failure()) if name == "serve_chaos_reason"]
    assert len(reasons) == 2
    assert reasons[1].startswith("the longest outage lasted 24.0 s")


def test_what_did_not_come_is_never() -> None:
    assert ("serve_chaos_settled", "never") in properties_of(deaf_controller())
    assert ("serve_chaos_traffic_back", "never") in properties_of(Story().lose(50.0, 70.0))


def test_what_was_not_measured_is_left_out() -> None:
    assert [name for name, _ in properties_of(not_started())] == [
        "serve_chaos_experiment",
        "serve_chaos_verdict",
        "serve_chaos_reason",
        "serve_chaos_p99_before",
    ]
