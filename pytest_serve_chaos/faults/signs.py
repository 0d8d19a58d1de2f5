"""Signs that something broke: from the victim's processes, from the GCS, from Serve, and from the traffic."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from pytest_serve_chaos import clock
from pytest_serve_chaos.analysis.statistics import latency
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.errors import ObservationError, WaitTimeout
from pytest_serve_chaos.faults.answers import answers_to
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.model import HEAD, UNFINISHED, Component, Evidence, Request, Slowness

_SILENCE = 1.5
"""Seconds without an answer from a victim that had answered, at least."""

_CHANCE = 0.001
"""How likely such a silence may be where the victim goes on answering."""


def requests_that_show_silence(replicas: int) -> int:
    """How many requests in a row another replica must answer, so that the silence of one is not chance."""
    return 1 if replicas < 2 else math.ceil(math.log(_CHANCE) / math.log(1 - 1 / replicas))


def gcs_notices_within(rig: Rig) -> float:
    """Seconds in which the GCS itself notices that a node is gone, with room for a busy machine."""
    return 90.0 if rig.cluster.spec.profile == "guide" else 30.0


def wait_process_gone(rig: Rig, victim: Component, text: str, *, within: float) -> tuple[Evidence, ...]:
    """Waits for the victim's own sign that its process is gone; nothing where it is there after so many seconds."""

    def gone() -> Evidence | NotYet:
        if rig.watcher.sample().find(victim.identity) is not None:
            return NotYet(f"{victim.identity} is there")
        return Evidence(clock.now(), "victim", text)

    try:
        timeout = rig.sign_within(within)
        return (clock.wait_until("the process to be gone", gone, timeout=timeout, interval=0.02),)
    except WaitTimeout:
        return ()


def node_is_dead(rig: Rig, node: str, before: Collection[str]) -> Evidence | None:
    """The GCS calls the node DEAD; for the head: there is no GCS to ask, or it knows another head.

    Args:
        rig: The cluster under test, and what is recorded about it.
        node: Its name.
        before: The ids that the node had, by the GCS, before the fault.
    """
    try:
        rows = rig.cluster.dashboard.nodes()
    except ObservationError as error:
        if node == HEAD:
            return Evidence(clock.now(), "cluster", f"the head's state API does not answer ({error})")
        return None
    dead = [row for row in rows if row.node_id in before and row.state != "ALIVE"]
    if dead:
        return Evidence(
            clock.now(), "cluster", f"the GCS says that node {dead[0].node_id[:8]} ({node}) is {dead[0].state}"
        )
    if before and not any(row.node_id in before for row in rows):
        return Evidence(clock.now(), "cluster", f"the GCS does not know the node of {node} any more")
    return None


def node_ids(rig: Rig, node: str) -> frozenset[str]:
    """The ids under which the GCS knows the node as ALIVE."""
    addresses = {info.address for info in rig.cluster.nodes() if info.name == node}
    rows = (rig.observer.report.nodes or {}).values()
    return frozenset(row.node_id for row in rows if row.address in addresses and row.state == "ALIVE")


def actor_is_gone(rig: Rig, victim: Component) -> Evidence | None:
    """The GCS no longer has that actor ALIVE with that PID."""
    try:
        actors = rig.cluster.dashboard.actors()
    except ObservationError:
        return None
    for row in actors:
        if row.actor_id == victim.actor_id:
            if row.state == "ALIVE" and row.pid == victim.pid:
                return None
            return Evidence(clock.now(), "cluster", f"the GCS says that {victim.name} is {row.state} (PID {row.pid})")
    return Evidence(clock.now(), "cluster", f"the GCS says that the actor of {victim.name} is DEAD")


def nobody_answers(rig: Rig, victims: Collection[Component], struck: float) -> Evidence | None:
    """Not one answer from victims that answered before, while traffic went on.

    Each app is looked at by itself: that the requests to another one are slow, or answered by others, shows nothing.
    """
    now, traffic = clock.now(), rig.traffic
    since = struck + 0.2  # what was on its way is let in
    if now - since < _SILENCE or answers_to(rig, None, victims, since=since):
        return None
    names = ", ".join(sorted({c.name for c in victims if c.role in ("replica", "proxy")}))
    sent = rig.history.requests_since(traffic.steady_since, with_pending=True)
    found = []
    for source, app in dict.fromkeys((r.source, r.app) for r in sent if r.scheduled < struck):
        own = [r for r in sent if (r.source, r.app) == (source, app)]
        served = answers_to(rig, source, victims, since=traffic.steady_since, app=app)
        before, late = [r for r in own if r.scheduled < struck], [r for r in own if r.scheduled >= since]
        if served:
            found.append(_OfApp(before, late, min(len(before), served)))
    waits = max((one.hangs_for(traffic.slowness) for one in found), default=0.0)
    if waits:
        number = sum(len(one.late) for one in found)
        return Evidence(
            now, "cluster", f"a request hangs for {waits:.1f} s, and none of {number} was answered by {names}"
        )
    if not found or math.prod(one.chance for one in found) > _CHANCE:
        return None
    ended = sum(len(one.ended) for one in found)
    share = f"who gave {sum(one.served for one in found)} of {sum(len(one.before) for one in found)} answers before"
    return Evidence(now, "cluster", f"not one of {ended} requests was answered by {names}, {share}")


@dataclass(frozen=True, slots=True)
class _OfApp:
    """The requests to one app of which victims had answered some.

    Attributes:
        before: Those before the fault.
        late: Those since then.
        served: How many of those before the victims answered.
    """

    before: Sequence[Request]
    late: Sequence[Request]
    served: int

    @property
    def ended(self) -> list[Request]:
        """Those since the fault of which it is known who answered: of slow answers many are on their way."""
        return [r for r in self.late if r.error != UNFINISHED]

    @property
    def chance(self) -> float:
        """How likely it is, given the share of answers that the victims gave, that so many in a row met others."""
        return float((1 - self.served / len(self.before)) ** len(self.ended))

    def hangs_for(self, slowness: Slowness) -> float:
        """How long the oldest request has waited of those that hang; 0.0 if none does."""
        after = {name: max(_SILENCE, _hangs_after(slowness, self.before, name)) for name in {r.name for r in self.late}}
        return max((r.latency for r in self.late if r.error == UNFINISHED and r.latency > after[r.name]), default=0.0)


def _hangs_after(slowness: Slowness, before: Sequence[Request], name: str) -> float:
    """Seconds after which a request of that name hangs.

    Three times what is usual of these, or what is too long where that is less; where there were none, what is usual of
    all.
    """
    own = latency(r for r in before if r.name == name and not r.lost)
    usual = slowness.usual if own is None else own.p99
    after = usual + slowness.after - slowness.usual
    return min(3 * usual, max(after, 1.5 * usual))


def proxy_is_silent(rig: Rig, victim: Component) -> Evidence | None:
    """The proxy answers nothing, asked alone."""
    try:
        rig.cluster.ask_proxy(victim, "/-/routes", timeout=1.5)
    except ObservationError as error:
        return Evidence(clock.now(), "cluster", str(error))
    return None


def proxy_is_not_healthy(rig: Rig, victim: Component) -> Evidence | None:
    """The controller, which asks the manager of each HAProxy, does not call that node's proxy HEALTHY."""
    ids = node_ids(rig, victim.node)
    try:
        states = {node: state for node, state in rig.cluster.dashboard.serve().proxies.items() if node in ids}
    except ObservationError:
        return None
    sick = [state for state in states.values() if state != "HEALTHY"]
    return Evidence(clock.now(), "cluster", f"Serve says that {victim.name} is {sick[0]}") if sick else None


def controller_is_silent(rig: Rig) -> Evidence | None:
    """Serve's REST, which asks the controller, gives no answer, while the GCS' state API does."""
    try:
        rig.cluster.dashboard.nodes()
    except ObservationError:
        return None
    try:
        status = rig.cluster.dashboard.serve()
    except ObservationError as error:
        return Evidence(clock.now(), "cluster", f"the controller does not answer: {error}")
    return None if status.apps else Evidence(clock.now(), "cluster", "Serve's REST knows no applications")


def gcs_is_silent(rig: Rig) -> Evidence | None:
    """The state API, which asks the GCS, gives no answer."""
    try:
        rig.cluster.dashboard.nodes()
    except ObservationError as error:
        return Evidence(clock.now(), "cluster", f"the GCS does not answer: {error}")
    return None
