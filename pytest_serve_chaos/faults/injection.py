"""One fault applied once: asked for, proved by two independent signs, watched, healed."""

from __future__ import annotations

import contextlib
import math
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, runtime_checkable

from pytest_serve_chaos import clock
from pytest_serve_chaos.analysis.identities import kept, nobody, replaced
from pytest_serve_chaos.analysis.machine import held_up
from pytest_serve_chaos.analysis.outages import find_outages, is_over
from pytest_serve_chaos.analysis.scaling import Scaling, scaling_of
from pytest_serve_chaos.clock import NotYet, seconds
from pytest_serve_chaos.cluster.capabilities import IS_EXTERNAL, SHOWS_FAILED_STARTS
from pytest_serve_chaos.cluster.dry_run import WITHHOLDS_CHANGES
from pytest_serve_chaos.errors import (
    ExpectationFailed,
    Inconclusive,
    NotHealed,
    NotLanded,
    OwnerChangedIt,
    WaitTimeout,
    Withheld,
    in_one_line,
)
from pytest_serve_chaos.events import (
    EvidenceSeen,
    FaultAsked,
    FaultHealed,
    FaultLanded,
    MachineSeen,
    Moment,
    Note,
    NotSettled,
    PostRecoveryChecking,
    ProxyStale,
    RedundancyBack,
    RedundancyMissing,
    Remark,
    Rescaled,
    Settled,
    SettlingUnknown,
    TopologySeen,
    VictimEnded,
    of_kind,
)
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.model import UNFINISHED, Component, Evidence, Identity, Request, Slowness, Topology
from pytest_serve_chaos.observe.configuration import workers_look_for_the_gcs
from pytest_serve_chaos.observe.external_check import settle
from pytest_serve_chaos.observe.handles import check_handles
from pytest_serve_chaos.progress import now_and_then, still, while_waiting

HEALS_WITHIN = 60.0
"""Seconds that the healing of one fault may take."""

_BEFORE = 10.0
"""Seconds before the fault from which requests are looked at: the first after it may still be in flight."""


@dataclass(frozen=True, slots=True)
class Strike:
    """What a fault did at once.

    Attributes:
        asked: When the first signal could have hit, or before that: an error in it must be on the early side.
        evidence: The signs from the victim's side.
        hit: When a victim that ends slowly ended: what is on its way through it until then is cut. None: at once.
    """

    asked: float
    evidence: Sequence[Evidence]
    hit: float | None = None


def ended(signs: Sequence[Evidence]) -> float | None:
    """When a victim that ends slowly ended, by its own last sign; None without one."""
    return max((sign.at for sign in signs if sign.side == "victim"), default=None)


class Fault(Protocol):
    """One way to break one target that has been chosen."""

    @property
    def kind(self) -> str:
        """The marker's name: ``head_failure``."""
        ...

    @property
    def options(self) -> Mapping[str, object]:
        """What its marker would say: ``how``, and what tells who is lost (``which``, ``deployment``, ``hold``)."""
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


@runtime_checkable
class LooksAfterwards(Protocol):
    """A fault that can say at the end what has become of what it hit, where no component shows that."""

    def afterwards(self) -> Iterable[str]:
        """What has become of it, a sentence each."""
        ...


@runtime_checkable
class TakesTime(Protocol):
    """A fault that goes on when it has landed: redundancy is not back before it is over."""

    def unfinished(self) -> list[str]:
        """What of it is not over yet, in words."""
        ...


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

    It has many methods: one for each thing that a test by hand waits for, or asks, after a fault.

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
        rig.admit(fault.kind, fault.options, fault.victims)  # before anything else, so that nobody gets past it
        if rig.cluster.capability(WITHHOLDS_CHANGES) is not None:
            raise NotInjected(fault, hold_for)
        rig.require_its_owner_left_it_alone()
        self._allow_total_loss = rig.current.total_loss_allowed
        rig.current.begin_by_hand()
        self.before = rig.watcher.sample()
        self._log = rig.log
        self.evidence: tuple[Evidence, ...] = ()
        self.landed_at: float | None = None
        self.asked = 0.0
        self._healed_at: float | None = None
        self._healing = threading.Lock()
        self._timer: threading.Timer | None = None
        self._must_land = must_land
        self.number = rig.injections.add(self)
        self._inject()
        if hold_for is not None:
            self._timer = threading.Timer(max(0.0, self.asked + hold_for - clock.now()), self._heal_when_due)
            self._timer.daemon = True
            self._timer.start()
        if must_land:
            self._require_landing("this test")

    @property
    def held(self) -> bool:
        """Whether what it hit is kept down, until it is healed or for a time."""
        return bool(getattr(self.fault, "hold", False))

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
        with self._healing:
            if self._healed_at is not None:
                return
            self.fault.heal()
            self._healed_at = clock.now()
            self._log.add(FaultHealed(f"healed: {self.fault.text}", injection=self.number))

    def _heal_when_due(self) -> None:
        """In a thread of its own, where nobody would hear of an error: `close` tries again, and raises it."""
        try:
            self.heal()
        except Exception as error:
            self._log.add(Note(f"not healed yet: {in_one_line(error)}"))

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

        def back() -> float | NotYet:
            return self.traffic_back_now()

        tell = self._tell("traffic is not back")
        try:
            return clock.wait_until("traffic to be back", back, timeout=seconds(timeout), interval=0.25, on_wait=tell)
        except WaitTimeout as error:
            if error.last_seen == "no requests":
                raise Inconclusive(
                    "there is no traffic to come back", fix=["inject inside `with traffic():`"]
                ) from error
            raise self._late(f"traffic is not back: {error}") from error

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
            raise Inconclusive(f"nobody heals it by itself: {self.fault.text}", fix=["say for how long: for_='20s'"])
        due = self.asked + self.hold_for

        def healed() -> float | NotYet:
            at = self._healed_at
            left = due - clock.now()
            return NotYet(f"{left:.0f} s are left" if left > 0 else "not yet") if at is None else at - self.asked

        patience = max(0.0, due - clock.now()) + seconds(timeout)
        tell = self._tell("it stays broken")
        try:
            return clock.wait_until("the fault to end", healed, timeout=patience, on_wait=tell)
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
        live = self.rig.traffic
        before = max(_BEFORE, 2 * live.slowness.usual)
        seen = self.rig.history.requests_since(self.asked - before, live.source, with_pending=True)
        of_apps: dict[str, list[Request]] = {app: [] for app in live.of_apps}
        for request in seen:
            if not request.kept:
                of_apps.setdefault(request.app if live.of_apps else "", []).append(request)
        latest = 0.0
        for app, requests in of_apps.items():
            back = self._back(requests, live.of_apps.get(app, live.slowness))
            if isinstance(back, NotYet):
                return NotYet(f"app {app}: {back.seen}") if app and any(of_apps.values()) else back
            latest = max(latest, back)
        return latest if of_apps else NotYet("no requests")

    def _back(self, fresh: Sequence[Request], slowness: Slowness) -> float | NotYet:
        """The same, of the requests of one app; as they are judged afterwards."""
        unknown = [r.scheduled for r in fresh if r.error == UNFINISHED and r.latency <= slowness.after]
        known = min(unknown, default=math.inf)
        requests = sorted((r for r in fresh if r.scheduled < known), key=lambda request: request.scheduled)
        if not requests or requests[-1].scheduled < self.asked:
            in_flight = any(r.error == UNFINISHED for r in fresh)
            return NotYet("requests are in flight since the fault" if in_flight else "no requests")
        outages = find_outages(requests, asked=self.asked, slowness=slowness)
        end = outages[-1].end if outages else self.asked
        if end is None:
            return NotYet(f"requests are lost or late since {outages[-1].start - self.asked:.1f} s after the fault")
        quiet, quiet_for = self.rig.waits.quiet, requests[-1].scheduled - end
        if quiet_for < quiet or (outages and not is_over(end, requests, good_for=quiet)):
            return NotYet(f"good answers for {max(0.0, quiet_for):.1f} s only")
        return end - self.asked

    def _held_up(self) -> str:
        """How others' work on this machine held the cluster up since the fault, as a clause; "" if it did not."""
        self.rig.machine.look()
        return held_up(of_kind(MachineSeen, self.rig.history.events), self.asked, math.inf)

    def _late(self, what: str) -> ExpectationFailed | Inconclusive:
        """The error for what did not come in time: where others' work held the cluster up, that shows nothing."""
        starts = self.rig.cluster.capability(SHOWS_FAILED_STARTS)
        given_up = () if starts is None else starts.failed_starts(self.asked)
        for text in given_up:
            self._log.add(Remark(text))
        what = "; ".join((what, *given_up))
        changed = self.rig.look_at_its_owner()
        if changed:
            return OwnerChangedIt(f"{what}; {changed}, so the reason may be that and not the fault")
        busy = self._held_up()
        if not busy:
            return ExpectationFailed(what)
        return Inconclusive(
            f"{what}; {busy}, so the reason may be that and not the cluster",
            fix=["leave the machine to this run, or give it more processors"],
        )

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
            return NotYet("; ".join(missing)) if missing else clock.now() - self.asked

        tell = self._tell("redundancy is not back")
        try:
            took = clock.wait_until("redundancy to be back", back, timeout=seconds(timeout), interval=0.2, on_wait=tell)
        except WaitTimeout as error:
            self._log.add(RedundancyMissing(f"redundancy is not back: {error.what}"))
            raise self._late(f"redundancy is not back: {error}") from error
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
        self.rig.require_its_owner_left_it_alone()
        nodes = self.rig.health.proxy_nodes()
        with self._checking("proxies", replaces=self.rig.cluster.capability(IS_EXTERNAL) is not None):
            rig = self.rig
            result = settle(
                rig.cluster, rig.watcher, rig.run.canaries, nodes=nodes, messages=rig.traffic.asked,
                allow_total_loss=self._allow_total_loss,
            )  # fmt: skip
        for proxy in result.stale:
            self._log.add(ProxyStale(f"{proxy.name} does not hear the controller", proxy=proxy.name))
        if result.unknown and not result.stale and not result.problem:
            self._log.add(Note(result.text))
            raise Inconclusive(result.text)
        # A proxy that does not answer in time may have got no processor; one that answers with old routes is stale.
        busy = self._held_up() if result.problem and not result.stale else ""
        if busy:
            self.rig.soundness.taint(result.text)
            self._log.add(SettlingUnknown(f"{result.text}; {busy}, so the reason may be that and not the cluster"))
            raise self._late(result.text)
        if not result.passed:
            self.rig.soundness.taint(result.text)
            self._log.add(NotSettled(result.text))
            raise ExpectationFailed(result.text)
        self._log.add(Settled(result.text))
        return clock.now() - self.asked

    def wait_children_reached(self) -> float:
        """The post-recovery check of handles: replaces one child of each composed app, whose parents must reach it.

        Requests in flight on that child are lost. It needs traffic, and does nothing where no replica holds a handle.

        Returns:
            Seconds from the fault.

        Raises:
            ExpectationFailed: A parent did not.
            Inconclusive: Serve does not say whether any replica holds one, or the logs do not say who reached whom.
        """
        good = [r for r in self.rig.history.requests_since(self.rig.traffic.steady_since) if not r.lost]
        answering = frozenset(name.rpartition("#")[0] for r in good for name in r.replicas)
        with self._checking("handles", replaces=True):
            result = check_handles(
                self.rig.cluster,
                self.rig.watcher,
                self.rig.traffic.steady_since,
                answering=answering,
                admit=self._admit_replacing,
            )
        if result.unknown and not result.stale and not result.problem:
            raise Inconclusive(result.text)
        if not result.passed:
            self.rig.soundness.taint(result.text)
            self._log.add(NotSettled(result.text))
            raise ExpectationFailed(result.text)
        if result.text:
            self._log.add(Settled(result.text) if result.children else Note(result.text))
        return clock.now() - self.asked

    def _admit_replacing(self, replica: Component) -> None:
        """What a check replaces is as much of a loss to an external cluster as what a fault takes."""
        with self.rig.current.allowing_total_loss(self._allow_total_loss):
            self.rig.admit("replica_failure", {"how": "kill", "deployment": replica.deployment}, (replica,))
        self.rig.require_its_owner_left_it_alone()

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
        changed, limit = clock.now(), seconds(timeout)
        first = self.rig.watcher.sample()
        last = frozenset(c.identity for c in first.components)
        looks = 0.0 if first.of("gcs") else workers_look_for_the_gcs(self.rig.cluster, changed + limit - self.asked)

        def quiet() -> float | NotYet:
            nonlocal changed, last
            topology = self.rig.watcher.sample()
            now = frozenset(c.identity for c in topology.components)
            if now != last:
                changed, last = clock.now(), now
            still = clock.now() - changed
            if still < self.rig.waits.no_change:
                return NotYet(f"something changed {still:.1f} s ago")
            away = clock.now() - self.asked
            if not topology.of("gcs") and away < looks + self.rig.waits.no_change:
                return NotYet(f"the GCS has been away for {away:.0f} s, and Ray's nodes look for it for {looks:g} s")
            return changed - self.asked

        tell = self._tell("not at rest")
        try:
            return clock.wait_until("the cluster to come to rest", quiet, timeout=limit, on_wait=tell)
        except WaitTimeout as error:
            raise self._late(str(error)) from error

    def still_missing_after(self, duration: float | str) -> bool:
        """Whether no successor of the victims comes for that long; returns as soon as one does.

        For what a cluster cannot replace in some state: a replica that dies while the head is away is not replaced.

        Raises:
            Inconclusive: The fault did not land, or what it hit never goes away (as where it is frozen).
        """
        self._require_landing("the absence of a successor")
        had = {c.identity for c in self.before.components}
        wanted = {place(victim) for victim in self.fault.victims}
        if not wanted:
            raise Inconclusive("it is unknown what the fault hit, so nothing can be missing")

        def successor() -> bool | NotYet:
            came = Counter(place(c) for c in self.rig.watcher.sample().components if c.identity not in had)
            more = Counter[tuple[str, str]]()  # those that come because Serve scales up succeed nobody
            for change in self._log.of(Rescaled, since=self.before.at):
                more["replica", change.what] += max(0, change.now - change.before)
            return any(came[place] > more[place] for place in wanted) or NotYet("no successor")

        try:
            clock.wait_until("a successor", successor, timeout=seconds(duration))  # looks at the end as well
        except WaitTimeout:
            return True
        return False

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
        chosen = self._chosen(selectors, on)
        now, gone = self._now()
        victims = self._victims()
        scaling = self._scaling(now)
        return all(replaced(self.before, now, one, gone, victims=victims, scaling=scaling).holds for one in chosen)

    def kept(self, *selectors: str, on: str | None = None) -> bool:
        """Whether all of these are the very same as before the fault: ``kept("replicas", on="workers")``.

        Raises:
            Inconclusive: The fault did not land, nobody is named, or a selector selects nobody.
        """
        chosen = self._chosen(selectors, on)
        now, gone = self._now()
        victims = self._victims()
        scaling = self._scaling(now)
        return all(kept(self.before, now, one, gone, victims=victims, scaling=scaling).holds for one in chosen)

    def _chosen(self, selectors: Sequence[str], on: str | None) -> list[str]:
        """The selectors, of which each selects somebody."""
        self._require_landing("who is there")
        if not selectors:
            raise Inconclusive("no selector, so there is nothing to compare", fix=['name a role: kept("replicas")'])
        chosen = [_selector(name, on) for name in selectors]
        for one in chosen:
            if reason := nobody(self.before, one, victims=self._victims()):
                raise Inconclusive(f"{reason}, so there is nothing to compare")
        return chosen

    def _victims(self) -> frozenset[Identity]:
        return frozenset(c.identity for c in self.fault.victims)

    def _now(self) -> tuple[Topology, frozenset[Identity]]:
        if self.rig.health.scales:
            self.rig.watcher.ask()  # an autoscaler may have wanted fewer just now
        topology = self.rig.watcher.sample()
        return topology, self.rig.watcher.gone

    def _scaling(self, now: Topology) -> Scaling:
        events = self._log.since(self.before.at)
        return scaling_of(self.rig.health.shape.autoscaled, events, self.before, now)

    # -- injecting ----------------------------------------------------------------------------------------------

    def _inject(self) -> None:
        victims, traffic = self.fault.victims, self.rig.traffic
        since, serves = traffic.steady_since, self.fault.serves
        others = [one for one in traffic.running if one != traffic.source and serves]
        served = traffic.answers_of(victims, since=since) if serves else None
        served_others = {one: traffic.answers_to(one, victims, since=since) for one in others}
        probed = serves and traffic.only_probed(victims, since=since)
        self.rig.progress(f"inject: {self.fault.text}")
        with still("at it", self.rig.progress, who="inject"):
            strike = self.fault.strike()
        self.asked = strike.asked
        if not self._log.has(TopologySeen):
            self._log.add(TopologySeen.of(self.before, Moment.BEFORE))
        self._log.add(
            FaultAsked(
                self.fault.text, at=strike.asked, fault=self.fault.kind, injection=self.number,
                must_land=self._must_land, held_for=self.hold_for or 0.0,
            )
        )  # fmt: skip
        for sign in strike.evidence:
            self._add(sign)
        if strike.hit is not None:
            self._log.add(VictimEnded(f"ended: {self.fault.text}", at=strike.hit))
        if not any(sign.side == "victim" for sign in strike.evidence):
            self._log.add(Note("the fault is not proved: there is no sign of it from the victim's side"))
            return
        struck = min(sign.at for sign in strike.evidence)

        def look() -> Evidence | NotYet:
            return self.fault.sign(struck) or NotYet("no sign yet")

        try:
            within = self.rig.sign_within(self.fault.sign_within)
            what = "a sign of the fault in the cluster"
            shown = while_waiting(self.rig.progress, what)
            self._add(clock.wait_until(what, look, timeout=within, interval=0.1, on_wait=shown))
        except WaitTimeout as error:
            self._log.add(Note(f"the fault is not proved: {error}"))
            return
        self.landed_at = struck
        text = f"landed: {self.evidence[0].text}; {self.evidence[-1].text}"
        hit = tuple(c.identity for c in victims)
        spared = bool(getattr(self.fault, "spares_victims", False))
        self._log.add(
            FaultLanded(
                text, at=struck, victims=hit, served=served, served_others=served_others, injection=self.number,
                spared=spared,
            )
        )  # fmt: skip
        if probed:
            who = ", ".join(c.name for c in victims if c.role in ("proxy", "replica"))
            self._log.add(Remark(f"only probes on persistent connections are known to have reached {who}"))

    @contextlib.contextmanager
    def _checking(self, what: str, *, replaces: bool) -> Iterator[None]:
        """Writes when a post-recovery check ran: what it costs other requests is not the fault's doing."""
        begins = f"the post-recovery check of {what} begins"
        self._log.add(PostRecoveryChecking(begins, begins=True, replaces=replaces))
        try:
            yield
        finally:
            self._log.add(PostRecoveryChecking(f"the post-recovery check of {what} ends", begins=False))

    def _add(self, sign: Evidence) -> None:
        self.evidence = (*self.evidence, sign)
        self._log.add(EvidenceSeen(sign.text, at=sign.at, side=sign.side))

    def _tell(self, state: str) -> Callable[[float, str], None]:
        """Says now and then what the state is, for people who wait."""

        def words(seen: str) -> str:
            return f"{state} {clock.now() - self.asked:.0f} s after the fault: {seen}"

        return now_and_then(self.rig.progress, words)


def place(component: Component) -> tuple[str, str]:
    """What a successor fills again: a deployment, the controller, or that role on that node."""
    if component.role == "replica":
        return component.role, component.deployment or ""
    return component.role, "" if component.role == "controller" else component.node


def _selector(name: str, on: str | None) -> str:
    return name if on is None else f"{name}@{on}"
