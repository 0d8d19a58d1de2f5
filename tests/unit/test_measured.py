"""The tables of measured figures in the documentation are those of the runs in docs/measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from tests.plugin.conftest import ROOT
from tools.measured import reduced, runs_of, written

PAGES = (ROOT / "README.md", ROOT / "docs" / "measured.md")


def summary(verdict: str = "passed", **figures: object) -> dict[str, object]:
    """What `summary.json` has of a run with one experiment."""
    measurement = {
        "sent": 400, "lost": 1, "late": 2, "seconds": 20.0, "availability": 0.9925, "longest_outage": 0.21,
        "redundancy_back": 12.04, "settled": 21.5, "before": {"p99": 0.05}, "during": {"p99": 1.25}, **figures,
    }  # fmt: skip
    reasons = ["1 of 400 requests lost (1 ReadError). Allowed: none."] if verdict == "failed" else []
    experiment: dict[str, object] = {
        "experiment": "worker_lost", "verdict": verdict, "reasons": reasons, "measurement": measurement,
        "run_again": False,
    }  # fmt: skip
    again = {**experiment, "run_again": True}
    return {"run": {"ray_version": "2.60.0", "workers": 2, "replicas": 6}, "experiments": [again, experiment]}


def page(kind: str, *runs: Mapping[str, object]) -> str:
    def of(backend: str) -> Sequence[Mapping[str, object]]:
        assert backend == "local"
        return runs

    text = written(f"before\n<!-- {kind} -->\nold\n<!-- /{kind} -->\nafter\n", of)
    assert text.startswith(f"before\n<!-- {kind} -->\n")
    assert text.endswith(f"\n<!-- /{kind} -->\nafter\n")
    assert "old" not in text
    return text


def test_a_table_has_the_least_and_the_most_of_all_runs() -> None:
    better = summary(lost=0, late=0, availability=1.0, longest_outage=0.0, during=None)
    worse = summary("failed", during={"p99": None}, settled=None, redundancy_back=15.0)
    text = page("measured_local", reduced(better, 600.0), reduced(summary(), 612.0), reduced(worse, 700.0))
    assert "3 runs with Ray 2.60.0, 10 to 12 minutes for each." in text
    assert text.splitlines()[-3] == (
        "| `worker_lost` | passed, passed, failed | 0 of 400, 3 of 400, 3 of 400 | 99.25 % - 100.00 % | 0.0 s - 0.2 s |"
        " 50 ms | 1.2 s - lost | 12.0 s - 15.0 s | 21.5 s |"
    )


@pytest.mark.parametrize(("outage", "shown"), [(0.0, "-"), (0.21, "0.2 s")])
def test_a_sample_is_the_row_of_the_last_run(outage: float, shown: str) -> None:
    earlier = reduced(summary(lost=9))
    text = page("measured_local_worker_lost", earlier, reduced(summary(longest_outage=outage)))
    titles, row = (" ".join(line.split()) for line in text.splitlines()[3:5])
    assert titles == "experiment verdict lost or late / sent available outage redundancy settled"
    assert row == f"worker_lost passed 3 / 400 99.25 % in 20 s {shown} 12.0 s 21.5 s"


def test_a_sample_that_failed_has_its_reasons_without_what_is_in_brackets() -> None:
    lines = page("measured_local_worker_lost", reduced(summary("failed"))).splitlines()
    assert " FAILED " in lines[4]
    assert lines[5] == "  1 of 400 requests lost (...). Allowed: none."


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_the_pages_have_the_figures_of_the_runs(path: object) -> None:
    text = (ROOT / str(path)).read_text()
    assert text == written(text, runs_of), "run: python tools/measured.py write README.md docs/measured.md"
