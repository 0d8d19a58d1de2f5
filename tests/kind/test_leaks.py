"""What processes in pods use, on real kind: the guide's app does not leak after its controller was lost."""

from __future__ import annotations

import pytest

from pytest_serve_chaos.experiment import Experiment
from tests.kind.needs import needs_kind

pytestmark = needs_kind


@pytest.mark.controller_failure
def test_the_guides_app_does_not_leak_in_pods(experiment: Experiment) -> None:
    result = experiment.run(leaks=0, watch_for="60s", availability=0.9, window="6s")

    assert result.watched is not None
    assert result.watched.leaks == ()
    assert result.watched.samples > 40
    roles = {trend.process.split()[0] for trend in result.watched.trends}
    assert {"gcs", "raylet", "controller", "proxy", "replica"} <= roles
    used = {trend.figure for trend in result.watched.trends if trend.process.startswith("replica")}
    assert {"memory", "processor", "queue"} <= used
