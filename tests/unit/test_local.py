"""The parts of a local cluster, and what is said of one that does not come up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import cast

import pytest

from pytest_serve_chaos.cluster.base import Cluster, ClusterSpec
from pytest_serve_chaos.cluster.capabilities import (
    FREEZES_NODES,
    HAS_REDIS,
    KILLS_ACTORS,
    KILLS_NODES,
    KNOWS_ITS_SETUP,
    SEES_CHILDREN,
    SETS_HEALTH_FLAGS,
    SHARES_REDIS,
    SHOWS_CONTROLLER_LOG,
    SHOWS_REPLICA_LOGS,
    SIGNALS_PROCESSES,
    STREAMS_LOGS,
    AnyCapability,
    KillsNodes,
)
from pytest_serve_chaos.cluster.kubernetes.in_pod import freeze
from pytest_serve_chaos.cluster.local import connections, preflight, processes, start
from pytest_serve_chaos.cluster.local.cluster import LocalCluster
from pytest_serve_chaos.cluster.local.layout import Layout
from pytest_serve_chaos.cluster.local.link import SupervisorLink
from pytest_serve_chaos.cluster.local.parts import local_parts
from pytest_serve_chaos.cluster.local.plan import Plan
from pytest_serve_chaos.cluster.local.process_faults import ProcessSignals
from pytest_serve_chaos.cluster.local.redis import LocalRedis
from pytest_serve_chaos.cluster.local.reported import UnitState
from pytest_serve_chaos.cluster.local.start import LocalSettings, did_not_come_up, start_local_cluster
from pytest_serve_chaos.cluster.local.topology import Table
from pytest_serve_chaos.cluster.local.view import LocalView
from pytest_serve_chaos.cluster.watchdog import Watchdogs
from pytest_serve_chaos.errors import ClusterStartError, CommandFailed, NoSuchTarget, Unsupported, WaitTimeout
from pytest_serve_chaos.model import ClusterDescription, Component, Evidence, Identity, Json
from tests.capabilities import part
from tests.unit.rigs import cluster_with

HEAD_PROCESS = Identity("process", ("boot", "7", "1"))
CONFIG: dict[str, Json] = {"applications": [{"name": "app", "route_prefix": "/app"}]}


class FakeLink:
    """A supervisor that answers what a test wants."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Mapping[str, object]]] = []
        self.answer: dict[str, Json] = {}
        self.up = {"head": UnitState("head", "up", 7, HEAD_PROCESS, 1.0)}
        self.known: dict[int, str] = {}
        self.is_closed = False
        self.gave_up: tuple[str, ...] = ()

    def check_alive(self) -> None:
        pass

    def failed_starts(self, since: float) -> tuple[str, ...]:
        return self.gave_up

    def command(self, verb: str, **arguments: object) -> dict[str, Json]:
        self.asked.append((verb, arguments))
        return self.answer

    def units(self) -> dict[str, UnitState]:
        return self.up

    def sessions(self) -> dict[int, str]:
        return self.known

    def close(self) -> None:
        self.is_closed = True


class Started:
    """Notes with what a second cluster was to be started."""

    def __init__(self) -> None:
        self.alongside: list[tuple[str, str, str]] = []

    def __call__(self, redis: LocalRedis, namespace: str) -> Cluster:
        self.alongside.append((redis.address, redis.password, namespace))
        return cluster_with()


@pytest.fixture
def link() -> FakeLink:
    return FakeLink()


@pytest.fixture
def started() -> Started:
    return Started()


def plan(directory: Path, redis_server: str | None = "/bin/redis-server", redis_address: str | None = None) -> Plan:
    return Plan(
        run="run",
        directory=str(directory),
        workers=1,
        redis_server=redis_server,
        redis_address=redis_address,
        redis_password="word",
        namespace="ours",
        secret="token",
        serve_config=CONFIG,
        restart_delay=1.0,
        termination_grace=4.0,
        head_env={},
        worker_env={},
    )


def cluster_of(of: Plan, link: FakeLink, started: Started) -> LocalCluster:
    view = LocalView(of, Layout(0), cast("SupervisorLink", link))
    description = ClusterDescription("local", "2.60.0", 1, "redis", "module:app", "fast", 2, "http://there", {})
    return LocalCluster(ClusterSpec(workers=1), view, description, local_parts(view, "2.60.0", started))


@pytest.fixture
def cluster(tmp_path: Path, link: FakeLink, started: Started) -> Iterator[LocalCluster]:
    of = cluster_of(plan(tmp_path), link, started)
    yield of
    of.close()
    assert link.is_closed


@pytest.mark.parametrize(
    "wanted",
    [
        FREEZES_NODES,
        HAS_REDIS,
        KILLS_ACTORS,
        KILLS_NODES,
        KNOWS_ITS_SETUP,
        SETS_HEALTH_FLAGS,
        SHARES_REDIS,
        SHOWS_CONTROLLER_LOG,
        SHOWS_REPLICA_LOGS,
        SIGNALS_PROCESSES,
        STREAMS_LOGS,
    ],
    ids=lambda key: key.name,
)
def test_it_can_do_that(cluster: LocalCluster, wanted: AnyCapability) -> None:
    assert wanted.of(cluster) is not None


def test_traffic_goes_to_the_shared_port_with_the_first_route(cluster: LocalCluster) -> None:
    assert cluster.url == f"http://127.73.1.1:{Layout(0).serve_port}/app"
    assert cluster.serve_config == CONFIG


def test_a_node_that_the_supervisor_has_not_reported_is_not_alive(cluster: LocalCluster) -> None:
    head, worker = cluster.nodes()
    assert (head.name, head.address, head.alive, head.identity) == ("head", "127.73.1.2", True, HEAD_PROCESS)
    assert (worker.name, worker.address, worker.alive, worker.identity) == ("worker-1", "127.73.1.3", False, None)


# -- Serve config --


def test_another_config_is_submitted_with_the_address_and_kept_submitted_without(
    cluster: LocalCluster, link: FakeLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    put: list[Mapping[str, Json]] = []
    monkeypatch.setattr(cluster.dashboard, "put_serve", put.append)
    wanted: dict[str, Json] = {"applications": [{"name": "other", "route_prefix": "/other"}]}
    cluster.apply_serve_config(wanted)
    address: dict[str, Json] = {"host": "127.73.1.1", "port": Layout(0).serve_port}
    assert put == [{**wanted, "http_options": address}]
    assert link.asked == [("config", {"config": wanted})]
    assert cluster.serve_config == wanted
    assert cluster.url.endswith("/other")


def test_a_config_that_is_refused_changes_nothing(
    cluster: LocalCluster, link: FakeLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(config: Mapping[str, Json]) -> None:
        raise CommandFailed(f"refused: {config}")

    monkeypatch.setattr(cluster.dashboard, "put_serve", refuse)
    with pytest.raises(CommandFailed, match="refused"):
        cluster.apply_serve_config({"applications": []})
    assert (cluster.serve_config, link.asked) == (CONFIG, [])


# -- proxies --


def test_the_proxies_that_were_seen_last_are_those_that_accept_connections(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Component("proxy", "head", identity_of(os.getpid()), os.getpid())
    monkeypatch.setattr(Table, "components", lambda *_: (own, Component("replica", "head", HEAD_PROCESS, 7)))
    asked: list[Collection[int]] = []

    def owner(server: tuple[str, int], client: tuple[str, int], candidates: Collection[int]) -> int | None:
        assert server == ("127.73.1.1", Layout(0).serve_port)
        asked.append(candidates)
        return next(iter(candidates), None)

    monkeypatch.setattr(connections, "owner", owner)
    assert cluster.proxy_of(("127.0.0.1", 40000)) is None
    cluster.components()
    assert cluster.proxy_of(("127.0.0.1", 40000)) == own.identity
    assert asked == [frozenset(), {os.getpid()}]


# -- nodes --


@pytest.fixture
def nodes(cluster: LocalCluster) -> KillsNodes:
    return part(cluster, KILLS_NODES)


def test_a_node_is_killed_by_the_supervisor_which_says_when(nodes: KillsNodes, link: FakeLink) -> None:
    link.answer = {"killed": [7, 8], "at": 12.5}
    signs = nodes.kill_node("head", how="stop", hold=True)
    assert signs == (Evidence(12.5, "victim", "none of the 2 processes of head is left"),)
    assert link.asked == [("end", {"timeout": 19.0, "name": "head", "how": "stop", "hold": True})]


def test_the_kill_of_a_node_that_is_down_has_no_sign(nodes: KillsNodes, link: FakeLink) -> None:
    link.answer = {"killed": [], "at": None}
    assert nodes.kill_node("head", how="kill", hold=False) == ()


def test_a_hold_of_a_node_ends(nodes: KillsNodes, link: FakeLink) -> None:
    nodes.restore_node("worker-1")
    assert link.asked == [("restore", {"name": "worker-1"})]


def test_a_frozen_node_has_only_stopped_processes(cluster: LocalCluster, link: FakeLink) -> None:
    link.answer = {"processes": [{"pid": 7, "state": "T"}, {"pid": 8, "state": "T"}]}
    (sign,) = part(cluster, FREEZES_NODES).freeze_node("head")
    assert sign.text == "all 2 processes of head are stopped (state T)"
    part(cluster, FREEZES_NODES).freeze_node("head", lasts=20.0)
    part(cluster, FREEZES_NODES).thaw_node("head")
    freezes = [("freeze", {"name": "head", "lasts": lasts}) for lasts in (None, 20.0)]
    assert link.asked == [*freezes, ("thaw", {"name": "head"})]


@pytest.mark.parametrize("states", [[], ["T", "S"]], ids=["no processes", "one runs"])
def test_a_node_that_is_not_frozen_is_an_error(cluster: LocalCluster, link: FakeLink, states: list[str]) -> None:
    link.answer = {"processes": [{"state": state} for state in states]}
    with pytest.raises(CommandFailed, match="head could not be frozen"):
        part(cluster, FREEZES_NODES).freeze_node("head")


# -- Redis --


def test_redis_is_killed_and_restored_by_the_supervisor(cluster: LocalCluster, link: FakeLink) -> None:
    link.answer = {"killed": [9], "at": 3.0}
    redis = part(cluster, HAS_REDIS)
    assert redis.kill_redis(how="kill", hold=True)[0].text == "none of the 1 processes of redis is left"
    redis.restore_redis()
    assert [(verb, arguments["name"]) for verb, arguments in link.asked] == [("end", "redis"), ("restore", "redis")]
    assert redis.redis_namespace == "ours"


def test_a_second_cluster_shares_redis_under_another_namespace(cluster: LocalCluster, started: Started) -> None:
    address = f"127.73.1.1:{Layout(0).redis_port}"
    part(cluster, SHARES_REDIS).start_alongside()
    part(cluster, SHARES_REDIS).start_alongside("ours")
    assert started.alongside == [(address, "word", "ours-alongside"), (address, "word", "ours")]


def test_a_second_cluster_shares_its_redis_too(tmp_path: Path, link: FakeLink, started: Started) -> None:
    second = cluster_of(plan(tmp_path, None, "127.73.9.1:20003"), link, started)
    part(second, SHARES_REDIS).start_alongside("third")
    assert started.alongside == [("127.73.9.1:20003", "word", "third")]
    second.close()


def test_without_redis_nothing_is_done_to_it(tmp_path: Path, link: FakeLink, started: Started) -> None:
    cluster = cluster_of(plan(tmp_path, None), link, started)
    with pytest.raises(Unsupported, match="this cluster has no Redis"):
        part(cluster, HAS_REDIS).kill_redis(how="kill", hold=False)
    with pytest.raises(Unsupported, match="this cluster has no Redis"):
        part(cluster, HAS_REDIS).redis_keys()
    with pytest.raises(Unsupported, match="this cluster has no Redis"):
        part(cluster, SHARES_REDIS).start_alongside()
    assert part(cluster, KNOWS_ITS_SETUP).setup().redis_persists is None
    assert (link.asked, started.alongside) == ([], [])
    cluster.close()


def test_redis_does_not_persist(cluster: LocalCluster) -> None:
    assert part(cluster, KNOWS_ITS_SETUP).setup().redis_persists is False


# -- processes --


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """A process in a session of its own."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True) as found:
        yield found
        found.kill()


def identity_of(pid: int) -> Identity:
    found = processes.read(pid)
    assert found is not None
    return found.identity


def test_a_process_of_the_cluster_gets_a_signal(
    cluster: LocalCluster, link: FakeLink, process: subprocess.Popen[bytes]
) -> None:
    link.known = {process.pid: "head"}
    identity = identity_of(process.pid)
    part(cluster, SIGNALS_PROCESSES).signal_process(identity, signal.SIGKILL)
    assert process.wait(10.0) == -signal.SIGKILL
    with pytest.raises(NoSuchTarget, match="is gone"):
        part(cluster, SIGNALS_PROCESSES).signal_process(identity, signal.SIGKILL)


def test_a_process_of_somebody_else_gets_no_signal(cluster: LocalCluster, process: subprocess.Popen[bytes]) -> None:
    with pytest.raises(NoSuchTarget, match="does not belong to this cluster"):
        part(cluster, SIGNALS_PROCESSES).signal_process(identity_of(process.pid), signal.SIGKILL)
    assert process.poll() is None


def test_what_a_process_of_the_cluster_has_started_is_of_the_cluster_in_whatever_session(
    cluster: LocalCluster, link: FakeLink
) -> None:
    nested = (
        "import subprocess, sys\n"
        "child = subprocess.Popen(['sleep', '60'], start_new_session=True)\n"
        "print(child.pid, flush=True); sys.stdin.read()"
    )
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", nested]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, start_new_session=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        link.known = {parent.pid: "worker-1"}
        try:
            seen, signals = part(cluster, SEES_CHILDREN), part(cluster, SIGNALS_PROCESSES)
            (child,) = seen.children(identity_of(parent.pid)) or ()
            assert (child.pid, child.parent, child.identity) == (pid, parent.pid, identity_of(pid))
            assert 0 <= child.age < 10
            signals.signal_process(child.identity, signal.SIGSTOP)
            wait_for(lambda: seen.states([child.identity]) == {child.identity: "frozen"})
            parent.kill()
            parent.wait()
            assert seen.children(Identity("process", ("boot", str(parent.pid), "1"))) is None
            signals.signal_process(child.identity, signal.SIGCONT)  # it has lost its parent, and goes on
            wait_for(lambda: seen.states([child.identity]) == {child.identity: "running"})
        finally:
            os.kill(pid, signal.SIGKILL)


def test_a_process_that_is_stopped_has_a_watchdog_until_it_is_resumed(
    link: FakeLink, process: subprocess.Popen[bytes]
) -> None:
    link.known = {process.pid: "head"}
    signals = ProcessSignals(cast("SupervisorLink", link), Watchdogs(grace=0.1))
    identity, claim = identity_of(process.pid), f"{process.pid}:{identity_of(process.pid).parts[2]}"
    signals.signal_process(identity, signal.SIGSTOP, lasts=60.0)
    # A SIGCONT that comes before the process has stopped only takes the SIGSTOP back.
    wait_for(lambda: os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOHANG) is not None)
    assert claim in [one.claim for one in freeze.watchdogs()]
    signals.signal_process(identity, signal.SIGCONT)
    wait_for(lambda: os.waitid(os.P_PID, process.pid, os.WCONTINUED | os.WNOHANG) is not None)
    wait_for(lambda: claim not in [one.claim for one in freeze.watchdogs()])
    signals.signal_process(identity, signal.SIGSTOP, lasts=0.0)
    wait_for(lambda: os.waitid(os.P_PID, process.pid, os.WCONTINUED | os.WNOHANG) is not None)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10.0
    while not condition():
        assert time.monotonic() < deadline


def test_a_flag_is_a_file_for_the_replicas_pid(cluster: LocalCluster, tmp_path: Path) -> None:
    flags = tmp_path / "flags"
    flags.mkdir()
    replica = Component("replica", "worker-1", HEAD_PROCESS, os.getpid())
    part(cluster, SETS_HEALTH_FLAGS).set_health_flag(replica, "hang", lasts=100.0)
    assert (flags / str(os.getpid())).read_text() == "hang"
    left = float((flags / f"{os.getpid()}.until").read_text()) - time.clock_gettime(time.CLOCK_BOOTTIME)
    assert 125.0 < left <= 130.1
    for _ in range(2):
        part(cluster, SETS_HEALTH_FLAGS).clear_health_flag(replica)
    assert list(flags.iterdir()) == []


# -- logs --


def test_each_log_is_found_by_its_own_name(cluster: LocalCluster, tmp_path: Path) -> None:
    serve = tmp_path / "ray" / "session_1" / "logs" / "serve"
    serve.mkdir(parents=True)
    begun = time.monotonic() - 60.0
    now = datetime.now().strftime("%Y-%m-%d %H:%M:%S,%f")[:-3]
    for name in ("controller_7", "replica_app_Model_abc", "replica_app_Model_xyz", "proxy_127"):
        (serve / f"{name}.log").write_text(f"INFO {now} from {name}\n")
    replica = Component("replica", "worker-1", HEAD_PROCESS, 7, replica="app#Model#abc")

    assert part(cluster, SHOWS_CONTROLLER_LOG).controller_log(pattern="from", since=begun) == (
        f"controller_7: INFO {now} from controller_7",
    )
    assert part(cluster, SHOWS_REPLICA_LOGS).replica_log(replica, since=begun) == (
        f"replica_app_Model_abc: INFO {now} from replica_app_Model_abc",
    )
    assert len(cluster.log_excerpt(begun)) == 4
    assert len(cluster.log_excerpt(begun, pattern="proxy")) == 1
    assert len(cluster.log_excerpt(begun, lines=2)) == 2


def test_a_log_in_json_has_its_time_behind_other_fields(cluster: LocalCluster, tmp_path: Path) -> None:
    serve = tmp_path / "ray" / "session_1" / "logs" / "serve"
    serve.mkdir(parents=True)
    now = datetime.now().strftime("%Y-%m-%d %H:%M:%S,%f")[:-3]
    line = f'{{"levelname": "CRITICAL", "component": "a long name of a component", "asctime": "{now}", "message": "x"}}'
    (serve / "controller_7.log").write_text(f"{line}\n")
    found = part(cluster, SHOWS_CONTROLLER_LOG).controller_log(pattern="x", since=time.monotonic() - 60.0)
    assert found == (f"controller_7: {line}",)


def test_a_replica_whose_id_is_unknown_has_no_log(cluster: LocalCluster) -> None:
    replica = Component("replica", "worker-1", HEAD_PROCESS, 7)
    assert part(cluster, SHOWS_REPLICA_LOGS).replica_log(replica, since=0.0) == ()


def test_what_is_logged_during_a_test_is_kept_by_the_name_of_its_node(cluster: LocalCluster, tmp_path: Path) -> None:
    kept = tmp_path.with_name(f"{tmp_path.name}-kept")
    stream = part(cluster, STREAMS_LOGS).stream_logs(kept)
    logs = tmp_path / "w1" / "session_1" / "logs"
    logs.mkdir(parents=True)
    (logs / "raylet.out").write_text("new\n")
    stream.keep()
    stream.close()
    assert [path.relative_to(kept).as_posix() for path in kept.rglob("*.out")] == ["worker-1_session_1/raylet.out"]


# -- a start that fails --


WAITED = WaitTimeout("the app to run", timeout=180.0, last_seen="apps {'ranker': 'DEPLOYING'}")
TRACEBACK = "ranker: Deploying app 'ranker' failed with exception:\nTraceback (most recent call last):\nValueError: 7"


def test_serves_own_traceback_of_the_app_is_shown_and_no_log_lines() -> None:
    error = did_not_come_up(WAITED, [TRACEBACK], lambda: pytest.fail("the logs are not read"))

    assert error.checked == (TRACEBACK,)
    assert "waited 180 s for the app to run" in error.what


def test_without_a_traceback_the_last_log_lines_are_shown_too() -> None:
    error = did_not_come_up(WAITED, ["ranker: 2 replicas wait for a CPU"], lambda: ["raylet: ERROR no room"])

    assert error.checked == ("ranker: 2 replicas wait for a CPU", "raylet: ERROR no room")


def test_a_node_that_ray_start_gave_up_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, link: FakeLink
) -> None:
    monkeypatch.setattr(start, "_NODES_TIMEOUT", 0.05)
    link.gave_up = ("`ray start` gave worker-1 up: The current node timed out",)
    view = LocalView(plan(tmp_path, None, "there:6379"), Layout(0), cast("SupervisorLink", link))

    with pytest.raises(ClusterStartError) as raised:
        start._wait_until_up(view, lambda text: None)

    assert "worker-1 is not started" in raised.value.what
    assert raised.value.checked[0] == "`ray start` gave worker-1 up: The current node timed out"


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
