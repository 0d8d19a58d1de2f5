"""On somebody else's cluster: what its owner forbids is skipped, its config stays, and the final check does without."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

import pytest

from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.capabilities import (
    HAS_PROXY_ENDPOINTS,
    IS_EXTERNAL,
    RECORDS_STALE_PROXIES,
    Endpoint,
    Offer,
)
from pytest_serve_chaos.cluster.kubernetes.external.policy import Grants, Terms
from pytest_serve_chaos.cluster.kubernetes.external.rights import RUN, Right
from pytest_serve_chaos.cluster.policy import Touch
from pytest_serve_chaos.errors import ObservationError, Unsupported
from pytest_serve_chaos.events import ComponentGone, Moment, Settled, TopologySeen
from pytest_serve_chaos.history import ExperimentLog, History
from pytest_serve_chaos.model import Component, Json
from pytest_serve_chaos.observe import external_check
from pytest_serve_chaos.testing import QUICK, FakeBehaviour, FakeCluster, FakeServer, Handler
from pytest_serve_chaos.traffic.request import Message
from tests.plugin.conftest import RunChaos


class ExternalFake(FakeCluster):
    """Implements `cluster.capabilities.IsExternal`, on the terms of the backend `kubernetes`.

    Attributes:
        lacking: The rights that this user has not.
        targets: ``app#Deployment`` -> wanted replicas; empty: as they are.
        changed: What its owner has done to it; None: nobody can look.
    """

    lacking: Collection[Right] = ()
    targets: Mapping[str, int] = {}
    changed: str | None = ""

    def __init__(self, spec: ClusterSpec, behaviour: FakeBehaviour | None = None) -> None:
        super().__init__(spec, behaviour)
        self._heard: dict[int, frozenset[str]] = {}

    def offers(self) -> tuple[Offer, ...]:
        """What it can do."""
        return (
            *super().offers(),
            IS_EXTERNAL.by(self),
        )

    def why_not(self, touch: Touch, asked_for: Collection[str]) -> str:
        """As its owner, this user's rights and its shape have it."""
        terms = Terms(self.spec, Grants(self.lacking), lambda: self.targets or self.world.plan.targets(), lambda: False)
        return terms.why_not(touch, asked_for)

    def admit(self, touch: Touch, asked_for: Collection[str], *, heals: bool = False) -> None:
        """Refuses what `why_not` has a reason against."""
        reason = self.why_not(touch, asked_for)
        if reason:
            raise Unsupported(reason)

    def owner_change(self) -> str:
        """What its owner has done to it.

        Raises:
            ObservationError: Nobody can look.
        """
        if self.changed is None:
            raise ObservationError("RayService ranker: status 503: the API server is away")
        return self.changed

    def apply_serve_config(self, config: Mapping[str, Json]) -> None:
        """Refuses."""
        raise Unsupported("the Serve config is not ours to change")

    def who_answers(self, proxy: Component, messages: Sequence[Message] = ()) -> frozenset[str]:
        """The replicas of the proxy's own node, or for lack of them all; a deaf proxy knows those of long ago."""
        self.world.tick()
        with self.world.lock:
            part = self.world.parts.by_identity(proxy.identity)
            if part is None or self.behaviour.anonymous:
                return frozenset()
            replicas = self.world.parts.of("replica")
            local = [p.replica_id for p in replicas if p.slot.node == proxy.node]
            if part.stale_routes is None or part.pid not in self._heard:
                self._heard[part.pid] = frozenset(local or [p.replica_id for p in replicas])
            return self._heard[part.pid]


class NothingMayRun(ExternalFake):
    """One in whose pods this user may run nothing."""

    lacking = RUN


class HasOneReplica(ExternalFake):
    """One whose only deployment wants a single replica."""

    targets: Mapping[str, int] = {"sleepy_pid#SleepyPid": 1}


class LedElsewhere(ExternalFake):
    """One whose URL leads to another cluster, as one of production does; each of its own proxies can be asked alone."""

    def __init__(self, spec: ClusterSpec, behaviour: FakeBehaviour | None = None) -> None:
        super().__init__(spec, behaviour)
        self._other = FakeCluster(spec, behaviour)
        for part in self._other.world.parts.of("replica"):
            part.replica_id = f"other-{part.replica_id}"
        self._alone: list[FakeServer] = []

    def offers(self) -> tuple[Offer, ...]:
        """What it can do."""
        return (
            *super().offers(),
            HAS_PROXY_ENDPOINTS.by(self),
        )

    @property
    def url(self) -> str:
        """That of the other one."""
        return self._other.url

    def proxy_endpoint(self, proxy: Component) -> Endpoint:
        """An address at which that proxy alone answers."""

        def alone() -> dict[int, bool]:
            return {pid: frozen for pid, frozen in self.proxies.alive().items() if pid == proxy.pid}

        self._alone.append(FakeServer(Handler(alone, self.proxies.answer)))
        return Endpoint(f"http://127.0.0.1:{self._alone[-1].port}")

    def close(self) -> None:
        """Ends both clusters."""
        for server in self._alone:
            server.close()
        self._other.close()
        super().close()


ONE = """
    import pytest

    @pytest.mark.{fault}
    def test_it(experiment):
        experiment.run(availability=0.7, window="700ms")
"""


def test_the_post_recovery_check_replaces_replicas_when_nobody_counts_any_more(run_chaos: RunChaos) -> None:
    ran = run_chaos(ONE.format(fault="head_failure"), cluster=ExternalFake)

    ran.outcomes(passed=1)
    (cluster,) = ran.backend.clusters
    assert "canary" not in json.dumps(cluster.serve_config)
    log = ExperimentLog(History.load(ran.directory / "history.jsonl"), "it")
    after = next(e.at for e in log.of(TopologySeen) if e.moment is Moment.AFTER)
    (settled,) = log.of(Settled)
    assert settled.text.startswith("a new replica was served by all 3 proxies")
    assert settled.at > after
    replaced = [e for e in log.of(ComponentGone) if e.component.role == "replica"]
    assert [e.component.node for e in replaced] == ["worker-1", "worker-2"]
    assert all(e.at > after for e in replaced)


def test_deaf_proxies_are_found_and_replaced(run_chaos: RunChaos, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(external_check, "HEARS_WITHIN", 0.5)
    fault = 'controller_failure(replacement="new_actor")'
    ran = run_chaos(ONE.format(fault=fault), behaviour=FakeBehaviour(stale_proxies=True), cluster=ExternalFake)

    ran.outcomes(failed=1)
    ran.result.stdout.fnmatch_lines(["*3 of 3 proxies do not hear the controller: a new replica was not served by*"])
    assert ran.text.count("which does not hear the new controller") == 3


class OnRecord(ExternalFake):
    """Has proxies put on record, and notes what had happened by then."""

    def offers(self) -> tuple[Offer, ...]:
        """What it can do."""
        return (*super().offers(), RECORDS_STALE_PROXIES.by(self))

    def stale_after(self, controller: Component, proxies: Sequence[Component]) -> Callable[[], None]:
        """Notes that."""
        self.noted = [("on record", self._lives(controller), len(proxies))]
        return lambda: self.noted.append(("off record", self._lives(controller), 0))

    def _lives(self, one: Component) -> bool:
        return one.identity in {component.identity for component in self.components()}


def test_proxies_are_on_record_before_their_controller_is_killed_for_good(run_chaos: RunChaos) -> None:
    ran = run_chaos(ONE.format(fault='controller_failure(replacement="new_actor")'), cluster=OnRecord)

    (cluster,) = ran.backend.clusters
    assert isinstance(cluster, OnRecord)
    assert cluster.noted == [("on record", True, 3), ("off record", False, 0)]


def test_a_dry_run_shows_the_kill_behind_the_record(run_chaos: RunChaos) -> None:
    fault = 'controller_failure(replacement="new_actor")'
    ran = run_chaos(ONE.format(fault=fault), "--serve-chaos-dry-run", cluster=OnRecord)

    ran.outcomes(skipped=1)
    ran.result.stdout.fnmatch_lines(
        ["*RecordsStaleProxies.stale_after(controller=controller (PID*", "*KillsActors.kill_actor(*no_restart=True)"]
    )


def test_without_a_word_who_answered_nothing_is_claimed(run_chaos: RunChaos) -> None:
    ran = run_chaos(ONE.format(fault="head_failure"), behaviour=FakeBehaviour(anonymous=True), cluster=ExternalFake)

    ran.outcomes(inconclusive=1)
    ran.result.stdout.fnmatch_lines(
        ["*the post-recovery check cannot be judged: the answers do not name their replica*"]
    )


def test_answers_of_another_clusters_replicas_are_no_steady_state(run_chaos: RunChaos) -> None:
    # A busy machine may have no answer in the last second.
    patient = FakeBehaviour(waits=replace(QUICK, steady_within=15.0, stable_for=10.0))
    slowly = ("--serve-chaos-rate=3", "--serve-chaos-persistent-rate=1")  # so that a busy machine answers, too
    source = ONE.format(fault="replica_failure").replace("700ms", "10s")
    ran = run_chaos(source, *slowly, behaviour=patient, cluster=LedElsewhere)

    ran.outcomes(inconclusive=1)
    ran.result.stdout.fnmatch_lines(["*answers come from replicas that are not of this cluster: see --serve-chaos-url"])
    events = History.load(ran.directory / "history.jsonl").of("it")
    assert not [e for e in events if e.kind == "asked"]


@pytest.mark.parametrize(
    ("fault", "cluster", "options", "reason"),
    [
        ("head_failure", ExternalFake, ["--serve-chaos-gcs=none"], "the RayService has no GCS fault tolerance*"),
        ("gcs_failure", ExternalFake, ["--serve-chaos-gcs=none"], "the RayService has no GCS fault tolerance*"),
        ("replica_failure", HasOneReplica, [], "sleepy_pid#SleepyPid has one replica, so losing it leaves none*"),
        ("worker_failure", HasOneReplica, [], "sleepy_pid#SleepyPid has one replica, so losing it leaves none*"),
        ("worker_failure", ExternalFake, ["--serve-chaos-workers=1"], "the RayService has 1 worker*"),
        ("head_failure", NothingMayRun, [], "this user may not get pods/exec, create pods/exec (SelfSubject*"),
        ("proxy_failure", NothingMayRun, [], "this user may not get pods/exec, create pods/exec (SelfSubject*"),
        ("node_failure", ExternalFake, [], "how='kill' needs the machines under a cluster of your own*"),
        ('node_failure(how="drain")', ExternalFake, [], "faults on nodes are not allowed: --serve-chaos-allow=node"),
        ("head_failure(hold=True)", ExternalFake, [], "KubeRay makes a new pod at once, so none can be kept down"),
        ("rayservice_upgrade", ExternalFake, [], "the plugin does not change the spec of an external RayService*"),
        ("redis_failure", ExternalFake, [], "Redis does not belong to the RayService, so it is left alone"),
        ("health_check_failure", ExternalFake, [], "the workers have no SERVE_CHAOS_FLAGS*"),
    ],
)
def test_what_must_not_be_broken_is_skipped_before_anything_is_sent(
    run_chaos: RunChaos, fault: str, cluster: type[FakeCluster], options: list[str], reason: str
) -> None:
    ran = run_chaos(ONE.format(fault=fault), "-rs", *options, cluster=cluster)

    ran.outcomes(skipped=1)
    ran.result.stdout.fnmatch_lines([f"SKIPPED * {reason}".replace("[", "[[]")])
    assert not History.load(ran.directory / "history.jsonl").requests


@pytest.mark.parametrize(
    ("fault", "cluster", "options", "reason"),
    [
        ("chaos.head.kill()", ExternalFake, ["--serve-chaos-gcs=none"], "the RayService has no GCS fault tolerance*"),
        ("chaos.head.freeze()", ExternalFake, ["--serve-chaos-gcs=none"], "the RayService has no GCS fault tolerance*"),
        ("chaos.head.kill(hold=True)", ExternalFake, [], "KubeRay makes a new pod at once*"),
        ("chaos.gcs.stop()", ExternalFake, ["--serve-chaos-gcs=none"], "the RayService has no GCS fault tolerance*"),
        ("chaos.worker().stop()", ExternalFake, ["--serve-chaos-workers=1"], "the RayService has 1 worker*"),
        ("chaos.worker().kill()", HasOneReplica, [], "sleepy_pid#SleepyPid has one replica, so losing it leaves none*"),
        (
            "chaos.replica().kill()",
            HasOneReplica,
            [],
            "sleepy_pid#SleepyPid has one replica, so losing it leaves none*",
        ),
        ("chaos.replica().freeze()", HasOneReplica, [], "sleepy_pid#SleepyPid has one replica*"),
        ("chaos.replica().fail_health_check()", ExternalFake, [], "the workers have no SERVE_CHAOS_FLAGS*"),
        (
            "chaos.controller.kill()",
            NothingMayRun,
            [],
            "this user may not get pods/exec, create pods/exec (SelfSubject*",
        ),
        (
            "chaos.proxy().freeze()",
            NothingMayRun,
            [],
            "this user may not get pods/exec, create pods/exec (SelfSubject*",
        ),
        ("chaos.node().kill()", ExternalFake, [], "*how='drain' works here*"),
        ("chaos.node().freeze()", ExternalFake, [], "*how='drain' works here*"),
        ("chaos.redis.kill()", ExternalFake, [], "Redis does not belong to the RayService, so it is left alone"),
        ("chaos.head.kill(hold=True, for_='20s')", ExternalFake, [], "KubeRay makes a new pod at once*"),
        ("chaos.raylet().kill()", HasOneReplica, [], "sleepy_pid#SleepyPid has one replica, so losing it leaves none*"),
        (
            "chaos.raylet().freeze()",
            NothingMayRun,
            [],
            "this user may not get pods/exec, create pods/exec (SelfSubject*",
        ),
        (
            "chaos.replica().child().kill()",
            HasOneReplica,
            [],
            "sleepy_pid#SleepyPid has one replica, so losing it leaves none*",
        ),
        (
            "chaos.replica().child().freeze()",
            NothingMayRun,
            [],
            "this user may not get pods/exec, create pods/exec (SelfSubject*",
        ),
        (
            "chaos.custom(exit, exit, exit, name='out_of_disk').inject()",
            ExternalFake,
            [],
            "out_of_disk is a fault of the test itself, and the plugin does not know what it does to this cluster",
        ),
    ],
)
def test_what_must_not_be_broken_is_not_broken_by_hand_either(
    run_chaos: RunChaos, fault: str, cluster: type[FakeCluster], options: list[str], reason: str
) -> None:
    source = f"""
        def test_it(chaos, traffic):
            with traffic():
                {fault}
            raise AssertionError("it was broken")
    """
    ran = run_chaos(source, "-rs", *options, cluster=cluster)

    ran.outcomes(skipped=1)
    ran.result.stdout.fnmatch_lines([f"SKIPPED * {reason}".replace("[", "[[]")])
    events = History.load(ran.directory / "history.jsonl").events
    assert not [e for e in events if e.kind in ("asked", "gone")]


def test_a_marker_for_one_fault_does_not_admit_another_by_hand(run_chaos: RunChaos) -> None:
    source = """
        import pytest

        @pytest.mark.proxy_failure
        def test_it(chaos, traffic):
            with traffic():
                chaos.replica().kill()
    """
    ran = run_chaos(source, "-rs", cluster=HasOneReplica)

    ran.outcomes(skipped=1)
    ran.result.stdout.fnmatch_lines(["SKIPPED * sleepy_pid#SleepyPid has one replica, so losing it leaves none*"])


def test_by_hand_the_head_is_taken_without_fault_tolerance_where_the_test_asks_for_that(run_chaos: RunChaos) -> None:
    source = """
        import pytest

        @pytest.mark.serve_cluster(gcs="none")
        def test_it(chaos, traffic):
            with traffic():
                assert chaos.head.kill().landed
    """
    ran = run_chaos(source, cluster=ExternalFake)

    ran.outcomes(passed=1)


def test_what_leaves_the_rest_standing_is_broken(run_chaos: RunChaos) -> None:
    source = ONE.format(fault="proxy_failure").replace("window=", "settled=False, window=")
    ran = run_chaos(source, cluster=HasOneReplica)

    ran.outcomes(passed=1)


def test_the_post_recovery_check_replaces_no_replica_that_must_not_be_lost(run_chaos: RunChaos) -> None:
    ran = run_chaos(ONE.format(fault="proxy_failure"), cluster=HasOneReplica)

    ran.outcomes(inconclusive=1)
    ran.result.stdout.fnmatch_lines(
        ["*the post-recovery check could not run: sleepy_pid#SleepyPid has one replica, so losing it leaves none*"]
    )


def test_a_fault_without_fault_tolerance_is_measured_where_the_test_asks_for_that(run_chaos: RunChaos) -> None:
    source = """
        import pytest

        @pytest.mark.head_failure
        @pytest.mark.serve_cluster(gcs="none")
        def test_it(experiment):
            assert experiment.measure(availability=0.7, window="700ms").evidence
    """
    ran = run_chaos(source, cluster=ExternalFake)

    ran.outcomes(passed=1)


def test_a_test_that_changes_the_config_is_skipped(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        'def test_it(serve_cluster): serve_cluster.update("sleepy_pid#SleepyPid", num_replicas=1)',
        "-rs",
        cluster=ExternalFake,
    )

    ran.outcomes(skipped=1)
    ran.result.stdout.fnmatch_lines(["SKIPPED * the Serve config is not ours to change"])
