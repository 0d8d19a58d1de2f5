"""What a cluster logs, and what an answer says, is text on the terminal and in JUnit XML: it commands nothing."""

from __future__ import annotations

import re

from pytest_serve_chaos.errors import ObservationError
from pytest_serve_chaos.testing import FakeBehaviour, FakeCluster
from tests.plugin.conftest import RunChaos

NASTY = "::error file=x::owned \x1b]52;c;Y3VybA==\x07\x1b[2J\rall is well \u202e ##[command]x"
HARMFUL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]|^\\s*::|##\\[", re.MULTILINE)

FAILS = """
    import pytest

    @pytest.mark.head_failure
    def test_head(experiment):
        experiment.run(availability=0.7, longest_outage="500ms", window="700ms")
"""


class Nasty(FakeCluster):
    """Its logs say what a terminal, or a CI system, would obey."""

    def log_excerpt(self, since: float, *, pattern: str | None = None, lines: int = 40) -> tuple[str, ...]:
        del since, pattern, lines
        return (NASTY,)


class NastyStart(FakeCluster):
    """It cannot be started, for a reason that an API server gives."""

    def nodes(self) -> tuple[object, ...]:  # type: ignore[override]
        raise ObservationError(f"status 500: {NASTY}\n{NASTY}", checked=[NASTY])


def test_the_logs_in_the_report_of_a_failure(run_chaos: RunChaos) -> None:
    ran = run_chaos(FAILS, "--junit-xml=junit.xml", behaviour=FakeBehaviour(outage=22), cluster=Nasty)
    ran.outcomes(failed=1)
    assert r"\x3a:error file=x::owned \x1b]52;c;Y3VybA==\x07\x1b[2J\rall is well \u202e #\x23[command]x" in ran.text
    assert not HARMFUL.search(ran.text)
    assert not HARMFUL.search((ran.path / "junit.xml").read_text())


def test_the_reason_why_a_cluster_does_not_start(run_chaos: RunChaos) -> None:
    ran = run_chaos(FAILS, "--junit-xml=junit.xml", cluster=NastyStart)
    assert "owned" in ran.text
    assert not HARMFUL.search(ran.text)
    assert not HARMFUL.search((ran.path / "junit.xml").read_text())
