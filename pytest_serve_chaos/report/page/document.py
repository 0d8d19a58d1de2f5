"""The page as HTML: all that is text. What is drawn, the scripts in `assets/` draw from the data that stand with it."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.resources import files

from pytest_serve_chaos import __version__
from pytest_serve_chaos.analysis.record import warnings_of
from pytest_serve_chaos.analysis.result import Result
from pytest_serve_chaos.model import Outcome
from pytest_serve_chaos.report.base import Outcomes
from pytest_serve_chaos.report.page.experiment import experiment_section
from pytest_serve_chaos.report.page.markup import Html, element, inline
from pytest_serve_chaos.report.terminal import (
    TITLES,
    VERDICTS,
    cells,
    cluster_words,
    what_is_late,
)

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


def _title(results: Iterable[Result]) -> str:
    return f"Serve chaos: {_counts(results) or 'no experiment'}"


def _counts(results: Iterable[Result]) -> str:
    found = Counter(result.outcome for result in results)
    order: tuple[Outcome, ...] = ("failed", "inconclusive", "unfinished", "passed", "measured")
    return ", ".join(f"{found[outcome]} {outcome}" for outcome in order if found[outcome])


def _header(outcomes: Outcomes) -> Iterator[Html]:
    yield element("h1", "Serve chaos report")
    yield element("p", _counts(outcomes.results) or "No experiment was judged.", class_="counts")
    clusters = [cluster_words(r.description) for r in outcomes.results if r.description is not None]
    for words in dict.fromkeys(clusters):
        yield element("p", words, class_="cluster")


def _main(outcomes: Outcomes) -> Iterator[Html]:
    yield from _verdicts(outcomes)
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


def _verdicts(outcomes: Outcomes) -> Iterator[Html]:
    if not outcomes.results:
        return
    titles = ("experiment", "verdict", *TITLES)
    head = element("tr", *(element("th", title, scope="col") for title in titles))
    rows = [_row(result, number) for number, result in enumerate(outcomes.results, start=1)]
    table = element("table", element("thead", head), element("tbody", *rows), class_="verdicts")
    late = what_is_late(outcomes.results)
    missing = [element("li", line) for line in outcomes.missing]
    yield element(
        "section",
        element("h2", "Verdicts", id="verdicts"),
        element("div", table, class_="wide"),
        element("p", late, class_="note") if late else None,
        element("ul", *missing) if missing else None,
        aria_labelledby="verdicts",
    )


def _row(result: Result, number: int) -> Html:
    name = element("a", result.experiment, href=f"#experiment-{number}")
    figures = cells(result)
    shown = [element("th", name, scope="row"), element("td", badge(result), data_title="verdict")]
    if figures is None:
        reason = next(iter(result.reasons), "")
        shown.append(element("td", reason, colspan=str(len(TITLES)), class_="reason"))
    else:
        shown += [element("td", figure, data_title=title) for title, figure in zip(TITLES, figures, strict=True)]
    return element("tr", *shown)


def badge(result: Result) -> Html:
    """The verdict as it stands in tables and titles."""
    return element("span", VERDICTS[result.outcome].lower(), class_=f"verdict {result.outcome}")


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
