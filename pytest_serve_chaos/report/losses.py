"""What was lost since the fault, by what became of it, its way and the replica that answered."""

from __future__ import annotations

from dataclasses import dataclass, field

from pytest_serve_chaos.report.timeline import Requests, Timeline


@dataclass(frozen=True, slots=True, order=True)
class LossKind:
    """What lost requests have in common.

    Attributes:
        outcome: What became of them: ``ReadTimeout``, ``HTTP 500``.
        way: Which way they took, in words.
        replica: The replica that answered; "" where none did, or the answer does not say.
    """

    outcome: str
    way: str
    replica: str


@dataclass(slots=True)
class Losses:
    """Lost requests of one kind, in the order in which they ended.

    Attributes:
        due: When each was due, in seconds from the fault.
        waited: How many seconds each waited.
    """

    due: list[float] = field(default_factory=list)
    waited: list[float] = field(default_factory=list)


def losses_of(timeline: Timeline) -> list[tuple[LossKind, Losses]]:
    """Those that had not ended when the fault came, or were due until the observation ended; the most first."""
    found: dict[LossKind, Losses] = {}
    columns = timeline.requests
    for number, outcome in enumerate(columns.outcome):
        due, took = columns.scheduled[number], columns.latency[number]
        if outcome and due + took >= 0 and due <= timeline.judged_until:
            replica = columns.replicas[columns.replica[number]]
            kind = LossKind(columns.outcomes[outcome], way_of(columns, number), replica)
            lost = found.setdefault(kind, Losses())
            lost.due.append(due)
            lost.waited.append(took)
    return sorted(found.items(), key=lambda item: (-len(item[1].due), item[0]))


def way_of(columns: Requests, number: int) -> str:
    """Which way a request took, in words."""
    if columns.kept[number]:
        return f"persistent connection to {columns.ways[columns.way[number]]}"
    app = columns.apps[columns.app[number]]
    return "fresh connection" + (f", app {app}" if app else "")
