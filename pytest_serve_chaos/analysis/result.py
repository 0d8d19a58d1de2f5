"""What one experiment gave: demands, figures, verdict and identities in one value."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_serve_chaos.analysis import identities
from pytest_serve_chaos.analysis.configuration import ConfigWarning
from pytest_serve_chaos.analysis.measure import measure_record
from pytest_serve_chaos.analysis.record import Record, description_of, read_record, run_event, warnings_of
from pytest_serve_chaos.analysis.verdict import judge_record
from pytest_serve_chaos.history import History
from pytest_serve_chaos.model import (
    ClusterDescription,
    Event,
    Evidence,
    Expectations,
    Identity,
    Measurement,
    Outcome,
    Topology,
    Verdict,
)


@dataclass(frozen=True, slots=True)
class Result:
    """One experiment, as its history has it.

    Attributes:
        experiment: Its name.
        fault: What was broken and how, in words; "" if nothing was.
        description: The cluster under test, where the history says it.
        expectations: What was demanded.
        measurement: The figures.
        verdict: Passed, failed or inconclusive, and why.
        before: Who was alive in steady state, where it was seen.
        after: Who was alive when all was over, where it was seen.
        evidence: The signs that the fault landed.
        victims: What the fault was aimed at.
        gone: What was seen to go and did not come again.
        events: All its events, in order of time.
        warnings: What the check of the configuration said of this fault just before it.
    """

    experiment: str
    fault: str
    description: ClusterDescription | None
    expectations: Expectations
    measurement: Measurement
    verdict: Verdict
    before: Topology | None = None
    after: Topology | None = None
    evidence: tuple[Evidence, ...] = ()
    victims: tuple[Identity, ...] = ()
    gone: frozenset[Identity] = frozenset()
    events: tuple[Event, ...] = ()
    warnings: tuple[ConfigWarning, ...] = ()

    def replaced(self, *roles: str, on: str | None = None) -> bool:
        """Whether all components of those roles have new identities, and as many are there again.

        False also if there were none before the fault, or if it was not seen who was alive.

        Args:
            roles: ``head``, ``controller``, ``replicas``, ...; at least one.
            on: A node's name, ``workers``, ``victims`` or ``others``.

        Raises:
            SettingsError: There is no such role.
        """
        findings = [self.was_replaced(role if on is None else f"{role}@{on}") for role in roles]
        return bool(findings) and all(finding.holds for finding in findings)

    def kept(self, *roles: str, on: str | None = None) -> bool:
        """Whether every component of those roles is the very same as before the fault.

        False also if there were none before the fault, or if it was not seen who was alive.

        Args:
            roles: ``head``, ``controller``, ``replicas``, ...; at least one.
            on: A node's name, ``workers``, ``victims`` or ``others``.

        Raises:
            SettingsError: There is no such role.
        """
        findings = [self.was_kept(role if on is None else f"{role}@{on}") for role in roles]
        return bool(findings) and all(finding.holds for finding in findings)

    def was_replaced(self, selector: str) -> identities.Finding:
        """Like `replaced`, for one selector (``replica@workers``), with the reason."""
        identities.parse_selector(selector)
        if self.before is None or self.after is None:
            return _unseen(self.before)
        return identities.replaced(self.before, self.after, selector, self.gone, victims=self.victims)

    def was_kept(self, selector: str) -> identities.Finding:
        """Like `kept`, for one selector (``replica@workers``), with the reason."""
        identities.parse_selector(selector)
        if self.before is None or self.after is None:
            return _unseen(self.before)
        return identities.kept(self.before, self.after, selector, self.gone, victims=self.victims)

    @property
    def outcome(self) -> Outcome:
        """``passed``, ``failed`` or ``inconclusive``."""
        return self.verdict.outcome

    @property
    def passed(self) -> bool:
        """Whether all that was demanded was judged and met."""
        return self.verdict.outcome == "passed"

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it did not pass."""
        return self.verdict.reasons

    @property
    def sent(self) -> int:
        """Requests in the window, over fresh connections."""
        return self.measurement.sent

    @property
    def lost(self) -> int:
        """Those of them without a good answer."""
        return self.measurement.lost

    @property
    def in_flight(self) -> int:
        """Lost requests that were in flight when the fault landed."""
        return self.measurement.in_flight

    @property
    def lost_beyond_in_flight(self) -> int:
        """All other requests lost from the fault to the end of the observation."""
        return self.measurement.lost_beyond_in_flight

    @property
    def availability(self) -> float:
        """The share of good answers in the window, 0 to 1."""
        return self.measurement.availability

    @property
    def longest_outage(self) -> float:
        """Seconds of the longest outage; 0.0 when nothing was lost."""
        return self.measurement.longest_outage

    @property
    def traffic_back(self) -> float | None:
        """Seconds from the fault until traffic was back; 0.0: it was never away; None: it never came back."""
        return self.measurement.traffic_back

    @property
    def redundancy_back(self) -> float | None:
        """Seconds from the fault until the shape was that of the steady state; None: never."""
        return self.measurement.redundancy_back

    @property
    def settled(self) -> float | None:
        """Seconds from the fault until the aftershock was passed; None: never."""
        return self.measurement.settled

    @property
    def never_redundant(self) -> bool:
        """Whether redundancy had the time that was allowed, and did not come back."""
        allowed = self.expectations.redundancy_back
        return self.redundancy_back is None and allowed is not None and self.measurement.observed >= allowed

    @property
    def never_settled(self) -> bool:
        """Whether the aftershock was run, and not passed."""
        return self.settled is None and any(event.kind == "unsettled" for event in self.events)


def result_of(history: History, experiment: str) -> Result:
    """All that a history says of an experiment.

    Raises:
        HistoryError: The history has nothing of that experiment.
        SettingsError: A selector in its expectations is none.
    """
    record = read_record(history, experiment)
    measurement = measure_record(record)
    return Result(
        experiment=experiment,
        fault=record.fault,
        description=description_of(run_event(history, experiment)),
        expectations=record.expectations,
        measurement=measurement,
        verdict=judge_record(record, measurement),
        before=record.before,
        after=record.after,
        evidence=record.evidence,
        victims=record.victims,
        gone=record.gone,
        events=record.events,
        warnings=_foreseen(record, warnings_of(history, experiment)),
    )


def _foreseen(record: Record, warnings: tuple[ConfigWarning, ...]) -> tuple[ConfigWarning, ...]:
    """Those that concern what this experiment broke."""
    before = record.before
    hit = {c.node for c in before.components if c.identity in record.victims} if before is not None else set()
    return tuple(w for w in warnings if record.kinds.intersection(w.faults) and (not w.node or w.node in hit))


def _unseen(before: Topology | None) -> identities.Finding:
    return identities.Finding(
        False, f"it was not seen who was alive {'before the fault' if before is None else 'after it'}"
    )
