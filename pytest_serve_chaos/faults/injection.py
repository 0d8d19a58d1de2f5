"""One fault applied once: asked for, proved by two independent signs, watched, healed."""

from __future__ import annotations

from types import TracebackType

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import NotYet, seconds
from pytest_serve_chaos.cluster.dry_run import WITHHOLDS_CHANGES
from pytest_serve_chaos.errors import Inconclusive, NotHealed, NotLanded, WaitTimeout, Withheld
from pytest_serve_chaos.events import Note, RedundancyBack, RedundancyMissing
from pytest_serve_chaos.faults.admission import admit, require_its_owner_left_it_alone
from pytest_serve_chaos.faults.fault import Fault, TakesTime
from pytest_serve_chaos.faults.healing import Healing
from pytest_serve_chaos.faults.landing import land
from pytest_serve_chaos.faults.live_outages import LiveOutages
from pytest_serve_chaos.faults.rest import Rest
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.faults.settling import Settling
from pytest_serve_chaos.faults.succession import Succession
from pytest_serve_chaos.faults.waiting import Waiting
from pytest_serve_chaos.model import Component

HEALS_WITHIN = 60.0
"""Seconds that the healing of one fault may take."""


class NotInjected(Withheld):
    """A fault that would have been injected now, if this were not a dry run.

    Args:
        fault: What.
        hold_for: Seconds after which it would be healed by itself; None: when somebody heals it.
    """

    def __init__(self, fault: Fault, hold_for: float | None) -> None:
        super().__init__(f"this is a dry run, which injects nothing: {fault.text}")
        self.fault = fault
        self.hold_for = hold_for


class Injection:
    """A fault that was injected. As a context manager it heals on leaving.

    It has many methods: one for each thing that a test by hand waits for, or asks, after a fault. They only say what
    that is, and leave the work to modules of one subject each, such as `landing`, `healing` and `succession`.

    Args:
        rig: The cluster under test, and what is recorded about it.
        fault: What.
        hold_for: Seconds after which it is healed by itself; None: when somebody heals it.
        must_land: Whether a fault that did not land is an error.

    Raises:
        NotLanded: It must land, and did not.
        OwnerChangedIt: The cluster is somebody else's, who changed it; nothing more was changed.
        Unsupported: The cluster is somebody else's, and must not be broken in that way; nothing was changed.
        NotInjected: This is a dry run; nothing was changed.
    """

    def __init__(self, rig: Rig, fault: Fault, *, hold_for: float | None = None, must_land: bool = True) -> None:
        self.rig = rig
        self.fault = fault
        self.hold_for = hold_for
        admit(rig, fault.kind, fault.options, fault.victims)  # before anything else, so that nobody gets past it
        if rig.cluster.capability(WITHHOLDS_CHANGES) is not None:
            raise NotInjected(fault, hold_for)
        require_its_owner_left_it_alone(rig)
        allow_total_loss = rig.current.total_loss_allowed
        rig.current.begin_by_hand()
        self.before = rig.watcher.sample()
        self._log = rig.log
        self._healing = Healing(fault, self._log)
        self.number = self._healing.injection = rig.injections.add(self)
        landing = land(rig, fault, before=self.before, number=self.number, hold_for=hold_for, must_land=must_land)
        self.asked, self.evidence, self.landed_at = landing.asked, landing.evidence, landing.at
        self._waiting = Waiting(rig, self._log, self.asked)
        self._settling = Settling(self._waiting, allow_total_loss)
        self._succession = Succession(rig, self._log, self.before, fault.victims)
        if hold_for is not None:
            self._healing.begin_timer(self.asked + hold_for)
        if must_land:
            self._require_landing("this test")

    @property
    def held(self) -> bool:
        """Whether what it hit is kept down, until it is healed or for a time."""
        return bool(getattr(self.fault, "hold", False))

    @property
    def victims(self) -> tuple[Component, ...]:
        """What it has broken and not put back."""
        return self.fault.victims if self._healing.at is None else ()

    @property
    def heals_at_once(self) -> bool:
        """Whether to heal it takes one call and waits for nothing, as of a process that continues."""
        return bool(getattr(self.fault, "heals_at_once", False))

    @property
    def outlives_the_cluster(self) -> bool:
        """Whether what is broken may be outside of the cluster: true of faults of a test itself."""
        return self.fault.kind not in self.rig.run.faults

    @property
    def landed(self) -> bool:
        """Whether two independent signs were seen, one of them the victim's own."""
        return self.landed_at is not None

    def heal(self) -> None:
        """Puts back what was broken. What was put back stays so, what could not be is tried again by the next call."""
        self._healing.heal()

    def __enter__(self) -> Injection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Heals what is not healed yet, and ends the timer of a fault that heals itself."""
        self._healing.close()

    def _require_landing(self, what: str) -> None:
        """A fault that did nothing is survived by every cluster, so nothing may be concluded from it.

        Raises:
            NotLanded: It did not land.
        """
        if self.landed:
            return
        signs = [sign.text for sign in self.evidence] or ["no sign of it at all"]
        raise NotLanded(
            f"the fault did not land, so {what} shows nothing: {self.fault.text}",
            checked=signs,
            fix=["read in the events what became of it", "or go on without it: must_land=False"],
        )

    # -- waiting ------------------------------------------------------------------------------------------------

    def wait_traffic_back(self, timeout: float | str = 30.0) -> float:
        """Waits until requests are answered again.

        Returns:
            Seconds from the fault to the end of the last outage; 0.0 if there was none.

        Raises:
            ExpectationFailed: It is not back after `timeout` seconds.
            Inconclusive: There is no traffic, the fault did not land, or others' work held the machine up.
        """
        self._require_landing("the return of traffic")
        state = "traffic is not back"
        try:
            return self._waiting.until(
                "traffic to be back", self.traffic_back_now, state=state, timeout=timeout, every=0.25
            )
        except WaitTimeout as error:
            if error.last_seen == "no requests":
                raise Inconclusive(
                    "there is no traffic to come back", fix=["inject inside `with traffic():`"]
                ) from error
            raise self._waiting.late(f"{state}: {error}") from error

    def wait_healed(self, timeout: float | str = HEALS_WITHIN) -> float:
        """Waits until a fault that heals by itself (`for_`) has done so; returns at once if it was healed before.

        Args:
            timeout: Seconds that healing may take once it is time.

        Returns:
            Seconds from the fault.

        Raises:
            Inconclusive: Nothing heals it by itself.
            NotHealed: It was time, and it could not be healed.
        """
        if self.hold_for is None:
            raise Inconclusive(f"nothing heals it by itself: {self.fault.text}", fix=["say for how long: for_='20s'"])
        due = self.asked + self.hold_for

        def healed() -> float | NotYet:
            at, left = self._healing.at, due - clock.now()
            return NotYet(f"{left:.0f} s are left" if left > 0 else "not yet") if at is None else at - self.asked

        longest = max(0.0, due - clock.now()) + seconds(timeout)
        try:
            return self._waiting.until("the fault to end", healed, state="it stays broken", timeout=longest)
        except WaitTimeout as error:
            notes = [note.text for note in self._log.of(Note, since=due)]
            raise NotHealed(
                f"it was time to heal it, and that did not work: {self.fault.text}", checked=notes
            ) from error

    def traffic_back_now(self) -> float | NotYet:
        """Seconds from the fault to the end of the last outage of any app, once all has been well for a while.

        A request in flight counts as away once it has waited too long. Until then nothing is known of it, nor of what
        came after it: what a silent node swallowed says nothing until then.
        """
        rig = self.rig
        return LiveOutages(rig.history, rig.traffic, self.asked, rig.waits.quiet).end()

    def wait_redundancy_back(self, timeout: float | str = 120.0) -> float:
        """Waits until all nodes, replicas and proxies of the steady state are there again.

        Returns:
            Seconds from the fault.

        Raises:
            ExpectationFailed: It is not back after `timeout` seconds.
            Inconclusive: The fault did not land, or others' work held the machine up.
        """
        self._require_landing("the return of redundancy")

        def back() -> float | NotYet:
            missing = self.missing()
            return NotYet("; ".join(missing)) if missing else self._waiting.passed

        state = "redundancy is not back"
        try:
            took = self._waiting.until("redundancy to be back", back, state=state, timeout=timeout)
        except WaitTimeout as error:
            self._log.add(RedundancyMissing(f"{state}: {error.what}"))
            raise self._waiting.late(f"{state}: {error}") from error
        self._log.add(RedundancyBack(f"redundancy is back {took:.1f} s after the fault"))
        return took

    def wait_settled(self) -> float:
        """The post-recovery check: adds an app and scales it up, and asks each proxy for its route and the new replica.

        What that costs other requests is not the fault's doing: ask for it after `assert_available`.

        On an external cluster, whose config the plugin does not change, it replaces one replica on each proxy's node
        instead, and each proxy must send requests to the new ones.

        Returns:
            Seconds from the fault.

        Raises:
            ExpectationFailed: A proxy did not hear of it.
            Inconclusive: Nobody can know, or the fault did not land.
        """
        self._require_landing("the post-recovery check")
        self._settling.check_proxies()
        return self._waiting.passed

    def wait_children_reached(self) -> float:
        """The post-recovery check of handles: replaces one child of each composed app, whose parents must reach it.

        Requests in flight on that child are lost. It needs traffic, and does nothing where no replica holds a handle.

        Returns:
            Seconds from the fault.

        Raises:
            ExpectationFailed: A parent did not.
            Inconclusive: Serve does not say whether any replica holds one, or the logs do not say who reached whom.
        """
        self._settling.check_handles()
        return self._waiting.passed

    def wait_at_rest(self, timeout: float | str = 60.0) -> float:
        """Waits until nothing comes or goes any more: a cluster that lacks a node has then done all that it can.

        While the GCS is away that is not before Ray's nodes have given it up, where they do so within `timeout`.

        Returns:
            Seconds from the fault to the last change.

        Raises:
            ExpectationFailed: It did not come to rest in `timeout` seconds.
            Inconclusive: The fault did not land, or others' work held the machine up.
        """
        self._require_landing("the rest of the cluster")
        rest = Rest(self.rig, self.asked, seconds(timeout))
        try:
            return self._waiting.until("the cluster to come to rest", rest.look, state="not at rest", timeout=timeout)
        except WaitTimeout as error:
            raise self._waiting.late(str(error)) from error

    def still_missing_after(self, duration: float | str) -> bool:
        """Whether no successor of the victims comes for that long; returns as soon as one does.

        For what a cluster cannot replace in some state: a replica that dies while the head is away is not replaced.

        Raises:
            Inconclusive: The fault did not land, or what it hit never goes away (as where it is frozen).
        """
        self._require_landing("the absence of a successor")
        return self._succession.nobody_comes(duration)

    def missing(self) -> list[str]:
        """What of the steady state's redundancy is not there now, in words."""
        missing = self.rig.health.missing(since=self.asked, sick=self.fault.sick)
        return [*missing, *self.fault.unfinished()] if isinstance(self.fault, TakesTime) else missing

    # -- who changed --------------------------------------------------------------------------------------------

    def replaced(self, *selectors: str, on: str | None = None) -> bool:
        """Whether all of these have new identities: ``replaced("replicas", on="worker-1")``.

        Raises:
            Inconclusive: The fault did not land, nobody is named, or a selector selects nobody.
        """
        self._require_landing("who is there")
        return self._succession.replaced(selectors, on)

    def kept(self, *selectors: str, on: str | None = None) -> bool:
        """Whether all of these are the very same as before the fault: ``kept("replicas", on="workers")``.

        Raises:
            Inconclusive: The fault did not land, nobody is named, or a selector selects nobody.
        """
        self._require_landing("who is there")
        return self._succession.kept(selectors, on)
