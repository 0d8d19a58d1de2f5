"""A lane for each node and process of an experiment: its incarnations one after the other."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from pytest_serve_chaos.analysis.result import Result
from pytest_serve_chaos.events import (
    ChildrenSeen,
    ComponentCame,
    ComponentGone,
    HAProxyReloaded,
    ProxyStale,
    TopologySeen,
    of_kind,
)
from pytest_serve_chaos.model import HEAD, ROLES, Component, Identity
from pytest_serve_chaos.report.view import Moment, View

CHILD = "child"
"""The role of a process that a replica has started itself."""


@dataclass(frozen=True, slots=True)
class Life:
    """One incarnation of a component.

    Attributes:
        identity: Which one.
        pid: Its PID, where it is a process; in its own PID namespace.
        begin: When it was first seen.
        end: When it was seen to be gone; None: it was there when the experiment ended.
        was_there: Whether it was there when the experiment began, so that `begin` is not its start.
        victim: Whether the fault was aimed at it.
        machine: The machine under it, of a pod.
        replica: Serve's id of a replica, where known.
    """

    identity: str
    pid: int | None
    begin: float
    end: float | None
    was_there: bool = False
    victim: bool = False
    machine: str | None = None
    replica: str | None = None


@dataclass(frozen=True, slots=True)
class ProcessLane:
    """What was there in one place, one incarnation after the other.

    Attributes:
        name: ``controller``, ``proxy on worker-1``; with a number where there were several at once.
        role: What part it plays.
        node: The node that it is on.
        lives: Its incarnations in order of time.
        marks: Moments of it: HAProxy was reloaded, a proxy became stale.
    """

    name: str
    role: str
    node: str
    lives: tuple[Life, ...]
    marks: tuple[Moment, ...] = ()


def seen_components(result: Result) -> Iterator[Component]:
    """All components that were seen; one that was seen several times last as it was known best."""
    yield from (e.component for e in result.events if isinstance(e, (ComponentGone, ComponentCame)))
    for topology in (result.before, result.after):
        yield from () if topology is None else topology.components


def lanes_of(result: Result, view: View) -> tuple[ProcessLane, ...]:
    """The lives of all components, those of one place in one lane; what was there at the same time in several."""
    best = {component.identity: component for component in seen_components(result)}
    lives = _lives(result, view)
    marks = _marks(result, view)
    found: list[ProcessLane] = []
    ordered = sorted(lives, key=lambda one: (_place(best[one[0]]), one[1].begin))
    for _, group in groupby(ordered, key=lambda one: _place(best[one[0]])):
        members = list(group)
        first = best[members[0][0]]
        found += _lanes_of_a_place(first, (life for _, life in members), marks.get(first.name, ()))
    return (*found, *_of_children(result, view))


def _lanes_of_a_place(first: Component, lives: Iterable[Life], marks: Sequence[Moment]) -> Iterator[ProcessLane]:
    """As many lanes as it takes; what happened to a process is in the lane that has it then."""
    rows = _rows(lives)
    owners = [next((n for n, row in enumerate(rows) if _covers(row, mark.at)), 0) for mark in marks]
    for number, row in enumerate(rows):
        name = first.name if len(rows) == 1 else f"{first.name} #{number + 1}"
        own = tuple(mark for mark, owner in zip(marks, owners, strict=True) if owner == number)
        yield ProcessLane(name, first.role, first.node, tuple(row), own)


def _covers(row: Iterable[Life], at: float) -> bool:
    return any(life.begin <= at and (life.end is None or at <= life.end) for life in row)


def _place(component: Component) -> tuple[int, bool, list[str | int], str, str]:
    """What has a lane in common, in the order of the lanes."""
    role = ROLES.index(component.role) if component.role in ROLES else len(ROLES)
    return role, component.node != HEAD, natural(component.node), component.deployment or "", component.role


def natural(text: str) -> list[str | int]:
    """A key that sorts ``worker-10`` after ``worker-9``."""
    parts = re.split(r"([0-9]+)", text)
    return [int(part) if number % 2 else part for number, part in enumerate(parts)]


def _lives(result: Result, view: View) -> list[tuple[Identity, Life]]:
    """Each incarnation that was seen, from when it came until it went."""
    best = {component.identity: component for component in seen_components(result)}
    changes = [e for e in result.events if isinstance(e, (ComponentGone, ComponentCame)) and e.at <= view.end]
    came = {event.component.identity for event in changes if isinstance(event, ComponentCame)}
    there = {} if result.before is None else {c.identity: view.begin for c in result.before.components}
    begun = {identity: at for identity, at in there.items() if identity not in came}
    ended: list[tuple[Identity, float, float | None]] = []
    for event in changes:
        identity = event.component.identity
        if isinstance(event, ComponentCame):
            begun.setdefault(identity, event.at)
        elif identity in begun or not any(identity == other for other, _, _ in ended):
            ended.append((identity, begun.pop(identity, view.begin), event.at))
    found = [e for e in of_kind(TopologySeen, result.events) if e.topology is result.after]
    if found and result.after is not None:
        at, after = found[-1].at, {component.identity for component in result.after.components}
        known = {identity for identity, _, _ in ended} | begun.keys()
        # An older history does not say when something went or came, but that it had by then.
        missed = [identity for identity, since in begun.items() if since <= at and identity not in after]
        ended += [(identity, begun.pop(identity), at) for identity in missed]
        begun |= dict.fromkeys(sorted(after - known, key=str), at)
    lives = [*ended, *((identity, at, None) for identity, at in begun.items())]
    return [(identity, _life(best[identity], begin, end, result, view)) for identity, begin, end in lives]


def _life(component: Component, begin: float, end: float | None, result: Result, view: View) -> Life:
    return Life(
        identity=str(component.identity),
        pid=component.pid,
        begin=max(begin, view.begin) - view.zero,
        end=None if end is None else max(end, view.begin) - view.zero,
        was_there=begin <= view.begin,
        victim=component.identity in result.victims,
        machine=component.machine,
        replica=component.replica,
    )


def _rows(lives: Iterable[Life]) -> list[list[Life]]:
    """Lives in order of time, in as few rows as they need; a successor is in the row that is empty the longest."""
    rows: list[list[Life]] = []
    for life in lives:
        free = [row for row in rows if _last(row) <= life.begin]
        if free:
            min(free, key=_last).append(life)
        else:
            rows.append([life])
    return rows


def _last(row: Sequence[Life]) -> float:
    """When the last of them ended."""
    end = row[-1].end
    return math.inf if end is None else end


def _marks(result: Result, view: View) -> dict[str, list[Moment]]:
    """What happened to proxies that stayed, by their names."""
    found: dict[str, list[Moment]] = {}
    for event in result.events:
        if isinstance(event, (HAProxyReloaded, ProxyStale)) and view.begin <= event.at <= view.end:
            found.setdefault(event.proxy, []).append(Moment(event.at - view.zero, event.kind, event.text))
    return found


# -- children ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Child:
    """A process that a replica has started itself."""

    title: str
    life: Life


def _of_children(result: Result, view: View) -> Iterator[ProcessLane]:
    """The lanes of what replicas have started themselves, where a fault looked at that."""
    looks = [event for event in of_kind(ChildrenSeen, result.events) if event.at <= view.end]
    known = {component.identity: component for component in seen_components(result)}
    for parent in dict.fromkeys(event.parent for event in looks):
        replica = known.get(parent)
        of, node = (str(parent), "") if replica is None else (replica.name, replica.node)
        children = _children([event for event in looks if event.parent == parent], _end_of(parent, result), view)
        for title in dict.fromkeys(child.title for child in children):
            rows = _rows(child.life for child in children if child.title == title)
            for number, row in enumerate(rows, start=1):
                which = "" if len(rows) == 1 else f" #{number}"
                yield ProcessLane(f"{title} of {of}{which}", CHILD, node, tuple(row))


def _end_of(parent: Identity, result: Result) -> float:
    gone = [e.at for e in of_kind(ComponentGone, result.events) if e.component.identity == parent]
    return min(gone, default=math.inf)


def _children(looks: Sequence[ChildrenSeen], parent_gone: float, view: View) -> list[_Child]:
    """Each child from when it began, as far as that is known, until a look no longer finds it, or its parent went."""
    struck = {identity for look in looks for identity in look.struck}
    first = {identity: (look, place) for look in reversed(looks) for place, identity in enumerate(look.processes)}
    found = []
    for identity, (look, place) in first.items():
        age = max(0.0, look.ages[place]) if place < len(look.ages) else 0.0
        begin = look.at - age if age or look is not looks[0] else view.begin
        missed = [later.at for later in looks if later.at > look.at and identity not in later.processes]
        end = min([*missed, parent_gone])
        life = Life(
            identity=str(identity),
            pid=identity.pid,
            begin=max(begin, view.begin) - view.zero,
            end=None if math.isinf(end) else max(end, begin, view.begin) - view.zero,
            was_there=begin <= view.begin,
            victim=identity in struck,
        )
        found.append(_Child(look.titles[place] if place < len(look.titles) else "process", life))
    return sorted(found, key=lambda child: child.life.begin)
