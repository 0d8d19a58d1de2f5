"""The lines that pytest's terminal shows: the header, the summary table and a timeline for failures."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pytest_serve_chaos.analysis.measure import measure_record
from pytest_serve_chaos.analysis.record import Record, read_record
from pytest_serve_chaos.analysis.result import Result
from pytest_serve_chaos.analysis.words import away, counted, duration, latency, limit, number, percent
from pytest_serve_chaos.events import (
    ChildrenSeen,
    ClusterReady,
    ComponentCame,
    ComponentGone,
    ConfigurationSeen,
    Demanded,
    Event,
    HAProxyReloaded,
    LogsExcerpted,
    LogsKept,
    Note,
    OtherEvent,
    PostRecoveryChecking,
    Repeatable,
    Restored,
    RunAgain,
    ServeSaid,
    Skipped,
    StagesBegan,
    TopologySeen,
    TrafficBegan,
    TrialEnded,
    Warned,
)
from pytest_serve_chaos.history import History
from pytest_serve_chaos.model import ClusterDescription, ConfigWarning, Measurement, Outcome
from pytest_serve_chaos.prediction.comparison import comparison
from pytest_serve_chaos.printable import one_line
from pytest_serve_chaos.schedule import Schedule

WIDTH = 120

_SHORT_NAME = 20
_ABSENT = "-"
_NEVER = "never"
VERDICTS: Mapping[Outcome, str] = {
    "passed": "passed",
    "failed": "FAILED",
    "inconclusive": "INCONCLUSIVE",
    "measured": "measured",
    "unfinished": "unfinished",
}
_NOT_SHOWN = (
    ClusterReady,
    Warned,
    ConfigurationSeen,
    Demanded,
    TopologySeen,
    TrafficBegan,
    PostRecoveryChecking,
    Skipped,
    RunAgain,
    TrialEnded,
    Restored,
    LogsExcerpted,
    Repeatable,
    ServeSaid,
    ChildrenSeen,
    LogsKept,
    OtherEvent,
)
"""What a timeline leaves out: what is shown elsewhere, or says nothing new."""

_DETAIL = (ComponentGone, ComponentCame, HAProxyReloaded, StagesBegan, Note)
"""What is left out first where there is too much."""


@dataclass(frozen=True, slots=True)
class _Column:
    """A column of the table: its title in one line, and in two where the table would be too wide."""

    title: str
    folded: tuple[str, str]
    left: bool = False


_COLUMNS = (
    _Column("experiment", ("", "experiment"), left=True),
    _Column("verdict", ("", "verdict"), left=True),
    _Column("lost or late / sent", ("lost or", "late / sent")),
    _Column("in flight", ("in", "flight")),
    _Column("available", ("", "available")),
    _Column("outage", ("", "outage")),
    _Column("p99 before>during", ("p99", "before>during")),
    _Column("traffic back", ("traffic", "back")),
    _Column("redundancy", ("", "redundancy")),
    _Column("settled", ("", "settled")),
)


TITLES = tuple(column.title for column in _COLUMNS[2:])
"""The titles of the figures."""


def header_line(description: ClusterDescription, schedule: Schedule, seed: int) -> str:
    """The line at the start of a run: what is under test, the load and the seed."""
    return f"serve-chaos: {cluster_words(description)}; {schedule.words}; seed {seed}"


def cluster_words(description: ClusterDescription) -> str:
    """What is under test, in a line."""
    nodes = "head only" if description.workers == 0 else f"head + {number(description.workers, 'worker')}"
    gcs = "no GCS fault tolerance" if description.gcs == "none" else description.gcs
    ingress = ", HAProxy" if description.ingress == "haproxy" else ""
    app = f"app {_app_name(description.app)}, {number(description.replicas, 'replica')}"
    cluster = f"{description.backend} backend, ray {description.ray_version}, {nodes}, {gcs}{ingress}"
    return f"{cluster}; {app}"


def summary_table(results: Iterable[Result], *, width: int = WIDTH) -> list[str]:
    """The table of all experiments, with the reasons for each verdict under its row, and below what counts as late.

    The titles are folded into two lines where the table would not fit into `width` columns otherwise, and where that is
    not enough each name has a line of its own.
    """
    all_results = list(results)
    if not all_results:
        return []
    figures = [cells(result) for result in all_results]
    measured = [row for row in figures if row is not None]
    columns = _layout([[_shown_name(result), _verdict(result)] for result in all_results], measured, width)
    lines = columns.titles()
    for result, row in zip(all_results, figures, strict=True):
        lines += _row(result, row, columns, width)
    lines += textwrap.wrap(what_is_late(all_results), width, subsequent_indent="  ")
    return [line.rstrip() for line in lines]


def what_is_late(results: Iterable[Result]) -> str:
    """After how long an answer is late, where something was measured: in most of the experiments, and in each other."""
    by_limit: dict[str, list[str]] = {}
    for result in results:
        if result.measurement.sent and result.measurement.slow_after is not None:
            by_limit.setdefault(latency(result.measurement.slow_after), []).append(result.experiment)
    if not by_limit:
        return ""
    usual = max(by_limit, key=lambda after: len(by_limit[after]))
    others = [f"; {after} in {', '.join(names)}" for after, names in by_limit.items() if after != usual]
    return f"late: answered more than {usual} after the request was due{''.join(others)}"


def warning_lines(warnings: Iterable[ConfigWarning], *, width: int = WIDTH) -> list[str]:
    """What the check of the configuration said, each wrapped to `width` columns."""
    return [
        line for w in warnings for line in textwrap.wrap(f"warning: {w.line}", width, subsequent_indent="  ")
    ]  # fmt: skip


def traceback_lines(results: Iterable[Result]) -> list[str]:
    """The tracebacks of checks that raised an exception, each under the name of its experiment."""
    return [
        line for r in results for text in r.verdict.tracebacks for line in (f"{r.experiment}:", *text.splitlines())
    ]  # fmt: skip


def timeline_excerpt(history: History, experiment: str, *, most: int = 40) -> list[str]:
    """What happened around the fault, a line an event, with seconds relative to it.

    Args:
        history: Any history, of this run or from a file.
        experiment: The experiment's name.
        most: With more lines than that, single components and notes are left out first, then the middle.

    Raises:
        HistoryError: The history has nothing of that experiment.
    """
    record = read_record(history, experiment)
    measurement = measure_record(record)
    origin = record.begin if record.asked is None else record.asked
    entries = _entries(record, measurement, without=_NOT_SHOWN)
    if len(entries) > most:
        entries = _entries(record, measurement, without=(*_NOT_SHOWN, *_DETAIL))
    lines = [f"{at - origin:+9.2f} s  {text}" for at, text in entries]
    if len(lines) > most:
        head = most // 2
        tail = len(lines) - (most - head)
        lines[head:tail] = [f"{'':11}  ({number(tail - head, 'event')} left out)"]
    if measurement.errors:
        seconds = limit(round(measurement.seconds or 0.0, 1))
        lines.append(f"Errors in the {seconds} after the fault: {counted(measurement.errors)}")
    if measurement.kept_lost:
        lines.append(f"On persistent connections: {measurement.kept_lost} of {measurement.kept_sent} requests lost")
    return [f"Seconds from the {'beginning' if record.asked is None else 'fault'}:", *lines]


# -- rows ----------------------------------------------------------------------------------------------------------


def _row(result: Result, figures: list[str] | None, columns: _Layout, width: int) -> list[str]:
    lines = []
    name = _shown_name(result) if columns.names else ""
    if not name:
        lines.append(one_line(result.experiment))
    start = [name, _verdict(result)]
    if figures is not None:
        lines.append(columns.line([*start, *figures]))
        for line in (*part_lines(result), *explained(result)):
            lines += textwrap.wrap(line, width, initial_indent="  ", subsequent_indent="  ")
        return lines
    first, *others = result.reasons or ("",)
    beginning = columns.line(start) + columns.gap
    lines += textwrap.wrap(first, width, initial_indent=beginning, subsequent_indent="  ") or [beginning]
    for reason in (*others, *_run_again(result)):
        lines += textwrap.wrap(reason, width, initial_indent="  ", subsequent_indent="  ")
    return lines


def explained(result: Result) -> list[str]:
    """Why it did not pass, what was expected, what its reader must know, and warnings that foresaw a failure."""
    foreseen = result.warnings if result.outcome == "failed" else ()
    warned = (f"warned about before: {w.text}: {w.outage}" for w in foreseen)
    compared = comparison(result)
    expected = [] if compared is None else [compared.text]
    notes = (f"note: {remark}" for remark in result.remarks)
    return [*result.reasons, *expected, *warned, *notes, *_run_again(result)]


def part_lines(result: Result) -> list[str]:
    """The figures of each app if several were asked, and of the requests of each name, a line each."""
    return [f"{part.of}: {_part_words(part.measurement)}" for part in result.parts]


def _part_words(measurement: Measurement) -> str:
    sent, away = measurement.sent, (measurement.lost or 0) + (measurement.late or 0)
    if not sent:
        return "no requests were measured"
    outage = duration(measurement.longest_outage) if measurement.longest_outage else "none"
    latencies = _latencies(measurement).replace("  ", " ").replace(">  ", "> ")
    return f"{away} of {sent} lost or late, {_available(measurement)}, outage {outage}, p99 {latencies}"


def _run_again(result: Result) -> list[str]:
    return ["note: the test was run again, so this experiment does not count"] if result.run_again else []


def _shown_name(result: Result) -> str:
    name = one_line(result.experiment)
    return name if len(name) <= _SHORT_NAME else ""


def _verdict(result: Result) -> str:
    return VERDICTS[result.outcome]


def cells(result: Result) -> list[str] | None:
    """The figures, in the order of `TITLES`; None where nothing was measured, and the reason stands in their place."""
    measurement = result.measurement
    if result.outcome in ("inconclusive", "unfinished") and not (result.landed and measurement.sent):
        return None
    sent, away = measurement.sent, (measurement.lost or 0) + (measurement.late or 0)
    return [
        f"{away} / {sent}" if sent else _ABSENT,
        str(measurement.in_flight) if measurement.in_flight else _ABSENT,
        _available(measurement),
        duration(measurement.longest_outage) if measurement.longest_outage else _ABSENT,
        _latencies(measurement),
        _traffic_back(measurement),
        _redundancy(result),
        _settled(result),
    ]


def _available(measurement: Measurement) -> str:
    """The share of good answers, and of which seconds."""
    if measurement.availability is None or measurement.seconds is None:
        return _ABSENT
    return f"{percent(measurement.availability)} in {limit(round(measurement.seconds, 1))}"


def _latencies(measurement: Measurement) -> str:
    before, during = measurement.before, measurement.during
    if before is None and during is None:
        return _ABSENT
    left = _ABSENT if before is None else latency(before.p99)
    right = _ABSENT if during is None else latency(during.p99)
    return f"{left} > {right:>5}"


def _traffic_back(measurement: Measurement) -> str:
    if not measurement.sent or measurement.traffic_back == 0:
        return _ABSENT
    return _NEVER if measurement.traffic_back is None else duration(measurement.traffic_back)


def _redundancy(result: Result) -> str:
    if result.redundancy_back is not None:
        return duration(result.redundancy_back)
    return _NEVER if result.never_redundant else _ABSENT


def _settled(result: Result) -> str:
    if result.settled is not None:
        return duration(result.settled)
    return _NEVER if result.never_settled else _ABSENT


# -- layout --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Layout:
    """How wide the columns are, what is between them, whether the titles are folded, and names stand in the rows."""

    widths: tuple[int, ...]
    gap: str
    folded: bool
    names: bool

    @property
    def width(self) -> int:
        return sum(self.widths) + len(self.gap) * (len(self.widths) - 1)

    def line(self, cells: Sequence[str]) -> str:
        """A line of cells, from the first column on."""
        padded = [
            cell.ljust(width) if column.left else cell.rjust(width)
            for cell, column, width in zip(cells, _COLUMNS, self.widths, strict=False)
        ]
        return self.gap.join(padded)

    def titles(self) -> list[str]:
        """The header."""
        if not self.folded:
            return [self.line([column.title for column in _COLUMNS])]
        upper, lower = ([column.folded[i] for column in _COLUMNS] for i in (0, 1))
        if self.names:
            return [self.line(upper), self.line(lower)]
        name, lower[0] = lower[0], ""
        return [name + self.line(upper)[len(name) :], self.line(lower)]


def _layout(starts: Sequence[Sequence[str]], figures: Sequence[Sequence[str]], width: int) -> _Layout:
    """The roomiest layout that fits into `width`, or else the narrowest."""
    cells = [[start[i] for start in starts] for i in range(2)]
    cells += [[row[i] for row in figures] for i in range(len(_COLUMNS) - 2)]
    layouts = []
    for gap, folded, names in (("  ", False, True), ("  ", True, True), (" ", True, True), (" ", True, False)):
        titles = [column.folded if folded else (column.title,) for column in _COLUMNS]
        widths = [max(map(len, (*title, *column))) for title, column in zip(titles, cells, strict=True)]
        if not names:
            widths[0] = 1
        layouts.append(_Layout(tuple(widths), gap, folded, names))
    return next((layout for layout in layouts if layout.width <= width), layouts[-1])


# -- pieces --------------------------------------------------------------------------------------------------------


def _app_name(app: str) -> str:
    """``sleepy_pid`` for ``package.sleepy_pid:app``; anything else as it is."""
    module, colon, variable = app.partition(":")
    return module.rpartition(".")[2] if colon and variable == "app" else app


def _entries(record: Record, measurement: Measurement, *, without: tuple[type[Event], ...]) -> list[tuple[float, str]]:
    entries = [(event.at, _entry(event.kind, event.text)) for event in record.events if not isinstance(event, without)]
    for outage in measurement.outages:
        entries.append((outage.start, _entry("outage", away(outage))))
        if outage.end is not None:
            entries.append((outage.end, _entry("outage over", f"after {duration(outage.end - outage.start)}")))
    return sorted(entries, key=lambda entry: entry[0])


def _entry(kind: str, text: str) -> str:
    return f"{kind:<15}  {text}"
