"""One experiment of a history: its events in order, and the requests of its time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypeVar, cast

from pytest_serve_chaos.analysis.machine import held_up, held_up_since
from pytest_serve_chaos.analysis.outages import spacing
from pytest_serve_chaos.analysis.scaling import Scaling, scaling_of
from pytest_serve_chaos.analysis.statistics import latency, latency_of
from pytest_serve_chaos.errors import HistoryError, SettingsError
from pytest_serve_chaos.events import (
    CheckDone,
    ClusterReady,
    ComponentCame,
    ComponentGone,
    ConfigurationSeen,
    Demanded,
    Doubt,
    Event,
    EvidenceSeen,
    FaultAsked,
    FaultLanded,
    MachineSeen,
    Moment,
    NotSettled,
    NotStarted,
    OwnerChanged,
    Phase,
    PhaseBegan,
    PostRecoveryChecking,
    Problem,
    ProxyStale,
    RedundancyMissing,
    Remark,
    Settled,
    SettlingUnknown,
    StagesBegan,
    SteadyConfirmed,
    TopologySeen,
    TrafficBegan,
    VictimEnded,
    Warned,
    of_kind,
)
from pytest_serve_chaos.history import History
from pytest_serve_chaos.model import (
    Checked,
    CheckSpec,
    ConfigWarning,
    Evidence,
    Expectations,
    Identity,
    Latency,
    PartName,
    Request,
    Slowness,
    Topology,
)
from pytest_serve_chaos.schedule import Pattern, Schedule

E = TypeVar("E", bound=Event)

STEADY_SECONDS = 3.0
"""Seconds before the fault whose latency is the steady state's, where the history does not say which they are."""

_MARGIN = 2.0
"""Seconds beyond the usual latency after which a request is away at the latest, unless the user says otherwise: where
outages of many seconds are allowed, a user has still gone after a few."""

_LEAST_MARGIN = 0.05
_ENOUGH = 100
"""Requests that show their p99."""
LEAST_REQUESTS = 3
"""Requests by which what is usual is judged at least: of a part with fewer in the steady seconds, earlier ones too."""

_MACHINE_LATER = 1.0
"""Seconds after its last event within which what the machine did in an experiment is written down."""

AFTER_RECOVERY = 5.0
"""Seconds after redundancy is back from which persistent connections to proxies that the fault hit must work again: the
request that finds the proxy gone is lost, and only then is its successor looked up."""


@dataclass(frozen=True, slots=True)
class PostRecovery:
    """What the post-recovery check said.

    Attributes:
        was_run: Whether it said anything.
        failures: Why it was not passed, each time.
        unknown: What it could not see.
        stale_proxies: The names of the proxies that do not receive the controller's updates.
    """

    was_run: bool
    failures: tuple[str, ...]
    unknown: tuple[str, ...]
    stale_proxies: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OwnCheck:
    """When a post-recovery check ran, and whether it replaced replicas that serve."""

    begin: float
    end: float
    replaces: bool


@dataclass(frozen=True, slots=True)
class Record:
    """What a history has of one experiment.

    It has many properties: one for each thing that a check or a report asks of an experiment, so that none of
    them has to read events itself.

    Attributes:
        experiment: Its name.
        events: In order of time.
        requests: Those of its traffic that were scheduled while it ran, in order of their scheduled times.
        begin: When its steady state began; monotonic seconds, as all times.
        end: When the observation ended.
        asked: When the fault was asked for: the moment of the fault. None if it never was.
        hit: Until when a request could be in flight on a victim: the moment of the fault, or of a victim that ends
            slowly the moment of its end.
        machine: What the processors of the machine that tests run on did meanwhile.
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
    machine: tuple[MachineSeen, ...] = ()
    share: float = 1.0
    part: PartName | None = None

    def of(self, kind: type[E]) -> tuple[E, ...]:
        """Its events of that kind."""
        return of_kind(kind, self.events)

    def after_fault(self, kind: type[Event], *, last: bool = False) -> float | None:
        """Seconds from the fault to the first (or last) such event after the last injection; None: it never came."""
        asked = self.of(FaultAsked)
        if self.asked is None or not asked:
            return None
        found = [event for event in self.of(kind) if event.at >= asked[-1].at]
        return None if not found else found[-1 if last else 0].at - self.asked

    @property
    def fresh(self) -> tuple[Request, ...]:
        """The requests that are judged, each on a connection of its own."""
        return tuple(request for request in self.requests if not request.kept)

    @property
    def uneven(self) -> Schedule | None:
        """The schedule, where requests are not evenly spaced; None where they are, or the history does not say."""
        began = [event for event in self.of(TrafficBegan) if event.source == self.source]
        if not began or began[-1].rate is None:
            return None
        last = began[-1]
        try:
            schedule = Schedule.of(last.stages or last.rate or 0.0, cast("Pattern", last.arrivals))
        except SettingsError:  # what a newer version wrote
            return None
        return None if schedule.even else schedule.of_share(self.share)

    @property
    def stage_time(self) -> float:
        """When the fault came, in seconds since the stages of the traffic began; 0.0 where there are none."""
        begun = [event.at for event in self.of(StagesBegan) if event.source == self.source]
        return 0.0 if self.asked is None or not begun else max(0.0, self.asked - begun[-1])

    @property
    def source(self) -> str:
        """Whose requests are judged: "" for the experiment's own."""
        return "" if self._demanded is None else self._demanded.source

    @property
    def apart(self) -> float:
        """Seconds between two requests; where these are not evenly spaced, the most that there were since the fault."""
        usual, even = spacing(self.fresh), self.uneven is None
        if even and self.part is None:
            return usual
        # Of what is chosen by weight no two are ever twice as far apart as on average; what comes in order from a file
        # may come in blocks.
        return usual if even and self.most_apart < 2 * usual else self.most_apart

    @property
    def most_apart(self) -> float:
        """The most seconds between two requests since the fault: a single lost one may look like so long an outage."""
        due = [request.scheduled for request in self.fresh]
        asked = -math.inf if self.asked is None else self.asked
        return max((b - a for a, b in pairwise(due) if b > asked), default=0.0)

    @property
    def landed(self) -> bool:
        """Whether each fault that was asked for landed, and at least one was."""
        return bool(self.of(FaultLanded)) and not self.not_landed

    @property
    def not_landed(self) -> tuple[FaultAsked, ...]:
        """What was asked for, had to land, and did not. Each fault needs evidence of its own.

        A fault that does not have to land (``must_land=False``) is not among them if another one landed.
        """
        asked, landed = self.of(FaultAsked), self.of(FaultLanded)
        numbers = {event.injection for event in landed}
        missing = [event for event in asked if event.injection not in numbers]
        if None in numbers or any(event.injection is None for event in asked):  # a history of an older version
            missing = list(asked[len(landed) :])
        return tuple(event for event in missing if not landed or event.must_land)

    @property
    def steady_requests(self) -> tuple[Request, ...]:
        """The requests of the steady seconds before the fault that had ended by then.

        Those since the steady state was confirmed; where the history does not say when that was, those of the last
        three seconds before the fault. Warming up is not part of it, unless there are too few of a part.
        """
        until = self.end if self.asked is None else self.asked
        ended = [r for r in self.fresh if r.scheduled < until and r.finished <= until]
        confirmed = [event.at for event in self.of(SteadyConfirmed) if event.at <= until]
        if confirmed:
            steady = tuple(r for r in ended if r.scheduled >= confirmed[-1])
            few = self.part is not None and len(steady) < LEAST_REQUESTS
            return tuple(ended[-LEAST_REQUESTS:]) if few else steady
        seconds = max(STEADY_SECONDS, (LEAST_REQUESTS + 0.5) * spacing(ended))
        return tuple(r for r in ended if r.finished >= until - seconds)

    @property
    def usual_latency(self) -> Latency | None:
        """The latency of the steady seconds; None where nothing was sent in them."""
        return latency(self.steady_requests)

    @property
    def slowness(self) -> Slowness:
        """What waits too long in this experiment."""
        steady = self.steady_requests
        found = slowness_of(steady, self.expectations, uneven=self.uneven is not None)
        if self.part is not None and self.expectations.slow_after is None and all(request.lost for request in steady):
            return Slowness()  # nobody knows what is usual for these, so only what is lost counts
        return found

    @property
    def why_not_started(self) -> tuple[str, ...]:
        """Why nothing was broken."""
        return self._texts(NotStarted)

    @property
    def last_phase(self) -> str:
        """The phase in which it ended, for people; "" where it has none."""
        phases = self._texts(PhaseBegan)
        return phases[-1] if phases else ""

    @property
    def faults(self) -> int:
        """How many faults were asked for."""
        return len(self.of(FaultAsked))

    @property
    def held_up(self) -> str:
        """How others' work on the machine held the cluster up since the fault, as a clause; "" if it did not."""
        return "" if self.asked is None else held_up(self.machine, self.asked, math.inf)

    @property
    def held_up_since(self) -> float:
        """The monotonic second at which others' work began to hold the cluster up after the fault; else infinity."""
        return math.inf if self.asked is None else held_up_since(self.machine, self.asked)

    @property
    def held_up_before(self) -> str:
        """How it held the cluster up before the fault; "" if it did not."""
        return held_up(self.machine, self.begin, self.end if self.asked is None else self.asked)

    def idle_faults(self, *, of_any_traffic: bool = False) -> int:
        """How many faults landed on victims that had answered nothing of this traffic, or `of_any_traffic`."""
        landed = self.of(FaultLanded)
        if of_any_traffic:
            return sum(event.served == 0 and not any(event.served_others.values()) for event in landed)
        return sum(event.served_others.get(self.source, event.served) == 0 for event in landed)

    @property
    def problems(self) -> tuple[str, ...]:
        """What was wrong with the cluster, and no figure shows: a leak, a second controller."""
        return self._texts(Problem)

    @property
    def doubts(self) -> tuple[str, ...]:
        """What had to be seen and could not be."""
        return self._texts(Doubt)

    @property
    def owner_changes(self) -> tuple[str, ...]:
        """What the owner of an external cluster did to it meanwhile, or that this is unknown."""
        return tuple(dict.fromkeys(self._texts(OwnerChanged)))

    @property
    def remarks(self) -> tuple[str, ...]:
        """What the reader of the verdict must know, whatever it is."""
        about = "" if self._demanded is None else self._demanded.about
        return tuple(dict.fromkeys(([about] if about else []) + list(self._texts(Remark))))

    @property
    def redundancy_in_vain(self) -> bool:
        """Whether somebody waited for redundancy until the deadline."""
        return bool(self.of(RedundancyMissing))

    @property
    def post_recovery(self) -> PostRecovery:
        """What the post-recovery check said."""
        names = [event.proxy for event in self.of(ProxyStale)]
        unsettled, unknown = self._texts(NotSettled), self._texts(SettlingUnknown)
        return PostRecovery(
            was_run=bool(unsettled or unknown or self.of(Settled)),
            failures=unsettled,
            unknown=unknown,
            stale_proxies=tuple(dict.fromkeys(names)),
        )

    @property
    def own_checks(self) -> tuple[OwnCheck, ...]:
        """When the post-recovery checks ran that the test asked for."""
        events = self.of(PostRecoveryChecking)
        ends = [event.at for event in events if not event.begins]
        begun = [event for event in events if event.begins]
        return tuple(OwnCheck(e.at, next((end for end in ends if end >= e.at), math.inf), e.replaces) for e in begun)

    def _texts(self, kind: type[Event]) -> tuple[str, ...]:
        return tuple(event.text for event in self.of(kind))

    @property
    def fault(self) -> str:
        """What was broken and how, in words; "" if nothing was."""
        return "; ".join(self._texts(FaultAsked))

    @property
    def kinds(self) -> frozenset[str]:
        """The markers of the faults: ``head_failure``."""
        return frozenset(event.fault for event in self.of(FaultAsked))

    @property
    def _demanded(self) -> Demanded | None:
        found = self.of(Demanded)
        return found[-1] if found else None

    @property
    def expectations(self) -> Expectations:
        """What was demanded."""
        return Expectations() if self._demanded is None else self._demanded.of(self.part)

    @property
    def unknown_demands(self) -> tuple[str, ...]:
        """The names of demands that a newer version wrote and this one does not know."""
        return () if self._demanded is None else self._demanded.unknown

    @property
    def check_specs(self) -> tuple[CheckSpec, ...]:
        """The checks that the test brought."""
        return () if self._demanded is None else self._demanded.checks

    @property
    def apps(self) -> tuple[str, ...]:
        """The apps that are asked, if there are several."""
        return () if self._demanded is None else self._demanded.apps

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the requests, if there are several."""
        return () if self._demanded is None else self._demanded.names

    def of_part(self, part: PartName) -> Record:
        """The same experiment, as the requests of one app or of one name saw it."""
        requests = tuple(r for r in self.requests if getattr(r, part.kind) == part.name)
        own = replace(self, requests=requests, part=part)
        return replace(own, share=len(own.fresh) / len(self.fresh)) if own.fresh else own

    @property
    def parts(self) -> tuple[PartName, ...]:
        """The apps, and the names of requests, whose requests are judged by themselves."""
        return (*(PartName("app", app) for app in self.apps), *(PartName("name", name) for name in self.names))

    @property
    def checked(self) -> Mapping[str, Checked]:
        """What these found when the experiment ran, by their names."""
        return {event.found.check: event.found for event in self.of(CheckDone)}

    @property
    def before(self) -> Topology | None:
        """Who was alive in steady state."""
        found = self._seen(Moment.BEFORE)
        return found[0].topology if found else None

    @property
    def after(self) -> Topology | None:
        """Who was alive when all was over."""
        found = self._seen(Moment.AFTER)
        return found[-1].topology if found else None

    @property
    def last_seen(self) -> Topology | None:
        """The last topology that was seen."""
        found = self.of(TopologySeen)
        return found[-1].topology if found else None

    def _seen(self, moment: Moment) -> tuple[TopologySeen, ...]:
        return tuple(event for event in self.of(TopologySeen) if event.moment is moment)

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """The signs that the fault landed."""
        return tuple(event.evidence for event in self.of(EvidenceSeen))

    @property
    def victims(self) -> tuple[Identity, ...]:
        """What the fault was aimed at."""
        return tuple(victim for event in self.of(FaultLanded) for victim in event.victims)

    @property
    def scaling(self) -> Scaling:
        """What autoscalers did between the topology of the steady state and the one afterwards."""
        autoscaled = () if self._demanded is None else self._demanded.autoscaled
        before, after = self._seen(Moment.BEFORE), self._seen(Moment.AFTER)
        begin = before[0].at if before else -math.inf
        end = after[-1].at if after else self.end
        inside = [event for event in self.events if begin <= event.at <= end]
        seen = before[0].topology if before else None
        return scaling_of(autoscaled, inside, seen, after[-1].topology if after else None)

    @property
    def gone(self) -> frozenset[Identity]:
        """What was seen to go, and did not come again, until the topology afterwards was taken."""
        # What goes later goes because the cluster is put back into its first shape.
        after = self._seen(Moment.AFTER)
        until = after[-1].at if after else self.end
        there: dict[Identity, bool] = {}
        for event in self.events:
            if isinstance(event, (ComponentGone, ComponentCame)) and event.at <= until:
                there[event.component.identity] = isinstance(event, ComponentCame)
        return frozenset(identity for identity, is_there in there.items() if not is_there)


def on_time(request: Request) -> Request:
    """A request as if the generator had sent it when it was due: that it did not says nothing of the app."""
    return replace(request, sent=request.scheduled, finished=_end_on_time(request))


def _end_on_time(request: Request) -> float:
    return max(request.scheduled, request.finished - request.lag)


def slowness_of(steady: Sequence[Request], expected: Expectations, *, uneven: bool = False) -> Slowness:
    """What waits too long, by what is demanded and by the requests of the steady seconds.

    Args:
        steady: These requests.
        expected: What is demanded.
        uneven: Whether requests are not evenly spaced.
    """
    # As if all had been sent on time: see `on_time`, whose new requests would cost most of the time here.
    good = [(_end_on_time(r), r.scheduled) for r in steady if not r.lost]
    usual = latency_of(end - scheduled for end, scheduled in good)
    gaps = [later - earlier for earlier, later in pairwise(sorted(end for end, _ in good))]
    typical, most = (0.0, 0.0) if usual is None else (usual.p50, usual.p99)
    margin = _MARGIN
    if expected.longest_outage is not None:
        margin = max(_LEAST_MARGIN, min(_MARGIN, expected.longest_outage / 2))
    # A few requests hardly ever meet the slowest one in a hundred, so what varies may vary more than they show.
    margin += (most - typical) * max(0.0, 1 - len(good) / _ENOUGH)
    after = most + margin if expected.slow_after is None else expected.slow_after
    return Slowness(after, typical, most, max(gaps, default=math.inf), uneven=uneven)


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
        )
    demanded = of_kind(Demanded, events)
    source = demanded[-1].source if demanded else ""
    began = [e.at for e in of_kind(TrafficBegan, events) if e.source == source and source]
    if began:  # this traffic cannot have met earlier faults
        events = tuple(e for e in events if e.at >= began[0] or isinstance(e, (Demanded, TopologySeen)))
    steady = [e.at for e in of_kind(PhaseBegan, events) if e.phase is Phase.STEADY]
    begin = began[0] if began else steady[0] if steady else events[0].at
    end = _end(history, events, source)
    if source:  # of what was sent after the question, only what was answered at once is known
        end = min(end, max(e.at for e in demanded))
    asked = next((e.at for e in of_kind(FaultAsked, events)), None)
    hit = None if asked is None else next((e.at for e in of_kind(VictimEnded, events) if e.at >= asked), asked)
    inside = history.requests_between(begin, end, source)
    ordered = tuple(sorted(inside, key=lambda request: (request.scheduled, request.stream, request.index)))
    machine = tuple(
        e for e in of_kind(MachineSeen, history.events) if begin <= e.at <= max(end, events[-1].at) + _MACHINE_LATER
    )
    return Record(experiment, (*events, *_unwritten(history)), ordered, begin, end, asked, hit, machine)


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
