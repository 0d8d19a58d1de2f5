"""Everything that was broken is healed, whatever one heal raises, and what was not healed is not forgotten."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from pytest_serve_chaos.cluster import commands
from pytest_serve_chaos.cluster.base import Cluster
from pytest_serve_chaos.cluster.capabilities import IS_EXTERNAL, IsExternal
from pytest_serve_chaos.errors import CommandFailed, NotHealed, ServeChaosError
from pytest_serve_chaos.events import FaultHealed, Note
from pytest_serve_chaos.faults.custom import About, CustomBroken, Functions
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.history import History
from pytest_serve_chaos.model import Component
from pytest_serve_chaos.restore import restore
from pytest_serve_chaos.run import Run
from tests.unit.rigs import cluster_with, rig_around


class Broken:
    """Something that is broken; the first tries to heal it raise."""

    def __init__(
        self,
        *errors: BaseException,
        outlives_the_cluster: bool = False,
        heals_at_once: bool = False,
        needs: Broken | None = None,
        order: list[Broken] | None = None,
    ) -> None:
        self.errors = [*errors]
        self.healed = False
        self.victims: tuple[Component, ...] = ()
        self.outlives_the_cluster = outlives_the_cluster
        self.heals_at_once = heals_at_once
        self._needs = needs
        self._order = [] if order is None else order

    def close(self) -> None:
        self._order.append(self)
        if self._needs is not None and not self._needs.healed:
            raise CommandFailed("it needs another one")
        if self.errors:
            raise self.errors.pop(0)
        self.healed = True


def rig(*broken: Broken, cluster: Cluster | None = None, told: list[str] | None = None) -> Rig:
    there = rig_around(
        cluster or cluster_with(close=lambda: None),
        SimpleNamespace(stop=lambda: None),
        progress=([] if told is None else told).append,
    )
    for one in broken:
        there.injections.add(one)
    return there


ERRORS = [
    CommandFailed("docker failed"),
    OSError(28, "No space left on device"),
    json.JSONDecodeError("Expecting value", "", 0),
    RuntimeError("a bug"),
    KeyboardInterrupt(),
    SystemExit(1),
    pytest.fail.Exception("a timeout"),  # what pytest-timeout raises is no Exception
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_whatever_one_heal_raises_the_others_are_healed_and_it_is_not_forgotten(error: BaseException) -> None:
    first, second, third = Broken(), Broken(error), Broken()
    told: list[str] = []
    there = rig(first, second, third, told=told)
    with pytest.raises(type(error) if not isinstance(error, Exception) else ServeChaosError):
        there.heal_all()
    assert (first.healed, second.healed, third.healed) == (True, False, True)
    assert there.injections.open == [second]
    assert len(told) == 1
    there.heal_all()
    assert second.healed
    assert there.injections.open == []


def test_all_that_could_not_be_healed_is_named() -> None:
    with pytest.raises(NotHealed, match="2 faults could not be healed") as raised:
        rig(Broken(OSError(28, "No space left")), Broken(), Broken(CommandFailed("docker failed"))).heal_all()
    assert raised.value.checked == ("docker failed", "OSError: [Errno 28] No space left")
    assert all(text in raised.value.what for text in raised.value.checked)  # which is all that the run's end shows


def test_what_heals_at_once_is_healed_before_what_takes_minutes() -> None:
    order: list[Broken] = []
    frozen, proxies, cordoned = (Broken(order=order, heals_at_once=at_once) for at_once in (True, False, True))
    rig(frozen, proxies, cordoned).heal_all()
    assert order == [cordoned, frozen, proxies]


def test_what_cannot_heal_at_once_because_of_the_rest_is_healed_after_it() -> None:
    machine = Broken()
    frozen = Broken(heals_at_once=True, needs=machine)
    there = rig(frozen, machine)
    there.heal_all()
    assert (frozen.healed, machine.healed, there.injections.open) == (True, True, [])


def test_a_ctrl_c_in_what_heals_at_once_is_not_lost_when_the_next_try_heals_it() -> None:
    frozen, proxies = Broken(KeyboardInterrupt(), heals_at_once=True), Broken()
    there = rig(proxies, frozen)
    with pytest.raises(KeyboardInterrupt):
        there.heal_all()
    assert (frozen.healed, proxies.healed) == (True, True)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_interrupted_run_first_heals_what_heals_at_once_and_only_that(error: BaseException) -> None:
    first, failing, slow, last = Broken(heals_at_once=True), Broken(error, heals_at_once=True), Broken(), Broken()
    last.heals_at_once = True
    there = rig(first, failing, slow, last)
    there.injections.heal_at_once(there.progress)
    assert [one.healed for one in (first, failing, slow, last)] == [True, False, False, True]
    assert there.injections.open == [failing, slow]


def test_an_interrupt_counts_more_than_an_error() -> None:
    with pytest.raises(KeyboardInterrupt):
        rig(Broken(KeyboardInterrupt()), Broken(CommandFailed("docker failed"))).heal_all()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("a bug")], ids=lambda error: type(error).__name__)
def test_a_cluster_that_was_not_restored_is_not_used_again(
    error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    def heal_all(_: object) -> None:
        raise error

    there = rig()
    monkeypatch.setattr(there.injections, "heal_all", heal_all)
    with pytest.raises(type(error)):
        restore(there)
    assert "it could not be restored" in there.soundness.tainted


@pytest.mark.parametrize("error", [e for e in ERRORS if not isinstance(e, Exception)], ids=lambda e: type(e).__name__)
def test_what_an_interrupt_met_at_the_end_of_the_run_is_healed_all_the_same(
    tmp_path: Path, error: BaseException
) -> None:
    broken = Broken(error)
    run = Run(tmp_path, lambda *_: cast("Cluster", None), seed=1, progress=lambda _: None)
    run._rig = rig(broken)
    with pytest.raises(type(error)):
        run.close()
    assert broken.healed
    assert run.not_healed == []


def test_a_second_interrupt_at_the_end_is_no_secret_where_something_stays_broken(tmp_path: Path) -> None:
    broken = Broken(KeyboardInterrupt(), KeyboardInterrupt(), outlives_the_cluster=True)
    run = Run(tmp_path, lambda *_: cast("Cluster", None), seed=1, progress=lambda _: None)
    run._rig = rig(broken)
    with pytest.raises(KeyboardInterrupt):
        run.close()
    assert run.not_healed == ["it was interrupted"]


@pytest.mark.parametrize(("external", "outlives"), [(True, False), (False, False), (False, True)])
def test_what_cannot_be_healed_at_the_end_is_reported_where_it_stays_broken(
    tmp_path: Path, external: bool, outlives: bool
) -> None:
    broken = Broken(CommandFailed("no"), CommandFailed("still not"), outlives_the_cluster=outlives)
    run = Run(tmp_path, lambda *_: cast("Cluster", None), seed=1, progress=lambda _: None)
    closed: list[bool] = []
    offers = [IS_EXTERNAL.by(cast("IsExternal", object()))] if external else []
    run._rig = there = rig(broken, cluster=cluster_with(*offers, close=lambda: closed.append(True)))
    with pytest.raises(CommandFailed):
        there.heal_all()
    run.close()
    assert run.not_healed == (["still not"] if external or outlives else [])
    assert closed == [True]
    assert there.soundness.tainted == "still not"


def test_a_full_disk_is_remembered_and_keeps_nobody_from_healing() -> None:
    history = History(Path("/dev/full"))
    history.add(Note("the first that is written"))
    history.add(FaultHealed("it goes on in memory"))
    history.close()
    assert [e.kind for e in history.events] == ["note", "healed"]
    assert history.unwritten.startswith("/dev/full: ")


def test_a_program_that_did_its_work_has_not_failed_because_its_log_is_on_a_full_disk() -> None:
    assert commands.run(["echo", "uncordoned"], log=Path("/dev/full"), timeout=5.0) == "uncordoned\n"


def test_what_a_test_healed_is_not_healed_again_because_its_entry_could_not_be_removed() -> None:
    healed: list[str] = []

    def read_only() -> None:
        raise OSError(30, "Read-only file system")

    functions = Functions(inject=lambda: None, heal=lambda: healed.append("once"), evidence=lambda: True)
    fault = CustomBroken(rig(), functions, About("broken", "it is broken"), None, 1.0, _forget=read_only)
    with pytest.raises(OSError, match="Read-only"):
        fault.heal()
    fault.heal()
    assert healed == ["once"]
