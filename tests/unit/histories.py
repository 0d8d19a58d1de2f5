"""Histories for tests: an experiment as it happened, in seconds from its fault."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pytest_serve_chaos.analysis.trials import TrialOutcome
from pytest_serve_chaos.events import (
    Demanded,
    Event,
    FaultLanded,
    Moment,
    Phase,
    PhaseBegan,
    TopologySeen,
    TrialEnded,
)
from pytest_serve_chaos.history import History
from pytest_serve_chaos.json_records import event_from_json
from pytest_serve_chaos.model import Component, Expectations, Identity, Json, Request, Role, Topology

FAULT = 1000.0
"""The moment of the fault on the clock of these histories."""

HEAD_PARTS = ("head", "gcs", "controller", "proxy@head")
"""What a cluster gets anew when it loses its head."""


def written(kind: str, text: str, *, at: float, data: Mapping[str, Json], experiment: str = "") -> Event:
    """The event that stands so in the file of a history."""
    return event_from_json({"at": at, "kind": kind, "text": text, "experiment": experiment, "data": dict(data)})


def request(at: float, error: str | None = None, *, takes: float = 0.008, lag: float = 0.0) -> Request:
    return Request(0, "fresh", at, at + lag, at + takes, status=None if error else 200, error=error)


def component(role: Role, node: str, *, incarnation: int = 1, number: int = 0) -> Component:
    pid = 100 * (1 + ("head", "worker-1", "worker-2").index(node)) + 10 * len(role) + number
    identity = Identity("process", ("boot", str(pid), str(incarnation)))
    deployment = "default#SleepyPid" if role == "replica" else None
    return Component(role, node, identity, pid=pid, deployment=deployment)


def cluster(*, new: Collection[str] = (), without: Collection[str] = ()) -> Topology:
    """A head, and two workers with two replicas each.

    Args:
        new: What is another incarnation than usual: `role`, or `role@node`.
        without: What is not there.
    """
    parts: list[tuple[Role, str, int]] = [("head", "head", 0), ("gcs", "head", 0), ("controller", "head", 0)]
    parts += [("worker", "worker-1", 0), ("worker", "worker-2", 0)]
    parts += [("proxy", node, 0) for node in ("head", "worker-1", "worker-2")]
    parts += [("replica", node, number) for node in ("worker-1", "worker-2") for number in (0, 1)]

    def named(role: str, node: str, names: Collection[str]) -> bool:
        return role in names or f"{role}@{node}" in names

    return Topology(
        0.0,
        tuple(
            component(role, node, incarnation=2 if named(role, node, new) else 1, number=number)
            for role, node, number in parts
            if not named(role, node, without)
        ),
    )


@dataclass
class Story:
    """An experiment, all well unless told otherwise: 50 requests/s from -10 s to 60 s, the fault at 0.

    Every time that is given to it is in seconds from the fault.
    """

    experiment: str = "head_failure"
    expectations: Expectations = field(default_factory=Expectations)
    rate: float = 50.0
    begin: float = -10.0
    traffic_until: float = 60.0
    lag: float = 0.0
    before: Topology | None = field(default_factory=cluster)
    after: Topology | None = field(default_factory=lambda: cluster(new=HEAD_PARTS))
    events: list[Event] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.add(self.begin, PhaseBegan.of(Phase.STEADY))
        self.add(self.begin, Demanded("what is demanded", expectations=self.expectations))
        self.add(-0.01, PhaseBegan.of(Phase.INJECT))
        self.event(0.0, "asked", "SIGKILL to the head")
        self.event(0.02, "evidence", "14 processes are gone", side="victim")
        self.event(8.0, "evidence", "the GCS says DEAD", side="cluster")
        victims = (component("head", "head").identity,)
        self.add(8.0, FaultLanded("the head is down", victims=victims, served=100))
        self.add(8.0, PhaseBegan.of(Phase.WATCH))
        self.event(19.8, "redundancy_back", "6 nodes, replicas and proxies")
        self.event(19.8, "phase", "settle")
        self.event(21.0, "settled", "3 of 3 proxies hear the controller")
        self.add(60.0, PhaseBegan.of(Phase.DONE))
        for moment, at, topology in ((Moment.BEFORE, -0.1, self.before), (Moment.AFTER, 59.0, self.after)):
            if topology is not None:
                self.add(at, TopologySeen.of(topology, moment))
        first, last = round(self.begin * self.rate), round(self.traffic_until * self.rate)
        self.requests = [request(FAULT + i / self.rate, lag=self.lag) for i in range(first, last + 1)]

    def add(self, at: float, event: Event) -> Story:
        self.events.append(replace(event, at=FAULT + at, experiment=self.experiment))
        return self

    def event(self, at: float, kind: str, text: str, **data: Json) -> Story:
        """Adds an event as it stands in a file."""
        return self.add(at, written(kind, text, at=at, data=data))

    def without(self, *kinds: str) -> Story:
        """Takes events away."""
        self.events = [event for event in self.events if event.kind not in kinds]
        return self

    def without_text(self, *texts: str) -> Story:
        """Takes events with those texts away."""
        self.events = [event for event in self.events if event.text not in texts]
        return self

    def until(self, end: float) -> Story:
        """Ends the observation early: nothing that comes later is in the history."""
        self.events = [event for event in self.events if event.at <= FAULT + end]
        self.requests = [request for request in self.requests if request.scheduled <= FAULT + end]
        return self.event(end, "phase", "done")

    def lose(
        self, start: float, end: float, *, error: str = "ReadTimeout", every: int = 1, takes: float = 5.0
    ) -> Story:
        """Loses every n-th request that is scheduled from `start` on and before `end`."""
        inside = [i for i, r in enumerate(self.requests) if start - 1e-6 <= r.scheduled - FAULT < end - 1e-6]
        for i in inside[::every]:
            self.requests[i] = request(self.requests[i].scheduled, error, takes=takes, lag=self.lag)
        return self

    def slow(self, start: float, end: float, takes: float) -> Story:
        """Answers all requests scheduled in that time well, and late."""
        inside = [i for i, r in enumerate(self.requests) if start - 1e-6 <= r.scheduled - FAULT < end - 1e-6]
        for i in inside:
            self.requests[i] = request(self.requests[i].scheduled, takes=takes)
        return self

    def history(self, path: Path | None = None) -> History:
        history = History(path)
        self.add_to(history)
        history.close()
        return history

    def add_to(self, history: History, *, later: float = 0.0) -> None:
        """Adds it to a history, moved by `later` seconds."""
        for e in self.events:
            history.add(replace(e, at=e.at + later))
        for r in self.requests:
            sent = None if r.sent is None else r.sent + later
            moved = replace(r, scheduled=r.scheduled + later, sent=sent, finished=r.finished + later)
            history.add_request(moved)


def head_failure(expectations: Expectations | None = None) -> Story:
    """The head dies, and takes the three requests with it that it had in flight."""
    return Story(expectations=expectations or Expectations()).lose(-0.04, 0.02, error="RemoteProtocolError", takes=0.1)


def node_failure(expectations: Expectations | None = None) -> Story:
    """A node dies, and every third request is sent to it for 24 s."""
    after = cluster(new=("worker@worker-2", "proxy@worker-2", "replica@worker-2"))
    return Story("node_failure", expectations or Expectations(), after=after).lose(0.0, 24.0, every=3)


def deaf_controller(expectations: Expectations | None = None) -> Story:
    """The controller comes back as another actor, and no proxy hears it; not one request is lost."""
    story = Story("controller_failure", expectations or Expectations(), after=cluster(new=("controller",)))
    story.without("settled")
    for proxy in ("proxy on head", "proxy on worker-1", "proxy on worker-2"):
        story.event(30.0, "proxy_deaf", f"{proxy} is deaf", proxy=proxy)
    return story.event(30.0, "unsettled", "a new route was not served by them within 10 s (ray#63784)")


def idle_worker() -> Story:
    """A worker dies that never answered anything."""
    story = Story("worker_failure").without("landed")
    victims: list[Json] = [str(component("worker", "worker-2").identity)]
    return story.event(0.05, "landed", "worker-2 is down", victims=victims, served=0)


def not_started() -> Story:
    """The steady state never came, so nothing was broken."""
    story = Story("worker_failure").without("asked", "evidence", "landed", "redundancy_back", "settled", "topology")
    return story.event(5.0, "not_started", "the pod held no replica and answered nothing before the fault")


def trials(outcomes: Sequence[TrialOutcome], *, planned: int | None = None, allowed: int = 0) -> list[Story]:
    """The stories of a test that was run in trials: those that failed lost requests for a second."""
    found = []
    for number, outcome in enumerate(outcomes, start=1):
        expectations = Expectations(longest_outage=0.2)
        story = Story(f"head_failure-{number}", expectations).lose(0.0, 1.0 if outcome == "failed" else 0.0)
        ended = TrialEnded(
            f"trial {number}", of="head_failure", number=number, planned=planned or len(outcomes), allowed=allowed,
            outcome=outcome,
        )  # fmt: skip
        found.append(story.add(61.0, ended))
    return found
