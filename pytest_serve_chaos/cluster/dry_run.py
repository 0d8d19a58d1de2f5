"""A cluster on which nothing is changed: what would change it is written down, and not done.

It stands before the cluster of a dry run, whatever backend that is of. What a capability does not say to change nothing
(`Capability.reads`) is taken for a change.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from typing import Protocol, TypeVar, cast

from pytest_serve_chaos.cluster.base import Cluster, NodeInfo
from pytest_serve_chaos.cluster.capabilities import Capability
from pytest_serve_chaos.cluster.config_difference import difference
from pytest_serve_chaos.cluster.policy import Touch
from pytest_serve_chaos.cluster.rest import Dashboard
from pytest_serve_chaos.errors import Withheld
from pytest_serve_chaos.model import ClusterDescription, Component, Identity, Json

T = TypeVar("T")

_DASHBOARD_READS = ("actors", "nodes", "serve", "silent_raylets", "ray_version", "close")
_SERVE_CONFIG = "apply_serve_config"


@dataclass(frozen=True, slots=True)
class Change:
    """A call that would have changed the cluster.

    Attributes:
        of: What was called: the name of a capability, or ``Cluster``.
        method: Its method.
        arguments: What it was given, by the names of its parameters.
    """

    of: str
    method: str
    arguments: Mapping[str, object] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        given = ", ".join(f"{name}={_words(value)}" for name, value in self.arguments.items())
        return f"{self.of}.{self.method}({given})"


@dataclass(frozen=True, slots=True)
class Step:
    """One request or signal of which a change is made.

    Attributes:
        text: What it is: ``DELETE pods/head-x7k2p in namespace ml (UID 5f1c, grace period 0 s)``.
        undo: What the undo journal gets before it; "" for nothing.
    """

    text: str
    undo: str = ""


class ExplainsChanges(Protocol):
    """Can say what a call of its other capabilities does."""

    def steps(self, change: Change) -> Sequence[Step]:
        """What a change is made of, in order; empty where that is not known."""
        ...

    def rights(self, touch: Touch) -> Sequence[str]:
        """What a user must be allowed for it; empty where that is nothing, as on a cluster of the run's own."""
        ...


EXPLAINS_CHANGES = Capability[ExplainsChanges]("ExplainsChanges", reads=("steps", "rights"))


class Explanations:
    """Explains changes by methods that have the names and parameters of those that change. A base class."""

    def steps(self, change: Change) -> Sequence[Step]:
        """What a change is made of; see `ExplainsChanges`."""
        explain: Callable[..., Sequence[Step]] | None = getattr(self, change.method, None)
        if explain is None or change.method in ("steps", "rights"):
            return ()
        return tuple(explain(**change.arguments))

    def rights(self, touch: Touch) -> Sequence[str]:
        """Nothing: the cluster is the run's own."""
        del touch
        return ()


class WithholdsChanges(Protocol):
    """Is looked at in a dry run: no call changes it."""

    def changes_of(self, attempt: Callable[[], object]) -> tuple[Change, ...]:
        """What an attempt to break it would change first.

        After those that can be skipped (`Capability.skippable`), as a signal can, the attempt goes on. What they would
        have done is not to be seen, so it ends at its first look at the cluster after one of them.
        """
        ...

    def steps(self, change: Change) -> tuple[Step, ...]:
        """What a change is made of: requests and signals, or else the call itself."""
        ...

    def rights(self, touch: Touch) -> tuple[str, ...]:
        """What a user must be allowed for it."""
        ...


WITHHOLDS_CHANGES = Capability[WithholdsChanges]("WithholdsChanges", reads=("changes_of", "steps", "rights"))


class Withholding:
    """Writes changes down in place of making them. Has the capability `WithholdsChanges`.

    Args:
        cluster: The cluster.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._lock = threading.Lock()
        self._attempts: dict[int, list[Change]] = {}

    def changes_of(self, attempt: Callable[[], object]) -> tuple[Change, ...]:
        """What an attempt to break the cluster would change first; see `WithholdsChanges`."""
        here = threading.get_ident()
        found: list[Change] = []
        with self._lock:
            self._attempts[here] = found
        try:
            attempt()
        except Exception:
            if not found:
                raise
        finally:
            with self._lock:
                del self._attempts[here]
        return tuple(found)

    def steps(self, change: Change) -> tuple[Step, ...]:
        """What a change is made of."""
        explains = self._cluster.capability(EXPLAINS_CHANGES)
        known = () if explains is None else tuple(explains.steps(change))
        return (*(known or (Step(str(change)),)), *(Step(f"  {line}") for line in self._of_config(change)))

    def _of_config(self, change: Change) -> list[str]:
        """How a new Serve config differs from the one that runs, a line each."""
        config = change.arguments.get("config") if change.method == _SERVE_CONFIG else None
        return difference(self._cluster.serve_config, config) if isinstance(config, Mapping) else []

    def rights(self, touch: Touch) -> tuple[str, ...]:
        """What a user must be allowed for it."""
        explains = self._cluster.capability(EXPLAINS_CHANGES)
        return () if explains is None else tuple(explains.rights(touch))

    def withhold(self, change: Change, *, skippable: bool = False) -> None:
        """Writes a change down.

        Raises:
            Withheld: Nobody asked for it, or what it returns cannot be known.
        """
        attempt = self._attempts.get(threading.get_ident())
        if attempt is not None:
            attempt.append(change)
        if attempt is None or not skippable:
            raise Withheld(f"this is a dry run, which changes nothing: {change}")

    def look(self) -> None:
        """Call it before the cluster is looked at.

        Raises:
            Withheld: In this attempt something was not changed, so that what is seen would not be what the fault sees.
        """
        if self._attempts.get(threading.get_ident()):
            raise Withheld("this is a dry run: what the fault would see after its change is not known")


class _Reader:
    """Passes on what only reads; everything else is withheld."""

    def __init__(
        self, part: object, name: str, reads: Collection[str], skippable: Collection[str], to: Withholding
    ) -> None:
        self._part = part
        self._name = name
        self._reads = frozenset(reads)
        self._skippable = frozenset(skippable)
        self._to = to

    def __getattr__(self, method: str) -> object:
        if method in self._reads:
            self._to.look()
            return getattr(self._part, method)
        found = getattr(self._part, method)
        return partial(self._withhold, method, found) if callable(found) else found

    def _withhold(self, method: str, call: Callable[..., object], /, *given: object, **named: object) -> None:
        bound = inspect.signature(call).bind(*given, **named)
        bound.apply_defaults()
        change = Change(self._name, method, dict(bound.arguments))
        self._to.withhold(change, skippable=method in self._skippable)


class DryRunCluster:
    """A cluster in a dry run; implements `cluster.base.Cluster`.

    Args:
        cluster: The cluster itself, which this closes.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.spec = cluster.spec
        self._cluster = cluster
        self._withholding = Withholding(cluster)

    @property
    def description(self) -> ClusterDescription:
        """What is under test."""
        return self._cluster.description

    @property
    def url(self) -> str:
        """Where traffic would go."""
        return self._cluster.url

    @property
    def dashboard(self) -> Dashboard:
        """Ray's state API and Serve's REST on the head, to read."""
        reader = _Reader(self._cluster.dashboard, "Dashboard", _DASHBOARD_READS, (), self._withholding)
        return cast("Dashboard", reader)

    @property
    def serve_config(self) -> dict[str, Json]:
        """The Serve config that the cluster should run."""
        return self._cluster.serve_config

    def apply_serve_config(self, config: Mapping[str, Json]) -> None:
        """Is withheld.

        Raises:
            Withheld: Always.
        """
        self._withholding.withhold(Change("Cluster", _SERVE_CONFIG, {"config": config}))

    def nodes(self) -> tuple[NodeInfo, ...]:
        """The nodes that should be there."""
        self._withholding.look()
        return self._cluster.nodes()

    def components(self) -> tuple[Component, ...]:
        """What the backend itself can see."""
        self._withholding.look()
        return self._cluster.components()

    def proxy_of(self, client: tuple[str, int]) -> Identity | None:
        """The proxy to which a connection leads."""
        return self._cluster.proxy_of(client)

    def ask_proxy(self, proxy: Component, path: str, *, timeout: float) -> tuple[int, str]:
        """Sends GET `path` to that proxy and no other; returns status and body.

        Raises:
            ObservationError: It gave no answer in `timeout` seconds.
        """
        self._withholding.look()
        return self._cluster.ask_proxy(proxy, path, timeout=timeout)

    def capability(self, wanted: Capability[T]) -> T | None:
        """The object that has a capability, as far as it reads."""
        if cast("object", wanted) is WITHHOLDS_CHANGES:
            return cast("T", self._withholding)
        part = self._cluster.capability(wanted)
        if part is None:
            return None
        return cast("T", _Reader(part, wanted.name, wanted.reads, wanted.skippable, self._withholding))

    def log_excerpt(self, since: float, *, pattern: str | None = None, lines: int = 40) -> tuple[str, ...]:
        """The last log lines of Ray and Serve."""
        return self._cluster.log_excerpt(since, pattern=pattern, lines=lines)

    def close(self) -> None:
        """Ends everything that was made for this cluster."""
        self._cluster.close()


def _words(value: object) -> str:
    """A value in a line for people; what has many parts, or may have secrets in it, is only named."""
    if isinstance(value, Component):
        return f"{value.name} (PID {value.pid})"
    if isinstance(value, Identity):
        return str(value)
    if isinstance(value, Enum):
        return value.name
    if value is None or isinstance(value, str | int | float | bool):
        return repr(value)
    return f"<{type(value).__name__}>"
