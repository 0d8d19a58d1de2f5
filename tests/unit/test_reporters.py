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


def trace(_: Outcomes) -> bytes:
    return b"\x00\xff\n\n"


def test_a_report_of_bytes_is_written_as_it_is(tmp_path: Path) -> None:
    both = BUILT_IN.and_those([reporter("trace", text=None, data=trace, file="trace.bin")])
    assert both.formats[-1] == "trace"
    assert both.content("trace", outcomes()) == b"\x00\xff\n\n"
    assert both.write(outcomes(), tmp_path) == []
    assert (tmp_path / "trace.bin").read_bytes() == b"\x00\xff\n\n"


def test_a_file_that_cannot_be_written_stays_what_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "page.txt"
    file.write_text("that of before")

    def full(path: Path, data: bytes) -> int:
        with path.open("wb") as part:
            part.write(data[:3])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    failed = BUILT_IN.and_those([reporter(file="page.txt")]).write(outcomes(), tmp_path)
    assert "the report page could not be made: OSError: [Errno 28] No space left on device" in failed
    assert {one.name: one.read_text() for one in tmp_path.iterdir()} == {"page.txt": "that of before"}


@pytest.mark.parametrize(
    ("added", "says"),
    [
        ([reporter("json")], "a reporter cannot have the name 'json'"),
        ([reporter("A page")], "a reporter cannot have the name 'A page'"),
        ([reporter(file="summary.json")], "the reporter page cannot write the file 'summary.json'"),
        ([reporter(file="history.jsonl")], "the reporter page cannot write the file 'history.jsonl'"),
        ([reporter(file="../page.html")], r"the reporter page cannot write the file '\.\./page\.html'"),
        ([reporter(text=None)], "the reporter page has no text"),
        ([reporter(data=trace)], "the reporter page has both text and data"),
        ([reporter(text=None, data=trace, terminal=True)], "the reporter page has no text"),
        (["page"], r"returned \['page'\], which is not a list of reporters"),
        (reporter(), r"returned Reporter\(.*, which is not a list of reporters"),
    ],
)
def test_what_cannot_be_added_is_refused(added: Sequence[Reporter], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        BUILT_IN.and_those(added)
