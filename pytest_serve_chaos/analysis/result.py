"""What one experiment gave: demands, figures, verdict and identities in one value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pytest_serve_chaos.analysis.components import Components
from pytest_serve_chaos.analysis.growth import WatchedUsage
from pytest_serve_chaos.analysis.identities import Finding
from pytest_serve_chaos.analysis.machine import MachineUse
from pytest_serve_chaos.analysis.scaling import NO_SCALING, Scaling
from pytest_serve_chaos.errors import Inconclusive, SettingsError
from pytest_serve_chaos.events import Event, FaultLanded, NotSettled, RedundancyMissing, RunAgain, has
from pytest_serve_chaos.model import (
    Checked,
    ClusterDescription,
    ConfigWarning,
    Evidence,
    Expectations,
    Identity,
    Measurement,
    Outcome,
    Part,
    Topology,
    Verdict,
)


@dataclass(frozen=True, slots=True)
class Result:
    """One experiment, as its history has it.

    It has one property for each figure of the measurement and the verdict, so that a test asks the result alone; that
    is why it has more of them than other classes may have.

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
        remarks: What the reader of the verdict must know, whatever it is: what was adapted, what was not reached.
        scaling: What autoscalers did since the steady state: `deployments` are those that Serve scales.
        checks: What the checks found that the test brought.
        parts: What the requests to each app showed, if several are asked, and those of each name.
        machine: What the processors of the machine that tests run on did from the steady state to the end.
        doubtful: What of the figures is not the cluster's doing, as of a load generator that was late; "" if all is.
        watched: What its processes used after recovery, against before; None where nobody watched them.
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
    remarks: tuple[str, ...] = ()
    scaling: Scaling = NO_SCALING
    checks: tuple[Checked, ...] = ()
    parts: tuple[Part, ...] = ()
    machine: MachineUse | None = None
    watched: WatchedUsage | None = None
    doubtful: str = ""

    def part(self, name: str) -> Measurement:
        """The figures of the app, or of the requests, of that name.

        Raises:
            SettingsError: The experiment has neither.
        """
        for part in self.parts:
            if part.of.name == name:
                return part.measurement
        raise SettingsError(
            f"the experiment {self.experiment} has no figures of {name!r} alone",
            checked=[str(part.of) for part in self.parts],
            fix=["ask several apps, or give several requests names: then each has figures of its own"],
        )

    def replaced(self, *roles: str, on: str | None = None) -> bool:
        """Whether all components of those roles have new identities, and as many are there again.

        False also if there were none before the fault, or if it was not seen who was alive.

        Args:
            roles: ``head``, ``controller``, ``replicas``, ...; at least one.
            on: A node's name, ``workers``, ``victims`` or ``others``.

        Raises:
            Inconclusive: No fault landed, so nobody was replaced or kept because of it.
            SettingsError: There is no such role.
        """
        return self._holds(self.was_replaced, roles, on)

    def kept(self, *roles: str, on: str | None = None) -> bool:
        """Whether every component of those roles is the very same as before the fault.

        False also if there were none before the fault, or if it was not seen who was alive.

        Args:
            roles: ``head``, ``controller``, ``replicas``, ...; at least one.
            on: A node's name, ``workers``, ``victims`` or ``others``.

        Raises:
            Inconclusive: No fault landed, so nobody was replaced or kept because of it.
            SettingsError: There is no such role.
        """
        return self._holds(self.was_kept, roles, on)

    def _holds(self, find: Callable[[str], Finding], roles: Sequence[str], on: str | None) -> bool:
        findings = [find(role if on is None else f"{role}@{on}") for role in roles]
        if not self.landed:
            why = "; ".join(self.reasons) or "no fault landed"
            raise Inconclusive(f"{self.experiment}: it is unknown who was replaced and who stayed: {why}")
        return bool(findings) and all(finding.holds for finding in findings)

    def was_replaced(self, selector: str) -> Finding:
        """Like `replaced`, for one selector (``replica@workers``), with the reason."""
        return self.components.replaced(selector)

    def was_kept(self, selector: str) -> Finding:
        """Like `kept`, for one selector (``replica@workers``), with the reason."""
        return self.components.kept(selector)

    @property
    def components(self) -> Components:
        """Who was alive before and after, and what is known of those in between."""
        return Components(self.before, self.after, self.gone, self.victims, self.scaling)

    @property
    def landed(self) -> bool:
        """Whether a fault landed."""
        return has(FaultLanded, self.events)

    @property
    def outcome(self) -> Outcome:
        """``passed``, ``failed``, ``inconclusive``; ``measured`` where nothing was demanded of the requests."""
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
    def sent(self) -> int | None:
        """Requests on fresh connections in `measurement.seconds`; None as all figures where nothing was measured."""
        return self.measurement.sent

    @property
    def lost(self) -> int | None:
        """Those of them without a good answer."""
        return self.measurement.lost

    @property
    def late(self) -> int | None:
        """Those of them whose good answer took longer than `measurement.slow_after`."""
        return self.measurement.late

    @property
    def in_flight(self) -> int | None:
        """Lost requests that were in flight when the fault hit."""
        return self.measurement.in_flight

    @property
    def lost_beyond_in_flight(self) -> int | None:
        """All other requests lost from the fault to the end of the observation."""
        return self.measurement.lost_beyond_in_flight

    @property
    def availability(self) -> float | None:
        """The share of requests that were answered well and in time, 0 to 1."""
        return self.measurement.availability

    @property
    def longest_outage(self) -> float | None:
        """Seconds of the longest outage; 0.0 when nothing was lost or late."""
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
        """Seconds from the fault until the post-recovery check passed; None: it never did."""
        return self.measurement.settled

    @property
    def never_redundant(self) -> bool:
        """Whether redundancy did not come back."""
        if self.redundancy_back is not None or not self.landed:
            return False
        allowed = self.expectations.redundancy_back
        in_vain = has(RedundancyMissing, self.events)
        return in_vain or (allowed is not None and self.measurement.observed >= allowed)

    @property
    def run_again(self) -> bool:
        """Whether a plugin ran its test again, so that the later experiment counts, and not this one."""
        return has(RunAgain, self.events)

    @property
    def never_settled(self) -> bool:
        """Whether the post-recovery check ran and did not pass."""
        return self.settled is None and has(NotSettled, self.events)

    @property
    def never(self) -> tuple[str, ...]:
        """Of ``traffic_back``, ``redundancy_back`` and ``settled`` those that did not come while it was observed."""
        without_traffic = self.sent is not None and self.traffic_back is None
        each = {
            "traffic_back": without_traffic,
            "redundancy_back": self.never_redundant,
            "settled": self.never_settled,
        }
        return tuple(name for name, never in each.items() if never)
