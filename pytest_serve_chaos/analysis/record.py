"""One experiment of a history: its events in order, and the requests of its time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import cast

from pytest_serve_chaos.analysis.configuration import ConfigWarning, warning_from_json
from pytest_serve_chaos.errors import HistoryError
from pytest_serve_chaos.history import History, topology_from_json
from pytest_serve_chaos.model import (
    ClusterDescription,
    Event,
    Evidence,
    Expectations,
    Identity,
    Json,
    Request,
    Topology,
)


@dataclass(frozen=True, slots=True)
class Record:
    """What a history has of one experiment.

    Attributes:
        experiment: Its name.
        events: In order of time.
        requests: Those scheduled while it ran, in order of their scheduled times.
        begin: When its steady state began; monotonic seconds, as all times.
        end: When the observation ended.
        asked: When the fault was asked for: the moment of the fault. None if it never was.
        struck: The latest moment at which a request could be in flight on a victim that was not yet hit: the first
            sign from the victim's side, or else the landing.
    """

    experiment: str
    events: tuple[Event, ...]
    requests: tuple[Request, ...]
    begin: float
    end: float
    asked: float | None
    struck: float | None

    def of(self, kind: str, text: str | None = None) -> tuple[Event, ...]:
        """Its events of that kind (and that text)."""
        return tuple(e for e in self.events if e.kind == kind and text in (None, e.text))

    def first(self, kind: str, *, since: float = -math.inf) -> Event | None:
        """Its first event of that kind at or after a moment."""
        return next((e for e in self.of(kind) if e.at >= since), None)

    def after_fault(self, kind: str) -> float | None:
        """Seconds from the fault to the first such event after the last injection; None: it never came."""
        asked = self.of("asked")
        if self.asked is None or not asked:
            return None
        event = self.first(kind, since=asked[-1].at)
        return None if event is None else event.at - self.asked

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


def read_record(history: History, experiment: str) -> Record:
    """What `history` has of that experiment.

    Raises:
        HistoryError: It has nothing of it.
    """
    events = tuple(sorted(history.of(experiment), key=lambda event: event.at))
    if not events:
        raise HistoryError(
            f"the history has no experiment {experiment!r}",
            looked_at=[f"its experiments: {', '.join(history.experiments()) or 'none'}"],
        )
    requests = history.requests
    steady = [e.at for e in events if e.kind == "phase" and e.text == "steady"]
    begin = steady[0] if steady else events[0].at
    end = _end(history, events, requests)
    asked = next((e.at for e in events if e.kind == "asked"), None)
    struck = None if asked is None else _struck(events, asked)
    inside = (request for request in requests if begin <= request.scheduled <= end)
    ordered = tuple(sorted(inside, key=lambda request: (request.scheduled, request.stream, request.index)))
    return Record(experiment, events, ordered, begin, end, asked, struck)


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
    """What was warned about: of the experiment's cluster, or where no experiment is named of all clusters."""
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
    """The expectations that `dataclasses.asdict` wrote; what a newer version added is left out."""
    known = _known(Expectations, data)
    for name in ("replaced", "kept"):
        known[name] = tuple(str(selector) for selector in _list(known.get(name)))
    return Expectations(**known)  # type: ignore[arg-type]


def _known(record: type, data: Mapping[str, Json]) -> dict[str, object]:
    names = {field.name for field in fields(record)}
    return {name: value for name, value in data.items() if name in names}


def _list(value: object) -> list[object]:
    return list(value) if isinstance(value, (list, tuple)) else []


def _from_victim(event: Event) -> bool:
    return event.data.get("side") == "victim"


def _struck(events: tuple[Event, ...], asked: float) -> float:
    # A sign from the cluster's side may come a minute late; what is lost meanwhile was not in flight on the victim.
    signs = (e for e in events if e.kind == "landed" or (e.kind == "evidence" and _from_victim(e)))
    return min((e.at for e in signs if e.at >= asked), default=asked)


def _end(history: History, events: tuple[Event, ...], requests: tuple[Request, ...]) -> float:
    """The end of what is judged; without one, the last that was seen before something else began."""
    ended = [e.at for e in events if e.kind == "phase" and e.text in ("handles", "done")]
    if ended:
        return ended[0]
    last, name = events[-1].at, events[-1].experiment
    following = min((e.at for e in history.events if e.experiment not in ("", name) and e.at > last), default=math.inf)
    return max([last, *(r.scheduled for r in requests if r.scheduled < following)])
