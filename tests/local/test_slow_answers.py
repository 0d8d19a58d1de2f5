"""An app whose answers take longer than the period of the requests, on a real cluster, and traffic in stages."""

from __future__ import annotations

import pytest

from pytest_serve_chaos.experiment import Experiment

pytestmark = pytest.mark.serve_cluster(app="tests.local.apps:slow")


@pytest.mark.replica_failure
def test_an_app_that_answers_slowly_gets_a_verdict(experiment: Experiment) -> None:
    slow = experiment.sending(rate=2.0, timeout=30.0)
    measured = slow.run(availability=0.8, longest_outage="15s").measurement
    assert measured.before is not None
    assert 1.5 < measured.before.p50 < 10
    assert measured.window >= 22
    assert measured.persistent_sent
    assert not measured.persistent_lost


@pytest.mark.replica_failure
def test_a_replica_is_lost_while_the_load_rises(experiment: Experiment) -> None:
    rising = experiment.sending(rate="2/s for 5s, 6/s", arrivals="poisson", timeout=30.0)
    measured = rising.run(at="8s", availability=0.8, longest_outage="15s").measurement
    assert measured.sent is not None
    assert measured.sent > 80
