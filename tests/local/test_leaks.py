"""Recovered, or only looks so: apps that leak or spin once a controller was lost, and one that does neither."""

from __future__ import annotations

import pytest

from pytest_serve_chaos.experiment import Experiment

WATCHED = {"leaks": 0, "watch_for": "60s", "availability": 0.9, "window": "6s"}


@pytest.mark.controller_failure
@pytest.mark.serve_cluster(app="tests.local.apps:leaky")
def test_an_app_that_leaks_after_the_controller_is_lost_fails(experiment: Experiment) -> None:
    result = experiment.measure(**WATCHED)

    assert result.outcome == "failed", result.reasons
    assert result.watched is not None
    assert len(result.watched.leaks) == 2  # both replicas, and nobody else
    assert all(leak.startswith("replica apps#Leaky on worker") for leak in result.watched.leaks), result.reasons
    assert all("MiB of memory a minute" in leak and "descriptors" in leak for leak in result.watched.leaks)


@pytest.mark.controller_failure
@pytest.mark.serve_cluster(app="tests.local.apps:spinning")
def test_an_app_that_spins_after_the_controller_is_lost_fails(experiment: Experiment) -> None:
    result = experiment.measure(**WATCHED)

    assert result.outcome == "failed", result.reasons
    assert result.watched is not None
    assert len(result.watched.leaks) == 2
    assert all("processors all the time" in leak for leak in result.watched.leaks), result.reasons


@pytest.mark.controller_failure
def test_the_guides_app_does_not_leak(experiment: Experiment) -> None:
    result = experiment.run(**WATCHED)

    assert result.watched is not None
    assert result.watched.leaks == ()
    roles = {trend.process.split()[0] for trend in result.watched.trends}
    assert {"gcs", "controller", "proxy", "replica"} <= roles
