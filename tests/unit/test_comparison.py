"""Two sides are compared by their trials; two equal sides differ in at most one of twenty comparisons."""

from __future__ import annotations

import html.parser
import json
import math
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_serve_chaos.analysis.compared import Comparison
from pytest_serve_chaos.analysis.comparison import compare_pairs, compare_sets, is_over
from pytest_serve_chaos.analysis.trial_figures import USUAL, Trial, measures_of, trials_of
from pytest_serve_chaos.errors import HistoryError, SettingsError
from pytest_serve_chaos.report import comparison_html, comparison_text

MEASURED = Path(__file__).parents[2] / "docs" / "measured"
MEASURES = measures_of(USUAL)
NAMES = ("Ray 2.54.1", "Ray 2.60.0")

MakeTrial = Callable[[random.Random], Trial]


def trial(lost: float, outage: float, back: float, p99: float, outcome: str = "passed") -> Trial:
    values = {"lost": lost, "outage": outage, "redundancy_back": back, "p99": p99}
    values |= {"failed": float(outcome == "failed")} if outcome in ("passed", "failed") else {}
    return Trial("head_failure", outcome, values, lost=int(lost), sent=400, cluster={"ray_version": "2.60.0"})


def bursty(chance: random.Random, *, often: float = 0.2) -> Trial:
    """As with real heads: most faults cost a request or two, some a burst, and a burst has no usual size."""
    lost = chance.choice([0, 0, 0, 1, 1, 2])
    if chance.random() < often:
        lost += int(5 * chance.paretovariate(1.1))
    outage = min(30.0, lost / 20) + (chance.random() / 10 if lost else 0)
    return trial(lost, outage, 8 + chance.lognormvariate(0, 0.5), chance.lognormvariate(-3, 1))


def much_worse(chance: random.Random) -> Trial:
    """A release with a defect: each fault costs some more, and a burst."""
    lost = 9 + int(5 * chance.paretovariate(1.1))
    return trial(lost, lost / 20, 8 + chance.lognormvariate(0, 0.5), chance.lognormvariate(-3, 1))


def measured(name: str, experiment: str) -> list[Trial]:
    """The trials of an experiment in the measured results, of real clusters."""
    runs = json.loads((MEASURED / f"{name}.json").read_text())
    rows = [row for run in runs for row in run["experiments"] if row["experiment"] == experiment]
    return [
        trial(
            row["lost"],
            row["longest_outage"],
            row["redundancy_back"],
            math.inf if row["p99_during"] is None else row["p99_during"],
        )
        for row in rows
    ]


def pairs_until_decided(old: MakeTrial, new: MakeTrial, seed: int, most: int = 20) -> tuple[Comparison, int]:
    """A comparison that looks after each pair, as the command does."""
    chance, pairs = random.Random(seed), []
    while True:
        pairs.append((old(chance), new(chance)))
        found = compare_pairs({"head_failure": pairs}, MEASURES, names=NAMES)
        left = most - len(pairs)
        if is_over(found, "head_failure", pairs, more=left):
            return found, len(pairs)


# -- two equal sides ---------------------------------------------------------------------------------------------------


def test_pairs_of_the_same_cluster_show_no_difference_in_19_of_20_comparisons() -> None:
    found = [pairs_until_decided(bursty, bursty, seed)[0] for seed in range(100)]

    assert sum(bool(one.decided) for one in found) <= 5


def test_sets_of_the_same_cluster_show_no_difference_in_19_of_20_comparisons() -> None:
    wrong = 0
    for seed in range(60):
        chance = random.Random(seed)
        old, new = ([bursty(chance) for _ in range(8)] for _ in range(2))
        found = compare_sets({"head_failure": old}, {"head_failure": new}, MEASURES, names=NAMES)
        wrong += bool(found.decided)
    assert wrong <= 3


@pytest.mark.parametrize("experiment", ["head_lost", "gcs_lost", "worker_lost", "redis_lost"])
def test_trials_of_a_real_cluster_against_others_of_it_show_no_difference(experiment: str) -> None:
    pool = [*measured("local", experiment), *measured("localhaproxy", experiment)]
    wrong = sum(
        bool(pairs_until_decided(lambda c: c.choice(pool), lambda c: c.choice(pool), seed)[0].decided)
        for seed in range(100)
    )
    assert wrong <= 5


# -- a defect ----------------------------------------------------------------------------------------------------------


def test_a_release_that_loses_more_is_found_within_20_pairs() -> None:
    found = [pairs_until_decided(bursty, much_worse, seed) for seed in range(30)]

    assert sum(one.answer == "worse" for one, _ in found) >= 27
    assert sum(pairs for _, pairs in found) / 30 < 16


def test_the_sentence_has_medians_and_p_value() -> None:
    pairs = [(trial(1, 0.1, 8, 0.1), trial(14, 2.0, 8, 0.1))] * 10
    found = compare_pairs({"head_failure": pairs}, MEASURES, names=NAMES)

    assert found.answer == "worse"
    assert comparison_text.lines(found)[0] == (
        "head_failure: lost requests: median 1 against 14 (of 400); Ray 2.60.0 is worse, p = 0.028 after 10 pairs"
    )


def test_a_release_that_loses_less_is_better_and_no_worse() -> None:
    pairs = [(trial(14, 2.0, 8, 0.1), trial(1, 0.1, 8, 0.1))] * 10
    found = compare_pairs({"head_failure": pairs}, MEASURES, names=NAMES)

    assert found.answer == "no worse"
    assert comparison_text.answer_line(found) == "Ray 2.60.0 is better than Ray 2.54.1"


def test_sets_without_overlap_differ() -> None:
    before, after = (0, 1, 1, 2, 0, 3, 1), (14, 9, 60, 15, 12, 30, 14)
    old, new = ([trial(lost, lost / 10, 8, 0.1) for lost in each] for each in (before, after))
    found = compare_sets({"head_failure": old}, {"head_failure": new}, MEASURES, names=NAMES)
    findings = {row.measure.name: row.finding for row in found.rows}
    assert findings == {name: "worse" if name in ("lost", "outage") else "no difference" for name in USUAL}

    alone = compare_sets({"head_failure": old}, {"head_failure": new}, measures_of(["lost"]), names=NAMES)
    differences = sorted(b - a for a in before for b in after)
    # The table of the test: with 7 against 7 values it has the 9th smallest to the 9th greatest difference.
    assert (alone.rows[0].interval, alone.confidence) == ((differences[8], differences[-9]), 0.95)


# -- when it is over ---------------------------------------------------------------------------------------------------


def over(pairs: list[tuple[Trial, Trial]], *, more: int, measures: str = "lost,outage") -> bool:
    found = compare_pairs({"head_failure": pairs}, measures_of(measures.split(",")), names=NAMES)
    return is_over(found, "head_failure", pairs, more=more)


def test_what_is_worse_ends_it_and_what_is_better_may_still_be_worse_in_something_else() -> None:
    less, more = trial(1, 9.0, 8, 0.1), trial(14, 1.0, 8, 0.1)

    assert over([(less, more)] * 8, more=12, measures="lost,outage")
    better = [(trial(14, 1.0, 8, 0.1), trial(1, 1.0, 8, 0.1))] * 8
    assert not over(better, more=12)
    assert over(better, more=2)


def test_it_does_not_end_before_there_are_enough_pairs_for_an_answer() -> None:
    """Three pairs that came out either way leave nothing to find in nine, but they are no answer: that takes eight."""
    there, back = (trial(1, 1.0, 8, 0.1), trial(2, 2.0, 8, 0.1)), (trial(2, 2.0, 8, 0.1), trial(1, 1.0, 8, 0.1))
    pairs = [there, back, there]

    assert not over(pairs, more=6)
    assert over([*pairs, *pairs, *pairs], more=0)
    assert over(pairs, more=2)  # eight are needed, and there will be five


def test_what_is_decided_elsewhere_counts_no_more_when_it_is_asked_what_can_still_be_found() -> None:
    """Seven pairs that go one way have p = 0.042, which is too much for three comparisons and enough for one."""
    worse, same = (trial(1, 1, 8, 0.1), trial(2, 1, 8, 0.1)), (trial(1, 1, 8, 0.1), trial(1, 1, 8, 0.1))
    pairs = {"a": [worse] * 20, "b": [same] * 12, "c": [worse] * 20}
    found = compare_pairs(pairs, measures_of(["lost"]), names=NAMES)

    assert found.tests == 3
    assert not is_over(found, "b", pairs["b"], more=7)


def test_a_difference_that_was_found_keeps_its_direction() -> None:
    up, down = (trial(1, 0, 8, 0.1), trial(14, 0, 8, 0.1)), (trial(14, 0, 8, 0.1), trial(1, 0, 8, 0.1))
    found = compare_pairs({"head_failure": [up] * 12 + [down] * 12}, measures_of(["lost"]), names=NAMES)

    assert [row.finding for row in found.rows] == ["worse"]


# -- what nobody can say -----------------------------------------------------------------------------------------------


def test_one_trial_against_one_has_no_p_value() -> None:
    found = compare_sets(
        {"head_failure": [trial(0, 0, 8, 0.1)]},
        {"head_failure": [trial(90, 9, 30, 0.1, "failed")]},
        MEASURES,
        names=NAMES,
    )

    assert found.answer == "cannot say"
    assert {row.finding for row in found.rows} == {"too few trials"}
    assert found.notes == (
        "head_failure: failed trials: 0 of 1 with Ray 2.54.1, 1 of 1 with Ray 2.60.0",
        "head_failure: one trial against one has no p-value, because all requests of a trial share one fault;"
        " Ray 2.54.1 lost 0 of 400 requests, Ray 2.60.0 90 of 400 (if each request were lost by itself, chance does"
        " not make such a difference); the verdicts are passed and failed",
    )


def test_an_experiment_that_the_new_side_lacks_is_not_no_worse() -> None:
    trials = [trial(0, 0, 8, 0.1)] * 9
    found = compare_sets({"head": trials, "worker": trials}, {"head": trials}, MEASURES, names=NAMES)

    assert found.answer == "cannot say"
    assert "only Ray 2.54.1 has worker, which cannot be compared" in found.notes


def test_an_experiment_that_only_one_side_of_the_pairs_has_is_not_no_worse() -> None:
    pairs = {"head": [(trial(0, 0, 8, 0.1), trial(0, 0, 8, 0.1))] * 12}
    found = compare_pairs(pairs, MEASURES, names=NAMES, alone=(["worker"], []))

    assert found.answer == "cannot say"
    assert "only Ray 2.54.1 has worker, which cannot be compared" in found.notes


def test_a_measure_that_only_one_side_has_is_not_no_worse() -> None:
    old, new = trial(0, 0, 8, 0.1), Trial("head", "passed", {"lost": 0.0, "outage": 0.0, "p99": 0.1}, sent=400)
    found = compare_sets({"head": [old] * 9}, {"head": [new] * 9}, MEASURES, names=NAMES)

    assert found.answer == "cannot say"
    assert "head: only Ray 2.54.1 has redundancy back, so it cannot be compared" in found.notes


def test_three_trials_against_forty_are_enough() -> None:
    old, new = [trial(0, 0, 8, 0.1)] * 40, [trial(0, 0, 8, 0.1)] * 3
    found = compare_sets({"head": old}, {"head": new}, MEASURES, names=NAMES)

    assert {row.finding for row in found.rows} == {"no difference"}


def test_pairs_of_which_one_side_never_came_back_have_a_median_change() -> None:
    pairs = [(trial(0, 0, math.inf, 0.1), trial(0, 0, 8, 0.1)), (trial(0, 0, 8, 0.1), trial(0, 0, math.inf, 0.1))]
    found = compare_pairs({"head": pairs}, measures_of(["redundancy_back"]), names=NAMES)

    assert found.rows[0].change == 0.0


def test_the_method_says_for_how_many_comparisons_it_corrects() -> None:
    """Also for those of experiments that have no pairs yet."""
    found = compare_pairs({"head": [(trial(0, 0, 8, 1), trial(0, 0, 8, 1))]}, MEASURES, names=NAMES, experiments=3)

    assert "corrected for 15 comparisons" in comparison_text.method(found)


def test_trials_that_showed_nothing_count_for_nothing() -> None:
    pairs = [(trial(0, 0, 8, 0.1), trial(50, 5, 8, 0.1, "inconclusive"))] * 20
    found = compare_pairs({"head_failure": pairs}, MEASURES, names=NAMES)

    assert (found.rows, found.answer) == ((), "cannot say")
    assert found.notes == ("head_failure: 20 of 20 trials of Ray 2.60.0 showed nothing",)


def test_different_numbers_of_requests_are_noted() -> None:
    more = Trial("head_failure", "passed", {"lost": 1.0}, lost=1, sent=2000)
    found = compare_sets({"h": [trial(0, 0, 8, 0.1)] * 9}, {"h": [more] * 9}, MEASURES, names=NAMES)

    assert any("400 requests in the window and Ray 2.60.0 2000" in note for note in found.notes)


# -- reports -----------------------------------------------------------------------------------------------------------


HOSTILE = "<script>alert(1)</script>|\x1b[2J\n::error::"


def hostile() -> Comparison:
    return compare_sets(
        {HOSTILE: [trial(0, 0, 8, 0.1)] * 9},
        {HOSTILE: [trial(9, 9, math.inf, math.inf)] * 9},
        MEASURES,
        names=(HOSTILE, "new"),
    )


def test_names_of_others_are_text_in_every_report() -> None:
    found = hostile()
    page, markdown = comparison_html.page(found), comparison_text.markdown(found)

    assert "<script" not in page
    assert "<script" not in markdown
    assert all("\x1b" not in text for text in (page, markdown, *comparison_text.lines(found)))
    assert not any(line.startswith("::") for line in "\n".join(comparison_text.lines(found)).splitlines())


def test_the_page_closes_all_that_it_opens() -> None:
    opened: list[str] = []

    class Reader(html.parser.HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            if tag not in ("meta", "line", "circle"):
                opened.append(tag)

        def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            pass

        def handle_endtag(self, tag: str) -> None:
            assert opened.pop() == tag

    Reader().feed(comparison_html.page(hostile()))
    assert not opened


def test_the_document_has_no_infinity() -> None:
    document = json.loads(comparison_text.json_text(hostile()), parse_constant=pytest.fail)

    assert document["answer"] == "worse"
    assert [8, "never"] in [row["medians"] for row in document["comparisons"]]


# -- summaries of runs -------------------------------------------------------------------------------------------------


def test_an_experiment_of_a_summary_becomes_a_trial() -> None:
    measurement = {"sent": 400, "lost": 3, "longest_outage": 0.2, "redundancy_back": None, "during": {"p99": None}}
    one = {
        "experiment": "head-2",
        "verdict": "failed",
        "expectations": {"redundancy_back": 120.0},
        "measurement": measurement,
        "cluster": {"ray_version": "2.60.0"},
        "trial": {"of": "head"},
    }
    (found,) = trials_of({"schema": 2, "experiments": [one, {**one, "run_again": True}]}, "summary.json")

    assert found.experiment == "head"
    never = {"redundancy_back": math.inf, "settled": math.inf, "p99": math.inf}
    assert found.values == {"lost": 3, "outage": 0.2, **never, "failed": 1}


def watched_summary(*leaking: str, grows: float = 0.0, samples: int = 60) -> dict[str, object]:
    """A run whose processes were watched: those that leak, and one whose memory grows by so many MiB a minute."""
    trends = [{"process": name, "figure": "descriptors", "grows": True, "grew_before": False} for name in leaking]
    old_leak = {"process": "gcs", "figure": "memory", "slope": grows * 2**20, "grows": True, "grew_before": True}
    watched = {"seconds": 60.0, "samples": samples, "processes": 9, "trends": [*trends, *trends, old_leak]}
    one = {"experiment": "head", "verdict": "passed", "measurement": {"sent": 9, "lost": 0}, "watched": watched}
    return {"schema": 2, "experiments": [one]}


def test_processes_that_leak_are_compared() -> None:
    old, new = (trials_of(watched_summary(*names, grows=3), "x")[0] for names in ((), ("a", "b")))

    assert (new.values["leaks"], new.values["growth"]) == (2, 3)
    found = compare_sets({"head": [old] * 9}, {"head": [new] * 9}, measures_of(["leaks", "growth"]), names=NAMES)
    assert found.answer == "worse"
    assert comparison_text.lines(found)[0].startswith("head: processes that leak: median 0 against 2; Ray 2.60.0 is")


def test_leaks_that_are_not_compared_are_noted() -> None:
    old, new = (trials_of(watched_summary(*names), "x")[0] for names in ((), ("a",)))
    found = compare_pairs({"head": [(old, new)] * 3}, measures_of(["lost"]), names=NAMES)

    assert (
        "head: processes leak in 0 of 3 trials of Ray 2.54.1 and 3 of 3 trials of Ray 2.60.0; --on leaks compares that"
        in found.notes
    )


def test_a_run_that_was_watched_for_its_own_time_only_says_nothing_of_leaks() -> None:
    (trial,) = trials_of(watched_summary("a", grows=3, samples=19), "x")

    assert "leaks" not in trial.values


def test_where_nobody_looked_for_leaks_they_are_unknown() -> None:
    one: dict[str, object] = {"experiment": "head", "verdict": "passed", "measurement": {}, "watched": None}
    (found,) = trials_of({"schema": 2, "experiments": [one]}, "x")

    assert not {"leaks", "growth"} & found.values.keys()


@pytest.mark.parametrize("document", [[], {}, {"schema": 1, "experiments": []}, {"schema": 2, "experiments": [1]}])
def test_what_is_no_summary_is_refused(document: object) -> None:
    with pytest.raises(HistoryError):
        trials_of(document, "x.json")


def test_a_measure_that_does_not_exist_is_refused() -> None:
    with pytest.raises(SettingsError, match="'losses' cannot be compared"):
        measures_of(["losses"])
