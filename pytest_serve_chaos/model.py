"""The records that the layers hand to each other: what was alive, what was asked, what was sent and what was judged."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

Role: TypeAlias = Literal["head", "worker", "gcs", "raylet", "controller", "proxy", "replica", "redis"]
ROLES: tuple[Role, ...] = ("head", "worker", "gcs", "raylet", "controller", "proxy", "replica", "redis")

Outcome: TypeAlias = Literal["passed", "failed", "inconclusive", "measured", "unfinished"]

HEAD = "head"
"""The name of the node that carries the GCS and the controller."""

MANAGER_FROZEN = "manager frozen"
"""The state of a proxy whose manager is stopped, while its HAProxy goes on."""


NOT_READY = "NotReady"
"""The state of a head or a worker whose pod runs, and is not Ready."""


# -- who is alive -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Identity:
    """Tells one incarnation of a thing from every other: equal only if it is the very same.

    A process is (boot id, PID, start time in clock ticks), a container (pod UID, container id, PID), an actor
    (actor id, number of restarts or PID). Never a PID alone: PIDs repeat across pods, and after a while on a host.
    """

    kind: Literal["process", "container", "actor", "pod"]
    parts: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.kind}:{'/'.join(self.parts)}"

    @property
    def pid(self) -> int | None:
        """The PID of a process, in its own PID namespace; None for anything else."""
        return int(self.parts[-2]) if self.kind == "process" else None

    @classmethod
    def parse(cls, text: str) -> Identity:
        """The identity that `str()` gave."""
        kind, _, parts = text.partition(":")
        if kind not in ("process", "container", "actor", "pod"):
            raise ValueError(f"not an identity: {text!r}")
        return cls(kind, tuple(parts.split("/")))  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Component:
    """One living part of a Serve cluster.

    Attributes:
        role: What part it plays. A `head` or a `worker` is the node itself (a session, a pod).
        node: The name of the node that it is on: ``head``, ``worker-1``; for Redis outside of Ray's nodes, ``redis``.
        identity: Which incarnation it is.
        pid: The PID as Ray reports it (in its own PID namespace), for people.
        actor_id: Ray's actor id, where it is an actor and the id is known.
        deployment: ``app#Deployment``, for replicas.
        replica: Serve's replica id, where known.
        state: Ray's or Kubernetes' own word for its state.
        machine: For head, workers and Redis in pods, the Kubernetes node under them, for people; it identifies nothing.
        serving: For a proxy whose manager has a process of its own to take requests (HAProxy): which process that is
            now. It identifies nothing: each reload replaces it.
    """

    role: Role
    node: str
    identity: Identity
    pid: int | None = None
    actor_id: str | None = None
    deployment: str | None = None
    replica: str | None = None
    state: str = ""
    machine: str | None = None
    serving: Identity | None = None

    @property
    def name(self) -> str:
        """The name for people: ``controller``, ``proxy on worker-1``, ``replica default#SleepyPid on worker-2``."""
        if self.role in ("head", "worker", "redis"):
            return self.node
        if self.role == "replica":
            return f"replica {self.deployment} on {self.node}"
        if self.role in ("controller", "gcs"):
            return self.role
        return f"{self.role} on {self.node}"


@dataclass(frozen=True, slots=True)
class Topology:
    """Who was alive at one moment.

    Attributes:
        at: Monotonic seconds.
        components: All that was seen.
        sources: What answered: ``processes``, ``actors``, ``serve``, ``pods``.
        pending: Replicas (``app#Deployment`` -> number) that Serve wants and that are not running, where known.
        down: Nodes that should be there and are not -> the backend's own word for why, where it has one.
        wanted: Replicas (``app#Deployment`` -> number) that Serve wants, where known, and under ``workers`` the workers
            that Ray's autoscaler wants.
    """

    at: float
    components: tuple[Component, ...]
    sources: tuple[str, ...] = ()
    pending: Mapping[str, int] = field(default_factory=dict)
    down: Mapping[str, str] = field(default_factory=dict)
    wanted: Mapping[str, int] = field(default_factory=dict)

    def of(self, role: Role, *, on: str | None = None, deployment: str | None = None) -> tuple[Component, ...]:
        """The components of a role; `on` is a node's name, ``workers`` (all but the head) or None for all."""
        return tuple(
            c
            for c in self.components
            if c.role == role
            and (on is None or c.node == on or (on == "workers" and c.node != HEAD))
            and (deployment is None or deployment in (c.deployment, (c.deployment or "").partition("#")[2]))
        )

    def find(self, identity: Identity) -> Component | None:
        """The component with that identity, if it is alive."""
        return next((c for c in self.components if c.identity == identity), None)


# -- traffic ----------------------------------------------------------------------------------------------------


UNFINISHED = "Unfinished"
"""The error of a request that has no answer yet, or had none when the generator stopped waiting."""


@dataclass(frozen=True, slots=True)
class Request:
    """One scheduled request. Times are monotonic seconds.

    Attributes:
        index: Its number in its stream.
        stream: ``fresh`` (a new connection for it alone), or ``kept:<n>`` (a persistent connection).
        scheduled: When the schedule wanted it sent. Latency counts from here.
        sent: When it was really sent; None if it never was.
        finished: When the answer, the error or the timeout came; for a request in flight, the moment of the question.
        status: The HTTP status, where there was an answer.
        error: None if it was answered well; else httpx's class of the error, ``HTTP 500``, ``WrongAnswer`` or
            `UNFINISHED`.
        replica: The replica that answered, where the answer says so.
        node: The Ray node (its id) that answered, where the answer says so.
        parent: The replica that asked the one that answered through a handle, where the answer says so.
        path: Which way it took: ``proxies`` (the shared address), or the name of the proxy of a persistent connection.
        source: Which traffic sent it: "" is the experiment's own, and each further traffic has a name of its own.
        app: The app that it asked, where its traffic goes to several.
        name: What its kind of request is called, where it has a name.
        request_id: The ``x-request-id`` by which logs name a lost request, where its answer or itself carries one.
    """

    index: int
    stream: str
    scheduled: float
    sent: float | None
    finished: float
    status: int | None = None
    error: str | None = None
    replica: str | None = None
    node: str | None = None
    parent: str | None = None
    path: str = "proxies"
    source: str = ""
    app: str = ""
    name: str = ""
    request_id: str = ""

    @property
    def replicas(self) -> tuple[str, ...]:
        """The replicas that the answer names."""
        return tuple(name for name in (self.parent, self.replica) if name)

    @property
    def lost(self) -> bool:
        """Whether the user did not get a good answer."""
        return self.error is not None

    @property
    def latency(self) -> float:
        """Seconds from the scheduled time to the end."""
        return self.finished - self.scheduled

    @property
    def lag(self) -> float:
        """Seconds by which the generator was late."""
        return (self.sent if self.sent is not None else self.finished) - self.scheduled

    @property
    def kept(self) -> bool:
        """Whether it went over a persistent connection."""
        return self.stream != "fresh"


# -- what happened ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line that a process of the cluster logged.

    Attributes:
        seconds: When, in seconds from the moment around which lines were asked for; negative before it.
        node: Whose logs it is in: ``head``, ``worker-1``, ``redis``, ``operator``; "" if that is unknown.
        file: The file, below the directory for logs: ``serve/controller_123.log``.
        text: The line.
        times: How many lines of that file and time differ from it in numbers and names alone, itself among them.
    """

    seconds: float
    node: str
    file: str
    text: str
    times: int = 1


@dataclass(frozen=True, slots=True)
class Evidence:
    """One independent sign that a fault landed.

    Attributes:
        at: Monotonic seconds at which it was seen.
        side: ``victim`` (its process is gone, its container terminated) or ``cluster`` (the GCS says DEAD).
        text: What was seen, for people.
    """

    at: float
    side: Literal["victim", "cluster"]
    text: str


# -- what is demanded, measured and judged ------------------------------------------------------------------------


PUNCTUAL = 0.1
"""Seconds by which a load generator may be late, whatever is judged."""

LEAKS_SHOWN = 60.0
"""Seconds for which processes are watched where leaks are judged and nobody says for how long."""

LATEST = 2.0
"""Seconds by which a load generator may be late at most, whatever is allowed."""


@dataclass(frozen=True, slots=True)
class Expectations:
    """What the user demands. None means that it is measured and not judged. Durations are seconds.

    Attributes:
        availability: Least share, 0 to 1, of requests that are answered well and within `slow_after`, in `window`, and
            up to the end of the last outage where that is later.
        confidence: None judges by the share itself; 0.95 judges by the lower bound of its 95 % interval.
        window: Seconds from the fault over which availability is judged.
        lost_beyond_in_flight: Most requests lost that were not in flight when the fault hit.
        longest_outage: Longest span in which requests are lost or wait longer than `slow_after`.
        slow_after: A request that waits longer than this counts as away. None: the p99 latency of the steady state,
            and half of `longest_outage` on top, at most 2 s.
        p99_ratio: Most that the p99 latency during the fault may be, as a multiple of the one before.
        traffic_back: Latest time after the fault at which traffic is back.
        redundancy_back: Latest time after the fault at which all nodes, replicas and proxies are back.
        persistent_availability: Least share of good answers on persistent connections; `availability` where that is
            less, and None where that is. Connections to proxies that the fault hits are judged from 5 s after
            redundancy is back.
        replaced: Roles that must have new identities afterwards, as ``role`` or ``role@node``.
        kept: Roles that must keep their identities, as ``role`` or ``role@node`` (``replica@workers``).
        surviving: Least share of the replicas among the victims that must be unchanged afterwards, of those that a
            fault may take some of, such as an update that fails. One may always be gone.
        spread: Whether each deployment that was on several nodes must be on several nodes at the end.
        settled: Whether the post-recovery check must be passed.
        leaks: Most processes of Ray and Serve whose memory, processor time, file descriptors, threads or connections
            grow without end after recovery.
        watch_for: Seconds for which processes are watched for that after the post-recovery check. None: `LEAKS_SHOWN`
            where `leaks` is demanded, else no longer than the experiment takes; 0: not at all.
        send_lag_limit: Seconds; a generator later than that (99th percentile) makes the verdict inconclusive. None: see
            `latest`.
    """

    availability: float | None = 0.99
    confidence: float | None = None
    window: float = 20.0
    lost_beyond_in_flight: int | None = None
    longest_outage: float | None = 2.0
    slow_after: float | None = None
    p99_ratio: float | None = None
    traffic_back: float | None = 30.0
    redundancy_back: float | None = 120.0
    persistent_availability: float | None = 0.9
    replaced: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    surviving: float | None = None
    spread: bool = True
    settled: bool = True
    leaks: int | None = None
    watch_for: float | None = None
    send_lag_limit: float | None = None

    @property
    def watched_for(self) -> float:
        """Seconds for which processes are watched after the post-recovery check; 0.0: they are not."""
        if self.watch_for is None:
            return 0.0 if self.leaks is None else LEAKS_SHOWN
        return self.watch_for

    @property
    def latest(self) -> float:
        """Seconds by which the generator may be late; what is judged by seconds needs no milliseconds.

        Unless it is set, a tenth of the longest outage that is allowed, and no more of the window than may be lost;
        where nothing but the end of an outage is judged, a tenth of the time until traffic is back, 1 s at most. It is
        0.1 at least, 2 at most, and 0.1 where latencies are judged.
        """
        if self.send_lag_limit is not None:
            return self.send_lag_limit
        if self.p99_ratio is not None:
            return PUNCTUAL
        if not self.demands_traffic:
            return LATEST
        if self.longest_outage is not None:
            allowed = self.longest_outage / 10
        elif self.availability is None and self.lost_beyond_in_flight is None:
            allowed = min(10.0, self.traffic_back or 0.0) / 10
        else:
            allowed = 0.0
        if self.availability is not None:
            allowed = min(allowed, (1 - self.availability) * self.window)
        latest = min(LATEST, max(PUNCTUAL, allowed))
        return latest if self.slow_after is None else min(latest, self.slow_after / 2)

    @property
    def demands_traffic(self) -> bool:
        """Whether anything is demanded of the requests; where nothing is, an experiment measures and judges nothing."""
        demands = (self.availability, self.lost_beyond_in_flight, self.longest_outage, self.p99_ratio)
        return any(demand is not None for demand in (*demands, self.traffic_back))

    @property
    def on_persistent_connections(self) -> float | None:
        """The share of good answers that is demanded on persistent connections: never more than on fresh ones."""
        if self.persistent_availability is None or self.availability is None:
            return None
        return min(self.persistent_availability, self.availability)


NO_DEMANDS = Expectations(
    availability=None,
    longest_outage=None,
    traffic_back=None,
    redundancy_back=None,
    persistent_availability=None,
    spread=False,
    settled=False,
)
"""Nothing is demanded: what is broken is only measured."""


@dataclass(frozen=True, slots=True)
class Slowness:
    """How long requests take while all is well, and what is too long. All in seconds.

    Attributes:
        after: A request that waits longer is away.
        typical: The median latency before the fault.
        usual: The p99 latency before the fault.
        gap: The longest time between two good answers before the fault.
        silent: Spacings of requests without any answer that do not come about by chance where latencies vary.
        uneven: Whether requests are not evenly spaced. Then what is answered by chance was also sent by chance: of n
            gaps the longest is some ln n spacings longer.
    """

    after: float = math.inf
    typical: float = 0.0
    usual: float = 0.0
    gap: float = math.inf
    silent: float = 7.0
    uneven: bool = False

    def silent_for(self, requests: int) -> float:
        """Spacings without any answer that do not come about by chance among so many requests."""
        return self.silent + (math.log(max(1, requests)) if self.uneven else 0.0)


@dataclass(frozen=True, slots=True)
class Outage:
    """A span in which requests were lost, or waited too long.

    From the scheduled time of the first of them, never before the fault, to the moment at which answers came promptly
    again.

    Attributes:
        end: None if it lasted until the end of what was observed.
        lost: Requests without a good answer that were scheduled in it.
        sent: All requests that were scheduled in it.
        late: Requests scheduled in it whose good answer came too late.
    """

    start: float
    end: float | None
    lost: int
    sent: int
    late: int = 0


@dataclass(frozen=True, slots=True)
class Latency:
    """Latencies in seconds from scheduled times; a lost request counts as infinitely slow."""

    p50: float
    p95: float
    p99: float
    worst: float


@dataclass(frozen=True, slots=True)
class Measurement:
    """The figures of one experiment, all computed from its history. Durations in seconds, from the moment of the fault.

    A figure that was not measured is None: nothing is known of requests as long as no fault has landed, or nobody sent
    any.

    Attributes:
        sent: Requests on fresh connections that were scheduled in `seconds`, or in flight when the fault came.
        lost: Those of them without a good answer.
        late: Those of them whose good answer took longer than `slow_after`.
        seconds: The time from the fault that these figures are about: the window, or up to the end of the last outage
            where the share of good answers is lower over that.
        in_flight: Those lost, whenever, that were in flight when the fault hit.
        lost_beyond_in_flight: All others lost between the fault and the end of the observation, window or not.
        availability: The share of requests that were answered well and in time.
        interval: Its 95 % interval (Clopper-Pearson).
        longest_outage: 0.0 when nothing was lost or late.
        slow_after: What was too late.
        before: Latencies in the steady seconds before the fault.
        during: Latencies in `seconds`, or in the window where its p99 is higher.
        traffic_back: None: never. 0.0: it was never away.
        redundancy_back, settled: None: never (or not reached).
        kept_sent, kept_lost: All requests on persistent connections, in the window.
        persistent_sent, persistent_lost: Those that are judged.
        errors: Error class -> number, in `seconds`.
        send_lag_p99: By how many seconds the generator was late: the worst 99th percentile of any ten seconds of the
            window and around the outages.
        most_in_flight: Most fresh requests in flight at once.
        window: Seconds over which availability was demanded.
        scheduled: Requests on fresh connections in the whole observation, before and after the fault.
        not_sent: Those of them that the generator never sent.
        observed: Seconds from the fault to the end of the observation.
        traffic_observed: Seconds from the fault to the last scheduled request.
    """

    sent: int | None = None
    lost: int | None = None
    late: int | None = None
    seconds: float | None = None
    in_flight: int | None = None
    lost_beyond_in_flight: int | None = None
    availability: float | None = None
    interval: tuple[float, float] | None = None
    outages: tuple[Outage, ...] = ()
    longest_outage: float | None = None
    slow_after: float | None = None
    before: Latency | None = None
    during: Latency | None = None
    traffic_back: float | None = None
    redundancy_back: float | None = None
    settled: float | None = None
    healed: float | None = None
    kept_sent: int | None = None
    kept_lost: int | None = None
    persistent_sent: int | None = None
    persistent_lost: int | None = None
    errors: Mapping[str, int] = field(default_factory=dict)
    send_lag_p99: float = 0.0
    most_in_flight: int = 0
    window: float = 0.0
    scheduled: int = 0
    not_sent: int = 0
    observed: float = 0.0
    traffic_observed: float = 0.0


@dataclass(frozen=True, slots=True)
class PartName:
    """A part of the requests of an experiment: those to one app, or those of one name.

    Attributes:
        kind: Which of the two.
        name: Of the app, or of the requests.
    """

    kind: Literal["app", "name"]
    name: str

    def __str__(self) -> str:
        return f"app {self.name}" if self.kind == "app" else f"requests {self.name!r}"


@dataclass(frozen=True, slots=True)
class PartDemands:
    """What is demanded of one part by default, where its own requests show less than all together do.

    Attributes:
        of: The part.
        longest_outage, traffic_back: Those of `Expectations`.
    """

    of: PartName
    longest_outage: float | None
    traffic_back: float | None

    def within(self, expected: Expectations) -> Expectations:
        """What is demanded of the part, where that is demanded of all requests together."""
        return replace(expected, longest_outage=self.longest_outage, traffic_back=self.traffic_back)


@dataclass(frozen=True, slots=True)
class Part:
    """What the requests of one part showed."""

    of: PartName
    measurement: Measurement


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an experiment showed, and why in words.

    It is passed, failed or inconclusive; measured where nothing was demanded of the requests; unfinished where the run
    ended before anybody judged it. `tracebacks` are those of checks that raised an exception.
    """

    outcome: Outcome
    reasons: tuple[str, ...] = ()
    tracebacks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Checked:
    """What one check found.

    Attributes:
        check: Its name.
        missed: Demands that were not met, in words.
        certain: Those that are missed also if everything that may not be the app's fault is counted as good.
        unknown: What the record does not show, in words.
        traceback: Of the exception that it raised; "" if it raised none.
        on_requests: Whether it demands something of the requests.
    """

    check: str
    missed: tuple[str, ...] = ()
    certain: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    traceback: str = ""
    on_requests: bool = False


@dataclass(frozen=True, slots=True)
class CheckSpec:
    """A check that a test brings, as its history describes it.

    Attributes:
        name: Its name.
        code: The class that it is of: ``module:Class``.
        arguments: What makes it again from that class; None where nothing in JSON does.
    """

    name: str
    code: str
    arguments: Mapping[str, Json] | None = None


@dataclass(frozen=True, slots=True)
class ClusterDescription:
    """What is under test, for every report.

    Attributes:
        ingress: What takes the requests on each node: Serve's own proxy (``python``) or ``haproxy``.
    """

    backend: str
    ray_version: str
    workers: int
    gcs: str
    app: str
    profile: str
    replicas: int
    url: str
    details: Mapping[str, Json] = field(default_factory=dict)
    ingress: str = "python"


Loss: TypeAlias = Literal["head", "head container", "worker", "Ray node", "machine", "replica", "proxy", "redis"]
"""What a fault can take away: the head's processes (its container, if the pod stays), a worker, the pod or session of a
Ray node, the machine under it, a replica, a proxy, the store of the GCS."""


@dataclass(frozen=True, slots=True)
class ConfigWarning:
    """One thing in the configuration that will turn a fault into an outage.

    Attributes:
        code: Its name for programs: ``no_fault_tolerance``.
        text: What is so.
        outage: What it will turn into an outage.
        fix: The setting that fixes it; "" if no setting does.
        faults: The markers of the faults that it concerns.
        node: The node that it concerns; "" for any.
        losses: What must be lost for it; `check` finds the faults by that.
    """

    code: str
    text: str
    outage: str
    fix: str
    faults: tuple[str, ...] = ()
    node: str = ""
    losses: tuple[Loss, ...] = field(default=(), compare=False)

    @property
    def line(self) -> str:
        """All of it in one line."""
        return f"{self.text}: {self.outage}." + (f" To fix this: {self.fix}." if self.fix else "")


def minor_version(ray_version: str) -> tuple[int, int]:
    """Major and minor number of a version such as ``2.60.0``.

    Raises:
        ValueError: It does not begin with them.
    """
    major, minor, *_ = ray_version.split(".")
    return int(major), int(minor)
