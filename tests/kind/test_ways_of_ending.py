"""However a run on real Kubernetes ends with a fault in effect, somebody repairs what it has changed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.capabilities import OUTLIVES_RUNS
from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.cluster.kubernetes.kind.start import start_kind_cluster
from tests.capabilities import part
from tests.kind.external_rayservice import Somebodys
from tests.kind.needs import SHARED, kind_settings, needs_kind, run
from tests.kind.ways_of_ending import CHANGES, DRAINED, GUEST, WAYS, BackendName, Change, Owner, Seen, Way, end
from tests.local.moments import Moment

pytestmark = needs_kind

ALL = os.environ.get("SERVE_CHAOS_WAYS") == "all"
"""Whether each way is tried at each moment, which takes more than an hour; else with the fault."""
AT_ANY_TIME: tuple[Moment, ...] = ("before", "during", "healing", "after")

KILLED = next(way for way in WAYS if way.name == "kill -9 of pytest")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Somebodys]:
    """The cluster that runs with ``--serve-chaos-keep`` take over; for `kubernetes` it is somebody's."""
    directory = tmp_path_factory.mktemp("cluster")
    settings = replace(kind_settings(), name=SHARED or names.KEPT_CLUSTER, keep=True)
    was_there = settings.name in run("kind", "get", "clusters").split()
    started = start_kind_cluster(ClusterSpec(), settings, directory, print)
    url = started.url
    part(started, OUTLIVES_RUNS).vouch()
    started.close()
    admin = directory / "admin.kubeconfig"
    admin.write_text(run("kind", "get", "kubeconfig", "--name", str(settings.name)))
    admin.chmod(0o600)
    rayservice = f"{names.NAMESPACE}/{names.RAY_SERVICE}"
    yield Somebodys(admin, f"kind-{settings.name}", rayservice, url, admin)
    if not was_there:
        run("kind", "delete", "cluster", "--name", str(settings.name))


def owner(cluster: Somebodys, backend: BackendName, directory: Path) -> Owner:
    """The same cluster, as a run with that backend has it."""
    if backend == "kind":
        return Owner(backend, cluster, cluster)
    namespace = ("-n", cluster.namespace)
    cluster.kubectl(*namespace, "create", "serviceaccount", GUEST)
    rights = ("--clusterrole=cluster-admin", f"--serviceaccount={cluster.namespace}:{GUEST}")
    cluster.kubectl("create", "clusterrolebinding", GUEST, *rights)
    token = cluster.kubectl(*namespace, "create", "token", GUEST, "--duration=2h").strip()
    return Owner(backend, cluster, cluster.seen_as(directory, cluster.context, {"token": token}))


@pytest.fixture
def owned(cluster: Somebodys, backend: BackendName, tmp_path: Path) -> Iterator[Owner]:
    yield owner(cluster, backend, tmp_path)
    cluster.kubectl("-n", cluster.namespace, "delete", "serviceaccount", GUEST, "--ignore-not-found")
    cluster.kubectl("delete", "clusterrolebinding", GUEST, "--ignore-not-found")


def _repaired(seen: Seen, way: Way, moment: Moment) -> None:
    print(f"{way.name}, {moment}: {seen.words}; files: {seen.files}")
    assert not seen.remains, (seen.remains, seen.next_output)
    assert not [file for file in seen.files if file.startswith("home/")]
    is_changed = moment in ("during", "healing")
    assert bool(seen.changed) == is_changed, seen.output
    if way.repairer == "the run" or not is_changed:
        assert not seen.left, seen.output
        assert seen.healed or moment == "before" or way.repairer != "the run"
    else:
        assert seen.left
        assert seen.repaired_by.replace("`serve-chaos ", "").replace("`", "").startswith(way.repairer.split()[0])


@pytest.mark.parametrize(
    ("change", "backend"),
    [pytest.param(c, b, id=f"{c.name}-{b}") for b in ("kind", "kubernetes") for c in CHANGES if b in c.backends],
)
def test_what_a_killed_run_has_changed_its_watchdog_puts_back(owned: Owner, change: Change) -> None:
    _repaired(end(KILLED, change, "during", owned), KILLED, "during")


@pytest.mark.parametrize(
    ("way", "moment", "backend"),
    [
        pytest.param(w, m, b, id=f"{w.name}-{m}-{b}")
        for b in ("kind", "kubernetes")
        for w in WAYS
        for m in (AT_ANY_TIME if ALL else ("during",))
        if b in w.backends and (w, m) != (KILLED, "during")
    ],
)
def test_a_drained_node_takes_pods_again_however_the_run_ends(owned: Owner, way: Way, moment: Moment) -> None:
    _repaired(end(way, DRAINED, moment, owned), way, moment)
