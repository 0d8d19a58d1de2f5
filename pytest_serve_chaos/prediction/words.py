"""Predictions in sentences, for people."""

from __future__ import annotations

import math

from pytest_serve_chaos.analysis.words import number
from pytest_serve_chaos.predicted import Prediction
from pytest_serve_chaos.prediction.steps import ON_THIS_MACHINE, between, own_duration


def prediction_lines(prediction: Prediction) -> list[str]:
    """A prediction in one to three lines, to be printed before the fault."""
    if prediction.why_not:
        return [f"no prediction: {prediction.why_not}"]
    lines = [f"expected: {expected(prediction)}" + (f" ({prediction.lost_why})" if prediction.lost_why else "")]
    if decides := what_decides(prediction):
        lines.append(decides)
    unknown = [text for text in prediction.unknown if text != ON_THIS_MACHINE]  # it is in the reports, and always true
    if unknown:
        lines.append(f"not in that: {'; '.join(unknown)}")
    return lines


def what_decides(prediction: Prediction) -> str:
    """What decides most of the time: a setting and what another value would give, or the fault's own duration."""
    lasts = own_duration(prediction)
    own = f"the fault's own duration, {lasts}, decides most" if lasts else ""
    if not prediction.dominant:
        return own
    change = f": {prediction.change}" if prediction.change else ""
    return f"{own}{'; ' if own else ''}of the settings, {prediction.dominant} decides most{change}"


def expected(prediction: Prediction) -> str:
    """What is expected, in a few words: ``redundancy back after 2.7 to 7.9 s, outage up to 0.3 s, at most 2 lost``."""
    parts = []
    if prediction.redundancy_least is not None:
        back = between(prediction.redundancy_least, prediction.redundancy_most)
        soon = back.removeprefix("up to ")
        parts.append(f"redundancy back after {back}" if soon == back else f"redundancy back within {soon}")
    parts.append(_outage(prediction))
    parts.append(losses(prediction))
    return ", ".join(part for part in parts if part)


def _outage(prediction: Prediction) -> str:
    if not prediction.outage_least and prediction.outage_most is None:
        return "an outage of unknown length" if prediction.lost is None else ""
    return f"outage {between(prediction.outage_least, prediction.outage_most)}"


def losses(prediction: Prediction) -> str:
    """How many requests are expected to be lost: ``at most 2 lost``."""
    if prediction.lost_most is None:
        return "an unknown number lost"
    if not prediction.lost_most:
        return "none lost"
    mean = prediction.lost or 0.0
    usual = f", {math.floor(mean + 0.5)} on average" if mean >= 1 else ""
    return f"at most {number(prediction.lost_most, 'request')} lost{usual}"
