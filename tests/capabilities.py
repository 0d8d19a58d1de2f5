"""The parts of a cluster, for tests of what they do."""

from __future__ import annotations

from typing import TypeVar

from pytest_serve_chaos.cluster.base import Cluster
from pytest_serve_chaos.cluster.capabilities import Capability

T = TypeVar("T")


def part(cluster: Cluster, wanted: Capability[T]) -> T:
    """The part of the cluster that has that capability."""
    found = cluster.capability(wanted)
    assert found is not None, f"{type(cluster).__name__} has no {wanted.name}"
    return found
