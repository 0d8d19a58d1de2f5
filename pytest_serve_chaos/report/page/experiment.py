"""The part of a page that is about one experiment."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterable, Iterator
from itertools import groupby

from pytest_serve_chaos.analysis.record import run_event
from pytest_serve_chaos.analysis.result import Result
from pytest_serve_chaos.analysis.words import duration, latency
from pytest_serve_chaos.analysis.words import number as counted
from pytest_serve_chaos.events import Repeatable, of_kind
from pytest_serve_chaos.history import History
from pytest_serve_chaos.report.page.columns import MOST
from pytest_serve_chaos.report.page.expected import expected_and_seen
from pytest_serve_chaos.report.page.markup import Html, data, element, folded, table
from pytest_serve_chaos.report.page.picture import line_of, picture
from pytest_serve_chaos.report.terminal import TITLES, VERDICTS, cells, explained, part_lines
from pytest_serve_chaos.report.timeline import Life, LogText, ProcessLane, Requests, Timeline, timeline_of
from pytest_serve_chaos.report.timeline_facts import facts_of

_MET = {True: "met", False: "missed", None: "unknown"}


def experiment_section(result: Result, history: History, *, number: int, is_open: bool) -> Html:
    """Everything about one experiment.

    Args:
        result: What it gave.
        history: The same run's.
        number: Its place on the page, from 1.
        is_open: Whether it is unfolded at first.
    """
    timeline = timeline_of(result, history)
    own = f"experiment-{number}"
    title = element(
        "summary",
        element("h2", result.experiment),
        element("span", VERDICTS[result.outcome].lower(), class_=f"verdict {result.outcome}"),
        element("span", result.fault or "nothing was broken", class_="fault"),
    )
    parts = [
        *_in_words(result),
        _figures(result),
        *_drawn(timeline, own),
        *_losses(timeline.requests),
        *_demands(timeline),
        *expected_and_seen(result, timeline.predictions),
        *_events(timeline),
        *_processes(timeline),
        *_logs(timeline),
        *_repeat(result, history),
    ]
    return element("section", element("details", title, *parts, open=is_open), id=own, class_="experiment")


# -- in words ----------------------------------------------------------------------------------------------------------


def _in_words(result: Result) -> Iterator[Html]:
    lines = [element("li", line) for line in (*part_lines(result), *explained(result))]
    if lines:
        yield element("ul", *lines, class_="reasons")


def _figures(result: Result) -> Html | None:
    figures = cells(result)
    if figures is None:
        return None
    pairs = [
        element("div", element("dt", title), element("dd", figure.replace(" >  ", " > ")))
        for title, figure in zip(TITLES, figures, strict=True)
    ]
    return element("dl", *pairs, class_="figures")


def _drawn(timeline: Timeline, own: str) -> Iterator[Html]:
    if not len(timeline.requests) and not timeline.lanes:
        return
    if len(timeline.requests) > MOST:
        yield element(
            "p",
            f"{counted(len(timeline.requests), 'request')}: of those that would be drawn on top of each other one is "
            "drawn. All figures, and the strips of time, count each of them.",
            class_="note",
        )
    yield element("noscript", element("p", "The picture needs JavaScript; all else is below.", class_="note"))
    facts = [element("li", fact) for fact in facts_of(timeline)]
    yield element("div", class_="picture", data_picture=f"{own}-data", data_title=timeline.experiment)
    yield data(picture(timeline), id=f"{own}-data")
    if facts:
        yield folded("The picture in words", element("ul", *facts))


# -- tables ------------------------------------------------------------------------------------------------------------


def _demands(timeline: Timeline) -> Iterator[Html]:
    if timeline.demands:
        rows = [
            (d.what, d.demanded, d.seen or "-", element("span", _MET[d.met], class_=f"met {_MET[d.met]}"))
            for d in timeline.demands
        ]
        yield folded("Demanded and seen", table(("demand", "demanded", "seen", ""), rows), is_open=True)


def _losses(requests: Requests) -> Iterator[Html]:
    """What was lost, by what became of it and by its way."""
    found: dict[tuple[int, int], list[int]] = {}
    for index, outcome in enumerate(requests.outcome):
        if outcome:
            found.setdefault((outcome, requests.way[index]), []).append(index)
    if found:
        rows = [
            (
                requests.outcomes[outcome],
                requests.ways[way],
                str(len(lost)),
                _at(min(requests.scheduled[i] for i in lost)),
                _at(max(requests.scheduled[i] for i in lost)),
                latency(max(requests.latency[i] for i in lost)),
            )
            for (outcome, way), lost in sorted(found.items(), key=lambda item: -len(item[1]))
        ]
        titles = ("lost", "way", "requests", "first due", "last due", "longest wait")
        yield folded("Lost requests", table(titles, rows), is_open=True)


def _events(timeline: Timeline) -> Iterator[Html]:
    entries = [(event.at, event.kind.replace("_", " "), event.text) for event in timeline.events]
    for outage in timeline.outages:
        late = f", {outage.late} answered too late" if outage.late else ""
        entries.append((outage.start, "outage", f"{outage.lost} of {outage.sent} requests lost{late}"))
        if outage.end is not None:
            entries.append((outage.end, "outage over", f"after {duration(outage.end - outage.start)}"))
    if entries:
        rows = [(_moment(at), kind, text) for at, kind, text in sorted(entries)]
        yield folded(f"Events ({len(rows)})", table(("time", "event", "what"), rows, class_="events"))


def _moment(at: float) -> Html:
    """A moment that a script makes a button, which shows it in the picture."""
    return element("span", _at(at), class_="moment", data_at=f"{at:.3f}")


def _processes(timeline: Timeline) -> Iterator[Html]:
    if timeline.lanes:
        rows = [(lane.name, *_lives(lane)) for lane in timeline.lanes]
        titles = ("process or node", "before the fault", "went", "came")
        yield folded(f"Processes and nodes ({len(rows)})", table(titles, rows))


def _lives(lane: ProcessLane) -> tuple[str, str, str]:
    first = [_who(life) for life in lane.lives if life.was_there]
    went = [f"{_who(life)} at {_at(life.end)}" for life in lane.lives if life.end is not None]
    came = [f"{_who(life)} at {_at(life.begin)}" for life in lane.lives if not life.was_there]
    return "; ".join(first) or "-", "; ".join(went) or "-", "; ".join(came) or "-"


def _who(life: Life) -> str:
    name = life.identity if life.pid is None else f"PID {life.pid}"
    where = f" on {life.machine}" if life.machine else ""
    return f"{name}{where}{' (victim)' if life.victim else ''}"


def _logs(timeline: Timeline) -> Iterator[Html]:
    """Log lines around the fault, by process."""
    if not timeline.logs:
        return
    ordered = sorted(timeline.logs, key=lambda line: (line.process, line.file, line.at))
    files = [
        element("div", element("p", f"{process}: {file}", class_="file"), _lines(lines), class_="log")
        for (process, file), lines in groupby(ordered, key=lambda line: (line.process, line.file))
    ]
    left_out = timeline.logs_left_out
    note = element("p", f"{counted(left_out, 'line')} left out.", class_="note") if left_out else None
    yield folded(f"Logs around the fault ({counted(len(timeline.logs), 'line')})", note, *files)


def _lines(lines: Iterable[LogText]) -> Html:
    return element("pre", "\n".join(f"{_at(line.at):>10}  {line_of(line)}" for line in lines), tabindex="0")


def _repeat(result: Result, history: History) -> Iterator[Html]:
    """The command that repeats it; where the history does not say which test it was, one that chooses it by name."""
    known = of_kind(Repeatable, result.events)
    if known:
        command = known[-1].text
    else:
        ready = run_event(history, result.experiment)
        seed = [] if ready is None or ready.seed is None else [f"--serve-chaos-seed={ready.seed}"]
        words = " and ".join(dict.fromkeys(re.findall(r"\w+", result.experiment)))
        command = shlex.join(["pytest", "--serve-chaos", *seed, "-k", words])
    yield folded("Repeat it", element("pre", command, tabindex="0"), is_open=True)


def _at(seconds: float | None) -> str:
    """A moment in seconds from the fault."""
    if seconds is None or math.isinf(seconds):
        return "-"
    return f"{seconds:+.2f} s"
