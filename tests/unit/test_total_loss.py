"""What must stay of a cluster that carries traffic, by what is well at the moment of the fault."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_serve_chaos.cluster.policy import Touch
from pytest_serve_chaos.cluster.rest import ActorRow, ReplicaRow, ServeStatus
from pytest_serve_chaos.cluster.total_loss import Healthy, leaves_none
from pytest_serve_chaos.errors import SettingsError
from pytest_serve_chaos.faults.catalogue import BUILT_IN
from pytest_serve_chaos.model import MANAGER_FROZEN, Component, Identity, Loss, Role, Topology
from pytest_serve_chaos.observe.healthy import healthy
from pytest_serve_chaos.observe.observer import Report

APP = "app#App"
WAY_OUT = "(allow_total_loss=True breaks it all the same)"


def part(role: Role, node: str, number: int = 0, *, state: str = "", deployment: str = APP) -> Component:
    name = deployment if role == "replica" else None
    identity = Identity("process", (role, node, str(number), deployment))
    return Component(role, node, identity, number, f"actor-{role}-{node}-{number}", name, state=state)


HEAD, ONE, TWO = part("head", "head"), part("worker", "worker-1"), part("worker", "worker-2")
FIRST, SECOND = part("replica", "worker-1", 1), part("replica", "worker-2", 2)
WHOLE = Healthy(frozenset({"head", "worker-1", "worker-2"}), {APP: (FIRST, SECOND)})
PROXIES = replace(WHOLE, proxies=(part("proxy", "head"), part("proxy", "worker-1")))
WORKER: tuple[Loss, ...] = ("worker", "Ray node", "replica")


def hit(*victims: Component, loses: tuple[Loss, ...] = ("replica",)) -> Touch:
    return Touch(actions=("run in pods",), loses=loses, victims=victims)


def test_what_leaves_another_one_may_be_broken() -> None:
    assert leaves_none(hit(FIRST), WHOLE) == ""
    assert leaves_none(hit(ONE, FIRST, loses=WORKER), WHOLE) == ""
    assert leaves_none(hit(HEAD, loses=("head", "Ray node")), WHOLE) == ""
    assert leaves_none(hit(part("proxy", "worker-1"), loses=("proxy",)), PROXIES) == ""
    assert leaves_none(hit(HEAD, part("proxy", "head"), loses=("head", "Ray node")), PROXIES) == ""


@pytest.mark.parametrize(
    ("touch", "left", "reason"),
    [
        (hit(FIRST), Healthy(WHOLE.nodes, {APP: (FIRST,)}), f"no replica of {APP} but the one that is to be hit runs"),
        (hit(FIRST), Healthy(WHOLE.nodes, {APP: ()}), f"no replica of {APP} but the one that is to be hit runs"),
        (hit(FIRST), Healthy(WHOLE.nodes, {}), f"no replica of {APP} but the one that is to be hit runs"),
        (
            hit(ONE, FIRST, loses=WORKER),
            Healthy(WHOLE.nodes, {APP: (FIRST,)}),
            f"no replica of {APP} but what is on worker-1 runs",
        ),
        (
            hit(ONE, loses=WORKER),
            Healthy(frozenset({"head", "worker-1"}), {APP: (SECOND,)}),
            "no worker but worker-1 runs",
        ),
        (hit(TWO, loses=WORKER), Healthy(frozenset({"head"}), {}), "no worker but worker-2 runs"),
        (hit(HEAD, loses=("head", "Ray node")), Healthy(frozenset({"head"}), {}), "no Ray node but head runs"),
        (
            hit(part("proxy", "head"), loses=("proxy",)),
            replace(WHOLE, proxies=(part("proxy", "head"),)),
            "no proxy but the one that is to be hit takes requests",
        ),
        (hit(part("proxy", "head"), loses=("proxy",)), WHOLE, "no proxy but the one that is to be hit takes requests"),
        (
            hit(HEAD, part("proxy", "head"), loses=("head", "Ray node")),
            replace(WHOLE, proxies=(part("proxy", "head"),)),
            "no proxy but what is on head takes requests",
        ),
        (
            hit(part("gcs", "head"), loses=("head", "head container")),
            replace(WHOLE, proxies=(part("proxy", "head"),)),
            "no proxy but what is on head takes requests",
        ),
        (
            hit(ONE, loses=(*WORKER, "machine")),
            replace(PROXIES, machines={"head": "node-1", "worker-1": "node-1", "worker-2": "node-2"}),
            "no proxy but what is on head, worker-1 takes requests",
        ),
        (
            hit(ONE, loses=(*WORKER, "machine")),
            replace(WHOLE, machines={"worker-1": "node-1", "worker-2": "node-1"}),
            "no worker but worker-1, worker-2 runs",
        ),
    ],
)
def test_the_last_one_may_not_unless_the_test_says_so(touch: Touch, left: Healthy, reason: str) -> None:
    assert leaves_none(touch, left) == f"{reason}, so losing it leaves none {WAY_OUT}"
    allowed = Touch(touch.refused, touch.actions, touch.loses, victims=touch.victims, allow_total_loss=True)
    assert leaves_none(allowed, left) == ""


def test_a_raylet_takes_all_that_is_on_its_node() -> None:
    raylet = hit(part("raylet", "worker-1"), loses=("worker", "replica"))
    assert leaves_none(raylet, Healthy(WHOLE.nodes, {APP: (FIRST,)})) != ""
    assert leaves_none(raylet, Healthy(WHOLE.nodes, {APP: (SECOND,)})) == ""


def test_the_only_proxy_must_hear_its_controller() -> None:
    """Nobody can allow that: the proxy would have to be replaced, and nothing would take requests meanwhile."""
    new = Touch(actions=("run in pods",), new_controller=True, victims=(part("controller", "head"),))
    assert leaves_none(new, PROXIES) == ""
    only = leaves_none(new, replace(WHOLE, proxies=(part("proxy", "head"),)))
    assert only.startswith("one proxy runs, which may not hear a new controller")


def test_a_deployment_that_nothing_hits_may_have_no_replica() -> None:
    assert leaves_none(hit(FIRST), Healthy(WHOLE.nodes, {APP: (FIRST, SECOND), "idle#Idle": ()})) == ""


# -- what is well ------------------------------------------------------------------------------------------------------


def seen(*components: Component, states: dict[str, str]) -> Healthy:
    rows = tuple(ReplicaRow(name, "app", "App", state, name, None, None) for name, state in states.items())
    serve = ServeStatus({}, {APP: 2}, {}, {}, rows, {}, None)
    return healthy(Topology(0.0, components, (), {}, {}, {}), Report(serve=serve))


def test_well_is_what_runs_by_its_process_and_by_what_serve_says() -> None:
    states = {"actor-replica-worker-1-1": "RUNNING", "actor-replica-worker-2-2": "RUNNING"}
    assert seen(HEAD, ONE, TWO, FIRST, SECOND, states=states) == WHOLE


@pytest.mark.parametrize("state", ["frozen", "Terminating", "NotReady"])
def test_what_stands_still_or_goes_is_not_well(state: str) -> None:
    states = {"actor-replica-worker-1-1": "RUNNING", "actor-replica-worker-2-2": "RUNNING"}
    sick = part("worker", "worker-2", state=state)
    found = seen(HEAD, ONE, sick, FIRST, SECOND, states=states)
    assert (found.nodes, found.replicas) == (frozenset({"head", "worker-1"}), {APP: (FIRST,)})
    still = part("replica", "worker-2", 2, state=state)
    assert seen(HEAD, ONE, TWO, FIRST, still, states=states).replicas == {APP: (FIRST,)}


def test_a_replica_that_starts_or_is_gone_is_not_well() -> None:
    states = {"actor-replica-worker-1-1": "RUNNING", "actor-replica-worker-2-2": "STARTING"}
    assert seen(HEAD, ONE, TWO, FIRST, SECOND, states=states).replicas == {APP: (FIRST,)}
    assert seen(HEAD, ONE, TWO, SECOND, states=states).replicas == {APP: ()}


def test_what_a_fault_has_hit_is_not_well_whatever_is_seen_of_it() -> None:
    """A frozen pod stays Ready, and a replica whose check fails stays RUNNING until the third failure."""
    topology = Topology(0.0, (HEAD, ONE, TWO, FIRST, SECOND), (), {}, {}, {})
    assert healthy(topology, Report(), {ONE.identity}) == Healthy(frozenset({"head", "worker-2"}), {APP: (SECOND,)})
    assert healthy(topology, Report(), {FIRST.identity}) == replace(WHOLE, replicas={APP: (SECOND,)})


@pytest.mark.parametrize("state", ["", "frozen"])
def test_a_node_is_not_well_whose_raylet_is_broken(state: str) -> None:
    raylet = part("raylet", "worker-1", state=state)
    topology = Topology(0.0, (HEAD, ONE, TWO, FIRST, SECOND, raylet), (), {}, {}, {})
    broken = set() if state else {raylet.identity}
    assert healthy(topology, Report(), broken) == Healthy(frozenset({"head", "worker-2"}), {APP: (SECOND,)})


def test_while_serve_says_nothing_what_it_said_last_counts() -> None:
    rows = (ReplicaRow("r1", "app", "App", "RUNNING", FIRST.actor_id, None, None),)
    said = ServeStatus({}, {APP: 2}, {}, {}, rows, {}, None)
    topology = Topology(0.0, (HEAD, ONE, TWO, FIRST, SECOND), (), {}, {}, {})
    assert healthy(topology, Report(last_serve=said)) == replace(WHOLE, replicas={APP: (FIRST,)})


def test_if_serve_never_said_anything_the_processes_count() -> None:
    topology = Topology(0.0, (HEAD, ONE, TWO, FIRST, SECOND), (), {}, {}, {})
    assert healthy(topology, Report()) == WHOLE


def proxies(said: dict[str, str], *components: Component) -> frozenset[str]:
    """The nodes with a proxy that takes requests, where Serve says that of proxies."""
    rows = tuple(
        ActorRow(c.actor_id or "", "ProxyActor", "", "ALIVE", f"id-of-{c.node}", c.pid or 0) for c in components
    )
    serve = ServeStatus({}, {}, {}, {}, (), said, None)
    topology = Topology(0.0, (HEAD, ONE, *components), (), {}, {}, {})
    return frozenset(one.node for one in healthy(topology, Report(serve=serve, actors=rows)).proxies)


def test_a_proxy_takes_requests_if_it_lives_and_serve_calls_it_healthy() -> None:
    on_head, on_one = part("proxy", "head"), part("proxy", "worker-1")
    assert proxies({"id-of-head": "HEALTHY", "id-of-worker-1": "HEALTHY"}, on_head, on_one) == {"head", "worker-1"}
    assert proxies({"id-of-head": "HEALTHY", "id-of-worker-1": "DRAINING"}, on_head, on_one) == {"head"}
    assert proxies({"id-of-head": "HEALTHY"}, on_head, on_one) == {"head"}
    assert proxies({}, on_head, on_one) == {"head", "worker-1"}
    assert proxies({"id-of-head": "HEALTHY"}, part("proxy", "head", state="frozen")) == frozenset()
    assert proxies({"id-of-head": "HEALTHY"}, part("proxy", "head", state=MANAGER_FROZEN)) == frozenset()
    assert proxies({"id-of-lost": "HEALTHY"}, part("proxy", "lost")) == frozenset()  # its node does not run


# -- the keyword -------------------------------------------------------------------------------------------------------


def test_the_markers_that_can_take_the_last_one_take_the_keyword() -> None:
    taking = {fault.name for fault in BUILT_IN if "allow_total_loss" in [one.name for one in fault.options]}
    assert taking == {
        "head_failure",
        "worker_failure",
        "node_failure",
        "replica_failure",
        "proxy_failure",
        "child_failure",
        "raylet_failure",
        "gcs_failure",
        "health_check_failure",
    }
    assert BUILT_IN.choose("replica_failure", {"allow_total_loss": True}).touch().allow_total_loss
    with pytest.raises(SettingsError, match="has no keyword 'allow_total_loss'"):
        BUILT_IN.choose("controller_failure", {"allow_total_loss": True})
