"""What got worse or better from one set of trials to another, beyond noise.

The trial is the unit: the requests of one trial share one fault, and are lost together, so that a thousand of them say
no more about the next fault than one trial does. Every p-value is corrected for the number of comparisons (Holm).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pytest_serve_chaos.analysis.rank_test import holm, least_p, median, rank_test, shift, trials_needed
from pytest_serve_chaos.analysis.sign_test import Signs, median_interval, pairs_needed
from pytest_serve_chaos.analysis.statistics import availability_interval
from pytest_serve_chaos.analysis.trial_figures import LEAKS, Measure, Trial
from pytest_serve_chaos.analysis.words import listing, number

ALPHA = 0.05
"""The probability, at most, that a comparison of two equal sides finds any difference."""

Finding = Literal["worse", "better", "no difference", "too few trials"]
Answer = Literal["worse", "no worse", "cannot say"]


@dataclass(frozen=True, slots=True)
class Compared:
    """One measure of one experiment on both sides.

    Attributes:
        experiment: Its name.
        measure: What was measured; less is better.
        old: The values of the old side, one for each trial that has one.
        new: Those of the new side; of pairs, the value at the same place belongs to the same pair.
        finding: What became of it.
        p: The p-value, corrected for the number of comparisons.
        change: By how much new values are higher: the median difference.
        interval: The 95 % interval of `change`.
        superiority: How often a new value is higher than an old one; equal ones count half.
        rises: Whether new values are the higher ones, if they differ.
        paired: Whether the trials are pairs.
        needed: The least number of trials on each side, or of pairs, that could show a difference.
        sent: The number of requests of which some were lost, where it is the same on both sides; else 0.
    """

    experiment: str
    measure: Measure
    old: tuple[float, ...]
    new: tuple[float, ...]
    finding: Finding
    p: float
    change: float
    interval: tuple[float, float]
    superiority: float
    rises: bool
    paired: bool
    needed: int = 0
    sent: int = 0

    @property
    def decided(self) -> bool:
        """Whether a difference was found."""
        return self.finding in ("worse", "better")

    @property
    def medians(self) -> tuple[float, float]:
        """Those of both sides."""
        return median(self.old), median(self.new)


@dataclass(frozen=True, slots=True)
class SideCount:
    """How many trials of an experiment a side has.

    Attributes:
        counted: Those that showed something.
        failed: Those of them that failed.
        inconclusive: All others.
        sent: The median number of requests in the window.
    """

    counted: int
    failed: int
    inconclusive: int
    sent: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two sides, compared.

    Attributes:
        old: What the old side is called.
        new: What the new side is called.
        measures: What was compared.
        rows: One for each measure of each experiment that both sides have.
        counts: Experiment -> how many trials both sides have.
        notes: What the reader must know.
        answer: What is true of all experiments together.
        tests: The number of comparisons for which p-values are corrected.
        alpha: The probability, at most, of any finding where both sides are equal.
    """

    old: str
    new: str
    measures: tuple[Measure, ...]
    rows: tuple[Compared, ...]
    counts: Mapping[str, tuple[SideCount, SideCount]]
    notes: tuple[str, ...]
    answer: Answer
    tests: int
    alpha: float = ALPHA

    def of(self, experiment: str) -> tuple[Compared, ...]:
        """The rows of an experiment."""
        return tuple(row for row in self.rows if row.experiment == experiment)

    @property
    def decided(self) -> frozenset[str]:
        """The experiments of which at least one measure differs."""
        return frozenset(row.experiment for row in self.rows if row.decided)

    def with_notes(self, notes: Sequence[str]) -> Comparison:
        """The same with more that the reader must know."""
        return replace(self, notes=(*self.notes, *notes))


Counts = Mapping[str, tuple[SideCount, SideCount]]
"""Experiment -> how many trials the old and the new side have."""

Trials = Mapping[str, Sequence[Trial]]
"""Experiment -> its trials."""

Sides = Mapping[str, tuple[Sequence[Trial], Sequence[Trial]]]
"""Experiment -> the trials of the old and the new side."""

Pairs = Mapping[str, Sequence[tuple[Trial, Trial]]]
"""Experiment -> its pairs of an old and a new trial, in the order in which they ran."""


def compare_sets(
    old: Trials, new: Trials, measures: Sequence[Measure], *, names: tuple[str, str], alpha: float = ALPHA
) -> Comparison:
    """Compares two sets of trials that were not run in pairs, by the exact rank test."""
    common = [name for name in old if name in new]
    rows = []
    for name in common:
        for measure in measures:
            before, after = _values(old[name], measure), _values(new[name], measure)
            if before and after:
                rows.append(_unpaired(name, measure, before, after))
    alone = [name for name in old if name not in new], [name for name in new if name not in old]
    sides = {name: (old[name], new[name]) for name in common}
    found = _comparison(rows, sides, measures, names=names, alone=alone, tests=len(rows), alpha=alpha)
    return found.with_notes([text for name in common for text in _by_requests(name, old[name], new[name], names)])


def compare_pairs(
    pairs: Pairs,
    measures: Sequence[Measure],
    *,
    names: tuple[str, str],
    experiments: int = 0,
    alone: tuple[Sequence[str], Sequence[str]] = ((), ()),
    alpha: float = ALPHA,
) -> Comparison:
    """Compares pairs of trials by the sign test that holds at every look, so that it may be asked after each pair.

    Args:
        pairs: The pairs so far.
        measures: What is compared.
        names: What the sides are called.
        experiments: How many experiments there are at least, also those that have no pairs yet.
        alone: The experiments that only the old side has, and those that only the new side has.
        alpha: The probability, at most, of any finding where both sides are equal.
    """
    rows = []
    for name, of_it in pairs.items():
        for measure in measures:
            values = _paired_values(of_it, measure)
            if values:
                rows.append(_paired(name, measure, values))
    sides = {name: ([before for before, _ in of_it], [after for _, after in of_it]) for name, of_it in pairs.items()}
    # As many tests at each look: what has no values yet may have some later.
    tests = max(len(pairs), experiments) * len(measures)
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
    unknown = [text for name, of_it in sides.items() for text in _unknown(name, of_it, measures, names)]
    notes = [*_about_missing(alone, names), *unknown, *_about_counts(counts, names)]
    notes += [*_about_leaks(sides, measures, names), *_differences(sides)]
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


def _values(trials: Sequence[Trial], measure: Measure) -> tuple[float, ...]:
    return tuple(trial.values[measure.name] for trial in trials if trial.counts and measure.name in trial.values)


def _paired_values(pairs: Sequence[tuple[Trial, Trial]], measure: Measure) -> list[tuple[float, float]]:
    return [
        (before.values[measure.name], after.values[measure.name])
        for before, after in pairs
        if before.counts and after.counts and measure.name in before.values and measure.name in after.values
    ]


def _less(after: float, before: float) -> float:
    return 0.0 if after == before else after - before  # both may be infinite


def _unpaired(name: str, measure: Measure, old: tuple[float, ...], new: tuple[float, ...]) -> Compared:
    found = rank_test(old, new)
    change, interval = shift(old, new)
    rises = found.superiority > 0.5
    return Compared(
        name, measure, old, new, "no difference", found.p, change, interval, found.superiority, rises, False
    )


def _paired(name: str, measure: Measure, values: Sequence[tuple[float, float]]) -> Compared:
    differences = [_less(after, before) for before, after in values]
    signs = Signs.of(differences)
    superiority = (signs.higher + signs.equal / 2) / len(differences)
    old, new = tuple(before for before, _ in values), tuple(after for _, after in values)
    change, interval = median(differences), median_interval(differences)
    return Compared(name, measure, old, new, "no difference", signs.p, change, interval, superiority, signs.rises, True)


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


def _count(trials: Sequence[Trial]) -> SideCount:
    counted = [trial for trial in trials if trial.counts]
    sent = median([trial.sent for trial in counted]) if counted else math.nan
    failed = sum(trial.outcome == "failed" for trial in counted)
    return SideCount(len(counted), failed, len(trials) - len(counted), sent)


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


# -- notes -------------------------------------------------------------------------------------------------------------


def _about_missing(alone: tuple[Sequence[str], Sequence[str]], names: tuple[str, str]) -> list[str]:
    each = zip(names, alone, strict=True)
    return [f"only {side} has {listing(those)}, which cannot be compared" for side, those in each if those]


def _unknown(
    name: str, sides: tuple[Sequence[Trial], Sequence[Trial]], measures: Sequence[Measure], names: tuple[str, str]
) -> list[str]:
    """Which measures of an experiment only one side has, though both have trials that showed something."""
    if not all(any(trial.counts for trial in trials) for trials in sides):
        return []
    notes = []
    for measure in measures:
        has = [bool(_values(trials, measure)) for trials in sides]
        if has[0] != has[1]:
            notes.append(f"{name}: only {names[has.index(True)]} has {measure.title}, so it cannot be compared")
    return notes


def _about_counts(counts: Counts, names: tuple[str, str]) -> list[str]:
    notes = []
    for experiment, sides in counts.items():
        for side, count in zip(names, sides, strict=True):
            if count.inconclusive:
                of = count.counted + count.inconclusive
                notes.append(f"{experiment}: {count.inconclusive} of {number(of, 'trial')} of {side} showed nothing")
        if any(side.failed for side in sides):
            failed = (f"{side.failed} of {side.counted} with {name}" for name, side in zip(names, sides, strict=True))
            notes.append(f"{experiment}: failed trials: {', '.join(failed)}")
        old, new = (side.sent for side in sides)
        if min(old, new) > 0 and max(old, new) > 1.25 * min(old, new):
            notes.append(
                f"{experiment}: {names[0]} sent {old:g} requests in the window and {names[1]} {new:g}, so their losses"
                " are not of the same number of requests"
            )
    return notes


def _about_leaks(trials: Sides, measures: Sequence[Measure], names: tuple[str, str]) -> Iterator[str]:
    """Where processes leaked though nobody compares that."""
    if any(measure.name == LEAKS for measure in measures):
        return
    for experiment, sides in trials.items():
        watched = [[t.values[LEAKS] for t in of_it if t.counts and LEAKS in t.values] for of_it in sides]
        if any(leaks for each in watched for leaks in each):
            shown = (
                f"{sum(leaks > 0 for leaks in each)} of {number(len(each), 'trial')} of {name}"
                for name, each in zip(names, watched, strict=True)
            )
            yield f"{experiment}: processes leak in {' and '.join(shown)}; --on {LEAKS} compares that"


def _differences(sides: Sides) -> list[str]:
    """What differs between the clusters of both sides."""
    seen: dict[str, tuple[str, str]] = {}
    for trials in sides.values():
        before, after = (_said(each) for each in trials)
        for key in before.keys() & after.keys():
            if before[key] != after[key]:
                seen[key] = before[key], after[key]
    return [f"{key.replace('_', ' ')}: {before} against {after}" for key, (before, after) in sorted(seen.items())]


def _said(trials: Sequence[Trial]) -> dict[str, str]:
    values: dict[str, set[str]] = {}
    for trial in trials:
        for key, value in trial.cluster.items():
            values.setdefault(key, set()).add(value)
    return {key: ", ".join(sorted(each)) for key, each in values.items()}


def _by_requests(name: str, old: Sequence[Trial], new: Sequence[Trial], names: tuple[str, str]) -> list[str]:
    """What the requests alone say of one trial against one, with the warning that this is not enough."""
    before, after = ([trial for trial in trials if trial.counts and trial.sent] for trials in (old, new))
    if len(before) != 1 or len(after) != 1:
        return []
    a, b = before[0], after[0]
    low, high = availability_interval(a.lost, a.sent), availability_interval(b.lost, b.sent)
    apart = low[0] > high[1] or high[0] > low[1]
    figures = f"{names[0]} lost {a.lost} of {a.sent} requests, {names[1]} {b.lost} of {b.sent}"
    verdicts = "" if a.outcome == b.outcome else f"; the verdicts are {a.outcome} and {b.outcome}"
    beyond = "more than requests lost one by one would differ" if apart else "no more than chance can explain"
    return [
        f"{name}: one trial against one has no p-value, because all requests of a trial share one fault; {figures}"
        f" ({beyond}){verdicts}"
    ]
