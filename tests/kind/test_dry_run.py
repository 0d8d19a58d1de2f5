"""A dry run on a real cluster, of our own and of somebody else: all of it is the very same before and after."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.dry_run import DryRunCluster
from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.cluster.kubernetes.kind.start import start_kind_cluster
from pytest_serve_chaos.cluster.kubernetes.rayservice.cluster import RayServiceCluster
from pytest_serve_chaos.cluster.private_files import PRIVATE
from pytest_serve_chaos.fault_plan import plan_of
from pytest_serve_chaos.faults.catalogue import BUILT_IN
from pytest_serve_chaos.model import Json
from pytest_serve_chaos.run import Run
from tests.kind.external_rayservice import Somebodys
from tests.kind.needs import kind_settings, needs_kind

pytestmark = needs_kind

DRY = ("--serve-chaos-dry-run", "--serve-chaos-allow=node", "--serve-chaos-seed=7")
CHOICES = [(fault.name, verb) for fault in BUILT_IN for verb in fault.verbs if fault.name != "child_failure"]
"""All faults but one: the app of the guide starts no process."""

EVERY_FAULT = "\n".join(
    [
        "import pytest",
        *(
            f"@pytest.mark.{name}(how={verb!r})\ndef test_{name}_{verb}(experiment):\n    experiment.measure()"
            for name, verb in CHOICES
        ),
    ]
)

# Prints PID, start time and title of each process of Ray and Serve in a container; idle workers come and go. The title
# of an actor ends with the method that it runs at that moment.
_PROCESSES = """
import glob
for name in sorted(glob.glob("/proc/[0-9]*/stat")):
    try:
        started = open(name, "rb").read().rpartition(b")")[2].split()[19].decode()
        title = open(name[:-4] + "cmdline", "rb").read().decode(errors="replace").split(chr(0))[0].strip()
    except OSError:
        continue
    if "ray::Serve" in title or title.endswith(("raylet", "gcs_server")):
        print(name.split("/")[2], started, title.split(".")[0] if title.startswith("ray::") else title)
"""


@dataclass(frozen=True)
class Ours:
    """A cluster of our own, and its owner's view of it."""

    cluster: RayServiceCluster
    directory: Path
    owner: Somebodys


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ours]:
    directory = tmp_path_factory.mktemp("dry")
    with closing(start_kind_cluster(ClusterSpec(), kind_settings(), directory, print)) as cluster:
        kubeconfig, rayservice = directory / PRIVATE / "kubeconfig", f"{names.NAMESPACE}/{names.RAY_SERVICE}"
        found = Somebodys(kubeconfig, "", rayservice, cluster.url, kubeconfig)
        owner = found.seen_as(directory, found.kubectl("config", "current-context").strip())
        yield Ours(cluster, directory, owner)


def exactly(owner: Somebodys) -> dict[str, Json]:
    """What a change would leave a trace in: objects with their UIDs, Leases, and the processes in Ray's pods."""
    everywhere = json.loads(owner.kubectl("get", "nodes,pods,leases,rayservices,rayclusters", "-A", "-o", "json"))
    found: dict[str, Json] = {}
    for item in everywhere["items"]:
        kind, metadata = item["kind"], item["metadata"]
        name = f"{kind} {metadata.get('namespace', '')}/{metadata['name']}"
        if kind != "Lease" or metadata.get("namespace") == owner.namespace:
            said = {key: metadata.get(key) for key in ("uid", "generation", "deletionTimestamp")}
            statuses = item.get("status", {}).get("containerStatuses", []) if kind == "Pod" else []
            restarts = [status["restartCount"] for status in statuses]
            spec = None if kind == "Lease" else item.get("spec")
            found[name] = {**said, "annotations": sorted(metadata.get("annotations", {})), "spec": spec, "n": restarts}
    found["processes"] = [*sorted(owner._said_in_pods(_PROCESSES))]
    return found


def test_every_fault_has_a_plan_and_changes_nothing_of_our_own_cluster(ours: Ours, tmp_path: Path) -> None:
    before = exactly(ours.owner)
    run = Run(tmp_path, lambda *_: DryRunCluster(ours.cluster), seed=7, progress=print)
    rig = run.rig_for(ClusterSpec())
    try:
        for name, verb in CHOICES:
            plan = plan_of(rig, BUILT_IN.choose(name, {"how": verb}))
            print(*plan.lines, sep="\n")
            assert plan.steps, (name, verb, plan.refused)
            explained = [
                step.text.startswith(("DELETE", "EXEC", "PATCH", "POST", "docker", "  ", "on machine"))
                for step in plan.steps
            ]
            assert all(explained), (name, verb)
    finally:
        rig.watcher.stop()
        rig.machine.stop()
        run.history.close()
    assert exactly(ours.owner) == before


def test_a_dry_run_changes_nothing_of_somebody_elses_cluster(ours: Ours, tmp_path: Path) -> None:
    ours.cluster.stop_watching()  # from now on it is somebody's
    (tmp_path / "test_it.py").write_text(EVERY_FAULT)
    before = exactly(ours.owner)

    ran = ours.owner.run(tmp_path, *DRY, "test_it.py")

    assert {case.outcome for case in ran.cases.values()} == {"skipped"}
    assert len(ran.cases) == len(CHOICES)
    assert ran.text.count("plan of test_it.py::") == len(CHOICES)
    assert "DELETE pods/" in ran.text
    assert "undo     uncordon_node: nodes/" in ran.text
    assert exactly(ours.owner) == before
    assert not list((tmp_path / ".serve-chaos").rglob("undo/*.json"))


def test_the_victim_of_a_dry_run_is_that_of_the_run_that_is_not(ours: Ours, tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import pytest\n@pytest.mark.replica_failure\ndef test_it(experiment):\n    experiment.measure(settled=False)"
    )
    dry = ours.owner.run(tmp_path, *DRY, "test_it.py")
    real = ours.owner.run(tmp_path, "--serve-chaos-seed=7", "test_it.py")

    chosen = [line.partition("chose ")[2] for line in dry.text.splitlines() if "by the seed" in line]
    assert chosen
    assert chosen[0] in real.text
