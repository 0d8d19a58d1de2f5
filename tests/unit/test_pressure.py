"""A machine whose processes wait for a processor most of the time shows nothing by what did not answer in time."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_serve_chaos.observe import pressure

SAID = """some avg10=70.19 avg60=80.80 avg300=80.43 total=3152614298
full avg10=0.00 avg60=0.00 avg300=0.00 total=0
"""


def test_the_last_minute_counts(tmp_path: Path) -> None:
    file = tmp_path / "cpu"
    file.write_text(SAID)
    assert pressure.cpu_pressure(file) == pytest.approx(0.808)


def test_a_kernel_that_does_not_say_is_none(tmp_path: Path) -> None:
    assert pressure.cpu_pressure(tmp_path / "missing") is None


@pytest.mark.parametrize(
    ("share", "backend", "words"),
    [
        (0.81, "kind", "processes waited for a processor in 81 % of the last minute"),
        (0.81, "local", "processes waited for a processor in 81 % of the last minute"),
        (0.74, "kind", ""),
        (0.81, "kubernetes", ""),
        (None, "kind", ""),
    ],
)
def test_only_a_cluster_on_a_starved_machine_is_starved(
    share: float | None, backend: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pressure, "cpu_pressure", lambda: share)
    assert pressure.starved(backend) == words
