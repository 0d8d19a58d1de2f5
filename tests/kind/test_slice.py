"""The slice through everything, on a real kind cluster: the head is lost under load, and judged."""

from __future__ import annotations

import pytest

from pytest_serve_chaos.experiment import Experiment
from tests.kind.needs import needs_kind

pytestmark = needs_kind


@pytest.mark.head_failure
def test_head_pod_lost(experiment: Experiment) -> None:
    result = experiment.run()
    assert result.replaced("head")
    assert result.kept("replicas", "proxies", on="workers")
    assert result.kept("worker")
