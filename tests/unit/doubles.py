"""Clusters of which a test needs a few capabilities, or none."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

from pytest_serve_chaos.cluster.base import Cluster
from pytest_serve_chaos.cluster.capabilities import Capabilities, Offer


def cluster_with(*offers: Offer, **members: object) -> Cluster:
    """A cluster with these capabilities, and with no other members than these."""
    return cast("Cluster", SimpleNamespace(capability=Capabilities(*offers).get, **members))
