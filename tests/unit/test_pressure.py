"""What the processors of this machine do, by what the kernel counts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from pytest_serve_chaos.events import MachineSeen, of_kind
from pytest_serve_chaos.history import History
from pytest_serve_chaos.observe.pressure import Kernel, Key, Look, MachineWatch, ProcessTimes, compare

TICK = os.sysconf("SC_CLK_TCK")


def look(at: float, used: float, ours: Mapping[Key, ProcessTimes], *, waiting: float | None = 0.0) -> Look:
    return Look(at, used, 0.0, waiting, ours)


def seen(before: Look, after: Look) -> MachineSeen:
    return compare(before, after, processors=2, has_cluster=True)


def test_what_is_not_ours_is_others() -> None:
    pytest_then, pytest_now = ProcessTimes(1, 10.0, 2.0, 1.0), ProcessTimes(1, 10.4, 2.0, 1.3)
    found = seen(look(100, 50.0, {(7, 1): pytest_then}), look(101, 51.9, {(7, 1): pytest_now}, waiting=0.8))
    assert (found.ours, found.others, found.waiting, found.delayed) == (0.4, 1.5, 0.8, 0.3)


def test_a_child_that_has_ended_is_counted_once_as_ours() -> None:
    """It used 3.0 s before the first look and 0.5 s more; its parent, which waited for it, has all of that now."""
    before = {(7, 1): ProcessTimes(1, 10.0, 2.0), (8, 5): ProcessTimes(7, 3.0, 0.0)}
    after = {(7, 1): ProcessTimes(1, 10.0, 5.5)}
    assert seen(look(100, 50.0, before), look(101, 50.6, after)).ours == 0.5


def test_a_child_that_came_and_went_between_two_looks_is_ours() -> None:
    before, after = {(7, 1): ProcessTimes(1, 10.0, 2.0)}, {(7, 1): ProcessTimes(1, 10.0, 2.7)}
    assert seen(look(100, 50.0, before), look(101, 51.0, after)).ours == 0.7


def test_a_container_that_is_killed_takes_nothing_from_what_the_others_of_ours_used() -> None:
    before = {(7, 1): ProcessTimes(1, 10.0, 2.0), (90, 3): ProcessTimes(89, 400.0, 100.0)}
    after = {(7, 1): ProcessTimes(1, 10.6, 2.0)}
    found = seen(look(100, 600.0, before), look(101, 600.6, after))
    assert (found.ours, found.others) == (0.6, 0.0)


def test_what_a_whole_node_used_before_it_was_killed_is_no_work_of_that_moment() -> None:
    """The node's first process, and one below it, are reaped by the supervisor, with all that they ever used."""
    before = {
        (7, 1): ProcessTimes(1, 10.0, 2.0),
        (20, 3): ProcessTimes(7, 60.0, 5.0),
        (21, 4): ProcessTimes(20, 30.0, 0.0),
        (22, 4): ProcessTimes(21, 4.0, 0.0),
    }
    after = {(7, 1): ProcessTimes(1, 10.1, 101.3)}
    found = seen(look(100, 500.0, before), look(101, 501.5, after))
    assert (found.ours, found.others) == (0.4, 1.1)


def test_what_nobody_waited_for_is_not_taken_for_others_work() -> None:
    """A raylet's worker that dies: its last second is in nobody's times. What others reaped counts all the same."""
    before = {
        (7, 1): ProcessTimes(1, 1.0, 0.0),
        (8, 2): ProcessTimes(1, 1.0, 5.0),
        (20, 3): ProcessTimes(7, 9.0, 0.0),
        (21, 4): ProcessTimes(8, 2.0, 0.0),
    }
    after = {(7, 1): ProcessTimes(1, 1.0, 0.0), (8, 2): ProcessTimes(1, 1.0, 7.3)}
    found = seen(look(100, 50.0, before), look(101, 51.2, after))
    assert (found.ours, found.others) == (0.3, 0.0)


def test_a_process_that_is_new_is_ours_with_all_that_it_used() -> None:
    after = {(7, 1): ProcessTimes(1, 0.0, 0.0), (8, 9): ProcessTimes(7, 0.9, 0.0)}
    assert seen(look(100, 50.0, {(7, 1): ProcessTimes(1, 0.0, 0.0)}), look(101, 51.0, after)).ours == 0.9


def test_a_kernel_that_does_not_count_waiting_says_none() -> None:
    assert seen(look(100, 1.0, {}, waiting=None), look(101, 1.0, {}, waiting=None)).waiting is None


# -- reading /proc


def process(proc: Path, pid: int, parent: int, *, seconds: tuple[int, int, int, int], name: str = "a b) c") -> None:
    own, system, reaped, reaped_system = (n * TICK for n in seconds)
    fields = f"S {parent} 1 1 0 -1 0 0 0 0 0 {own} {system} {reaped} {reaped_system} 20 0 1 0 {pid * 10} 0"
    (proc / str(pid)).mkdir()
    (proc / str(pid) / "stat").write_text(f"{pid} ({name}) {fields}\n")
    (proc / str(pid) / "schedstat").write_text("1000000000 250000000 7\n")


def machine(proc: Path) -> Path:
    (proc / "stat").write_text(f"cpu  {5 * TICK} {TICK} {2 * TICK} {90 * TICK} 0 0 0 {3 * TICK} 0 0\ncpu0 0\n")
    (proc / "pressure").mkdir()
    (proc / "pressure/cpu").write_text("some avg10=70.19 avg60=80.80 avg300=80.43 total=3152614298\nfull total=0\n")
    process(proc, 1, 0, seconds=(9, 0, 0, 0))
    process(proc, 20, 1, seconds=(1, 2, 3, 4))
    process(proc, 21, 20, seconds=(1, 0, 0, 0))
    process(proc, 22, 21, seconds=(0, 1, 0, 0))
    process(proc, 30, 1, seconds=(5, 0, 0, 0))
    return proc


def test_all_below_the_roots_is_ours(tmp_path: Path) -> None:
    found = Kernel(machine(tmp_path)).look((20,))
    assert (found.used, found.stolen, found.waiting) == (8.0, 3.0, 3152.614298)
    assert found.ours == {
        (20, 200): ProcessTimes(1, 3.0, 7.0, 0.25),
        (21, 210): ProcessTimes(20, 1.0, 0.0, 0.25),
        (22, 220): ProcessTimes(21, 1.0, 0.0, 0.25),
    }


def test_the_processes_of_a_container_are_ours_by_its_first_one(tmp_path: Path) -> None:
    assert {pid for pid, _ in Kernel(machine(tmp_path)).look((21, 30)).ours} == {21, 22, 30}


def test_a_kernel_without_pressure_stall_information(tmp_path: Path) -> None:
    (machine(tmp_path) / "pressure/cpu").unlink()
    assert Kernel(tmp_path).look((20,)).waiting is None


def test_this_process_is_seen_on_the_real_machine() -> None:
    assert os.getpid() in {pid for pid, _ in Kernel().look((os.getpid(),)).ours}


# -- the watch


def test_each_look_after_the_first_is_an_event() -> None:
    history = History()
    watch = MachineWatch(history, lambda: (1,))
    watch.look()
    watch.look()
    watch.look()
    events = of_kind(MachineSeen, history.events)
    assert [event.has_cluster for event in events] == [True, True]
    assert all(event.processors == os.cpu_count() for event in events)


@pytest.mark.parametrize("roots", [None, tuple], ids=["elsewhere", "unknown"])
def test_what_a_cluster_elsewhere_uses_is_not_known(roots: type[tuple[int, ...]] | None) -> None:
    history = History()
    watch = MachineWatch(history, roots)
    watch.look()
    watch.look()
    assert [event.has_cluster for event in of_kind(MachineSeen, history.events)] == [False]


def test_a_system_that_is_not_linux_says_nothing(tmp_path: Path) -> None:
    history = History()
    watch = MachineWatch(history, None, Kernel(tmp_path / "missing"))
    watch.start()
    watch.stop()
    assert not history.events
