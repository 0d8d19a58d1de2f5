"""What should be in a fake cluster: its nodes, its apps, and a slot for each part."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from pytest_serve_chaos.cluster import serve_config
from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.proxy_location import EVERY_NODE, HEAD_ONLY
from pytest_serve_chaos.model import HEAD, Json, Role
from pytest_serve_chaos.testing.behaviour import FakeBehaviour

REDIS = "redis"
"""The name of the node on which Redis is."""
DEPLOYMENT = "SleepyPid"
"""The one deployment of each app."""
ADDED_REPLICAS = 2
"""How many more replicas an autoscaled app gets."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A place that one part fills at a time: the second replica of a deployment, the proxy of a node.

    Attributes:
        role: The role of the part.
        node: Where it is.
        deployment: ``app#Deployment``, for replicas.
        number: Tells the replicas of a deployment apart.
    """

    role: Role
    node: str
    deployment: str = ""
    number: int = 0

    @property
    def needs_controller(self) -> bool:
        """Whether the controller fills it again."""
        return self.role in ("proxy", "replica")


class Plan:
    """What should be there.

    Args:
        spec: The cluster that the test wants.
        behaviour: What is wrong with it.

    Attributes:
        config: The Serve config that it should run.
        running: The one with which the controller works: the same, unless faults do nothing.
        scaled_up: Whether Serve wants more replicas than at first.
    """

    def __init__(self, spec: ClusterSpec, behaviour: FakeBehaviour) -> None:
        self.spec = spec
        self.config = self.running = serve_config.serve_config(spec)
        self.scaled_up = behaviour.autoscales == "down with a fault"
        self._behaviour = behaviour

    @property
    def node_names(self) -> tuple[str, ...]:
        """All nodes, head first."""
        return (HEAD, *(f"worker-{n}" for n in range(1, self.spec.workers + 1)))

    @property
    def proxy_location(self) -> str:
        """Where proxies are, as the Serve config says."""
        return str(self.config.get("proxy_location") or EVERY_NODE)

    def address(self, node: str) -> str:
        """The address of a node."""
        return f"10.0.0.{self.node_names.index(node) + 1}"

    def routes(self) -> dict[str, str]:
        """Route -> app, as the controller wants them."""
        return {str(app.get("route_prefix", "/")): str(app["name"]) for app in serve_config.applications(self.running)}

    def targets(self) -> dict[str, int]:
        """``app#Deployment`` -> replicas wanted. The canary's have no parts here: see `canaries`."""
        more = ADDED_REPLICAS if self.scaled_up else 0
        return {name: self._replicas(app) + more for name, app in self._apps().items()}

    def options(self) -> dict[str, dict[str, Json]]:
        """``app#Deployment`` -> its options as reported: those of the config, and the range of what is scaled."""
        least = self._behaviour.replicas
        scaling: dict[str, Json] = {"min_replicas": least, "max_replicas": least + ADDED_REPLICAS}
        found: dict[str, dict[str, Json]] = {}
        for name, app in self._apps().items():
            given = _options(app)
            found |= {name: given} if given else {}
            if self._behaviour.autoscales:
                found[name] = {**given, "autoscaling_config": scaling}
        return found

    def versions(self) -> dict[str, str]:
        """``app#Deployment`` -> the version of its code, which is the import path with the arguments, as in Ray."""
        fields = ("import_path", "args", "runtime_env")
        return {name: json.dumps([app.get(one) for one in fields]) for name, app in self._apps().items()}

    def bad(self) -> dict[str, str]:
        """``app#Deployment`` -> what is wrong with its version; only those with which something is."""
        args = {name: app.get("args") for name, app in self._apps().items()}
        return {name: str(one["bad"]) for name, one in args.items() if isinstance(one, dict) and "bad" in one}

    def canaries(self) -> dict[str, int]:
        """Canary app -> its replicas, which are there at once."""
        apps = [app for app in serve_config.applications(self.running) if serve_config.CANARY in str(app["name"])]
        return {str(app["name"]): self._replicas(app) for app in apps}

    def slots(self) -> list[Slot]:
        """All slots, in the order in which they are filled."""
        nodes = self.node_names
        found = [Slot("redis", REDIS)] if self.spec.gcs == "redis" else []
        found += [Slot("head" if node == HEAD else "worker", node) for node in nodes]
        found += [Slot("raylet", node) for node in nodes]
        found += [Slot("gcs", HEAD), Slot("controller", HEAD)]
        found += [Slot("proxy", node) for node in nodes if node == HEAD or self.proxy_location != HEAD_ONLY]
        for deployment, count in self.targets().items():
            found += [Slot("replica", nodes[1 + n % self.spec.workers], deployment, n) for n in range(count)]
        return found

    def _apps(self) -> dict[str, dict[str, Json]]:
        """``app#Deployment`` -> the app; not the canary's."""
        apps = [app for app in serve_config.applications(self.running) if serve_config.CANARY not in str(app["name"])]
        return {f"{app['name']}#{DEPLOYMENT}": app for app in apps}

    def _replicas(self, app: Mapping[str, Json]) -> int:
        changed = _options(app).get("num_replicas")
        return int(cast("int", changed)) if changed is not None else self._behaviour.replicas


def _options(app: Mapping[str, Json]) -> dict[str, Json]:
    """What the config says of the deployment of an app."""
    deployments = cast("list[dict[str, Json]]", app.get("deployments") or [])
    return {name: value for one in deployments for name, value in one.items() if name != "name"}
