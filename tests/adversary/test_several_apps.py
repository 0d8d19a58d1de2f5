"""An app that shares its traffic with a sound one is judged as if it were alone: nothing hides behind the other."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import event

from pytest_serve_chaos.analysis.result import Result
from pytest_serve_chaos.events import Demanded
from pytest_serve_chaos.history import History
from pytest_serve_chaos.model import Request
from pytest_serve_chaos.results import result_of
from tests.adversary.many import on_many
from tests.adversary.simulator import EXPERIMENT, history_of
from tests.adversary.strategies import worlds
from tests.adversary.worlds import World


def alongside_a_sound_one(history: History) -> History:
    """The same history, in which as many requests go to another app, which answers all of them at once.

    They are due halfway between those of the first, as the requests of one stream that two apps share are.
    """
    both = History()
    due = sorted(request.scheduled for request in history.requests if not request.kept)
    half = (due[-1] - due[0]) / (len(due) - 1) / 2 if len(due) > 1 else 0.0
    source = next((e.source for e in reversed(history.events) if isinstance(e, Demanded)), "")
    for one in history.events:
        both.add(replace(one, apps=("it", "sound")) if isinstance(one, Demanded) else one)
    for number, request in enumerate(history.requests):
        if request.source != source:
            both.add_request(request)
            continue
        both.add_request(replace(request, app="it"))
        if not request.kept:
            both.add_request(_answered(request, number, half))
    return both


def _answered(request: Request, index: int, later: float) -> Request:
    due = request.scheduled + later
    end = due + request.lag + 0.001
    return Request(index, "fresh", due, due + request.lag, end, 200, source=request.source, app="sound")


def results(world: World) -> tuple[Result, Result]:
    """The app alone, and alongside the other."""
    history = history_of(world)
    return result_of(history, EXPERIMENT), result_of(alongside_a_sound_one(history), EXPERIMENT)


@on_many(worlds())
def test_what_fails_alone_fails(world: World) -> None:
    alone, both = results(world)
    event(alone.outcome)
    if alone.outcome == "failed":
        assert both.outcome == "failed", (alone.reasons, both.reasons)


@on_many(worlds())
def test_what_shows_nothing_alone_is_not_passed(world: World) -> None:
    alone, both = results(world)
    unsent = any("did not send" in reason for reason in alone.reasons)  # a share of all requests
    if alone.outcome == "inconclusive" and not unsent:
        event("inconclusive")
        assert both.outcome != "passed", alone.reasons


@on_many(worlds())
def test_what_passes_alone_passes(world: World) -> None:
    alone, both = results(world)
    event(alone.outcome)
    # In a window with one request of the first app there may be none of the other.
    if alone.outcome == "passed" and both.part("sound").sent:
        assert both.outcome == "passed", both.reasons
        assert both.part("it").lost == alone.lost
