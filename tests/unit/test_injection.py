"""An injection heals what its fault broke: once where that works, again where it did not."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from types import SimpleNamespace

import pytest

from pytest_serve_chaos import progress
from pytest_serve_chaos.cluster.base import Cluster
from pytest_serve_chaos.errors import CommandFailed, ExpectationFailed, NotLanded
from pytest_serve_chaos.faults.fault import Strike
from pytest_serve_chaos.faults.injection import Injection
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.model import Component, Evidence, Identity, Topology
from pytest_serve_chaos.observe.observer import Report
from tests.unit.rigs import rig_around

DEAF = Component("proxy", "head", Identity("process", ("boot", "7", "1")), pid=7)


class Paused:
    """A fault whose healing fails as often as a test wants.

    Attributes:
        tries: How often it was to be healed.
        tried: Set with the first try.
    """

    kind = "node_failure"
    options: Mapping[str, str | float] = {"how": "freeze"}
    text = "everything on the machine under worker-1 is stopped"
    victims: tuple[Component, ...] = ()
    serves = False
    sick: tuple[Component, ...] = ()
    sign_within = 0.0

    def __init__(self, fails: int) -> None:
        self.fails = fails
        self.tries = 0
        self.tried = threading.Event()

    def strike(self) -> Strike:
        return Strike(0.0, ())

    def sign(self, struck: float) -> Evidence | None:
        return None

    def heal(self) -> None:
        self.tries += 1
        self.tried.set()
        if self.tries <= self.fails:
            raise CommandFailed("docker failed with exit status 1")


def rig(progress: Callable[[str], None] = lambda _: None, *, cluster: Cluster | None = None, **sees: object) -> Rig:
    """One on which Serve has said nothing yet, unless its watcher sees something else."""
    watcher = SimpleNamespace(**{"sample": lambda: Topology(0.0, ()), "report": Report(at=-1.0), **sees})
    return rig_around(cluster, watcher, progress=progress)


def unproved(fault: Paused, there: Rig | None = None, *, hold_for: float | None = None) -> Injection:
    """An injection that goes on though nothing shows that it landed."""
    return Injection(there or rig(), fault, hold_for=hold_for, must_land=False)


def healed(injection: Injection) -> int:
    return sum(event.kind == "healed" for event in injection.rig.history.events)


def test_what_could_not_be_healed_is_tried_again_and_then_left_alone() -> None:
    fault = Paused(fails=1)
    injection = unproved(fault)
    with pytest.raises(CommandFailed):
        injection.heal()
    assert healed(injection) == 0
    injection.close()
    injection.close()
    assert (fault.tries, healed(injection)) == (2, 1)


def test_what_a_timer_could_not_heal_is_on_record_and_close_tries_again() -> None:
    fault = Paused(fails=1)
    injection = unproved(fault, hold_for=0.0)
    timer = injection._healing.timer
    assert fault.tried.wait(5.0)
    assert timer is not None
    timer.join(5.0)
    assert [e.text for e in injection.rig.history.events if e.kind == "note"][1:] == [
        "not healed yet: docker failed with exit status 1"
    ]
    injection.close()
    assert (fault.tries, healed(injection)) == (2, 1)


def test_two_threads_heal_once() -> None:
    fault = Paused(fails=0)
    injection = unproved(fault)
    threads = [threading.Thread(target=injection.close) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (fault.tries, healed(injection)) == (1, 1)


def test_somebody_who_waits_is_told_what_is_still_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "REPORT_EVERY", 0.0)
    said: list[str] = []
    injection = unproved(Paused(fails=0), rig(said.append))
    injection.landed_at = 0.0

    with pytest.raises(ExpectationFailed):
        injection.wait_redundancy_back(0.05)

    state, _, seen = said[-1].partition(" s after the fault: ")
    assert state.startswith("redundancy is not back ")
    assert seen == "Ray and Serve have said nothing since the fault"


def test_a_report_that_is_older_than_the_newest_component_does_not_make_redundancy() -> None:
    there = rig(report=Report(at=1.0), newest=2.0, newcomer="replica app#Pid on worker-1 (PID 7)")
    injection = unproved(Paused(fails=0), there)
    assert injection.missing() == ["Ray and Serve have said nothing since replica app#Pid on worker-1 (PID 7) came"]


def test_a_fault_that_did_not_land_is_an_error_and_is_healed_all_the_same() -> None:
    there, fault = rig(), Paused(fails=0)
    with pytest.raises(NotLanded, match="the fault did not land, so this test shows nothing") as error:
        Injection(there, fault)
    assert "must_land=False" in str(error.value)
    assert error.value.checked == ("no sign of it at all",)
    (injection,) = there.injections.open
    injection.close()
    assert fault.tries == 1


QUESTIONS: dict[str, Callable[[Injection], object]] = {
    "traffic": Injection.wait_traffic_back,
    "redundancy": Injection.wait_redundancy_back,
    "settled": Injection.wait_settled,
    "at rest": Injection.wait_at_rest,
    "still missing": lambda injection: injection.still_missing_after(0.1),
    "kept": lambda injection: injection.kept("replicas"),
    "replaced": lambda injection: injection.replaced("replicas"),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_nothing_is_said_about_a_fault_that_did_not_land(question: str) -> None:
    injection = unproved(Paused(fails=0))
    with pytest.raises(NotLanded, match="the fault did not land"):
        QUESTIONS[question](injection)


def test_a_timer_whose_heal_raises_anything_leaves_it_to_close() -> None:
    class Odd(Paused):
        def heal(self) -> None:
            self.tries += 1
            self.tried.set()
            if self.tries <= self.fails:
                raise ValueError("what a pod printed is no JSON")

    fault = Odd(fails=1)
    injection = unproved(fault, hold_for=0.0)
    assert fault.tried.wait(5.0)
    assert injection._healing.timer is not None
    injection._healing.timer.join(5.0)
    injection.close()
    notes = [e.text for e in injection.rig.history.events if e.kind == "note"]
    assert notes[-1] == "not healed yet: ValueError: what a pod printed is no JSON"
    assert (fault.tries, healed(injection)) == (2, 1)
