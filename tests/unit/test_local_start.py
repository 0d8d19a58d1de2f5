"""What is said of a local cluster that does not come up."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.capabilities import HAS_REDIS, SHARES_REDIS
from pytest_serve_chaos.cluster.local import preflight, start
from pytest_serve_chaos.cluster.local.layout import Layout
from pytest_serve_chaos.cluster.local.plan import Plan
from pytest_serve_chaos.cluster.local.start import LocalSettings, did_not_come_up, start_local_cluster
from pytest_serve_chaos.errors import WaitTimeout
from tests.capabilities import part

WAITED = WaitTimeout("the app to run", timeout=180.0, last_seen="apps {'ranker': 'DEPLOYING'}")
TRACEBACK = "ranker: Deploying app 'ranker' failed with exception:\nTraceback (most recent call last):\nValueError: 7"


def test_serves_own_traceback_of_the_app_is_shown_and_no_log_lines() -> None:
    error = did_not_come_up(WAITED, [TRACEBACK], lambda: pytest.fail("the logs are not read"))

    assert error.checked == (TRACEBACK,)
    assert "waited 180 s for the app to run" in error.what


def test_without_a_traceback_the_last_log_lines_are_shown_too() -> None:
    error = did_not_come_up(WAITED, ["ranker: 2 replicas wait for a CPU"], lambda: ["raylet: ERROR no room"])

    assert error.checked == ("ranker: 2 replicas wait for a CPU", "raylet: ERROR no room")


class Supervisors:
    """Stands in for the class of the links: notes what was to be started, and starts nothing."""

    def __init__(self) -> None:
        self.plans: list[Plan] = []
        self.logs: list[Path] = []

    def __call__(self, plan: Plan, log: Path, on_text: object) -> Supervisors:
        del on_text
        self.plans.append(plan)
        self.logs.append(log)
        return self

    def wait_for_slot(self, timeout: float) -> int:
        del timeout
        return len(self.plans) - 1

    def close(self) -> None:
        pass


def test_a_second_cluster_is_a_head_alone_on_the_redis_of_the_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    supervisors = Supervisors()
    monkeypatch.setattr(start, "SupervisorLink", supervisors)
    monkeypatch.setattr(start, "_wait_until_up", lambda *_: 6)
    monkeypatch.setattr(preflight, "check", lambda **_: Path("/bin/redis-server"))
    monkeypatch.setattr(preflight, "ray_version", lambda: "2.60.0")
    monkeypatch.setattr(preflight, "redis_version", lambda _: "7.0.15")
    with (
        closing(start_local_cluster(ClusterSpec(), LocalSettings(logs=tmp_path), lambda _: None)) as cluster,
        closing(part(cluster, SHARES_REDIS).start_alongside()) as other,
        closing(part(other, SHARES_REDIS).start_alongside("third")),
    ):
        first, second, third = supervisors.plans
        address = f"{Layout(0).serve_host}:{Layout(0).redis_port}"
        assert (cluster.description.replicas, cluster.spec.workers, first.workers) == (6, 2, 2)
        assert (other.spec.workers, second.workers, second.serve_config) == (0, 0, {})
        assert (second.redis_server, second.redis_address) == (None, address)
        assert second.redis_password == first.redis_password
        assert part(other, HAS_REDIS).redis_namespace == f"{first.namespace}-alongside"
        assert (third.redis_address, third.redis_password, third.namespace) == (address, first.redis_password, "third")
    assert supervisors.logs == [
        tmp_path / "supervisor.log",
        Path(first.directory) / "supervisor-alongside.log",
        Path(second.directory) / "supervisor-alongside.log",
    ]
