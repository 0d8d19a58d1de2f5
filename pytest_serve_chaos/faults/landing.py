"""Whether a fault landed: it strikes, and is proved by two independent signs, of which one is the victim's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.errors import WaitTimeout
from pytest_serve_chaos.events import (
    NOT_PROVED,
    EvidenceSeen,
    FaultAsked,
    FaultLanded,
    Moment,
    Note,
    Remark,
    TopologySeen,
    VictimEnded,
)
from pytest_serve_chaos.faults.answers import answers_of, answers_to, only_probed
from pytest_serve_chaos.faults.fault import Fault, Strike
from pytest_serve_chaos.faults.predicting import write_prediction
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.model import Component, Evidence, Topology
from pytest_serve_chaos.progress import still, while_waiting


@dataclass(frozen=True, slots=True)
class Landing:
    """What is known of a fault once it was asked for.

    Attributes:
        asked: When it could first have hit, monotonic seconds.
        evidence: The signs that were seen of it.
        at: When it landed; None: it did not.
    """

    asked: float
    evidence: tuple[Evidence, ...]
    at: float | None = None


@dataclass(frozen=True, slots=True)
class _Victims:
    """Whom a fault hits, and how many good answers they have given in steady state.

    Attributes:
        these: They.
        served: Their answers to the traffic that is judged; None where they answer nothing themselves.
        served_others: Those to the other traffic that runs, by its source.
        probed: Whether only probes on persistent connections are known to have reached them.
    """

    these: tuple[Component, ...]
    served: int | None = None
    served_others: Mapping[str, int] = field(default_factory=dict)
    probed: bool = False


def land(
    rig: Rig, fault: Fault, *, before: Topology, number: int, hold_for: float | None = None, must_land: bool = True
) -> Landing:
    """Breaks what the fault breaks, waits for its signs, and writes all of that to the history.

    Args:
        rig: The cluster under test, and what is recorded about it.
        fault: What.
        before: Who was alive before it.
        number: That of the injection.
        hold_for: Seconds after which it is healed by itself; None: when somebody heals it.
        must_land: Whether a fault that did not land is an error; for the history.
    """
    victims = _victims(rig, fault)
    write_prediction(rig, fault, before, number=number, lasts=hold_for)
    rig.progress(f"inject: {fault.text}")
    with still("at it", rig.progress, who="inject"):
        strike = fault.strike()
    if not rig.log.has(TopologySeen):
        rig.log.add(TopologySeen.of(before, Moment.BEFORE))
    rig.log.add(
        FaultAsked(
            fault.text, at=strike.asked, fault=fault.kind, injection=number,
            must_land=must_land, held_for=hold_for or 0.0,
        )
    )  # fmt: skip
    for sign in strike.evidence:
        _write(rig, sign)
    if strike.hit is not None:
        rig.log.add(VictimEnded(f"ended: {fault.text}", at=strike.hit))
    return _proved(rig, fault, strike, victims, number)


def _victims(rig: Rig, fault: Fault) -> _Victims:
    victims, traffic = fault.victims, rig.traffic
    if not fault.serves:
        return _Victims(victims)
    since = traffic.steady_since
    others = [one for one in traffic.running if one != traffic.source]
    return _Victims(
        victims,
        answers_of(rig, victims, since=since),
        {one: answers_to(rig, one, victims, since=since) for one in others},
        probed=only_probed(rig, victims, since=since),
    )


def _proved(rig: Rig, fault: Fault, strike: Strike, victims: _Victims, number: int) -> Landing:
    """Looks for the cluster's sign, where there is one of the victim's side."""
    unproved = Landing(strike.asked, tuple(strike.evidence))
    if not any(sign.side == "victim" for sign in strike.evidence):
        rig.log.add(Note(f"{NOT_PROVED}: there is no sign of it from the victim's side"))
        return unproved
    struck = min(sign.at for sign in strike.evidence)
    sign = _sign_in_the_cluster(rig, fault, struck)
    if sign is None:
        return unproved
    evidence = (*strike.evidence, sign)
    rig.log.add(
        FaultLanded(
            f"landed: {evidence[0].text}; {evidence[-1].text}",
            at=struck,
            victims=tuple(c.identity for c in victims.these),
            served=victims.served,
            served_others=victims.served_others,
            injection=number,
            spared=bool(getattr(fault, "spares_victims", False)),
        )
    )
    if victims.probed:
        who = ", ".join(c.name for c in victims.these if c.role in ("proxy", "replica"))
        rig.log.add(Remark(f"only probes on persistent connections are known to have reached {who}"))
    return Landing(strike.asked, evidence, struck)


def _sign_in_the_cluster(rig: Rig, fault: Fault, struck: float) -> Evidence | None:
    def look() -> Evidence | NotYet:
        return fault.sign(struck) or NotYet("no sign yet")

    within = rig.sign_within(fault.sign_within)
    try:
        what = "a sign of the fault in the cluster"
        shown = while_waiting(rig.progress, what)
        sign = clock.wait_until(what, look, timeout=within, interval=0.1, on_wait=shown)
    except WaitTimeout as error:
        rig.log.add(Note(f"{NOT_PROVED}: {error}"))
        return None
    _write(rig, sign)
    return sign


def _write(rig: Rig, sign: Evidence) -> None:
    rig.log.add(EvidenceSeen(sign.text, at=sign.at, side=sign.side))
