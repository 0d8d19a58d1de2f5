"""Ray's state API and Serve's REST, as the head's dashboard serves them."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import httpx

from pytest_serve_chaos import clock
from pytest_serve_chaos.cluster.json_fields import LONGEST, Fields
from pytest_serve_chaos.cluster.proxy_location import HEAD_ONLY
from pytest_serve_chaos.errors import ClusterStartError, CommandFailed, ObservationError
from pytest_serve_chaos.json_text import read_json
from pytest_serve_chaos.model import Json

HAPROXY_MANAGER = "HAProxyManager"
"""The class of the actor that runs HAProxy on a node."""

ACTOR_COMING_STATES = ("DEPENDENCIES_UNREADY", "PENDING_CREATION", "ALIVE", "RESTARTING")
"""The states of an actor that is there or on its way; the only other one is DEAD."""

_LONGEST_MESSAGE = 4000
"""Characters of a message of Serve, the last ones: a traceback ends with the error."""

_GIVEN_UP_AFTER = 30.0
"""Seconds in which Serve replaces a replica that was lost while an app came up."""

_RAYLET_TIMEOUT = 1
_SILENT = re.compile(r"(\d+) raylet failed to reply")
"""NODE_QUERY_FAILURE_WARNING of ray/dashboard/state_aggregator.py (Ray 2.60)."""

_LIMIT = 10_000
"""The most rows that the state API gives; its list is sorted by actor id, so a smaller limit cuts at random."""


@dataclass(frozen=True, slots=True)
class ActorRow:
    """An actor, as the GCS knows it."""

    actor_id: str
    class_name: str
    name: str
    state: str
    node_id: str
    pid: int


@dataclass(frozen=True, slots=True)
class NodeRow:
    """A Ray node, as the GCS knows it."""

    node_id: str
    address: str
    state: str
    is_head: bool


@dataclass(frozen=True, slots=True)
class ReplicaRow:
    """A replica, as the Serve controller knows it; the controller may be 11 s behind (Ray 2.60)."""

    replica_id: str
    app: str
    deployment: str
    state: str
    actor_id: str | None
    node_id: str | None
    pid: int | None


def seconds_of(options: Mapping[str, Json], name: str, otherwise: float) -> float:
    """An option of a deployment that is a time, or else `otherwise`."""
    found = options.get(name)
    is_time = isinstance(found, int | float) and not isinstance(found, bool) and abs(found) < LONGEST
    return float(found) if is_time else otherwise  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class ServeStatus:
    """What Serve's REST says: never evidence of recovery, but of what Serve wants.

    Attributes:
        apps: App -> its status (``RUNNING``, ...).
        targets: ``app#Deployment`` -> number of replicas wanted.
        deployments: ``app#Deployment`` -> its status (``HEALTHY``, ...).
        messages: App -> what Serve says about it.
        replicas: All replicas.
        proxies: Node id -> status of its proxy (``HEALTHY``, ``DRAINING``, ...).
        handles: ``app#Parent`` -> the deployments to which it holds handles; empty where Ray does not say.
        controller: The controller's actor id, None if there is none or it does not answer.
        options: ``app#Deployment`` -> the options that it runs with, wherever they were set.
        proxy_location: Where it has proxies: ``EveryNode``, ``HeadOnly`` or ``Disabled``; "" where it does not say.
        configs: App -> its part of the Serve config that Serve was given last.
    """

    apps: Mapping[str, str]
    targets: Mapping[str, int]
    deployments: Mapping[str, str]
    messages: Mapping[str, str]
    replicas: tuple[ReplicaRow, ...]
    proxies: Mapping[str, str]
    controller: str | None
    handles: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    options: Mapping[str, Mapping[str, Json]] = field(default_factory=dict, repr=False)
    proxy_location: str = ""
    configs: Mapping[str, Mapping[str, Json]] = field(default_factory=dict, repr=False)


def autoscaled(status: ServeStatus) -> dict[str, tuple[int, int]]:
    """``app#Deployment`` -> its least and its most replicas, of those that Serve scales."""
    configs = {name: options.get("autoscaling_config") for name, options in status.options.items()}
    return {name: _range(config) for name, config in configs.items() if isinstance(config, dict)}


def _range(config: Mapping[str, Json]) -> tuple[int, int]:
    """Least and most replicas; what Serve does not say is 1, as by its default."""
    least, most = (n if isinstance(n, int) else 1 for n in (config.get("min_replicas"), config.get("max_replicas")))
    return least, max(least, most)


def nodes_with_proxy(status: ServeStatus, nodes: Iterable[NodeRow]) -> frozenset[str]:
    """The ids of the nodes that must have a proxy: the head, and unless it alone has one, those with replicas."""
    head = {node.node_id for node in nodes if node.is_head and node.state == "ALIVE"}
    replicas = () if status.proxy_location == HEAD_ONLY else status.replicas
    return frozenset(head | {replica.node_id for replica in replicas if replica.node_id})


class GivenUp:
    """Watches a cluster that comes up for apps that Serve has given up.

    A replica that is lost while others still start makes it `DEPLOY_FAILED`, too, until its successor runs (Ray 2.60),
    so an app counts as given up when it is that for `_GIVEN_UP_AFTER`.
    """

    def __init__(self) -> None:
        self._since: dict[str, float] = {}

    def check(self, status: ServeStatus) -> None:
        """Looks at what Serve says now.

        Raises:
            ClusterStartError: Serve has given an app up; the error has what it says of it.
        """
        failed = [app for app, state in status.apps.items() if state == "DEPLOY_FAILED"]
        self._since = {app: self._since.get(app, clock.now()) for app in failed}
        lost = [app for app, since in self._since.items() if clock.now() - since >= _GIVEN_UP_AFTER]
        if lost:
            said = [f"{app}: {status.messages.get(app, '')}" for app in lost]
            raise ClusterStartError("the app cannot be deployed", checked=said, fix=["fix the app or its config"])


class Dashboard:
    """The dashboard of one head.

    Args:
        url: Its address, ``http://host:port``.
        headers: Sent with each request (authorization), or a function that is called for them before each request.
        timeout: Seconds for one request; Serve's REST hangs while the controller is frozen.
        verify: False, or the SSL context for https.
        permit: Asked before each request, with its method and path; raises where it must not be sent.
    """

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str] | Callable[[], Mapping[str, str]] | None = None,
        *,
        timeout: float = 2.0,
        verify: ssl.SSLContext | bool = False,
        permit: Callable[[str, str], None] | None = None,
    ) -> None:
        self.url = url.rstrip("/")

        def prepare(request: httpx.Request) -> None:
            if permit is not None:
                permit(request.method, request.url.raw_path.decode("ascii").partition("?")[0])
            request.headers.update(headers() if callable(headers) else headers or {})

        # A fresh connection a request: a kept one to a head that was killed would fail the first request to its
        # successor. One pool with `max_keepalive_connections=0` does that.
        self._client = httpx.Client(
            base_url=self.url,
            event_hooks={"request": [prepare]},
            timeout=timeout,
            verify=verify,
            trust_env=False,
            follow_redirects=False,  # `prepare` would send the headers to whatever host the answer names
            limits=httpx.Limits(max_keepalive_connections=0),
        )

    def close(self) -> None:
        """Closes all connections."""
        self._client.close()

    def actors(self, *, class_name: str | None = None) -> tuple[ActorRow, ...]:
        """All actors that are not DEAD.

        The list answers at once also while the controller is dead or frozen, because it comes from the GCS.

        Raises:
            ObservationError: The dashboard gave no usable answer.
        """
        filters = [("state", "!=", "DEAD")]
        if class_name is not None:
            filters.append(("class_name", "=", class_name))
        return tuple(
            ActorRow(
                row.text("actor_id"),
                row.text("class_name"),
                row.text("name"),
                row.text("state"),
                row.text("node_id"),
                row.number("pid"),
            )
            for row in self._state("actors", filters)
        )

    def nodes(self) -> tuple[NodeRow, ...]:
        """All nodes, the DEAD ones too.

        Raises:
            ObservationError: The dashboard gave no usable answer.
        """
        return tuple(
            NodeRow(row.text("node_id"), row.text("node_ip"), row.text("state"), row.values.get("is_head_node") is True)
            for row in self._state("nodes", [])
        )

    def silent_raylets(self) -> int:
        """How many raylets do not answer within a second; the dashboard asks each for its objects.

        Raises:
            ObservationError: The dashboard gave no usable answer, or no raylet did.
        """
        params: dict[str, str | int | list[str]] = {"limit": 1, "timeout": _RAYLET_TIMEOUT}
        data = self._get("/api/v0/objects", params, timeout=_RAYLET_TIMEOUT + 9.0)
        warning = data.object("data").object("result").text("partial_failure_warning")
        said = _SILENT.search(warning)
        return int(said[1]) if said else 0

    def serve(self) -> ServeStatus:
        """What Serve says about itself.

        Raises:
            ObservationError: The dashboard gave no usable answer.
        """
        data = self._get("/api/serve/applications/", {})
        apps = data.objects("applications")
        deployments = {
            f"{app}#{name}": fields
            for app, details in apps.items()
            for name, fields in details.objects("deployments").items()
        }
        return ServeStatus(
            apps={app: details.text("status") for app, details in apps.items()},
            targets={name: fields.number("target_num_replicas") for name, fields in deployments.items()},
            deployments={name: fields.text("status") for name, fields in deployments.items()},
            messages={app: _message(details) for app, details in apps.items()},
            replicas=tuple(_replicas(deployments)),
            proxies={node: details.text("status") for node, details in data.objects("proxies").items()},
            controller=data.object("controller_info").text("actor_id") or None,
            handles=_handles(apps),
            options={name: fields.object("deployment_config").values for name, fields in deployments.items()},
            proxy_location=data.text("proxy_location"),
            configs={app: details.object("deployed_app_config").values for app, details in apps.items()},
        )

    def put_serve(self, config: Mapping[str, Json], *, timeout: float = 20.0) -> None:
        """Makes Serve run that config, as `serve deploy` does; starts Serve where it is not running.

        Raises:
            CommandFailed: It was refused, or there was nobody to ask.
        """
        try:
            answer = self._client.put("/api/serve/applications/", json=dict(config), timeout=timeout)
        except httpx.HTTPError as error:
            raise CommandFailed(
                f"the Serve config was not taken: {type(error).__name__} {error}", checked=[f"PUT {self.url}"]
            ) from error
        if answer.status_code != 200:
            raise CommandFailed(
                f"the Serve config was refused with status {answer.status_code}",
                checked=[f"PUT {self.url}/api/serve/applications/", answer.text[-600:]],
            )

    def ray_version(self) -> str:
        """Ray's version.

        Raises:
            ObservationError: The dashboard gave no usable answer.
        """
        return self._get("/api/version", {}).text("ray_version")

    def _state(self, resource: str, filters: list[tuple[str, str, str]]) -> list[Fields]:
        params: dict[str, str | int | list[str]] = {"limit": _LIMIT, "detail": "false"}
        if filters:
            params |= {
                "filter_keys": [key for key, _, _ in filters],
                "filter_predicates": [predicate for _, predicate, _ in filters],
                "filter_values": [value for _, _, value in filters],
            }
        data = self._get(f"/api/v0/{resource}", params)
        result = data.object("data").object("result")
        if result.values.get("result") is None:
            raise ObservationError(f"{resource}: no result in the answer: {str(data.values)[:200]}")
        return result.rows("result")

    def _get(self, path: str, params: Mapping[str, str | int | list[str]], *, timeout: float | None = None) -> Fields:
        where = f"GET {self.url}{path}"
        try:
            answer = self._client.get(path, params=dict(params), timeout=timeout or self._client.timeout)
            if answer.status_code == 200:
                return Fields.of(read_json(answer.content), f"{where}: the answer")
        except (httpx.HTTPError, ValueError) as error:
            raise ObservationError(f"{where}: {type(error).__name__} {error}") from error
        raise ObservationError(f"{where}: status {answer.status_code}: {answer.text[:200]}")


def _message(app: Fields) -> str:
    """What Serve says of an app, and of those of its deployments that are not well: only these have a reason."""
    unwell = {
        name: d.text("message") for name, d in app.objects("deployments").items() if d.text("status") != "HEALTHY"
    }
    said = [app.text("message"), *(f"{name}: {message}" for name, message in unwell.items() if message)]
    return "; ".join(_end_of(part) for part in said if part)


def _end_of(message: str) -> str:
    """The last lines of a message, none of them cut."""
    if len(message) <= _LONGEST_MESSAGE:
        return message
    end = message[-_LONGEST_MESSAGE:]
    _, newline, lines = end.partition("\n")
    return f"...\n{lines}" if newline else end


def _replicas(deployments: Mapping[str, Fields]) -> Iterable[ReplicaRow]:
    for name, fields in deployments.items():
        app, _, deployment = name.partition("#")
        for replica in fields.rows("replicas"):
            yield ReplicaRow(
                replica_id=replica.text("replica_id"),
                app=app,
                deployment=deployment,
                state=replica.text("state"),
                actor_id=replica.text("actor_id") or None,
                node_id=replica.text("node_id") or None,
                pid=replica.number("pid") or None,
            )


def _handles(apps: Mapping[str, Fields]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for app, details in apps.items():
        for parent, node in details.object("deployment_topology").objects("nodes").items():
            children = node.rows("outbound_deployments")
            if children:
                found[f"{app}#{parent}"] = tuple(f"{c.text('app_name') or app}#{c.text('name')}" for c in children)
    return found
