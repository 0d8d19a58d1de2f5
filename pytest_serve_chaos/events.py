"""What happens in a run: one class for each kind of event.

Decisions are made by the class and its fields. `text` is one line for people, and nothing depends on it.
How an event stands in a file is the business of `json_records`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import ClassVar, Literal, TypeVar

from pytest_serve_chaos import clock
from pytest_serve_chaos.model import (
    Checked,
    CheckSpec,
    ClusterDescription,
    Component,
    ConfigWarning,
    Evidence,
    Expectations,
    Identity,
    Json,
    LogLine,
    PartDemands,
    PartName,
    Topology,
)
from pytest_serve_chaos.predicted import Prediction
from pytest_serve_chaos.usage import ProcessUsage

WORKERS = "workers"
"""What Ray's own autoscaler scales, as an event names it."""

SERVE = "Serve"
"""Serve itself, among the things of which `ServeSaid` has a status."""

SERVE_IS_SILENT = "does not answer"
"""Its status while its REST API does not answer. What it said before of all else is then no longer what it says."""


class Word(str, Enum):
    """A word of a closed list, as `enum.StrEnum` of Python 3.11 is."""

    __str__ = str.__str__


class Phase(Word):
    """The phases of an experiment, in their order."""

    STEADY = "steady"
    INJECT = "inject"
    WATCH = "watch"
    POST_RECOVERY = "post-recovery"
    GROWTH = "growth"
    HANDLES = "handles"
    DONE = "done"

    @property
    def is_judged(self) -> bool:
        """Whether its requests are judged: the post-recovery checks start and end replicas, and then all is over."""
        return self not in (Phase.POST_RECOVERY, Phase.GROWTH, Phase.HANDLES, Phase.DONE)


class Moment(Word):
    """When it was seen who is alive: in steady state, or when all was over."""

    BEFORE = "before"
    AFTER = "after"


def _now() -> float:
    return clock.now()


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened at a moment of the run.

    Attributes:
        text: One line for people.
        at: Monotonic seconds.
        experiment: The experiment that it belongs to, or "".
    """

    name: ClassVar[str] = ""
    """What its kind is called in a history, and in a timeline."""

    text: str
    at: float = field(default_factory=_now, kw_only=True)
    experiment: str = field(default="", kw_only=True)

    @property
    def kind(self) -> str:
        """What its kind is called in a history, for people and programs outside of this package."""
        return self.name


# -- the cluster and its configuration ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterReady(Event):
    """A cluster was created, or connected to.

    Attributes:
        description: None where the history does not say all of it.
        seed: Of all choices of the run.
        start_seconds: How long it took.
        host: The machine on which the tests ran: `has_cluster` (whether the cluster is there, too), `system`,
            `distribution`, `processors`, `memory` (bytes), as far as they are known; empty in older histories.
        profile_settings: By what the profile differs from Ray's defaults: `head` and `workers` (the environment) and
            `serve` (options), each setting -> value; empty where the cluster is not made with a profile.
    """

    name: ClassVar[str] = "run"
    description: ClusterDescription | None = None
    seed: int | None = None
    start_seconds: float | None = None
    host: Mapping[str, Json] = field(default_factory=dict)
    profile_settings: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Warned(Event):
    """Something in the cluster's configuration will turn a fault into an outage."""

    name: ClassVar[str] = "warning"
    warning: ConfigWarning


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigurationSeen(Event):
    """All warnings that hold when an experiment is about to break something."""

    name: ClassVar[str] = "configuration"
    warnings: tuple[ConfigWarning, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineSeen(Event):
    """What the processors of the machine that tests run on did in the seconds up to this moment.

    Attributes:
        seconds: How long that was.
        processors: How many there are.
        ours: Processors that this run used, with all of a cluster that is on this machine; 1.5 is one and a half.
        others: Processors that all other processes used.
        stolen: Processors that the hypervisor gave to other machines (steal time).
        waiting: The share of the time, 0 to 1, in which some process waited for a processor (PSI); None: the kernel
            does not say.
        delayed: Seconds per second, added up, in which threads of this run waited for a processor: those of pytest, and
            the main ones of all its other processes; None: the kernel does not say.
        has_cluster: Whether the cluster is on this machine, and is part of `ours`.
    """

    name: ClassVar[str] = "machine"
    seconds: float
    processors: int
    ours: float
    others: float
    stolen: float = 0.0
    waiting: float | None = None
    delayed: float | None = None
    has_cluster: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageSeen(Event):
    """What processes of the cluster use at this moment: columns, with a value for each process.

    Attributes:
        processes: Which processes.
        places: What each is, for people: ``controller``, ``proxy on worker-1``.
        pids: Their PIDs.
        memory: Bytes in memory that each shares with nobody.
        processor: Seconds of processor time since each began.
        descriptors: Open file descriptors.
        threads: Threads.
        connections: Sockets among the descriptors.
    """

    name: ClassVar[str] = "usage"
    processes: tuple[Identity, ...]
    places: tuple[str, ...]
    pids: tuple[int, ...]
    memory: tuple[int, ...]
    processor: tuple[float, ...]
    descriptors: tuple[int, ...]
    threads: tuple[int, ...]
    connections: tuple[int, ...]

    @classmethod
    def of(cls, at: float, seen: Sequence[ProcessUsage]) -> UsageSeen:
        """That this was seen at that moment."""
        return cls(
            f"{len(seen)} processes",
            at=at,
            processes=tuple(one.identity for one in seen),
            places=tuple(one.place for one in seen),
            pids=tuple(one.pid for one in seen),
            memory=tuple(one.memory for one in seen),
            processor=tuple(round(one.processor, 3) for one in seen),
            descriptors=tuple(one.descriptors for one in seen),
            threads=tuple(one.threads for one in seen),
            connections=tuple(one.connections for one in seen),
        )


# -- an experiment, up to the fault ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseBegan(Event):
    """An experiment enters a phase.

    Attributes:
        phase: None: one that only another version knows; the text names it.
    """

    name: ClassVar[str] = "phase"
    phase: Phase | None

    @classmethod
    def of(cls, phase: Phase) -> PhaseBegan:
        """That this phase begins now."""
        return cls(phase.value, phase=phase)


@dataclass(frozen=True, slots=True, kw_only=True)
class Demanded(Event):
    """What will be judged. The last one of an experiment counts.

    Attributes:
        expectations: The demands.
        source: Whose requests are judged.
        autoscaled: The deployments that Serve's autoscaler scales.
        checks: Those that the test brings.
        apps: The apps that are asked, if there are several; each is judged.
        names: The names of the requests, if there are several; each is judged as far as its requests show.
        about: Which apps the verdict is about, in words, if the Serve config has several.
        of_parts: What is demanded of some apps or names otherwise.
        unknown: The names of demands that a newer version wrote and this one does not know.
    """

    name: ClassVar[str] = "expectations"
    expectations: Expectations
    source: str = ""
    autoscaled: tuple[str, ...] = ()
    checks: tuple[CheckSpec, ...] = ()
    apps: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    about: str = ""
    of_parts: tuple[PartDemands, ...] = ()
    unknown: tuple[str, ...] = ()

    def of(self, part: PartName | None) -> Expectations:
        """What is demanded of one part; None: of all requests together."""
        own = next((one for one in self.of_parts if one.of == part), None)
        return self.expectations if own is None else own.within(self.expectations)


@dataclass(frozen=True, slots=True, kw_only=True)
class TopologySeen(Event):
    """Who is alive.

    Attributes:
        topology: Who.
        moment: None: at another one.
    """

    name: ClassVar[str] = "topology"
    topology: Topology
    moment: Moment | None

    @classmethod
    def of(cls, topology: Topology, moment: Moment) -> TopologySeen:
        """That this was seen, at that moment of an experiment."""
        return cls(moment.value, at=topology.at, topology=topology, moment=moment)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficBegan(Event):
    """Traffic begins.

    Attributes:
        source: The name of this traffic.
        rate: Requests per second; of several stages, that of the first.
        stages: All of them, as a user writes them; "" where there is one rate.
        arrivals: How requests follow each other.
        timeout: Seconds until a request is lost.
    """

    name: ClassVar[str] = "traffic"
    source: str = ""
    rate: float | None = None
    stages: str = ""
    arrivals: str = "constant"
    timeout: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StagesBegan(Event):
    """The stages of traffic begin: from then on their seconds count.

    Attributes:
        source: The name of this traffic.
    """

    name: ClassVar[str] = "stages"
    source: str = ""


@dataclass(frozen=True, slots=True)
class SteadyConfirmed(Event):
    """Steady state is confirmed; the time is that since when it held."""

    name: ClassVar[str] = "steady"


# -- the fault ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted(Event):
    """What the fault that comes next is expected to cost. No verdict depends on it.

    Attributes:
        prediction: What.
        injection: The number of the fault in the run.
    """

    name: ClassVar[str] = "prediction"
    prediction: Prediction
    injection: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultAsked(Event):
    """A fault was asked for.

    Attributes:
        fault: The name of its marker.
        injection: Its number in the run; None in a history of an older version.
        must_land: Whether it is an error if it does not land.
        held_for: Seconds after which it is healed by itself; 0: nothing heals it by itself.
    """

    name: ClassVar[str] = "asked"
    fault: str = ""
    injection: int | None = None
    must_land: bool = True
    held_for: float = 0.0


@dataclass(frozen=True, slots=True)
class VictimEnded(Event):
    """A victim that ends slowly ended: what was in flight on it until then is lost with it."""

    name: ClassVar[str] = "hit"


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceSeen(Event):
    """One sign that a fault landed."""

    name: ClassVar[str] = "evidence"
    side: Literal["victim", "cluster"] = "cluster"

    @property
    def evidence(self) -> Evidence:
        """The sign."""
        return Evidence(self.at, self.side, self.text)


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultLanded(Event):
    """There is enough evidence that a fault landed; the time is that of the victim's own sign.

    Attributes:
        victims: What it was aimed at.
        served: Good answers that the victims gave before to the traffic of the experiment, or by hand to the first of
            all that ran; None where they answer nothing themselves.
        served_others: Those that they gave to other traffic of the test, by its source.
        injection: Its number in the run; None in a history of an older version.
        spared: Whether it leaves the victims alive, so that one that goes may be gone because an autoscaler stopped it.
    """

    name: ClassVar[str] = "landed"
    victims: tuple[Identity, ...] = ()
    served: int | None = None
    served_others: Mapping[str, int] = field(default_factory=dict)
    injection: int | None = None
    spared: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultHealed(Event):
    """What a fault broke was put back.

    Attributes:
        injection: Its number in the run; None in a history of an older version.
    """

    name: ClassVar[str] = "healed"
    injection: int | None = None


# -- what became of the cluster ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentGone(Event):
    """A component is no longer there."""

    name: ClassVar[str] = "gone"
    component: Component


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentCame(Event):
    """A component is there that was not."""

    name: ClassVar[str] = "came"
    component: Component


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildrenSeen(Event):
    """What a replica has started itself, of which a fault hits something; again whenever that is seen to have changed.

    Attributes:
        parent: The replica.
        processes: All processes below it, those that its children have started too.
        titles: What each is called, without its arguments.
        ages: Seconds since each began; 0.0 where that is unknown.
        struck: Those of them that the fault is aimed at.
    """

    name: ClassVar[str] = "children"
    parent: Identity
    processes: tuple[Identity, ...]
    titles: tuple[str, ...]
    ages: tuple[float, ...] = ()
    struck: tuple[Identity, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescaled(Event):
    """Another number is wanted: by Serve's autoscaler or an update, of replicas, or by Ray's autoscaler, of workers.

    Attributes:
        what: ``app#Deployment``, or `WORKERS`.
        before: How many it wanted before.
        now: How many it wants now.
    """

    name: ClassVar[str] = "rescaled"
    what: str
    before: int
    now: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeSaid(Event):
    """Serve says something else than before of its apps, deployments or proxies, or does not answer.

    The first of an experiment has all that it says.

    Attributes:
        statuses: What changed: ``app default``, ``deployment default#Echo``, ``proxy on head`` or `SERVE` -> its status
            in Serve's own word; "" for what it no longer names.
    """

    name: ClassVar[str] = "serve_said"
    statuses: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class HAProxyReloaded(Event):
    """Another process of HAProxy takes the requests of a proxy that stays the same.

    Attributes:
        proxy: Its name.
        pid: The PID of that process.
    """

    name: ClassVar[str] = "reloaded"
    proxy: str
    pid: int | None


@dataclass(frozen=True, slots=True)
class RedundancyBack(Event):
    """The shape is that of the steady state again."""

    name: ClassVar[str] = "redundancy_back"


@dataclass(frozen=True, slots=True)
class RedundancyMissing(Event):
    """The shape did not come back in time, or does not hold at the end."""

    name: ClassVar[str] = "redundancy_missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyStale(Event):
    """A proxy no longer receives the controller's updates.

    Attributes:
        proxy: Its name.
    """

    name: ClassVar[str] = "proxy_deaf"
    proxy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PostRecoveryChecking(Event):
    """A post-recovery check that the test asked for begins, or ends.

    Attributes:
        begins: Whether it begins.
        replaces: Whether it replaces replicas that serve.
    """

    name: ClassVar[str] = "checking"
    begins: bool = False
    replaces: bool = False


@dataclass(frozen=True, slots=True)
class Settled(Event):
    """A post-recovery check passed."""

    name: ClassVar[str] = "settled"


@dataclass(frozen=True, slots=True)
class NotSettled(Event):
    """A post-recovery check failed."""

    name: ClassVar[str] = "unsettled"


@dataclass(frozen=True, slots=True)
class SettlingUnknown(Event):
    """It is unknown whether a post-recovery check would pass."""

    name: ClassVar[str] = "untold"


# -- how it ended ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NotStarted(Event):
    """Nothing was broken, and why."""

    name: ClassVar[str] = "not_started"


@dataclass(frozen=True, slots=True)
class Skipped(Event):
    """The backend, or this cluster, cannot do what the test wants."""

    name: ClassVar[str] = "skipped"


@dataclass(frozen=True, slots=True)
class BrokenOff(Event):
    """An error ended the experiment before its verdict."""

    name: ClassVar[str] = "broken_off"


@dataclass(frozen=True, slots=True)
class RunAgain(Event):
    """A plugin ran its test again, so that the later experiment counts."""

    name: ClassVar[str] = "run_again"


@dataclass(frozen=True, slots=True)
class TrialEnded(Event):
    """A trial of a test that is run several times has ended.

    Attributes:
        of: The name of the experiment, the same in all trials.
        number: Which trial it was, from 1 on.
        planned: How many trials there should be.
        allowed: How many of them may fail.
        outcome: What it showed.
    """

    name: ClassVar[str] = "trial"

    of: str = ""
    number: int = 1
    planned: int = 1
    allowed: int = 0
    outcome: Literal["passed", "failed", "inconclusive"] = "passed"


@dataclass(frozen=True, slots=True)
class Problem(Event):
    """Something is wrong with the cluster that no figure shows: a leak, a zombie, a second controller."""

    name: ClassVar[str] = "problem"


@dataclass(frozen=True, slots=True)
class Doubt(Event):
    """Something that had to be seen could not be."""

    name: ClassVar[str] = "doubt"


@dataclass(frozen=True, slots=True)
class OwnerChanged(Event):
    """The owner of an external cluster changed it meanwhile, or it is unknown whether they did."""

    name: ClassVar[str] = "owner_changed"


@dataclass(frozen=True, slots=True)
class Remark(Event):
    """Something that the reader of the verdict must know."""

    name: ClassVar[str] = "remark"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckDone(Event):
    """A check that the test brought was judged."""

    name: ClassVar[str] = "checked"
    found: Checked


@dataclass(frozen=True, slots=True)
class Judged(Event):
    """The verdict; the text is its outcome."""

    name: ClassVar[str] = "verdict"


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored(Event):
    """The cluster has its first shape again, or is given up.

    Attributes:
        seconds: How long it took.
    """

    name: ClassVar[str] = "restored"
    seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogsKept(Event):
    """The test is over, and its logs are there.

    Attributes:
        directory: Relative to that of the run.
    """

    name: ClassVar[str] = "logs"
    directory: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LogsExcerpted(Event):
    """Some of what was logged around the fault of an experiment; secrets in it are masked.

    Attributes:
        lines: In order of time, with their seconds from the fault.
        left_out: How many lines of the same time are not among them.
    """

    name: ClassVar[str] = "log_lines"
    lines: tuple[LogLine, ...] = ()
    left_out: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeatable(Event):
    """How the test of an experiment is run again; the text is the command.

    Attributes:
        test: The test, as pytest takes it.
        seed: Of all choices of the run.
        options: What was set, wherever, as options of the command line; secrets are masked.
        on_local: Those of them that the local backend takes.
    """

    name: ClassVar[str] = "repeat"
    test: str = ""
    seed: int | None = None
    options: tuple[str, ...] = ()
    on_local: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Note(Event):
    """Anything else that helps to read the record."""

    name: ClassVar[str] = "note"


NOT_PROVED = "the fault is not proved"
"""How a note begins that ends the wait for a fault to land."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherEvent(Event):
    """An event of a kind that only another version knows.

    Attributes:
        called: What its kind is called.
        data: What belongs to it.
    """

    called: str
    data: Mapping[str, Json]

    @property
    def kind(self) -> str:
        """What its kind is called."""
        return self.called


EVENTS: tuple[type[Event], ...] = (
    ClusterReady,
    Warned,
    ConfigurationSeen,
    MachineSeen,
    UsageSeen,
    PhaseBegan,
    Demanded,
    TopologySeen,
    TrafficBegan,
    StagesBegan,
    SteadyConfirmed,
    Predicted,
    FaultAsked,
    VictimEnded,
    EvidenceSeen,
    FaultLanded,
    FaultHealed,
    ComponentGone,
    ComponentCame,
    ChildrenSeen,
    Rescaled,
    ServeSaid,
    HAProxyReloaded,
    RedundancyBack,
    RedundancyMissing,
    ProxyStale,
    PostRecoveryChecking,
    Settled,
    NotSettled,
    SettlingUnknown,
    NotStarted,
    Skipped,
    BrokenOff,
    RunAgain,
    TrialEnded,
    Problem,
    Doubt,
    OwnerChanged,
    Remark,
    CheckDone,
    Judged,
    Restored,
    LogsKept,
    LogsExcerpted,
    Repeatable,
    Note,
)
"""All kinds of events that this version writes, in the order in which the reference describes them."""

E = TypeVar("E", bound=Event)


def of_kind(kind: type[E], events: Iterable[Event]) -> tuple[E, ...]:
    """Those of the events that are of that kind, in their order."""
    return tuple(event for event in events if isinstance(event, kind))


def has(kinds: type[Event] | tuple[type[Event], ...], events: Iterable[Event]) -> bool:
    """Whether one of the events is of that kind, or of one of those kinds."""
    return any(isinstance(event, kinds) for event in events)
