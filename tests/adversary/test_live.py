"""What is awaited live is what is judged afterwards: when traffic is back, by stages or chance, and of several apps."""

from __future__ import annotations

import pytest
from hypothesis import event

from pytest_serve_chaos.analysis.record import Record, read_record
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.faults.injection import Injection
from pytest_serve_chaos.history import History
from pytest_serve_chaos.results import result_of
from tests.adversary import test_uneven
from tests.adversary.many import on_many
from tests.adversary.simulator import EXPERIMENT, history_of
from tests.adversary.strategies import worlds
from tests.adversary.test_several_apps import alongside_a_sound_one
from tests.adversary.worlds import World
from tests.unit.rigs import rig_around


def live(history: History, record: Record) -> float | NotYet:
    """What is known at the end of a history, by an experiment that knows what is usual before the fault."""
    rig = rig_around(history=history)
    rig.traffic.source = record.demanded.source
    rig.traffic.slowness = record.slowness
    rig.traffic.of_apps = {part.name: record.of_part(part).slowness for part in record.parts}
    injection = Injection.__new__(Injection)
    injection.rig = rig
    injection.asked = record.asked or 0.0
    return injection.traffic_back_now()


def agree(history: History) -> None:
    """A wait for traffic that ends during the run gives the same moment as the judgement after it."""
    record, result = read_record(history, EXPERIMENT), result_of(history, EXPERIMENT)
    if not record.faults.have_landed or result.measurement.sent is None:
        return
    back = live(history, record)
    event("not yet" if isinstance(back, NotYet) else "back")
    if isinstance(back, NotYet):
        return
    of_parts = [part.measurement.traffic_back for part in result.parts] or [result.traffic_back]
    assert None not in of_parts
    assert back == pytest.approx(max(one for one in of_parts if one is not None), abs=1e-6)


@on_many(worlds())
def test_of_one_app(world: World) -> None:
    agree(history_of(world))


@on_many(worlds())
def test_of_two_apps(world: World) -> None:
    agree(alongside_a_sound_one(history_of(world)))


@on_many(test_uneven.worlds(away=True))
def test_of_requests_that_come_unevenly(world: World) -> None:
    agree(history_of(world))


@on_many(test_uneven.worlds(away=False))
def test_a_gap_that_chance_makes_is_no_outage(world: World) -> None:
    agree(history_of(world))
