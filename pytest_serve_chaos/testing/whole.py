"""Waits until a cluster that was broken is whole again, frozen components included."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.errors import WaitTimeout
from pytest_serve_chaos.faults.rig import Rig


def still_wrong(rig: Rig, compare: Callable[[], Sequence[str]], *, within: float, interval: float) -> str:
    """What is still wrong with a cluster, in words; "" as soon as nothing is.

    Args:
        rig: The cluster under test, and what is recorded about it.
        compare: What `Health` has against it now.
        within: Seconds after which to give up.
        interval: Seconds between two looks.
    """

    def whole() -> bool | NotYet:
        frozen = [f"{one.name} is frozen" for one in rig.watcher.sample().components if one.state == "frozen"]
        wrong = [*compare(), *frozen]
        return NotYet("; ".join(wrong)) if wrong else True

    try:
        clock.wait_until("the cluster to be whole", whole, timeout=within, interval=interval)
    except WaitTimeout as error:
        return error.last_seen
    return ""
