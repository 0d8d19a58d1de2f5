"""How worlds are drawn: few numbers, and round ones, so that a world that was made small can be read."""

from __future__ import annotations

import math
from dataclasses import replace

from hypothesis import strategies as st

from tests.adversary.worlds import App, Demands, Effect, Fault, Kind, Persistent, Span, World

MOST_REQUESTS = 2500
"""In one world: more take longer, and show nothing that fewer do not."""

_RATES = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 400.0)
_TIMEOUTS = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0)
_NODES = ("head", "worker-1", "worker-2")
_KINDS: tuple[Kind, ...] = ("refuses", "swallows", "holds", "queues", "fails", "lies", "slow", "ramp")


def hundredths(least: float, most: float) -> st.SearchStrategy[float]:
    """Seconds with two digits."""
    return st.integers(round(100 * least), max(round(100 * least), round(100 * most))).map(lambda n: n / 100)


def tenths(least: float, most: float) -> st.SearchStrategy[float]:
    """Seconds with one digit."""
    return st.integers(round(10 * least), max(round(10 * least), round(10 * most))).map(lambda n: n / 10)


def _odd(latency: float, by: float = 0.0003) -> float:
    """A latency that is not the difference of any two moments, nor the limit: floats say nothing of ties."""
    return round(latency + by, 5)


@st.composite
def apps(draw: st.DrawFn, timeout: float) -> App:
    """Quick and slow ones, steady ones and such as vary, some with long answers, some that are cold at first."""
    slowest = 0.75 * timeout
    takes = draw(st.one_of(st.sampled_from([0.0103, 0.0021, 0.0507]), hundredths(0.1, slowest / 1.5).map(_odd)))
    jitter = draw(st.sampled_from([0.0, 0.0, 0.1, 0.5]))
    one_in = draw(st.sampled_from([0, 0, 0, 3, 10, 15, 50, 80, 150, 400]))
    long = draw(hundredths(takes * (1 + jitter), slowest).map(lambda s: _odd(s, 0.0007))) if one_in else 0.0
    cold = draw(st.sampled_from([0.0, 0.0, slowest]))
    return App(takes, jitter, long, one_in, cold)


@st.composite
def effects(draw: st.DrawFn, after: float, timeout: float) -> tuple[Effect, ...]:
    """Up to three, one after the other: at the fault, around it, later, and close together."""
    found: list[Effect] = []
    at = draw(st.sampled_from([0.0, 0.0, 0.0, -0.3, 0.02, 0.5, 3.0]))
    for _ in range(draw(st.integers(0, 3))):
        begins = round(at + (draw(st.one_of(hundredths(0.0, 3.0), tenths(0, after))) if found else 0.0), 2)
        lasts = draw(st.one_of(hundredths(0.02, 3.0), tenths(0.1, after), st.just(1000.0)))
        if begins >= after:
            break
        does = draw(st.sampled_from(_KINDS))
        every = draw(st.sampled_from([1, 1, 1, 2, 3, 4, 10, 50]))
        by = draw(hundredths(0.01, 1.2 * timeout).map(lambda s: _odd(s, 0.00013))) if does in ("slow", "ramp") else 0.0
        cuts = draw(st.booleans()) and does not in ("holds", "queues")
        found.append(Effect(does, begins, _odd(begins + lasts, 0.0013), every, by, cuts))
        at = begins + lasts + 0.01
    return tuple(found)


def landed_faults() -> st.SearchStrategy[Fault]:
    """At once, and slow ones."""
    return st.sampled_from([0.0, 0.0, 0.0, 0.5, 4.0]).map(lambda takes: Fault(takes=takes))


@st.composite
def faults(draw: st.DrawFn) -> tuple[Fault, ...]:
    """One or two, some of which did nothing."""
    first = draw(landed_faults())
    odd = draw(st.integers(0, 3))
    if odd == 1:
        return (replace(first, landed=False),)
    if odd == 2:
        return (replace(first, served=0),)
    if odd == 3:
        second = Fault(draw(tenths(0.1, 2)), 0.0, draw(st.booleans()), draw(st.booleans()))
        return (first, second)
    return (first,)


@st.composite
def persistents(draw: st.DrawFn, after: float) -> Persistent | None:
    """Connections that are lost for a while, that of the victim or others."""
    if draw(st.integers(0, 3)) < 3:
        return None
    lost = []
    for node in _NODES:
        if draw(st.booleans()):
            begins = draw(tenths(0, after))
            lost.append((node, Span(begins, begins + draw(tenths(0.1, after)))))
    return Persistent(draw(st.sampled_from([2.0, 0.5])), tuple(lost), draw(st.sampled_from(_NODES)))


@st.composite
def demands(draw: st.DrawFn, after: float, rate: float, timeout: float) -> Demands:
    """Any of them, or none."""
    most = max(after - 3 / rate, after / 2)
    window = draw(st.one_of(st.just(math.floor(10 * most) / 10), tenths(min(1.0, most), most), st.just(after)))
    sent = window * rate
    shares = [a for a, needed in ((0.5, 6), (0.9, 30), (0.95, 60), (0.99, 300), (0.999, 3000)) if needed <= sent]
    availability = draw(st.one_of(st.none(), st.sampled_from([*shares, 0.9])))
    seconds = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
    # An experiment refuses what its requests cannot show; a test by hand finds it in the verdict.
    shown = [s for s in seconds if s >= 2 / rate] or [30.0]
    outages = st.one_of(st.sampled_from(shown), st.sampled_from(shown), st.sampled_from(seconds))
    longest = draw(st.one_of(st.none(), outages))
    slow_after = None
    if draw(st.integers(0, 3)) == 3:
        most = min(timeout, timeout if longest is None else longest)
        slow_after = round(draw(hundredths(0.02, most)) - 0.005, 3)
    return Demands(
        availability=availability,
        confidence=draw(st.sampled_from([None, None, 0.95])) if availability else None,
        window=window,
        longest_outage=longest,
        slow_after=slow_after,
        lost_beyond_in_flight=draw(st.sampled_from([None, None, None, 0, 1, 10])),
        p99_ratio=draw(st.sampled_from([None, None, None, 1.0, 1.5, 10.0])),
        traffic_back=draw(st.one_of(st.none(), outages)),
        persistent_availability=draw(st.sampled_from([None, 0.5, 0.9])),
    )


def spans(after: float, longest: float) -> st.SearchStrategy[Span]:
    """Somewhere around the fault or after it."""
    begins, lasts = tenths(-2, max(0, after - longest)), hundredths(0.01, min(longest, after / 2))
    return st.builds(lambda a, b: Span(a, _odd(a + b, 0.0017)), begins, lasts)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Worlds of all kinds."""
    rate = draw(st.sampled_from(_RATES))
    timeout = draw(st.sampled_from(_TIMEOUTS))
    app = draw(apps(timeout))
    steady = max(3.0, round(5 / rate, 1), round(2 * app.longest + 1, 1), app.cold + 1)
    warm_up = draw(st.sampled_from([0.0, 1.0])) if app.cold else 0.0
    most = MOST_REQUESTS / rate - steady - warm_up
    after = draw(st.sampled_from([s for s in (20.0, 3.0, 8.0, 40.0, 60.0, 100.0) if 4 / rate <= s <= most] or [most]))
    after = max(round(after, 1), 0.5)
    believable = draw(st.booleans())
    odd = 0 if believable else draw(st.integers(0, 2))
    return World(
        rate=rate,
        phase=draw(st.sampled_from([0.0, 0.25, 0.5, 0.9])),
        timeout=timeout,
        app=app,
        warm_up=warm_up,
        steady=steady,
        after=after,
        faults=(draw(landed_faults()),) if believable else draw(faults()),
        effects=draw(effects(after, timeout)),
        stood_still=(draw(spans(after, 3.0)),) if odd == 1 else (),
        unsent=(draw(spans(after, 3.0)),) if odd == 2 else (),
        persistent=draw(persistents(after)),
        by_hand=draw(st.booleans()),
        neighbour=draw(st.sampled_from(["", "", "lost", "well"])),
        earlier=draw(st.booleans()),
        demands=draw(demands(after, rate, timeout)),
    )
