"""The runs in a directory of reports: the newest of them, the page that lists them, and the command that shows it."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_serve_chaos.cli import main
from pytest_serve_chaos.errors import SafetyError, SettingsError
from pytest_serve_chaos.model import Json
from pytest_serve_chaos.report.document import summary_document
from pytest_serve_chaos.results import results_of
from pytest_serve_chaos.runs import directory as directory_module
from pytest_serve_chaos.runs.directory import (
    INDEX,
    LATEST,
    MOST_RUNS,
    newest_page,
    point_to_latest,
    runs_in,
    write_index,
)
from pytest_serve_chaos.runs.summary import read_summary
from pytest_serve_chaos.viewer import open_report
from tests.unit.histories import head_failure

EARLIER, LATER = "2026-11-22T18-04-11", "2026-11-23T09-00-00"


def experiment(name: str, verdict: str = "passed", *reasons: str, run_again: bool = False) -> Json:
    return {"experiment": name, "verdict": verdict, "reasons": list(reasons), "run_again": run_again}


def summary(*experiments: Json, **run: Json) -> str:
    return json.dumps(
        {"schema": 2, "run": {"backend": "local", "ray_version": "2.54.0", **run}, "experiments": [*experiments]}
    )


def run_in(reports: Path, name: str, text: str | None = None, *, page: bool = False) -> Path:
    """The directory of a run."""
    directory = reports / name
    directory.mkdir(parents=True)
    (directory / "history.jsonl").touch()
    if text is not None:
        (directory / "summary.json").write_text(text)
    if page:
        (directory / "report.html").touch()
    return directory


class Page(HTMLParser):
    """What a page shows, and what it links to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.shown: list[str] = []
        self.links: list[str | None] = []
        self.tags: set[str] = set()
        self._inside: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self._inside = [tag]
        self.links += [value for name, value in attrs if name in ("href", "src")]

    def handle_data(self, data: str) -> None:
        if data.strip() and self._inside[-1:] != ["style"]:
            self.shown.append(data.strip())


def page_of(reports: Path) -> Page:
    return Page(write_index(reports).read_text())


# -- the newest ----------------------------------------------------------------------------------------------------


def test_the_newest_run_is_the_one_that_began_last(tmp_path: Path) -> None:
    names = [EARLIER, LATER, f"{LATER}-2", f"{LATER}-10"]
    for name in names:
        run_in(tmp_path, name)
    (tmp_path / "notes").mkdir()
    assert [run.name for run in runs_in(tmp_path)] == names[::-1]


def test_a_run_that_was_renamed_began_when_it_was_written(tmp_path: Path) -> None:
    os.utime(run_in(tmp_path, "before the upgrade") / "history.jsonl", (0, 0))
    run_in(tmp_path, EARLIER)
    assert [run.name for run in runs_in(tmp_path)] == [EARLIER, "before the upgrade"]


def test_latest_leads_to_the_run_that_began_last(tmp_path: Path) -> None:
    for name in (EARLIER, LATER):
        point_to_latest(run_in(tmp_path, name))
    assert (tmp_path / LATEST).is_symlink()
    assert (tmp_path / LATEST).resolve() == tmp_path / LATER
    assert len(runs_in(tmp_path)) == 2, "a link is no run of its own"


def test_where_there_are_no_links_latest_is_a_file_with_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise PermissionError("Operation not permitted")

    monkeypatch.setattr(Path, "symlink_to", no_links)
    for name in (EARLIER, LATER):
        point_to_latest(run_in(tmp_path, name))
    assert (tmp_path / LATEST).read_text() == f"{LATER}\n"
    assert sorted(os.listdir(tmp_path)) == [EARLIER, LATER, LATEST]


@pytest.mark.parametrize("theirs", ["a directory", "a link", "a file"])
def test_what_somebody_else_calls_latest_stays(tmp_path: Path, theirs: str) -> None:
    latest = tmp_path / LATEST
    if theirs == "a directory":
        latest.mkdir()
    elif theirs == "a link":
        latest.symlink_to("/var/www/releases/7")
    else:
        latest.write_text("7.1\n")
    with pytest.raises(SafetyError, match=f"{latest} was not made by pytest-serve-chaos"):
        point_to_latest(run_in(tmp_path, EARLIER))
    assert sorted(os.listdir(tmp_path)) == [EARLIER, LATEST]


# -- the page ------------------------------------------------------------------------------------------------------


def test_the_page_has_the_verdicts_the_cluster_and_the_reports_of_each_run(tmp_path: Path) -> None:
    run_in(tmp_path, EARLIER, summary(experiment("head_lost"), experiment("worker_lost")), page=True)
    lost = experiment("head_lost", "failed", "traffic was away for 31 s, and 20 s were allowed")
    again = experiment("head_lost", "failed", run_again=True)
    run_in(
        tmp_path, LATER, summary(lost, again, experiment("by_hand", "measured"), ray_version="2.60.0", app="shop:app")
    )
    page = page_of(tmp_path)
    assert page.shown == [
        "Runs of pytest-serve-chaos", "Runs of pytest-serve-chaos", "2 runs, newest first.",
        "Run", "Verdicts", "Cluster", "Files",
        "2026-11-23 09:00:00", "1 failed", "1 measured",
        "head_lost", ": traffic was away for 31 s, and 20 s were allowed", "local, Ray 2.60.0", "shop:app",
        "summary.json", "history.jsonl",
        "2026-11-22 18:04:11", "2 passed", "local, Ray 2.54.0", "report.html", "summary.json", "history.jsonl",
    ]  # fmt: skip
    assert page.links == [
        f"{LATER}/summary.json", f"{LATER}/history.jsonl",
        f"{EARLIER}/report.html", f"{EARLIER}/summary.json", f"{EARLIER}/history.jsonl",
    ]  # fmt: skip


def test_the_page_takes_the_document_that_a_run_writes() -> None:
    history = head_failure().history()
    found = read_summary(json.dumps(summary_document(history, results_of(history))).encode())
    assert sum(found.outcomes.values()) == 1


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "skipped: it has no summary.json: it goes on, or was ended by force"),
        ("{", "skipped: summary.json cannot be read: JSONDecodeError"),
        ("[" * 100_000, "skipped: summary.json cannot be read: ValueError: it is nested too deeply"),
        ("[]", "skipped: summary.json cannot be read: ValueError: it has no list of experiments"),
        (
            summary("head_lost"),
            "skipped: summary.json cannot be read: ValueError: an experiment in it is not an object",
        ),
        (
            summary(experiment("a", "great")),
            "skipped: summary.json cannot be read: ValueError: 'great' is not a verdict",
        ),
    ],
)
def test_a_run_that_cannot_be_read_is_named_and_skipped(tmp_path: Path, text: str | None, why: str) -> None:
    run_in(tmp_path, LATER, text)
    run_in(tmp_path, EARLIER, summary(experiment("head_lost")))
    shown = page_of(tmp_path).shown
    assert [line for line in shown if line.startswith(why)], shown
    assert "1 passed" in shown


def test_a_summary_that_is_far_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory_module, "_MOST_BYTES", 10)
    run_in(tmp_path, EARLIER, summary(experiment("head_lost")))
    assert "skipped: summary.json is larger than 0 MB" in page_of(tmp_path).shown


def test_a_link_to_what_never_ends_is_not_read(tmp_path: Path) -> None:
    (run_in(tmp_path, EARLIER) / "summary.json").symlink_to("/dev/zero")
    os.mkfifo(run_in(tmp_path, LATER) / "summary.json")
    shown = page_of(tmp_path).shown
    assert shown.count("skipped: it has no summary.json: it goes on, or was ended by force") == 2


def test_nothing_in_a_summary_or_in_a_name_does_anything(tmp_path: Path) -> None:
    bad = '"><script>alert(1)</script><img src=x onerror=alert(2)>\x1b[2J\u202e'
    lost = experiment(bad, "failed", bad)
    run_in(tmp_path, "javascript:alert(1) <b>", summary(lost, app=bad, ray_version=bad, backend=bad))
    os.mkdir(os.fsencode(tmp_path) + b"/\xff&amp;")
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff&amp;")) / "history.jsonl").touch()
    page = page_of(tmp_path)
    assert not page.tags & {"script", "img", "iframe", "object"}
    assert sorted(filter(None, page.links)) == [
        "%FF%26amp%3B/history.jsonl",
        "javascript%3Aalert%281%29%20%3Cb%3E/history.jsonl",
        "javascript%3Aalert%281%29%20%3Cb%3E/summary.json",
    ]
    text = (tmp_path / INDEX).read_text()
    assert "\x1b" not in text
    assert "\u202e" not in text


@settings(max_examples=40)
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(["experiments", "run", "verdict", "reasons", "experiment", "passed", "app"]), inner
            )
        ),
    )
)
def test_whatever_a_summary_says_it_is_read_or_refused(document: object) -> None:
    with contextlib.suppress(ValueError):
        read_summary(json.dumps(document).encode())


def test_the_page_is_for_nobody_else_and_loads_nothing(tmp_path: Path) -> None:
    run_in(tmp_path, EARLIER, summary(experiment("head_lost")))
    index = write_index(tmp_path)
    text = index.read_text()
    assert index.stat().st_mode & 0o777 == 0o600
    assert "default-src 'none'" in text
    assert "http://" not in text
    assert "https://" not in text
    assert "url(" not in text
    assert sorted(os.listdir(tmp_path)) == [EARLIER, INDEX]


def test_a_page_of_somebody_else_stays(tmp_path: Path) -> None:
    run_in(tmp_path, EARLIER)
    (tmp_path / INDEX).write_text("<!doctype html>\n<title>My site</title>")
    with pytest.raises(SafetyError, match=f"{INDEX} was not made by pytest-serve-chaos"):
        write_index(tmp_path)
    assert "My site" in (tmp_path / INDEX).read_text()


def test_the_page_of_many_runs_has_the_newest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory_module, "MOST_RUNS", 2)
    for day in range(1, 5):
        run_in(tmp_path, f"2026-11-0{day}T00-00-00", summary())
    shown = page_of(tmp_path).shown
    assert "2 runs, newest first. 2 older runs are not listed." in shown
    assert "2026-11-03 00:00:00" in shown
    assert "2026-11-02 00:00:00" not in shown
    assert MOST_RUNS == 500


Opened = tuple[list[str], list[str]]

# -- the command ---------------------------------------------------------------------------------------------------


def opened(directory: Path | None, *, index: bool = False, can: bool = True, **environment: str) -> Opened:
    """What the command prints, and what it shows."""
    said: list[str] = []
    shown: list[str] = []

    def browse(url: str) -> bool:
        shown.append(url)
        return can

    given_ = argparse.Namespace(directory=directory, index=index)
    assert open_report(given_, said.append, environment=environment, browse=browse) == 0
    return said, shown


def test_the_newest_report_is_shown(tmp_path: Path) -> None:
    run_in(tmp_path, EARLIER, page=True)
    run_in(tmp_path, LATER, page=True)
    run_in(tmp_path, f"{LATER}-2")  # it goes on
    page = tmp_path / LATER / "report.html"
    assert newest_page(tmp_path) == page
    assert opened(tmp_path, DISPLAY=":0") == ([str(page)], [page.as_uri()])


def test_the_report_of_a_run_is_shown(tmp_path: Path) -> None:
    run = run_in(tmp_path, EARLIER, page=True)
    run_in(tmp_path, LATER, page=True)
    assert opened(run, WAYLAND_DISPLAY="wayland-0")[1] == [(run / "report.html").as_uri()]


@pytest.mark.parametrize("environment", [{}, {"DISPLAY": ":10", "SSH_CONNECTION": "192.0.2.1 1 192.0.2.2 22"}])
def test_without_a_display_and_over_ssh_only_the_path_is_printed(tmp_path: Path, environment: dict[str, str]) -> None:
    page = run_in(tmp_path, EARLIER, page=True) / "report.html"
    assert opened(tmp_path, index=False, can=True, **environment) == (
        [str(page), "the page was not opened: no browser can be shown from here"],
        [],
    )


def test_a_browser_that_the_user_named_is_used_over_ssh_too(tmp_path: Path) -> None:
    run_in(tmp_path, EARLIER, page=True)
    said, shown = opened(tmp_path, SSH_TTY="/dev/pts/1", BROWSER="/usr/bin/code", can=False)
    assert shown
    assert said[1:] == ["the page was not opened: no browser was found"]


def test_the_reports_of_a_project_are_found_from_below_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = run_in(tmp_path / ".serve-chaos", EARLIER, page=True) / "report.html"
    (tmp_path / "tests" / "chaos").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "tests" / "chaos")
    assert opened(None)[0][0] == str(page)


def test_the_reports_are_where_the_environment_says(tmp_path: Path) -> None:
    page = run_in(tmp_path / "elsewhere", EARLIER, page=True) / "report.html"
    assert opened(None, SERVE_CHAOS_REPORT_DIR=str(tmp_path / "elsewhere"))[0][0] == str(page)


def test_the_page_of_all_runs_is_made_again_and_shown(tmp_path: Path) -> None:
    run_in(tmp_path, EARLIER, summary(experiment("head_lost")))
    assert opened(tmp_path, index=True, DISPLAY=":0") == ([str(tmp_path / INDEX)], [(tmp_path / INDEX).as_uri()])
    assert "1 passed" in (tmp_path / INDEX).read_text()


def test_a_run_without_a_report_is_an_error_that_says_how_to_make_one(tmp_path: Path) -> None:
    run = run_in(tmp_path, EARLIER)
    with pytest.raises(SettingsError, match=f"serve-chaos report {run}"):
        opened(tmp_path)
    with pytest.raises(SettingsError, match="serve-chaos report "):
        opened(run)


def test_where_nothing_has_run_the_command_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SERVE_CHAOS_REPORT_DIR", raising=False)
    assert main(["open"]) == 2
    assert "there is no directory .serve-chaos here" in capsys.readouterr().err
    assert main(["open", str(tmp_path)]) == 2
    assert f"there is no run in {tmp_path}" in capsys.readouterr().err
    assert main(["open", "--index", str(tmp_path)]) == 2
    assert f"there is no run in {tmp_path}" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [], "a page of no runs, in a directory that may be anybody's"
    assert main(["open", str(tmp_path / "none")]) == 2
    assert f"there is no directory {tmp_path / 'none'}" in capsys.readouterr().err
