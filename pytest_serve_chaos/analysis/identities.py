"""Who was replaced by a fault and who was kept, by identity."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from pytest_serve_chaos.analysis.scaling import NO_SCALING, Scaling
from pytest_serve_chaos.analysis.words import listing, number
from pytest_serve_chaos.errors import SettingsError
from pytest_serve_chaos.model import ROLES, Component, Identity, Role, Topology

_PLURALS: dict[Role, str] = {
    "head": "heads",
    "worker": "workers",
    "gcs": "gcs",
    "raylet": "raylets",
    "controller": "controllers",
    "proxy": "proxies",
    "replica": "replicas",
    "redis": "redis",
}

VICTIMS = "victims"
OTHERS = "others"


@dataclass(frozen=True, slots=True)
class Selector:
    """Some components of a topology. A head or a worker is the node itself.

    Attributes:
        role: What part they play.
        on: A node's name, ``workers`` (all nodes but the head), ``victims`` (what the fault was aimed at), ``others``
            (all but those), or None for all.
    """

    role: Role
    on: str | None = None

    def __str__(self) -> str:
        return self.role if self.on is None else f"{self.role}@{self.on}"

    def count(self, n: int) -> str:
        """``3 replicas on workers``."""
        where = {None: "", VICTIMS: " among the victims", OTHERS: " not among the victims"}.get(
            self.on, f" on {self.on}"
        )
        return number(n, self.role, _PLURALS[self.role]) + where

    def of(self, topology: Topology, victims: Collection[Identity] = ()) -> tuple[Component, ...]:
        """The components that it selects."""
        if self.on in (VICTIMS, OTHERS):
            wanted = self.on == VICTIMS
            return tuple(c for c in topology.of(self.role) if (c.identity in victims) == wanted)
        return topology.of(self.role, on=self.on)


@dataclass(frozen=True, slots=True)
class Finding:
    """Whether something holds, and what was found."""

    holds: bool
    reason: str


def parse_selector(text: str) -> Selector:
    """Reads ``role`` or ``role@place``, where the role may be in the plural: ``replicas``, ``proxy@head``.

    Raises:
        SettingsError: There is no such role.
    """
    name, at, place = text.strip().partition("@")
    role = next((role for role in ROLES if name in (role, _PLURALS[role])), None)
    if role is None or (at and not place):
        raise SettingsError(
            f"{text!r} does not select anything of a cluster",
            fix=[
                f"write one of the roles {', '.join(ROLES)} (or its plural)",
                f"or a role and a place: replica@workers, proxy@head, raylet@worker-1, replica@{VICTIMS}, "
                f"replica@{OTHERS}",
            ],
        )
    return Selector(role, place or None)


def kept(
    before: Topology,
    after: Topology,
    selector: str,
    gone: Collection[Identity] = (),
    *,
    victims: Collection[Identity] = (),
    scaling: Scaling = NO_SCALING,
) -> Finding:
    """Whether each selected component of `before` is in `after` with the same identity.

    Args:
        before: Who was alive before the fault.
        after: Who is alive afterwards.
        selector: See `parse_selector`.
        gone: Identities that are known to be dead, even where `after` still shows them.
        victims: What the fault was aimed at, for ``@victims`` and ``@others``.
        scaling: What autoscalers have stopped since, which does not count as lost.

    Raises:
        SettingsError: There is no such role.
    """
    chosen = parse_selector(selector)
    matched = chosen.of(before, victims)
    if not matched:
        return _nothing(chosen, before)
    alive = _alive(after, gone)
    lost = scaling.lost(matched, before, [c for c in after.components if c.identity in alive], victims)
    if lost:
        return Finding(False, f"{len(lost)} of {chosen.count(len(matched))} not kept: {_names(lost)}")
    return Finding(True, f"{chosen.count(len(matched))} kept")


def replaced(
    before: Topology,
    after: Topology,
    selector: str,
    gone: Collection[Identity] = (),
    *,
    victims: Collection[Identity] = (),
    scaling: Scaling = NO_SCALING,
) -> Finding:
    """Whether none of the selected components of `before` is in `after`, and as many of them are there again.

    What replaces ``@victims`` or ``@others`` is counted over the whole role. Arguments and errors: see `kept`.
    """
    chosen = parse_selector(selector)
    matched = chosen.of(before, victims)
    if not matched:
        return _nothing(chosen, before)
    alive = _alive(after, gone)
    same = [component for component in matched if component.identity in alive]
    if same:
        return Finding(False, f"{len(same)} of {chosen.count(len(matched))} not replaced: {_names(same)}")
    counted = Selector(chosen.role) if chosen.on in (VICTIMS, OTHERS) else chosen
    there = [component for component in counted.of(after) if component.identity in alive]
    fixed = [c for c in counted.of(before) if c.deployment not in scaling.deployments]
    wanted = len(fixed) - (scaling.workers_stopped if chosen.role == "worker" else 0)
    found = sum(c.deployment not in scaling.deployments for c in there)
    if found < wanted:
        return Finding(False, f"not replaced: only {found} of {counted.count(wanted)} there again")
    fewer = _fewer_than_wanted(matched, before, [c for c in after.of("replica") if c.identity in alive], scaling)
    return Finding(not fewer, f"not replaced: {fewer}" if fewer else f"{chosen.count(len(matched))} replaced")


def _fewer_than_wanted(
    matched: Sequence[Component], before: Topology, living: Sequence[Component], scaling: Scaling
) -> str:
    """Of which deployments that Serve scales there are fewer replicas than it wants, in words; "" if of none.

    One that came only because Serve wants more replaces nobody.
    """
    found = []
    for name in sorted({c.deployment or "" for c in matched} & scaling.deployments):
        had = len([c for c in before.of("replica") if c.deployment == name])
        needed = scaling.needed.get(name, had - scaling.stopped.get(name, 0))
        there = sum(c.deployment == name for c in living)
        found += [f"{there} replicas of {name}, and Serve wants {needed}"] if there < needed else []
    return listing(found)


def nobody(before: Topology, selector: str, *, victims: Collection[Identity] = ()) -> str:
    """That the selector selects nothing of `before`, in words; "" where it selects something.

    Raises:
        SettingsError: There is no such role.
    """
    chosen = parse_selector(selector)
    return "" if chosen.of(before, victims) else _nothing(chosen, before).reason


def missing(before: Topology, after: Topology, scaling: Scaling = NO_SCALING) -> str:
    """What `after` has fewer of than `before`, by name: ``replica default#SleepyPid on worker-1``; "" if nothing."""
    had = [c for c in before.components if c.deployment not in scaling.deployments]
    lacking = Counter(c.name for c in had) - Counter(c.name for c in after.components)
    lacking += Counter({f"replica {name}": n for name, n in after.pending.items() if name in scaling.deployments})
    return listing(name if n == 1 else f"{n} x {name}" for name, n in sorted(lacking.items()))


def _alive(topology: Topology, gone: Collection[Identity]) -> set[Identity]:
    return {component.identity for component in topology.components} - set(gone)


def _names(components: Sequence[Component]) -> str:
    return listing(c.name if c.pid is None else f"{c.name} (PID {c.pid})" for c in components)


def _nothing(chosen: Selector, before: Topology) -> Finding:
    places = sorted({component.node for component in before.of(chosen.role)})
    if not places:
        seen = f"no {chosen.role} was seen at all"
    elif chosen.on == OTHERS:
        seen = f"each {chosen.role} was a victim"
    elif chosen.on == VICTIMS:
        seen = f"no {chosen.role} was a victim"
    else:
        seen = f"it was seen on {listing(places)}"
    return Finding(False, f"there was no {chosen} before the fault; {seen}")
