"""What a run does about what earlier runs have left: it undoes its own part, and names the rest."""

from __future__ import annotations

from pathlib import Path

from pytest_serve_chaos.safety.journal import BY_HAND, journal_of
from tests.plugin.conftest import RunChaos
from tests.unit.test_safety import of_a_dead_run

NOTHING = """
    def test_it(serve_cluster):
        pass
"""


def test_what_runs_with_other_reports_have_left_is_counted_and_not_tried(run_chaos: RunChaos, tmp_path: Path) -> None:
    entry = of_a_dead_run(journal_of(tmp_path / "other"), "uncordon_node")

    ran = run_chaos(NOTHING)

    ran.outcomes(passed=1)
    ran.result.stdout.fnmatch_lines(
        [f"*`serve-chaos undo` has 1 more to undo, of runs with reports in {tmp_path}/other"]
    )
    assert "could not be undone" not in ran.text
    assert entry.exists()


def test_what_runs_with_the_same_reports_have_left_is_undone_or_named(run_chaos: RunChaos) -> None:
    ran = run_chaos(NOTHING)
    of_a_dead_run(journal_of(ran.path / ".serve-chaos"), BY_HAND)

    again = run_chaos(NOTHING)

    again.result.stdout.fnmatch_lines(["*could not be undone: what by_hand mends: only you can undo that*"])
    assert "more to undo" not in again.text
