"""What only some clusters can do. A fault asks the cluster for the capabilities that it needs, by their keys.

Each capability is a small protocol, and a key of the same name in capitals: ``cluster.capability(KILLS_NODES)`` returns
an object that implements `KillsNodes`, or None. A plugin makes more of them in the same way.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Literal, Protocol, TypeVar, cast

from pytest_serve_chaos.analysis.configuration import Setup
from pytest_serve_chaos.cluster.base import Cluster
from pytest_serve_chaos.cluster.child_process import ChildProcess
from pytest_serve_chaos.cluster.haproxy import Generation, Routes
from pytest_serve_chaos.cluster.policy import Touch
from pytest_serve_chaos.model import Component, Evidence, Identity, LogLine
from pytest_serve_chaos.traffic.request import Message
from pytest_serve_chaos.usage import ProcessUsage

T = TypeVar("T")


@dataclass(frozen=True, eq=False)  # with slots, `Capability[X]("X")` is a TypeError: typing sets an attribute
class Capability(Generic[T]):
    """The key of one capability; `T` is the protocol of the object that has it.

    Attributes:
        name: The name of the protocol.
        reads: Its methods that change nothing. In a dry run every other one is withheld.
        skippable: Its methods after which a dry run can go on although it withheld them: nobody needs what they return.
    """

    name: str
    reads: tuple[str, ...] = ()
    skippable: tuple[str, ...] = ()

    def by(self, part: T) -> Offer:
        """Says which object has the capability, for `Capabilities`."""
        return Offer(self, part)

    def of(self, cluster: Cluster) -> T | None:
        """The object of that cluster that has the capability; None if none has."""
        return cluster.capability(self)


class AnyCapability(Protocol):
    """The key of whichever capability."""

    @property
    def name(self) -> str:
        """The name of its protocol."""
        ...

    def of(self, cluster: Cluster) -> object | None:
        """The object of that cluster that has the capability; None if none has."""
        ...


@dataclass(frozen=True, slots=True)
class Offer:
    """One capability of a cluster, and the object that has it. Made by `Capability.by`."""

    key: AnyCapability
    part: object


class Capabilities:
    """What one cluster can do.

    Args:
        offers: ``KILLS_NODES.by(nodes)``, one for each capability; of two for the same one the later counts.
    """

    def __init__(self, *offers: Offer) -> None:
        self._parts = {offer.key: offer.part for offer in offers}

    def get(self, wanted: Capability[T]) -> T | None:
        """The object that has the capability; None if none has."""
        return cast("T | None", self._parts.get(wanted))


# -- the protocols ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address that leads to one proxy and no other.

    Attributes:
        url: Where its root is; paths as Serve sees them lie below it.
        headers: To be sent with each request.
        ssl_context: For ``https``.
        permit: Asked before a request is sent, with its method and path; see `RequestSpec.permit`.
    """

    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    ssl_context: ssl.SSLContext | None = None
    permit: Callable[[str, str], None] | None = field(default=None, repr=False)


class OutlivesRuns(Protocol):
    """May stay when it is closed, for a later run to take over."""

    def vouch(self) -> None:
        """Records that it is as it was at first. Without that record a later run does not reuse it as it is."""
        ...


class RemembersConnections(Protocol):
    """Its network may lead a new connection to where an earlier one was lost."""

    def forget_connections(self) -> None:
        """Drops what it knows of connections that nobody has answered."""
        ...


class SeesProcesses(Protocol):
    """Can tell by itself which processes of Serve live, where the GCS is not to be asked for it."""

    @property
    def sees_processes(self) -> bool:
        """Whether it does; if not, an actor is alive when the GCS says so and its pod runs."""
        ...

    def unseen(self) -> Sequence[str]:
        """The places of which nobody knows now what runs there, in words."""
        ...


class ShowsHAProxy(Protocol):
    """Has HAProxy take the requests on each node, and can look into it."""

    def generations(self) -> Sequence[Generation]:
        """The HAProxy processes that were seen last: one on each node takes requests, others may be about to end."""
        ...

    def routes(self, generation: Generation) -> Routes:
        """Where the HAProxy that takes requests sends them, asked where that one has its admin socket.

        Raises:
            ObservationError: It gave no usable answer.
        """
        ...


class HasProxyEndpoints(Protocol):
    """Has an address of its own for each proxy, where the shared one cannot tell them apart."""

    def proxy_endpoint(self, proxy: Component) -> Endpoint:
        """The address of one proxy.

        Raises:
            ObservationError: The proxy is gone.
        """
        ...


class KnowsItsSetup(Protocol):
    """Knows how it is set up where that decides what a fault costs."""

    def setup(self) -> Setup:
        """Where Redis is and whether it persists, on which machines nodes are, how they drain, and which restarted."""
        ...


class OnThisMachine(Protocol):
    """Runs on the machine that tests run on, so that the two take processor time from each other."""

    def first_processes(self) -> tuple[int, ...]:
        """PIDs of processes below which all of its processes are; empty while they are unknown."""
        ...


class ShowsUsage(Protocol):
    """Knows what the processes of its components use of their machines."""

    def usage(self, components: Sequence[Component]) -> Sequence[ProcessUsage]:
        """What these use now, those of HAProxy too; who has ended is left out.

        Raises:
            ObservationError: Nobody knows.
        """
        ...


class Watches(Protocol):
    """Has threads that watch the cluster, and knows whether one has ended, so that nobody sees its news any more."""

    def dead_watches(self) -> tuple[str, ...]:
        """Which of them ended although nobody stopped them, and why, in words."""
        ...


class ShowsFailedStarts(Protocol):
    """Knows when Ray itself gave up starting a node."""

    def failed_starts(self, since: float) -> tuple[str, ...]:
        """Each node that Ray gave up while it started, since then (monotonic seconds), in words."""
        ...


class IsExternal(Protocol):
    """Is an external cluster: not all of it may be broken, and its Serve config must stay as it is."""

    def why_not(self, touch: Touch, asked_for: Collection[str]) -> str:
        """Why a fault cannot, or must not, be injected here; "" if it can.

        Args:
            touch: What the fault does.
            asked_for: What the test says of the cluster that it wants: the keywords of its `serve_cluster` markers.
        """
        ...

    def admit(self, touch: Touch, asked_for: Collection[str], *, heals: bool = False) -> None:
        """Lets a fault pass, or refuses it; asked before anything is changed.

        Args:
            touch: What the fault does.
            asked_for: As for `why_not`.
            heals: Whether that repairs what the run has broken, and so may be done when another run has the cluster.

        Raises:
            Unsupported: It cannot, or must not, be injected here.
        """
        ...

    def owner_change(self) -> str:
        """What its owner has done to it since the connection, in words; "" if nothing.

        Raises:
            ObservationError: It cannot be looked at.
        """
        ...

    def who_answers(self, proxy: Component, messages: Sequence[Message] = ()) -> frozenset[str]:
        """Sends requests to one proxy alone; returns the ids of the replicas that answered, as far as they are known.

        Args:
            proxy: The proxy.
            messages: What it is asked. None: what the settings say.

        Raises:
            ObservationError: The proxy is gone.
        """
        ...


class KillsNodes(Protocol):
    """Can take a Ray node (all its processes, or its pod) down, and bring it back."""

    def kill_node(self, name: str, *, how: Literal["kill", "stop"], hold: bool) -> Sequence[Evidence]:
        """Takes the node down and waits until nothing of it is left.

        Args:
            name: ``head``, ``worker-1``, ...
            how: ``kill`` (SIGKILL, forced deletion) or ``stop`` (SIGTERM, graceful deletion).
            hold: Whether it stays down until `restore_node`; otherwise it comes back as the platform brings it back.
        """
        ...

    def restore_node(self, name: str) -> None:
        """Ends a hold: the node may come back now."""
        ...


class SignalsProcesses(Protocol):
    """Can send a signal to one process, by identity."""

    def signal_process(self, identity: Identity, signal: int, *, lasts: float | None = None) -> None:
        """Sends the signal to that very process.

        Args:
            identity: The process.
            signal: The signal's number.
            lasts: For SIGSTOP: seconds that it is to stand still; None: nobody knows. Soon after them it goes on by
                itself, also if nobody is left to resume it. The time of a later SIGSTOP begins with that one.

        Raises:
            NoSuchTarget: The process is gone, or its PID belongs to another one now.
        """
        ...


class SeesChildren(Protocol):
    """Can tell which processes a replica has started itself."""

    def children(self, parent: Identity) -> tuple[ChildProcess, ...] | None:
        """All processes below that one, those that its children have started too; None where it is gone.

        Raises:
            ObservationError: Nobody can look.
        """
        ...

    def states(self, identities: Sequence[Identity]) -> Mapping[Identity, str]:
        """``running`` or ``frozen``, for those of the processes below one replica that are there.

        Raises:
            ObservationError: Nobody can look.
        """
        ...


class FreezesNodes(Protocol):
    """Can stop all processes of a node, and resume them."""

    def freeze_node(self, name: str, *, lasts: float | None = None) -> Sequence[Evidence]:
        """Stops (SIGSTOP, pause) every process of the node.

        Args:
            name: ``head``, ``worker-1``, ...
            lasts: Seconds that it is to stand still; None: nobody knows. Soon after them it goes on by itself.
        """
        ...

    def thaw_node(self, name: str) -> None:
        """Resumes them."""
        ...


class KillsMachines(Protocol):
    """Can take away the machine under a Ray node, which is more than its pod: nobody is left to tell Kubernetes."""

    def kill_machine(
        self, name: str, *, how: Literal["kill", "stop"], lasts: float | None = None
    ) -> Sequence[Evidence]:
        """Takes the machine under the Ray node `name` away: ``kill`` as power does, ``stop`` as a shutdown.

        Args:
            name: The Ray node.
            how: In which way.
            lasts: Seconds that it is to stay away; None: until `revive_machine`. Soon after them, or long after it was
                taken away, it comes back by itself.
        """
        ...

    def revive_machine(self, name: str) -> None:
        """Starts it again; does nothing for one that was not taken away."""
        ...


class FreezesMachines(Protocol):
    """Can stop everything on the machine under a Ray node, and resume it."""

    def freeze_machine(self, name: str, *, lasts: float | None = None) -> Sequence[Evidence]:
        """Stops everything on it, what watches over its pods included. Arguments: those of `freeze_node`."""
        ...

    def thaw_machine(self, name: str) -> None:
        """Resumes it; does nothing for one that was not stopped."""
        ...


class DeletesMachines(Protocol):
    """Can delete the Kubernetes node under a Ray node, and make it register again."""

    def delete_machine(self, name: str, *, within: float) -> Sequence[Evidence]:
        """Deletes it and waits until its pods are gone.

        Returns:
            No sign where they were not gone after `within` seconds: then nothing happened yet.
        """
        ...

    def register_machine(self, name: str) -> None:
        """Makes it register again; does nothing for one that was not deleted."""
        ...


class DrainsMachines(Protocol):
    """Can drain the Kubernetes node under a Ray node, as for maintenance."""

    def drain_machine(self, name: str) -> Sequence[Evidence]:
        """Lets no pods onto it, evicts those that are there, and waits until they have ended."""
        ...

    def reopen_machine(self, name: str) -> None:
        """Lets pods onto it again; does nothing for one that was not drained."""
        ...


class KillsActors(Protocol):
    """Can do what `ray.kill` does."""

    def kill_actor(self, actor_id: str, *, no_restart: bool) -> float:
        """Kills an actor through the GCS; with `no_restart` the GCS does not restart it.

        Returns:
            When it was killed, monotonic seconds.
        """
        ...


class RecordsStaleProxies(Protocol):
    """Outlives the run, so that proxies which will not hear their next controller must not be forgotten."""

    def stale_after(self, controller: Component, proxies: Sequence[Component]) -> Callable[[], None]:
        """Puts proxies on record, before that controller ends for good and another actor takes its place.

        Returns:
            What takes them off again, once they were replaced, or hear the new controller.

        Raises:
            NoSuchTarget: One of them is gone.
        """
        ...


class HasRedis(Protocol):
    """Has a Redis under the GCS that is ours to break."""

    @property
    def redis_namespace(self) -> str:
        """The namespace under which the GCS keeps its keys."""
        ...

    def kill_redis(self, *, how: Literal["kill", "stop"], hold: bool) -> Sequence[Evidence]:
        """Takes Redis down and waits until it is gone."""
        ...

    def restore_redis(self) -> None:
        """Ends a hold: Redis may come back now."""
        ...

    def redis_keys(self) -> tuple[str, ...]:
        """The keys that are in Redis."""
        ...


class SharesRedis(Protocol):
    """Can start a second Ray cluster whose GCS keeps its state in the same Redis."""

    def start_alongside(self, namespace: str | None = None) -> Cluster:
        """Starts a head alone, on which nothing is deployed. The caller closes it.

        Args:
            namespace: Under which its GCS keeps its keys; None: one of its own.

        Raises:
            ClusterStartError: It did not come up.
        """
        ...


class UpgradesRayService(Protocol):
    """Can have KubeRay replace the whole cluster by a new one, as a change of a RayService's spec does."""

    def serving(self) -> str:
        """The name of the cluster to which traffic is sent; "" if to none.

        Raises:
            ObservationError: It cannot be found out.
        """
        ...

    def upgrade(self) -> Sequence[Evidence]:
        """Replaces it, and waits until the new one serves and nothing is left of the old one.

        Raises:
            Unsupported: It does not allow that; nothing was changed.
            WaitTimeout: It did not come to pass in time, and is not over.
        """
        ...


class CarriesCode(Protocol):
    """Has the code of apps that is on this machine only as far as it was brought there when the cluster started."""

    def why_not(self, import_path: str) -> str:
        """Why the app of an import path cannot be imported there; "" where nothing is known against it."""
        ...


class FailsUpgrades(Protocol):
    """Can begin an upgrade of a RayService whose new cluster never becomes ready, and end it."""

    def pending(self) -> str:
        """The name of the cluster that is to take over; "" if none is.

        Raises:
            ObservationError: It cannot be found out.
        """
        ...

    def begin_in_vain(self) -> Sequence[Evidence]:
        """Begins it, and waits until a part of the new cluster is there that cannot start.

        Raises:
            Unsupported: It does not allow that; nothing was changed.
            WaitTimeout: Nothing of it came in time.
        """
        ...

    def end_in_vain(self) -> None:
        """Puts the spec of before back, and waits until one cluster serves and nothing is left of any other.

        Raises:
            CommandFailed: It was refused.
            WaitTimeout: It did not come to pass in time.
        """
        ...


class SetsHealthFlags(Protocol):
    """Can make the health check of one replica fail, where the app reads our flag."""

    def set_health_flag(
        self, replica: Component, mode: Literal["raise", "hang"], *, lasts: float | None = None
    ) -> None:
        """From now on that replica's `check_health` raises or hangs.

        Args:
            replica: The replica.
            mode: What it does.
            lasts: Seconds that it is to do so; None: nobody knows. Soon after them the flag means nothing any more.
        """
        ...

    def clear_health_flag(self, replica: Component) -> None:
        """Removes the flag."""
        ...


class AutoscalesWorkers(Protocol):
    """Has workers that come and go, because Ray's autoscaler scales them."""

    @property
    def worker_range(self) -> tuple[int, int]:
        """The least and the most workers that there may be."""
        ...

    def workers_wanted(self) -> int | None:
        """How many the autoscaler wants now; None where that is not known.

        Raises:
            ObservationError: Nobody says.
        """
        ...


class KeptLogs(Protocol):
    """The logs of a test on their way into a directory."""

    def keep(self) -> None:
        """The test failed: what would not stay by itself is written now.

        Raises:
            OSError: It could not be written.
        """
        ...

    def around(self, moment: float, *, before: float, after: float) -> Sequence[LogLine]:
        """Lines that were logged around a moment, in order of time; of large files, those near the end.

        Args:
            moment: Monotonic seconds.
            before: Seconds before it from which on lines are wanted.
            after: Seconds after it until which lines are wanted.
        """
        ...

    def close(self) -> None:
        """The test is over. May be called twice."""
        ...


class StreamsLogs(Protocol):
    """Can keep what is logged from now on, also by what is lost meanwhile."""

    def stream_logs(self, directory: Path) -> KeptLogs:
        """Begins to; the directory is made with the first file."""
        ...


class ShowsControllerLog(Protocol):
    """Can read the Serve controller's log."""

    def controller_log(self, *, pattern: str, since: float) -> tuple[str, ...]:
        """Lines of the controller's log after `since` (monotonic seconds) that match `pattern`."""
        ...


class ShowsReplicaLogs(Protocol):
    """Can read the log of one replica, which has a line for each request unless the app turned that off."""

    def replica_log(self, replica: Component, *, since: float) -> tuple[str, ...]:
        """Lines of that replica's log after `since` (monotonic seconds)."""
        ...


# -- the keys: what `Cluster.capability` is asked with ----------------------------------------------------------------

OUTLIVES_RUNS = Capability[OutlivesRuns]("OutlivesRuns", reads=("vouch",))
REMEMBERS_CONNECTIONS = Capability[RemembersConnections]("RemembersConnections")
AUTOSCALES_WORKERS = Capability[AutoscalesWorkers]("AutoscalesWorkers", reads=("workers_wanted",))
SEES_PROCESSES = Capability[SeesProcesses]("SeesProcesses")
SHOWS_HAPROXY = Capability[ShowsHAProxy]("ShowsHAProxy", reads=("generations", "routes"))
HAS_PROXY_ENDPOINTS = Capability[HasProxyEndpoints]("HasProxyEndpoints", reads=("proxy_endpoint",))
KNOWS_ITS_SETUP = Capability[KnowsItsSetup]("KnowsItsSetup", reads=("setup",))
ON_THIS_MACHINE = Capability[OnThisMachine]("OnThisMachine", reads=("first_processes",))
SHOWS_USAGE = Capability[ShowsUsage]("ShowsUsage", reads=("usage",))
WATCHES = Capability[Watches]("Watches", reads=("dead_watches",))
SHOWS_FAILED_STARTS = Capability[ShowsFailedStarts]("ShowsFailedStarts", reads=("failed_starts",))
IS_EXTERNAL = Capability[IsExternal]("IsExternal", reads=("why_not", "admit", "owner_change"))
KILLS_NODES = Capability[KillsNodes]("KillsNodes")
SIGNALS_PROCESSES = Capability[SignalsProcesses]("SignalsProcesses", skippable=("signal_process",))
SEES_CHILDREN = Capability[SeesChildren]("SeesChildren", reads=("children", "states"))
FREEZES_NODES = Capability[FreezesNodes]("FreezesNodes")
KILLS_MACHINES = Capability[KillsMachines]("KillsMachines")
FREEZES_MACHINES = Capability[FreezesMachines]("FreezesMachines")
DELETES_MACHINES = Capability[DeletesMachines]("DeletesMachines")
DRAINS_MACHINES = Capability[DrainsMachines]("DrainsMachines")
KILLS_ACTORS = Capability[KillsActors]("KillsActors")
RECORDS_STALE_PROXIES = Capability[RecordsStaleProxies]("RecordsStaleProxies", skippable=("stale_after",))
HAS_REDIS = Capability[HasRedis]("HasRedis", reads=("redis_keys",))
SHARES_REDIS = Capability[SharesRedis]("SharesRedis")
UPGRADES_RAY_SERVICE = Capability[UpgradesRayService]("UpgradesRayService", reads=("serving",))
CARRIES_CODE = Capability[CarriesCode]("CarriesCode", reads=("why_not",))
FAILS_UPGRADES = Capability[FailsUpgrades]("FailsUpgrades", reads=("pending",))
SETS_HEALTH_FLAGS = Capability[SetsHealthFlags]("SetsHealthFlags", skippable=("set_health_flag", "clear_health_flag"))
STREAMS_LOGS = Capability[StreamsLogs]("StreamsLogs")
SHOWS_CONTROLLER_LOG = Capability[ShowsControllerLog]("ShowsControllerLog", reads=("controller_log",))
SHOWS_REPLICA_LOGS = Capability[ShowsReplicaLogs]("ShowsReplicaLogs", reads=("replica_log",))
