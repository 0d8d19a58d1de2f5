"""What the tests on a real kind cluster need and are made of; from the environment, as for the plugin."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from pytest_serve_chaos.cluster.base import ClusterSpec, Progress
from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.cluster.kubernetes.kind.programs import find_programs
from pytest_serve_chaos.cluster.kubernetes.kind.settings import KindSettings
from pytest_serve_chaos.cluster.kubernetes.rayservice.cluster import RayServiceCluster
from pytest_serve_chaos.errors import MissingDependency
from pytest_serve_chaos.experiment import Experiment
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.faults.spec import FaultChoice
from pytest_serve_chaos.load import Load
from pytest_serve_chaos.run import Run


def _missing() -> str:
    try:
        find_programs()
    except MissingDependency as error:
        return error.what
    return ""


needs_kind = pytest.mark.skipif(bool(MISSING := _missing()), reason=MISSING)


SHARED = os.environ.get("SERVE_CHAOS_TEST_CLUSTER") or None
"""The kind cluster that is kept, and taken over by one test after the other; None: each makes and deletes its own."""


def kind_settings() -> KindSettings:
    """The defaults, and what SERVE_CHAOS_... says otherwise; of a cluster with a name."""
    defaults = KindSettings()
    return KindSettings(
        name=SHARED or f"serve-chaos-test-{secrets.token_hex(3)}",
        keep=SHARED is not None,
        node_image=os.environ.get("SERVE_CHAOS_NODE_IMAGE", defaults.node_image),
        ray_image=os.environ.get("SERVE_CHAOS_RAY_IMAGE", defaults.ray_image),
        redis_image=os.environ.get("SERVE_CHAOS_REDIS_IMAGE", defaults.redis_image),
        operator_image=os.environ.get("SERVE_CHAOS_OPERATOR_IMAGE", defaults.operator_image),
        kuberay_manifests=os.environ.get("SERVE_CHAOS_KUBERAY_MANIFESTS", defaults.kuberay_manifests),
    )


@dataclass(frozen=True, slots=True)
class Given:
    """A cluster with a RayService that is there already, so that no kind cluster has to be made for these tests.

    Attributes:
        kubeconfig: Its current context leads to the external cluster.
        rayservice: ``namespace/name``.
        url: Where the app answers.
    """

    kubeconfig: Path
    rayservice: str
    url: str


def given_cluster() -> Given | None:
    """What SERVE_CHAOS_TEST_KUBECONFIG, _URL and _RAYSERVICE name, if they do."""
    kubeconfig, url = (os.environ.get(f"SERVE_CHAOS_TEST_{name}") for name in ("KUBECONFIG", "URL"))
    if not kubeconfig or not url:
        return None
    default = f"{names.NAMESPACE}/{names.RAY_SERVICE}"
    return Given(Path(kubeconfig), os.environ.get("SERVE_CHAOS_TEST_RAYSERVICE", default), url)


def run(*command: str) -> str:
    """What it printed; fails unless it ends well within two minutes."""
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120.0).stdout


RATE = float(os.environ.get("SERVE_CHAOS_RATE", "20"))


@contextmanager
def rig_on(
    spec: ClusterSpec, directory: Path, said: list[str], start: Callable[[Path, Progress], RayServiceCluster]
) -> Iterator[Rig]:
    """A rig on the cluster that `start` makes, until the end; all that is said goes to `said`, too."""

    def say(line: str) -> None:
        said.append(line)
        print(line)

    run = Run(directory, lambda _, inside, progress: start(inside, progress), seed=1, progress=say)
    try:
        yield run.rig_for(spec)
    finally:
        run.close()


def cluster_of(rig: Rig) -> RayServiceCluster:
    """The cluster, as what it is on kind."""
    assert isinstance(rig.cluster, RayServiceCluster)
    return rig.cluster


def experiment(rig: Rig, name: str, fault: FaultChoice) -> Experiment:
    """An experiment of that name."""
    rig.current.begin(name)
    return Experiment(rig, Load(rate=RATE), fault)
