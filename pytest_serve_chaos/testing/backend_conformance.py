"""The tests that every backend must pass, for authors of backends to inherit."""

from __future__ import annotations

import functools
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, TypeVar
from urllib.parse import urlsplit

import pytest

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.cluster.base import Cluster
from pytest_serve_chaos.cluster.capabilities import (
    DELETES_MACHINES,
    DRAINS_MACHINES,
    FREEZES_MACHINES,
    FREEZES_NODES,
    HAS_PROXY_ENDPOINTS,
    HAS_REDIS,
    IS_EXTERNAL,
    KILLS_ACTORS,
    KILLS_MACHINES,
    KILLS_NODES,
    KNOWS_ITS_SETUP,
    SETS_HEALTH_FLAGS,
    SIGNALS_PROCESSES,
    STREAMS_LOGS,
    Capability,
)
from pytest_serve_chaos.cluster.http_client import get_if
from pytest_serve_chaos.doctor import examine
from pytest_serve_chaos.errors import NoSuchTarget, ServeChaosError, WaitTimeout, in_one_line
from pytest_serve_chaos.faults.admission import kill_replica
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.model import HEAD, Component, Evidence, Identity
from pytest_serve_chaos.observe.external_check import settle
from pytest_serve_chaos.testing.backend_session import BackendChoice, BackendSession, answers, entries_of, killed_run

T = TypeVar("T")

_STILL_THERE_AFTER = 5.0
_STAYS_AWAY_FOR = 1.0
_ENDS_BY_ITSELF = 15.0
"""Seconds in which what notices that its run was killed must have ended."""
_DELETED_WITHIN = 300.0


@dataclass
class _State:
    """What the tests of one class share: a cluster, which starts with the first test that needs it."""

    session: BackendSession | None = None
    failed: str = ""
    seen: set[Identity] = field(default_factory=set)


class BackendConformance:
    """The tests that every backend must pass. What takes a capability is skipped where the cluster lacks it.

    A subclass whose name begins with ``Test`` names the backend as the command line would::

        class TestFarm(BackendConformance):
            plugin = "farm"
            backend = "farm"
            options = {"farm_host": "farm.example.com"}

    All tests but the last use one cluster, which starts with the first of them. It is replaced where a test has left it
    broken.

    Attributes:
        plugin: The module with the hook that adds the backend; "" for the backends of this package.
        backend: Its name.
        options: Its settings by name, each value as on the command line.
        stays: Whether its clusters stay when a run ends, as external ones do.
        within: Seconds in which the cluster must be whole again after something was broken.
    """

    plugin: ClassVar[str] = ""
    backend: ClassVar[str]
    options: ClassVar[Mapping[str, str]] = {}
    stays: ClassVar[bool] = False
    within: ClassVar[float] = 120.0

    _state: ClassVar[_State]

    def __init_subclass__(cls, **options: object) -> None:
        super().__init_subclass__(**options)
        cls._state = _State()

    @classmethod
    def teardown_class(cls) -> None:
        """Ends the cluster."""
        cls._end()

    @pytest.fixture
    def rig(self) -> Rig:
        """The cluster, which is whole, and what is around it."""
        return self._session().rig

    @pytest.fixture
    def cluster(self, rig: Rig) -> Cluster:
        """The cluster, which is whole."""
        return rig.cluster

    # -- the backend --------------------------------------------------------------------------------------------

    def test_its_options_have_valid_defaults(self) -> None:
        """Each option has a help text, and a default that a user could also give."""
        for option in self._choice.backend.options:
            assert option.help.strip(), f"{option.flag} has no help text"
            if option.default is not None:
                try:
                    option.kind.parse(option.default, Path.cwd())
                except ValueError:
                    pytest.fail(f"the default of {option.flag} is {option.default!r}, and not {option.kind.must}")

    def test_the_doctor_finds_what_it_needs(self) -> None:
        """With these settings the doctor finds everything."""
        findings = examine(self.backend, self.options, {}, self._choice.backends)
        missing = [finding.line.strip() for finding in findings if not finding.ok]
        assert not missing, "\n".join(missing)

    def test_the_doctor_works_without_settings(self) -> None:
        """The doctor reports what is missing where no setting is given, and says how to get it."""
        for finding in examine(self.backend, {}, {}, self._choice.backends):
            assert finding.ok or finding.fix, f"the finding {finding.what!r} does not say how to fix it"

    # -- the cluster --------------------------------------------------------------------------------------------

    def test_it_starts_a_cluster(self) -> None:
        """A cluster starts, in which each node with replicas, and the head, has a proxy."""
        self._start()
        assert not self._state.failed, self._state.failed

    def test_it_describes_the_cluster(self, cluster: Cluster) -> None:
        """The description names the backend, and the cluster is the one that was asked for."""
        description = cluster.description
        assert description.backend == self.backend
        assert description.workers == cluster.spec.workers
        assert cluster.url.startswith(description.url), "requests go to somewhere else than the description says"

    def test_the_app_answers(self, cluster: Cluster) -> None:
        """A GET request to the cluster's URL is answered by the app."""
        answer = get_if(cluster.url, lambda _: True, timeout=10.0)
        assert answer is not None
        assert answer[0] < 400, f"GET {cluster.url} was answered with {answer[0]}: {answer[1][:200]}"

    def test_its_nodes_are_listed_head_first(self, cluster: Cluster) -> None:
        """All nodes are listed, alive, each with an identity of its own."""
        nodes = cluster.nodes()
        assert [node.name for node in nodes][:1] == [HEAD], "the first node must be the head"
        assert len(nodes) == 1 + cluster.spec.workers
        assert all(node.alive for node in nodes), nodes
        assert len({node.name for node in nodes}) == len({node.identity for node in nodes}) == len(nodes), nodes

    def test_each_component_has_its_own_identity(self, cluster: Cluster) -> None:
        """No two components have one identity, and an identity does not change while nothing happens."""
        first = {(one.role, one.node, one.identity) for one in cluster.components()}
        assert len({identity for *_, identity in first}) == len(first), f"two components have one identity: {first}"
        assert {node.name for node in cluster.nodes()} <= {node for _, node, _ in first}
        clock.wait_until("a later look", _after(0.5), timeout=5.0)
        second = {(one.role, one.node, one.identity) for one in cluster.components()}
        lost = {one for one in first - second if one[0] in ("head", "worker", "gcs", "redis", "controller", "proxy")}
        assert not lost, f"nothing was broken, and these have other identities now: {lost}"

    def test_the_dashboard_answers(self, cluster: Cluster) -> None:
        """Ray's state API knows the nodes by the addresses that the backend has, and Serve runs the apps."""
        alive = {row.address for row in cluster.dashboard.nodes() if row.state == "ALIVE"}
        assert alive == {node.address for node in cluster.nodes()}
        assert cluster.dashboard.actors()
        apps = cluster.dashboard.serve().apps
        assert apps
        assert set(apps.values()) == {"RUNNING"}

    def test_replicas_and_proxies_are_found(self, rig: Rig) -> None:
        """Replicas, proxies and the controller are seen, each with the id of its actor."""
        topology = rig.watcher.sample()
        for role in ("controller", "proxy", "replica"):
            found = [one for one in topology.components if one.role == role]
            assert found, f"there is no {role}"
            assert all(one.actor_id for one in found), f"the actor id of a {role} is unknown: {found}"

    def test_each_proxy_answers_alone(self, rig: Rig) -> None:
        """`ask_proxy` gets the routes from each proxy."""
        for proxy in rig.watcher.sample().of("proxy"):
            status, body = rig.cluster.ask_proxy(proxy, "/-/routes", timeout=10.0)
            assert status == 200, f"{proxy.name}: {status} {body[:200]}"
            assert urlsplit(rig.cluster.url).path.rstrip("/") in body, f"{proxy.name} does not know the route: {body}"

    def test_a_connection_leads_to_a_proxy(self, rig: Rig) -> None:
        """`proxy_of` names a proxy that lives, or None."""
        led: list[Identity | None] = []

        def noted(client: tuple[str, int]) -> bool:
            led.append(clock.wait_until("the proxy", lambda: _known(rig.cluster.proxy_of(client)), timeout=2.0))
            return True

        try:
            get_if(rig.cluster.url, noted, timeout=10.0)
        except WaitTimeout:
            pytest.skip("it is unknown to which proxy a connection leads")
        proxies = {proxy.identity for proxy in rig.watcher.sample().of("proxy")}
        assert set(led) <= proxies, f"{led} is not one of the proxies {proxies}"

    def test_an_update_of_the_config_reaches_each_proxy(self, rig: Rig) -> None:
        """Another app is deployed and scaled up by the Serve config, and each proxy serves it."""
        if rig.cluster.capability(IS_EXTERNAL) is not None:
            pytest.skip("the config of an external cluster is not changed")
        before = rig.cluster.serve_config
        nodes, kill = rig.health.proxy_nodes(), functools.partial(kill_replica, rig)
        result = settle(rig.cluster, rig.watcher, rig.run.canaries, nodes=nodes, kill=kill)
        assert result.passed, result.text
        assert rig.cluster.serve_config == before, "`serve_config` is not the config that was applied last"

    # -- its capabilities ---------------------------------------------------------------------------------------

    def test_it_knows_its_setup(self, rig: Rig) -> None:
        """What decides what a fault costs is known (`KnowsItsSetup`)."""
        self._capability(rig, KNOWS_ITS_SETUP).setup()

    def test_it_collects_logs(self, rig: Rig, tmp_path: Path) -> None:
        """Logs of a test can be kept, and closed twice (`StreamsLogs`)."""
        logs = self._capability(rig, STREAMS_LOGS).stream_logs(tmp_path / "logs")
        seconds = [line.seconds for line in logs.around(clock.now(), before=5.0, after=1.0)]
        assert seconds == sorted(seconds)
        assert all(-5.0 <= one <= 1.0 for one in seconds), seconds
        logs.keep()
        logs.close()
        logs.close()

    def test_each_proxy_has_an_address(self, rig: Rig) -> None:
        """Each proxy answers at an address of its own (`HasProxyEndpoints`)."""
        endpoints = self._capability(rig, HAS_PROXY_ENDPOINTS)
        urls = {endpoints.proxy_endpoint(proxy).url for proxy in rig.watcher.sample().of("proxy")}
        assert len(urls) == len(rig.watcher.sample().of("proxy"))

    def test_a_killed_node_stays_away_until_it_may_come_back(self, rig: Rig) -> None:
        """A node is gone when `kill_node` returns, and comes back as another after `restore_node` (`KillsNodes`)."""
        nodes = self._capability(rig, KILLS_NODES)
        self._loses_node(rig, lambda node: nodes.kill_node(node, how="kill", hold=True), nodes.restore_node)

    def test_a_stopped_node_comes_back(self, rig: Rig) -> None:
        """A node that is stopped without `hold` comes back by itself as another (`KillsNodes`)."""
        nodes = self._capability(rig, KILLS_NODES)
        node = _worker(rig)
        with self._replacing(rig, lambda one: one.node == node):
            _signs(nodes.kill_node(node, how="stop", hold=False))

    def test_a_frozen_node_goes_on(self, rig: Rig) -> None:
        """A node stands still until `thaw_node`, and keeps its identities (`FreezesNodes`)."""
        nodes = self._capability(rig, FREEZES_NODES)
        self._freezes(rig, nodes.freeze_node, nodes.thaw_node)

    def test_a_lost_machine_comes_back(self, rig: Rig) -> None:
        """The node on a machine is gone until `revive_machine` (`KillsMachines`)."""
        machines = self._capability(rig, KILLS_MACHINES)
        self._loses_node(rig, lambda node: machines.kill_machine(node, how="kill"), machines.revive_machine)

    def test_a_deleted_machine_comes_back(self, rig: Rig) -> None:
        """The node on a machine is gone until `register_machine` (`DeletesMachines`)."""
        machines = self._capability(rig, DELETES_MACHINES)
        self._loses_node(
            rig, lambda node: machines.delete_machine(node, within=_DELETED_WITHIN), machines.register_machine
        )

    def test_a_drained_machine_comes_back(self, rig: Rig) -> None:
        """The node on a machine is gone until `reopen_machine` (`DrainsMachines`)."""
        machines = self._capability(rig, DRAINS_MACHINES)
        self._loses_node(rig, machines.drain_machine, machines.reopen_machine)

    def test_a_frozen_machine_goes_on(self, rig: Rig) -> None:
        """A machine stands still until `thaw_machine` (`FreezesMachines`)."""
        machines = self._capability(rig, FREEZES_MACHINES)
        self._freezes(rig, machines.freeze_machine, machines.thaw_machine)

    def test_a_killed_process_is_replaced(self, rig: Rig) -> None:
        """SIGKILL ends that very process, and a signal to one that is gone is refused (`SignalsProcesses`)."""
        processes = self._capability(rig, SIGNALS_PROCESSES)
        victim = rig.watcher.sample().of("replica")[0]
        with self._replacing(rig, lambda one: one.identity == victim.identity):
            processes.signal_process(victim.identity, signal.SIGKILL)
        with pytest.raises(NoSuchTarget):
            processes.signal_process(victim.identity, signal.SIGKILL)

    def test_a_stopped_process_goes_on(self, rig: Rig) -> None:
        """SIGSTOP makes that very process stand still until SIGCONT (`SignalsProcesses`)."""
        processes = self._capability(rig, SIGNALS_PROCESSES)
        victim = rig.watcher.sample().of("proxy", on="workers")[0]
        processes.signal_process(victim.identity, signal.SIGSTOP)
        try:
            self._wait("the process to stand still", lambda: _state(rig, victim) == "frozen")
        finally:
            processes.signal_process(victim.identity, signal.SIGCONT)
        self._wait("the process to go on", lambda: _state(rig, victim) == "running")

    def test_a_killed_actor_is_replaced(self, rig: Rig) -> None:
        """`kill_actor` ends the process of that actor (`KillsActors`)."""
        actors = self._capability(rig, KILLS_ACTORS)
        victim = rig.watcher.sample().of("replica")[0]
        assert victim.actor_id is not None
        with self._replacing(rig, lambda one: one.identity == victim.identity):
            actors.kill_actor(victim.actor_id, no_restart=True)

    def test_a_replica_whose_check_fails_is_replaced(self, rig: Rig) -> None:
        """Serve replaces a replica whose health check is made to fail (`SetsHealthFlags`)."""
        flags = self._capability(rig, SETS_HEALTH_FLAGS)
        victim = rig.watcher.sample().of("replica")[0]
        with self._replacing(rig, lambda one: one.identity == victim.identity):
            flags.set_health_flag(victim, "raise")
        flags.clear_health_flag(victim)

    def test_redis_stays_away_until_it_may_come_back(self, rig: Rig) -> None:
        """Redis is gone when `kill_redis` returns, and comes back after `restore_redis` (`HasRedis`)."""
        redis = self._capability(rig, HAS_REDIS)
        if not rig.watcher.sample().of("redis"):
            pytest.skip("this cluster has no Redis")
        namespace = redis.redis_namespace
        assert any(namespace in key for key in redis.redis_keys()), f"no key names {namespace}"
        before = {one.identity for one in rig.watcher.sample().of("redis")}
        try:
            _signs(redis.kill_redis(how="kill", hold=True))
            self._stays_away(lambda one: one.role == "redis", "Redis")
        finally:
            redis.restore_redis()
        self._wait("another Redis", lambda: any(one.identity not in before for one in rig.watcher.sample().of("redis")))
        self._end()  # without persistence the cluster has lost its state

    # -- the end ------------------------------------------------------------------------------------------------

    def test_a_closed_cluster_leaves_nothing(self) -> None:
        """A cluster that was closed, twice, does not answer any more, and nothing of it is left."""
        session = self._session()
        if self.stays:
            pytest.skip("its clusters stay")
        url = session.rig.cluster.url
        session.rig.cluster.close()
        self._end()
        assert not session.entries(), f"the undo journal has entries: {session.entries()}"
        self._gone(url)

    def test_what_a_killed_run_left_is_undone(self, tmp_path: Path) -> None:
        """What a run leaves that ends by SIGKILL ends with it, or is ended by `serve-chaos undo`."""
        url = killed_run(self._choice, tmp_path)
        settings = self._choice.settings(tmp_path / "reports")
        allowed = [] if settings.allow_context is None else [settings.allow_context]
        failed = self._choice.backends.undo(settings.report_dir, print, allowed=allowed)
        assert not failed, "\n".join(failed)
        assert not entries_of(settings), f"the undo journal has entries: {entries_of(settings)}"
        if not self.stays:
            self._gone(url, within=_ENDS_BY_ITSELF)  # what ends by itself may not have ended yet

    # -- what a subclass may extend -----------------------------------------------------------------------------

    def leftovers(self) -> Sequence[str]:
        """What clusters that were closed have left, in words: machines, containers, processes. Nothing by default."""
        return ()

    # -- how ----------------------------------------------------------------------------------------------------

    @property
    def _choice(self) -> BackendChoice:
        return BackendChoice(self.plugin, self.backend, self.options)

    @classmethod
    def _end(cls) -> None:
        session, cls._state.session = cls._state.session, None
        if session is not None:
            session.close()

    def _start(self) -> None:
        """Starts the cluster, unless there is one or it could not be started before."""
        if self._state.session is None and not self._state.failed:
            try:
                self._state.session = BackendSession(self._choice)
            except Exception as error:  # whatever it is, the other tests are skipped
                self._state.failed = f"the cluster did not start: {in_one_line(error)}"

    def _session(self) -> BackendSession:
        """The cluster, which is whole."""
        if self._state.session is not None and self._state.session.wait_whole(_STILL_THERE_AFTER):
            self._end()  # the test before has left it broken
        self._start()
        if self._state.session is None:
            pytest.skip(self._state.failed)
        return self._state.session

    def _capability(self, rig: Rig, wanted: Capability[T]) -> T:
        found = rig.cluster.capability(wanted)
        if found is None:
            pytest.skip(f"the cluster has no {wanted.name}")
        external = rig.cluster.capability(IS_EXTERNAL)
        if external is not None and wanted not in (KNOWS_ITS_SETUP, STREAMS_LOGS, HAS_PROXY_ENDPOINTS):
            pytest.skip("an external cluster is not broken without its policy")
        return found

    def _wait(self, what: str, probe: Callable[[], bool]) -> None:
        clock.wait_until(what, lambda: probe() or NotYet("not yet"), timeout=self.within, interval=0.2)

    @contextmanager
    def _replacing(self, rig: Rig, suits: Callable[[Component], bool]) -> Iterator[None]:
        """What suits before must be gone afterwards, and the cluster whole, without an identity that was gone."""
        before = [one for one in rig.watcher.sample().components if suits(one)]
        assert before
        seen = {one.identity for one in rig.watcher.topology.components} | self._state.seen
        yield
        old = {one.identity for one in before}
        self._wait(
            f"{before[0].name} to be gone", lambda: not any(rig.watcher.sample().find(identity) for identity in old)
        )
        assert self._state.session is not None
        missing = self._state.session.wait_whole(self.within)
        assert not missing, f"what was taken away did not come back: {missing}"
        again = {one.identity for one in rig.watcher.sample().components if one.identity in self._state.seen}
        assert not again, f"an identity came back that was gone: {again}"
        self._state.seen |= seen - {one.identity for one in rig.watcher.sample().components}

    def _loses_node(
        self, rig: Rig, take: Callable[[str], Sequence[Evidence]], restore: Callable[[str], object]
    ) -> None:
        node = _worker(rig)
        with self._replacing(rig, lambda one: one.node == node):
            try:
                _signs(take(node))
                self._stays_away(lambda one: one.node == node, node)
                assert not any(info.alive for info in rig.cluster.nodes() if info.name == node), f"{node} is alive"
            finally:
                restore(node)

    def _stays_away(self, suits: Callable[[Component], bool], what: str) -> None:
        assert self._state.session is not None
        cluster, until = self._state.session.rig.cluster, clock.now() + _STAYS_AWAY_FOR
        while clock.now() < until:
            there = [one.name for one in cluster.components() if suits(one)]
            assert not there, f"{what} was taken away, and is there: {', '.join(there)}"
            clock.wait_until("the next look", _after(0.1), timeout=5.0)

    def _freezes(self, rig: Rig, freeze: Callable[[str], Sequence[Evidence]], thaw: Callable[[str], object]) -> None:
        node = _worker(rig)
        before = {one.identity for one in rig.watcher.sample().components if one.node == node}
        proxy = rig.watcher.sample().of("proxy", on=node)[0]
        try:
            _signs(freeze(node))
            with pytest.raises(ServeChaosError):
                rig.cluster.ask_proxy(proxy, "/-/routes", timeout=1.0)
        finally:
            thaw(node)
        self._wait("the proxy to answer again", lambda: _answers(rig, proxy))
        after = {one.identity for one in rig.watcher.sample().components if one.node == node}
        assert before <= after, f"these did not survive a short freeze: {before - after}"

    def _gone(self, url: str, *, within: float = 0.0) -> None:
        """Fails unless the cluster does not answer any more, and has left nothing after that many seconds."""
        self._wait(f"{url} to answer no more", lambda: not answers(url))

        def nothing_left() -> bool | NotYet:
            return NotYet("; ".join(left)) if (left := self.leftovers()) else True

        try:
            clock.wait_until("nothing to be left", nothing_left, timeout=within)
        except WaitTimeout as error:
            pytest.fail(error.last_seen)


def _after(seconds: float) -> Callable[[], bool | NotYet]:
    until = clock.now() + seconds
    return lambda: clock.now() >= until or NotYet("wait")


def _known(identity: Identity | None) -> Identity | NotYet:
    return NotYet("unknown") if identity is None else identity


def _signs(evidence: Sequence[Evidence]) -> None:
    assert any(sign.side == "victim" for sign in evidence), f"there is no sign of the victim's: {evidence}"


def _worker(rig: Rig) -> str:
    """The name of a worker that has replicas."""
    return rig.watcher.sample().of("replica", on="workers")[0].node


def _state(rig: Rig, component: Component) -> str | None:
    found = rig.watcher.sample().find(component.identity)
    return None if found is None else found.state


def _answers(rig: Rig, proxy: Component) -> bool:
    try:
        return rig.cluster.ask_proxy(proxy, "/-/routes", timeout=2.0)[0] == 200
    except ServeChaosError:
        return False
