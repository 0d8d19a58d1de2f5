"""The tables of a page: each test with its verdict and figures, and beneath a test its trials."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from pytest_serve_chaos.analysis.result import Result
from pytest_serve_chaos.analysis.words import number as counted
from pytest_serve_chaos.model import Outcome
from pytest_serve_chaos.report.base import Outcomes
from pytest_serve_chaos.report.page.markup import Html, element
from pytest_serve_chaos.report.terminal import TITLES, VERDICTS, cells, what_is_late
from pytest_serve_chaos.report.trials import TITLES as TRIAL_TITLES
from pytest_serve_chaos.report.trials import TrialsOfTest, trial_of, trials_of
from pytest_serve_chaos.report.trials import cells as trial_cells


def verdicts(outcomes: Outcomes) -> Iterator[Html]:
    """The table of what was run once, and that of what was run in trials, with a table of its trials for each."""
    if not outcomes.results:
        return
    numbers = {result.experiment: number for number, result in enumerate(outcomes.results, start=1)}
    once = [result for result in outcomes.results if trial_of(result) is None]
    trials = trials_of(outcomes.results)
    late = what_is_late(outcomes.results)
    missing = [element("li", line) for line in outcomes.missing]
    yield element(
        "section",
        element("h2", "Verdicts", id="verdicts"),
        _table(once, numbers) if once else None,
        _rates(trials) if trials else None,
        [_trials(one, number, numbers) for number, one in enumerate(trials, start=1)],
        element("p", late, class_="note") if late else None,
        element("ul", *missing) if missing else None,
        aria_labelledby="verdicts",
    )


def verdict_of(trials: TrialsOfTest) -> Outcome:
    """The verdict of a test by its rate; one whose trials have not all ended is unfinished."""
    return trials.series.verdict or "unfinished"


def badge(outcome: Outcome) -> Html:
    """The verdict as it stands in tables and titles."""
    return element("span", VERDICTS[outcome].lower(), class_=f"verdict {outcome}")


# -- tables ------------------------------------------------------------------------------------------------------------


def _table(results: Iterable[Result], numbers: Mapping[str, int]) -> Html:
    rows = [_row(result, numbers[result.experiment]) for result in results]
    return _of_rows(("experiment", "verdict", *TITLES), rows)


def _row(result: Result, number: int) -> Html:
    name = element("a", result.experiment, href=f"#experiment-{number}")
    figures = cells(result)
    shown = [element("th", name, scope="row"), element("td", badge(result.outcome), data_title="verdict")]
    if figures is None:
        reason = next(iter(result.reasons), "")
        shown.append(element("td", reason, colspan=str(len(TITLES)), class_="reason"))
    else:
        shown += _figures(TITLES, figures)
    return element("tr", *shown)


def _rates(trials: Sequence[TrialsOfTest]) -> Html:
    """A row for each test: its rate with the bounds, and medians with ranges."""
    rows = []
    for number, one in enumerate(trials, start=1):
        _, rate, *figures = trial_cells(one)
        name = element("a", one.name, href=f"#trials-{number}")
        rows.append(
            element(
                "tr",
                element("th", name, scope="row"),
                element("td", badge(verdict_of(one)), data_title="verdict"),
                element("td", rate, class_="rate"),
                *_figures(TRIAL_TITLES, figures),
            )
        )
    return _of_rows(("test run in trials", "verdict", "rate", *TRIAL_TITLES), rows)


def _trials(one: TrialsOfTest, number: int, numbers: Mapping[str, int]) -> Html:
    title = f"{one.name}: {counted(len(one.results), 'trial')}"
    return element(
        "details", element("summary", title), _table(one.results, numbers), id=f"trials-{number}", class_="folded"
    )


def _of_rows(titles: Iterable[str], rows: Iterable[Html]) -> Html:
    head = element("tr", *(element("th", title, scope="col") for title in titles))
    table = element("table", element("thead", head), element("tbody", *rows), class_="verdicts")
    return element("div", table, class_="wide")


def _figures(titles: Iterable[str], figures: Iterable[str]) -> list[Html]:
    return [element("td", figure, data_title=title) for title, figure in zip(titles, figures, strict=True)]
