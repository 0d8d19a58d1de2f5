"""The shape that a recovery must reach again: what lacks of it, what is too much, and what Serve may scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from pytest_serve_chaos.cluster.rest import ActorRow, NodeRow, ReplicaRow, ServeStatus
from pytest_serve_chaos.model import Component, Identity, Json, Role, Topology
from pytest_serve_chaos.observe.listing import in_service
from pytest_serve_chaos.observe.observer import Report
from pytest_serve_chaos.observe.shape import (
    concentrated,
    imbalance,
    lacking,
    lacks,
    proxy_nodes,
    shape_of,
    surplus,
)

RANKER = "app#Ranker"
NODES = ("head", "worker-1", "worker-2")
SCALES: Mapping[str, Json] = {"autoscaling_config": {"min_replicas": 2, "max_replicas": 6}}
FIXED: Mapping[str, Json] = {"num_replicas": 4}


def part(role: Role, node: str, pid: int, deployment: str | None = None, *, actor: bool = True) -> Component:
    actor_id = f"a{pid}" if actor and role in ("proxy", "replica", "controller") else None
    return Component(role, node, Identity("process", ("boot", node, str(pid))), pid, actor_id, deployment)


def replicas(*nodes: str, first: int = 101, actor: bool = True) -> list[Component]:
    return [part("replica", node, first + n, RANKER, actor=actor) for n, node in enumerate(nodes)]


def cluster(*ranker: Component, proxies: Sequence[str] = NODES) -> Topology:
    """A head and two workers, with these replicas."""
    nodes = [part("head" if node == "head" else "worker", node, n) for n, node in enumerate(NODES)]
    others = [part("proxy", node, 20 + n) for n, node in enumerate(proxies)]
    return Topology(0.0, (*nodes, part("controller", "head", 30), *others, *ranker))


def row(replica: Component, state: str = "RUNNING", *, node_id: str | None = None) -> ReplicaRow:
    app, _, deployment = (replica.deployment or "").partition("#")
    return ReplicaRow("r", app, deployment, state, replica.actor_id, node_id, replica.pid)


def report(
    topology: Topology,
    rows: Sequence[ReplicaRow],
    *,
    target: int = 4,
    options: Mapping[str, Json] | None = None,
    seen: Sequence[Component] | None = None,
) -> Report:
    """What Ray and Serve say of it, having been asked when all was seen (or `seen`)."""
    nodes = {f"id-{node}": NodeRow(f"id-{node}", node, "ALIVE", node == "head") for node in NODES}
    actors = [
        ActorRow(c.actor_id, "ProxyActor", "", "ALIVE", f"id-{c.node}", c.pid or 0)
        for c in topology.components
        if c.actor_id
    ]
    serve = ServeStatus(
        {"app": "RUNNING"}, {RANKER: target}, {RANKER: "HEALTHY"}, {}, tuple(rows), {"id-head": "HEALTHY"}, "a30",
        options={} if options is None else {RANKER: options},
    )  # fmt: skip
    known = topology.components if seen is None else seen
    return Report(1.0, tuple(actors), nodes, serve, frozenset(c.identity for c in known))


FOUR = replicas("worker-1", "worker-1", "worker-2", "worker-2")
SHAPE = shape_of(cluster(*FOUR))
AUTOSCALED = replace(SHAPE, autoscaled={RANKER: (2, 6)})


# -- who is RUNNING ---------------------------------------------------------------------------------------------


def test_a_whole_cluster_lacks_nothing_and_has_nothing_too_much() -> None:
    whole = cluster(*FOUR)
    said = report(whole, [row(c) for c in FOUR], options=FIXED)
    assert lacks(whole, said, SHAPE) == []
    assert surplus(whole, said, SHAPE) == []


@pytest.mark.parametrize("actor", [True, False], ids=["by actor id", "by PID"])
def test_a_dead_replica_that_serve_still_calls_running_does_not_count(actor: bool) -> None:
    dead, *living = replicas("worker-1", "worker-1", "worker-2", "worker-2", actor=actor)
    (starting,) = replicas("worker-1", first=201, actor=actor)
    now = cluster(*living, starting)
    rows = [row(dead), *map(row, living), row(starting, "STARTING")]
    assert lacks(now, report(now, rows), SHAPE) == [f"{RANKER}: 3 of 4 replicas RUNNING"]


def test_the_same_pid_on_another_node_is_another_replica() -> None:
    """PIDs repeat across pods: the successor on worker-2 has the PID that the dead one had on worker-1."""
    living = replicas("worker-1", "worker-1", "worker-2", actor=False)
    dead = part("replica", "worker-1", 300, RANKER, actor=False)
    starting = part("replica", "worker-2", 300, RANKER, actor=False)
    now = cluster(*living, starting)
    rows = [row(c, node_id=f"id-{c.node}") for c in (*living, dead)]
    assert lacks(now, report(now, rows), SHAPE) == [f"{RANKER}: 3 of 4 replicas RUNNING"]


def test_a_row_that_does_not_say_whose_it_is_counts() -> None:
    now = cluster(*FOUR)
    nameless = [ReplicaRow("r", "app", "Ranker", "RUNNING", None, None, None)] * 4
    assert lacks(now, report(now, nameless), SHAPE) == []


# -- autoscaling ------------------------------------------------------------------------------------------------


def test_the_shape_has_the_range_that_serve_says() -> None:
    now = cluster(*FOUR)
    assert shape_of(now, report(now, (), options=SCALES)).autoscaled == {RANKER: (2, 6)}
    assert shape_of(now, report(now, (), options=FIXED)).autoscaled == {}
    assert shape_of(now, report(now, (), options={"autoscaling_config": None})).autoscaled == {}
    assert shape_of(now, Report()).autoscaled == {}
    assert shape_of(now, report(now, (), options={"autoscaling_config": {"max_replicas": 3}})).autoscaled == {
        RANKER: (1, 3)
    }


@pytest.mark.parametrize(
    ("target", "there", "needed"),
    [(4, 3, 4), (6, 4, 6), (9, 5, 6), (0, 1, 2), (3, 2, 3)],
    ids=["as before", "scales up", "never more than its most", "never fewer than its least", "scales down"],
)
def test_an_autoscaled_deployment_needs_what_serve_wants_within_its_range(target: int, there: int, needed: int) -> None:
    living = replicas(*["worker-1", "worker-2"] * 3)
    some, enough = cluster(*living[:there]), cluster(*living[:needed])
    rows = [row(c) for c in living]
    assert f"{RANKER}: {there} of {needed} replicas" in lacks(some, report(some, rows, target=target), AUTOSCALED)
    assert lacks(enough, report(enough, rows, target=target), AUTOSCALED) == []


def test_a_deployment_that_was_scaled_to_zero_is_awaited_when_serve_wants_it() -> None:
    shape = replace(shape_of(cluster()), autoscaled={RANKER: (0, 6)})
    none = cluster()
    assert lacks(none, report(none, [], target=0), shape) == []
    assert f"{RANKER}: 0 of 1 replicas" in lacks(none, report(none, [], target=1), shape)


def test_an_autoscaled_deployment_may_have_more_up_to_its_most() -> None:
    living = replicas(*["worker-1", "worker-2"] * 3)
    six = cluster(*living)
    assert surplus(six, report(six, [row(c) for c in living], options=SCALES), AUTOSCALED) == []
    seventh = part("replica", "worker-1", 107, RANKER)
    seven = cluster(*living, seventh)
    rows = [row(c) for c in (*living, seventh)]
    assert surplus(seven, report(seven, rows, options=SCALES), AUTOSCALED) == [
        f"{RANKER}: 7 replicas, and its max_replicas is 6"
    ]
    rows[0] = row(living[0], "STOPPING")
    assert surplus(seven, report(seven, rows, options=SCALES), AUTOSCALED) == [], "one of them is on its way out"


def test_a_replica_that_serve_does_not_list_is_too_much_once_serve_could_know_it() -> None:
    leaked = part("replica", "worker-1", 105, RANKER)
    now = cluster(*FOUR, leaked)
    rows = [row(c) for c in FOUR]
    assert surplus(now, report(now, rows, options=SCALES), AUTOSCALED) == [
        f"replica {RANKER} on worker-1 (PID 105) is there, but Serve does not list it"
    ]
    assert surplus(now, report(now, rows, options=SCALES, seen=FOUR), AUTOSCALED) == [], "the report may be older"
    starts = ReplicaRow("r", "app", "Ranker", "STARTING", None, None, None)
    assert surplus(now, report(now, [*rows, starts], options=SCALES), AUTOSCALED) == [], "Serve is starting one"


def test_a_fixed_deployment_may_not_have_more_whatever_serve_lists() -> None:
    living = replicas(*["worker-1", "worker-2"] * 3)
    six = cluster(*living)
    said = report(six, [row(c) for c in living], options=FIXED)
    assert surplus(six, said, SHAPE) == [f"{RANKER}: 6 replicas instead of 4"]


def test_where_serve_tells_no_options_it_may_have_more_if_serve_calls_all_of_them_running() -> None:
    living = replicas(*["worker-1", "worker-2"] * 3)
    six = cluster(*living)
    rows = [row(c) for c in living]
    assert surplus(six, report(six, rows), SHAPE) == []
    rows[-1] = row(living[-1], "STARTING")
    assert surplus(six, report(six, rows), SHAPE) == [f"{RANKER}: 6 replicas instead of 4"]
    assert surplus(six, report(six, rows[:-1]), SHAPE) == [f"{RANKER}: 6 replicas instead of 4"]
    assert surplus(six, report(six, [row(c) for c in living]), replace(SHAPE, replicas={})) == [
        f"{RANKER}: 6 replicas instead of 0"
    ]


def test_the_placement_of_an_autoscaled_deployment_is_not_compared() -> None:
    lopsided = cluster(*replicas("worker-1", "worker-1", "worker-1", "worker-2"))
    assert imbalance(lopsided, SHAPE) == [f"{RANKER}: 3/1 replicas per node instead of 2/2"]
    assert imbalance(lopsided, AUTOSCALED) == []


# -- proxies ----------------------------------------------------------------------------------------------------


def test_a_proxy_must_be_on_each_node_with_replicas_and_on_the_head() -> None:
    whole = cluster(*FOUR)
    assert proxy_nodes(whole, SHAPE) == {"head", "worker-1", "worker-2"}
    moved = cluster(*replicas(*["worker-2"] * 4))
    assert proxy_nodes(moved, SHAPE) == {"head", "worker-2"}
    without = cluster(*FOUR, proxies=("worker-2",))
    said = report(without, [row(c) for c in FOUR])
    assert lacks(without, said, SHAPE) == ["no proxy on head", "no proxy on worker-1"]


def test_workers_need_no_proxy_where_only_the_head_had_one() -> None:
    head_only = cluster(*FOUR, proxies=("head",))
    shape = shape_of(head_only)
    assert proxy_nodes(head_only, shape) == {"head"}
    assert lacks(head_only, report(head_only, [row(c) for c in FOUR]), shape) == []
    assert proxy_nodes(head_only, shape_of(cluster(*FOUR, proxies=()))) == frozenset()


# -- concentration ----------------------------------------------------------------------------------------------


def test_replicas_that_are_all_on_one_node_now_are_concentrated() -> None:
    assert concentrated(cluster(*replicas(*["worker-1"] * 4)), SHAPE) == [
        f"{RANKER}: all 4 replicas are on worker-1, before 2/2: losing that node now loses all of them"
    ]
    assert concentrated(cluster(*replicas("worker-2")), AUTOSCALED) == [
        f"{RANKER}: the only replica is on worker-2, before 2/2: losing that node now loses it"
    ]


def test_what_is_spread_was_on_one_node_before_or_is_gone_is_not_concentrated() -> None:
    assert concentrated(cluster(*replicas("worker-1", "worker-1", "worker-1", "worker-2")), SHAPE) == []
    on_one = cluster(*replicas(*["worker-1"] * 4))
    assert concentrated(on_one, shape_of(on_one)) == []
    assert concentrated(cluster(), SHAPE) == []


def test_what_serve_scales_is_compared_with_where_it_was_in_the_steady_state() -> None:
    before, now = cluster(*replicas("worker-1", "worker-1")), cluster(*replicas(*["worker-1"] * 4))
    assert concentrated(now, AUTOSCALED.with_placement_of(before)) == []
    assert concentrated(now, SHAPE.with_placement_of(before)) != [], "a fixed one should be where it was at first"
    spread = cluster(*replicas("worker-1", "worker-2"))
    assert concentrated(now, AUTOSCALED.with_placement_of(spread)) != []


# -- where Serve says that proxies are --------------------------------------------------------------------------


def test_serve_says_where_proxies_must_be() -> None:
    one = replace(SHAPE, proxies=frozenset({"head"}))
    assert proxy_nodes(cluster(*FOUR), replace(one, proxy_location="EveryNode")) == {"head", "worker-1", "worker-2"}
    assert proxy_nodes(cluster(*FOUR), replace(SHAPE, proxy_location="HeadOnly")) == {"head"}
    without = cluster(*FOUR, proxies=("worker-1",))
    said = report(without, [row(c) for c in FOUR])
    assert lacks(without, said, replace(SHAPE, proxy_location="HeadOnly")) == ["no proxy on head"]


# -- pods that are never Ready ----------------------------------------------------------------------------------


def unready(topology: Topology, *nodes: str) -> Topology:
    components = [
        replace(c, state="NotReady") if c.role in ("head", "worker") and c.node in nodes else c
        for c in topology.components
    ]
    return replace(topology, components=tuple(components))


def test_a_pod_that_runs_and_is_never_ready_is_missing() -> None:
    rows = [row(c) for c in FOUR]
    now = unready(cluster(*FOUR), "head", "worker-2")
    assert lacks(now, report(now, rows), SHAPE) == [
        "the pod of head runs and is not Ready",
        "the pod of worker-2 runs and is not Ready",
    ]


def test_a_worker_that_needs_no_proxy_is_never_ready_and_lacks_nothing() -> None:
    on_one = replicas(*["worker-1"] * 4)
    now = unready(cluster(*on_one), "worker-2")
    assert lacks(now, report(now, [row(c) for c in on_one]), SHAPE) == []
    head_only = unready(cluster(*FOUR, proxies=("head",)), "worker-1", "worker-2")
    said = report(head_only, [row(c) for c in FOUR])
    assert lacks(head_only, said, replace(SHAPE, proxy_location="HeadOnly")) == []


# -- workers that are autoscaled --------------------------------------------------------------------------------


def with_workers(topology: Topology, *names: str) -> Topology:
    others = [c for c in topology.components if c.role != "worker"]
    return replace(topology, components=(*others, *(part("worker", name, 60 + n) for n, name in enumerate(names))))


@pytest.mark.parametrize(
    ("wanted", "names", "missing"),
    [
        (2, ("worker-1", "worker-2"), []),
        (2, ("worker-1", "worker-3"), []),
        (1, ("worker-1",), []),
        (2, ("worker-1", "worker-2", "worker-3"), []),
        (2, ("worker-1",), ["1 of 2 workers"]),
        (0, (), ["0 of 1 workers"]),
        (None, ("worker-1",), []),
        (9, ("worker-1", "worker-2"), ["2 of 3 workers"]),
    ],
    ids=[
        "as before",
        "other names",
        "scaled down",
        "on the way down",
        "one is lost",
        "its least",
        "unknown",
        "its most",
    ],
)
def test_there_must_be_as_many_workers_as_ray_wants_within_their_range(
    wanted: int | None, names: tuple[str, ...], missing: list[str]
) -> None:
    alone = replicas("worker-1", "worker-1", "worker-1", "worker-1")
    now = with_workers(cluster(*alone, proxies=("head", "worker-1")), *names)
    said = replace(report(now, [row(c) for c in alone]), workers=wanted)
    found = lacks(now, said, replace(SHAPE, workers=(1, 3)))
    assert [text for text in found if "ALIVE" not in text] == missing


def test_a_worker_that_ray_does_not_know_is_missing_also_where_workers_are_scaled() -> None:
    now = cluster(*FOUR)
    said = report(now, [row(c) for c in FOUR])
    dead = {key: replace(one, state="DEAD") if key == "id-worker-2" else one for key, one in (said.nodes or {}).items()}
    found = lacks(now, replace(said, nodes=dead, workers=2), replace(SHAPE, workers=(1, 3)))
    assert found == ["2 of 3 nodes ALIVE in the GCS"]


def test_where_workers_come_and_go_no_placement_is_compared() -> None:
    lopsided = cluster(*replicas("worker-1", "worker-1", "worker-1", "worker-2"))
    assert imbalance(lopsided, replace(SHAPE, workers=(1, 3))) == []


# -- who is in service ------------------------------------------------------------------------------------------


def test_a_replica_that_serve_starts_or_stops_because_it_scales_is_not_in_service() -> None:
    now = cluster(*FOUR)
    rows = [row(FOUR[0], "STOPPING"), row(FOUR[1], "STARTING"), row(FOUR[2]), row(FOUR[3])]
    assert in_service(now, report(now, rows, options=SCALES)) == tuple(FOUR[2:])
    assert in_service(now, report(now, rows, options=FIXED)) == tuple(FOUR), "of a fixed number each counts"
    assert in_service(now, Report()) == tuple(FOUR), "nobody says so"


def test_how_many_are_lacking_is_counted_by_deployment() -> None:
    now = cluster(*replicas("head", "worker-1"))
    assert lacking(now, report(now, []), SHAPE) == {RANKER: 2}
    without = replace(now, components=tuple(c for c in now.components if c.role != "worker"))
    assert lacking(without, report(without, []), SHAPE) == {RANKER: 2, "workers": 2}
