"""A pytest plugin that holds a run on a local cluster at a moment of its fault, for somebody who brings it to its end.

The directory that the environment names is for the two of them alone: a file there says that the moment has come, and
another one that the run may go on, if it can. The next run, which repairs, has a fake cluster: it starts no Ray.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from signal import SIGCONT
from typing import Literal, TypeAlias

import pytest

from pytest_serve_chaos.cluster.base import Cluster, ClusterSpec
from pytest_serve_chaos.cluster.local import processes
from pytest_serve_chaos.cluster.local.process_faults import ProcessSignals
from pytest_serve_chaos.model import Identity
from pytest_serve_chaos.testing import QUICK, FakeBehaviour, FakeCluster

Moment: TypeAlias = Literal["starting", "before", "during", "healing", "after"]
MOMENTS: tuple[Moment, ...] = ("starting", "before", "during", "healing", "after")

HELD = "WAYS_OF_ENDING_HELD"
"""The variable with the directory of what the two say to each other. All processes of a run carry it."""
MOMENT = "WAYS_OF_ENDING_MOMENT"
EXITS = "WAYS_OF_ENDING_EXITS"
"""The variable that is "yes" where the run calls `os._exit` at that moment."""
NEXT = "WAYS_OF_ENDING_NEXT"
"""The variable that is "yes" in the next run."""

_HEALS_IN = 0.5
"""Seconds that it takes to resume the controller: long enough to meet a second signal."""


def _file(name: str) -> Path:
    return Path(os.environ[HELD]) / name


def hold_at(moment: Moment) -> None:
    """Holds the run, or ends it, if it is that moment, for the first time."""
    if os.environ.get(MOMENT) != moment or _file("reached").exists():
        return
    _file("reached").touch()
    parent = os.getppid()
    while not _file("go").exists() and os.getppid() == parent:  # not without somebody who ends it
        time.sleep(0.02)
    if os.environ.get(EXITS) == "yes":
        os._exit(1)


def _signal_process(self: ProcessSignals, identity: Identity, signal: int, *, lasts: float | None = None) -> None:
    """Sends the signal to that very process; a process is resumed slowly, and when that happened is noted."""
    if signal == SIGCONT:
        hold_at("healing")
        time.sleep(_HEALS_IN)
    _SIGNAL_PROCESS(self, identity, signal, lasts=lasts)
    now = processes.read(int(identity.parts[1]))
    if signal == SIGCONT and now is not None and now.state != "T":
        _file("healed").touch()


_SIGNAL_PROCESS = ProcessSignals.signal_process


def pytest_configure() -> None:
    """Notices that a process is resumed."""
    ProcessSignals.signal_process = _signal_process  # type: ignore[method-assign]


def pytest_serve_chaos_start_cluster(spec: ClusterSpec) -> Cluster | None:
    """The hook: a fake cluster for the next run."""
    return FakeCluster(spec, FakeBehaviour(waits=QUICK)) if os.environ.get(NEXT) == "yes" else None


@pytest.fixture
def held() -> Callable[[Moment], None]:
    """The function `hold_at`, for a test."""
    return hold_at
