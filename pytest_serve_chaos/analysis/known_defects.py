"""Defects and behaviour of Ray and KubeRay that are known, and by which symptoms an experiment shows one.

A match says that an experiment looks like a known defect, and by what. It decides nothing: the verdict is made without
it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pytest_serve_chaos.analysis.words import counted, listing, number
from pytest_serve_chaos.events import (
    ComponentCame,
    ComponentGone,
    Event,
    FaultAsked,
    FaultLanded,
    Moment,
    ProxyStale,
    RedundancyMissing,
    TopologySeen,
    of_kind,
)
from pytest_serve_chaos.model import NOT_READY, ClusterDescription, Component, Identity, Request, minor_version

_DOCS = "https://github.com/ray-project"


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of one experiment.

    Attributes:
        events: Its events, in order of time.
        losses: The requests on fresh connections without a good answer.
        judged_until: When the observation ended, monotonic seconds.
        description: The cluster; None where the history does not say it.
    """

    events: tuple[Event, ...]
    losses: tuple[Request, ...]
    judged_until: float
    description: ClusterDescription | None = None

    @property
    def ray(self) -> tuple[int, int] | None:
        """Major and minor version of Ray, where they are known."""
        try:
            return None if self.description is None else minor_version(self.description.ray_version)
        except ValueError:
            return None

    def broke(self, *faults: str) -> FaultAsked | None:
        """The first fault of one of those markers."""
        return next((event for event in of_kind(FaultAsked, self.events) if event.fault in faults), None)

    @property
    def victims(self) -> frozenset[Identity]:
        """What the faults were aimed at."""
        return frozenset(victim for event in of_kind(FaultLanded, self.events) for victim in event.victims)

    def lost(self, *, since: float, until: float) -> tuple[Request, ...]:
        """Those of the losses that were due then (monotonic seconds)."""
        return tuple(one for one in self.losses if since <= one.scheduled <= until)

    def there(self, moment: Moment) -> tuple[Component, ...]:
        """Who was alive before, or after."""
        seen = [event for event in of_kind(TopologySeen, self.events) if event.moment is moment]
        return seen[-1].topology.components if seen else ()


@dataclass(frozen=True, slots=True)
class Defect:
    """One known defect.

    Attributes:
        issue: Where it is discussed: ``ray#63784``; "" where only this package's documentation describes it.
        first: The first version of Ray (major, minor) in which it was seen or reported; None: of any.
        last: The last one; None: later ones may have it as well.
        seen: What is seen.
        versions: In which versions, for people.
        matches: What of it an experiment shows, as a clause; "" if it shows nothing of it.
        anchor: Its place in `ray-and-kubernetes.md` of the documentation, "" if it has none.
    """

    issue: str
    first: tuple[int, int] | None
    last: tuple[int, int] | None
    seen: str
    versions: str
    matches: Callable[[Seen], str]
    anchor: str = ""

    @property
    def url(self) -> str:
        """Where the issue is; "" without one."""
        project, _, number_of_it = self.issue.partition("#")
        return f"{_DOCS}/{project}/issues/{number_of_it}" if self.issue else ""

    def may_have(self, ray: tuple[int, int] | None) -> bool:
        """Whether that version of Ray may have it; so may one that is not known."""
        if ray is None:
            return True
        return (self.first is None or self.first <= ray) and (self.last is None or ray <= self.last)


@dataclass(frozen=True, slots=True)
class Match:
    """A known defect that an experiment looks like, and by what."""

    defect: Defect
    by: str


def matching(seen: Seen) -> tuple[Match, ...]:
    """The known defects that an experiment looks like, those first that say most."""
    found = ((defect, defect.matches(seen)) for defect in KNOWN if defect.may_have(seen.ray))
    return tuple(Match(defect, by) for defect, by in found if by)


# -- symptoms: pure functions on the record ----------------------------------------------------------------------------

_TIMEOUTS = ("ReadTimeout", "ConnectTimeout", "PoolTimeout", "WriteTimeout")
_CONNECTIONS = ("ConnectError", "ConnectTimeout", "RemoteProtocolError")
_SOME_SECONDS = 10.0
_HEAD = ("head_failure", "gcs_failure")


def stale_proxies(seen: Seen) -> str:
    """Proxies that were alive when the controller was replaced do not hear the new one."""
    stale = dict.fromkeys(event.proxy for event in of_kind(ProxyStale, seen.events))
    return f"{listing(stale)} did not get a new route" if stale else ""


def silent_replicas(seen: Seen) -> str:
    """Requests hang from the moment when a head with a proxy is lost, while the replicas live."""
    fault = seen.broke(*_HEAD)
    if fault is None or _freezes(fault):
        return ""
    hung = [one for one in seen.lost(since=fault.at - 1.0, until=fault.at + 1.0) if one.error in _TIMEOUTS]
    if not hung or _gone(seen, "replica", since=fault.at):
        return ""
    return f"{number(len(hung), 'request')} due within a second of the fault timed out, and no replica went"


def second_hang(seen: Seen) -> str:
    """After the first loss of the head on Kubernetes, requests hang once more when the new controller is there."""
    fault = seen.broke("head_failure")
    if fault is None or _backend(seen) not in ("kind", "kubernetes"):
        return ""
    came = [e.at for e in of_kind(ComponentCame, seen.events) if e.component.role == "controller"]
    if not came or _gone(seen, "replica", since=fault.at):
        return ""
    hung = [one for one in seen.lost(since=came[0] - 4.0, until=came[0] + 10.0) if one.error in _TIMEOUTS]
    if len(hung) < _MANY:
        return ""
    return f"{number(len(hung), 'request')} timed out around the start of the new controller, and no replica went"


_MANY = 2
"""So many lost requests are not an accident."""


def workers_restart(seen: Seen) -> str:
    """Workers restart although only the head was hit, and the GCS keeps its state."""
    fault = seen.broke(*_HEAD)
    if fault is None or not _fault_tolerant(seen):
        return ""
    gone = _gone(seen, "worker", since=fault.at)
    return f"{listing(gone)} went, and the fault hit only the head" if gone else ""


def zombie_workers(seen: Seen) -> str:
    """Workers stay there and never become ready after the head was restarted."""
    if seen.broke(*_HEAD) is None or not of_kind(RedundancyMissing, seen.events):
        return ""
    struck = seen.victims
    zombies = [
        one.name
        for one in seen.there(Moment.AFTER)
        if one.role == "worker" and one.state == NOT_READY and one.identity not in struck
    ]
    return f"running and not ready at the end: {listing(zombies)}" if zombies else ""


def errors_on_stop(seen: Seen) -> str:
    """A node that is asked to stop answers 500 in place of draining."""
    fault = seen.broke("head_failure", "worker_failure", "node_failure", "rayservice_upgrade")
    if fault is None or not (_asks_to_stop(fault) or fault.fault == "rayservice_upgrade"):
        return ""
    errors = [one for one in seen.lost(since=fault.at, until=fault.at + 60.0) if one.error in ("HTTP 500", "HTTP 503")]
    return f"{counted(_errors(errors))} after the node was asked to stop" if errors else ""


def empty_replica_set(seen: Seen) -> str:
    """A controller that recovers tells the proxies that there is no replica."""
    fault = seen.broke("controller_failure", "head_failure")
    came = [e.at for e in of_kind(ComponentCame, seen.events) if e.component.role == "controller"]
    if fault is None or not came or _gone(seen, "replica", since=fault.at):
        return ""
    refused = [
        one
        for one in seen.lost(since=came[0], until=came[0] + 15.0)
        if one.error in ("HTTP 503", "HTTP 404") and one.path == "proxies"
    ]
    return f"{counted(_errors(refused))} after the new controller was there, and no replica went" if refused else ""


def service_lags(seen: Seen) -> str:
    """The Service leads to the pod of the lost head for some seconds."""
    fault = seen.broke("head_failure")
    if fault is None or _backend(seen) not in ("kind", "kubernetes"):
        return ""
    refused = [
        one for one in seen.lost(since=fault.at, until=fault.at + 60.0) if one.error in (*_CONNECTIONS, "HTTP 502")
    ]
    return f"{counted(_errors(refused))} after the head went" if len(refused) >= _MANY else ""


def replaced_in_recovery(seen: Seen) -> str:
    """A controller that starts after the loss of the head replaces replicas that only wait."""
    fault = seen.broke("head_failure")
    came = [e.at for e in of_kind(ComponentCame, seen.events) if e.component.role == "controller"]
    if fault is None or not came or not _fault_tolerant(seen):
        return ""
    gone = _gone(seen, "replica", since=came[0] + _RECOVERY)
    return (
        f"{number(len(gone), 'replica')} went {_RECOVERY:g} s or more after the new controller was there"
        if gone
        else ""
    )


_RECOVERY = 20.0
"""Seconds after which a controller that recovers has given replicas up."""


def update_goes_on(seen: Seen) -> str:
    """An update to a version that does not work goes on replacing replicas that do."""
    fault = seen.broke("app_update")
    if fault is None or not any(word in fault.text for word in ("raises", "fails", "errors", "never")):
        return ""
    gone = _gone(seen, "replica", since=fault.at)
    return f"{number(len(gone), 'replica')} of the version that works went" if len(gone) >= _MANY else ""


def _errors(requests: list[Request]) -> dict[str, int]:
    found: dict[str, int] = {}
    for request in requests:
        found[request.error or ""] = found.get(request.error or "", 0) + 1
    return found


def _gone(seen: Seen, role: str, *, since: float) -> list[str]:
    """The components of a role that went after that, and were not struck themselves; until it was judged."""
    struck = seen.victims
    names: Iterator[str] = (
        event.component.name
        for event in of_kind(ComponentGone, seen.events)
        if event.component.role == role
        and since <= event.at <= seen.judged_until
        and event.component.identity not in struck
    )
    return list(names)


def _backend(seen: Seen) -> str:
    return "" if seen.description is None else seen.description.backend


def _fault_tolerant(seen: Seen) -> bool:
    return seen.description is not None and seen.description.gcs != "none"


def _asks_to_stop(fault: FaultAsked) -> bool:
    """Whether a node may drain: a session got SIGTERM, or a pod was deleted, and not by force."""
    return fault.text.startswith(("SIGTERM", "deletion of"))


def _freezes(fault: FaultAsked) -> bool:
    return "SIGSTOP" in fault.text


# -- the registry ------------------------------------------------------------------------------------------------------

STALE_PROXIES = Defect(
    "ray#63784",
    (2, 44),
    (2, 60),
    "proxies that were alive when the controller was killed with no_restart=True get no updates from the new one",
    "seen with Ray 2.44 to 2.60, and open",
    stale_proxies,
    anchor="a-killed-controller-leaves-stale-proxies",
)

KNOWN: tuple[Defect, ...] = (
    STALE_PROXIES,
    Defect(
        "ray#52480",
        None,
        None,
        "worker pods restart when processes of the head are killed, with GCS fault tolerance",
        "reported with Ray 2.34, and open",
        workers_restart,
    ),
    Defect(
        "ray#64349",
        None,
        None,
        "after a restart of the head, worker pods run and never become ready, with GCS fault tolerance",
        "reported with Ray 2.44.1 and KubeRay 1.2.2, and open",
        zombie_workers,
    ),
    Defect(
        "ray#62728",
        None,
        None,
        "a controller that recovers broadcasts an empty set of replicas, and traffic stops for a moment",
        "reported in April 2026 and fixed by ray#62751; as ray#34281 already with Ray 2.5",
        empty_replica_set,
    ),
    Defect(
        "ray#64181",
        (2, 33),
        None,
        "a node that gets SIGTERM answers HTTP 500 in place of draining",
        "since Ray 2.33; Ray 2.60 drains where RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S is set",
        errors_on_stop,
        anchor="a-graceful-stop-can-cost-more-than-a-kill",
    ),
    Defect(
        "kuberay#1153",
        None,
        None,
        "for some seconds after the head went, the Service still sends requests to its pod",
        "reported with KubeRay 1.0.0 and Ray 2.9.3, and open",
        service_lags,
        anchor="a-dead-node-stays-in-the-service",
    ),
    Defect(
        "ray#66290",
        None,
        None,
        "an update to a version that fails goes on replacing healthy old replicas",
        "seen with Ray 2.52 and, once a new replica had been RUNNING, with Ray 2.60",
        update_goes_on,
        anchor="an-update-to-a-version-that-does-not-work-may-go-on",
    ),
    Defect(
        "",
        None,
        None,
        "a replica falls silent when the proxy that it answers and the GCS go together, until the GCS is back",
        "seen with Ray 2.60.0",
        silent_replicas,
        anchor="a-replica-falls-silent-when-the-proxy-it-answers-and-the-gcs-go-together",
    ),
    Defect(
        "",
        None,
        None,
        "requests hang once more, for some seconds, when the first head of a cluster is replaced",
        "seen with Ray 2.60.0 and KubeRay 1.6.2",
        second_hang,
        anchor="requests-hang-once-more-when-the-first-head-of-a-cluster-is-replaced",
    ),
    Defect(
        "",
        None,
        None,
        "a controller that starts after the loss of the head force-kills replicas that have not answered for 30 s",
        "seen once with Ray 2.60.0 and KubeRay 1.6.2",
        replaced_in_recovery,
        anchor="a-new-controller-may-replace-replicas-that-only-wait",
    ),
)
"""All that are known, those with the most certain symptoms first."""
