"""What a history says of its experiments, also of those that nobody has judged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from pytest_serve_chaos.analysis.growth import WatchedUsage
from pytest_serve_chaos.analysis.machine import Interference, use_of
from pytest_serve_chaos.analysis.measure import measure_record
from pytest_serve_chaos.analysis.outages import length
from pytest_serve_chaos.analysis.record import Record, read_record, run_event, warnings_of
from pytest_serve_chaos.analysis.result import Result
from pytest_serve_chaos.checks.base import Check
from pytest_serve_chaos.checks.own import MakesCheck, from_history, was_judged_then
from pytest_serve_chaos.checks.verdict import judge_record
from pytest_serve_chaos.events import (
    BrokenOff,
    Demanded,
    Event,
    FaultAsked,
    Judged,
    NotStarted,
    Phase,
    PhaseBegan,
    Remark,
    Restored,
    Skipped,
    TrafficBegan,
    has,
    of_kind,
)
from pytest_serve_chaos.history import History
from pytest_serve_chaos.model import NO_DEMANDS, ConfigWarning, Measurement, Outage, Part, Verdict

_NOT_JUDGED = "nothing was demanded of the requests, so nothing was judged"


def result_of(
    history: History, experiment: str, *, checks: Sequence[Check] = (), known: Sequence[MakesCheck] = ()
) -> Result:
    """All that a history says of an experiment, judged again.

    Args:
        history: Of this run, or from a file.
        experiment: Its name.
        checks: By which it is judged in addition to its demands, in place of the test's own of the same name.
        known: The classes of checks that may be made again from the history. Of the test's other checks, what they
            found when the experiment ran counts.

    Raises:
        HistoryError: The history has nothing of that experiment.
        SettingsError: A selector in its expectations does not select anything of any cluster.
    """
    record = read_record(history, experiment)
    measurement = measure_record(record)
    own = from_history(record, checks, known)
    ready = run_event(history, experiment)
    judged = judge_record(record, measurement, own)
    watched = record.watched
    return Result(
        experiment=experiment,
        fault=record.faults.text,
        description=None if ready is None else ready.description,
        expectations=record.expectations,
        measurement=measurement,
        verdict=judged.verdict,
        before=record.components.before,
        after=record.components.after,
        evidence=record.faults.evidence,
        victims=record.faults.victims,
        gone=record.components.gone,
        events=record.events,
        warnings=_foreseen(record, warnings_of(history, experiment)),
        remarks=(
            *_remarks(record),
            *judged.notes,
            *_of_the_machine(record.interference, judged.verdict),
            *_of_the_longest_outage(record, judged.verdict, measurement.outages),
            *was_judged_then(own),
            *_of_usage(watched, record.expectations.leaks),
        ),
        parts=tuple(Part(part, measure_record(record.of_part(part))) for part in record.parts),
        scaling=record.components.scaling,
        checks=judged.own,
        machine=use_of(record.machine),
        watched=watched,
        doubtful=judged.doubtful,
    )


def _remarks(record: Record) -> tuple[str, ...]:
    """What was remarked while the experiment ran, and before it which apps its verdict is about."""
    about = record.demanded.about
    return tuple(dict.fromkeys([*([about] if about else []), *record.texts(Remark)]))


def _of_usage(watched: WatchedUsage | None, most: int | None) -> Iterator[str]:
    """What was seen of processes after recovery; leaks that fail the experiment are among its reasons."""
    if watched is None or not watched.processes:
        return
    if not watched.leaks and watched.shows_growth:
        yield f"no leak since the fault: {watched.text} after recovery"
    elif watched.leaks and (most is None or len(watched.leaks) <= most):
        yield f"leaks since the fault, and leaks=0 would judge that: {'; '.join(watched.leaks)}"
    for leak in watched.old_leaks:
        yield f"not since the fault, but as fast before it: {leak}"


def _of_the_machine(interference: Interference, verdict: Verdict) -> Iterator[str]:
    """What the reader of a verdict must know of the machine; an inconclusive one has it among its reasons."""
    before, since = interference.before, interference.since_fault
    if before:
        yield f"before the fault, {before}: what was usual then is slower than without them"
    if interference.too_small:
        yield f"before the fault, {interference.too_small}: this machine may be too small for the cluster"
    if since and not any(since in reason for reason in verdict.reasons):
        yield f"since the fault, {since}: the figures are worse than without them"


def _of_the_longest_outage(record: Record, verdict: Verdict, outages: Sequence[Outage]) -> Iterator[str]:
    """Whether the machine was too small in an outage that is longer than was demanded."""
    interference, allowed = record.interference, record.expectations.longest_outage
    if verdict.outcome != "failed" or interference.too_small or not outages:
        return
    longest = max(outages, key=lambda outage: length(outage, interference.end))
    in_outage = interference.in_outage(longest)
    if in_outage and (allowed is None or length(longest, interference.end) > allowed):
        yield f"in the longest outage, {in_outage}: with a machine for each node, it may be shorter"


def results_of(history: History, *, known: Sequence[MakesCheck] = ()) -> tuple[Result, ...]:
    """Each experiment of a history, judged again. One without a verdict is unfinished, or measured.

    Args:
        history: Of this run, or from a file.
        known: See `result_of`.

    Raises:
        SettingsError: A selector in the expectations of one cannot be used.
    """
    names = [name for name in history.experiments() if is_experiment(history.of(name))]
    return tuple(_result(history, name, known) for name in names)


def is_experiment(events: Iterable[Event]) -> bool:
    """Whether these events are of an experiment, and not of a test that only looked at the cluster."""
    events = tuple(events)
    if has(Skipped, events):
        return False
    if has((Demanded, FaultAsked, NotStarted, Judged), events):
        return True
    # Traffic alone is not one once its test is over; in a run that was killed it was about to become one.
    return has((PhaseBegan, TrafficBegan), events) and not has(Restored, events)


def unfinished(history: History, experiment: str) -> Result:
    """What the history says so far of an experiment that nobody has judged.

    Raises:
        HistoryError: The history has nothing of that experiment.
        SettingsError: A selector in its expectations cannot be used.
    """
    so_far = result_of(history, experiment)
    broken = has(FaultAsked, so_far.events)
    seen = tuple(f"so far: {reason}" for reason in so_far.reasons) if broken else ()
    verdict = Verdict("unfinished", (_why_unfinished(so_far.events), *seen))
    return replace(so_far, measurement=_of_what_was_seen(so_far.measurement), verdict=verdict)


def _of_what_was_seen(measurement: Measurement) -> Measurement:
    """The figures with the seconds in which requests were sent: those of the window are not over."""
    seconds, seen = measurement.seconds, measurement.traffic_observed
    return measurement if seconds is None or seconds <= seen else replace(measurement, seconds=seen)


def _why_unfinished(events: tuple[Event, ...]) -> str:
    if has(Restored, events):  # the run went on
        why = [event.text for event in of_kind(BrokenOff, events)]
        return why[-1] if why else "an error ended it before its verdict"
    phases = [event.text for event in of_kind(PhaseBegan, events) if event.phase is not Phase.DONE]
    return "the run ended before its verdict" + (f", in the phase {phases[-1]}" if phases else "")


def _result(history: History, experiment: str, known: Sequence[MakesCheck]) -> Result:
    events = history.of(experiment)
    if not has((Judged, NotStarted), events):
        # A test that breaks something by hand demands nothing before it judges.
        by_hand = has(Restored, events) and not has(Demanded, events)
        return _measured(result_of(history, experiment)) if by_hand else unfinished(history, experiment)
    result = result_of(history, experiment, known=known)
    return replace(result, verdict=Verdict("measured", (_NOT_JUDGED,))) if result.outcome == "measured" else result


def _measured(result: Result) -> Result:
    return replace(result, expectations=NO_DEMANDS, verdict=Verdict("measured", (_NOT_JUDGED,)))


def _foreseen(record: Record, warnings: tuple[ConfigWarning, ...]) -> tuple[ConfigWarning, ...]:
    """Those that concern what this experiment broke."""
    before, victims, markers = record.components.before, record.faults.victims, record.faults.markers
    hit = {c.node for c in before.components if c.identity in victims} if before is not None else set()
    return tuple(w for w in warnings if markers.intersection(w.faults) and (not w.node or w.node in hit))
