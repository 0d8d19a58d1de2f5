from __future__ import annotations

import math

from hypothesis import event

from pytest_serve_chaos.analysis.result import Result
from pytest_serve_chaos.results import result_of
from tests.adversary.many import on_many
from tests.adversary.simulator import EXPERIMENT, history_of
from tests.adversary.strategies import worlds
from tests.adversary.truth import Truth
from tests.adversary.worlds import World


def result(world: World) -> Result:
    return result_of(history_of(world), EXPERIMENT)


@on_many(worlds())
def test_1_away_beyond_what_is_allowed_is_never_passed(world: World) -> None:
    truth = Truth(world)
    found = list(truth.violations())
    event("violated" if found else "not violated")
    if not found:
        return
    said = result(world)
    assert said.outcome != "passed", found
    found = list(truth.violations(seen=True))
    if found and not list(truth.nothing_shown()) and truth.shown() and truth.was_steady:
        event("failed")
        assert said.outcome == "failed", (found, said.outcome, said.reasons)


@on_many(worlds())
def test_2_where_nothing_is_shown_nothing_is_passed(world: World) -> None:
    truth = Truth(world)
    found = list(truth.nothing_shown())
    event(found[0] if found else "all is shown")
    if found:
        assert result(world).outcome != "passed", found


@on_many(worlds())
def test_3_what_is_sound_and_within_the_demands_is_never_failed(world: World) -> None:
    truth = Truth(world)
    found = list(truth.doubts())
    event("in doubt" if found else "sound")
    if found:
        return
    said = result(world)
    assert said.outcome != "failed", said.reasons
    if not list(truth.nothing_shown()) and truth.shown():
        event("passed")
        assert said.outcome == "passed", (said.outcome, said.reasons)


@on_many(worlds())
def test_4_figures_are_true(world: World) -> None:
    truth = Truth(world)
    measured = result(world).measurement
    landed = any(fault.landed for fault in world.faults)
    if not landed or any(fault.must_land and not fault.landed for fault in world.faults):
        assert (measured.sent, measured.lost, measured.availability, measured.longest_outage) == (None,) * 4
        return
    if truth.counted(world.demands.window)[0] == 0:
        assert measured.sent is None
        return
    assert measured.seconds is not None
    sent, lost, late = truth.counted(measured.seconds)
    assert (measured.sent, measured.lost) == (sent, lost)
    assert measured.in_flight == truth.in_flight
    assert measured.lost_beyond_in_flight == truth.lost - truth.in_flight
    if world.persistent is not None:
        assert measured.persistent_sent == len(truth.persistent)
        assert measured.persistent_lost == sum(one.lost for one in truth.persistent)
    if not truth.was_steady:
        return
    assert measured.late == late
    assert measured.availability == (sent - lost - late) / sent
    assert measured.before is not None
    assert math.isclose(measured.before.p99, truth.p99_before, abs_tol=1e-6)
    assert measured.during is not None
    during = max(truth.p99_during(measured.seconds), truth.p99_during(world.demands.window))
    assert math.isclose(measured.during.p99, during, abs_tol=1e-6)
    outage, back = truth.longest_outage, truth.traffic_back
    if world.stood_still:
        # What was sent late felt something else. It may not hide an outage, but for as long as it took.
        hidden = sum(span.ends - span.begins + truth.within() for span in world.stood_still)
        assert measured.longest_outage is not None
        assert measured.longest_outage >= outage.low - hidden - 0.01
        return
    assert outage.holds(measured.longest_outage), (outage, measured.outages)
    assert back.holds(measured.traffic_back), (back, measured.outages)
