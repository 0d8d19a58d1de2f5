"""The time in which the guide's test wants a sick replica replaced, by the periods that its deployment has."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from pytest_serve_chaos.cluster.profiles import timing
from pytest_serve_chaos.cluster.rest import ServeStatus
from pytest_serve_chaos.errors import ObservationError
from pytest_serve_chaos.handle import ServeCluster
from pytest_serve_chaos.model import Json
from pytest_serve_chaos.suite.health_checks import options_by_deployment, replaced_within

GUIDE = timing("guide")
SLOW: dict[str, Json] = {"health_check_period_s": 60, "health_check_timeout_s": 90.0, "graceful_shutdown_timeout_s": 40}


@pytest.mark.parametrize(
    ("options", "mode", "seconds"),
    [
        ({}, "raise", 3 * 10 + 10 + 20 + 5),
        ({}, "hang", 3 * (10 + 30) + 10 + 20 + 5),
        (SLOW, "raise", 3 * 60 + 60 + 40 + 5),
        (SLOW, "hang", 3 * (60 + 90) + 60 + 40 + 5),
        ({"health_check_period_s": 60, "health_check_timeout_s": None}, "hang", 3 * (60 + 30) + 60 + 20 + 5),
    ],
)
def test_the_deployments_own_periods_count(options: dict[str, Json], mode: str, seconds: float) -> None:
    assert replaced_within(options, mode, GUIDE) == seconds


def test_what_serve_does_not_say_at_once_is_asked_again() -> None:
    answers: list[ServeStatus | ObservationError] = [
        ObservationError("busy"),
        ServeStatus({}, {}, {}, {}, (), {}, None, options={"ranker#Ranker": SLOW}),
    ]

    def serve() -> ServeStatus:
        answer = answers.pop(0)
        if isinstance(answer, ObservationError):
            raise answer
        return answer

    cluster = SimpleNamespace(backend=SimpleNamespace(dashboard=SimpleNamespace(serve=serve)))
    assert options_by_deployment(cast("ServeCluster", cluster)) == {"ranker#Ranker": SLOW}
