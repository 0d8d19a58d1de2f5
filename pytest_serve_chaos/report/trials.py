"""The table of tests that were run in trials: a row for each, with medians and ranges."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from pytest_serve_chaos.analysis.rank_test import median
from pytest_serve_chaos.analysis.result import Result
from pytest_serve_chaos.analysis.trials import Series
from pytest_serve_chaos.analysis.words import duration, latency
from pytest_serve_chaos.events import TrialEnded, of_kind
from pytest_serve_chaos.model import Json
from pytest_serve_chaos.printable import one_line

_ABSENT = "-"


@dataclass(frozen=True, slots=True)
class TrialsOfTest:
    """The trials of one experiment of a test.

    Attributes:
        name: Of the experiment, without a number.
        results: Those of all trials that have one.
        series: What the trials of its test showed.
    """

    name: str
    results: tuple[Result, ...]
    series: Series


def trial_of(result: Result) -> TrialEnded | None:
    """Which trial a result is of; None where its test was run once."""
    return next(iter(of_kind(TrialEnded, result.events)), None)


def trials_of(results: Iterable[Result]) -> list[TrialsOfTest]:
    """The trials by experiment, in the order in which they began."""
    found: dict[str, list[tuple[TrialEnded, Result]]] = {}
    for result in results:
        trial = trial_of(result)
        if trial is not None:
            found.setdefault(trial.of, []).append((trial, result))
    return [_of_one(name, of_it) for name, of_it in found.items()]


def _of_one(name: str, of_it: Sequence[tuple[TrialEnded, Result]]) -> TrialsOfTest:
    series = Series(of_it[0][0].planned, of_it[0][0].allowed, tuple(trial.outcome for trial, _ in of_it))
    return TrialsOfTest(name, tuple(result for _, result in of_it), series)


def without_passed_trials(results: Iterable[Result]) -> list[Result]:
    """The results that have rows of their own in the table: all but the trials that passed."""
    return [result for result in results if (trial := trial_of(result)) is None or trial.outcome != "passed"]


def trial_lines(results: Iterable[Result]) -> list[str]:
    """A row for each experiment that was run in trials."""
    each = trials_of(results)
    if not each:
        return []
    rows = [("trials", "", *TITLES), *(cells(one) for one in each)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def trial_sentences(results: Iterable[Result]) -> list[str]:
    """The rate of each experiment that was run in trials."""
    return [f"{one_line(one.name)}: {one.series.text}" for one in trials_of(results)]


TITLES = ("lost", "outage", "p99", "traffic back", "redundancy", "settled")
"""What the figures in a row are called."""


def cells(one: TrialsOfTest) -> tuple[str, ...]:
    """A row of the table: the test, its rate, and the median and range of each figure of `TITLES`."""
    shown = [result for result in one.results if result.outcome not in ("inconclusive", "unfinished")]
    figures = [result.measurement for result in shown]
    during = [measured.during.p99 for measured in figures if measured.during is not None]
    return (
        one_line(one.name),
        one.series.text,
        _range([float(m.lost) for m in figures if m.lost is not None], "{:g}".format),
        _range([m.longest_outage for m in figures if m.longest_outage is not None], duration),
        _range(during, latency),
        *(_until(shown, name) for name in _TIMES),
    )


_TIMES = ("traffic_back", "redundancy_back", "settled")


def _until(shown: Sequence[Result], name: str) -> str:
    """How often it never came, and how long it took else: ``never in 12 of 20, else 3.0 s``."""
    seen = list(_known(getattr(result.measurement, name) for result in shown))
    never = sum(name in result.never for result in shown)
    if not never:
        return _range(seen, duration)
    often = f"never in {never} of {never + len(seen)}"
    return f"{often}, else {_range(seen, duration)}" if seen else often


def _known(values: Iterable[float | None]) -> Iterator[float]:
    return (value for value in values if value is not None)


def _range(values: Sequence[float], words: Callable[[float], str]) -> str:
    """The median, and the range where there is one: ``0.3 s (0.1 to 2.4 s)``."""
    if not values:
        return _ABSENT
    low, middle, high = words(min(values)), words(median(values)), words(max(values))
    return middle if low == high else f"{middle} ({low} to {high})"


def trial_document(result: Result) -> Json:
    """Which trial an experiment was, as JSON data; None where its test was run once."""
    trial = trial_of(result)
    if trial is None:
        return None
    return {
        "of": trial.of,
        "number": trial.number,
        "planned": trial.planned,
        "allowed": trial.allowed,
        "outcome": trial.outcome,
    }
