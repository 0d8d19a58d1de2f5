"""Lets a world happen: who asks, what becomes of each, and the history that the plugin would have written of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Protocol

from pytest_serve_chaos.events import FaultLanded, Moment, TopologySeen
from pytest_serve_chaos.history import History
from pytest_serve_chaos.model import Json, Request
from pytest_serve_chaos.traffic.arrivals import Timetable
from tests.adversary.worlds import App, World
from tests.unit.histories import FAULT, cluster, component, written

EXPERIMENT = "worker_failure"
_PROXIES = ("head", "worker-1", "worker-2")

_REFUSED_IN = 0.00117
_LATER = 0.0137
"""Seconds by which persistent connections begin later, so that no request is due at the very end of a window."""

_LONGEST_DELAY = 1.0
"""Seconds between two things that one test does one after the other."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What became of one request. Times are seconds from the fault.

    Attributes:
        unsent: The load generator could not send it.
    """

    index: int
    due: float
    sent: float
    finished: float
    error: str | None = None
    unsent: bool = False

    @property
    def latency(self) -> float:
        """What the user waited."""
        return self.finished - self.due


def requests_of(world: World) -> tuple[Asked, ...]:
    """All requests on fresh connections."""
    return tuple(_ask(world, index, at) for index, at in enumerate(_due(world)) if at <= world.after)


def _due(world: World) -> list[float]:
    begin = -world.steady - world.warm_up
    if world.uneven is not None:
        table = Timetable(begin, world.uneven, world.seed)
        table.begin_stages(-world.steady)
        return [table.due(index) for index in range(table.due_by(world.after))]
    first = math.ceil((begin - 1e-9) * world.rate - world.phase)
    return [(n + world.phase) / world.rate for n in range(first, math.floor(world.after * world.rate) + 2)]


def _ask(world: World, index: int, due: float) -> Asked:
    if any(span.begins <= due < span.ends for span in world.unsent):
        return Asked(index, due, due, due, "NotSent", unsent=True)
    sent = next((span.ends for span in world.stood_still if span.begins <= due < span.ends), due)
    finished, error = fate(world, sent, index)
    if finished - sent > world.timeout:
        finished, error = sent + world.timeout, "ReadTimeout"
    return Asked(index, due, sent, finished, error)


def fate(world: World, sent: float, index: int) -> tuple[float, str | None]:
    """When a request ends that is sent at a moment, and with which error. The first effect that it meets decides.

    Who waits for ever ends at infinity.
    """
    takes = latency(world.app, index, cold=sent < -world.steady)
    for effect in world.effects:
        if not effect.hits(index):
            continue
        if effect.begins <= sent < effect.ends:
            if effect.does == "refuses":
                return sent + _REFUSED_IN, "ConnectError"
            if effect.does == "swallows":
                return math.inf, "ReadTimeout"
            if effect.does in ("fails", "lies"):
                return sent + takes, "HTTP 500" if effect.does == "fails" else "WrongAnswer"
            if effect.does == "holds":
                return max(sent + takes, effect.ends), None
            if effect.does == "queues":
                return effect.ends + takes, None
            share = 1.0 if effect.does == "slow" else (sent - effect.begins) / (effect.ends - effect.begins)
            return sent + takes + share * effect.by, None
        if sent < effect.begins < sent + takes:
            if effect.does == "holds":
                return max(sent + takes, effect.ends), None
            if effect.does == "queues":
                return sent + takes + effect.ends - effect.begins, None
            if effect.cuts:
                return effect.begins, "RemoteProtocolError"
    return sent + takes, None


def latency(app: App, index: int, *, cold: bool) -> float:
    """What a request takes that no effect meets."""
    return app.cold if cold and app.cold else app.latency(index)


# -- persistent connections --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AskedPersistently:
    """What became of a request on the persistent connection to the proxy of a node."""

    node: str
    index: int
    due: float
    finished: float
    lost: bool


def persistent_requests_of(world: World) -> tuple[AskedPersistently, ...]:
    """All requests on persistent connections: one at a time on each, and none is due while another is in flight."""
    persistent = world.persistent
    if persistent is None:
        return ()
    return tuple(one for node in _PROXIES for one in _lane(world, node, persistent.rate))


def _lane(world: World, node: str, rate: float) -> Iterator[AskedPersistently]:
    assert world.persistent is not None
    spans = [span for where, span in world.persistent.lost if where == node]
    begin, number, slot = -world.steady - world.warm_up + _LATER, 0, 0
    while (due := begin + slot / rate) <= world.after:
        lost = any(span.begins <= due < span.ends for span in spans)
        finished = due + (world.timeout if lost else min(world.app.takes, world.timeout))
        yield AskedPersistently(node, number, due, finished, lost)
        number += 1
        slot = max(slot + 1, math.ceil((finished - begin) * rate - 1e-9))


# -- what is written of it ---------------------------------------------------------------------------------------------


def history_of(world: World) -> History:
    """The history of a world; what is judged is `EXPERIMENT`."""
    history = History()
    if world.earlier:
        _write_an_earlier_experiment(history, world)
    _write_events(history, world)
    source = _source(world)
    for one in requests_of(world):
        history.add_request(_request(one, source))
    for kept in persistent_requests_of(world):
        stream = f"kept:{_PROXIES.index(kept.node)}"
        error, status = ("ReadTimeout", None) if kept.lost else (None, 200)
        due, path = FAULT + kept.due, f"proxy on {kept.node}"
        history.add_request(
            Request(kept.index, stream, due, due, FAULT + kept.finished, status, error, path=path, source=source)
        )
    for one in _neighbours(world):
        history.add_request(_request(one, "traffic-2"))
    return history


def _source(world: World) -> str:
    return "traffic-1" if world.by_hand else ""


def _request(one: Asked, source: str) -> Request:
    sent = None if one.unsent else FAULT + one.sent
    status = None if one.error else 200
    return Request(one.index, "fresh", FAULT + one.due, sent, FAULT + one.finished, status, one.error, source=source)


def _neighbours(world: World) -> Iterator[Asked]:
    """Requests to another app in the same seconds: they change nothing."""
    if not world.neighbour:
        return
    rate = min(world.rate, 10.0)
    for index in range(math.floor((world.steady + world.after) * rate)):
        due = index / rate - world.steady
        lost = world.neighbour == "lost" and due >= 0
        yield Asked(index, due, due, due + (world.timeout if lost else 0.01), "ReadTimeout" if lost else None)


def _write_events(history: History, world: World) -> None:
    def write(at: float, kind: str, text: str, /, **data: Json) -> None:
        history.add(written(kind, text, at=FAULT + at, experiment=EXPERIMENT, data=data))

    def write_topology(at: float, moment: Moment) -> None:
        seen = TopologySeen.of(cluster(), moment)
        history.add(replace(seen, at=FAULT + at, experiment=EXPERIMENT))

    begin, end = -world.steady - world.warm_up, world.after
    source = _source(world)
    demands = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(world.demands.expectations).items()}
    if world.by_hand and world.earlier:
        write(begin - 1.0, "asked", "a fault before this traffic", fault=EXPERIMENT, injection=99, must_land=True)
    if world.uneven is not None:
        stages, arrivals = str(world.uneven), world.uneven.arrivals
        write(begin, "traffic", "traffic", source=source, rate=world.uneven.first, stages=stages, arrivals=arrivals)
    elif world.by_hand:
        write(begin, "traffic", "traffic begins", source=source, rate=world.rate)
    write(begin, "phase", "steady")
    if not world.by_hand:
        write(begin, "expectations", "what is demanded", source=source, **demands)
    write(-world.steady, "steady", "steady since then")
    if world.uneven is not None:
        write(-world.steady, "stages", "stages begin", source=source)
    write_topology(-0.02, Moment.BEFORE)
    for number, fault in enumerate(world.faults):
        _write_fault(write, number, fault.asked, world)
    if not world.by_hand:
        write(0.0, "phase", "watch")
    last = max(fault.asked + fault.takes for fault in world.faults)
    back = last + (world.persistent.redundancy if world.persistent else 0.5)
    write(back, "redundancy_back", "all is there again")
    write(back, "settled", "a new route was served by all 3 proxies")
    end = max(end, back)
    write_topology(end, Moment.AFTER)
    if world.by_hand:
        # A test judges its traffic when that has ended, and what was in flight with it.
        write(end + world.timeout + _LONGEST_DELAY, "expectations", "what is demanded", source=source, **demands)
    else:
        write(end, "phase", "done")


class _Write(Protocol):
    def __call__(self, at: float, kind: str, text: str, /, **data: Json) -> None: ...


def _write_fault(write: _Write, number: int, asked: float, world: World) -> None:
    fault = world.faults[number]
    write(asked, "asked", f"fault {number + 1}", fault=EXPERIMENT, injection=number, must_land=fault.must_land)
    struck = asked + fault.takes
    if fault.takes:
        write(struck, "hit", f"fault {number + 1} ended its victim")
    if not fault.landed:
        write(struck + 0.01, "note", "the fault is not proved")
        return
    write(struck + 0.01, "evidence", "its processes are gone", side="victim")
    write(struck + 0.02, "evidence", "the GCS says DEAD", side="cluster")
    node = world.persistent.hit if world.persistent else "worker-1"
    victim = str(component("head" if node == "head" else "worker", node).identity)
    write(struck + 0.01, "landed", "it is down", victims=[victim], served=fault.served, injection=number)


def _write_an_earlier_experiment(history: History, world: World) -> None:
    """All of its requests are lost from its fault on; the experiment that follows has nothing to do with it."""
    fault = FAULT - 500.0
    for at, kind, text in ((-5.0, "phase", "steady"), (0.0, "asked", "an earlier fault"), (60.0, "phase", "done")):
        data: dict[str, Json] = {"injection": 0} if kind == "asked" else {}
        history.add(written(kind, text, at=fault + at, experiment="earlier", data=data))
    landed = FaultLanded("it is down", at=fault + 0.1, experiment="earlier", injection=0, served=9)
    history.add(landed)
    for index in range(130):
        due = fault + index / 2 - 5.0
        history.add_request(Request(index, "fresh", due, due, due + world.timeout, None, "ReadTimeout"))
