"""What got worse or better from one set of trials to another, beyond noise.

The trial is the unit: the requests of one trial share one fault, and are lost together, so that a thousand of them say
no more about the next fault than one trial does. Likewise the trials of one run share one cluster, so that the run is
the unit where there are several. Every p-value is corrected for the number of comparisons (Holm), and every interval is
so wide that all of them hold together (Bonferroni).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from pytest_serve_chaos.analysis.compared import (
    ALPHA,
    Answer,
    Compared,
    Comparison,
    Counts,
    Finding,
    Pairs,
    SideCount,
    Sides,
    Trials,
    Unit,
    confidence_of_each,
)
from pytest_serve_chaos.analysis.comparison_notes import (
    about_counts,
    about_leaks,
    about_missing,
    about_several_trials,
    about_single_runs,
    about_unknown,
    about_unmeasured,
    by_requests,
    differences,
    values_of,
)
from pytest_serve_chaos.analysis.rank_test import holm, least_p, median, rank_test, shift, trials_needed
from pytest_serve_chaos.analysis.sign_test import Signs, median_interval_of_all_looks, pairs_needed
from pytest_serve_chaos.analysis.trial_figures import SHARE, Measure, Trial, by_run


def compare_sets(
    old: Trials, new: Trials, measures: Sequence[Measure], *, names: tuple[str, str], alpha: float = ALPHA
) -> Comparison:
    """Compares two sets of trials that were not run in pairs, by the exact rank test.

    Where both sides have several runs of an experiment, each run counts once: its trials share a cluster. Where a side
    has one run only, its trials are compared, and a note says that a difference may be one between two runs.
    """
    common = [name for name in old if name in new]
    sides = {name: _by_unit(old[name], new[name]) for name in common}
    values = [
        (name, measure, before, after)
        for name in common
        for measure in measures
        if (before := values_of(sides[name][0], measure)) and (after := values_of(sides[name][1], measure))
    ]
    confidence = confidence_of_each(alpha, len(values))
    rows = [
        _unpaired(name, measure, before, after, unit=_unit(sides[name]), confidence=confidence)
        for name, measure, before, after in values
    ]
    alone = [name for name in old if name not in new], [name for name in new if name not in old]
    found = _comparison(rows, sides, measures, names=names, alone=alone, tests=len(rows), alpha=alpha)
    notes = [*about_single_runs(rows, found.counts, names)]
    notes += [text for name in common for text in by_requests(name, old[name], new[name], names)]
    return found.with_notes(notes)


def _by_unit(old: Sequence[Trial], new: Sequence[Trial]) -> tuple[Sequence[Trial], Sequence[Trial]]:
    """Both sides with the trials of each run together; as they are where one of them has not several runs."""
    several = all(len({trial.run for trial in side if trial.counts}) > 1 for side in (old, new))
    return (by_run(old), by_run(new)) if several else (old, new)


def _unit(sides: tuple[Sequence[Trial], Sequence[Trial]]) -> Unit:
    return "run" if any(trial.of for side in sides for trial in side) else "trial"


def compare_pairs(
    pairs: Pairs,
    measures: Sequence[Measure],
    *,
    names: tuple[str, str],
    experiments: int = 0,
    alone: tuple[Sequence[str], Sequence[str]] = ((), ()),
    alpha: float = ALPHA,
) -> Comparison:
    """Compares pairs of runs by the sign test that holds at every look, so that it may be asked after each pair.

    Args:
        pairs: The pairs so far; of a run with several trials, all of them as one.
        measures: What is compared.
        names: What the sides are called.
        experiments: How many experiments there are at least, also those that have no pairs yet.
        alone: The experiments that only the old side has, and those that only the new side has.
        alpha: The probability, at most, of any finding where both sides are equal.
    """
    # As many tests at each look: what has no values yet may have some later.
    tests = max(len(pairs), experiments) * len(measures)
    confidence = confidence_of_each(alpha, tests)
    rows = []
    for name, of_it in pairs.items():
        for measure in measures:
            values = _paired_values(of_it, measure)
            if values:
                rows.append(_paired(name, measure, values, confidence))
    sides = {name: ([before for before, _ in of_it], [after for _, after in of_it]) for name, of_it in pairs.items()}
    return _comparison(rows, sides, measures, names=names, alone=alone, tests=tests, alpha=alpha)


def _comparison(
    rows: Sequence[Compared],
    sides: Sides,
    measures: Sequence[Measure],
    *,
    names: tuple[str, str],
    alone: tuple[Sequence[str], Sequence[str]],
    tests: int,
    alpha: float,
) -> Comparison:
    """The comparison with corrected p-values, the answer and the notes."""
    rows = _corrected(rows, alpha, tests=tests)
    counts = {name: (_count(old), _count(new)) for name, (old, new) in sides.items()}
    unknown = [text for name, of_it in sides.items() for text in about_unknown(name, of_it, measures, names)]
    notes = [*about_missing(alone, names), *unknown, *about_counts(counts, names), *about_several_trials(sides)]
    notes += about_unmeasured(rows, sides, names)
    notes += [*about_leaks(sides, measures, names), *differences(sides)]
    answer = _answer(rows, counts, [*alone[0], *unknown])
    shown = tuple(_with_sent(rows, counts))
    return Comparison(*names, tuple(measures), shown, counts, tuple(notes), answer, tests, alpha)


def is_over(found: Comparison, experiment: str, pairs: Sequence[tuple[Trial, Trial]], *, more: int) -> bool:
    """Whether so many more pairs of an experiment could not change the answer about it.

    One that is better in a measure may still be worse in another, so only what is worse ends it by itself.

    Args:
        found: What the pairs so far say.
        experiment: Its name.
        pairs: Its pairs so far.
        more: How many more there will be at most.
    """
    rows = {row.measure: row for row in found.of(experiment)}
    if any(row.finding == "worse" for row in rows.values()):
        return True
    left = found.tests - sum(row.decided for row in found.rows)  # Holm corrects for what is not decided yet

    def may_change(measure: Measure) -> bool:
        row = rows.get(measure)
        if row is not None and row.decided:
            return False
        if row is not None and len(row.old) < row.needed <= len(row.old) + more:  # so few would not be an answer
            return True
        signs = Signs.of([_less(after, before) for before, after in _paired_values(pairs, measure)])
        return signs.least_p(more) * left <= found.alpha

    return not any(may_change(measure) for measure in found.measures)


def _paired_values(pairs: Sequence[tuple[Trial, Trial]], measure: Measure) -> list[tuple[float, float]]:
    return [
        (before.values[measure.name], after.values[measure.name])
        for before, after in pairs
        if before.counts and after.counts and measure.name in before.values and measure.name in after.values
    ]


def _less(after: float, before: float) -> float:
    return 0.0 if after == before else after - before  # both may be infinite


def _unpaired(
    name: str, measure: Measure, old: tuple[float, ...], new: tuple[float, ...], *, unit: Unit, confidence: float
) -> Compared:
    found = rank_test(old, new)
    change, interval = _shares(old, new) if measure.unit == SHARE else shift(old, new, confidence)
    return Compared(
        name,
        measure,
        old,
        new,
        "no difference",
        p=found.p,
        change=change,
        interval=interval,
        superiority=found.superiority,
        rises=found.superiority > 0.5,
        unit=unit,
    )


def _paired(name: str, measure: Measure, values: Sequence[tuple[float, float]], confidence: float) -> Compared:
    lessened = [_less(after, before) for before, after in values]
    signs = Signs.of(lessened)
    old, new = tuple(before for before, _ in values), tuple(after for _, after in values)
    if measure.unit == SHARE:
        change, interval = _shares(old, new)
    else:
        change, interval = median(lessened), median_interval_of_all_looks(lessened, confidence)
    return Compared(
        name,
        measure,
        old,
        new,
        "no difference",
        p=signs.p,
        change=change,
        interval=interval,
        superiority=(signs.higher + signs.equal / 2) / len(lessened),
        rises=signs.rises,
        unit="pair",
    )


def _shares(old: Sequence[float], new: Sequence[float]) -> tuple[float, None]:
    """By how much a share is higher. A median of zeros and ones says nothing of it."""
    return math.fsum(new) / len(new) - math.fsum(old) / len(old), None


def _corrected(rows: Sequence[Compared], alpha: float, *, tests: int) -> list[Compared]:
    """The rows with their findings, each p-value corrected for the number of tests."""
    if not rows:
        return []
    level = alpha / tests
    pairs, trials = pairs_needed(level), trials_needed(level)
    p_values = holm([*(row.p for row in rows), *[1.0] * (tests - len(rows))])
    corrected = []
    for row, p in zip(rows, p_values, strict=False):
        finding: Finding = "no difference"
        if p <= alpha:
            finding = "worse" if row.rises else "better"
        elif len(row.old) < pairs if row.paired else least_p(len(row.old), len(row.new)) > level:
            finding = "too few trials"
        corrected.append(replace(row, p=p, finding=finding, needed=pairs if row.paired else trials))
    return corrected


def _count(side: Sequence[Trial]) -> SideCount:
    trials = [trial for one in side for trial in one.each]
    counted = [trial for trial in trials if trial.counts]
    return SideCount(
        counted=len(counted),
        failed=sum(trial.outcome == "failed" for trial in counted),
        inconclusive=len(trials) - len(counted),
        sent=median([trial.sent for trial in counted]) if counted else math.nan,
        runs=len({trial.run for trial in trials}),
    )


def _with_sent(rows: Sequence[Compared], counts: Counts) -> Iterator[Compared]:
    for row in rows:
        old, new = (side.sent for side in counts[row.experiment])
        like = row.measure.unit == "requests" and abs(old - new) <= 0.02 * old
        yield replace(row, sent=round(old)) if like else row


def _answer(
    rows: Sequence[Compared], counts: Mapping[str, tuple[SideCount, SideCount]], incomparable: Sequence[str]
) -> Answer:
    """What is true of all experiments together; what one of them cannot say, all of them cannot."""
    if any(row.finding == "worse" for row in rows):
        return "worse"
    shown = {row.experiment for row in rows if row.finding != "too few trials"}
    silent = [name for name in counts if name not in shown or _mostly_inconclusive(counts[name])]
    return "cannot say" if silent or incomparable or not rows else "no worse"


def _mostly_inconclusive(counts: tuple[SideCount, SideCount]) -> bool:
    return any(side.inconclusive > side.counted for side in counts)
