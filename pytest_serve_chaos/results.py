"""What a history says of its experiments, also of those that nobody has judged."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from pytest_serve_chaos.analysis.configuration import ConfigWarning
from pytest_serve_chaos.analysis.measure import measure_record
from pytest_serve_chaos.analysis.record import Record, description_of, read_record, run_event, warnings_of
from pytest_serve_chaos.analysis.result import Result
from pytest_serve_chaos.checks.base import Check
from pytest_serve_chaos.checks.own import MakesCheck, from_history, was_judged_then
from pytest_serve_chaos.checks.verdict import judge_record
from pytest_serve_chaos.history import History
from pytest_serve_chaos.model import NO_DEMANDS, Event, Measurement, Verdict

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
    judged = judge_record(record, measurement, own)
    return Result(
        experiment=experiment,
        fault=record.fault,
        description=description_of(run_event(history, experiment)),
        expectations=record.expectations,
        measurement=measurement,
        verdict=judged.verdict,
        before=record.before,
        after=record.after,
        evidence=record.evidence,
        victims=record.victims,
        gone=record.gone,
        events=record.events,
        warnings=_foreseen(record, warnings_of(history, experiment)),
        remarks=(*record.remarks, *was_judged_then(own)),
        scaled=record.scaled,
        checks=judged.own,
    )


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
    kinds = {event.kind for event in events}
    if "skipped" in kinds:
        return False
    if kinds & {"expectations", "asked", "not_started", "verdict"}:
        return True
    # Traffic alone is not one once its test is over; in a run that was killed it was about to become one.
    return bool(kinds & {"phase", "traffic"}) and "restored" not in kinds


def unfinished(history: History, experiment: str) -> Result:
    """What the history says so far of an experiment that nobody has judged.

    Raises:
        HistoryError: The history has nothing of that experiment.
        SettingsError: A selector in its expectations cannot be used.
    """
    so_far = result_of(history, experiment)
    broken = any(event.kind == "asked" for event in so_far.events)
    seen = tuple(f"so far: {reason}" for reason in so_far.reasons) if broken else ()
    verdict = Verdict("unfinished", (_why_unfinished(so_far.events), *seen))
    return replace(so_far, measurement=_of_what_was_seen(so_far.measurement), verdict=verdict)


def _of_what_was_seen(measurement: Measurement) -> Measurement:
    """The figures with the seconds in which requests were sent: those of the window are not over."""
    seconds, seen = measurement.seconds, measurement.traffic_observed
    return measurement if seconds is None or seconds <= seen else replace(measurement, seconds=seen)


def _why_unfinished(events: Iterable[Event]) -> str:
    texts = {event.kind: event.text for event in events if event.text != "done"}
    if "restored" in texts:  # the run went on
        return texts.get("broken_off", "an error ended it before its verdict")
    return "the run ended before its verdict" + (f", in the phase {texts['phase']}" if "phase" in texts else "")


def _result(history: History, experiment: str, known: Sequence[MakesCheck]) -> Result:
    kinds = {event.kind for event in history.of(experiment)}
    if not kinds & {"verdict", "not_started"}:
        # A test that breaks something by hand demands nothing before it judges.
        by_hand = "restored" in kinds and "expectations" not in kinds
        return _measured(result_of(history, experiment)) if by_hand else unfinished(history, experiment)
    result = result_of(history, experiment, known=known)
    return replace(result, verdict=Verdict("measured", (_NOT_JUDGED,))) if result.outcome == "measured" else result


def _measured(result: Result) -> Result:
    return replace(result, expectations=NO_DEMANDS, verdict=Verdict("measured", (_NOT_JUDGED,)))


def _foreseen(record: Record, warnings: tuple[ConfigWarning, ...]) -> tuple[ConfigWarning, ...]:
    """Those that concern what this experiment broke."""
    before = record.before
    hit = {c.node for c in before.components if c.identity in record.victims} if before is not None else set()
    return tuple(w for w in warnings if record.kinds.intersection(w.faults) and (not w.node or w.node in hit))
