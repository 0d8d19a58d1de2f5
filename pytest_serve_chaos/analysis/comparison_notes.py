"""What the reader of a comparison must know in addition to its rows: what is missing, what differs, what is shared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pytest_serve_chaos.analysis.compared import Compared, Counts, Sides
from pytest_serve_chaos.analysis.statistics import availability_interval
from pytest_serve_chaos.analysis.trial_figures import FAILED, LEAKS, Measure, Trial
from pytest_serve_chaos.analysis.words import listing, number


def values_of(trials: Sequence[Trial], measure: Measure) -> tuple[float, ...]:
    """The values of a measure in the trials that showed something and have it."""
    return tuple(trial.values[measure.name] for trial in trials if trial.counts and measure.name in trial.values)


def about_missing(alone: tuple[Sequence[str], Sequence[str]], names: tuple[str, str]) -> list[str]:
    """The experiments that only one side has."""
    each = zip(names, alone, strict=True)
    return [f"only {side} has {listing(those)}, which cannot be compared" for side, those in each if those]


def about_unknown(
    name: str, sides: tuple[Sequence[Trial], Sequence[Trial]], measures: Sequence[Measure], names: tuple[str, str]
) -> list[str]:
    """Which measures of an experiment only one side has, though both have trials that showed something."""
    if not all(any(trial.counts for trial in trials) for trials in sides):
        return []
    notes = []
    for measure in measures:
        has = [bool(values_of(trials, measure)) for trials in sides]
        if has[0] != has[1]:
            what = "verdicts" if measure.name == FAILED else measure.title
            notes.append(f"{name}: only {names[has.index(True)]} has {what}, so it cannot be compared")
    return notes


def about_unmeasured(rows: Sequence[Compared], sides: Sides, names: tuple[str, str]) -> Iterator[str]:
    """The measures that some trials lack, though both sides have them: what a row says is true of the others alone."""
    for row in rows:
        counted = [[trial for trial in side if trial.counts] for side in sides[row.experiment]]
        what = f"{row.experiment}: {row.measure.title} measured in"
        if row.paired:
            both = sum(before.counts and after.counts for before, after in zip(*sides[row.experiment], strict=True))
            if len(row.old) < both:
                yield f"{what} {len(row.old)} of {number(both, 'pair')}"
            continue
        for name, trials, values in zip(names, counted, (row.old, row.new), strict=True):
            if len(values) < len(trials):
                yield f"{what} {len(values)} of {number(len(trials), row.unit)} of {name}"


def about_several_trials(sides: Sides) -> Iterator[str]:
    """The experiments of which a run counts once, though it has several trials."""
    those = [name for name, of_it in sides.items() if any(trial.of for side in of_it for trial in side)]
    if those:
        yield (
            f"{listing(those)}: each run counts once, by the median of its trials and the share of them that failed,"
            " because they share a cluster"
        )


def about_single_runs(rows: Sequence[Compared], counts: Counts, names: tuple[str, str]) -> Iterator[str]:
    """That trials of one run are compared as if each had a cluster of its own."""
    compared = {row.experiment for row in rows if row.unit == "trial"}
    sides = [
        name
        for place, name in enumerate(names)
        if any(counts[experiment][place].runs < counts[experiment][place].counted for experiment in compared)
    ]
    if sides:
        yield (
            f"trials of one run ({' and '.join(sides)}) share its cluster, its machine and its hour, so"
            " a difference may be one between two runs: give several runs of each side, or let"
            " `serve-chaos compare --ray` or `--set` run both sides in turns"
        )


def about_counts(counts: Counts, names: tuple[str, str]) -> list[str]:
    """Trials that showed nothing, trials that failed, and different numbers of requests."""
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


def about_leaks(trials: Sides, measures: Sequence[Measure], names: tuple[str, str]) -> Iterator[str]:
    """Where processes leaked though nobody compares that."""
    if any(measure.name == LEAKS for measure in measures):
        return
    for experiment, sides in trials.items():
        watched = [
            [t.values[LEAKS] for one in of_it for t in one.each if t.counts and LEAKS in t.values] for of_it in sides
        ]
        if any(leaks for each in watched for leaks in each):
            shown = (
                f"{sum(leaks > 0 for leaks in each)} of {number(len(each), 'trial')} of {name}"
                for name, each in zip(names, watched, strict=True)
            )
            yield f"{experiment}: processes leak in {' and '.join(shown)}; --on {LEAKS} compares that"


def differences(sides: Sides) -> list[str]:
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
    for trial in (trial for one in trials for trial in one.each):
        for key, value in trial.cluster.items():
            values.setdefault(key, set()).add(value)
    return {key: ", ".join(sorted(each)) for key, each in values.items()}


def by_requests(name: str, old: Sequence[Trial], new: Sequence[Trial], names: tuple[str, str]) -> list[str]:
    """What the requests alone say of one trial against one, with the warning that this is not enough."""
    before, after = ([trial for trial in trials if trial.counts and trial.sent] for trials in (old, new))
    if len(before) != 1 or len(after) != 1:
        return []
    a, b = before[0], after[0]
    low, high = availability_interval(a.lost, a.sent), availability_interval(b.lost, b.sent)
    apart = low[0] > high[1] or high[0] > low[1]
    figures = f"{names[0]} lost {a.lost} of {a.sent} requests, {names[1]} {b.lost} of {b.sent}"
    verdicts = "" if a.outcome == b.outcome else f"; the verdicts are {a.outcome} and {b.outcome}"
    beyond = "chance does not make such a difference" if apart else "chance can make such a difference"
    return [
        f"{name}: one trial against one has no p-value, because all requests of a trial share one fault; {figures}"
        f" (if each request were lost by itself, {beyond}){verdicts}"
    ]
