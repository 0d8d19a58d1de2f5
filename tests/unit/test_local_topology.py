"""Who is alive in a local cluster is what its processes say, whatever the GCS still believes."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_serve_chaos.cluster.local.layout import Layout
from pytest_serve_chaos.cluster.rest import ActorRow, Dashboard, NodeRow, ServeStatus
from pytest_serve_chaos.observe.observer import Observer
from tests.unit.test_local import FakeLink, Started, cluster_of, plan

CONTROLLER = ActorRow("a1", "ServeController", "SERVE_CONTROLLER_ACTOR", "ALIVE", "n1", 12982)
NODE = NodeRow("n1", Layout(0).address(0), "ALIVE", True)
SERVE = ServeStatus({}, {}, {}, {}, (), {}, None)


@pytest.fixture
def head() -> Iterator[int]:
    """The first process of a new head, which has no actors yet."""
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as process:
        yield process.pid
        process.kill()


def test_an_actor_of_which_only_the_gcs_knows_is_not_alive(
    head: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GCS that is back has its actors from Redis, also those that died with it (Ray 2.60)."""
    link = FakeLink()
    link.known = {head: "head"}
    cluster = cluster_of(plan(tmp_path), link, Started())
    monkeypatch.setattr(Dashboard, "nodes", lambda _: (NODE,))
    monkeypatch.setattr(Dashboard, "actors", lambda _: (CONTROLLER,))
    monkeypatch.setattr(Dashboard, "serve", lambda _: SERVE)
    observer = Observer(cluster)
    assert [component.role for component in observer.see().components] == ["head"]
    assert observer.report.actors == (CONTROLLER,)
