"""A cluster without Ray, and tests that every fault and every backend must pass: for authors of these."""

from __future__ import annotations

from pytest_serve_chaos.cluster.waits import HAS_OWN_WAITS, Waits
from pytest_serve_chaos.testing.backend import FAKE, FakeBackend
from pytest_serve_chaos.testing.backend_conformance import BackendConformance
from pytest_serve_chaos.testing.behaviour import QUICK, FakeBehaviour
from pytest_serve_chaos.testing.capabilities import (
    FakeHealthChecks,
    FakeLogs,
    FakeNodes,
    FakeProcesses,
    FakeRedis,
)
from pytest_serve_chaos.testing.cluster import FakeCluster
from pytest_serve_chaos.testing.experiments import FAKE_LOAD, fake_experiment, fake_rig
from pytest_serve_chaos.testing.fault_conformance import FaultConformance
from pytest_serve_chaos.testing.kubernetes import FakeKubernetesCluster, FakeMachines, FakeUpgrades
from pytest_serve_chaos.testing.parts import Part, Parts
from pytest_serve_chaos.testing.plan import Slot
from pytest_serve_chaos.testing.proxies import FakeProxies
from pytest_serve_chaos.testing.server import FakeServer, Handler, Reply
from pytest_serve_chaos.testing.world import World

__all__ = [
    "FAKE",
    "FAKE_LOAD",
    "HAS_OWN_WAITS",
    "QUICK",
    "BackendConformance",
    "FakeBackend",
    "FakeBehaviour",
    "FakeCluster",
    "FakeHealthChecks",
    "FakeKubernetesCluster",
    "FakeLogs",
    "FakeMachines",
    "FakeNodes",
    "FakeProcesses",
    "FakeProxies",
    "FakeRedis",
    "FakeServer",
    "FakeUpgrades",
    "FaultConformance",
    "Handler",
    "Part",
    "Parts",
    "Reply",
    "Slot",
    "Waits",
    "World",
    "fake_experiment",
    "fake_rig",
]
