"""The guide's "proxy failure"."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_serve_chaos.experiment import Experiment


@pytest.mark.proxy_failure(by="ray")
def test_proxy_lost(experiment: Experiment) -> None:
    """A proxy that is killed is replaced on the same node; the replicas behind it are kept."""
    result = experiment.run()
    assert result.replaced("proxy", on="victims")
    assert result.kept("replicas")
    assert result.before is not None
    assert result.after is not None
    assert {p.node for p in result.before.of("proxy")} == {p.node for p in result.after.of("proxy")}
