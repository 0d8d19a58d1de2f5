"""What is said of a local cluster that does not come up."""

from __future__ import annotations

import pytest

from pytest_serve_chaos.cluster.local.start import did_not_come_up
from pytest_serve_chaos.errors import WaitTimeout

WAITED = WaitTimeout("the app to run", timeout=180.0, last_seen="apps {'ranker': 'DEPLOYING'}")
TRACEBACK = "ranker: Deploying app 'ranker' failed with exception:\nTraceback (most recent call last):\nValueError: 7"


def test_serves_own_traceback_of_the_app_is_shown_and_no_log_lines() -> None:
    error = did_not_come_up(WAITED, [TRACEBACK], lambda: pytest.fail("the logs are not read"))

    assert error.checked == (TRACEBACK,)
    assert "waited 180 s for the app to run" in error.what


def test_without_a_traceback_the_last_log_lines_are_shown_too() -> None:
    error = did_not_come_up(WAITED, ["ranker: 2 replicas wait for a CPU"], lambda: ["raylet: ERROR no room"])

    assert error.checked == ("ranker: 2 replicas wait for a CPU", "raylet: ERROR no room")
