"""The records that the layers hand to each other: what was alive, what was asked, what was sent and what was judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

Role: TypeAlias = Literal["head", "worker", "gcs", "raylet", "controller", "proxy", "replica", "redis"]
ROLES: tuple[Role, ...] = ("head", "worker", "gcs", "raylet", "controller", "proxy", "replica", "redis")

How: TypeAlias = Literal["kill", "stop", "freeze", "delete", "drain", "upgrade", "fail_health_check"]
Outcome: TypeAlias = Literal["passed", "failed", "inconclusive"]

HEAD = "head"
"""The name of the node that carries the GCS and the controller."""


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
    """

    at: float
    components: tuple[Component, ...]
    sources: tuple[str, ...] = ()
    pending: Mapping[str, int] = field(default_factory=dict)
    down: Mapping[str, str] = field(default_factory=dict)

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


@dataclass(frozen=True, slots=True)
class Request:
    """One scheduled request. Times are monotonic seconds.

    Attributes:
        index: Its number in its stream.
        stream: ``fresh`` (a new connection for it alone), or ``kept:<n>`` (one of the kept connections).
        scheduled: When the schedule wanted it sent. Latency counts from here.
        sent: When it was really sent; None if it never was.
        finished: When the answer, the error or the timeout came.
        status: The HTTP status, where there was an answer.
        error: None if it was answered well; else httpx's class of the error, ``HTTP 500`` or ``WrongAnswer``.
        replica: The replica that answered, where the answer says so.
        node: The Ray node (its id) that answered, where the answer says so.
        parent: The replica that asked the one that answered through a handle, where the answer says so.
        path: Which way it took: ``proxies`` (the shared address), or the name of the proxy of a kept connection.
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
        """Whether it went over a kept connection."""
        return self.stream != "fresh"


# -- what happened ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened at a moment of the run.

    Attributes:
        at: Monotonic seconds.
        kind: A word from `history.KINDS`.
        text: One line for people.
        experiment: The experiment that it belongs to, or "".
        data: Whatever else belongs to it, JSON only.
    """

    at: float
    kind: str
    text: str
    experiment: str = ""
    data: Mapping[str, Json] = field(default_factory=dict)


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


@dataclass(frozen=True, slots=True)
class Expectations:
    """What the user demands. None means that it is measured and not judged. Durations are seconds.

    Attributes:
        availability: Least share of good answers in `window`, 0 to 1.
        confidence: None judges by the share itself; 0.95 judges by the lower bound of its 95 % interval.
        window: Seconds from the fault over which availability is judged.
        lost_beyond_in_flight: Most requests lost that were not in flight when the fault landed.
        longest_outage: Longest span in which requests were lost.
        p99_ratio: Most that the p99 latency during the fault may be, as a multiple of the one before.
        traffic_back: Latest time after the fault at which traffic is back.
        redundancy_back: Latest time after the fault at which all nodes, replicas and proxies are back.
        replaced: Roles that must have new identities afterwards, as ``role`` or ``role@node``.
        kept: Roles that must keep their identities, as ``role`` or ``role@node`` (``replica@workers``).
        settled: Whether the aftershock must be passed.
        send_lag_limit: Seconds; a generator later than that (99th percentile) makes the verdict inconclusive. None: see
            `latest`.
    """

    availability: float | None = 0.99
    confidence: float | None = None
    window: float = 20.0
    lost_beyond_in_flight: int | None = None
    longest_outage: float | None = 2.0
    p99_ratio: float | None = None
    traffic_back: float | None = 30.0
    redundancy_back: float | None = 120.0
    replaced: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    settled: bool = True
    send_lag_limit: float | None = None

    @property
    def latest(self) -> float:
        """Seconds by which the generator may be late; what is judged by seconds needs no milliseconds.

        Unless it is set, a tenth of the longest outage that is allowed; where nothing but its end is judged, of the
        time until traffic is back, and 1 s at most. It is 0.1 at least, and no more where latencies are judged.
        """
        if self.send_lag_limit is not None:
            return self.send_lag_limit
        allowed = self.longest_outage or 0.0
        if self.longest_outage is None and self.availability is None and self.lost_beyond_in_flight is None:
            allowed = min(10.0, self.traffic_back or 0.0)
        return max(PUNCTUAL, allowed / 10) if self.p99_ratio is None else PUNCTUAL


@dataclass(frozen=True, slots=True)
class Outage:
    """A span in which requests were lost: from the first lost one's scheduled time to the next good one's.

    Attributes:
        end: None if it lasted until the end of what was observed.
    """

    start: float
    end: float | None
    lost: int
    sent: int


@dataclass(frozen=True, slots=True)
class Latency:
    """Latencies in seconds, from scheduled times, lost requests included (a timeout counts as its timeout)."""

    p50: float
    p95: float
    p99: float
    worst: float


@dataclass(frozen=True, slots=True)
class Measurement:
    """The figures of one experiment, all computed from its history. Durations in seconds, from the moment of the fault.

    Attributes:
        sent: Requests on fresh connections that were scheduled in the window, or in flight when it began.
        lost: Those of them without a good answer.
        in_flight: Those lost that were in flight when the fault landed.
        lost_beyond_in_flight: All others lost between the fault and the end of the observation, window or not.
        interval: The 95 % interval of the availability (Clopper-Pearson).
        longest_outage: 0.0 when nothing was lost.
        traffic_back: None: never. 0.0: it was never away.
        redundancy_back, settled: None: never (or not reached).
        kept_sent, kept_lost: The stream over kept connections, in the same window.
        errors: Error class -> number, in the window.
        send_lag_p99: By how many seconds the generator was late, over the whole observation.
        most_in_flight: Most fresh requests in flight at once.
        window: Seconds over which availability was demanded.
        scheduled: Requests on fresh connections in the whole observation, before and after the fault.
        not_sent: Those of them that the generator never sent.
        observed: Seconds from the fault to the end of the observation.
        traffic_observed: Seconds from the fault to the last scheduled request.
    """

    sent: int = 0
    lost: int = 0
    in_flight: int = 0
    lost_beyond_in_flight: int = 0
    availability: float = 0.0
    interval: tuple[float, float] = (0.0, 1.0)
    outages: tuple[Outage, ...] = ()
    longest_outage: float = 0.0
    before: Latency | None = None
    during: Latency | None = None
    traffic_back: float | None = None
    redundancy_back: float | None = None
    settled: float | None = None
    healed: float | None = None
    kept_sent: int = 0
    kept_lost: int = 0
    errors: Mapping[str, int] = field(default_factory=dict)
    send_lag_p99: float = 0.0
    most_in_flight: int = 0
    window: float = 0.0
    scheduled: int = 0
    not_sent: int = 0
    observed: float = 0.0
    traffic_observed: float = 0.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """passed, failed or inconclusive, and why in words."""

    outcome: Outcome
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ClusterDescription:
    """What is under test, for every report."""

    backend: str
    ray_version: str
    workers: int
    gcs: str
    app: str
    profile: str
    replicas: int
    url: str
    details: Mapping[str, Json] = field(default_factory=dict)


def minor_version(ray_version: str) -> tuple[int, int]:
    """Major and minor number of a version such as ``2.60.0``.

    Raises:
        ValueError: It does not begin with them.
    """
    major, minor, *_ = ray_version.split(".")
    return int(major), int(minor)
