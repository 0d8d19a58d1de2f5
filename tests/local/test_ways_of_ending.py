"""However a run on a real local cluster ends, and whenever, nothing stays that nobody repairs."""

from __future__ import annotations

import os

import pytest

from tests.local.moments import MOMENTS, Moment
from tests.local.ways_of_ending import WAYS, Kind, NoSmallDisk, Way, end

ALL = os.environ.get("SERVE_CHAOS_WAYS") == "all"
"""Whether each way is tried at each moment, which takes a quarter of an hour; else with the fault."""


def each(kind: Kind) -> pytest.MarkDecorator:
    cells = [(way, moment) for way in WAYS if way.kind == kind for moment in MOMENTS if moment in way.moments]
    cases = [pytest.param(*cell, id=f"{cell[0].name}-{cell[1]}") for cell in cells if ALL or cell[1] == "during"]
    return pytest.mark.parametrize(("way", "moment"), cases)


@each("interrupted")
def test_a_signal_leaves_nothing(way: Way, moment: Moment) -> None:
    seen = end(way, moment)
    assert not seen.left, seen.words
    # A second signal may come when the run is over and Python is on its way out: it ends the process as it always does.
    assert seen.status in {pytest.ExitCode.INTERRUPTED, -15 if "twice" in way.name else 2}, seen.output
    assert "Traceback" not in seen.output
    assert seen.healed or moment not in ("during", "healing")


@each("killed")
def test_what_is_killed_has_its_repairer(way: Way, moment: Moment) -> None:
    seen = end(way, moment)
    assert seen.left
    assert bool(seen.left.frozen) == (moment in ("during", "healing"))
    assert not seen.remains, (seen.words, seen.remains, seen.next_output)
    assert seen.status != 0
    if way.repairer:
        assert seen.repaired_by == way.repairer
    else:
        assert "undo: the local cluster of a run that ended by force" in seen.next_output


@each("hindered")
def test_a_run_that_goes_on_heals_what_it_broke_and_says_what_is_wrong(way: Way, moment: Moment) -> None:
    try:
        seen = end(way, moment)
    except NoSmallDisk as error:
        pytest.skip(str(error))
    assert not seen.remains, (seen.words, seen.remains, seen.next_output)
    assert seen.healed
    assert "INTERNALERROR" not in seen.output
    assert "Traceback (most recent call last)" not in seen.output


@each("stopped")
def test_what_a_stopped_run_has_frozen_goes_on_without_it(way: Way, moment: Moment) -> None:
    seen = end(way, moment)
    assert len(seen.left.frozen) == 1
    assert not seen.remains
    assert seen.status == 0, seen.output
