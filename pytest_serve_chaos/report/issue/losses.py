"""Lost requests by outcome, way and replica, and how long each replica was silent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pytest_serve_chaos.analysis.words import duration, number
from pytest_serve_chaos.report.issue.subject import Subject
from pytest_serve_chaos.report.losses import losses_of
from pytest_serve_chaos.report.markdown_text import escaped, in_code, table
from pytest_serve_chaos.report.timeline import Timeline
from pytest_serve_chaos.report.timeline_facts import seconds

_ROWS = 20
_NOT_NAMED = "none answered"
_SILENT = 5.0
_TIMES_USUAL = 3.0
"""Seconds, and multiples of what a quarter of the replicas do not exceed, from which on a silence is not by chance."""


def loss_tables(subject: Subject) -> Iterator[str]:
    """What was lost since the fault, or that nothing was; and the replicas that answered."""
    timeline = subject.timeline
    ordered = losses_of(timeline)
    if not ordered:
        # Without a fault that landed, or without requests, nobody knows what it would have cost.
        none = "No request was lost from the fault to the end of the observation."
        yield none if timeline.measured else "What the fault cost was not measured."
        yield ""
    else:
        if not timeline.measured:
            yield "No figure counts these: what the fault cost was not measured."
            yield ""
        rows = (
            (
                in_code(kind.outcome),
                escaped(kind.way),
                in_code(kind.replica) if kind.replica else _NOT_NAMED,
                f"{seconds(min(lost.due))} to {seconds(max(lost.due))}" if len(lost.due) > 1 else seconds(lost.due[0]),
                duration(sorted(lost.waited)[len(lost.waited) // 2]),
                str(len(lost.due)),
            )
            for kind, lost in ordered[:_ROWS]
        )
        yield from table(("outcome", "way", "replica", "due", "waited (median)", "lost"), rows, right=2)
        rest = sum(len(lost.due) for _, lost in ordered[_ROWS:])
        if rest:
            yield f"{rest} more requests were lost in other ways."
            yield ""
    yield from _replicas(timeline)


# -- replicas ----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Answers:
    """When a replica answered: requests that were answered well, by the end of each."""

    before: int = 0
    after: int = 0
    last: float = float("-inf")
    silent: float = 0.0
    silent_since: float = 0.0


def _replicas(timeline: Timeline) -> Iterator[str]:
    answers = _answers(timeline)
    away = any(timeline.strips.lost) or any(timeline.strips.late)
    if not answers or not away:
        return
    node = {life.replica: lane.node for lane in timeline.lanes for life in lane.lives if life.replica}
    ordered = sorted(answers.items(), key=lambda item: (-item[1].silent, item[0]))
    rows = (
        (
            in_code(replica),
            escaped(node.get(replica, "")),
            str(one.before),
            str(one.after),
            f"{duration(one.silent)} from {seconds(one.silent_since)}",
        )
        for replica, one in ordered[:_ROWS]
    )
    yield "Good answers of each replica, and its longest silence since the fault:"
    yield ""
    yield from table(("replica", "node", "before", "since", "longest silence"), rows, right=3)
    yield from _silent_ones(timeline, answers, node)


def _silent_ones(timeline: Timeline, answers: Mapping[str, _Answers], node: Mapping[str, str]) -> Iterator[str]:
    """The replicas that lived on and gave no answer for long, while others did."""
    gone = {life.replica for lane in timeline.lanes for life in lane.lives if life.end is not None}
    lived_on = {name: one for name, one in answers.items() if one.before and one.after and name not in gone}
    silences = sorted(one.silent for one in lived_on.values())
    usual = silences[len(silences) // 4] if silences else 0.0
    silent = {name: one for name, one in lived_on.items() if one.silent >= max(_SILENT, _TIMES_USUAL * usual)}
    if silent:
        each = (
            f"{in_code(name)}{f' on {escaped(node[name])}' if name in node else ''} for {duration(one.silent)}"
            f" from {seconds(one.silent_since)}"
            for name, one in sorted(silent.items(), key=lambda item: -item[1].silent)
        )
        were = "was" if len(silent) == 1 else "were"
        yield (
            f"{len(silent)} of {number(len(lived_on), 'replica')} that lived on {were} silent while others answered:"
            f" {', '.join(each)}."
        )
        yield ""


def _answers(timeline: Timeline) -> dict[str, _Answers]:
    """What each replica answered. Its silence begins with an answer, and ends with the next one, or when it went."""
    columns, found = timeline.requests, dict[str, _Answers]()
    lives = [life for lane in timeline.lanes for life in lane.lives]
    gone = {life.replica: life.end for life in lives if life.replica and life.end is not None}
    ended = sorted(
        (due + took, columns.replica[row])
        for row, (due, took) in enumerate(zip(columns.scheduled, columns.latency, strict=True))
        if columns.replica[row] and not columns.outcome[row] and due + took <= timeline.judged_until
    )
    for at, word in ended:
        one = found.setdefault(columns.replicas[word], _Answers())
        if at < 0:
            one.before += 1
        else:
            one.after += 1
            _note_silence(one, at)
        one.last = at
    for replica, one in found.items():
        _note_silence(one, min(timeline.judged_until, gone.get(replica, timeline.judged_until)))
    return found


def _note_silence(one: _Answers, until: float) -> None:
    begin = max(one.last, 0.0)
    if one.last != float("-inf") and until - begin > one.silent:
        one.silent, one.silent_since = until - begin, begin
