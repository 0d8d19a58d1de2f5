"""Which time a picture of an experiment shows, and what stands in it: moments and spans."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_serve_chaos.analysis.result import Result
from pytest_serve_chaos.events import Demanded, FaultAsked, Judged, Phase, PhaseBegan, Restored, TrafficBegan, of_kind


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that happened.

    Attributes:
        at: When.
        kind: The kind of event (``asked``, ``gone``, ``evidence``).
        text: One line for people.
    """

    at: float
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Span:
    """A time in which something was so.

    Attributes:
        begin: When it began.
        end: None: it was still so when the experiment ended.
        text: What was so.
    """

    begin: float
    end: float | None
    text: str


@dataclass(frozen=True, slots=True)
class View:
    """Which time a picture shows, in monotonic seconds, and whose requests.

    Attributes:
        begin: When the steady state began.
        zero: The moment of the fault, or `begin` where nothing was broken.
        judged_until: When the observation ended.
        end: When the experiment was judged, or all that is known of it ends.
        source: The traffic that is judged.
    """

    begin: float
    zero: float
    judged_until: float
    end: float
    source: str

    @classmethod
    def of(cls, result: Result) -> View:
        """That of an experiment."""
        demanded = of_kind(Demanded, result.events)
        source = demanded[-1].source if demanded else ""
        phases = of_kind(PhaseBegan, result.events)
        steady = [event.at for event in phases if event.phase is Phase.STEADY]
        began = [event.at for event in of_kind(TrafficBegan, result.events) if source and event.source == source]
        first, last = (result.events[0].at, result.events[-1].at) if result.events else (0.0, 0.0)
        begin = next(iter([*began, *steady]), first)
        asked = next((event.at for event in of_kind(FaultAsked, result.events)), begin)
        over = [e.at for e in result.events if isinstance(e, Judged) or (isinstance(e, Restored) and e.at > asked)]
        done = [event.at for event in phases if event.phase is Phase.DONE]
        judged = [event.at for event in phases if event.phase is not None and not event.phase.is_judged]
        end = max(begin, next(iter([*done, *over]), max(last, asked + result.measurement.observed)))
        return cls(begin, asked, next(iter(judged), end), end, source)
