"""The verbs other than `kill`: what is frozen for a while is kept, and what is asked to stop goes."""

from __future__ import annotations

import os

import pytest

from pytest_serve_chaos.experiment import Experiment
from tests.frozen import FOR, FROZEN

NODE = pytest.param("worker@victims", marks=pytest.mark.node_failure(how="freeze", for_=FOR), id="node")


@pytest.mark.parametrize("role", [*FROZEN, NODE])
def test_what_is_frozen_is_kept(experiment: Experiment, role: str) -> None:
    result = experiment.run(window="6s")
    assert result.kept(role)


STOPPED = [
    pytest.param("worker@victims", marks=pytest.mark.worker_failure(how="stop"), id="worker"),
    pytest.param("head", marks=pytest.mark.head_failure(how="stop"), id="head"),
]
if os.environ.get("SERVE_CHAOS_TEST_VERBS") == "all":  # three minutes more: a release takes them
    STOPPED += [
        pytest.param("worker@victims", marks=pytest.mark.node_failure(how="stop"), id="node"),
        pytest.param("gcs", marks=pytest.mark.gcs_failure(how="stop"), id="gcs"),
        pytest.param("redis", marks=pytest.mark.redis_failure(how="stop"), id="redis"),
    ]


@pytest.mark.parametrize("role", STOPPED)
def test_what_is_asked_to_stop_is_replaced(experiment: Experiment, role: str) -> None:
    # What it costs is another matter: all nodes may restart at once, which makes the generator late on two cores.
    result = experiment.sending(send_lag_limit=1.0).measure(window="6s", availability=None)
    assert result.outcome != "inconclusive", result.verdict
    assert result.replaced(role)
