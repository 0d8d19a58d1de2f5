"""The part of a page that is about one experiment."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterable, Iterator

from pytest_serve_chaos.analysis.record import run_event
from pytest_serve_chaos.analysis.result import Result
from pytest_serve_chaos.analysis.words import away, duration, latency
from pytest_serve_chaos.analysis.words import number as counted
from pytest_serve_chaos.events import Repeatable, of_kind
from pytest_serve_chaos.history import History
from pytest_serve_chaos.model import LogLine
from pytest_serve_chaos.report.lanes import Life, ProcessLane
from pytest_serve_chaos.report.log_excerpts import by_process
from pytest_serve_chaos.report.losses import losses_of
from pytest_serve_chaos.report.page.columns import MOST
from pytest_serve_chaos.report.page.expected import expected_and_seen
from pytest_serve_chaos.report.page.markup import Html, data, element, folded, table
from pytest_serve_chaos.report.page.picture import line_of, picture
from pytest_serve_chaos.report.terminal import TITLES, VERDICTS, cells, explained, part_lines
from pytest_serve_chaos.report.timeline import Timeline, timeline_of
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
        *_losses(timeline),
        *_demands(timeline),
        *expected_and_seen(result, timeline.predictions),
        *_known(timeline),
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
            f"{counted(len(timeline.requests), 'request')}. Where several would lie on top of each other, the picture "
            "shows one of them. All figures, and the requests per second, count each of them.",
            class_="note",
        )
    yield element("noscript", element("p", "The picture needs JavaScript; everything else is below.", class_="note"))
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


def _losses(timeline: Timeline) -> Iterator[Html]:
    """What was lost, by what became of it, its way and who answered."""
    losses = losses_of(timeline)
    counted_lost = sum(len(lost.due) for _, lost in losses)
    others = sum(map(bool, timeline.requests.outcome)) - counted_lost
    if not losses and not others:
        return
    rows = [
        (
            kind.outcome,
            kind.way,
            kind.replica or "-",
            str(len(lost.due)),
            _at(min(lost.due)),
            _at(max(lost.due)),
            latency(max(lost.waited)),
        )
        for kind, lost in losses
    ]
    titles = ("lost", "way", "answered by", "requests", "first due", "last due", "longest wait")
    note = f"{counted(others, 'more request')} {'was' if others == 1 else 'were'} lost before the fault, or after the"
    yield folded(
        "Lost requests",
        table(titles, rows) if rows else None,
        element("p", f"{note} observation had ended; no figure counts them.", class_="note") if others else None,
        is_open=True,
    )


def _known(timeline: Timeline) -> Iterator[Html]:
    """The known defects that it looks like, and by what."""
    lines = []
    for match in timeline.known:
        defect = match.defect
        link = element("a", defect.issue, href=defect.url, rel="noreferrer") if defect.issue else None
        text = f"{defect.seen}; {defect.versions}. Here: {match.by}."
        lines.append(element("li", link, ": " if link else None, text))
    if lines:
        yield folded("Known defects that look like this", element("ul", *lines), is_open=True)


def _events(timeline: Timeline) -> Iterator[Html]:
    entries = [(event.at, event.kind.replace("_", " "), event.text) for event in timeline.events]
    for outage in timeline.outages:
        entries.append((outage.start, "outage", away(outage)))
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
    files = [
        element("div", element("p", f"{log.name}: {log.file}", class_="file"), _lines(log.lines), class_="log")
        for log in by_process(timeline.logs)
    ]
    left_out = timeline.logs_left_out
    note = element("p", f"{counted(left_out, 'line')} left out.", class_="note") if left_out else None
    yield folded(f"Logs around the fault ({counted(len(timeline.logs), 'line')})", note, *files)


def _lines(lines: Iterable[LogLine]) -> Html:
    return element("pre", "\n".join(f"{_at(line.seconds):>10}  {line_of(line)}" for line in lines), tabindex="0")


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
