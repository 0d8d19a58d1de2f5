"""The reporters: those of this package, and those that other plugins add by a hook."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from functools import reduce
from typing import TYPE_CHECKING

from pytest_serve_chaos.analysis.record import warnings_of
from pytest_serve_chaos.errors import SettingsError
from pytest_serve_chaos.report import junit, markdown
from pytest_serve_chaos.report.base import Outcomes, Reporter
from pytest_serve_chaos.report.document import summary_document
from pytest_serve_chaos.report.page import page
from pytest_serve_chaos.report.perfetto import perfetto_trace
from pytest_serve_chaos.report.terminal import summary_table, traceback_lines, warning_lines
from pytest_serve_chaos.report.timeline import outline_of
from pytest_serve_chaos.report.timeline_facts import facts_of
from pytest_serve_chaos.report.trials import trial_lines, trial_sentences, without_passed_trials

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from pytest_serve_chaos.analysis.result import Result


class Reporters:
    """The reporters by name, in the order in which they were added.

    Raises:
        SettingsError: Two of them have the same name or file, or one of them reports nothing.
    """

    def __init__(self, reporters: Iterable[Reporter]) -> None:
        self._reporters: dict[str, Reporter] = {}
        for reporter in reporters:
            self._add(reporter)

    def _add(self, reporter: Reporter) -> None:
        if reporter.name in self._reporters or not re.fullmatch(r"[a-z][a-z0-9-]*", reporter.name):
            raise SettingsError(
                f"a reporter cannot have the name {reporter.name!r}",
                checked=[f"names of other reporters: {', '.join(self._reporters)}"],
                fix=["give it another name, of lower-case letters, digits and hyphens"],
            )
        if reporter.file is not None and (reporter.file in self._files or not _is_file_name(reporter.file)):
            raise SettingsError(
                f"the reporter {reporter.name} cannot write the file {reporter.file!r}",
                checked=[f"files of a run: {', '.join(self._files)}"],
                fix=["give it the name of a file that is not there yet, without a directory"],
            )
        if problem := _problem_of_content(reporter):
            what, fix = problem
            raise SettingsError(f"the reporter {reporter.name} has {what}", fix=[fix])
        self._reporters[reporter.name] = reporter

    @property
    def _files(self) -> tuple[str, ...]:
        return ("history.jsonl", *(one.file for one in self if one.file is not None))

    def __iter__(self) -> Iterator[Reporter]:
        return iter(self._reporters.values())

    def and_those(self, returned: object) -> Reporters:
        """These and those that a plugin has returned from the hook.

        Raises:
            SettingsError: They cannot be added.
        """
        if isinstance(returned, Iterable):
            others = tuple(returned)
            if all(isinstance(one, Reporter) for one in others):
                return Reporters([*self, *others])
        raise SettingsError(
            f"the hook pytest_serve_chaos_reporters returned {returned!r}, which is not a list of reporters",
            fix=["return a list of pytest_serve_chaos.Reporter"],
        )

    @property
    def formats(self) -> tuple[str, ...]:
        """The names of those that make a report, as text or as bytes."""
        return tuple(one.name for one in self if one.text is not None or one.data is not None)

    def content(self, name: str, outcomes: Outcomes) -> str | bytes:
        """The report in the format of that name: text, or bytes where that is no format for people."""
        data = self._reporters[name].data
        return self.text(name, outcomes) if data is None else data(outcomes)

    def text(self, name: str, outcomes: Outcomes) -> str:
        """The report in the format of that name, which is one of text."""
        text = self._reporters[name].text
        assert text is not None, name
        return text(outcomes)

    def is_document(self, name: str) -> bool:
        """Whether the format of that name is a file of each run, and not lines for people."""
        return self._reporters[name].file is not None

    def is_data(self, name: str) -> bool:
        """Whether the format of that name is bytes, and not text."""
        return self._reporters[name].data is not None

    def terminal(self, outcomes: Outcomes) -> tuple[list[str], list[str]]:
        """What pytest prints at the end of a run: the lines, and what could not be reported."""
        lines: list[str] = []
        failed: list[str] = []
        for reporter in self:
            if reporter.terminal:
                try:
                    lines += self.text(reporter.name, outcomes).splitlines()
                except Exception as error:  # of a plugin; the other reports are shown all the same
                    failed.append(_failure(reporter, error))
        return lines, failed

    def write(self, outcomes: Outcomes, directory: Path) -> list[str]:
        """Writes the files of a run; returns which reports could not be written, and why.

        Nobody sees a part of a file: a report that fails leaves the file of before, or none.
        """
        failed: list[str] = []
        for reporter in self:
            if reporter.file is not None:
                try:
                    write_report(directory / reporter.file, self.content(reporter.name, outcomes))
                except Exception as error:  # of a plugin; the other reports are written all the same
                    failed.append(_failure(reporter, error))
        return failed

    def properties(self, result: Result) -> list[tuple[str, str]]:
        """What the test case of a result gets in a JUnit XML file."""
        return [pair for one in self if one.properties is not None for pair in one.properties(result)]


def write_report(path: Path, content: str | bytes) -> None:
    """Writes a report so that nobody ever sees a part of it.

    Args:
        path: The file, which is replaced.
        content: What it will have. Text gets one end of line at its end.

    Raises:
        OSError: It could not be written. The file is what it was before.
    """
    data = content if isinstance(content, bytes) else (content.rstrip("\n") + "\n").encode("utf-8")
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(data)
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _problem_of_content(reporter: Reporter) -> tuple[str, str] | None:
    """What a reporter lacks to report anything, and how to fix it."""
    if reporter.text is not None and reporter.data is not None:
        return "both text and data", "give it one of them"
    if reporter.text is None and reporter.terminal:
        return "no text", "give it `text`, which the terminal shows"
    if reporter.text is None and reporter.data is None and (reporter.properties is None or reporter.file is not None):
        return "no text", "give it `text` or `data`, which the file has"
    return None


def _failure(reporter: Reporter, error: Exception) -> str:
    return f"the report {reporter.name} could not be made: {type(error).__name__}: {error}"


def _is_file_name(name: str) -> bool:
    return re.fullmatch(r"[\w-][\w.-]*", name) is not None


def _table(outcomes: Outcomes) -> str:
    warnings = warning_lines(warnings_of(outcomes.history))
    tracebacks = traceback_lines(outcomes.results) if outcomes.with_tracebacks else []
    trials = trial_lines(outcomes.results)
    table = summary_table(without_passed_trials(outcomes.results))
    return "\n".join([*table, *trials, *outcomes.missing, *warnings, *tracebacks])


def _document(outcomes: Outcomes) -> str:
    return json.dumps(summary_document(outcomes.history, outcomes.results), indent=2)


def _markdown(outcomes: Outcomes) -> str:
    facts = {one.experiment: facts_of(outline_of(one)) for one in outcomes.results if one.landed}
    missing = (*outcomes.missing, *trial_sentences(outcomes.results))
    return markdown.summary(outcomes.results, warnings_of(outcomes.history), missing=missing, facts=facts)


BUILT_IN = Reporters(
    [
        Reporter(name="table", description="a table for a terminal", text=_table, terminal=True),
        Reporter(name="json", description="a document for programs", text=_document, file="summary.json"),
        Reporter(name="html", description="a page with pictures, for people", text=page, file="report.html"),
        Reporter(name="perfetto", description="a trace for ui.perfetto.dev, gzipped", data=perfetto_trace),
        Reporter(name="github", description="Markdown, for a job's summary", text=_markdown),
        Reporter(name="junit", description="properties of test cases", properties=junit.properties),
    ]
)


def reporters_of(manager: pytest.PytestPluginManager) -> Reporters:
    """Those of this package, and those of the plugins that are loaded.

    Raises:
        SettingsError: Two of them have the same name, or a plugin returned something else.
    """
    returned: list[object] = manager.hook.pytest_serve_chaos_reporters()
    return reduce(Reporters.and_those, returned, BUILT_IN)
