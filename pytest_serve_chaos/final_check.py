"""What recovered means at the end: all is there, at its place, gets requests, and stays."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from pytest_serve_chaos import clock
from pytest_serve_chaos.analysis.outages import find_outages, length
from pytest_serve_chaos.analysis.scaling import scaling_of
from pytest_serve_chaos.analysis.words import duration, number
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.errors import WaitTimeout
from pytest_serve_chaos.events import (
    ComponentCame,
    ComponentGone,
    Doubt,
    Problem,
    RedundancyBack,
    RedundancyMissing,
    Remark,
)
from pytest_serve_chaos.faults.injection import Injection
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.faults.succession import place
from pytest_serve_chaos.model import Component, Expectations, PartDemands, Request
from pytest_serve_chaos.steady import idle_replicas, replicas_to_reach

_FORGOTTEN_WITHIN = 5.0

_ANSWERS_WITHIN = 15.0
"""Seconds in which each replica must have answered: of 20 requests a second, each of 6 gets some 50 in it."""

_LONGEST_LOOK = 120.0
"""Seconds after which nobody waits any longer for an answer of each replica."""

_AGAIN_AND_AGAIN = 2
"""Deaths of what replaced a victim, since redundancy was back, from which on it does not count as there."""


def look_for_leaks(rig: Rig) -> None:
    """What is there in addition to the shape is a leak if it stays: what the GCS says of the dead may be late."""

    def clean() -> bool | NotYet:
        rig.observer.refresh()
        found[:] = rig.health.surplus()
        return NotYet("; ".join(found)) if found else True

    found: list[str] = []
    try:
        clock.wait_until("all that is dead to be forgotten", clean, timeout=_FORGOTTEN_WITHIN)
    except WaitTimeout as error:
        rig.soundness.taint(error.last_seen)
        for problem in found:
            rig.log.add(Problem(problem))


def look_for_losses(rig: Rig, since: float, expected: Expectations, of_parts: Iterable[PartDemands] = ()) -> None:
    """An update of the config, or a scale-up of another app, may make answers late, but loses no requests.

    Args:
        rig: Where; its traffic must be running.
        since: When the post-recovery check began, in monotonic seconds.
        expected: Says how long an outage may be.
        of_parts: Say it of each app, if several are asked.
    """
    sent = [r for r in rig.history.requests_since(since, source=rig.traffic.source) if not r.kept]
    apps = [own for own in of_parts if own.of.kind == "app"]
    for own in apps:
        _look_for_losses(rig, [r for r in sent if r.app == own.of.name], own.within(expected), f"{own.of}: ")
    if not apps:
        _look_for_losses(rig, sent, expected)


def _look_for_losses(rig: Rig, sent: Sequence[Request], expected: Expectations, whose: str = "") -> None:
    lost = sum(request.lost for request in sent)
    if not lost:
        return
    now = clock.now()
    longest = max(length(outage, now) for outage in find_outages(sent))
    text = f"{whose}{lost} of {number(len(sent), 'request')} lost during the post-recovery check"
    if expected.longest_outage is not None and longest > expected.longest_outage:
        rig.log.add(Problem(f"{text}, an outage of {duration(longest)}"))
    else:
        rig.log.add(Remark(text))


def look_for_idle_replicas(rig: Rig, rate: float) -> None:
    """A replica that is there, and to which nothing is sent any more, is not redundancy, whatever Serve says.

    Args:
        rig: Where; its traffic must be running.
        rate: Requests per second.
    """
    back = rig.log.of(RedundancyBack)[-1].at
    replicas, usual = replicas_to_reach(rig.watcher.topology, rig.traffic.shares), rig.traffic.slowness.usual
    needed = idle_after(replicas, rate) + 2 * usual

    def answered() -> bool | NotYet:
        idle = idle_replicas(rig, back, chance=needed)
        return NotYet(idle) if idle else True

    left = back + idle_within(replicas, rate, usual) - clock.now()
    try:
        clock.wait_until("each replica to answer again", answered, timeout=max(0.0, left), interval=0.3)
    except WaitTimeout as error:
        silent = f"{error.last_seen} answered nothing in the {clock.now() - back:.0f} s since redundancy was back"
        if needed > _LONGEST_LOOK:
            rig.log.add(Remark(f"{silent}; with {rate:g} requests/s that may be chance"))
            return
        rig.soundness.taint(f"{error.last_seen}: nothing is sent to it any more")
        rig.log.add(Problem(silent))


def idle_within(replicas: int, rate: float, usual: float) -> float:
    """Seconds in which each replica must answer; see `idle_after`. Slow answers take their time in addition.

    Args:
        replicas: How many there are.
        rate: Requests per second.
        usual: What answers take, in seconds.
    """
    return min(idle_after(replicas, rate) + 2 * usual, _LONGEST_LOOK)


def idle_after(replicas: int, rate: float) -> float:
    """Seconds without an answer after which a replica gets no requests any more, and it is not chance.

    Of n requests that go to N replicas by chance, some replica gets none with a probability of N * exp(-n / N). That
    is less than one in a thousand for N * (ln N + 7) requests; routers prefer some replicas, so it is twice that.
    """
    if replicas == 0:
        return _ANSWERS_WITHIN
    return max(_ANSWERS_WITHIN, 2 * replicas * (math.log(replicas) + 7) / rate)


def look_at_the_end(injection: Injection, expected: Expectations) -> None:
    """What was there again for a moment only, or in another place, is not a recovery."""
    rig = injection.rig
    _look_for_deaths(injection)

    def whole() -> bool | NotYet:
        missing = injection.missing()
        return NotYet("; ".join(missing)) if missing else True

    died = _gone_since_redundancy(injection)
    try:
        clock.wait_until("all to be there at the end", whole, timeout=rig.waits.whole_within, interval=0.3)
    except WaitTimeout as error:
        if all("answer" in reason or "said nothing" in reason for reason in error.last_seen.split("; ")):
            rig.log.add(Doubt(f"it is unknown what was there at the end: {error.last_seen}"))
            return
        rig.soundness.taint(error.last_seen)
        rig.log.add(Problem(f"at the end of the experiment: {error.last_seen}"))
        rig.log.add(RedundancyMissing(f"redundancy is not there at the end: {error.last_seen}"))
        return
    if died:
        rig.log.add(RedundancyBack(f"redundancy is back once more: {died[-1].text} after it had been"))
    _look_at_the_placement(injection, expected)


def _look_at_the_placement(injection: Injection, expected: Expectations) -> None:
    rig, now = injection.rig, injection.rig.watcher.topology
    fewer = [name for name, number in _taken_away(injection).items() if number]  # those first that are alone on a node
    together = rig.health.concentrated(now, injection.before)
    for text in together:
        if expected.spread and not any(text.startswith(f"{name}:") for name in fewer):
            rig.log.add(Problem(f"{text}. Set max_replicas_per_node, or say spread=False"))
        else:
            rig.log.add(Remark(text))
    for text in [] if together else rig.health.imbalance(now):
        costs = "Serve does not rebalance, so losing the node that has more of them costs more next time"
        rig.log.add(Remark(f"{text}: {costs}"))


def _look_for_deaths(injection: Injection) -> None:
    """What replaced a victim and dies again and again is not redundancy, though at times all are there.

    Each process dies once, so its successors count, on whichever node: that of a replica is the next replica of its
    deployment. Those that were there together when redundancy was back succeed nobody of each other.
    """
    log = injection.rig.log
    came = {e.component.identity: e.at for e in log.of(ComponentCame, since=injection.asked)}
    deaths: dict[tuple[str, str], list[Component]] = {}
    for event in _gone_since_redundancy(injection):
        if event.component.identity in came:
            deaths.setdefault(place(event.component), []).append(event.component)
    for dead in deaths.values():
        back = log.of(RedundancyBack, since=injection.asked)[0].at
        later = sum(came[component.identity] > back for component in dead)
        generations = later + (len(dead) > later)
        if generations >= _AGAIN_AND_AGAIN:
            log.add(Problem(f"{_named(dead)} died again and again: {len(dead)} times since redundancy was first back"))


def _named(components: Sequence[Component]) -> str:
    """The name that all of these have, wherever they were."""
    names = sorted({component.name for component in components})
    nodes = sorted({component.node for component in components})
    return names[0] if len(names) == 1 else f"{names[0].removesuffix(nodes[0])}{' and '.join(nodes)}"


def _gone_since_redundancy(injection: Injection) -> list[ComponentGone]:
    """What went since redundancy was back, but for as many replicas as Serve has wanted fewer since the fault."""
    log, victims = injection.rig.log, {c.identity for c in injection.fault.victims}
    back = log.of(RedundancyBack, since=injection.asked)
    if not back:
        return []
    fewer = _taken_away(injection)
    gone = []
    for event in log.of(ComponentGone, since=injection.asked):
        name = event.component.deployment or ""
        if fewer[name] > 0 and event.component.identity not in victims:
            fewer[name] -= 1
        elif event.at > back[0].at:
            gone.append(event)
    return gone


def _taken_away(injection: Injection) -> Counter[str]:
    """How many replicas of each deployment Serve may have stopped since the steady state, because it wanted fewer."""
    events = injection.rig.log.since(injection.before.at)
    return Counter(scaling_of(injection.rig.health.shape.autoscaled, events, injection.before, None).stopped)
