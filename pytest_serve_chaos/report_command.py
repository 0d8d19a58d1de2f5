"""``serve-chaos report``: makes the reports of a run once more, from its history."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from pytest_serve_chaos import telemetry
from pytest_serve_chaos.analysis.result import Result
from pytest_serve_chaos.cluster.test_logs import name_of_file
from pytest_serve_chaos.errors import SettingsError
from pytest_serve_chaos.history import History
from pytest_serve_chaos.printable import printable
from pytest_serve_chaos.report.base import Outcomes
from pytest_serve_chaos.report.issue import ISSUE, PICTURE, issue_markdown, subject_of
from pytest_serve_chaos.report.picture import timeline_svg
from pytest_serve_chaos.report.registry import Reporters, write_report
from pytest_serve_chaos.report.terminal import cluster_words
from pytest_serve_chaos.results import results_of

OTEL = "otel"
"""The format that is sent and not written."""


def add_arguments(parser: argparse.ArgumentParser, reporters: Reporters) -> None:
    """Adds what the command takes."""
    parser.add_argument("history", type=Path, metavar="HISTORY", help="history.jsonl of a run, or its directory")
    formats = ", ".join(f"{one.name} ({one.description})" for one in reporters if one.name in reporters.formats)
    parser.add_argument(
        "--format",
        choices=(*reporters.formats, OTEL),
        help=f"{formats}, {OTEL} (sends spans and metrics to where OTEL_EXPORTER_OTLP_ENDPOINT says);"
        " without it, all files of a run are written again",
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="where the report is written; default: printed")
    parser.add_argument(
        "--ray-timeline",
        type=Path,
        metavar="FILE",
        help="a file that `ray timeline` wrote, to add to the Perfetto trace",
    )
    parser.add_argument(
        "--issue",
        metavar="EXPERIMENT",
        help="write the text of an issue about one experiment (issue.md), and its picture (timeline.svg)",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="where --issue writes; default: alongside the history")


def report(given: argparse.Namespace, reporters: Reporters, say: Callable[[str], None]) -> int:
    """Makes the reports.

    Args:
        given: What `add_arguments` takes.
        reporters: All reporters.
        say: Prints a line for people.

    Returns:
        The exit status: 0 if all reports were made, 2 if one was not.

    Raises:
        ServeChaosError: The history cannot be read, or the options do not fit each other.
    """
    if given.ray_timeline is not None and given.format != "perfetto":
        raise SettingsError("only a perfetto trace takes --ray-timeline", fix=["add --format perfetto"])
    if given.output is not None and given.format in (None, OTEL):
        raise SettingsError("nothing is written to --output", fix=["name one format: --format NAME"])
    if given.issue is not None and (given.format or given.output):
        raise SettingsError("--issue writes files of its own", fix=["leave out --format and --output"])
    if given.out is not None and given.issue is None:
        raise SettingsError("only --issue writes to --out", fix=["name an experiment: --issue EXPERIMENT"])
    path = given.history / "history.jsonl" if given.history.is_dir() else given.history
    history = History.load(path)
    if given.issue is not None:
        return _write_issue(history, given.issue, given.out or path.parent / f"issue-{name_of_file(given.issue)}", say)
    results = tuple(results_of(history))
    missing = missing_experiments(results, path)
    outcomes = Outcomes(history, results, missing)
    if given.format is None or _is_document(given.format, reporters):
        for line in missing:  # for which a document has no place
            print(printable(f"serve-chaos: {line}"), file=sys.stderr)
    if given.format is None:
        return _write_all(reporters, outcomes, path.parent, say)
    if given.format == OTEL:
        say(telemetry.send(outcomes))
        return 0
    content = _content(given, reporters, outcomes)
    if given.output is None:
        print_report(content)
    else:
        with _writing(given.output):
            write_report(given.output, content)
    return 0


def missing_experiments(results: Collection[Result], path: Path) -> tuple[str, ...]:
    """What a report says of a history without experiments, a line."""
    return () if results else (f"no experiment in {path}: nothing was broken, so nothing can have passed",)


def _is_document(name: str, reporters: Reporters) -> bool:
    """Whether a format is for programs, or a page, and not lines for people."""
    return name == OTEL or reporters.is_document(name) or reporters.is_data(name)


def _write_issue(history: History, experiment: str, directory: Path, say: Callable[[str], None]) -> int:
    """Writes the text of an issue, and its picture."""
    results = {result.experiment: result for result in results_of(history)}
    if experiment not in results:
        raise SettingsError(
            f"the history has no experiment {experiment!r}",
            checked=[f"its experiments: {', '.join(results) or 'none'}"],
            fix=["name one of them"],
        )
    subject = subject_of(history, results[experiment])
    description = results[experiment].description
    about = "" if description is None else cluster_words(description)
    for name, text in ((PICTURE, timeline_svg(subject.timeline, about)), (ISSUE, issue_markdown(subject))):
        with _writing(directory / name):
            directory.mkdir(parents=True, exist_ok=True)
            write_report(directory / name, text)
        say(str(directory / name))
    return 0


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Says of a file that cannot be written which one that is.

    Raises:
        SettingsError: It cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise SettingsError(
            f"{path} cannot be written: {error.strerror or error}",
            checked=[f"the directory {path.absolute().parent}"],
            fix=["name a file in a directory that exists and that you may write to"],
        ) from error


def _write_all(reporters: Reporters, outcomes: Outcomes, directory: Path, say: Callable[[str], None]) -> int:
    failed = reporters.write(outcomes, directory)
    for line in failed:
        say(line)
    for one in reporters:
        if one.file is not None and (directory / one.file).is_file():
            say(f"{one.name}: {directory / one.file}")
    return 2 if failed else 0


def _content(given: argparse.Namespace, reporters: Reporters, outcomes: Outcomes) -> str | bytes:
    if given.ray_timeline is None:
        return reporters.content(given.format, outcomes)
    from pytest_serve_chaos.report.perfetto import perfetto_trace_with_ray
    from pytest_serve_chaos.report.ray_timeline import read_ray_timeline

    return perfetto_trace_with_ray(outcomes, read_ray_timeline(given.ray_timeline))


def print_report(content: str | bytes) -> None:
    """Prints a report for programs as it is.

    Raises:
        SettingsError: It is not text, and standard output is a terminal.
    """
    if isinstance(content, str):
        print(content, flush=True)
        return
    if sys.stdout.isatty():
        raise SettingsError(
            "this format is not text, so it is not printed on a terminal", fix=["write it to a file: > FILE"]
        )
    sys.stdout.flush()
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()
