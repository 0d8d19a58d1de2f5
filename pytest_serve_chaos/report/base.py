"""What a reporter is: from the results and the history of a run to text, or bytes. It changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_serve_chaos.analysis.result import Result
    from pytest_serve_chaos.history import History


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What there is to report of a run.

    Attributes:
        history: All that was recorded.
        results: Those of all experiments, in the order in which they were judged.
        missing: What should be there and is not, a line each.
        with_tracebacks: Whether the text shows the tracebacks of checks that raised an exception. In a run, the report
            of each test does.
    """

    history: History
    results: tuple[Result, ...]
    missing: tuple[str, ...] = ()
    with_tracebacks: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Reporter:
    """One form of report. It has at least one of `text`, `data` and `properties`, and not both of the first two.

    Attributes:
        name: What `serve-chaos analyse --format` takes, if it has `text` or `data`.
        description: What it is for, in a few words.
        text: The report.
        data: The report as bytes, in a format that is not text.
        file: Each run writes the report into the file of that name, in its report directory.
        terminal: Whether pytest prints the text at the end of a run.
        properties: Names and values, which the result's test case gets in a JUnit XML file.
    """

    name: str
    description: str
    text: Callable[[Outcomes], str] | None = None
    data: Callable[[Outcomes], bytes] | None = None
    file: str | None = None
    terminal: bool = False
    properties: Callable[[Result], Sequence[tuple[str, str]]] | None = None
