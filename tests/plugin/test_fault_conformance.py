"""Every fault of this package passes the tests that a fault of a third party must pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pytest_serve_chaos.faults.catalogue import BUILT_IN
from pytest_serve_chaos.faults.spec import FaultSpec
from pytest_serve_chaos.testing import FakeCluster, FakeKubernetesCluster, FaultConformance


class BuiltIn(FaultConformance):
    keywords: ClassVar[Mapping[str, object]] = {"for_": "3s"}


def _conformance(fault: FaultSpec[object]) -> type[FaultConformance]:
    machines = fault.name in ("node_failure", "rayservice_upgrade")
    cluster = FakeKubernetesCluster if machines else FakeCluster
    return type(f"Test_{fault.name}", (BuiltIn,), {"fault": fault, "cluster": cluster, "__module__": __name__})


globals().update({f"Test_{fault.name}": _conformance(fault) for fault in BUILT_IN})
