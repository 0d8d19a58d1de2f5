"""The end of a run is a number of steps, and none of them costs another."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from pytest_serve_chaos.backends.registry import Backends
from pytest_serve_chaos.errors import ClusterError, SettingsError
from pytest_serve_chaos.faults.catalogue import BUILT_IN
from pytest_serve_chaos.run import Run
from pytest_serve_chaos.safety.journal import Journal
from pytest_serve_chaos.session.lifetime import RunLifetime
from pytest_serve_chaos.settings import Settings
from pytest_serve_chaos.termination import EndingSignals


class Lock:
    """The lock on a cluster."""

    def __init__(self) -> None:
        self.held = 0

    @contextlib.contextmanager
    def __call__(self, settings: Settings) -> Iterator[None]:
        self.held += 1
        try:
            yield
        finally:
            self.held -= 1


def raising(error: BaseException) -> Callable[..., None]:
    def end(*_: object) -> None:
        raise error

    return end


def lifetime(directory: Path, lock: Lock, *, end: Callable[..., None] = lambda *_: None) -> RunLifetime:
    backend = SimpleNamespace(locked=lock, end=end, undo={})
    settings = SimpleNamespace(
        backend="there", report_dir=directory, allow_context=None, seed=1, dry_run=False, journal=Journal(directory)
    )
    config = SimpleNamespace(rootpath=directory.parent)
    found = cast("Backends", _Backends(backend))
    return RunLifetime(
        cast("pytest.Config", config), cast("Settings", settings), found, BUILT_IN, lambda _: None, EndingSignals()
    )


class _Backends:
    """One backend, which has nothing to undo."""

    def __init__(self, backend: object) -> None:
        self._backend = backend

    def undo(self, *_: object, **__: object) -> tuple[str, ...]:
        return ()

    def __getitem__(self, name: str) -> object:
        return self._backend


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), SystemExit(1), OSError(28, "No space left"), ClusterError("no")]
)
def test_whatever_one_step_raises_the_others_are_taken(tmp_path: Path, error: BaseException) -> None:
    lock, ended = Lock(), list[str]()
    there = lifetime(tmp_path / "reports", lock, end=lambda *_: ended.append("machines"))
    run = cast("SimpleNamespace", there.run)
    assert lock.held == 1
    run.history.close()
    run.close = raising(error)
    run.not_healed = ["worker-1 is frozen"]
    there._started = True
    with there.signals.ending():
        there.end()
        there.end()
    assert ended == ["machines"]
    assert lock.held == 0
    first, second = there.problems
    assert first.startswith("the cluster could not be ended: ")
    assert second.startswith("not healed: worker-1 is frozen")


def test_a_run_that_could_not_begin_holds_no_lock(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    lock = Lock()
    there = lifetime(tmp_path / "file" / "inside", lock)
    for _ in range(2):  # not "another run is using the cluster": that would be this one
        with pytest.raises(SettingsError, match="cannot write its report"):
            _ = there.run
        assert lock.held == 0


def test_what_heals_at_once_is_healed_before_anything_else_ends(tmp_path: Path) -> None:
    there = lifetime(tmp_path / "reports", Lock())
    order: list[str] = []
    run: Run = there.run
    run.history.close()
    injections = SimpleNamespace(heal_at_once=lambda progress: order.append("healed at once"))
    run._rig = cast("None", SimpleNamespace(injections=injections))
    cast("SimpleNamespace", run).close = lambda: order.append("closed")
    with there.signals.ending():
        there.end()
    assert order == ["healed at once", "closed"]
