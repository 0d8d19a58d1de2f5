"""How many requests each replica had at a moment, by the requests that were sent: nobody has to ask Serve.

Serve's own gauges are brought up to date every ten seconds only, and reading them costs the nodes that are watched.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate

from pytest_serve_chaos.model import Request


def queue_lengths(requests: Iterable[Request], moments: Sequence[float]) -> dict[str, list[tuple[float, int]]]:
    """Replica (Serve's id) -> the moments, and how many requests it had there: those that it had not answered yet.

    A request belongs to the replicas that its answer names, from when it was sent to when it was answered. What was
    never answered belongs to nobody.

    Args:
        requests: Those of all traffic of the experiment.
        moments: In order.
    """
    changes: dict[str, list[int]] = {}
    for request in requests:
        if request.sent is None:
            continue
        first, last = bisect_left(moments, request.sent), bisect_left(moments, request.finished)
        for replica in request.replicas:
            of_it = changes.setdefault(replica, [0] * (len(moments) + 1))
            of_it[first] += 1
            of_it[last] -= 1
    return {replica: list(zip(moments, accumulate(of_it), strict=False)) for replica, of_it in changes.items()}
