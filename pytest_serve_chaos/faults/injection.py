"""One fault applied once: asked for, proved by two independent signs, watched, healed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

from pytest_serve_chaos import clock
from pytest_serve_chaos.analysis.identities import kept, replaced
from pytest_serve_chaos.analysis.outages import find_outages, until_the_first_in_flight
from pytest_serve_chaos.clock import NotYet, seconds
from pytest_serve_chaos.errors import ExpectationFailed, Inconclusive, ServeChaosError, WaitTimeout
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.model import Component, Evidence, Identity, Json, Topology
from pytest_serve_chaos.observe.handles import check_handles
from pytest_serve_chaos.observe.settling import settle
from pytest_serve_chaos.observe.shape import lacks
from pytest_serve_chaos.progress import now_and_then, still

_QUIET = 1.0
"""Seconds of good answers only, until traffic counts as back; the same as the gap that ends an outage."""

_BEFORE = 10.0
"""Seconds before the fault from which requests are looked at: the first after it may still be in flight."""

_NO_CHANGE = 4.0
"""Seconds without any change of the topology, after which nothing more is on its way."""


@dataclass(frozen=True, slots=True)
class Strike:
    """What a fault did at once.

    Attributes:
        asked: When the first signal could have hit.
        evidence: The signs from the victim's side.
    """

    asked: float
    evidence: Sequence[Evidence]


class Fault(Protocol):
    """One way to break one target that has been chosen."""

    @property
    def kind(self) -> str:
        """The marker's name: ``head_failure``."""
        ...

    @property
    def text(self) -> str:
        """What it does, for people: ``SIGKILL to all processes of head``."""
        ...

    @property
    def victims(self) -> tuple[Component, ...]:
        """What it hits."""
        ...

    @property
    def serves(self) -> bool:
        """Whether the victims answer requests themselves, so that some must have answered before."""
        ...

    @property
    def sick(self) -> tuple[Component, ...]:
        """Victims that live on when it has landed: redundancy is not back as long as one of them is there."""
        ...

    @property
    def sign_within(self) -> float:
        """Seconds in which the cluster's own sign must be seen."""
        ...

    def strike(self) -> Strike:
        """Breaks it, and waits for the victim's own sign."""
        ...

    def sign(self, struck: float) -> Evidence | None:
        """The cluster's sign that it broke, if it can be seen now; `struck` is when the victim's own sign was."""
        ...

    def heal(self) -> None:
        """Puts back what the platform does not put back by itself. May be called twice."""
        ...


class Injection:
    """A fault that was injected. As a context manager it heals on leaving.

    Args:
        rig: Where.
        fault: What.
        hold_for: Seconds after which it is healed by itself; None: when somebody heals it.
    """

    def __init__(self, rig: Rig, fault: Fault, *, hold_for: float | None = None) -> None:
        self.rig = rig
        self.fault = fault
        self.before = rig.watcher.sample()
        self.experiment = rig.experiment
        self.evidence: tuple[Evidence, ...] = ()
        self.landed_at: float | None = None
        self.asked = 0.0
        self._healed = False
        self._healing = threading.Lock()
        self._timer: threading.Timer | None = None
        rig.injections.append(self)  # before anything is broken, so that it is healed whatever happens
        self._inject()
        if hold_for is not None:
            self._timer = threading.Timer(max(0.0, self.asked + hold_for - clock.now()), self._heal_when_due)
            self._timer.daemon = True
            self._timer.start()

    @property
    def landed(self) -> bool:
        """Whether two independent signs were seen, one of them the victim's own."""
        return self.landed_at is not None

    def heal(self) -> None:
        """Puts back what was broken. What was put back stays so, what could not be is tried again by the next call."""
        with self._healing:
            if self._healed:
                return
            self.fault.heal()
            self._healed = True
            self._write("healed", f"healed: {self.fault.text}")

    def _heal_when_due(self) -> None:
        """In a thread of its own, where nobody would hear of an error: `close` tries again, and raises it."""
        try:
            self.heal()
        except ServeChaosError as error:
            self._write("note", f"not healed yet: {error.what}")

    def __enter__(self) -> Injection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Heals what is not healed yet, and ends the timer of a fault that heals itself."""
        if self._timer is not None:
            self._timer.cancel()
        self.heal()

    # -- waiting ------------------------------------------------------------------------------------------------

    def wait_traffic_back(self, timeout: float | str = 30.0) -> float:
        """Waits until requests are answered again.

        Returns:
            Seconds from the fault to the end of the last outage; 0.0 if there was none.

        Raises:
            ExpectationFailed: It is not back after `timeout` seconds.
            Inconclusive: There is no traffic.
        """

        def back() -> float | NotYet:
            fresh = [r for r in self.rig.history.requests_since(self.asked - _BEFORE) if not r.kept]
            requests = [r for r in until_the_first_in_flight(fresh) if r.scheduled >= self.asked]
            if not requests:
                return NotYet("requests are in flight since the fault" if fresh else "no requests")
            newest = max(r.scheduled for r in requests)
            outages = find_outages(requests)
            if not outages:
                quiet_for, end = newest - self.asked, self.asked
            elif outages[-1].end is None:
                return NotYet(f"requests are lost since {outages[-1].start - self.asked:.1f} s after the fault")
            else:
                quiet_for, end = newest - outages[-1].end, outages[-1].end
            return end - self.asked if quiet_for >= _QUIET else NotYet(f"good answers for {quiet_for:.1f} s only")

        tell = self._tell("traffic is not back")
        try:
            return clock.wait_until("traffic to be back", back, timeout=seconds(timeout), interval=0.1, on_wait=tell)
        except WaitTimeout as error:
            if error.last_seen == "no requests":
                raise Inconclusive(
                    "there is no traffic to come back", mend=["inject inside `with traffic():`"]
                ) from error
            raise ExpectationFailed(f"traffic is not back: {error}") from error

    def wait_redundancy_back(self, timeout: float | str = 120.0) -> float:
        """Waits until all nodes, replicas and proxies of the steady state are there again.

        Returns:
            Seconds from the fault.

        Raises:
            ExpectationFailed: It is not back after `timeout` seconds.
        """

        def back() -> float | NotYet:
            missing = self.missing()
            return NotYet("; ".join(missing)) if missing else clock.now() - self.asked

        tell = self._tell("redundancy is not back")
        try:
            took = clock.wait_until("redundancy to be back", back, timeout=seconds(timeout), interval=0.2, on_wait=tell)
        except WaitTimeout as error:
            raise ExpectationFailed(f"redundancy is not back: {error}") from error
        self._write("redundancy_back", f"redundancy is back {took:.1f} s after the fault")
        return took

    def wait_settled(self) -> float:
        """The aftershock: adds an app and scales it up; every proxy must serve its route, and reach the new replica.

        On a borrowed cluster, whose config is not ours to change, one replica on each proxy's node is replaced instead,
        and each proxy must send requests to the new ones.

        Returns:
            Seconds from the fault.

        Raises:
            ExpectationFailed: A proxy did not hear of it.
            Inconclusive: It cannot be told.
        """
        result = settle(self.rig.cluster, self.rig.watcher, self.rig.canaries)
        for proxy in result.deaf:
            self._write("proxy_deaf", f"{proxy.name} does not hear the controller", {"proxy": proxy.name})
        if result.untold and not result.deaf:
            self._write("note", result.text)
            raise Inconclusive(result.text)
        if not result.passed:
            self.rig.spoilt = result.text
            self._write("unsettled", result.text)
            raise ExpectationFailed(result.text)
        self._write("settled", result.text)
        return clock.now() - self.asked

    def wait_children_reached(self) -> float:
        """The aftershock of handles: replaces one child of each composed app; its parents must reach the new one.

        Requests in flight on that child are lost. It needs traffic, and does nothing where no replica holds a handle.

        Returns:
            Seconds from the fault.

        Raises:
            ExpectationFailed: A parent did not.
            Inconclusive: Serve does not say whether any replica holds one.
        """
        result = check_handles(self.rig.cluster, self.rig.watcher, self.rig.steady_since)
        if not result.passed:
            self.rig.spoilt = result.text
            self._write("unsettled", result.text)
            raise ExpectationFailed(result.text)
        if result.children:
            self._write("settled", result.text)
        return clock.now() - self.asked

    def wait_at_rest(self, timeout: float | str = 60.0) -> float:
        """Waits until nothing comes or goes any more: a cluster that lacks a node has then done all that it can.

        Returns:
            Seconds from the fault to the last change.

        Raises:
            ExpectationFailed: It did not come to rest in `timeout` seconds.
        """
        changed = clock.now()
        last = frozenset(c.identity for c in self.rig.watcher.sample().components)

        def quiet() -> float | NotYet:
            nonlocal changed, last
            now = frozenset(c.identity for c in self.rig.watcher.sample().components)
            if now != last:
                changed, last = clock.now(), now
            still = clock.now() - changed
            return changed - self.asked if still >= _NO_CHANGE else NotYet(f"something changed {still:.1f} s ago")

        tell = self._tell("not at rest")
        try:
            return clock.wait_until("the cluster to come to rest", quiet, timeout=seconds(timeout), on_wait=tell)
        except WaitTimeout as error:
            raise ExpectationFailed(str(error)) from error

    def still_missing_after(self, duration: float | str) -> bool:
        """Whether no successor of the victims comes for that long; returns as soon as one does.

        For what a cluster cannot mend in some state: a replica that dies while the head is away is not replaced.
        """
        end = clock.now() + seconds(duration)
        had = {c.identity for c in self.before.components}
        wanted = {(v.role, v.deployment) for v in self.fault.victims if v.role in ("replica", "proxy", "controller")}
        while clock.now() < end:
            came = [c for c in self.rig.watcher.sample().components if c.identity not in had]
            if any((c.role, c.deployment) in wanted for c in came):
                return False
            threading.Event().wait(0.2)
        return True

    def missing(self) -> list[str]:
        """What of the steady state's redundancy is not there now, in words."""
        topology, report = self.rig.watcher.sample(), self.rig.watcher.report
        if report.at < self.asked:
            return ["Ray and Serve have said nothing since the fault"]
        sick = [f"{c.name} (PID {c.pid}) is not replaced" for c in self.fault.sick if topology.find(c.identity)]
        return sick + lacks(topology, report, self.rig.shape)

    # -- who changed --------------------------------------------------------------------------------------------

    def replaced(self, *selectors: str, on: str | None = None) -> bool:
        """Whether all of these have new identities: ``replaced("replicas", on="worker-1")``."""
        now, gone = self._now()
        victims = self._victims()
        return all(replaced(self.before, now, _selector(s, on), gone, victims=victims).holds for s in selectors)

    def kept(self, *selectors: str, on: str | None = None) -> bool:
        """Whether all of these are the very same as before the fault: ``kept("replicas", on="workers")``."""
        now, gone = self._now()
        victims = self._victims()
        return all(kept(self.before, now, _selector(s, on), gone, victims=victims).holds for s in selectors)

    def _victims(self) -> frozenset[Identity]:
        return frozenset(c.identity for c in self.fault.victims)

    def _now(self) -> tuple[Topology, frozenset[Identity]]:
        topology = self.rig.watcher.sample()
        return topology, self.rig.watcher.gone

    # -- injecting ----------------------------------------------------------------------------------------------

    def _inject(self) -> None:
        served = self.rig.answers_of(self.fault.victims, since=self.rig.steady_since) if self.fault.serves else None
        self.rig.progress(f"inject: {self.fault.text}")
        with still("at it", self.rig.progress, who="inject"):
            strike = self.fault.strike()
        self.asked = strike.asked
        self._write("asked", self.fault.text, {"fault": self.fault.kind}, at=strike.asked)
        for sign in strike.evidence:
            self._add(sign)
        if not any(sign.side == "victim" for sign in strike.evidence):
            self._write("note", "the fault is not proved: there is no sign of it from the victim's side")
            return
        struck = min(sign.at for sign in strike.evidence)

        def look() -> Evidence | NotYet:
            return self.fault.sign(struck) or NotYet("no sign yet")

        try:
            self._add(
                clock.wait_until(
                    "a sign of the fault in the cluster", look, timeout=self.fault.sign_within, interval=0.1
                )
            )
        except WaitTimeout as error:
            self._write("note", f"the fault is not proved: {error}")
            return
        self.landed_at = struck
        victims: list[Json] = [str(c.identity) for c in self.fault.victims]
        text = f"landed: {self.evidence[0].text}; {self.evidence[-1].text}"
        self._write("landed", text, {"victims": victims, "served": served}, at=struck)

    def _add(self, sign: Evidence) -> None:
        self.evidence = (*self.evidence, sign)
        self._write("evidence", sign.text, {"side": sign.side}, at=sign.at)

    def _tell(self, state: str) -> Callable[[float, str], None]:
        """Says now and then what the state is, for people who wait."""

        def say(_: float, seen: str) -> None:
            self.rig.progress(f"{state} {clock.now() - self.asked:.0f} s after the fault: {seen}")

        return now_and_then(say)

    def _write(self, kind: str, text: str, data: dict[str, Json] | None = None, at: float | None = None) -> None:
        self.rig.history.add(kind, text, at=at, experiment=self.experiment, data=data)


def _selector(name: str, on: str | None) -> str:
    return name if on is None else f"{name}@{on}"
