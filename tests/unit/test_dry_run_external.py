"""The backend `kubernetes` in a dry run, past an API server that speaks HTTP: it asks, and never changes anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_serve_chaos.backends.registry import BUILT_IN
from pytest_serve_chaos.cluster.capabilities import KILLS_NODES
from pytest_serve_chaos.errors import Locked, SafetyError
from pytest_serve_chaos.settings import Settings
from tests.capabilities import part
from tests.unit.api_server import ApiServer
from tests.unit.external_services import losing, running
from tests.unit.test_external_start import PODS, changes, external, server, settings

__all__ = ["server"]  # the fixture


@pytest.fixture(autouse=True)
def locks_of_this_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


def test_the_guard_refuses_a_change_that_nothing_else_has_withheld(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.objects[PODS] = {"items": [running("head")]}
    cluster = external(settings(server, tmp_path, monkeypatch, dry_run=True), tmp_path)

    losing(cluster, "head")
    with pytest.raises(SafetyError, match=r"this is a dry run, which changes nothing: DELETE .*/pods/head"):
        part(cluster, KILLS_NODES).kill_node("head", how="stop", hold=False)

    cluster.close()
    assert changes(server) == []


def test_a_dry_run_takes_no_lock_on_a_cluster_of_somebody_else(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, dry = (settings(server, tmp_path, monkeypatch, dry_run=is_dry) for is_dry in (False, True))
    kubernetes = BUILT_IN["kubernetes"]

    with kubernetes.locked(real):
        asked = changes(server)
        with kubernetes.locked(dry), kubernetes.locked(dry):
            assert changes(server) == asked


def test_a_dry_run_takes_the_lock_on_a_cluster_of_its_own() -> None:
    dry = Settings(backend="kind", keep=True, dry_run=True)

    with BUILT_IN["kind"].locked(dry), pytest.raises(Locked), BUILT_IN["kind"].locked(dry):
        pass
