"""A comparison in words: lines for a terminal, Markdown for a job's summary or an issue, and a JSON document."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence

from pytest_serve_chaos import __version__
from pytest_serve_chaos.analysis.compared import Compared, Comparison
from pytest_serve_chaos.analysis.sign_test import Signs, share_interval_of_all_looks
from pytest_serve_chaos.analysis.statistics import availability_interval
from pytest_serve_chaos.analysis.trial_figures import MEASURES, SHARE, Measure, Trial
from pytest_serve_chaos.analysis.words import duration, latency, number
from pytest_serve_chaos.model import Json
from pytest_serve_chaos.printable import one_line
from pytest_serve_chaos.report.markdown_text import escaped

SCHEMA = 1
"""Goes up when a field of the document changes its meaning or goes away."""

ANSWERS = {
    "worse": "WORSE",
    "no worse": "no worse",
    "cannot say": "CANNOT SAY",
}


def value_words(value: float, measure: Measure) -> str:
    """A value as people read it."""
    if math.isinf(value):
        return "lost" if measure.name in ("p50", "p99") else "never"
    if measure.unit == "s":
        return latency(value) if measure.name in ("p50", "p99", "outage") else duration(value)
    if measure.unit == SHARE:
        return f"{100 * value:.0f} %"
    return f"{value:.3g} MiB" if measure.unit == "MiB" else f"{value:g}"


def change_words(row: Compared) -> str:
    """By how much new values are higher, with the interval."""
    if row.interval is None:
        return _signed(row.change, row.measure)
    low, high = row.interval
    unknown = math.isinf(low) and math.isinf(high) and low < high
    between = "?" if unknown else f"{_signed(low, row.measure)} to {_signed(high, row.measure)}"
    return f"{_signed(row.change, row.measure)} ({between})"


def _signed(value: float, measure: Measure) -> str:
    """A change with its sign, which what rounds to nothing has not."""
    if math.isinf(value):
        return "-inf" if value < 0 else "+inf"
    shown, nothing = value_words(abs(value), measure), value_words(0.0, measure)
    if measure.unit == SHARE:
        shown, nothing = (text.replace("%", "points") for text in (shown, nothing))
    return shown if shown == nothing else f"{'-' if value < 0 else '+'}{shown}"


def middle_words(row: Compared) -> tuple[str, str]:
    """What is usual on both sides: the medians, or how many of the trials failed or never came back."""
    if row.measure.unit == SHARE:
        of_trials = all(value in (0, 1) for value in (*row.old, *row.new))  # and not the shares of those of runs
        return _share_words(row.old, of_trials=of_trials), _share_words(row.new, of_trials=of_trials)
    (old, new), (before, after) = (row.old, row.new), row.medians
    return _middle(before, old, row.measure), _middle(after, new, row.measure)


def _middle(middle: float, values: Sequence[float], measure: Measure) -> str:
    shown, never = value_words(middle, measure), sum(math.isinf(value) for value in values)
    if not never or never == len(values):
        return shown
    often = f"{value_words(math.inf, measure)} in {never} of {len(values)}"
    return often if math.isinf(middle) else f"{shown} ({often})"


def _share_words(values: Sequence[float], *, of_trials: bool) -> str:
    failed = math.fsum(values)
    return f"{failed:.0f} of {len(values)}" if of_trials else f"{100 * failed / len(values):.0f} %"


def sure_words(found: Comparison) -> str:
    """The confidence of an interval."""
    return f"{100 * found.confidence:.3g} %"


def p_words(p: float) -> str:
    """A p-value in a sentence."""
    return f"p = {shown}" if (shown := p_value(p))[0] != "<" else f"p {shown}"


def p_value(p: float) -> str:
    """A p-value in a table: ``0.022``, or ``< 0.001``."""
    if p >= 0.0995:
        return f"{p:.2f}"
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def finding_line(row: Compared, names: tuple[str, str]) -> str:
    """What became of one measure, in a line."""
    before, after = middle_words(row)
    of = f" (of {row.sent})" if row.sent else ""
    median_of = "" if row.measure.unit == SHARE else "median "
    what = f"{row.experiment}: {row.measure.title}: {median_of}{before} against {after}{of}"
    if row.decided:
        return f"{what}; {names[1]} is {row.finding}, {p_words(row.p)} after {_units(row)}"
    if row.finding == "too few trials":
        return f"{what}; {_too_few(row)}"
    return f"{what}; no difference, {p_words(row.p)} after {_units(row)}"


_OF_A_TRIAL_UNSAID = ("failed", "lost", "late", "p50", "settled")


def trial_words(trial: Trial) -> str:
    """The figures of one trial."""
    shown = [m for m in MEASURES if m.name in trial.values and m.name not in _OF_A_TRIAL_UNSAID]
    figures = [
        f"lost {trial.lost} of {trial.sent}",
        *(f"{m.title} {value_words(trial.values[m.name], m)}" for m in shown),
    ]
    return f"{trial.outcome}, {', '.join(figures)}"


def answer_line(found: Comparison) -> str:
    """The answer in a line."""
    if found.answer == "worse":
        return f"{found.new} is worse than {found.old}"
    if found.answer == "no worse":
        better = any(row.finding == "better" for row in found.rows)
        return f"{found.new} is {'better' if better else 'no worse'} than {found.old}" + (
            "" if better else ": no difference was found"
        )
    return f"it is unknown whether {found.new} is worse than {found.old}: there is too little to compare"


def lines(found: Comparison) -> list[str]:
    """All of it for a terminal."""
    order = {"worse": 0, "better": 1, "no difference": 2}
    shown = []
    for row in sorted(_able(found.rows), key=lambda row: order[row.finding]):
        shown.append(one_line(finding_line(row, (found.old, found.new))))
        at = "" if row.interval is None else f" at {sure_words(found)}"
        shown.append(one_line(f"    changed by {change_words(row)}{at}; {_how_often(row, found)}"))
    shown += [one_line(line) for experiment in found.counts for line in _unable(found.of(experiment))]
    return [*shown, *(one_line(f"note: {note}") for note in found.notes), one_line(answer_line(found))]


def _able(rows: Iterable[Compared]) -> list[Compared]:
    return [row for row in rows if row.finding != "too few trials"]


def _unable(rows: Sequence[Compared]) -> list[str]:
    """What too few trials have measured, in a line for an experiment."""
    unable = [row for row in rows if row.finding == "too few trials"]
    if not unable:
        return []
    each = []
    for row in unable:
        before, after = middle_words(row)
        each.append(f"{row.measure.title} {before} against {after}")
    what, too_few = f"{unable[0].experiment}: {', '.join(each)}", min(unable, key=lambda row: len(row.old))
    return [f"{what}; {_too_few(too_few)}"]


def _too_few(row: Compared) -> str:
    kind = "pairs" if row.paired else f"{row.unit}s on each side"
    return f"{_units(row)} cannot show a difference, {row.needed} {kind} could"


def _units(row: Compared) -> str:
    return number(len(row.old), "pair") if row.paired else f"{len(row.old)} against {number(len(row.new), row.unit)}"


def _how_often(row: Compared, found: Comparison) -> str:
    if row.paired:
        return _how_often_in_pairs(row, found)
    if row.interval is None and row.unit == "trial":
        rates = (_rate(values, found.confidence) for values in (row.old, row.new))
        each = (f"{rate} of {name}" for name, rate in zip((found.old, found.new), rates, strict=True))
        return f"{' and '.join(each)} fail, each at {sure_words(found)}"
    return (
        f"a {row.unit} of {found.new}, taken at random, is above one of {found.old} with a probability of"
        f" {100 * row.superiority:.0f} % (equal ones count half)"
    )


def _rate(failed: Sequence[float], confidence: float) -> str:
    least, most = availability_interval(round(math.fsum(failed)), len(failed), confidence)
    return f"{100 * (1 - most):.0f} to {100 * (1 - least):.0f} %"


def _how_often_in_pairs(row: Compared, found: Comparison) -> str:
    differences = [0.0 if a == b else b - a for a, b in zip(row.old, row.new, strict=True)]
    signs = Signs.of(differences)
    if not signs.unequal:
        return f"equal in all {number(signs.equal, 'pair')}"
    low, high = share_interval_of_all_looks(differences, found.confidence)
    return (
        f"{found.new} is higher in {signs.higher} and lower in {signs.lower} of {number(len(row.old), 'pair')}"
        f" (higher in {100 * low:.0f} to {100 * high:.0f} % of unequal pairs at {sure_words(found)})"
    )


def markdown(found: Comparison) -> str:
    """All of it as Markdown."""
    return "\n".join(_markdown(found)) + "\n"


def _markdown(found: Comparison) -> Iterator[str]:
    yield f"### {escaped(answer_line(found))}"
    yield ""
    change = f"change ({sure_words(found)})"
    yield f"| experiment | measure | {escaped(found.old)} | {escaped(found.new)} | {change} | p | finding |"
    yield "| --- | --- | ---: | ---: | ---: | ---: | --- |"
    for row in found.rows:
        cells = [row.experiment, row.measure.title, *_medians(row), change_words(row), p_value(row.p), row.finding]
        texts = [escaped(cell) for cell in cells]
        if row.decided:
            texts[-1] = f"**{texts[-1]}**"
        yield f"| {' | '.join(texts)} |"
    yield ""
    yield "Figures are medians, with the range of all trials. " + escaped(method(found))
    yield ""
    for row in found.rows:
        if row.decided:
            yield f"- {escaped(finding_line(row, (found.old, found.new)))}; {escaped(_how_often(row, found))}"
    for note in found.notes:
        yield f"- {escaped(note)}"


def _medians(row: Compared) -> list[str]:
    if row.measure.unit == SHARE:
        return list(middle_words(row))
    return [
        f"{value_words(middle, row.measure)} ({value_words(min(values), row.measure)} to"
        f" {value_words(max(values), row.measure)}, n = {len(values)})"
        for middle, values in zip(row.medians, (row.old, row.new), strict=True)
    ]


def method(found: Comparison) -> str:
    """How p-values and intervals were computed."""
    paired = any(row.paired for row in found.rows)
    units = sorted({row.unit for row in found.rows})
    test = (
        "pairs of runs with the same seed in alternating order, a sign test that holds at every look"
        if paired
        else f"the exact rank test, with the {' or '.join(units) or 'trial'} as the unit"
    )
    tests = number(found.tests, "comparison")
    together = f"Intervals hold at {sure_words(found)} each, and so all together at {100 * (1 - found.alpha):g} %."
    return f"p-values: {test}, corrected for {tests} (Holm); level {100 * found.alpha:g} %. {together}"


def document(found: Comparison) -> dict[str, Json]:
    """All of it as plain JSON data. Infinite values, which JSON has no word for, are the text ``never``."""
    return {
        "schema": SCHEMA,
        "program": {"name": "pytest-serve-chaos", "version": __version__},
        "old": found.old,
        "new": found.new,
        "answer": found.answer,
        "alpha": found.alpha,
        "confidence": found.confidence,
        "method": method(found),
        "comparisons": [_row(row) for row in found.rows],
        "trials": {
            name: {
                side: {
                    "counted": count.counted,
                    "failed": count.failed,
                    "inconclusive": count.inconclusive,
                    "sent": _json(count.sent),
                    "runs": count.runs,
                }
                for side, count in zip(("old", "new"), counts, strict=True)
            }
            for name, counts in found.counts.items()
        },
        "notes": list(found.notes),
    }


def json_text(found: Comparison) -> str:
    """The document as text."""
    return json.dumps(document(found), indent=2) + "\n"


def _row(row: Compared) -> dict[str, Json]:
    return {
        "experiment": row.experiment,
        "measure": row.measure.name,
        "unit": row.measure.unit,
        "finding": row.finding,
        "p": row.p,
        "medians": [_json(value) for value in row.medians],
        "change": _json(row.change),
        "interval": None if row.interval is None else [_json(value) for value in row.interval],
        "superiority": row.superiority,
        "paired": row.paired,
        "compared": row.unit,
        "needed": row.needed,
        "old": [_json(value) for value in row.old],
        "new": [_json(value) for value in row.new],
    }


def _json(value: float) -> Json:
    if math.isnan(value):
        return None
    if math.isinf(value):
        return "never" if value > 0 else "-never"
    return value
