"""The registry of reporters: what they can be called, which files they write, and what happens if one fails."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_serve_chaos.errors import SettingsError
from pytest_serve_chaos.report import Outcomes, Reporter
from pytest_serve_chaos.report.registry import BUILT_IN
from pytest_serve_chaos.results import result_of
from tests.unit.histories import head_failure


def outcomes() -> Outcomes:
    story = head_failure()
    history = story.history()
    return Outcomes(history, (result_of(history, story.experiment),))


def text(_: Outcomes) -> str:
    return "all is well"


def breaks(_: Outcomes) -> str:
    raise KeyError("nothing")


def reporter(name: str = "page", **fields: object) -> Reporter:
    return Reporter(name=name, description="a page", **{"text": text, **fields})  # type: ignore[arg-type]


def test_each_reporter_of_this_package_has_its_place(tmp_path: Path) -> None:
    given = outcomes()
    assert BUILT_IN.formats == ("table", "json", "html", "github")
    assert BUILT_IN.text("table", given).splitlines() == BUILT_IN.terminal(given)[0]
    assert BUILT_IN.write(given, tmp_path) == []
    assert sorted(file.name for file in tmp_path.iterdir()) == ["report.html", "summary.json"]
    assert json.loads((tmp_path / "summary.json").read_text()) == json.loads(BUILT_IN.text("json", given))
    assert ("serve_chaos_experiment", "head_failure") in BUILT_IN.properties(given.results[0])


def test_a_run_leaves_the_tracebacks_of_checks_to_its_tests() -> None:
    given = outcomes()
    (result,) = given.results
    raised = replace(result, verdict=replace(result.verdict, tracebacks=("Traceback: KeyError",)))
    of_a_run = replace(given, results=(raised,))
    assert "Traceback: KeyError" not in BUILT_IN.text("table", of_a_run)
    again = replace(of_a_run, with_tracebacks=True)
    assert BUILT_IN.text("table", again).splitlines()[-1] == "Traceback: KeyError"


def test_those_of_others_write_files_print_lines_and_give_properties(tmp_path: Path) -> None:
    given = outcomes()
    more = [
        reporter(file="page.txt", terminal=True),
        Reporter(name="p", description="", properties=lambda _: [("a", "b")]),
    ]
    both = BUILT_IN.and_those(more)
    assert both.formats == ("table", "json", "html", "github", "page")
    assert both.write(given, tmp_path) == []
    assert (tmp_path / "page.txt").read_text() == "all is well\n"
    assert both.terminal(given)[0][-1] == "all is well"
    assert both.properties(given.results[0])[-1] == ("a", "b")


def test_one_that_breaks_costs_no_other(tmp_path: Path) -> None:
    both = BUILT_IN.and_those(
        [reporter("broken", text=breaks, file="broken.txt", terminal=True), reporter(file="page.txt")]
    )
    failure = "the report broken could not be made: KeyError: 'nothing'"
    assert both.write(outcomes(), tmp_path) == [failure]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["page.txt", "report.html", "summary.json"]
    lines, failed = both.terminal(outcomes())
    assert lines
    assert failed == [failure]


@pytest.mark.parametrize(
    ("added", "says"),
    [
        ([reporter("json")], "a reporter cannot have the name 'json'"),
        ([reporter("A page")], "a reporter cannot have the name 'A page'"),
        ([reporter(file="summary.json")], "the reporter page cannot write the file 'summary.json'"),
        ([reporter(file="history.jsonl")], "the reporter page cannot write the file 'history.jsonl'"),
        ([reporter(file="../page.html")], r"the reporter page cannot write the file '\.\./page\.html'"),
        ([reporter(text=None)], "the reporter page has no text"),
        (["page"], r"returned \['page'\], which is not a list of reporters"),
        (reporter(), r"returned Reporter\(.*, which is not a list of reporters"),
    ],
)
def test_what_cannot_be_added_is_refused(added: Sequence[Reporter], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        BUILT_IN.and_those(added)
