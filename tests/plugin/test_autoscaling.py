"""An app that Serve scales: what it scales to is no leak, and what it scales from is no loss."""

from __future__ import annotations

from typing import Literal

import pytest

from pytest_serve_chaos.testing import FakeBehaviour
from tests.plugin.conftest import RunChaos

MOST_REPLICAS = 6  # of a fake that is autoscaled


@pytest.mark.parametrize("when", ["with traffic", "with a fault"])
def test_an_app_that_scales_up_in_an_experiment_passes(
    run_chaos: RunChaos, when: Literal["with traffic", "with a fault"]
) -> None:
    ran = run_chaos(
        f"""
        import pytest

        @pytest.mark.replica_failure
        def test_it(experiment, serve_cluster):
            result = experiment.run(availability=0.9, window="2s")
            assert len(result.after.of("replica")) == {MOST_REPLICAS}

        @pytest.mark.replica_failure
        def test_the_next_one_has_the_same_cluster(experiment):
            experiment.run(availability=0.9, window="2s")
        """,
        behaviour=FakeBehaviour(autoscales=when),
    )

    ran.outcomes(passed=2)
    assert len(ran.backend.clusters) == 1, "it is as it was, though it has more replicas"
