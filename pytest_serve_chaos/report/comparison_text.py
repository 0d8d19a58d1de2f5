"""A comparison in words: lines for a terminal, Markdown for a job's summary or an issue, and a JSON document."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence

from pytest_serve_chaos import __version__
from pytest_serve_chaos.analysis.comparison import Compared, Comparison
from pytest_serve_chaos.analysis.sign_test import Signs
from pytest_serve_chaos.analysis.trial_figures import MEASURES, Measure, Trial
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
    return f"{value:.3g} MiB" if measure.unit == "MiB" else f"{value:g}"


def change_words(row: Compared) -> str:
    """By how much new values are higher, with the interval."""
    low, high = row.interval
    unknown = math.isinf(low) and math.isinf(high)
    between = "?" if unknown else f"{_signed(low, row.measure)} to {_signed(high, row.measure)}"
    return f"{_signed(row.change, row.measure)} ({between})"


def _signed(value: float, measure: Measure) -> str:
    if math.isinf(value):
        return "-inf" if value < 0 else "+inf"
    return f"{'-' if value < 0 else '+'}{value_words(abs(value), measure)}"


def p_words(p: float) -> str:
    """A p-value as people read it."""
    if p >= 0.0995:
        return f"p = {p:.2f}"
    return f"p = {p:.3f}" if p >= 0.001 else "p < 0.001"


def finding_line(row: Compared, names: tuple[str, str]) -> str:
    """What became of one measure, in a line."""
    before, after = (value_words(value, row.measure) for value in row.medians)
    of = f" (of {row.sent})" if row.sent else ""
    what = f"{row.experiment}: {row.measure.title}: median {before} against {after}{of}"
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
        shown.append(one_line(f"    changed by {change_words(row)} at 95 %; {_how_often(row, found)}"))
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
        before, after = (value_words(value, row.measure) for value in row.medians)
        each.append(f"{row.measure.title} {before} against {after}")
    what, too_few = f"{unable[0].experiment}: {', '.join(each)}", min(unable, key=lambda row: len(row.old))
    return [f"{what}; {_too_few(too_few)}"]


def _too_few(row: Compared) -> str:
    kind = "pairs" if row.paired else "trials on each side"
    return f"{_units(row)} cannot show a difference, {row.needed} {kind} could"


def _units(row: Compared) -> str:
    return number(len(row.old), "pair") if row.paired else f"{len(row.old)} against {number(len(row.new), 'trial')}"


def _how_often(row: Compared, found: Comparison) -> str:
    if not row.paired:
        return f"a trial of {found.new} is above one of {found.old} in {100 * row.superiority:.0f} % of all pairs"
    signs = _signs(row)
    low, high = signs.share()
    if not signs.unequal:
        return f"equal in all {number(signs.equal, 'pair')}"
    return (
        f"{found.new} is higher in {signs.higher} and lower in {signs.lower} of {number(len(row.old), 'pair')}"
        f" (higher in {100 * low:.0f} to {100 * high:.0f} % of unequal pairs)"
    )


def _signs(row: Compared) -> Signs:
    return Signs.of([0.0 if a == b else b - a for a, b in zip(row.old, row.new, strict=True)])


def markdown(found: Comparison) -> str:
    """All of it as Markdown."""
    return "\n".join(_markdown(found)) + "\n"


def _markdown(found: Comparison) -> Iterator[str]:
    yield f"### {escaped(answer_line(found))}"
    yield ""
    yield f"| experiment | measure | {escaped(found.old)} | {escaped(found.new)} | change (95 %) | p | finding |"
    yield "| --- | --- | ---: | ---: | ---: | ---: | --- |"
    for row in found.rows:
        cells = [row.experiment, row.measure.title, *_medians(row), change_words(row), p_words(row.p)[4:], row.finding]
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
    return [
        f"{value_words(middle, row.measure)} ({value_words(min(values), row.measure)} to"
        f" {value_words(max(values), row.measure)}, n = {len(values)})"
        for middle, values in zip(row.medians, (row.old, row.new), strict=True)
    ]


def method(found: Comparison) -> str:
    """How the p-values were computed."""
    paired = any(row.paired for row in found.rows)
    test = (
        "pairs of trials with the same seed in alternating order, a sign test that holds at every look"
        if paired
        else "the exact rank test, with the trial as the unit"
    )
    tests = number(found.tests, "comparison")
    return f"p-values: {test}, corrected for {tests} (Holm); level {100 * found.alpha:g} %."


def document(found: Comparison) -> dict[str, Json]:
    """All of it as plain JSON data. Infinite values, which JSON has no word for, are the text ``never``."""
    return {
        "schema": SCHEMA,
        "program": {"name": "pytest-serve-chaos", "version": __version__},
        "old": found.old,
        "new": found.new,
        "answer": found.answer,
        "alpha": found.alpha,
        "method": method(found),
        "comparisons": [_row(row) for row in found.rows],
        "trials": {
            name: {
                side: {
                    "counted": count.counted,
                    "failed": count.failed,
                    "inconclusive": count.inconclusive,
                    "sent": _json(count.sent),
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
        "interval": [_json(value) for value in row.interval],
        "superiority": row.superiority,
        "paired": row.paired,
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
