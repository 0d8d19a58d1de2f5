"""What a fault was expected to cost, and what it did cost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pytest_serve_chaos.analysis.result import Result
from pytest_serve_chaos.analysis.words import duration, limit
from pytest_serve_chaos.predicted import Figure, PredictedStep, Prediction
from pytest_serve_chaos.prediction.comparison import NOT_COMPARED, lost_in_all
from pytest_serve_chaos.prediction.steps import own_duration
from pytest_serve_chaos.report.page.markup import Child, Html, element, folded, table

_FIGURES: dict[Figure, str] = {"outage": "outage", "redundancy": "redundancy"}


def expected_and_seen(result: Result, predictions: Iterable[Prediction]) -> Iterator[Html]:
    """For each fault whose cost somebody computed before: the figures, the steps, and the setting that decides most."""
    for prediction in predictions:
        if prediction.why_not:
            yield folded("Expected and seen", element("p", f"No prediction: {prediction.why_not}", class_="note"))
        else:
            yield folded("Expected and seen", *_of(prediction, result), is_open=True)


def _of(prediction: Prediction, result: Result) -> Iterator[Child]:
    lost = lost_in_all(result)
    rows = [
        ("requests lost in the whole observation", _lost(prediction), "-" if lost is None else str(lost)),
        (
            "longest outage",
            between(prediction.outage_least, prediction.outage_most),
            "-"
            if result.longest_outage is None
            else "none"
            if not result.longest_outage
            else duration(result.longest_outage),
        ),
        (
            "redundancy back",
            between(prediction.redundancy_least, prediction.redundancy_most),
            _back(result),
        ),
    ]
    yield table(("figure", "expected", "seen"), rows)
    if result.doubtful:
        yield element("p", f"{NOT_COMPARED[:1].upper()}{NOT_COMPARED[1:]}: {result.doubtful}", class_="note")
    if prediction.lost_why:
        yield element("p", f"Lost: {prediction.lost_why}", class_="note")
    if lasts := own_duration(prediction):
        yield element("p", "What matters most is how long the fault itself lasts: ", element("code", lasts))
    if prediction.dominant:
        change = f": {prediction.change}" if prediction.change else ""
        yield element("p", "The setting that matters most is ", element("code", prediction.dominant), change)
    if prediction.steps:
        steps = [
            (
                step.text,
                _FIGURES.get(step.figure, step.figure),
                between(step.least, step.most),
                _setting(step),
                step.source,
            )
            for step in prediction.steps
        ]
        yield table(("step", "part of", "takes", "decided by", "source"), steps)
    for sentence in prediction.unknown:
        yield element("p", f"Unknown: {sentence}", class_="note")


def _lost(prediction: Prediction) -> str:
    if prediction.lost is None:
        return "unknown"
    most = "" if prediction.lost_most is None else f", at most {prediction.lost_most} in 99 of 100 cases"
    return f"{prediction.lost:.1f} on average{most}"


def between(least: float | None, most: float | None) -> str:
    """A range of seconds in words."""
    if least is None:
        return "unknown"
    if most is None:
        return f"at least {limit(round(least, 1))}"
    if not most:
        return "none"
    low, high = (limit(round(seconds, 1)) for seconds in (least, most))
    return high if low == high else f"{low} to {high}"


def _back(result: Result) -> str:
    if result.redundancy_back is not None:
        return duration(result.redundancy_back)
    return "never" if result.never_redundant else "-"


def _setting(step: PredictedStep) -> Html:
    return element("code", step.setting) if step.setting else element("span", "no setting")
