"""Stages and Poisson arrivals: a gap between requests is no outage, and an outage is found in whichever stage it is."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import event
from hypothesis import strategies as st

from pytest_serve_chaos.analysis.result import Result
from pytest_serve_chaos.results import result_of
from pytest_serve_chaos.schedule import Pattern, Schedule, Stage
from tests.adversary.many import on_many
from tests.adversary.simulator import EXPERIMENT, history_of, requests_of
from tests.adversary.worlds import App, Demands, Effect, World

_MOST_REQUESTS = 2500
_PATTERNS: tuple[Pattern, ...] = ("constant", "poisson", "poisson")


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    """One to three stages."""
    rates = st.sampled_from([0.5, 2.0, 5.0, 20.0, 50.0])
    stages = [Stage(draw(rates), draw(st.sampled_from([3.0, 10.0, 17.5]))) for _ in range(draw(st.integers(0, 2)))]
    return Schedule((*stages, Stage(draw(rates))), draw(st.sampled_from(_PATTERNS)))


@st.composite
def worlds(draw: st.DrawFn, *, away: bool) -> World:
    """Worlds with uneven traffic, to apps that answer quickly or slowly; with an outage in some place, or none."""
    schedule = draw(schedules())
    app = App(draw(st.sampled_from([0.0103, 0.0507, 0.5003, 1.5003, 4.5003])), draw(st.sampled_from([0.0, 0.1, 0.5])))
    steady = max(3.0, 6 / schedule.first, 2 * app.longest + 1)
    after = draw(st.sampled_from([20.0, 40.0, 60.0]))
    after = min(after, _MOST_REQUESTS / schedule.most)
    effects: tuple[Effect, ...] = ()
    if away:
        begins = draw(st.integers(0, 100)) / 10
        lasts = draw(st.sampled_from([0.5, 2.0, 5.0, 9.0]))
        effects = (Effect("refuses", begins, begins + lasts + 0.0013, cuts=draw(st.booleans())),)
    longest = draw(st.sampled_from([0.5, 1.0, 3.0, 6.0, 12.0, 30.0]))
    return World(
        rate=schedule.first,
        uneven=schedule,
        seed=draw(st.integers(0, 1000)),
        timeout=30.0,
        app=app,
        steady=steady,
        after=after,
        effects=effects,
        by_hand=draw(st.booleans()),
        demands=Demands(availability=draw(st.sampled_from([None, 0.5, 0.9])), window=after - 2, longest_outage=longest),
    )


def result(world: World) -> Result:
    return result_of(history_of(world), EXPERIMENT)


def gap(world: World) -> float:
    """The longest time from the fault on in which no request was due."""
    due = [0.0, *(one.due for one in requests_of(world) if one.due >= 0)]
    return max((later - earlier for earlier, later in pairwise(due)), default=world.after)


@on_many(worlds(away=False))
def test_a_gap_is_no_outage(world: World) -> None:
    said = result(world)
    assert said.outcome != "failed", said.reasons
    assert said.measurement.outages == ()
    event(said.outcome)
    if gap(world) * 2.5 < (world.demands.longest_outage or 0) and world.demands.availability is None:
        assert said.outcome == "passed", said.reasons


@on_many(worlds(away=True))
def test_an_outage_is_found_in_whichever_stage_it_is(world: World) -> None:
    said, longest = result(world), gap(world)
    (effect,) = world.effects
    cut = world.app.most if effect.cuts else 0.0  # what was on its way is lost as well
    lasted, allowed = effect.ends - effect.begins, world.demands.longest_outage
    assert allowed is not None
    measured = said.measurement.longest_outage
    assert measured is not None
    if effect.ends + longest + world.app.most > world.after - 3:
        return  # nobody asks any more when it is over
    spread = world.app.most - world.app.takes * (1 - world.app.jitter)
    assert lasted - 2 * longest - 0.01 <= measured <= lasted + cut + 2 * longest + spread + 0.01
    if lasted - 2 * longest > allowed:
        event("too long")
        assert said.outcome != "passed"
        if said.measurement.slow_after is not None and 2.5 * longest < allowed:
            event("surely too long")
            assert said.outcome == "failed", said.reasons
    if lasted + cut + 3 * longest + spread < allowed and world.demands.availability is None:
        event("short")
        assert said.outcome != "failed", said.reasons
