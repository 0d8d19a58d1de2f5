"""How long a fault waits for the controller to see that a health check fails: by the periods of that deployment."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from pytest_serve_chaos.cluster.profiles import timing
from pytest_serve_chaos.cluster.rest import ServeStatus
from pytest_serve_chaos.faults.health_check import HealthCheckFails
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.model import Component, Identity, Json

VICTIM = Component("replica", "worker-1", Identity("process", ("1", "2")), 1, deployment="ranker#Ranker")
SLOW: dict[str, Json] = {"health_check_period_s": 60, "health_check_timeout_s": 90.0}


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        (None, 3 * (10 + 30) + 10),
        ({"another#Ranker": SLOW}, 3 * (10 + 30) + 10),
        ({"ranker#Ranker": SLOW}, 3 * (60 + 90) + 10),
        ({"ranker#Ranker": {"health_check_period_s": 60}}, 3 * (60 + 30) + 10),
    ],
)
def test_the_third_failure_is_waited_for(said: dict[str, dict[str, Json]] | None, seconds: float) -> None:
    serve = None if said is None else ServeStatus({}, {}, {}, {}, (), {}, None, options=said)
    rig = SimpleNamespace(timing=timing("guide"), watcher=SimpleNamespace(report=SimpleNamespace(serve=serve)))
    assert HealthCheckFails(cast("Rig", rig), VICTIM, "hang").sign_within == seconds
