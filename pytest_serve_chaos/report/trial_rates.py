"""The rates of tests that were run in trials, as JSON data."""

from __future__ import annotations

from collections.abc import Iterable

from pytest_serve_chaos.analysis.result import Result
from pytest_serve_chaos.analysis.trials import rate_bounds
from pytest_serve_chaos.model import Json
from pytest_serve_chaos.report.trials import TrialsOfTest, trials_of


def trial_rates(results: Iterable[Result]) -> list[Json]:
    """For each experiment that was run in trials: how many failed, the rate of that, and the verdict by it."""
    return [_rate(one) for one in trials_of(results)]


def _rate(one: TrialsOfTest) -> Json:
    series = one.series
    least, most = rate_bounds(series.failed, series.counted) if series.counted else (None, None)
    return {
        "of": one.name,
        "planned": series.planned,
        "allowed": series.allowed,
        "run": len(series.outcomes),
        "failed": series.failed,
        "inconclusive": series.inconclusive,
        "rate": series.failed / series.counted if series.counted else None,
        "rate_least": least,
        "rate_most": most,
        "verdict": series.verdict,
        "text": series.text,
    }
