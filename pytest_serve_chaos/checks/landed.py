"""Whether a fault was applied, and landed: without that nothing that follows says anything about it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from pytest_serve_chaos.analysis.faults import Faults, was_cut_off
from pytest_serve_chaos.analysis.record import Record
from pytest_serve_chaos.analysis.words import limit, listing
from pytest_serve_chaos.checks.base import Objection, Observation
from pytest_serve_chaos.events import NotStarted, PhaseBegan


@dataclass(frozen=True, slots=True)
class Landed:
    """Each fault that was asked for has evidence that it landed."""

    name: ClassVar[str] = "landed"
    on_requests: ClassVar[bool] = False

    def needs(self, seen: Observation) -> Iterator[str]:
        """The evidence."""
        record, faults = seen.record, seen.record.faults
        why_not_started = record.texts(NotStarted)
        if why_not_started:
            yield from why_not_started
        elif record.asked is None:
            yield _not_asked(record)
        elif len(faults.asked) == 1 and faults.not_landed:
            yield _without_evidence(record, record.asked)
        else:
            yield from _some_without_evidence(record, faults)

    def judge(self, seen: Observation) -> Iterator[Objection]:
        """Demands nothing more."""
        yield from ()


def _not_asked(record: Record) -> str:
    phases = record.texts(PhaseBegan)
    if not phases:
        return "the test injected no fault while this traffic was sent"
    return f"the test injected no fault: it ended in the phase {phases[-1]}"


def _without_evidence(record: Record, asked: float) -> str:
    signs = listing(evidence.text for evidence in record.faults.evidence) or "none"
    if was_cut_off(record.faults.asked[-1], record.events):
        return f"the history ends before it shows whether the fault landed; signs of it: {signs}"
    seconds = record.end - asked
    within = f" within {limit(round(seconds, 1))}" if seconds >= 0.1 else ""
    return f"the fault did not land{within}; signs of it: {signs}"


def _some_without_evidence(record: Record, faults: Faults) -> Iterator[str]:
    for event in faults.not_landed:
        if was_cut_off(event, record.events):
            yield f"the history ends before it shows whether one of {len(faults.asked)} faults landed: {event.text}"
        else:
            yield f"one of {len(faults.asked)} faults did not land: {event.text}"
    if not faults.have_landed and not faults.not_landed:
        yield "no fault landed"
