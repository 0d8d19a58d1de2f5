"""The verdict on one experiment, composed of what its checks say, with every reason in words and figures.

First comes whether the rig can be believed: without a fault that landed the verdict is inconclusive, whatever else was
seen. So it is where the owner of the cluster changed it, or where the generator was late, unless an outage lasted far
longer than that. Then a demand that was certainly not met makes it failed, whatever else is in doubt. Without one, a
demand that could not be judged makes it inconclusive. Where nothing was demanded of the requests, it is measured. So
"passed" means all was judged, and met.

If several apps are asked, each is judged by its own requests, and so are the requests of each name.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from pytest_serve_chaos.analysis.identities import parse_selector
from pytest_serve_chaos.analysis.measure import measure_record
from pytest_serve_chaos.analysis.record import Record, read_record
from pytest_serve_chaos.checks.base import Check, Missed, Objection, Observation, Unknown
from pytest_serve_chaos.checks.favour import despite_lag, in_its_favour
from pytest_serve_chaos.checks.landed import Landed
from pytest_serve_chaos.checks.latency import LatencyRatio
from pytest_serve_chaos.checks.load_generator import AllSent, not_sent
from pytest_serve_chaos.checks.owner import LeftAlone
from pytest_serve_chaos.checks.registry import checks_for, checks_of_a_part, punctual
from pytest_serve_chaos.history import History
from pytest_serve_chaos.model import Checked, Measurement, PartName, Verdict

_SHOW_P99 = 100
"""Requests that show their p99: of fewer, a single one decides."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A verdict, what the test's own checks found for it, and what its reader must know in addition.

    `doubtful` says what of the figures is not the doing of the cluster; "" if all is.
    """

    verdict: Verdict
    own: tuple[Checked, ...] = ()
    notes: tuple[str, ...] = ()
    doubtful: str = ""


def judge(history: History, experiment: str) -> Verdict:
    """The verdict on an experiment of a history.

    Raises:
        HistoryError: The history has nothing of that experiment.
        SettingsError: A selector in `replaced` or `kept` does not select anything of any cluster.
    """
    record = read_record(history, experiment)
    return judge_record(record, measure_record(record)).verdict


def judge_record(record: Record, measurement: Measurement, own: Sequence[Check] = ()) -> Judged:
    """The verdict on an experiment whose record was read and measured.

    Args:
        record: What its history has of it.
        measurement: The figures.
        own: The checks that the test brings.
    """
    seen = Observation(record, measurement)
    expected = record.expectations
    landed, lateness, left_alone = ask(Landed(), seen), ask(punctual(expected, own), seen), ask(LeftAlone(), seen)
    if landed.unknown or left_alone.unknown:
        believed = [left_alone, landed, lateness]
        return Judged(
            _inconclusive(_unknown(believed), believed), doubtful=_doubtful(seen, *_unknown([left_alone, lateness]))
        )
    _refuse_wrong_selectors(record)
    of_all = (*checks_for(expected, several_apps=bool(record.demanded.apps)), *own)
    if lateness.unknown:
        return Judged(_with_late_generator(of_all, lateness, seen), doubtful=_doubtful(seen, *lateness.unknown))
    whole = _judge_by(of_all, seen)
    parts = [_judge_part(part, record) for part in record.parts]
    demands_traffic = any(check.on_requests for check in (*checks_for(expected), *own))
    found = whole.certain[len(whole.certain) - len(own) :]
    notes = tuple(n for p in parts for n in p.notes)
    return Judged(_together(whole.verdict, parts, demands_traffic), found, notes, _doubtful(seen, whole.excused))


def _doubtful(seen: Observation, *known: str) -> str:
    """What of the figures is not the doing of the cluster, in clauses; "" if all is.

    Args:
        seen: The experiment.
        known: What is known of that already.
    """
    others = (*ask(AllSent(), seen).unknown, seen.record.interference.since_fault)
    texts = [text for text in known if text]
    return "; ".join(dict.fromkeys([*texts, *(text for text in others if not any(text in one for one in texts))]))


@dataclass(frozen=True, slots=True)
class _Found:
    """What some checks found: the verdict by them alone, and what each found, with what is certain of it.

    `excused` says what a miss may come from that is not the app's fault, where nothing was missed for certain.
    """

    verdict: Verdict
    certain: tuple[Checked, ...]
    excused: str = ""


@dataclass(frozen=True, slots=True)
class _PartVerdict:
    """The verdict on a part, with reasons that name it; `notes` are what does not decide the verdict."""

    verdict: Verdict
    notes: tuple[str, ...] = ()


def _judge_by(checks: Sequence[Check], seen: Observation) -> _Found:
    found = _ask_each(checks, seen)
    if not any(one.missed for one in found):
        return _Found(_without_failures(checks, found), found)
    why, best = in_its_favour(seen.record, seen.measurement)
    at_best = found if best is None else _ask_each(checks, best)
    certain = tuple(replace(one, certain=other.missed) for one, other in zip(found, at_best, strict=True))
    excused = "" if _missed(at_best) else why
    return _Found(_with_failures(found, at_best, why, seen.measurement), certain, excused)


def _judge_part(part: PartName, record: Record) -> _PartVerdict:
    """The verdict on an app, or on the requests of one name.

    An app must be judged. Of the requests of one name there may be too few to judge them by themselves, though not too
    few to see that they all fail; they count among the others.
    """
    own = record.of_part(part)
    seen = Observation(own, measure_record(own))
    found = _judge_by(_checks_of(part, seen), seen)
    undecided = found.verdict.outcome == "inconclusive" and not any(one.missed for one in found.certain)
    if part.kind == "name" and undecided:
        why = "; ".join(found.verdict.reasons)
        return _PartVerdict(Verdict("measured"), (f"{part}: not judged by themselves: {why}",))
    # A name with too few requests is not inconclusive for that: its requests count among all others.
    left_out = _unknown(found.certain) if part.kind == "name" else ()
    reasons = tuple(f"{part}: {reason}" for reason in found.verdict.reasons if reason not in left_out)
    return _PartVerdict(replace(found.verdict, reasons=reasons))


def _checks_of(part: PartName, seen: Observation) -> tuple[Check, ...]:
    """The checks of a part: a name whose requests are too few for a p99 has none."""
    checks = checks_of_a_part(seen.expectations)
    if part.kind == "app" or (seen.measurement.sent or 0) >= _SHOW_P99:
        return checks
    return tuple(check for check in checks if not isinstance(check, LatencyRatio))


# -- which comes first: the only place that decides it -------------------------------------------------------------


def _together(whole: Verdict, parts: Sequence[_PartVerdict], demands_traffic: bool) -> Verdict:
    """Failed if anything failed; passed only if nothing is left unknown."""
    each = [whole, *(part.verdict for part in parts)]
    tracebacks = tuple(dict.fromkeys(text for one in each for text in one.tracebacks))
    for outcome in ("failed", "inconclusive"):
        if any(one.outcome == outcome for one in each):
            first = [reason for one in each if one.outcome == outcome for reason in one.reasons]
            others = [reason for one in each if one.outcome == "inconclusive" for reason in one.reasons]
            return Verdict(outcome, tuple(dict.fromkeys([*first, *others])), tracebacks)
    return Verdict("passed" if demands_traffic else "measured", tracebacks=tracebacks)


def _without_failures(checks: Sequence[Check], found: Sequence[Checked]) -> Verdict:
    if any(one.unknown for one in found):
        return _inconclusive(_unknown(found), found)
    return Verdict("passed" if any(check.on_requests for check in checks) else "measured")


def _with_late_generator(checks: Sequence[Check], lateness: Checked, seen: Observation) -> Verdict:
    """Inconclusive, unless the requests in outages that the generator cannot have made are too many by themselves."""
    record = seen.record
    found = _despite_lag(checks, seen, record)
    missed = list(_missed(found))
    for part in record.parts:
        own = record.of_part(part)
        seen_of_part = Observation(own, measure_record(own))
        of_part = _despite_lag(_checks_of(part, seen_of_part), seen_of_part, record)
        missed += [f"{part}: {reason}" for reason in _missed(of_part)]
    if missed:
        # What the table counts is more, so this says what the reasons count.
        sure = "it fails by outages that lasted far longer than that, and these reasons count nothing else"
        late = [f"{reason}; {sure}" for reason in lateness.unknown]
        return Verdict("failed", (*missed, *late), _tracebacks(found))
    return _inconclusive(lateness.unknown, [lateness])


def _despite_lag(checks: Sequence[Check], seen: Observation, whole: Record) -> tuple[Checked, ...]:
    """What is missed by the outages alone that a generator cannot have made that was as late as in the `whole`."""
    sure = despite_lag(seen.record, seen.measurement, whole)
    if sure is None:
        return ()
    measured = measure_record(sure)
    _, best = in_its_favour(sure, measured)
    on_requests = [check for check in checks if check.on_requests]
    return _ask_each(on_requests, best or Observation(sure, measured, at_best=True))


def _with_failures(found: Sequence[Checked], at_best: Sequence[Checked], why: str, measurement: Measurement) -> Verdict:
    missed, certain = _missed(found), _missed(at_best)
    if not certain:
        demands = "a demand was" if len(missed) == 1 else "demands were"
        *others, last = missed
        only = f"{demands} missed only because {why}: {'; '.join([*(one.removesuffix('.') for one in others), last])}"
        return _inconclusive((only, *_unknown(found)), [*found, *at_best])
    if measurement.not_sent:
        # Their number is in the figures of what was lost, so this prints those of the better case.
        unsent = f"{not_sent(measurement)}; it fails even if all of these had been answered at once"
        return Verdict("failed", (*certain, unsent), _tracebacks([*found, *at_best]))
    return Verdict("failed", (*missed, *_unknown(found)), _tracebacks(found))


def _inconclusive(reasons: tuple[str, ...], found: Iterable[Checked]) -> Verdict:
    return Verdict("inconclusive", reasons, _tracebacks(found))


# -- asking --------------------------------------------------------------------------------------------------------


def ask(check: Check, seen: Observation) -> Checked:
    """What a check finds. If it raises an exception, nothing is known of what it demands."""
    try:
        needs = tuple(_text(need) for need in check.needs(seen))
        objections = () if needs else tuple(_objection(one) for one in check.judge(seen))
        if seen.held_up and not check.on_requests:
            # What does not follow from requests, as a recovery in time, may have waited for a processor too.
            objections = tuple(one for one in objections if isinstance(one, Unknown) or one.whatever_the_load)
    except Exception as error:
        what = f"{type(error).__name__}: {error}".splitlines()[0]
        reason = f"the check {check.name} raised {what}, so it is unknown whether its demands are met"
        text = "".join(traceback.format_exception(error))
        return Checked(check.name, unknown=(reason,), traceback=text, on_requests=check.on_requests)
    missed = tuple(one.reason for one in objections if isinstance(one, Missed))
    unknown = tuple(one.reason for one in objections if isinstance(one, Unknown))
    return Checked(check.name, missed=missed, certain=missed, unknown=(*needs, *unknown), on_requests=check.on_requests)


def _ask_each(checks: Iterable[Check], seen: Observation) -> tuple[Checked, ...]:
    return tuple(ask(check, seen) for check in checks)


def _text(need: object) -> str:
    if not isinstance(need, str):
        raise TypeError(f"`needs` gave {need!r}, which is not a sentence")
    return need


def _objection(found: object) -> Objection:
    if not isinstance(found, (Missed, Unknown)):
        raise TypeError(f"`judge` gave {found!r}, which is neither Missed nor Unknown")
    return found


def _refuse_wrong_selectors(record: Record) -> None:
    """A selector that selects nothing of any cluster is the user's error, and not that of a check."""
    if not record.components.unseen:
        for selector in (*record.expectations.replaced, *record.expectations.kept):
            parse_selector(selector)


def _missed(found: Iterable[Checked]) -> tuple[str, ...]:
    return tuple(reason for one in found for reason in one.missed)


def _unknown(found: Iterable[Checked]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(reason for one in found for reason in one.unknown))


def _tracebacks(found: Iterable[Checked]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(one.traceback for one in found if one.traceback))
