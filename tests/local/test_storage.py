"""A GCS that keeps its state in RocksDB: the head may be lost, and the workers go on."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_serve_chaos.cluster import storage
from pytest_serve_chaos.cluster.local import processes
from pytest_serve_chaos.experiment import Experiment
from pytest_serve_chaos.handle import ServeCluster


def databases() -> set[Path]:
    """The directories in which the GCS processes of this machine that use RocksDB keep it."""
    found = set()
    for _, lines in processes.environments():
        variables = dict(line.decode(errors="replace").partition("=")[::2] for line in lines)
        if variables.get(storage.KIND) == storage.ROCKSDB:
            found.add(Path(variables[storage.PATH]))
    return found


@pytest.mark.serve_cluster(gcs="rocksdb", workers=1, app_args={"options": {"num_replicas": 2}})
@pytest.mark.head_failure
def test_a_head_that_comes_back_to_its_database_keeps_the_workers(
    experiment: Experiment, serve_cluster: ServeCluster
) -> None:
    run = str(serve_cluster.description.details["run"])
    (database,) = {path for path in databases() if run[:8] in str(path)}
    result = experiment.run(window="15s")
    assert result.kept("worker")
    assert result.kept("replicas", on="workers")
    assert (database / "session_name").is_file()
    assert not serve_cluster.of("redis")
