from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import pytest

from pytest_serve_chaos.cluster.haproxy import Generation, Routes, server_name
from pytest_serve_chaos.cluster.rest import ReplicaRow, ServeStatus
from pytest_serve_chaos.errors import ObservationError
from pytest_serve_chaos.model import Identity
from pytest_serve_chaos.observe import haproxy_check
from pytest_serve_chaos.observe.haproxy_check import check_haproxy
from pytest_serve_chaos.observe.observer import Report
from pytest_serve_chaos.observe.watcher import Watcher

PROXY = Identity("process", ("boot", "10", "100"))
FALLBACK = "SERVE_PROXY_ACTOR-fallback-28c1"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("HEARS_WITHIN", 0.05), ("ENDS_WITHIN", 0.05), ("_EVERY", 0.01)):
        monkeypatch.setattr(haproxy_check, name, value)


def generation(pid: int, node: str = "worker-1", *, serves: bool = True, proxy: Identity | None = PROXY) -> Generation:
    return Generation(node, Identity("process", ("boot", str(pid), "1")), pid, proxy, serves, "/tmp/h")


def row(replica: str, state: str = "RUNNING") -> ReplicaRow:
    app, deployment, _ = replica.split("#")
    return ReplicaRow(replica, app, deployment, state, None, None, None)


@dataclass
class FakeHAProxy:
    """HAProxies, and the servers of each by its PID. Those whose end is foreseen are gone at the second look."""

    servers: dict[int, Sequence[str]]
    others: list[Generation] = field(default_factory=list)
    ends: bool = False
    hard_stop: float | None = 0.0

    def generations(self) -> Sequence[Generation]:
        others = list(self.others)
        if self.ends:
            self.others.clear()
        return [*(generation(pid, f"worker-{pid}") for pid in self.servers), *others]

    def routes(self, one: Generation) -> Routes:
        names = self.servers[one.pid]
        if "silent" in names:
            raise ObservationError("HAProxy does not answer")
        servers = {"http-app": frozenset({FALLBACK, *(server_name(name) for name in names)})}
        return Routes(servers, self.hard_stop)


class FakeWatcher:
    def __init__(self, *rows: ReplicaRow) -> None:
        self.report = Report(serve=ServeStatus({}, {}, {}, {}, rows, {}, None))

    def sample(self) -> None:
        pass


def check(haproxy: FakeHAProxy, *rows: ReplicaRow) -> str:
    return check_haproxy(haproxy, cast("Watcher", FakeWatcher(*rows)))


A, B, CHILD = "app#Front#a", "app#Front#b", "app#Child#c"


def test_haproxies_with_the_replicas_that_run_are_right() -> None:
    assert check(FakeHAProxy({1: [A, B], 2: [A, B]}), row(A), row(B), row(CHILD)) == ""


def test_a_haproxy_that_has_a_replica_that_is_gone_is_stale() -> None:
    told = check(FakeHAProxy({1: [A, B], 2: [A]}), row(A))
    assert told.startswith("the servers of HAProxy are stale: HAProxy on worker-1 (PID 1) sends requests to")
    assert "SERVE_REPLICA_app-Front-b, which Serve does not run" in told
    assert "worker-2" not in told


def test_a_haproxy_that_does_not_know_a_new_replica_is_stale() -> None:
    told = check(FakeHAProxy({1: [A], 2: [A, B]}), row(A), row(B))
    assert told.endswith("HAProxy on worker-1 (PID 1) does not know SERVE_REPLICA_app-Front-b")


def test_a_haproxy_that_has_no_replica_that_runs_is_stale() -> None:
    assert "does not know SERVE_REPLICA_app-Front-b" in check(FakeHAProxy({1: [A], 2: [B]}), row(B))


def test_a_replica_that_does_not_run_yet_need_not_be_known() -> None:
    assert check(FakeHAProxy({1: [A]}), row(A), row(B, "STARTING")) == ""


def test_the_canary_that_was_taken_away_is_not_missed() -> None:
    assert check(FakeHAProxy({1: [A, "serve_chaos_canary_1#Canary#x"]}), row(A)) == ""


def test_a_haproxy_that_says_nothing_is_not_right() -> None:
    assert "HAProxy does not answer" in check(FakeHAProxy({1: ["silent"]}), row(A))


def test_no_haproxy_at_all_is_not_right() -> None:
    assert "there is none" in check(FakeHAProxy({}), row(A))


def test_one_that_was_told_to_stop_and_lives_on_is_a_leak() -> None:
    told = check(FakeHAProxy({1: [A]}, [generation(9, serves=False)]), row(A))
    assert told.startswith("a HAProxy that was replaced lives on: HAProxy on worker-1 (PID 9) should have stopped")
    assert told.endswith("(hard-stop-after is 0 s)")


def test_one_without_a_manager_is_a_leak() -> None:
    told = check(FakeHAProxy({1: [A]}, [generation(9, serves=False, proxy=None)], hard_stop=None), row(A))
    assert "PID 9) has no manager" in told
    assert told.endswith("(it has no hard-stop-after)")


def test_one_that_ends_in_time_is_none() -> None:
    assert check(FakeHAProxy({1: [A]}, [generation(9, serves=False)], ends=True), row(A)) == ""
