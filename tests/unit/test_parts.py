"""Several apps, and several kinds of requests: each is judged by its own requests, and named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from pytest_serve_chaos.analysis.result import Result
from pytest_serve_chaos.errors import SettingsError
from pytest_serve_chaos.events import Demanded, SteadyConfirmed
from pytest_serve_chaos.history import History
from pytest_serve_chaos.model import Expectations, PartDemands, PartName
from pytest_serve_chaos.report.document import summary_document
from pytest_serve_chaos.report.junit import properties
from pytest_serve_chaos.report.markdown import summary
from pytest_serve_chaos.report.terminal import summary_table
from pytest_serve_chaos.results import result_of
from tests.unit.histories import FAULT, Story, request

LENIENT = Expectations(availability=0.9, longest_outage=None, traffic_back=None)


def several(story: Story, shares: dict[str, int], kind: str = "app") -> Story:
    """Gives the requests to apps, or to names: so many of each ten, one after the other."""
    order = [name for name, number in shares.items() for _ in range(number)]
    for n, r in enumerate(story.requests):
        name = order[n % len(order)]
        story.requests[n] = replace(r, index=n, app=name) if kind == "app" else replace(r, index=n, name=name)
    judged = {f"{kind}s": tuple(shares)}
    story.events = [replace(e, **judged) if isinstance(e, Demanded) else e for e in story.events]  # type: ignore[arg-type]
    return story


def losing(
    story: Story, name: str, start: float = 0.0, end: float = 20.0, *, kind: str = "app", every: int = 1
) -> Story:
    """Loses every n-th request of that app, or of that name."""
    own = [n for n, r in enumerate(story.requests) if getattr(r, kind) == name and start <= r.scheduled - FAULT < end][
        ::every
    ]
    for n in own:
        story.requests[n] = replace(story.requests[n], status=500, error="HTTP 500")
    return story


def result(story: Story) -> Result:
    return result_of(story.history(), story.experiment)


THREE = {"front": 1, "chat": 1, "vision": 1}


def test_three_sound_apps_pass_and_have_figures_of_their_own() -> None:
    found = result(several(Story(), THREE))
    assert found.outcome == "passed", found.reasons
    assert [(part.of.kind, part.of.name) for part in found.parts] == [("app", name) for name in THREE]
    assert sum(part.measurement.sent or 0 for part in found.parts) == found.sent


def test_one_app_of_three_fails_though_all_together_are_fine() -> None:
    story = losing(several(Story(expectations=LENIENT), THREE), "chat", every=4)
    found = result(story)
    assert found.availability is not None
    assert found.availability > 0.9
    assert found.outcome == "failed"
    assert found.reasons
    assert all(reason.startswith("app chat: ") for reason in found.reasons)


def test_an_app_without_requests_is_inconclusive_and_named() -> None:
    story = several(Story(), THREE)
    story.requests = [r for r in story.requests if r.app != "vision"]
    found = result(story)
    assert found.outcome == "inconclusive"
    assert all(reason.startswith("app vision: no requests were sent") for reason in found.reasons), found.reasons


def test_an_app_with_too_few_requests_is_inconclusive_and_named() -> None:
    found = result(several(Story(), {"front": 19, "chat": 1}))
    assert found.outcome == "inconclusive"
    assert any(reason.startswith("app chat: too few requests: 5") for reason in found.reasons), found.reasons


def test_an_app_with_too_few_requests_fails_if_it_loses_all_of_them() -> None:
    found = result(losing(several(Story(expectations=LENIENT), {"front": 99, "chat": 1}), "chat"))
    assert found.outcome == "failed"
    assert "app chat: 10 of 10 requests lost or late" in found.reasons[0] or "app chat: 11 of 11" in found.reasons[0]


def test_a_slow_app_does_not_hide_that_a_quick_one_has_become_slow() -> None:
    """All together wait no longer than the slow app always does."""
    story = several(Story(expectations=Expectations(longest_outage=1.0)), {"quick": 1, "slow": 1})
    story.requests = [replace(r, finished=r.scheduled + 1.5) if r.app == "slow" else r for r in story.requests]
    assert result(story).outcome == "passed"
    for n, r in enumerate(story.requests):
        if r.app == "quick" and 0 <= r.scheduled - FAULT < 20:
            story.requests[n] = replace(r, finished=r.scheduled + 1.4)
    found = result(story)
    assert found.outcome == "failed"
    assert all(reason.startswith("app quick: ") for reason in found.reasons), found.reasons


def test_an_outage_of_one_app_after_that_of_another_is_not_one_of_both() -> None:
    story = several(Story(expectations=Expectations(availability=0.8)), {"a": 1, "b": 1})
    losing(losing(story, "a", 0.0, 1.8), "b", 2.0, 3.8)
    found = result(story)
    assert found.longest_outage is not None
    assert found.longest_outage > 3
    assert found.outcome == "passed", found.reasons


def own_demands(story: Story, *demands: PartDemands) -> Story:
    """Demands something else of some parts."""
    story.events = [replace(e, of_parts=demands) if isinstance(e, Demanded) else e for e in story.events]
    return story


@pytest.mark.parametrize(("app", "outcome"), [("often", "failed"), ("rare", "passed")])
def test_the_outage_that_is_allowed_by_default_is_that_of_each_app(app: str, outcome: str) -> None:
    """An outage of 3 s: too long for an app of 45 requests a second, and less than five every second can show."""
    story = several(Story(expectations=Expectations(availability=0.7)), {"often": 9, "rare": 1})
    own_demands(story, PartDemands(PartName("app", "rare"), 4.0, 30.0))
    found = result(losing(story, app, 2.0, 5.0))
    assert found.outcome == outcome, found.reasons
    if outcome == "failed":
        assert found.reasons[0].startswith("app often: the longest outage lasted 3.0 s")
        assert found.reasons[0].endswith("Allowed: 2 s.")


def test_what_is_demanded_of_parts_is_in_the_file(tmp_path: Path) -> None:
    story = several(Story(expectations=Expectations(availability=0.7)), {"often": 9, "rare": 1})
    losing(own_demands(story, PartDemands(PartName("app", "rare"), 4.0, None)), "rare", 2.0, 5.0)
    live = result_of(story.history(tmp_path / "history.jsonl"), story.experiment)
    assert live.passed
    assert result_of(History.load(tmp_path / "history.jsonl"), story.experiment).verdict == live.verdict


def late(story: Story) -> Story:
    """The generator sent each request 0.15 s late, and may be late by less."""
    story.requests = [replace(r, sent=r.scheduled + 0.15, finished=r.finished + 0.15) for r in story.requests]
    return story


LATE = Expectations(availability=None, longest_outage=3.0, traffic_back=None, send_lag_limit=0.1)


def test_of_a_late_generator_too_an_outage_of_one_app_after_that_of_another_is_not_one_of_both() -> None:
    story = several(Story(expectations=LATE), {"a": 1, "b": 1})
    found = result(late(losing(losing(story, "a", 0.0, 2.5), "b", 2.6, 5.0)))
    assert found.longest_outage is not None
    assert found.longest_outage > 4.5
    assert found.outcome == "inconclusive", found.reasons


def test_of_a_late_generator_too_an_app_whose_outage_lasted_far_longer_fails() -> None:
    found = result(late(losing(several(Story(expectations=LATE), THREE), "chat", 0.0, 6.0)))
    assert found.outcome == "failed", found.reasons
    assert found.reasons[0].startswith("app chat: the longest outage lasted")
    assert found.reasons[-1].endswith("lasted far longer than that, and these reasons count nothing else")


def test_requests_lost_beyond_in_flight_are_counted_of_all_apps() -> None:
    story = several(Story(expectations=replace(LENIENT, lost_beyond_in_flight=5)), {"a": 1, "b": 1})
    losing(losing(story, "a", 1.0, 1.2), "b", 2.0, 2.2)
    assert result(story).outcome == "failed"


def test_one_loss_on_the_persistent_connections_of_one_app_of_three_is_too_few_requests() -> None:
    """All together show the share; the requests of each app do not."""
    demands = replace(LENIENT, availability=0.99, persistent_availability=0.99)
    story = several(Story(expectations=demands), THREE)
    for k in range(360):
        app = ("front", "chat", "vision")[k % 3]
        error = "ReadTimeout" if k == 100 else None
        one = replace(request(FAULT + k / 18, error), stream="kept:0", path="proxy on worker-1", app=app)
        story.requests.append(one)
    found = result(story)
    assert found.outcome == "inconclusive"
    assert [reason.partition(":")[0] for reason in found.reasons] == [f"app {app}" for app in THREE]
    assert all("too few requests: 120 requests on persistent connections" in reason for reason in found.reasons)


# -- names -------------------------------------------------------------------------------------------------------------


def test_names_are_judged_in_addition_to_all_requests() -> None:
    found = result(several(Story(), {"chat": 1, "embed": 1}, "name"))
    assert found.outcome == "passed", found.reasons
    assert [part.of.name for part in found.parts] == ["chat", "embed"]


def test_a_name_fails_though_all_together_are_fine() -> None:
    story = losing(several(Story(expectations=LENIENT), {"chat": 9, "embed": 1}, "name"), "embed", kind="name")
    found = result(story)
    assert found.outcome == "failed"
    assert any(reason.startswith("requests 'embed': ") for reason in found.reasons), found.reasons


def test_one_loss_among_few_requests_of_a_name_is_one_of_those_that_all_may_lose() -> None:
    story = several(
        Story(expectations=replace(LENIENT, availability=0.998), rate=100.0), {"chat": 9, "embed": 1}, "name"
    )
    story.requests = [r for n, r in enumerate(story.requests) if r.name == "chat" or n % 900 == 9]
    found = result(losing(story, "embed", 0.0, 10.0, kind="name"))
    assert (found.part("embed").lost, found.part("embed").sent) == (1, 2)
    assert found.outcome == "passed", found.reasons


def test_a_name_with_few_requests_is_a_remark_unless_it_fails_for_certain() -> None:
    seldom = several(Story(expectations=LENIENT), {"chat": 99, "embed": 1}, "name")
    found = result(seldom)
    assert found.outcome == "passed", found.reasons
    assert any("requests 'embed': not judged by themselves: too few requests" in text for text in found.remarks)
    assert result(losing(seldom, "embed", kind="name", end=2.0)).outcome == "passed"
    failed = result(losing(seldom, "embed", kind="name"))
    assert failed.outcome == "failed"
    assert not [reason for reason in failed.reasons if "too few requests" in reason], failed.reasons


# -- histories and reports ---------------------------------------------------------------------------------------------


def seldom(story: Story, kind: str, *before: float, takes: float = 4.0) -> Story:
    """One in 250 requests is slow, before and after the fault; of those before it, only these are there."""
    steady = story.add(-4.0, SteadyConfirmed("steady since then"))
    several(steady, {"quick": 1}, kind)
    for n, r in enumerate(story.requests):
        due = round(r.scheduled - FAULT, 2)
        if due in before or (due > 0 and n % 250 == 7):
            named = replace(r, app="slow") if kind == "app" else replace(r, name="slow")
            story.requests[n] = replace(named, finished=r.scheduled + takes)
    judged = {f"{kind}s": ("quick", "slow")}
    story.events = [replace(e, **judged) if isinstance(e, Demanded) else e for e in story.events]  # type: ignore[arg-type]
    return story


SOME = replace(LENIENT, availability=0.3, longest_outage=12.0, window=40.0)


@pytest.mark.parametrize("kind", ["app", "name"])
def test_what_is_usual_of_few_requests_is_seen_in_those_before_the_steady_seconds(kind: str) -> None:
    found = result(seldom(Story(expectations=SOME), kind, -9.0, -7.0))
    assert found.outcome == "passed", found.reasons
    found = result(losing(seldom(Story(expectations=SOME), kind, -9.0, -7.0), "slow", 0.0, 60.0, kind=kind))
    assert found.outcome == "failed", found.reasons


@pytest.mark.parametrize(("kind", "outcome"), [("app", "inconclusive"), ("name", "passed")])
def test_one_lost_request_is_no_outage_until_the_next_block_of_a_file(kind: str, outcome: str) -> None:
    story = several(Story(expectations=replace(LENIENT, longest_outage=2.0)), {"a": 250, "b": 250}, kind)
    found = result(losing(story, "a", 4.97, 5.0, kind=kind))
    assert found.part("a").longest_outage == pytest.approx(5.0, abs=0.1)
    assert found.outcome == outcome, found.reasons
    assert "requests that are 5.0 s apart do not show longest_outage=2 s" in str((found.reasons, found.remarks))
    longer = several(Story(expectations=replace(LENIENT, longest_outage=2.0)), {"a": 250, "b": 250}, kind)
    assert result(losing(longer, "a", 0.0, 26.0, kind=kind)).outcome == "failed"


@pytest.mark.parametrize(("kind", "outcome"), [("app", "inconclusive"), ("name", "passed")])
def test_one_lost_request_of_those_that_are_chosen_by_weight_is_no_outage_until_the_next(
    kind: str, outcome: str
) -> None:
    """One a second on average, but not evenly; the next one, 1.8 s later, is answered 0.3 s later than usual."""
    expected = replace(LENIENT, availability=0.8, longest_outage=2.0)
    story = several(Story(expectations=expected), {"many": 1}, kind)
    for n, r in enumerate(story.requests):
        due = round(r.scheduled - FAULT, 2)
        if round(due * 50) % 200 in (10, 30, 120, 160):  # after 0.2, 0.6, 2.4 and 3.2 s of each 4 s
            story.requests[n] = replace(r, app="few") if kind == "app" else replace(r, name="few")
        if due == 6.4:
            story.requests[n] = replace(story.requests[n], finished=r.finished + 0.3)
    judged = {f"{kind}s": ("many", "few")}
    story.events = [replace(e, **judged) if isinstance(e, Demanded) else e for e in story.events]  # type: ignore[arg-type]
    assert result(story).outcome == "passed"
    found = result(losing(story, "few", 4.5, 4.7, kind=kind))
    assert found.part("few").lost == 1
    assert found.part("few").longest_outage == pytest.approx(2.1, abs=0.05)
    assert found.outcome == outcome, found.reasons
    assert "requests that are up to 1.8 s apart do not show longest_outage=2 s" in str((found.reasons, found.remarks))
    assert result(losing(story, "few", 4.0, 11.0, kind=kind)).outcome == "failed"


def test_of_a_name_without_requests_before_the_fault_nobody_knows_what_is_slow() -> None:
    found = result(seldom(Story(expectations=SOME), "name"))
    assert found.outcome == "passed", found.reasons
    json.dumps(summary_document(History(), [found]), allow_nan=False)
    found = result(losing(seldom(Story(expectations=SOME), "name"), "slow", 0.0, 60.0, kind="name"))
    assert found.outcome == "failed", found.reasons


def test_of_few_requests_of_a_name_one_that_is_lost_is_not_a_latency_beyond_all_bounds() -> None:
    story = several(Story(expectations=replace(LENIENT, p99_ratio=3.0)), {"chat": 19, "embed": 1}, "name")
    found = result(losing(story, "embed", 0.0, 0.5, kind="name"))
    assert found.lost == 1
    assert found.outcome == "passed", found.reasons


def test_a_history_from_a_file_is_judged_the_same(tmp_path: Path) -> None:
    story = losing(several(Story(expectations=LENIENT), THREE), "chat", every=4)
    live = result_of(story.history(tmp_path / "history.jsonl"), story.experiment)
    again = result_of(History.load(tmp_path / "history.jsonl"), story.experiment)
    assert (again.verdict, [p.of for p in again.parts]) == (live.verdict, [p.of for p in live.parts])


def test_an_older_history_has_no_parts(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    Story().history(path)
    assert '"app"' not in path.read_text()
    assert result_of(History.load(path), "head_failure").parts == ()


def test_every_report_has_the_figures_of_each_app() -> None:
    story = losing(several(Story(expectations=LENIENT), THREE), "chat", every=4)
    history = story.history()
    found = result_of(history, story.experiment)
    line = "app chat: 84 of 33"
    assert line in "\n".join(summary_table([found]))
    assert line in summary([found])
    assert any(name == "serve_chaos_part" and value.startswith(line) for name, value in properties(found))
    document = cast("dict[str, Any]", summary_document(history, [found]))
    assert [part["app"] for part in document["experiments"][0]["parts"]] == list(THREE)


def test_a_part_that_is_not_there_is_an_error() -> None:
    with pytest.raises(SettingsError, match="no figures of 'vision'"):
        result(Story()).part("vision")
