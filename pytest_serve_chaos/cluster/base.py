"""Which cluster a test wants, and what every cluster gives; `capabilities` has what only some can do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, TypeVar

from pytest_serve_chaos.model import ClusterDescription, Component, Identity, Json

if TYPE_CHECKING:
    from pytest_serve_chaos.cluster.capabilities import Capability
    from pytest_serve_chaos.cluster.rest import Dashboard

T = TypeVar("T")

Progress: TypeAlias = Callable[[str], None]
"""Prints one line of progress for people."""

Gcs: TypeAlias = Literal["redis", "rocksdb", "none"]
Profile: TypeAlias = Literal["fast", "guide"]
Ingress: TypeAlias = Literal["python", "haproxy"]


@dataclass(frozen=True, slots=True)
class ClusterSpec:
    """Which cluster a test wants. Equal specs can share a cluster.

    Attributes:
        gcs: Where the GCS keeps its state: in ``redis``, in a ``rocksdb`` of its own on a disk that outlives the head
            (fault tolerance is on with both), or in memory alone: ``none``.
        workers: Number of Ray workers, without the head.
        profile: ``fast`` (shorter periods) or ``guide`` (Ray's and the guide's own values).
        app: ``module:app`` or the path of a Serve config file (YAML).
        app_args: Arguments for the app's builder function.
        env: Environment variables of all Ray processes.
        ingress: What takes the requests on each node: Serve's own proxy (``python``) or HAProxy.
    """

    gcs: Gcs = "redis"
    workers: int = 2
    profile: Profile = "fast"
    app: str = "pytest_serve_chaos.apps.sleepy_pid:app"
    app_args: tuple[tuple[str, Json], ...] = field(default=(), repr=False)
    env: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    ingress: Ingress = "python"


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """A node that the cluster should have, alive or not.

    Attributes:
        name: ``head``, ``worker-1``, ...
        address: Its address as the GCS knows it, where known.
        alive: Whether it is up, as the backend itself knows (process or pod), without asking Ray.
        identity: Which incarnation is up, None if none is.
        state: The backend's own word for why it is not up: ``Pending (0/4 nodes are available)``; "" where it has none.
    """

    name: str
    address: str | None
    alive: bool
    identity: Identity | None = None
    state: str = ""


class Cluster(Protocol):
    """What every backend gives. Everything here is safe to call from several threads."""

    spec: ClusterSpec

    @property
    def description(self) -> ClusterDescription:
        """What is under test, for every report."""
        ...

    @property
    def url(self) -> str:
        """Where traffic goes: the address shared by all proxies, with the app's route."""
        ...

    @property
    def dashboard(self) -> Dashboard:
        """Ray's state API and Serve's REST on the head."""
        ...

    @property
    def serve_config(self) -> dict[str, Json]:
        """The Serve config that the cluster should run."""
        ...

    def apply_serve_config(self, config: Mapping[str, Json]) -> None:
        """Makes that config the one that the cluster should run, as `serve deploy` or an edit of the RayService would.

        Raises:
            CommandFailed: It was refused, for example because there is no head.
        """
        ...

    def nodes(self) -> tuple[NodeInfo, ...]:
        """The nodes that should be there, head first, without asking Ray."""
        ...

    def components(self) -> tuple[Component, ...]:
        """What the backend itself can see of nodes, GCS, Redis and actors (processes or pods), without asking Ray."""
        ...

    def proxy_of(self, client: tuple[str, int]) -> Identity | None:
        """The proxy to which the traffic's connection from address and port `client` leads; None if that is unknown."""
        ...

    def ask_proxy(self, proxy: Component, path: str, *, timeout: float) -> tuple[int, str]:
        """Sends GET `path` to that proxy and no other; returns status and body.

        Raises:
            ObservationError: It gave no answer in `timeout` seconds.
        """
        ...

    def capability(self, wanted: Capability[T]) -> T | None:
        """The object that has a capability of this cluster, for example ``KILLS_NODES``; None if it cannot do that."""
        ...

    def log_excerpt(self, since: float, *, pattern: str | None = None, lines: int = 40) -> tuple[str, ...]:
        """The last log lines of Ray and Serve written after `since` (monotonic seconds) that match `pattern`."""
        ...

    def close(self) -> None:
        """Ends everything that was made for this cluster. May be called twice."""
        ...
