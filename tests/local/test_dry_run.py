"""A dry run on a real local cluster: each fault has a plan, and every part of it is the very same afterwards."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.capabilities import KILLS_NODES, SIGNALS_PROCESSES
from pytest_serve_chaos.cluster.dry_run import DryRunCluster
from pytest_serve_chaos.cluster.local.cluster import LocalCluster
from pytest_serve_chaos.cluster.local.start import LocalSettings, start_local_cluster
from pytest_serve_chaos.fault_plan import FaultPlan, plan_of
from pytest_serve_chaos.faults.catalogue import BUILT_IN
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.run import Run

HERE = ("kill", "stop", "freeze", "fail_health_check", "update")
"""The verbs that take no Kubernetes."""


def plans(rig: Rig) -> dict[str, FaultPlan]:
    """Those of all faults that such a cluster can have; the app of the guide starts no process."""
    named = [(fault, how) for fault in BUILT_IN for how in fault.verbs if how in HERE and fault.name != "child_failure"]
    return {f"{fault.name} {how}": plan_of(rig, fault.choose({"how": how})) for fault, how in named}


def parts(cluster: LocalCluster) -> set[tuple[str, str, str]]:
    """All that lives in it, and whether it is stopped."""
    return {(part.name, str(part.identity), part.state) for part in cluster.components()}


def test_every_fault_has_a_plan_and_changes_nothing(tmp_path: Path) -> None:
    with closing(start_local_cluster(ClusterSpec(), LocalSettings(logs=tmp_path), print)) as cluster:
        before, config = parts(cluster), cluster.serve_config
        run = Run(tmp_path, lambda *_: DryRunCluster(cluster), seed=1, progress=print)
        try:
            found = plans(run.rig_for(ClusterSpec()))
            assert (parts(cluster), cluster.serve_config) == (before, config)
        finally:
            run.close()
    for name, plan in found.items():
        print(name, *plan.lines, sep="\n")
        assert plan.steps, (name, plan.refused)
        assert not any(step.text.startswith((KILLS_NODES.name, SIGNALS_PROCESSES.name)) for step in plan.steps), name
    assert found["head_failure kill"].steps[0].text.startswith("SIGKILL to all ")
    assert found["app_update update"].steps[0].text.startswith("PUT http://")
