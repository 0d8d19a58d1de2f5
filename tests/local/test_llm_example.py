"""The example of an LLM-like service, as its users run it: in its directory, with its own configuration."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "llm"


def test_the_loss_of_an_engine_and_of_the_head_gets_a_verdict(tmp_path: Path) -> None:
    program = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--serve-chaos", "-k", "engine or head"]
    ran = subprocess.run(
        [*program, f"--serve-chaos-report-dir={tmp_path}"],
        cwd=EXAMPLE,
        env={name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "SERVE_CHAOS_"))},
        capture_output=True,
        text=True,
        check=False,
        timeout=900.0,
    )

    assert ran.returncode == 0, ran.stdout[-6000:] + ran.stderr[-1000:]
    (summary,) = tmp_path.glob("2*/summary.json")
    engine, head = json.loads(summary.read_text())["experiments"]
    for experiment in (engine, head):
        assert experiment["verdict"] == "passed"
        assert experiment["measurement"]["before"]["p50"] > 1.5
        assert experiment["measurement"]["sent"] >= 300
        assert [part["name"] for part in experiment["parts"]] == ["short", "long"]
    assert engine["identities"]["replica"]["gone"]
