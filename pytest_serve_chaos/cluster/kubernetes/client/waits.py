"""Waiting for something on Kubernetes, and saying all along what is waited for, and why it takes so long."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.cluster.base import Progress
from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.errors import ObservationError
from pytest_serve_chaos.progress import now_and_then

T = TypeVar("T")

_SLOW = 60.0
"""Seconds after which a wait shows reasons (events, the operator's errors), too; half its time, if that is less."""
_PAUSE = 2.0
"""Seconds more between two looks from then on, for reasons are asked for each time."""


def wait_for(
    what: str,
    probe: Callable[[], T | NotYet],
    *,
    timeout: float,
    progress: Progress,
    why: Callable[[], Sequence[str]] = lambda: (),
    who: str = "kuberay",
) -> T:
    """Asks `probe` until it returns something else than `NotYet`; an `ObservationError` of it counts as `NotYet`.

    Args:
        what: The awaited state, as it reads after "waited for".
        probe: Returns the awaited value, or `NotYet` with what it saw instead.
        timeout: Seconds until `WaitTimeout`.
        progress: Prints at the end how long it took, and now and then what a long wait waits for.
        why: What may keep it from coming, one line each; called once the wait is a long one.
        who: How the lines for `progress` begin.

    Raises:
        WaitTimeout: The deadline passed; the message has the state last seen, and the reasons.
    """
    start = clock.now()
    asked = clock.patient(probe)

    def slow() -> bool:
        return clock.now() - start > min(_SLOW, timeout / 2)

    def look() -> T | NotYet:
        answer = asked()
        return NotYet(" | ".join([answer.seen, *why()])) if isinstance(answer, NotYet) and slow() else answer

    tell = now_and_then(progress, lambda seen: f"{who}: still waiting for {what}: {seen}")

    def on_wait(waited: float, seen: str) -> None:
        tell(waited, seen)
        if slow():
            time.sleep(_PAUSE)

    found = clock.wait_until(what, look, timeout=timeout, interval=0.5, on_wait=on_wait)
    progress(f"{who}: waited {clock.now() - start:.1f} s for {what}")
    return found


def newest_warnings(api: KubeApi, *namespaces: str) -> list[str]:
    """The newest events of type Warning in these namespaces, a line each; where they cannot be read, why."""
    try:
        return [line for namespace in namespaces for line in api.objects.warnings(namespace=namespace, limit=3)]
    except ObservationError as error:
        return [error.what]
