"""What a comparison makes of verdicts, of what never came back, and of trials that share a run."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence

import pytest

from pytest_serve_chaos.analysis.compared import Comparison
from pytest_serve_chaos.analysis.comparison import compare_pairs, compare_sets
from pytest_serve_chaos.analysis.trial_figures import USUAL, Trial, by_run, measures_of, of_one_run, trials_of
from pytest_serve_chaos.analysis.trials import Series, TrialOutcome
from pytest_serve_chaos.history import History
from pytest_serve_chaos.model import NO_DEMANDS, Json
from pytest_serve_chaos.report import comparison_html, comparison_text
from pytest_serve_chaos.report.document import summary_document
from pytest_serve_chaos.report.trials import TrialsOfTest, cells
from pytest_serve_chaos.results import result_of
from tests.unit.histories import Story

NAMES = ("old", "new")
MEASURES = measures_of(USUAL)


def trial(outcome: str = "passed", *, run: str = "", lost: float = 0.0, **values: float) -> Trial:
    judged = {"failed": float(outcome == "failed")} if outcome in ("passed", "failed") else {}
    return Trial("head", outcome, {"lost": lost, **values, **judged}, lost=int(lost), sent=400, run=run)


def sets(old: Sequence[Trial], new: Sequence[Trial], measures: str = "") -> Comparison:
    chosen = measures_of(measures.split(",")) if measures else MEASURES
    return compare_sets({"head": old}, {"head": new}, chosen, names=NAMES)


def pairs(old: Sequence[Trial], new: Sequence[Trial], measures: str = "") -> Comparison:
    chosen = measures_of(measures.split(",")) if measures else MEASURES
    return compare_pairs({"head": list(zip(old, new, strict=True))}, chosen, names=NAMES)


# -- verdicts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compare", [sets, pairs])
def test_a_side_whose_trials_fail_is_worse_though_its_figures_are_the_same(compare: object) -> None:
    found = compare([trial()] * 20, [trial("failed")] * 20)  # type: ignore[operator]

    assert found.answer == "worse"
    unit = "pairs" if compare is pairs else "against 20 trials"
    first = comparison_text.lines(found)[0]
    assert first.startswith("head: failed trials: 0 of 20 against 20 of 20; new is worse, p < 0.001 after 20 ")
    assert first.endswith(unit)


def test_the_share_of_failed_trials_has_bounds_on_each_side() -> None:
    found = sets([trial()] * 20, [trial("failed")] * 20, "failed")

    assert comparison_text.lines(found)[1] == (
        "    changed by +100 points; 0 to 17 % of old and 83 to 100 % of new fail, each at 95 %"
    )
    assert comparison_text.document(found)["comparisons"][0]["interval"] is None  # type: ignore[index,call-overload]


def test_trials_that_showed_nothing_have_not_failed() -> None:
    found = sets([trial()] * 20, [trial("inconclusive")] * 9 + [trial()] * 11)

    assert {row.measure.name: row.finding for row in found.rows} == {"failed": "no difference", "lost": "no difference"}
    assert len(found.rows[0].new) == 11


def test_a_side_that_demands_nothing_has_no_verdicts_to_compare() -> None:
    found = sets([trial("measured")] * 9, [trial()] * 9)

    assert "head: only new has verdicts, so it cannot be compared" in found.notes


# -- never -------------------------------------------------------------------------------------------------------------


def of_story(story: Story) -> Trial:
    history: History = story.history()
    document = json.loads(json.dumps(summary_document(history, [result_of(history, story.experiment)])))
    (found,) = trials_of(document, "summary.json")
    return found


def test_redundancy_that_was_awaited_in_vain_took_for_ever_though_nobody_demanded_it() -> None:
    story = Story(expectations=NO_DEMANDS).without("redundancy_back", "settled")

    assert of_story(story.event(50.0, "redundancy_missing", "no proxy on head")).values["redundancy_back"] == math.inf


def test_redundancy_that_nobody_awaited_was_not_measured() -> None:
    story = Story(expectations=NO_DEMANDS).without("redundancy_back", "settled")

    assert not {"redundancy_back", "settled"} & of_story(story).values.keys()


def test_traffic_that_was_not_back_when_it_ended_took_for_ever() -> None:
    assert of_story(Story(expectations=NO_DEMANDS).lose(3.0, 60.1)).values["traffic_back"] == math.inf


def test_what_did_not_come_back_did_not_settle() -> None:
    story = Story(expectations=NO_DEMANDS).without("redundancy_back", "settled")

    assert of_story(story.event(50.0, "redundancy_missing", "no proxy")).values["settled"] == math.inf


def test_a_document_without_that_field_has_null_for_what_never_came_back() -> None:
    measurement: dict[str, Json] = {"sent": 400, "lost": 0, "redundancy_back": None}
    one: dict[str, Json] = {"experiment": "head", "verdict": "measured", "measurement": measurement, "expectations": {}}
    (found,) = trials_of({"schema": 2, "experiments": [one]}, "summary.json")

    assert found.values["redundancy_back"] == math.inf


@pytest.mark.parametrize("compare", [sets, pairs])
def test_a_side_that_never_comes_back_in_half_of_its_trials_is_worse(compare: object) -> None:
    old = [trial("measured", redundancy_back=5.0) for _ in range(20)]
    new = [trial("measured", redundancy_back=math.inf if i % 2 else 5.0) for i in range(20)]
    found = compare(old, new)  # type: ignore[operator]

    assert found.answer == "worse"
    assert "redundancy back: median 5.0 s against never in 10 of 20; new is worse" in comparison_text.lines(found)[0]


@pytest.mark.parametrize(
    ("compare", "said"), [(sets, "10 of 20 trials of new"), (pairs, "10 of 20 pairs")], ids=["sets", "pairs"]
)
def test_trials_that_lack_a_figure_are_noted(compare: object, said: str) -> None:
    new = [trial(redundancy_back=5.0) if i % 2 else trial() for i in range(20)]
    found = compare([trial(redundancy_back=5.0)] * 20, new)  # type: ignore[operator]

    assert f"head: redundancy back measured in {said}" in found.notes


def test_the_table_of_trials_says_how_often_it_never_came_back() -> None:
    def story(back: bool) -> Story:
        well = Story(expectations=NO_DEMANDS)
        return well if back else well.without("redundancy_back", "settled").event(50.0, "redundancy_missing", "gone")

    results = tuple(result_of(story(back).history(), "head_failure") for back in [True] * 8 + [False] * 12)
    outcomes: tuple[TrialOutcome, ...] = ("passed",) * 8 + ("failed",) * 12
    row = cells(TrialsOfTest("head", results, Series(20, 20, outcomes)))

    assert row[6] == "never in 12 of 20, else 19.8 s"
    assert cells(TrialsOfTest("head", results[8:], Series(20, 20, outcomes[8:])))[6] == "never in 12 of 12"


# -- runs --------------------------------------------------------------------------------------------------------------


def runs(chance: random.Random, count: int, side: str, trials: int = 5) -> list[Trial]:
    """Runs that differ by chance from each other as much as their trials do."""
    made = []
    for number in range(count):
        cluster = chance.gauss(0, 1)
        made += [trial(run=f"{side}{number}", outage=cluster + chance.gauss(0, 1)) for _ in range(trials)]
    return made


def test_sets_of_runs_that_differ_by_chance_show_no_difference_in_19_of_20_comparisons() -> None:
    chance = random.Random(1)
    found = [sets(runs(chance, 6, "a"), runs(chance, 6, "b"), "outage") for _ in range(300)]

    assert sum(bool(one.decided) for one in found) <= 0.05 * 300


def test_pairs_of_runs_that_differ_by_chance_show_no_difference_in_19_of_20_comparisons() -> None:
    chance, wrong = random.Random(2), 0
    for _ in range(300):
        old, new = (by_run(runs(chance, 20, side)) for side in "ab")
        wrong += any(pairs(old[:n], new[:n], "outage").decided for n in range(7, 21))
    assert wrong <= 0.05 * 300


def test_trials_of_one_run_are_compared_with_the_remark_that_the_runs_may_differ_and_not_the_versions() -> None:
    chance = random.Random(3)
    found = [sets(runs(chance, 1, "a", 10), runs(chance, 1, "b", 10), "outage") for _ in range(100)]

    assert sum(bool(one.decided) for one in found) > 30  # so often it is wrong, and so it must be said
    assert all(any("a difference may be one between two runs" in note for note in one.notes) for one in found)
    assert all("may be one between two runs" in comparison_text.json_text(one) for one in found[:1])


def test_several_runs_on_both_sides_count_once_each_and_need_no_such_remark() -> None:
    old = [trial(run=f"a{i // 3}", outage=i % 3) for i in range(15)]
    new = [trial(run=f"b{i // 3}", outage=10 + i % 3) for i in range(15)]
    found = sets(old, new, "outage")

    assert found.rows[0].old == (1.0,) * 5
    assert comparison_text.lines(found)[0].endswith("new is worse, p = 0.008 after 5 against 5 runs")
    assert found.notes == (
        "head: each run counts once, by the median of its trials and the share of them that failed, because they share"
        " a cluster",
    )
    document = comparison_text.document(found)
    assert document["trials"]["head"]["old"]["runs"] == 5  # type: ignore[index,call-overload]


def test_runs_of_one_trial_each_are_trials() -> None:
    old, new = ([trial(run=f"{side}{i}") for i in range(8)] for side in "ab")

    assert sets(old, new).notes == ()


def test_two_runs_against_two_show_nothing_however_many_trials_they_have() -> None:
    old, new = ([trial(run=f"{side}{i // 10}", outage=10.0 * (side == "b")) for i in range(20)] for side in "ab")
    found = sets(old, new, "outage")

    assert found.answer == "cannot say"
    assert "2 against 2 runs cannot show a difference, 4 runs on each side could" in comparison_text.lines(found)[0]


def test_a_run_has_the_medians_of_its_trials_and_the_share_that_failed() -> None:
    each = [trial(lost=1), trial("failed", lost=9), trial(lost=2), trial("inconclusive", lost=300)]
    found = of_one_run(each)

    assert (found.values, found.outcome, found.each) == ({"lost": 2, "failed": 1 / 3}, "failed", tuple(each))


def test_failed_trials_of_runs_are_shares_in_the_row_and_numbers_in_the_note() -> None:
    old = [trial(run=f"a{i // 4}") for i in range(20)]
    new = [trial("failed" if i % 4 else "passed", run=f"b{i // 4}") for i in range(20)]
    found = sets(old, new, "failed")

    assert comparison_text.lines(found)[0].startswith("head: failed trials: 0 % against 75 %; new is worse")
    assert "head: failed trials: 0 of 20 with old, 15 of 20 with new" in found.notes


# -- what is written ---------------------------------------------------------------------------------------------------


def test_all_intervals_hold_together() -> None:
    found = sets([trial(lost=i) for i in range(10)], [trial(lost=i) for i in range(10)], "lost,failed")

    assert found.confidence == 0.975
    assert "Intervals hold at 97.5 % each, and so all together at 95 %." in comparison_text.method(found)
    assert "at 97.5 %" in comparison_text.lines(found)[1]
    assert "change (97.5 %)" in comparison_text.markdown(found)
    assert comparison_text.document(found)["confidence"] == 0.975


def test_a_p_value_below_a_thousandth_says_so_in_every_report() -> None:
    found = sets([trial(lost=0)] * 15, [trial(lost=9)] * 15, "lost")

    assert "| &lt; 0.001 |" in comparison_text.markdown(found)
    assert "<td>&lt; 0.001</td>" in comparison_html.page(found)


@pytest.mark.parametrize("change", [-0.0002, 0.0, 0.0002])
def test_a_change_that_rounds_to_nothing_has_no_sign(change: float) -> None:
    found = sets([trial(p99=0.02)] * 9, [trial(p99=0.02 + change)] * 9, "p99")

    assert "changed by 0 ms (0 ms to 0 ms)" in comparison_text.lines(found)[1]


def test_sets_have_no_pairs() -> None:
    assert "pair" not in "\n".join(comparison_text.lines(sets([trial()] * 9, [trial(lost=1)] * 9)))
