"""Where the messages of traffic come from: which one is sent is decided by the number of the request and the seed."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Protocol

from pytest_serve_chaos.traffic.request import Message, RequestSpec
from pytest_serve_chaos.traffic.request_kind import Maker, RequestKind

LANE = 1_000_000_000
"""The requests of the k-th persistent connection are numbered from k + 1 times this on: no two have the same number."""

_BITS = 64
_WHOLE = 1 << _BITS
_GOLDEN = 0x9E3779B97F4A7C15
"""The golden ratio, in parts of `_WHOLE`: its multiples are spread as evenly as those of any number."""


class Messages(Protocol):
    """Says what each request sends."""

    def message(self, number: int) -> Message:
        """What the request of that number sends; always the same for the same number."""
        ...


class Always:
    """Sends what a spec says."""

    def __init__(self, spec: RequestSpec) -> None:
        self._message = spec.message

    def message(self, number: int) -> Message:
        """Always the same."""
        del number
        return self._message


class RequestSource:
    """Chooses among kinds of requests: by weight, or in order where none has a weight.

    By weight, the seed decides who comes when. The shares of the kinds are as even as they can be over any stretch of
    the traffic, and no kind keeps in step with proxies or replicas that take turns.

    Args:
        kinds: At least one. Each has the path to which it is sent, and its app.
        seed: Of the run.
        in_order: Whether they are sent in order. None: if no kind has a weight.

    Attributes:
        kinds: The kinds.
        apps: The names of their apps.
        names: Their names, without those that have none.
    """

    def __init__(self, kinds: Sequence[RequestKind], *, seed: int, in_order: bool | None = None) -> None:
        self.kinds = tuple(kinds)
        self.apps = tuple(dict.fromkeys(kind.app for kind in kinds if kind.app))
        self.names = tuple(dict.fromkeys(kind.name for kind in kinds if kind.name))
        self._seed = seed
        self._in_order = all(kind.weight is None for kind in kinds) if in_order is None else in_order
        several = len(self.apps) > 1
        self._makers = [Maker(kind, seed=seed, app=(kind.app or "") if several else "") for kind in kinds]
        self._weights = [1.0 if self._in_order or kind.weight is None else float(kind.weight) for kind in kinds]
        total = sum(self._weights)
        self._bounds = [int(_WHOLE * end / total) for end in accumulate(self._weights)][:-1]
        self._offset = _mixed(seed)

    def message(self, number: int) -> Message:
        """What the request of that number sends."""
        makers = self._makers
        if len(makers) == 1:
            return makers[0].message(number)
        if self._in_order:
            return makers[number % len(makers)].message(number)
        place = (self._offset + number * _GOLDEN) & (_WHOLE - 1)
        return makers[bisect_right(self._bounds, place)].message(number)

    def share_of(self, app: str) -> float:
        """The share of the requests that ask that app."""
        found = sum(w for w, kind in zip(self._weights, self.kinds, strict=True) if kind.app == app)
        return found / sum(self._weights)

    @property
    def least_share(self) -> float:
        """The share of the app that gets the fewest requests."""
        return min((self.share_of(app) for app in self.apps), default=1.0)

    @property
    def one_of_each_app(self) -> tuple[Message, ...]:
        """A message to each app: its kind with the largest weight."""
        best: dict[str, int] = {}
        for number, kind in enumerate(self.kinds):
            app = kind.app or ""
            if app not in best or self._weights[number] > self._weights[best[app]]:
                best[app] = number
        return tuple(self._makers[number].message(0) for number in best.values())

    def moved(self, path_of: Callable[[str], str]) -> RequestSource:
        """The same requests with other paths."""
        kinds = [replace(kind, path=path_of(kind.path or "/")) for kind in self.kinds]
        return RequestSource(kinds, seed=self._seed, in_order=self._in_order)


def _mixed(seed: int) -> int:
    """A number that looks nothing like that of the next seed: the last steps of SplitMix64."""
    mixed = (seed + 1) * _GOLDEN & (_WHOLE - 1)
    mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9 & (_WHOLE - 1)
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB & (_WHOLE - 1)
    return mixed ^ (mixed >> 31)
