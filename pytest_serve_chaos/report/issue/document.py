"""The text of an issue, in the order in which a maintainer reads it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pytest_serve_chaos import __version__
from pytest_serve_chaos.analysis.words import duration, limit, number, percent
from pytest_serve_chaos.report.issue.logs import log_lines
from pytest_serve_chaos.report.issue.losses import loss_tables
from pytest_serve_chaos.report.issue.repeat import how_to_repeat
from pytest_serve_chaos.report.issue.sequence import sequence
from pytest_serve_chaos.report.issue.subject import Subject
from pytest_serve_chaos.report.issue.under_test import under_test
from pytest_serve_chaos.report.markdown_text import escaped, folded, in_code, table
from pytest_serve_chaos.report.terminal import VERDICTS, cluster_words
from pytest_serve_chaos.report.timeline_facts import (
    facts_of,
    seconds,
    what_serve_said,
    what_serve_said_since_the_fault,
)

MOST = 60_000
"""Characters; GitHub takes 65,536."""

ISSUE = "issue.md"
PICTURE = "timeline.svg"
"""The files that go into an issue."""


@dataclass(frozen=True, slots=True)
class Room:
    """How much of what can be long is shown: log lines of a process, processes, and lines of the sequence."""

    lines: int
    processes: int
    sequence: int


_ROOMS = (Room(10, 8, 45), Room(6, 6, 40), Room(4, 4, 30), Room(0, 0, 20))
"""As much as fits, the most first."""


def issue_markdown(subject: Subject, picture: str = PICTURE) -> str:
    """The text of an issue. It has its place in the body of a GitHub issue.

    Args:
        subject: The experiment.
        picture: Where its picture is, as the text links it.
    """
    for room in _ROOMS:
        text = "\n".join(_lines(subject, picture, room)).rstrip() + "\n"
        if len(text) <= MOST:
            return text
    return text[:MOST]


def _lines(subject: Subject, picture: str, room: Room) -> Iterator[str]:
    yield from _headline(subject)
    yield from _picture(subject, picture)
    yield from folded("Versions, topology and settings", under_test(subject))
    yield from _section("What happened, in seconds from the fault", sequence(subject, room.sequence))
    yield from _section("Lost requests", loss_tables(subject))
    yield from _section("Log lines around the fault", log_lines(subject, room.processes, room.lines))
    yield from _section("What Serve said, and what answered", _said(subject))
    yield from _section("Run it again", how_to_repeat(subject))
    yield from _section("Known defects that look like this", _known(subject))
    yield from _origin(subject)


def _section(title: str, lines: Iterable[str]) -> list[str]:
    found = list(lines)
    return [f"### {title}", "", *found, ""] if found else []


# -- the first thing that is read --------------------------------------------------------------------------------------


def _headline(subject: Subject) -> Iterator[str]:
    result = subject.result
    yield f"## {escaped(title_of(subject))}"
    yield ""
    yield escaped(_sentence(subject))
    yield ""
    if result.reasons:
        yield f"The verdict of the experiment {in_code(result.experiment)} is **{VERDICTS[result.outcome]}**:"
        yield ""
        yield from (f"- {escaped(reason)}" for reason in result.reasons)
    else:
        yield f"The verdict of the experiment {in_code(result.experiment)} is **{VERDICTS[result.outcome]}**."
    yield ""
    if result.remarks:
        yield "Notes:"
        yield ""
        yield from (f"- {escaped(remark)}" for remark in result.remarks)
        yield ""


def title_of(subject: Subject) -> str:
    """A line that can be the title of the issue."""
    result = subject.result
    fault = _IN_BRACKETS.sub("", result.fault.partition(";")[0])
    away, sent = (result.lost or 0) + (result.late or 0), result.sent
    versions = f" (Ray {result.description.ray_version})" if result.description is not None else ""
    what, link = "no request lost" if sent else "no request measured", " after "
    spoiled = result.outcome == "inconclusive" and result.doubtful
    if sent and away and not spoiled:
        what = f"{away} of {number(sent, 'request')} lost or late"
    elif result.reasons and not (sent and result.outcome == "measured"):
        what = _short(result.reasons[0])
        # What was not shown, or not seen to its end, is not what the fault led to.
        link = " after " if result.outcome == "failed" else ": "
    what = what if len(what) <= _TITLE else what[:_TITLE].rpartition(" ")[0] + " ..."
    return f"{_capitalised(what)}{link if fault else ''}{fault}{versions}"


def _short(reason: str) -> str:
    """The beginning of a reason that says something: what stands before a colon may be no more than a name."""
    said = _IN_BRACKETS.sub("", reason).rstrip(".")
    first = said.partition(": ")[0].partition("; ")[0]
    return first if first.count(" ") >= _CLAUSE else said


_NOT_ALONE = "These figures are not the cluster's alone."

_CLAUSE = 2
"""Spaces of what is not only a name."""


_IN_BRACKETS = re.compile(r" \([^()]*\)")
_TITLE = 110
"""Characters of a reason that stand in a title."""


def _sentence(subject: Subject) -> str:
    """The figure with its interval, and what it is about."""
    result, seen = subject.result, subject.result.measurement
    where = "" if result.description is None else f" Under test: {cluster_words(result.description)}."
    if not seen.sent or seen.availability is None or seen.interval is None or seen.seconds is None:
        return f"{_capitalised(result.fault or 'nothing was broken')}; {_why_nothing_was_measured(subject)}.{where}"
    low, high = seen.interval
    away = (seen.lost or 0) + (seen.late or 0)
    late = f" ({seen.late} of them were answered, too late)" if seen.late else ""
    lost = (
        f"{away or 'None'} of {number(seen.sent, 'request')} {'was' if away < 2 else 'were'} lost or late{late} in the"
        f" {limit(round(seen.seconds, 1))} after the fault ({result.fault}): {percent(seen.availability)} were answered"
        f" well and in time (95 % interval: {percent(low)} to {percent(high)})"
    )
    outage = f"; the longest outage lasted {duration(seen.longest_outage)}" if seen.longest_outage else ""
    were = "was" if seen.in_flight == 1 else "were"
    flight = f"; {seen.in_flight} of the lost ones {were} in flight when the fault came" if seen.in_flight else ""
    alone = f" {_NOT_ALONE}" if result.doubtful else ""
    return f"{lost}{outage}{flight}.{alone}{where}"


def _why_nothing_was_measured(subject: Subject) -> str:
    faults = subject.timeline.faults
    if faults and not subject.result.landed:
        cut_off = any(fault.was_cut_off for fault in faults)
        why = "the history ends before it shows whether that landed" if cut_off else "that did not land"
        return f"{why}, so what it cost was not measured"
    return "what that cost was not measured" if faults else "no request was measured"


def _capitalised(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"


def _picture(subject: Subject, picture: str) -> Iterator[str]:
    facts = " ".join(facts_of(subject.timeline))
    alt = facts.replace("[", "(").replace("]", ")")
    yield f"![{escaped(alt[:600])}]({picture})"
    yield ""


# -- what Serve said ---------------------------------------------------------------------------------------------------


def _said(subject: Subject) -> Iterator[str]:
    if not subject.timeline.statuses:
        yield "The history does not have what Serve's REST API said."
        return
    told = what_serve_said(subject.timeline) or (what_serve_said_since_the_fault(subject.timeline),)
    rows = (
        (
            f"{seconds(one.begin)} to {'the end' if one.end is None else seconds(one.end)}",
            escaped(one.what),
            "<br>".join(escaped(str(said)) for said in one.said) or "nothing",
        )
        for one in told
    )
    yield from table(("when", "what was seen", "what Serve's REST API said"), rows)


# -- the end -----------------------------------------------------------------------------------------------------------


def _known(subject: Subject) -> Iterator[str]:
    if not subject.timeline.known:
        yield "None of those that pytest-serve-chaos knows."
        return
    for match in subject.timeline.known:
        defect = match.defect
        name = f"[{defect.issue}]({defect.url}): " if defect.issue else ""
        where = f" (described in ray-and-kubernetes.md of pytest-serve-chaos: {in_code(defect.anchor)})"
        yield (
            f"- {name}{escaped(defect.seen)}; {escaped(defect.versions)}. Here: {escaped(match.by)}."
            + ("" if defect.issue or not defect.anchor else where)
        )


def _origin(subject: Subject) -> Iterator[str]:
    file = subject.file
    of_file = "" if file is None else f": {in_code(file.name)}, {file.size} bytes, SHA-256 {in_code(file.sha256)}"
    yield f"<sub>Written by pytest-serve-chaos {escaped(__version__)} from the history of the run{of_file}.</sub>"
