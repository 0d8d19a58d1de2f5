"""Where the messages of traffic come from: which one is sent is decided by the number of the request and the seed."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Protocol

from pytest_serve_chaos.traffic.request import Message, RequestSpec
from pytest_serve_chaos.traffic.request_kind import Maker, RequestKind

LANE = 1_000_000_000
"""The requests of the k-th persistent connection are numbered from k + 1 times this on: no two have the same number."""

_TOO_LONG = 2
"""An app has to wait too long for its next request if that takes so many times as long as on average."""

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

    In order, apps take turns where one would get nothing for a while, so that each is asked all the time. The requests
    to one app stay in their order.

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
        self._order = in_turns([kind.app or "" for kind in kinds]) if self._in_order else _neighbours(kinds)
        self._place = {number: place for place, number in enumerate(self._order)}
        self._of_apps, self._of_names = (_numbers(getattr(kind, what) for kind in kinds) for what in ("app", "name"))
        self._makers = [Maker(kind, seed=seed, app=(kind.app or "") if several else "") for kind in kinds]
        self._weights = [1.0 if self._in_order or kind.weight is None else float(kind.weight) for kind in kinds]
        self._total = sum(self._weights)
        ends = accumulate(self._weights[number] for number in self._order)
        self._bounds = [int(_WHOLE * end / self._total) for end in ends][:-1]
        self._offset = _mixed(seed)

    def message(self, number: int) -> Message:
        """What the request of that number sends."""
        makers = self._makers
        if len(makers) == 1:
            return makers[0].message(number)
        if self._in_order:
            return makers[self._order[number % len(makers)]].message(number)
        place = (self._offset + number * _GOLDEN) & (_WHOLE - 1)
        return makers[self._order[bisect_right(self._bounds, place)]].message(number)

    def share_of(self, app: str = "", *, name: str = "") -> float:
        """The share of the requests that ask that app, or that have that name."""
        return sum(self._weights[number] for number in self._of(app, name)) / self._total

    def longest_gap(self, app: str = "", *, name: str = "") -> float:
        """How many requests it takes at most from one to that app, or of that name, to the next.

        By weight no two are ever twice as far apart as on average, so that counts.
        """
        mean = 1 / self.share_of(app, name=name)
        if not self._in_order or len(self.kinds) == 1:
            return mean
        gap = _longest_gap(sorted(self._place[number] for number in self._of(app, name)), len(self._order))
        return gap if gap >= _TOO_LONG * mean else mean

    @property
    def least_share(self) -> float:
        """The share of the app that gets the fewest requests."""
        return min((self.share_of(app) for app in self.apps), default=1.0)

    def _of(self, app: str, name: str) -> Sequence[int]:
        """The numbers of the kinds that ask that app, or have that name."""
        return self._of_names.get(name, ()) if name else self._of_apps.get(app, ())

    @property
    def one_of_each_app(self) -> tuple[Message, ...]:
        """A message to each app: its kind with the largest weight."""
        best: dict[str, int] = {}
        for number, kind in enumerate(self.kinds):
            app = kind.app or ""
            if app not in best or self._weights[number] > self._weights[best[app]]:
                best[app] = number
        return tuple(self._makers[number].message(0) for number in best.values())

    @property
    def one_of_each_kind(self) -> tuple[Message, ...]:
        """A message of each kind."""
        return tuple(maker.message(0) for maker in self._makers)

    def moved(self, path_of: Callable[[str], str]) -> RequestSource:
        """The same requests with other paths."""
        kinds = [replace(kind, path=path_of(kind.path or "/")) for kind in self.kinds]
        return RequestSource(kinds, seed=self._seed, in_order=self._in_order)


def in_turns(apps: Sequence[str]) -> tuple[int, ...]:
    """The numbers of the kinds that ask these apps, in the order in which they are sent.

    That is their own order. Where one app would have to wait too long in it, each app gets its share over any stretch,
    to within a request, and only the requests to one app stay in their order. Each request is sent in a span of time
    that its number among those of its app determines, and of those whose span has begun the one whose span ends first.
    """
    total, own = len(apps), _numbers(apps)
    if all(_longest_gap(numbers, total) * len(numbers) < _TOO_LONG * total for numbers in own.values()):
        return tuple(range(total))
    order: list[int] = []
    sent = Counter[str]()

    def ends(app: str) -> int:
        """The place before which the next one of that app must be sent."""
        return -(-(sent[app] + 1) * total // len(own[app]))

    for place in range(total):
        begun = (app for app, numbers in own.items() if sent[app] * total < (place + 1) * len(numbers))
        app = min((app for app in begun if sent[app] < len(own[app])), key=ends)
        order.append(own[app][sent[app]])
        sent[app] += 1
    return tuple(order)


def _neighbours(kinds: Sequence[RequestKind]) -> tuple[int, ...]:
    """The numbers of the kinds, in which those of one app, and in it those of one name, are neighbours.

    What is chosen by multiples of the golden ratio is chosen evenly if it is one stretch of the circle. Two apps that
    alternate on it get their requests in blocks.
    """
    apps, names = (list(dict.fromkeys(getattr(kind, what) for kind in kinds)) for what in ("app", "name"))
    place = {app: number for number, app in enumerate(apps)}, {name: number for number, name in enumerate(names)}
    return tuple(sorted(range(len(kinds)), key=lambda n: (place[0][kinds[n].app], place[1][kinds[n].name])))


def _numbers(values: Iterable[str | None]) -> Mapping[str, list[int]]:
    """Each value -> the numbers of the kinds that have it."""
    found = defaultdict[str, list[int]](list)
    for number, value in enumerate(values):
        found[value or ""].append(number)
    return dict(found)


def _longest_gap(places: Sequence[int], total: int) -> int:
    """The longest way from one of these places to the next, in a circle of so many."""
    following = [*places[1:], places[0] + total]
    return max(later - earlier for earlier, later in zip(places, following, strict=True))


def _mixed(seed: int) -> int:
    """A number that looks nothing like that of the next seed: the last steps of SplitMix64."""
    mixed = (seed + 1) * _GOLDEN & (_WHOLE - 1)
    mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9 & (_WHOLE - 1)
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB & (_WHOLE - 1)
    return mixed ^ (mixed >> 31)
