"""The names that pytest learns in every run are those of the tables, which it does not load."""

from __future__ import annotations

from pytest_serve_chaos import markers, names
from pytest_serve_chaos.faults.catalogue import BUILT_IN
from pytest_serve_chaos.kinds import Flag
from pytest_serve_chaos.options import OPTIONS


def test_each_setting_has_its_name_under_its_type() -> None:
    table = {kind: {row.name for row in OPTIONS if row.kind.ini == kind} for kind in names.SETTINGS}

    assert {kind: set(listed.split()) for kind, listed in names.SETTINGS.items()} == table
    assert sum(len(listed.split()) for listed in names.SETTINGS.values()) == len(OPTIONS)


def test_the_type_says_what_the_option_does() -> None:
    for row in OPTIONS:
        assert isinstance(row.kind, Flag) == (row.kind.ini == "bool")
        assert row.kind.repeated == (row.kind.ini == "linelist")


def test_each_marker_says_what_it_takes() -> None:
    *faults, cluster, trials = names.MARKERS
    assert faults == [fault.marker for fault in BUILT_IN]
    assert cluster.startswith(f"{markers.CLUSTER_MARKER}({', '.join(markers.CLUSTER_KEYWORDS)}): ")
    assert trials.startswith(f"{markers.TRIALS_MARKER}({', '.join(markers.TRIALS_KEYWORDS)}): ")
