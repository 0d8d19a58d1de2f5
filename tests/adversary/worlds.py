"""What a world is: an app, what happened to it and when, who asked it, and what was demanded of it.

All times are seconds from the fault, all latencies seconds. A world says only what differs from a sound app that nobody
touched, so that one that fails can be read.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, field, fields
from typing import Literal, Protocol, TypeAlias

from pytest_serve_chaos.model import Expectations
from pytest_serve_chaos.schedule import Schedule

_GOLDEN = 0.6180339887498949
"""Its multiples fill an interval evenly, so that a latency that follows them is drawn without a generator."""


class Printer(Protocol):
    """Hypothesis' own."""

    def text(self, text: str) -> None: ...


class Readable:
    """Shows only the fields that are not what they are by default."""

    def __repr__(self) -> str:
        shown = []
        for one in fields(self):  # type: ignore[arg-type]
            default = one.default_factory() if one.default_factory is not MISSING else one.default
            value = getattr(self, one.name)
            if value != default:
                shown.append(f"{one.name}={value!r}")
        return f"{type(self).__name__}({', '.join(shown)})"

    def _repr_pretty_(self, printer: Printer, cycle: bool) -> None:
        """How hypothesis shows it."""
        printer.text(repr(self))


@dataclass(frozen=True, repr=False)
class App(Readable):
    """How long a sound app takes.

    Attributes:
        takes: What most answers take.
        jitter: By which share of that they differ, up and down.
        long: What one in `one_in` answers takes.
        one_in: 0: no answer is long.
        cold: What each answer takes before the steady seconds, while the app warms up; 0: as later.
    """

    takes: float = 0.01
    jitter: float = 0.0
    long: float = 0.0
    one_in: int = 0
    cold: float = 0.0

    def is_long(self, index: int) -> bool:
        """Whether the request with that number is one of the long ones."""
        return self.one_in > 0 and index % self.one_in == self.one_in - 1

    def latency(self, index: int) -> float:
        """What the request with that number takes, if all is well."""
        if self.is_long(index):
            return self.long
        return self.takes * (1 + self.jitter * (2 * (index * _GOLDEN % 1) - 1))

    @property
    def least(self) -> float:
        """The quickest answer."""
        return self.takes * (1 - self.jitter)

    @property
    def most(self) -> float:
        """The slowest of the usual answers."""
        return self.takes * (1 + self.jitter)

    @property
    def longest(self) -> float:
        """The slowest of all answers."""
        return max(self.most, self.long)


Kind: TypeAlias = Literal["refuses", "swallows", "holds", "queues", "fails", "lies", "slow", "ramp"]


@dataclass(frozen=True, repr=False)
class Effect(Readable):
    """What the app does to those who ask from `begins` on and before `ends`.

    Attributes:
        does: ``refuses``: no connection. ``swallows``: no answer ever. ``holds``: answers wait until the end.
            ``queues``: the app begins to work on them at the end. ``fails``: HTTP 500. ``lies``: a wrong answer.
            ``slow``: `by` seconds more. ``ramp``: more and more, from 0 to `by`.
        every: To each n-th request only.
        cuts: What it hits and is in flight when it begins dies. What holds or queues keeps those too.
    """

    does: Kind
    begins: float
    ends: float
    every: int = 1
    by: float = 0.0
    cuts: bool = False

    def hits(self, index: int) -> bool:
        """Whether it hits the request with that number."""
        return index % self.every == 0

    @property
    def stalls(self) -> bool:
        """Whether requests wait for its end."""
        return self.does in ("holds", "queues")

    @property
    def loses(self) -> bool:
        """Whether whom it hits gets no good answer."""
        return self.does in ("refuses", "swallows", "fails", "lies")


@dataclass(frozen=True, repr=False)
class Fault(Readable):
    """A fault that was asked for.

    Attributes:
        asked: When.
        takes: Seconds until the victim ended, of one that ends slowly; 0: at once.
        landed: Whether there were signs of it.
        must_land: False: the test goes on without it.
        served: Answers that the victim gave before.
    """

    asked: float = 0.0
    takes: float = 0.0
    landed: bool = True
    must_land: bool = True
    served: int = 100


@dataclass(frozen=True, repr=False)
class Span(Readable):
    """From one moment on, and before another."""

    begins: float
    ends: float


@dataclass(frozen=True, repr=False)
class Persistent(Readable):
    """Persistent connections, one to the proxy of each node, with requests that wait for each other.

    Attributes:
        rate: Requests per second on each.
        lost: When requests on a connection are lost, by the node of its proxy.
        hit: The node that the fault hit; its connection may be away until redundancy is back.
        redundancy: When that was.
    """

    rate: float = 2.0
    lost: tuple[tuple[str, Span], ...] = ()
    hit: str = "worker-1"
    redundancy: float = 1.0


@dataclass(frozen=True, repr=False)
class Demands(Readable):
    """What is demanded of the requests; see `model.Expectations`."""

    availability: float | None = None
    confidence: float | None = None
    window: float = 20.0
    longest_outage: float | None = None
    slow_after: float | None = None
    lost_beyond_in_flight: int | None = None
    p99_ratio: float | None = None
    traffic_back: float | None = None
    persistent_availability: float | None = None

    @property
    def expectations(self) -> Expectations:
        """As a test writes them down."""
        return Expectations(**{one.name: getattr(self, one.name) for one in fields(self)})

    @property
    def any_of_the_requests(self) -> bool:
        """Whether anything is demanded of requests on fresh connections."""
        found = (self.availability, self.longest_outage, self.lost_beyond_in_flight, self.p99_ratio, self.traffic_back)
        return any(demand is not None for demand in found)


@dataclass(frozen=True, repr=False)
class World(Readable):
    """All of it.

    Attributes:
        rate: Requests per second, each on a connection of its own.
        uneven: Stages or Poisson arrivals in place of that rate; the stages begin with the steady seconds.
        seed: Of the Poisson arrivals.
        phase: How far the schedule is, at the moment of the fault, from one request to the next.
        timeout: After which a request is lost.
        app: What is asked.
        warm_up: Seconds of traffic before the steady ones.
        steady: Steady seconds before the fault.
        after: Seconds of traffic after it.
        faults: The first of them at 0.
        effects: What users felt, in order of time; no two at the same time.
        stood_still: When the load generator did: what was due then was sent at its end.
        unsent: When it sent nothing at all of what was due.
        persistent: None: only fresh connections.
        by_hand: Judged by the test itself, by its own traffic; else an experiment.
        neighbour: Other traffic in the same history, to another app: ``lost`` or ``well``.
        earlier: Whether an experiment before this one lost everything; and before the traffic of a test by hand began,
            a fault of the same test did nothing.
        demands: Of the verdict.
    """

    rate: float = 50.0
    uneven: Schedule | None = None
    seed: int = 0
    phase: float = 0.0
    timeout: float = 5.0
    app: App = field(default_factory=App)
    warm_up: float = 0.0
    steady: float = 3.0
    after: float = 20.0
    faults: tuple[Fault, ...] = (Fault(),)
    effects: tuple[Effect, ...] = ()
    stood_still: tuple[Span, ...] = ()
    unsent: tuple[Span, ...] = ()
    persistent: Persistent | None = None
    by_hand: bool = False
    neighbour: Literal["", "lost", "well"] = ""
    earlier: bool = False
    demands: Demands = field(default_factory=Demands)

    @property
    def spacing(self) -> float:
        """Seconds between two requests."""
        return 1 / self.rate

    @property
    def hit(self) -> float:
        """Until when the victim worked."""
        return next((fault.asked + fault.takes for fault in self.faults if fault.takes), 0.0)
