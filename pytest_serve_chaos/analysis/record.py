"""One experiment of a history: its events in order, and the requests of its time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

from pytest_serve_chaos.analysis.components import Components, components_of
from pytest_serve_chaos.analysis.faults import Faults, faults_of
from pytest_serve_chaos.analysis.growth import WatchedUsage, watched_usage
from pytest_serve_chaos.analysis.machine import Interference
from pytest_serve_chaos.analysis.spacing import Spacing, stage_time, uneven_schedule
from pytest_serve_chaos.analysis.steady_state import SteadyState, steady_requests
from pytest_serve_chaos.errors import HistoryError
from pytest_serve_chaos.events import (
    ClusterReady,
    ComponentCame,
    ConfigurationSeen,
    Demanded,
    Doubt,
    Event,
    FaultAsked,
    MachineSeen,
    Phase,
    PhaseBegan,
    RedundancyBack,
    StagesBegan,
    SteadyConfirmed,
    TopologySeen,
    TrafficBegan,
    UsageSeen,
    VictimEnded,
    Warned,
    of_kind,
)
from pytest_serve_chaos.history import History
from pytest_serve_chaos.model import ConfigWarning, Expectations, PartName, Request, Slowness
from pytest_serve_chaos.schedule import Schedule

E = TypeVar("E", bound=Event)

_MACHINE_LATER = 1.0
"""Seconds after its last event within which what the machine did in an experiment is written down."""


@dataclass(frozen=True, slots=True)
class Record:
    """What a history has of one experiment.

    Attributes:
        experiment: Its name.
        events: In order of time.
        requests: Those of its traffic that were scheduled while it ran, in order of their scheduled times.
        begin: When its steady state began; monotonic seconds, as all times.
        end: When the observation ended.
        asked: When the fault was asked for: the moment of the fault. None if it never was.
        hit: Until when a request could be in flight on a victim: the moment of the fault, or of a victim that ends
            slowly the moment of its end.
        demanded: What was demanded, and of which requests.
        faults: What was broken.
        components: Who was alive before and after.
        machine: What the processors of the machine that tests run on did meanwhile.
        watched: What its processes used after recovery, against before; None where nobody watched them.
        share: The share (0 to 1) of the requests that were sent which these are: all, or those of one part.
        part: The app, or the name, whose requests alone these are. None: these are all.
    """

    experiment: str
    events: tuple[Event, ...]
    requests: tuple[Request, ...]
    begin: float
    end: float
    asked: float | None
    hit: float | None
    demanded: Demanded
    faults: Faults
    components: Components
    machine: tuple[MachineSeen, ...] = ()
    watched: WatchedUsage | None = None
    share: float = 1.0
    part: PartName | None = None

    def of(self, kind: type[E]) -> tuple[E, ...]:
        """Its events of that kind."""
        return of_kind(kind, self.events)

    def texts(self, kind: type[Event]) -> tuple[str, ...]:
        """What its events of that kind say, a line each."""
        return tuple(event.text for event in self.of(kind))

    def after_fault(self, kind: type[Event], *, last: bool = False) -> float | None:
        """Seconds from the fault to the first (or last) such event after the last injection; None: it never came."""
        asked = self.faults.asked
        if self.asked is None or not asked:
            return None
        found = [event for event in self.of(kind) if event.at >= asked[-1].at]
        return None if not found else found[-1 if last else 0].at - self.asked

    @property
    def expectations(self) -> Expectations:
        """What was demanded of all requests, or of those of the part."""
        return self.demanded.of(self.part)

    @property
    def parts(self) -> tuple[PartName, ...]:
        """The apps, and the names of requests, whose requests are judged by themselves."""
        apps, names = self.demanded.apps, self.demanded.names
        return (*(PartName("app", app) for app in apps), *(PartName("name", name) for name in names))

    def of_part(self, part: PartName) -> Record:
        """The same experiment, as the requests of one app or of one name saw it."""
        requests = tuple(r for r in self.requests if getattr(r, part.kind) == part.name)
        own = replace(self, requests=requests, part=part)
        return replace(own, share=len(own.fresh) / len(self.fresh)) if own.fresh else own

    @property
    def fresh(self) -> tuple[Request, ...]:
        """The requests that are judged, each on a connection of its own."""
        return tuple(request for request in self.requests if not request.kept)

    @property
    def steady(self) -> SteadyState:
        """What was usual before the fault."""
        until, is_part = self.end if self.asked is None else self.asked, self.part is not None
        confirmed = [event.at for event in self.of(SteadyConfirmed) if event.at <= until]
        requests = steady_requests(self.fresh, until, confirmed=confirmed[-1] if confirmed else None, is_part=is_part)
        return SteadyState(requests, self.expectations, uneven=self._uneven is not None, is_part=is_part)

    @property
    def slowness(self) -> Slowness:
        """What waits too long in this experiment."""
        return self.steady.slowness

    @property
    def spacing(self) -> Spacing:
        """How far the judged requests are apart."""
        return Spacing(
            requests=self.fresh,
            asked=-math.inf if self.asked is None else self.asked,
            uneven=self._uneven,
            stage_time=stage_time(self.asked, (e.at for e in self.of(StagesBegan) if e.source == self.demanded.source)),
            is_part=self.part is not None,
        )

    @property
    def _uneven(self) -> Schedule | None:
        return uneven_schedule(self.of(TrafficBegan), self.demanded.source, self.share)

    @property
    def interference(self) -> Interference:
        """How others' work on the machine held the cluster up."""
        return Interference(self.machine, self.begin, self.asked, self.end)


def read_record(history: History, experiment: str) -> Record:
    """What `history` has of that experiment: of its own traffic, or of the one whose judgement the test asked for.

    Raises:
        HistoryError: It has nothing of it.
    """
    events = tuple(sorted(history.of(experiment), key=lambda event: event.at))
    if not events:
        raise HistoryError(
            f"the history has no experiment {experiment!r}",
            checked=[f"its experiments: {', '.join(history.experiments()) or 'none'}"],
            fix=["name one of them"] if history.experiments() else ["take the history of a run that broke something"],
        )
    judgements = of_kind(Demanded, events)
    demanded = judgements[-1] if judgements else Demanded("", experiment=experiment, expectations=Expectations())
    source = demanded.source
    began = [e.at for e in of_kind(TrafficBegan, events) if e.source == source and source]
    if began:  # this traffic cannot have met earlier faults
        events = tuple(e for e in events if e.at >= began[0] or isinstance(e, (Demanded, TopologySeen)))
    steady = [e.at for e in of_kind(PhaseBegan, events) if e.phase is Phase.STEADY]
    begin = began[0] if began else steady[0] if steady else events[0].at
    end = _end(history, events, source)
    if source:  # of what was sent after the question, only what was answered at once is known
        end = min(end, max(e.at for e in judgements))
    asked = next((e.at for e in of_kind(FaultAsked, events)), None)
    hit = None if asked is None else next((e.at for e in of_kind(VictimEnded, events) if e.at >= asked), asked)
    faults = faults_of(events)
    return Record(
        experiment=experiment,
        events=(*events, *_unwritten(history)),
        requests=_requests(history, begin, end, source),
        begin=begin,
        end=end,
        asked=asked,
        hit=hit,
        demanded=demanded,
        faults=faults,
        components=components_of(events, end=end, autoscaled=demanded.autoscaled, victims=faults.victims),
        machine=_machine(history, begin, max(end, events[-1].at)),
        watched=_watched(history, events, begin, asked, source),
    )


def _requests(history: History, begin: float, end: float, source: str) -> tuple[Request, ...]:
    inside = history.requests_between(begin, end, source)
    return tuple(sorted(inside, key=lambda request: (request.scheduled, request.stream, request.index)))


def _machine(history: History, begin: float, last: float) -> tuple[MachineSeen, ...]:
    return tuple(e for e in of_kind(MachineSeen, history.events) if begin <= e.at <= last + _MACHINE_LATER)


def _watched(
    history: History, events: tuple[Event, ...], begin: float, asked: float | None, source: str
) -> WatchedUsage | None:
    phases = of_kind(PhaseBegan, events)
    growth = next((e.at for e in phases if e.phase is Phase.GROWTH), None)
    if growth is None:  # nothing went on for the watch alone; the experiment itself took some time after recovery
        begun = max((e.at for e in of_kind(RedundancyBack, events)), default=None)
        end = events[-1].at
    else:
        begun = growth
        end = next((e.at for e in phases if e.at > growth), events[-1].at)
    if begun is None or asked is None:
        return None
    seen = [e for e in of_kind(UsageSeen, history.events) if begin <= e.at <= end]
    if growth is None and not any(e.at >= begun for e in seen):
        return None
    there = [e.component for e in of_kind(ComponentCame, events)]
    there += [component for e in of_kind(TopologySeen, events) for component in e.topology.components]
    return watched_usage(
        seen,
        asked=asked,
        begun=begun,
        requests=(history.requests_between(begin, asked, source), history.requests_between(asked, end, source)),
        replicas={component.replica: component for component in there if component.replica},
    )


def _unwritten(history: History) -> Iterator[Doubt]:
    """A doubt where the file lacks what came last: nobody could ever check the verdict by it."""
    if history.unwritten:
        yield Doubt(f"the history could not be written: {history.unwritten}")


def run_event(history: History, experiment: str = "") -> ClusterReady | None:
    """The event that says what was under test: the experiment's own, or the last one before it began."""
    ready = of_kind(ClusterReady, history.events)
    own = [e for e in ready if experiment and e.experiment == experiment]
    began = min((e.at for e in history.of(experiment)), default=math.inf) if experiment else math.inf
    common = [e for e in ready if not e.experiment and e.at <= began]
    return own[-1] if own else common[-1] if common else None


def warnings_of(history: History, experiment: str = "") -> tuple[ConfigWarning, ...]:
    """What was so when the experiment was about to break something; where no experiment is named, of all clusters."""
    own = of_kind(ConfigurationSeen, history.of(experiment)) if experiment else ()
    return own[-1].warnings if own else warned_about(history, experiment)


def warned_about(history: History, experiment: str = "") -> tuple[ConfigWarning, ...]:
    """The warnings about the experiment's cluster, or about all clusters if no experiment is named."""
    run = run_event(history, experiment) if experiment else None
    runs = [e.at for e in of_kind(ClusterReady, history.events) if run is not None and e.at > run.at]
    begin, end = (-math.inf if run is None else run.at), min(runs, default=math.inf)
    found = (e.warning for e in of_kind(Warned, history.events) if begin <= e.at < end)
    return tuple(dict.fromkeys(found))


def _end(history: History, events: tuple[Event, ...], source: str) -> float:
    """The end of what is judged; without one, the last that was seen before something else began."""
    ended = [e.at for e in of_kind(PhaseBegan, events) if e.phase is not None and not e.phase.is_judged]
    if ended:
        return ended[0]
    last, name = events[-1].at, events[-1].experiment
    following = min((e.at for e in history.events if e.experiment not in ("", name) and e.at > last), default=math.inf)
    later = history.requests_between(last, math.inf, source)
    return max([last, *(r.scheduled for r in later if r.scheduled < following)])
