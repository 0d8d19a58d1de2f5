from __future__ import annotations

import pytest

from pytest_serve_chaos.analysis.result import Result
from pytest_serve_chaos.errors import Inconclusive, SettingsError
from pytest_serve_chaos.events import ComponentCame, ComponentGone
from pytest_serve_chaos.history import History
from pytest_serve_chaos.model import NO_DEMANDS, ClusterDescription
from pytest_serve_chaos.results import result_of
from tests.unit.histories import Story, component, deaf_controller, head_failure, not_started, written


def result(story: Story) -> Result:
    return result_of(story.history(), story.experiment)


def test_a_result_reads_as_in_the_examples() -> None:
    found = result(head_failure())
    assert found.passed
    assert found.replaced("head")
    assert found.kept("replicas", on="workers")
    assert not found.kept("replicas", "controller")
    assert not found.replaced("replicas")
    assert found.replaced("head", "controller")
    assert not found.replaced("head", "replicas")
    assert not found.replaced()
    assert found.longest_outage is not None
    assert found.longest_outage < 90
    assert (found.sent, found.lost, found.in_flight, found.lost_beyond_in_flight) == (1003, 3, 3, 0)


def test_figures_pass_through() -> None:
    found = result(head_failure())
    m = found.measurement
    assert (found.availability, found.longest_outage, found.traffic_back) == (
        m.availability,
        m.longest_outage,
        m.traffic_back,
    )
    assert (found.redundancy_back, found.settled) == (m.redundancy_back, m.settled)


def test_a_result_says_why_not() -> None:
    found = result(deaf_controller())
    assert (found.outcome, found.passed, found.never_settled) == ("failed", False, True)
    assert found.reasons == found.verdict.reasons != ()
    assert found.was_kept("controller").reason == "1 of 1 controller not kept: controller (PID 200)"


def test_nobody_was_replaced_or_kept_because_of_a_fault_that_did_not_land() -> None:
    """On a cluster where a fault does nothing everybody is kept, and that shows nothing."""
    for story in (not_started(), head_failure().without("landed")):
        found = result(story)
        with pytest.raises(Inconclusive, match="it is unknown who was replaced and who stayed: "):
            found.replaced("head")
        with pytest.raises(Inconclusive, match="it is unknown who was replaced and who stayed: "):
            found.kept("replicas", on="workers")
    assert result(not_started()).was_kept("head").reason == "it was not seen who was alive before the fault"


def test_of_what_nobody_saw_nothing_holds() -> None:
    unseen = head_failure()
    unseen.events = [event for event in unseen.events if event.text != "after"]
    assert not result(unseen).replaced("head")
    assert not result(unseen).kept("replicas", on="workers")
    assert result(unseen).was_kept("head").reason == "it was not seen who was alive after it"


def test_figures_that_were_not_measured_are_none_and_no_limit_holds_of_them() -> None:
    found = result(head_failure().without("landed"))
    assert (found.sent, found.lost, found.late, found.in_flight, found.lost_beyond_in_flight) == (None,) * 5
    assert (found.availability, found.longest_outage, found.traffic_back) == (None,) * 3
    with pytest.raises(TypeError):
        assert found.longest_outage < 90  # type: ignore[operator]


def test_remarks_are_there_once_each_in_order() -> None:
    story = head_failure().event(30.0, "remark", "one").event(31.0, "remark", "two").event(32.0, "remark", "one")
    assert result(story).remarks == ("one", "two")


def test_what_nobody_demanded_is_measured_and_has_not_passed() -> None:
    found = result(head_failure(NO_DEMANDS))
    assert (found.outcome, found.passed, found.lost) == ("measured", False, 3)


def test_late_answers_are_a_figure_of_their_own() -> None:
    found = result(Story().slow(3.0, 8.0, takes=4.0))
    assert (found.lost, found.late) == (0, 250)
    assert found.longest_outage == pytest.approx(5.0)


def test_nothing_named_is_nothing_kept() -> None:
    assert not result(head_failure()).kept()


@pytest.mark.parametrize("story", [head_failure, not_started])
def test_an_unknown_role_is_an_error_and_not_false(story: type[Story]) -> None:
    with pytest.raises(SettingsError, match="'nodes' does not select anything"):
        result(story()).kept("nodes")


def test_what_went_and_came_again_is_not_gone() -> None:
    replica = component("replica", "worker-1")
    story = head_failure().add(1.0, ComponentGone("a replica", component=replica))
    assert not result(story).kept("replicas@worker-1")
    assert result(story.add(2.0, ComponentCame("a replica", component=replica))).kept("replicas@worker-1")


def test_what_goes_when_the_cluster_is_put_right_again_was_kept() -> None:
    story = head_failure().add(61.0, ComponentGone("a deaf proxy", component=component("proxy", "worker-1")))
    assert result(story).kept("proxies", on="workers")


def test_the_cluster_is_the_one_described_last_before_the_experiment() -> None:
    history = History()
    for at, app in ((0.0, "first:app"), (500.0, "second:app"), (5000.0, "third:app")):
        cluster = ClusterDescription("local", "2.60.0", 2, "redis", app, "fast", 4, "http://127.0.0.1:8000/")
        history.add(written("run", app, at=at, data={**_plain(cluster), "rate": 50.0, "seed": 1}))
    head_failure().add_to(history)
    found = result_of(history, "head_failure").description
    assert found is not None
    assert found.app == "second:app"


def test_without_its_description_the_cluster_is_unknown() -> None:
    history = History()
    history.add(written("run", "something", at=0.0, data={"seed": 1}))
    head_failure().add_to(history)
    assert result_of(history, "head_failure").description is None


def _plain(cluster: ClusterDescription) -> dict[str, str | int]:
    return {
        "backend": cluster.backend,
        "ray_version": cluster.ray_version,
        "workers": cluster.workers,
        "gcs": cluster.gcs,
        "app": cluster.app,
        "profile": cluster.profile,
        "replicas": cluster.replicas,
        "url": cluster.url,
    }
