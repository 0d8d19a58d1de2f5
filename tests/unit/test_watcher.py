"""What came and what went, as it is written down."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

from pytest_serve_chaos.history import History, topology_from_json, topology_to_json
from pytest_serve_chaos.model import Component, Event, Identity, Json, Topology
from pytest_serve_chaos.observe.observer import Observer
from pytest_serve_chaos.observe.shape import shape_of
from pytest_serve_chaos.observe.watcher import Watcher


def worker(uid: str, machine: str | None, pid: int | None = None) -> Component:
    return Component("worker", "worker-1", Identity("container", (uid, "c", "0")), pid, machine=machine)


def changes(before: Component, after: Component) -> list[Event]:
    """What is written when one sample has the first, and the next one the second."""
    samples = iter([Topology(0.0, (before,)), Topology(1.0, (after,))])
    watcher = Watcher(cast("Observer", SimpleNamespace(look=lambda: next(samples))), history := History())
    watcher.sample()
    return list(history.events)


def test_a_worker_that_is_replaced_is_said_to_be_on_another_machine() -> None:
    went, came = changes(worker("a", "kind-worker"), worker("b", "kind-worker3"))
    assert (went.text, went.data["machine"]) == ("worker-1 is gone (on kind-worker)", "kind-worker")
    assert (came.text, came.data["machine"]) == ("worker-1 is there (on kind-worker3)", "kind-worker3")


def test_a_process_has_its_pid_and_no_machine() -> None:
    _, came = changes(worker("a", None, 113), worker("b", None, 114))
    assert (came.text, came.data["machine"]) == ("worker-1 is there (PID 114)", None)


def test_what_has_no_machine_of_its_own_says_nothing_of_one() -> None:
    replica = Component("replica", "worker-1", Identity("process", ("boot", "7", "1")), 7, deployment="app#Pid")
    _, came = changes(worker("a", "kind-worker"), replica)
    assert "machine" not in came.data


def test_a_machine_is_neither_identity_nor_shape() -> None:
    here, there = worker("a", "kind-worker"), worker("a", "kind-worker3")
    assert changes(here, there) == []
    assert shape_of(Topology(0.0, (here,))) == shape_of(Topology(0.0, (there,)))


def test_a_topology_from_before_there_were_machines_can_be_read() -> None:
    written = topology_to_json(Topology(0.0, (worker("a", "kind-worker"),)))
    (component,) = cast("list[dict[str, Json]]", written["components"])
    assert topology_from_json(0.0, written).components == (worker("a", "kind-worker"),)
    del component["machine"]
    assert topology_from_json(0.0, written).components == (worker("a", None),)
