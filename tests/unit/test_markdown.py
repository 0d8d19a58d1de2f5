from __future__ import annotations

from dataclasses import replace

from pytest_serve_chaos.analysis.result import Result
from pytest_serve_chaos.model import NO_DEMANDS, ClusterDescription, ConfigWarning
from pytest_serve_chaos.report.markdown import summary
from pytest_serve_chaos.results import result_of
from tests.unit.histories import Story, head_failure, node_failure, not_started

CLUSTER = ClusterDescription("kind", "2.60.0", 2, "redis", "apps.sleepy_pid:app", "fast", 6, "http://127.0.0.1:1/")
ABOUT = "kind backend, ray 2.60.0, head + 2 workers, redis; app sleepy\\_pid, 6 replicas"


def on_kind(*stories: Story, gcs: str = "redis") -> list[Result]:
    cluster = replace(CLUSTER, gcs=gcs)
    return [replace(result_of(story.history(), story.experiment), description=cluster) for story in stories]


def test_a_run_is_a_table_with_what_went_wrong_below() -> None:
    text = summary(on_kind(head_failure(), node_failure(), not_started()))
    heading, empty, titles, rule, head, node, idle, gap, late, other_gap, *reasons = text.splitlines()
    assert (heading, empty, gap, other_gap) == (f"### {ABOUT}", "", "", "")
    assert titles.startswith("| experiment | verdict | lost or late / sent | in flight |")
    assert titles.count("|") == rule.count("|") == head.count("|") == node.count("|") == idle.count("|")
    assert head.startswith("| head\\_failure | passed | 3 / 1003 | 3 | 99.70 % in 20 s | 0.02 s |")
    assert node.startswith("| node\\_failure | **FAILED** | ")
    assert idle.startswith("| worker\\_failure | **INCONCLUSIVE** |  |")
    assert late == "late: answered more than 1.0 s after the request was due"
    assert [line.split(":")[0] for line in reasons] == [
        "- **node\\_failure**",
        "- **node\\_failure**",
        "- **worker\\_failure**",
    ]


def test_what_was_only_measured_stands_out() -> None:
    """Only *passed* is green by itself."""
    assert "| head\\_failure | **measured** | 3 / 1003 |" in summary(on_kind(head_failure(NO_DEMANDS)))


def test_a_remark_of_a_row_that_passed_stands_below() -> None:
    text = summary(on_kind(head_failure().event(40.0, "remark", "4 replicas instead of 2/2")))
    assert text.splitlines()[-1] == "- **head\\_failure**: note: 4 replicas instead of 2/2"


def test_each_cluster_has_a_table_of_its_own() -> None:
    results = [*on_kind(head_failure()), *on_kind(node_failure(), gcs="none")]
    headings = [line for line in summary(results).splitlines() if line.startswith("###")]
    assert headings == [f"### {ABOUT}", f"### {ABOUT.replace('redis', 'no GCS fault tolerance')}"]


def test_a_warning_is_shown_as_it_is() -> None:
    warning = ConfigWarning("code", "a|b <c> `d`", "lost", "")
    assert summary([], [warning]) == "No experiment was judged.\n\n- warning: a\\|b &lt;c> \\`d\\`: lost.\n"
