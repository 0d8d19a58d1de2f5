"""How long a replica may go without a request before that is no chance."""

from __future__ import annotations

import random

import pytest

from pytest_serve_chaos.final_check import idle_after


@pytest.mark.parametrize(("replicas", "rate"), [(50, 5.0), (4, 0.5), (6, 20.0), (1, 50.0)])
def test_by_chance_each_replica_has_answered_by_then(replicas: int, rate: float) -> None:
    requests = int(idle_after(replicas, rate) * rate)
    for seed in range(300):
        choice = random.Random(seed)
        assert len({choice.randrange(replicas) for _ in range(requests)}) == replicas


def test_it_takes_longer_with_fewer_requests() -> None:
    assert idle_after(50, 5.0) == pytest.approx(10 * idle_after(50, 50.0))


def test_without_replicas_nobody_waits_for_long() -> None:
    assert idle_after(0, 5.0) < 60
