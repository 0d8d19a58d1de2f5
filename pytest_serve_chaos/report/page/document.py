"""The page as HTML: all that is text. What is drawn, the scripts in `assets/` draw from the data that stand with it."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from importlib.resources import files

from pytest_serve_chaos import __version__
from pytest_serve_chaos.analysis.record import warnings_of
from pytest_serve_chaos.analysis.result import Result
from pytest_serve_chaos.analysis.words import number as counted
from pytest_serve_chaos.model import Outcome
from pytest_serve_chaos.report.base import Outcomes
from pytest_serve_chaos.report.page.experiment import experiment_section
from pytest_serve_chaos.report.page.markup import Html, element, inline
from pytest_serve_chaos.report.page.verdicts import verdict_of, verdicts
from pytest_serve_chaos.report.terminal import cluster_words
from pytest_serve_chaos.report.trials import trial_of, trials_of

_STYLES = ("uPlot.min.css", "report.css")
_LIBRARY = "uPlot.iife.min.js"
_SCRIPTS = ("columns.js", "lanes.js", "plots.js", "details.js", "page.js")
"""In the order in which each uses those before it."""

_ALL_OPEN = 3
"""Experiments that are all open at first; of more, only those that somebody has to look at."""


def page(outcomes: Outcomes) -> str:
    """One file with everything: the verdicts, and of each experiment a picture and what stands in its history."""
    results = outcomes.results
    script = "\n".join(_asset(name) for name in _SCRIPTS)
    style = "\n".join(_asset(name) for name in _STYLES)
    body = [
        element("a", "Skip to the experiments", href="#experiments", class_="skip"),
        element("header", *_header(outcomes)),
        element("main", *_main(outcomes)),
        element("footer", _footer()),
        inline("script", _asset(_LIBRARY)),
        inline("script", script),
    ]
    head = [
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_policy([_asset(_LIBRARY), script], style)),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", _title(results)),
        inline("style", style),
    ]
    return "<!doctype html>\n" + element("html", element("head", *head), element("body", *body), lang="en")


@cache
def _asset(name: str) -> str:
    return (files("pytest_serve_chaos.report") / "assets" / name).read_text(encoding="utf-8")


def _policy(scripts: Iterable[str], style: str) -> str:
    """Nothing is loaded, and only the code of this package runs, whatever a name or a log line has in it."""
    allowed = " ".join(_fingerprint(script) for script in scripts)
    own = f"script-src {allowed}; style-src {_fingerprint(style)}"
    return f"default-src 'none'; {own}; base-uri 'none'; form-action 'none'"


def _fingerprint(code: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()}'"


def _title(results: Sequence[Result]) -> str:
    return f"Serve chaos: {_counts(results) or 'no experiment'}"


def _counts(results: Sequence[Result]) -> str:
    """How many have each verdict; what was run in trials counts once, by its rate."""
    trials = trials_of(results)
    found = Counter(result.outcome for result in results if trial_of(result) is None)
    found += Counter(verdict_of(one) for one in trials)
    order: tuple[Outcome, ...] = ("failed", "inconclusive", "unfinished", "passed", "measured")
    counts = ", ".join(f"{found[outcome]} {outcome}" for outcome in order if found[outcome])
    run = sum(len(one.series.outcomes) for one in trials)
    return f"{counts} ({counted(run, 'trial')})" if run else counts


def _header(outcomes: Outcomes) -> Iterator[Html]:
    yield element("h1", "Serve chaos report")
    yield element("p", _counts(outcomes.results) or "No experiment was judged.", class_="counts")
    clusters = [cluster_words(r.description) for r in outcomes.results if r.description is not None]
    for words in dict.fromkeys(clusters):
        yield element("p", words, class_="cluster")


def _main(outcomes: Outcomes) -> Iterator[Html]:
    yield from verdicts(outcomes)
    yield from _run_warnings(outcomes)
    looked_at = len(outcomes.results) <= _ALL_OPEN
    sections = [
        experiment_section(
            result,
            outcomes.history,
            number=number,
            is_open=looked_at or result.outcome not in ("passed", "measured"),
        )
        for number, result in enumerate(outcomes.results, start=1)
    ]
    yield element("div", *sections, id="experiments")


def _run_warnings(outcomes: Outcomes) -> Iterator[Html]:
    lines = [element("li", warning.line) for warning in warnings_of(outcomes.history)]
    if lines:
        title = f"Warnings about the configuration ({len(lines)})"
        yield element("details", element("summary", title), element("ul", *lines), class_="warnings")


def _footer() -> Html:
    return element(
        "p",
        f"Written by pytest-serve-chaos {__version__} from the run's history.jsonl. The plots are drawn by uPlot "
        "(MIT licence, Leon Sorokin).",
    )
