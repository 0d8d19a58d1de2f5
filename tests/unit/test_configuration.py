from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timezone

import pytest

from pytest_serve_chaos.analysis.configuration import (
    DRAIN_TIMEOUT,
    GRACE_PERIOD,
    LOST_WITH_HEAD,
    RAYSERVICE_FILE,
    RECONNECT_TIMEOUT,
    STOP_HOOK,
    Configuration,
    Deployment,
    Setup,
)
from pytest_serve_chaos.analysis.configuration import check as check_for
from pytest_serve_chaos.analysis.record import warned_about, warnings_of
from pytest_serve_chaos.cluster.kubernetes.client.records import Pod, pod
from pytest_serve_chaos.cluster.kubernetes.rayservice.setup import setup_of, started_again
from pytest_serve_chaos.cluster.profiles import drain_timeout, reconnect_timeout
from pytest_serve_chaos.events import ClusterReady, ConfigurationSeen, Warned
from pytest_serve_chaos.faults.catalogue import BUILT_IN
from pytest_serve_chaos.history import ExperimentLog, History
from pytest_serve_chaos.json_records import event_from_json, event_to_json
from pytest_serve_chaos.model import ClusterDescription, ConfigWarning, Json, Topology
from pytest_serve_chaos.observe.configuration import write_what_holds
from pytest_serve_chaos.report.terminal import summary_table, warning_lines
from pytest_serve_chaos.results import result_of
from tests.unit.histories import cluster, component, node_failure

KIND = ClusterDescription("kind", "2.60.0", 2, "redis", "app", "fast", 4, "http://127.0.0.1:1/")
NAME = "default#SleepyPid"
SOUND = Setup(
    redis_persists=True,
    redis_machine="services",
    machines={"head": "node-1", "worker-1": "node-2", "worker-2": "node-3"},
    drain_limits={DRAIN_TIMEOUT: 30.0},
)
DEPLOYMENTS = {NAME: Deployment(4, limited=True, shutdown=20.0)}


def check(
    description: ClusterDescription, setup: Setup, topology: Topology, deployments: Mapping[str, Deployment]
) -> tuple[ConfigWarning, ...]:
    return check_for(Configuration(description, setup, topology, deployments), BUILT_IN)


def codes(
    description: ClusterDescription = KIND,
    setup: Setup = SOUND,
    topology: Topology | None = None,
    deployments: Mapping[str, Deployment] = DEPLOYMENTS,
) -> list[str]:
    return [w.code for w in check(description, setup, cluster() if topology is None else topology, deployments)]


def on(*nodes: str, without: str = "") -> Topology:
    """A cluster whose replicas are there, and which lacks that node."""
    others = tuple(c for c in cluster().components if c.role != "replica" and c.node != without)
    return Topology(0.0, (*others, *(component("replica", node, number=n) for n, node in enumerate(nodes))))


def test_a_sound_cluster_is_not_warned_about() -> None:
    assert codes() == []


def test_what_is_not_known_is_not_warned_about() -> None:
    assert codes(setup=Setup(), deployments={}) == []


@pytest.mark.parametrize(
    ("setup", "code"),
    [
        (replace(SOUND, redis_persists=False), "redis_forgets"),
        (replace(SOUND, redis_machine="node-3"), "redis_on_ray_node"),
        (replace(SOUND, drain_limits={DRAIN_TIMEOUT: 0.0}), "no_drain"),
        (replace(SOUND, drain_limits={DRAIN_TIMEOUT: 20.0}), "no_drain"),
    ],
)
def test_each_weakness_of_a_setup_is_said_by_itself(setup: Setup, code: str) -> None:
    assert codes(setup=setup) == [code]


def test_without_fault_tolerance_there_is_nothing_to_say_of_redis() -> None:
    weak = replace(SOUND, redis_persists=False, redis_machine="node-1")
    assert codes(replace(KIND, gcs="none"), weak) == ["no_fault_tolerance"]


@pytest.mark.parametrize(
    ("nodes", "deployment", "code"),
    [
        (("head", "worker-1", "worker-2"), Deployment(3), "replicas_on_head"),
        (("worker-1",), Deployment(1, limited=False), "one_replica"),
        (("worker-1", "worker-1"), Deployment(2, limited=False), "all_on_one_node"),
        (("worker-1", "worker-2"), Deployment(2, limited=False), "no_limit_per_node"),
    ],
)
def test_each_weakness_of_a_placement_is_said_by_itself(
    nodes: tuple[str, ...], deployment: Deployment, code: str
) -> None:
    assert codes(topology=on(*nodes), deployments={NAME: deployment}) == [code]


def test_a_worker_that_has_no_other_alongside_it_has_all_replicas() -> None:
    (warning,) = check(KIND, SOUND, on("worker-1", "worker-1", without="worker-2"), {NAME: Deployment(2)})
    fix = "`max_replicas_per_node` less than the number of replicas, and a second worker"
    assert (warning.code, warning.fix) == ("all_on_one_node", fix)


def test_replicas_on_ray_nodes_that_share_a_machine_are_lost_together() -> None:
    shared = replace(SOUND, machines={"head": "node-1", "worker-1": "node-2", "worker-2": "node-2"})
    (warning,) = check(KIND, shared, on("worker-1", "worker-2"), {NAME: Deployment(2)})
    assert warning.code == "all_on_one_machine"
    assert warning.line == (
        f"all replicas of {NAME} on node-2, the node of worker-1, worker-2: losing that node leaves none."
        " To fix this: an anti-affinity, or a topology spread constraint, for the pods of the workers."
    )


def test_a_warning_says_what_it_will_cost_and_what_mends_it() -> None:
    (warning,) = check(KIND, replace(SOUND, redis_machine="node-3", redis_persists=True), cluster(), DEPLOYMENTS)
    assert warning.line == (
        "Redis is on node-3, the node of worker-2: losing that node takes the GCS along."
        " To fix this: a nodeSelector or an anti-affinity for Redis' pod."
    )
    written = Warned("", warning=warning)
    assert event_from_json(event_to_json(written)) == written


def test_what_cannot_be_mended_on_local_says_so_by_leaving_it_out() -> None:
    local = replace(KIND, backend="local")
    (warning,) = check(local, Setup(redis_persists=False), cluster(), {})
    assert warning.line == "Redis keeps nothing on disk: losing it restarts the head and every worker."


NO_GCS = replace(KIND, gcs="none")
OF_A_FILE = replace(NO_GCS, details={RAYSERVICE_FILE: "k8s_config.yaml"})
SHORT = {DRAIN_TIMEOUT: 20.0, GRACE_PERIOD: 25.0}


@pytest.mark.parametrize(
    ("warnings", "code", "setting"),
    [
        (check(NO_GCS, SOUND, cluster(), {}), "no_fault_tolerance", "--serve-chaos-gcs"),
        (check(OF_A_FILE, SOUND, cluster(), {}), "no_fault_tolerance", "gcsFaultToleranceOptions"),
        (check(KIND, replace(SOUND, redis_persists=False), cluster(), {}), "redis_forgets", "appendonly"),
        (check(KIND, replace(SOUND, redis_machine="node-3"), cluster(), {}), "redis_on_ray_node", "nodeSelector"),
        (check(KIND, SOUND, on("head", "worker-1"), {}), "replicas_on_head", "num-cpus"),
        (check(KIND, SOUND, on("worker-1"), {NAME: Deployment(1)}), "one_replica", "num_replicas"),
        (
            check(KIND, SOUND, on("worker-1", "worker-1"), {NAME: Deployment(2)}),
            "all_on_one_node",
            "max_replicas_per_node",
        ),
        (
            check(KIND, SOUND, on("worker-1", "worker-2"), {NAME: Deployment(2, limited=False)}),
            "no_limit_per_node",
            "max_replicas_per_node",
        ),
        (
            check(KIND, replace(SOUND, drain_limits={DRAIN_TIMEOUT: 20.0}), cluster(), DEPLOYMENTS),
            "no_drain",
            DRAIN_TIMEOUT,
        ),
    ],
)
def test_each_warning_names_the_setting_that_mends_it(
    warnings: tuple[ConfigWarning, ...], code: str, setting: str
) -> None:
    (warning,) = warnings
    assert warning.code == code
    assert setting in warning.fix


def test_an_option_that_is_refused_alongside_a_file_is_not_what_mends_it() -> None:
    (warning,) = check(OF_A_FILE, SOUND, cluster(), {})
    assert "--serve-chaos-gcs" not in warning.fix


@pytest.mark.parametrize(
    ("limits", "fix"),
    [
        ({}, f"{DRAIN_TIMEOUT} over 20 s and what a replica takes to start"),
        (SHORT, f"{DRAIN_TIMEOUT} over 20 s and what a replica takes to start"),
        ({**SHORT, DRAIN_TIMEOUT: 30.0, GRACE_PERIOD: 15.0}, f"{GRACE_PERIOD} over 20 s and what a replica takes"),
        ({**SHORT, GRACE_PERIOD: 15.0}, f"{DRAIN_TIMEOUT} and {GRACE_PERIOD} over 20 s"),
        ({DRAIN_TIMEOUT: 30.0, GRACE_PERIOD: 60.0, STOP_HOOK: 0.0}, f"no {STOP_HOOK}"),
        ({**SHORT, STOP_HOOK: 0.0}, f"no {STOP_HOOK}; {DRAIN_TIMEOUT} over 20 s"),
    ],
    ids=["unknown", "timeout", "grace period", "both", "hook", "hook and timeout"],
)
def test_what_makes_a_drain_longer_is_what_limits_it_and_nothing_else(limits: Mapping[str, float], fix: str) -> None:
    setup = replace(SOUND, drain_limits=limits or SHORT)
    (warning,) = check(KIND, setup, cluster(), DEPLOYMENTS)
    assert warning.fix.startswith(fix)
    others = {DRAIN_TIMEOUT, GRACE_PERIOD, STOP_HOOK} - {name for name in (DRAIN_TIMEOUT, *limits) if name in fix}
    assert not [name for name in others if name in warning.fix]


# -- in a history ------------------------------------------------------------------------------------------------------


def warned(*warnings: ConfigWarning) -> History:
    """A failed experiment whose victim is on the head, and its cluster was warned about."""
    history = History()
    history.add(ClusterReady("a cluster", at=0.0))
    for warning in warnings:
        history.add(Warned(warning.line, at=1.0, warning=warning))
    story = node_failure().without("asked").event(-0.001, "asked", "SIGKILL to the head", fault="node_failure")
    story.add_to(history)
    return history


REDIS = ConfigWarning("redis_on_ray_node", "Redis is on node-1", "that is lost too", "", ("node_failure",), "head")


def test_a_failure_names_the_warning_that_foresaw_it() -> None:
    history = warned(REDIS)
    result = result_of(history, node_failure().experiment)
    assert result.warnings == (REDIS,)
    assert "  warned about before: Redis is on node-1: that is lost too" in summary_table([result])


@pytest.mark.parametrize("other", [replace(REDIS, node="worker-1"), replace(REDIS, faults=("head_failure",))])
def test_a_warning_about_something_else_explains_nothing(other: ConfigWarning) -> None:
    history = warned(other)
    assert result_of(history, node_failure().experiment).warnings == ()
    assert warnings_of(history) == (other,)


def test_the_warnings_of_an_earlier_cluster_are_not_those_of_the_next() -> None:
    history = warned(REDIS)
    history.add(ClusterReady("another cluster", at=5.0))
    assert result_of(history, node_failure().experiment).warnings == ()


def test_what_holds_just_before_the_fault_is_what_counts() -> None:
    history, experiment = warned(REDIS), node_failure().experiment
    mended_by = replace(REDIS, text="Redis is on node-2")
    history.add(ConfigurationSeen("what holds", at=5.0, experiment=experiment, warnings=(mended_by,)))
    assert result_of(history, experiment).warnings == (mended_by,)
    assert warned_about(history, experiment) == (REDIS,)
    history.add(ConfigurationSeen("nothing", at=5.1, experiment=experiment))
    assert result_of(history, experiment).warnings == ()


def test_only_what_is_new_for_this_cluster_is_warned_about_and_only_what_is_new_in_the_run_is_said() -> None:
    history, experiment = warned(REDIS), node_failure().experiment
    said_of_another, new = replace(REDIS, node="worker-1"), replace(REDIS, node="worker-2")
    said, lines = {REDIS, said_of_another}, list[str]()
    write_what_holds(ExperimentLog(history, experiment), (REDIS, said_of_another, new), said, lines.append)
    assert warned_about(history, experiment) == (REDIS, said_of_another, new)
    assert len([e for e in history.events if e.kind == "warning"]) == 3
    assert lines == [f"warning: {new.line}"]
    assert said == {REDIS, said_of_another, new}
    assert warnings_of(history, experiment) == (REDIS, said_of_another, new)


def test_a_long_warning_is_wrapped() -> None:
    lines = warning_lines([replace(REDIS, fix="a nodeSelector for the pod of Redis")], width=60)
    assert lines == [
        "warning: Redis is on node-1: that is lost too. To fix this:",
        "  a nodeSelector for the pod of Redis.",
    ]


# -- what pods say -----------------------------------------------------------------------------------------------------


def redis_pod(*args: str, volume: str = "", node: str = "node-1") -> dict[str, Json]:
    container: dict[str, Json] = {"name": "redis", "args": list(args)}
    if volume:
        container["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
    return {"spec": {"nodeName": node, "containers": [container], "volumes": [{"name": "data", volume: {}}]}}


@pytest.mark.parametrize(
    ("redis", "persists"),
    [
        (redis_pod(), False),
        (redis_pod(volume="emptyDir"), False),
        (redis_pod(volume="persistentVolumeClaim"), True),
        (redis_pod("--save", "", "--appendonly", "no", volume="persistentVolumeClaim"), False),
        (redis_pod("--appendonly", "yes", volume="persistentVolumeClaim"), True),
    ],
)
def test_redis_persists_with_a_volume_that_outlives_its_pod(redis: dict[str, Json], persists: bool) -> None:
    setup = setup_of({}, [], [redis], "2.60.0")
    assert (setup.redis_persists, setup.redis_machine) == (persists, "node-1")


def test_a_redis_that_is_elsewhere_is_not_judged() -> None:
    assert setup_of({}, [], [], "2.60.0") == Setup()


def restarted(name: str, ended: str, *, deleting: bool = False) -> tuple[str, Pod]:
    status: Json = {"name": "ray", "lastState": {"terminated": {"reason": "Error", "finishedAt": ended}}}
    metadata: Json = {"name": name, "deletionTimestamp": ended if deleting else None}
    item: dict[str, Json] = {"metadata": metadata, "spec": {"containers": [{"name": "ray"}]}}
    return name, pod({**item, "status": {"containerStatuses": [status]}})


def test_a_container_that_ended_in_the_last_ten_minutes_and_is_to_stay_is_put_off() -> None:
    pods = [
        restarted("head", "2026-11-22T10:00:01Z"),
        restarted("worker-1", "2026-11-22T09:59:59Z"),
        restarted("worker-2", ""),
        restarted("worker-3", "2026-11-22T10:05:00Z", deleting=True),
        restarted("worker-4", "2026-11-22T10:10:07Z"),
    ]
    now = datetime(2026, 11, 22, 10, 10, tzinfo=timezone.utc)
    assert started_again(pods, now) == ("head", "worker-4"), "the clock of the last one's machine is ahead of ours"


@pytest.mark.parametrize(
    ("node", "setup", "description", "faults"),
    [
        ("head", SOUND, KIND, ("gcs_failure", "redis_failure")),
        ("head", SOUND, replace(KIND, gcs="none"), ("gcs_failure",)),
        ("worker-1", replace(SOUND, redis_persists=False), KIND, ("redis_failure",)),
    ],
)
def test_a_fault_that_ends_a_container_which_was_started_again_takes_longer(
    node: str, setup: Setup, description: ClusterDescription, faults: tuple[str, ...]
) -> None:
    found = check(description, replace(setup, restarted=(node,)), cluster(), DEPLOYMENTS)
    (warning,) = (w for w in found if w.code == "restarted")
    assert warning.faults == faults
    assert warning.line == (
        f"the container of {node} was started again in its pod in the last ten minutes: the kubelet delays its next"
        " start, by 10 s and each time by twice as long, up to 5 min. To fix this: delete the pod before, or wait until"
        " ten minutes have passed without a restart."
    )


def test_a_worker_that_no_fault_ends_in_its_pod_is_not_warned_about() -> None:
    assert codes(setup=replace(SOUND, restarted=("worker-1",))) == []


def worker_pod(grace: int = 30, stop: str = "", **env: str) -> dict[str, Json]:
    container: dict[str, Json] = {"env": [{"name": name, "value": value} for name, value in env.items()]}
    if stop:
        container["lifecycle"] = {"preStop": {"exec": {"command": ["/bin/sh", "-c", stop]}}}
    return {"spec": {"terminationGracePeriodSeconds": grace, "containers": [container]}}


@pytest.mark.parametrize(
    ("worker", "drain"),
    [
        (worker_pod(), 30.0),
        (worker_pod(grace=15), 15.0),
        (worker_pod(RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S="0"), 0.0),
        (worker_pod(stop="ray stop"), 0.0),
    ],
)
def test_a_worker_drains_until_its_deadline_or_its_pods(worker: dict[str, Json], drain: float) -> None:
    assert setup_of({}, [worker], [], "2.60.0").drain == drain


@pytest.mark.parametrize(
    ("pods", "limits"),
    [
        ([worker_pod(grace=15)], {DRAIN_TIMEOUT: 30.0, GRACE_PERIOD: 15.0}),
        ([worker_pod(stop="ray stop")], {DRAIN_TIMEOUT: 30.0, GRACE_PERIOD: 30.0, STOP_HOOK: 0.0}),
        (
            [worker_pod(grace=60, RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S="10"), worker_pod(grace=20)],
            {DRAIN_TIMEOUT: 10.0, GRACE_PERIOD: 20.0},
        ),
    ],
)
def test_each_thing_that_ends_a_drain_is_known(pods: list[dict[str, Json]], limits: Mapping[str, float]) -> None:
    assert setup_of({}, pods, [], "2.60.0").drain_limits == limits


def test_the_hook_of_an_older_ray_is_known_though_its_drain_is_not() -> None:
    assert setup_of({}, [worker_pod()], [], "2.50.1").drain is None
    old = setup_of({}, [worker_pod(stop="ray stop")], [], "2.50.1")
    assert (old.drain, old.drain_limits) == (0.0, {STOP_HOOK: 0.0})


def test_the_drain_of_an_older_ray_is_not_known() -> None:
    assert drain_timeout({}, "2.50.1") is None
    assert drain_timeout({"RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "12"}, "2.50.1") == 12.0
    assert drain_timeout({}, "nightly") is None


@pytest.mark.parametrize(
    ("env", "seconds"), [({}, 60.0), ({RECONNECT_TIMEOUT: "600"}, 600.0), ({RECONNECT_TIMEOUT: "soon"}, None)]
)
def test_how_long_workers_look_for_the_gcs_is_in_their_environment(env: dict[str, str], seconds: float | None) -> None:
    assert reconnect_timeout(env) == seconds
    variables: list[Json] = [{"name": name, "value": value} for name, value in env.items()]
    pod: dict[str, Json] = {"spec": {"containers": [{"name": "ray-worker", "env": variables}]}}
    assert setup_of({}, [pod], [], "2.60.0").reconnect == seconds


def test_the_least_patient_worker_counts() -> None:
    pods: list[dict[str, Json]] = [
        {"spec": {"containers": [{"name": "w", "env": [{"name": RECONNECT_TIMEOUT, "value": value}]}]}}
        for value in ("600", "40", "90")
    ]
    assert setup_of({}, pods, [], "2.60.0").reconnect == 40.0


def test_a_limit_for_each_node_leaves_room_for_the_most_replicas_that_serve_may_want() -> None:
    scaled = Deployment(2, limited=False, most=5)
    (warning,) = check(KIND, SOUND, on("worker-1", "worker-2"), {NAME: scaled})
    assert warning.fix == "`max_replicas_per_node: 3`"
    grown = replace(scaled, replicas=4)
    assert check(KIND, SOUND, on("worker-1", "worker-2"), {NAME: grown}) == (warning,), "it is printed once"


def test_a_proxy_on_the_head_alone_is_a_weakness_where_replicas_are_elsewhere() -> None:
    def with_proxies(*nodes: str) -> Topology:
        there = on("worker-1", "worker-2")
        others = [c for c in there.components if c.role != "proxy"]
        proxies = [component("proxy", node) for node in nodes]
        return replace(there, components=(*others, *proxies))

    deployments = {NAME: Deployment(2)}
    assert codes(topology=with_proxies("head"), deployments=deployments) == ["proxy_on_head_only"]
    assert codes(topology=with_proxies("head", "worker-1"), deployments=deployments) == []


# -- where the GCS keeps its state -------------------------------------------------------------------------------------


def test_a_rocksdb_that_outlives_the_head_is_fault_tolerance_without_redis() -> None:
    embedded = replace(KIND, gcs="rocksdb")
    forgetful = replace(SOUND, redis_persists=False, redis_machine="node-2", redis_mode="sentinel")
    assert codes(embedded, forgetful) == []
    assert codes(embedded, replace(SOUND, restarted=("worker-1",))) == []
    (warning,) = check(embedded, replace(SOUND, restarted=("head",)), cluster(), DEPLOYMENTS)
    assert (warning.code, warning.faults) == ("restarted", ("gcs_failure",))


def test_a_rocksdb_that_goes_with_the_heads_pod_is_named() -> None:
    lost = replace(KIND, gcs="none", details={LOST_WITH_HEAD: "RocksDB in /tmp/gcs"})
    (warning,) = check(lost, SOUND, cluster(), DEPLOYMENTS)
    assert warning.code == "no_fault_tolerance"
    assert "no GCS fault tolerance: RocksDB in /tmp/gcs goes with the head's pod" in str(warning)
    assert "persistent volume" in warning.fix


@pytest.mark.parametrize(("mode", "code"), [("sentinel", "redis_is_sentinel"), ("cluster", "redis_is_cluster")])
def test_what_is_taken_for_redis_and_is_not_is_named(mode: str, code: str) -> None:
    (warning,) = check(KIND, replace(SOUND, redis_mode=mode), cluster(), DEPLOYMENTS)
    assert warning.code == code
    assert set(warning.faults) == {"head_failure", "gcs_failure", "redis_failure"}


def test_the_pods_of_a_sentinel_say_nothing_of_the_redis_behind_it() -> None:
    pods: list[dict[str, Json]] = [{"spec": {"nodeName": "node-1", "containers": []}}]
    seen = setup_of({}, [], pods, "2.60.0", mode="sentinel")
    assert (seen.redis_persists, seen.redis_machine, seen.redis_mode) == (None, None, "sentinel")
    assert setup_of({}, [], pods, "2.60.0", mode="standalone").redis_machine == "node-1"
