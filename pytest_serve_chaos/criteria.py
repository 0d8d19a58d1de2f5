"""By what an experiment is judged: the fault's defaults, the demands of the test, and what its requests can show."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from pytest_serve_chaos.analysis.demands import can_show, not_shown, patience, window_for, with_demands
from pytest_serve_chaos.analysis.identities import nobody
from pytest_serve_chaos.analysis.words import limit
from pytest_serve_chaos.checks.base import Check
from pytest_serve_chaos.cluster.waits import Waits
from pytest_serve_chaos.errors import SettingsError
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.faults.spec import FaultChoice
from pytest_serve_chaos.load import JudgedParts, Load, write_expectations
from pytest_serve_chaos.model import Expectations, Identity, PartDemands, Topology
from pytest_serve_chaos.outlook import Outlook
from pytest_serve_chaos.schedule import Schedule
from pytest_serve_chaos.steady import replicas_to_reach


@dataclass(frozen=True)
class Criteria:
    """By what one experiment is judged, as far as that is known before anything is broken.

    Attributes:
        load: The requests that are sent.
        fault: What breaks.
        defaults: What the fault demands of such a cluster where the test says nothing.
        parts: Which apps and which names of requests are judged by themselves.
        demands: What the test demands.
        checks: The checks that judge it in addition.
        at: Seconds from steady state to the fault.
    """

    load: Load
    fault: FaultChoice
    defaults: Expectations
    parts: JudgedParts
    demands: Mapping[str, object]
    checks: tuple[Check, ...] = ()
    at: float = 0.0

    @cached_property
    def demanded(self) -> Expectations:
        """What is demanded of all requests together.

        The window, and what an outage may last at least, grow so that there are enough requests to judge them on: the
        window to that of the app with the fewest, the outage of each app by its own requests in all of that window.

        Raises:
            SettingsError: There is no such demand, or it cannot be met.
        """
        expected = with_demands(self.defaults, self.demands)
        self._require_time_for_redundancy(expected)
        if "window" not in self.demands:
            expected = replace(expected, window=window_for(expected, self.parts.schedule, self.at))
        defaults = replace(self.defaults, window=expected.window)
        return with_demands(can_show(defaults, self.load.schedule, self.at), self.demands)

    def _require_time_for_redundancy(self, expected: Expectations) -> None:
        back, held_for = expected.redundancy_back, self.fault.held_for
        if "redundancy_back" in self.demands and back is not None and back <= held_for:
            raise SettingsError(
                f"redundancy_back={limit(back)} counts from the fault, whose victim is down for {limit(held_for)}",
                fix=[f"allow more than that: redundancy_back='{held_for + 120:g}s'", "or keep it down for less: for_"],
            )

    @property
    def expected(self) -> Expectations:
        """The same, with what the settings say of all traffic."""
        return self.load.applied_to(self.demanded)

    @cached_property
    def of_parts(self) -> tuple[PartDemands, ...]:
        """What is demanded of each app, and of each name of requests."""
        return self.parts.demands(replace(self.defaults, window=self.expected.window), self.demands, self.at)

    def not_shown(self, topology: Topology) -> Iterator[str]:
        """What is demanded and cannot be shown by all requests, or by those of one app; or what the fault needs.

        Args:
            topology: Who is alive: each proxy has a persistent connection.
        """
        whole, proxies = self.load.schedule, len(topology.of("proxy"))

        def of_requests(demanded: Expectations, schedule: Schedule) -> Iterator[str]:
            share = schedule.first / whole.first
            return not_shown(
                demanded,
                schedule=schedule,
                timeout=self.load.timeout,
                since=self.at,
                persistent_rate=self.load.persistent_rate * proxies * share,
            )

        if not self.parts.apps:
            yield from of_requests(self.demanded, whole)
        for own in self.of_parts:
            if own.of.kind == "app":
                reasons = of_requests(own.within(self.demanded), self.parts.own[own.of])
                yield from (f"{own.of}: {reason}" for reason in reasons)
        # What a fault needs must be so in the slowest stage that it may meet.
        yield from self.fault.not_shown(topology, whole.least(self.at, self.demanded.window))

    @property
    def adapted_parts(self) -> Iterator[str]:
        """For which apps a default is another one than for all requests, a sentence each."""
        expected = self.expected
        for own in self.of_parts:
            longest = own.longest_outage
            if own.of.kind == "app" and longest is not None and longest != expected.longest_outage:
                spacing = self.parts.own[own.of].spacing(expected.window, self.at)
                yield (
                    f"{own.of}: outages of {limit(round(longest, 3))} are allowed, because its requests are up to"
                    f" {limit(round(spacing, 3))} apart"
                )

    def for_slow_answers(self, expected: Expectations, usual: float) -> Expectations:
        """Judges for longer where answers take seconds, unless the test says for how long.

        Args:
            expected: What is demanded.
            usual: What answers take in steady state, seconds.
        """
        if "window" in self.demands:
            return expected
        return replace(expected, window=expected.window + patience(usual))

    def of_those_there(
        self, expected: Expectations, before: Topology, victims: Collection[Identity]
    ) -> tuple[Expectations, list[str]]:
        """Takes back what the fault demands by default of components that this cluster has not.

        Args:
            expected: What is demanded.
            before: Who was alive before the fault.
            victims: Whom it hit.

        Returns:
            What is left, and a sentence for each that is not judged.
        """
        said: list[str] = []

        def there(name: str, selectors: tuple[str, ...]) -> tuple[str, ...]:
            if name in self.demands:
                return selectors
            nobodies = {s: why for s in selectors if (why := nobody(before, s, victims=victims))}
            said.extend(f"whether {selector} is {name} is not judged: {why}" for selector, why in nobodies.items())
            return tuple(s for s in selectors if s not in nobodies)

        replaced, kept = there("replaced", expected.replaced), there("kept", expected.kept)
        return replace(expected, replaced=replaced, kept=kept), said

    def outlook(self, expected: Expectations, topology: Topology, waits: Waits) -> Outlook:
        """How long it will take, by what is known before.

        Args:
            expected: What is demanded.
            topology: Who is alive: each replica must answer before the fault and after it.
            waits: How long the plugin waits for such a cluster.
        """
        return Outlook(
            expected=expected,
            schedule=self.load.schedule,
            timeout=self.load.timeout,
            persistent_rate=self.load.persistent_rate,
            at=self.at,
            replicas=replicas_to_reach(topology, self.parts.shares),
            waits=waits,
            app=self.parts.rarest,
            of_app=self.parts.schedule,
        )


def write_criteria(rig: Rig, criteria: Criteria, expected: Expectations) -> None:
    """Writes to the history what is demanded now; the last that was written counts."""
    write_expectations(
        rig.log,
        expected,
        autoscaled=rig.health.shape.autoscaled,
        checks=criteria.checks,
        parts=criteria.parts,
        of_parts=criteria.of_parts,
    )
