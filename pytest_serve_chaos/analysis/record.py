"""One experiment of a history: its events in order, and the requests of its time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import cast

from pytest_serve_chaos.analysis.configuration import ConfigWarning, warning_from_json
from pytest_serve_chaos.analysis.outages import spacing
from pytest_serve_chaos.analysis.percentiles import latency
from pytest_serve_chaos.errors import HistoryError
from pytest_serve_chaos.history import History
from pytest_serve_chaos.json_records import topology_from_json
from pytest_serve_chaos.model import (
    Checked,
    CheckSpec,
    ClusterDescription,
    Event,
    Evidence,
    Expectations,
    Identity,
    Json,
    Latency,
    Request,
    Slowness,
    Topology,
)

STEADY_SECONDS = 3.0
"""Seconds before the fault whose latency is the steady state's, where the history does not say which they are."""

_MARGIN = 2.0
"""Seconds beyond the usual latency after which a request is away at the latest, unless the user says otherwise: where
outages of many seconds are allowed, a user has still gone after a few."""

_LEAST_MARGIN = 0.05
_ENOUGH = 100
"""Requests that show their p99."""
_LEAST_REQUESTS = 3

_WRITTEN_WITH_THEM = ("source", "autoscaled", "checks")
"""What the event of the expectations says apart from them: `load.write_expectations`."""

AFTER_RECOVERY = 5.0
"""Seconds after redundancy is back from which persistent connections to proxies that the fault hit must work again: the
request that finds the proxy gone is lost, and only then is its successor looked up."""


POST_RECOVERY = "post-recovery"
"""The phase of the post-recovery checks. Requests from then on are not judged: these checks start and end replicas."""

_JUDGED_UNTIL = (POST_RECOVERY, "handles", "done")


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

    Attributes:
        experiment: Its name.
        events: In order of time.
        requests: Those of its traffic that were scheduled while it ran, in order of their scheduled times.
        begin: When its steady state began; monotonic seconds, as all times.
        end: When the observation ended.
        asked: When the fault was asked for: the moment of the fault. None if it never was.
        hit: Until when a request could be in flight on a victim: the moment of the fault, or of a victim that ends
            slowly the moment of its end.
    """

    experiment: str
    events: tuple[Event, ...]
    requests: tuple[Request, ...]
    begin: float
    end: float
    asked: float | None
    hit: float | None

    def of(self, kind: str, text: str | None = None) -> tuple[Event, ...]:
        """Its events of that kind (and that text)."""
        return tuple(e for e in self.events if e.kind == kind and text in (None, e.text))

    def first(self, kind: str, *, since: float = -math.inf) -> Event | None:
        """Its first event of that kind at or after a moment."""
        return next((e for e in self.of(kind) if e.at >= since), None)

    def after_fault(self, kind: str, *, last: bool = False) -> float | None:
        """Seconds from the fault to the first (or last) such event after the last injection; None: it never came."""
        asked = self.of("asked")
        if self.asked is None or not asked:
            return None
        found = [event for event in self.of(kind) if event.at >= asked[-1].at]
        return None if not found else found[-1 if last else 0].at - self.asked

    @property
    def fresh(self) -> tuple[Request, ...]:
        """The requests that are judged, each on a connection of its own."""
        return tuple(request for request in self.requests if not request.kept)

    @property
    def landed(self) -> bool:
        """Whether each fault that was asked for landed, and at least one was."""
        return bool(self.of("landed")) and not self.not_landed

    @property
    def not_landed(self) -> tuple[Event, ...]:
        """What was asked for, had to land, and did not. Each fault needs evidence of its own.

        A fault that does not have to land (``must_land=False``) is not among them if another one landed.
        """
        asked, landed = self.of("asked"), self.of("landed")
        numbers = {event.data.get("injection") for event in landed}
        missing = [event for event in asked if event.data.get("injection") not in numbers]
        if any("injection" not in event.data for event in (*asked, *landed)):  # a history of an older version
            missing = list(asked[len(landed) :])
        return tuple(event for event in missing if not landed or event.data.get("must_land", True))

    @property
    def steady_requests(self) -> tuple[Request, ...]:
        """The requests of the steady seconds before the fault that had ended by then.

        Those since the steady state was confirmed; where the history does not say when that was, those of the last
        three seconds before the fault. Warming up is not part of it.
        """
        until = self.end if self.asked is None else self.asked
        ended = [r for r in self.fresh if r.scheduled < until and r.finished <= until]
        confirmed = [event.at for event in self.of("steady") if event.at <= until]
        if confirmed:
            return tuple(r for r in ended if r.scheduled >= confirmed[-1])
        seconds = max(STEADY_SECONDS, (_LEAST_REQUESTS + 0.5) * spacing(ended))
        return tuple(r for r in ended if r.finished >= until - seconds)

    @property
    def usual_latency(self) -> Latency | None:
        """The latency of the steady seconds; None where nothing was sent in them."""
        return latency(self.steady_requests)

    @property
    def slowness(self) -> Slowness:
        """What waits too long in this experiment."""
        return slowness_of(self.steady_requests, self.expectations)

    @property
    def why_not_started(self) -> tuple[str, ...]:
        """Why nothing was broken."""
        return self._texts("not_started")

    @property
    def last_phase(self) -> str:
        """The phase in which it ended; "" where it has none."""
        phases = self._texts("phase")
        return phases[-1] if phases else ""

    @property
    def faults(self) -> int:
        """How many faults were asked for."""
        return len(self.of("asked"))

    @property
    def idle_faults(self) -> int:
        """How many faults landed on victims that had answered nothing."""
        served = [event.data.get("served") for event in self.of("landed")]
        return sum(answers is not None and answers == 0 for answers in served)

    @property
    def problems(self) -> tuple[str, ...]:
        """What was wrong with the cluster, and no figure shows: a leak, a second controller."""
        return self._texts("problem")

    @property
    def doubts(self) -> tuple[str, ...]:
        """What had to be seen and could not be."""
        return self._texts("doubt")

    @property
    def remarks(self) -> tuple[str, ...]:
        """What the reader of the verdict must know, whatever it is."""
        return tuple(dict.fromkeys(self._texts("remark")))

    @property
    def redundancy_in_vain(self) -> bool:
        """Whether somebody waited for redundancy until the deadline."""
        return bool(self.of("redundancy_missing"))

    @property
    def post_recovery(self) -> PostRecovery:
        """What the post-recovery check said."""
        names = [str(event.data.get("proxy") or event.text) for event in self.of("proxy_deaf")]
        unsettled, unknown = self._texts("unsettled"), self._texts("untold")
        return PostRecovery(
            was_run=bool(unsettled or unknown or self.of("settled")),
            failures=unsettled,
            unknown=unknown,
            stale_proxies=tuple(dict.fromkeys(names)),
        )

    @property
    def own_checks(self) -> tuple[OwnCheck, ...]:
        """When the post-recovery checks ran that the test asked for."""
        events = self.of("checking")
        ends = [event.at for event in events if not event.data.get("begins")]
        begun = [event for event in events if event.data.get("begins")]
        return tuple(
            OwnCheck(e.at, next((end for end in ends if end >= e.at), math.inf), bool(e.data.get("replaces")))
            for e in begun
        )

    def _texts(self, kind: str) -> tuple[str, ...]:
        return tuple(event.text for event in self.of(kind))

    @property
    def fault(self) -> str:
        """What was broken and how, in words; "" if nothing was."""
        return "; ".join(event.text for event in self.of("asked"))

    @property
    def kinds(self) -> frozenset[str]:
        """The markers of the faults: ``head_failure``."""
        return frozenset(str(event.data.get("fault", "")) for event in self.of("asked"))

    @property
    def expectations(self) -> Expectations:
        """What was demanded."""
        events = self.of("expectations")
        return expectations_from_json(events[-1].data) if events else Expectations()

    @property
    def unknown_demands(self) -> tuple[str, ...]:
        """The names of demands that a newer version wrote and this one does not know."""
        events = self.of("expectations")
        known = {*_WRITTEN_WITH_THEM, *(field.name for field in fields(Expectations))}
        data = events[-1].data if events else {}
        return tuple(name for name, value in data.items() if name not in known and _demands(value))

    @property
    def check_specs(self) -> tuple[CheckSpec, ...]:
        """The checks that the test brought."""
        events = self.of("expectations")
        written = _list(events[-1].data.get("checks")) if events else []
        return tuple(check_spec_from_json(data) for data in written if isinstance(data, dict))

    @property
    def checked(self) -> Mapping[str, Checked]:
        """What these found when the experiment ran, by their names."""
        found = (checked_from_json(event.data) for event in self.of("checked"))
        return {checked.check: checked for checked in found}

    @property
    def before(self) -> Topology | None:
        """Who was alive in steady state."""
        events = self.of("topology", "before")
        return topology_from_json(events[0].at, events[0].data) if events else None

    @property
    def after(self) -> Topology | None:
        """Who was alive when all was over."""
        events = self.of("topology", "after")
        return topology_from_json(events[-1].at, events[-1].data) if events else None

    @property
    def last_seen(self) -> Topology | None:
        """The last topology that was seen."""
        events = self.of("topology")
        return topology_from_json(events[-1].at, events[-1].data) if events else None

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """The signs that the fault landed."""
        # The event's time counts: only that is moved when a history is written to a file.
        return tuple(Evidence(e.at, "victim" if _from_victim(e) else "cluster", e.text) for e in self.of("evidence"))

    @property
    def victims(self) -> tuple[Identity, ...]:
        """What the fault was aimed at."""
        return tuple(
            Identity.parse(str(text)) for event in self.of("landed") for text in _list(event.data.get("victims"))
        )

    @property
    def scaled(self) -> frozenset[str]:
        """The deployments that Serve's autoscaler scales, in the middle of an experiment as well."""
        events = self.of("expectations")
        return frozenset(str(name) for name in _list(events[-1].data.get("autoscaled"))) if events else frozenset()

    @property
    def gone(self) -> frozenset[Identity]:
        """What was seen to go, and did not come again, until the topology afterwards was taken."""
        # What goes later goes because the cluster is put back into its first shape.
        after = self.of("topology", "after")
        until = after[-1].at if after else self.end
        state: dict[str, str] = {}
        for event in self.events:
            if event.kind in ("gone", "came") and event.at <= until and isinstance(event.data.get("identity"), str):
                state[str(event.data["identity"])] = event.kind
        return frozenset(Identity.parse(text) for text, kind in state.items() if kind == "gone")


def on_time(request: Request) -> Request:
    """A request as if the generator had sent it when it was due: that it did not says nothing of the app."""
    return replace(request, sent=request.scheduled, finished=max(request.scheduled, request.finished - request.lag))


def slowness_of(steady: Sequence[Request], expected: Expectations) -> Slowness:
    """What waits too long, by what is demanded and by the requests of the steady seconds."""
    good = sorted((on_time(r) for r in steady if not r.lost), key=lambda r: r.finished)
    usual = latency(good)
    gaps = [later.finished - earlier.finished for earlier, later in pairwise(good)]
    typical, most = (0.0, 0.0) if usual is None else (usual.p50, usual.p99)
    margin = _MARGIN
    if expected.longest_outage is not None:
        margin = max(_LEAST_MARGIN, min(_MARGIN, expected.longest_outage / 2))
    # A few requests hardly ever meet the slowest one in a hundred, so what varies may vary more than they show.
    margin += (most - typical) * max(0.0, 1 - len(good) / _ENOUGH)
    after = most + margin if expected.slow_after is None else expected.slow_after
    return Slowness(after, typical, most, max(gaps, default=math.inf))


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
    source = next((str(e.data.get("source", "")) for e in reversed(events) if e.kind == "expectations"), "")
    requests = tuple(request for request in history.requests if request.source == source)
    began = [e.at for e in events if e.kind == "traffic" and e.data.get("source") == source and source]
    if began:  # this traffic cannot have met earlier faults
        events = tuple(e for e in events if e.at >= began[0] or e.kind in ("expectations", "topology"))
    steady = [e.at for e in events if e.kind == "phase" and e.text == "steady"]
    begin = began[0] if began else steady[0] if steady else events[0].at
    end = _end(history, events, requests)
    if source:  # of what was sent after the question, only what was answered at once is known
        end = min(end, max(e.at for e in events if e.kind == "expectations"))
    asked = next((e.at for e in events if e.kind == "asked"), None)
    hit = None if asked is None else next((e.at for e in events if e.kind == "hit" and e.at >= asked), asked)
    inside = (request for request in requests if begin <= request.scheduled <= end)
    ordered = tuple(sorted(inside, key=lambda request: (request.scheduled, request.stream, request.index)))
    return Record(experiment, events, ordered, begin, end, asked, hit)


def run_event(history: History, experiment: str = "") -> Event | None:
    """The event that says what was under test: the experiment's own, or the last one before it began."""
    own = [e for e in history.events if e.kind == "run" and experiment and e.experiment == experiment]
    began = min((e.at for e in history.of(experiment)), default=math.inf) if experiment else math.inf
    common = [e for e in history.events if e.kind == "run" and not e.experiment and e.at <= began]
    return own[-1] if own else common[-1] if common else None


def warnings_of(history: History, experiment: str = "") -> tuple[ConfigWarning, ...]:
    """What was so when the experiment was about to break something; where no experiment is named, of all clusters."""
    own = [e for e in history.of(experiment) if e.kind == "configuration"] if experiment else []
    if not own:
        return warned_about(history, experiment)
    held = cast("list[dict[str, Json]]", own[-1].data.get("warnings") or [])
    return tuple(warning_from_json(data) for data in held)


def warned_about(history: History, experiment: str = "") -> tuple[ConfigWarning, ...]:
    """The warnings about the experiment's cluster, or about all clusters if no experiment is named."""
    run = run_event(history, experiment) if experiment else None
    runs = [e.at for e in history.events if e.kind == "run" and run is not None and e.at > run.at]
    begin, end = (-math.inf if run is None else run.at), min(runs, default=math.inf)
    found = (warning_from_json(e.data) for e in history.events if e.kind == "warning" and begin <= e.at < end)
    return tuple(dict.fromkeys(found))


def description_of(event: Event | None) -> ClusterDescription | None:
    """The cluster that a "run" event describes; None if it does not."""
    if event is None:
        return None
    try:
        return ClusterDescription(**_known(ClusterDescription, event.data))  # type: ignore[arg-type]
    except TypeError:
        return None


def expectations_from_json(data: Mapping[str, Json]) -> Expectations:
    """The expectations that `dataclasses.asdict` wrote; for what a newer version added see `unknown_demands`."""
    known = _known(Expectations, data)
    for name in ("replaced", "kept"):
        known[name] = tuple(str(selector) for selector in _list(known.get(name)))
    return Expectations(**known)  # type: ignore[arg-type]


def check_spec_from_json(data: Mapping[str, Json]) -> CheckSpec:
    """The description of a check that `check_spec_to_json` wrote."""
    arguments = data.get("arguments")
    return CheckSpec(
        str(data.get("name", "")), str(data.get("code", "")), arguments if isinstance(arguments, dict) else None
    )


def check_spec_to_json(spec: CheckSpec) -> dict[str, Json]:
    """As it stands in a history."""
    arguments = None if spec.arguments is None else dict(spec.arguments)
    return {"name": spec.name, "code": spec.code, "arguments": arguments}


def checked_from_json(data: Mapping[str, Json]) -> Checked:
    """What a check found, as `checked_to_json` wrote it."""

    def texts(name: str) -> tuple[str, ...]:
        return tuple(str(text) for text in _list(data.get(name)))

    return Checked(
        str(data.get("check", "")),
        missed=texts("missed"),
        certain=texts("certain"),
        unknown=texts("unknown"),
        traceback=str(data.get("traceback", "")),
        on_requests=bool(data.get("on_requests")),
    )


def checked_to_json(checked: Checked) -> dict[str, Json]:
    """As it stands in a history."""
    return {
        "check": checked.check,
        "missed": [*checked.missed],
        "certain": [*checked.certain],
        "unknown": [*checked.unknown],
        "traceback": checked.traceback,
        "on_requests": checked.on_requests,
    }


def _known(record: type, data: Mapping[str, Json]) -> dict[str, object]:
    names = {field.name for field in fields(record)}
    return {name: value for name, value in data.items() if name in names}


def _demands(value: object) -> bool:
    """Whether an expectation with that value demands something. A number does, zero as well."""
    return value is not None and value is not False and value not in ("", [])


def _list(value: object) -> list[object]:
    return list(value) if isinstance(value, (list, tuple)) else []


def _from_victim(event: Event) -> bool:
    return event.data.get("side") == "victim"


def _end(history: History, events: tuple[Event, ...], requests: tuple[Request, ...]) -> float:
    """The end of what is judged; without one, the last that was seen before something else began."""
    ended = [e.at for e in events if e.kind == "phase" and e.text in _JUDGED_UNTIL]
    if ended:
        return ended[0]
    last, name = events[-1].at, events[-1].experiment
    following = min((e.at for e in history.events if e.experiment not in ("", name) and e.at > last), default=math.inf)
    return max([last, *(r.scheduled for r in requests if r.scheduled < following)])
