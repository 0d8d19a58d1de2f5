"""A pytest plugin with a backend whose nodes stay frozen whatever becomes of pytest, as those of a real cluster do.

A run is brought to its end at a moment that the environment names: before the fault, with the fault, while it is
healed, or afterwards.
"""

from __future__ import annotations

import json
import os
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeAlias

import pytest

from pytest_serve_chaos import scratch
from pytest_serve_chaos.backends import Backend
from pytest_serve_chaos.backends.base import Leftover
from pytest_serve_chaos.cluster.base import ClusterSpec, Progress
from pytest_serve_chaos.cluster.capabilities import FREEZES_NODES, Offer
from pytest_serve_chaos.model import Evidence
from pytest_serve_chaos.options import options
from pytest_serve_chaos.safety.journal import Journal
from pytest_serve_chaos.settings import Settings
from pytest_serve_chaos.testing import QUICK, FakeBehaviour, FakeCluster
from pytest_serve_chaos.testing.capabilities import FakeNodes

Moment: TypeAlias = Literal["before", "during", "healing", "after"]
MOMENTS: tuple[Moment, ...] = ("before", "during", "healing", "after")

DIRECTORY = "OUTSIDE"
"""The variable with the directory of all that there is outside of pytest."""
MOMENT = "OUTSIDE_MOMENT"
HOW = "OUTSIDE_HOW"
"""The variables that say when and how a run ends itself; how: "" where it is somebody else who ends it."""

_HEALS_IN = 0.5
"""Seconds that it takes to heal a node: long enough to meet a second signal."""
_AWAITS_ITS_END = 60.0


def _directory() -> Path:
    return Path(os.environ[DIRECTORY])


def at(moment: Moment) -> None:
    """Ends the run, or waits for its end, if it is that moment, for the first time."""
    reached = _directory() / "reached"
    if os.environ.get(MOMENT) != moment or reached.exists():
        return
    reached.touch()
    how = os.environ.get(HOW, "")
    if not how:
        time.sleep(_AWAITS_ITS_END)
    else:
        _WAYS[how]()


def _exit() -> None:
    os._exit(1)


def _fill_the_disk() -> None:
    """From now on no file of this process takes another byte."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))


def _make_read_only() -> None:
    """From now on nothing is created or removed in the directories of the report and of the journal."""
    for directory in writable_directories(_directory()):
        directory.chmod(0o500)
    try:
        (_directory() / "report" / "still-writable").touch()
    except OSError:
        return


def writable_directories(directory: Path) -> list[Path]:
    """Where a run writes its report and its journal."""
    return [path for base in ("report", "state") for path in (directory / base).rglob("**") if path.is_dir()]


def _fail() -> None:
    """What pytest-timeout does in the handler of its alarm."""
    pytest.fail("Timeout >1.0s")


def _answer_nonsense() -> None:
    json.loads("<html>502 Bad Gateway</html>")


_WAYS = {
    "os._exit": _exit,
    "a full disk": _fill_the_disk,
    "a read-only disk": _make_read_only,
    "pytest-timeout": _fail,
    "a broken answer": _answer_nonsense,
}


class _OutsideNodes:
    """Freezes nodes: each is a file until it is resumed, and an entry of the journal is written before."""

    def __init__(self, nodes: FakeNodes, journal: Journal) -> None:
        self._nodes = nodes
        self._journal = journal
        self._entries: dict[str, Path] = {}

    def freeze_node(self, name: str, *, lasts: float | None = None) -> Sequence[Evidence]:
        """Freezes a node."""
        at("before")
        self._entries[name] = self._journal.write("thaw", f"the node {name} is frozen", node=name)
        (_directory() / "frozen" / name).touch()
        return self._nodes.freeze_node(name, lasts=lasts)

    def thaw_node(self, name: str) -> None:
        """Resumes a node."""
        at("healing")
        time.sleep(_HEALS_IN)
        (_directory() / "frozen" / name).unlink(missing_ok=True)
        self._nodes.thaw_node(name)
        entry = self._entries.get(name)
        if entry is not None:
            self._journal.done(entry)
            del self._entries[name]


class _Outside(FakeCluster):
    """A cluster that is there with or without pytest."""

    def __init__(self, spec: ClusterSpec, journal: Journal) -> None:
        self._journal = journal
        super().__init__(spec, FakeBehaviour(waits=replace(QUICK, signs_within=0.3)))
        self._nodes = _OutsideNodes(FakeNodes(self.world), journal)

    def offers(self) -> tuple[Offer, ...]:
        """Those of every fake cluster; nodes are frozen for real."""
        return (*super().offers(), FREEZES_NODES.by(self._nodes))

    def close(self) -> None:
        """Disconnects."""
        super().close()
        (_directory() / "closed").touch()


def _start(spec: ClusterSpec, settings: Settings, directory: Path, progress: Progress) -> _Outside:
    (scratch.of_this_process() / "key.pem").write_text("the key of the user")
    return _Outside(spec, settings.journal)


def _thaw(left: Leftover) -> None:
    (_directory() / "frozen" / left.arguments["node"]).unlink(missing_ok=True)


def pytest_serve_chaos_backends() -> list[Backend]:
    """The hook: adds the backend."""
    return [
        Backend(
            name="outside",
            description="nodes that are files",
            options=options("profile", "app", "workers", "gcs"),
            start=_start,
            lock=lambda _: "outside/cluster",
            undo={"thaw": _thaw},
        )
    ]


@pytest.fixture
def moment() -> Callable[[Moment], None]:
    """The function `at`, for a test."""
    return at
