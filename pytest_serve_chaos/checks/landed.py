"""Whether a fault was applied, and landed: without that nothing that follows says anything about it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from pytest_serve_chaos.analysis.record import Record
from pytest_serve_chaos.analysis.words import limit, listing
from pytest_serve_chaos.checks.base import Objection, Observation


@dataclass(frozen=True, slots=True)
class Landed:
    """Each fault that was asked for has evidence that it landed."""

    name: ClassVar[str] = "landed"
    on_requests: ClassVar[bool] = False

    def needs(self, seen: Observation) -> Iterator[str]:
        """The evidence."""
        record = seen.record
        if record.why_not_started:
            yield from record.why_not_started
        elif record.asked is None:
            yield _not_asked(record)
        elif record.faults == 1 and record.not_landed:
            yield _without_evidence(record, record.asked)
        else:
            yield from _some_without_evidence(record)

    def judge(self, seen: Observation) -> Iterator[Objection]:
        """Demands nothing more."""
        yield from ()


def _not_asked(record: Record) -> str:
    if not record.last_phase:
        return "no fault was asked for while this traffic was sent"
    return f"no fault was asked for: it ended in the phase {record.last_phase}"


def _without_evidence(record: Record, asked: float) -> str:
    signs = listing(evidence.text for evidence in record.evidence) or "none"
    seconds = record.end - asked
    within = f" within {limit(round(seconds, 1))}" if seconds >= 0.1 else ""
    return f"the fault did not land{within}; signs of it: {signs}"


def _some_without_evidence(record: Record) -> Iterator[str]:
    for event in record.not_landed:
        yield f"one of {record.faults} faults did not land: {event.text}"
    if not record.landed and not record.not_landed:
        yield "no fault landed"
