"""How the controller of a fake cluster brings an update of an app to its replicas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from pytest_serve_chaos import clock
from pytest_serve_chaos.cluster import serve_config
from pytest_serve_chaos.cluster.rest import ReplicaRow
from pytest_serve_chaos.model import Json
from pytest_serve_chaos.testing.behaviour import FakeBehaviour
from pytest_serve_chaos.testing.parts import Part
from pytest_serve_chaos.testing.plan import Plan, Slot


class Rollouts:
    """Rolling updates: one replica of a deployment at a time.

    Args:
        plan: What should be there.
        behaviour: What is wrong with the cluster.
    """

    def __init__(self, plan: Plan, behaviour: FakeBehaviour) -> None:
        self._plan = plan
        self._behaviour = behaviour
        self._started: dict[int, float] = {}
        self._rolling: set[str] = set()
        self._tried: set[str] = set()

    def changes(self, config: Mapping[str, Json]) -> bool:
        """Whether that config has other apps than the one that should run, but for the canary's."""
        return _without_canary(config) != _without_canary(self._plan.config)

    def take(self, config: dict[str, Json]) -> list[str]:
        """Takes a config; returns the deployments whose replicas are reconfigured."""
        plan = self._plan
        options, versions = plan.options(), plan.versions()
        given_up = self._behaviour.keeps_bad and any(plan.bad()) and self.changes(config)
        plan.config = config
        plan.running = _as_before(config, plan.running) if self._behaviour.harmless or given_up else config
        self._rolling |= {name for name, version in plan.versions().items() if versions.get(name, version) != version}
        now = plan.options()
        return [name for name in now if _reconfigured(options.get(name, {})) != _reconfigured(now[name])]

    def stamp(self, part: Part) -> None:
        """A replica that starts has the version that is wanted."""
        name = part.slot.deployment
        part.version, part.bad = self._plan.versions().get(name, ""), self._plan.bad().get(name, "")
        self._started[part.pid] = clock.now()
        self._tried.add(part.version)

    def can_start(self, deployment: str) -> bool:
        """Whether replicas of the version that is wanted start."""
        return self._plan.bad().get(deployment) != "constructor"

    def outdated(self, parts: Mapping[Slot, Part], wanted: Sequence[Slot]) -> list[Slot]:
        """The places of the replicas that go now, for others of the version that is wanted."""
        versions = self._plan.versions()
        chosen = []
        for name in versions:
            slots = [slot for slot in wanted if slot.deployment == name]
            there = [slot for slot in slots if slot in parts]
            old = [slot for slot in there if parts[slot].version != versions[name]]
            # A new version that became unhealthy once is not tried again, as in Ray 2.60.
            stopped = self._plan.bad().get(name) == "health_check" and versions[name] in self._tried
            if old and (self._behaviour.eats_old or (len(there) == len(slots) and not stopped)):
                chosen.append(old[0])
        return chosen

    def unhealthy(self, parts: Mapping[Slot, Part], now: float) -> list[Slot]:
        """The places of the replicas whose health check has failed for long enough."""
        sick = [slot for slot, part in parts.items() if part.bad == "health_check"]
        return [slot for slot in sick if now - self._started[parts[slot].pid] > 2 * self._behaviour.back_after]

    def starting(self, parts: Mapping[Slot, Part]) -> list[ReplicaRow]:
        """What Serve says of replicas that try to start, and never will."""
        bad, places = self._plan.bad(), self._plan.slots()
        holes = [slot for slot in places if bad.get(slot.deployment) == "constructor" and slot not in parts]
        split = [slot.deployment.partition("#") for slot in holes]
        return [
            ReplicaRow(f"starts{n}", app, name, "STARTING", None, None, None) for n, (app, _, name) in enumerate(split)
        ]

    def unfinished(self, parts: Mapping[Slot, Part]) -> frozenset[str]:
        """The deployments whose update is not complete."""
        versions, targets = self._plan.versions(), self._plan.targets()
        for name in tuple(self._rolling):
            new = [p for slot, p in parts.items() if slot.deployment == name and p.version == versions.get(name)]
            if len(new) >= targets.get(name, 0):
                self._rolling.discard(name)
        return frozenset(self._rolling)


def _as_before(config: dict[str, Json], running: Mapping[str, Json]) -> dict[str, Json]:
    """The config in which each app that ran has its code and options of before; only its number of replicas changes."""
    before = {serve_config.name_of(app): app for app in serve_config.applications(running)}
    apps: list[Json] = []
    for app in serve_config.applications(config):
        old = before.get(serve_config.name_of(app))
        counts: list[Json] = [one for one in map(_count, _deployments(app)) if one]
        others: list[Json] = [_without_count(one) for one in _deployments(old or {})]
        apps.append(app if old is None else {**old, "deployments": [*others, *counts]})
    return {**config, "applications": apps}


def _deployments(app: Mapping[str, Json]) -> list[dict[str, Json]]:
    return cast("list[dict[str, Json]]", app.get("deployments") or [])


def _count(deployment: Mapping[str, Json]) -> dict[str, Json]:
    """What a config says of the number of replicas; empty where it says nothing."""
    return {name: deployment[name] for name in ("name", "num_replicas")} if "num_replicas" in deployment else {}


def _without_count(deployment: Mapping[str, Json]) -> dict[str, Json]:
    return {name: value for name, value in deployment.items() if name != "num_replicas"}


def _without_canary(config: Mapping[str, Json]) -> list[Json]:
    return [app for app in serve_config.applications(config) if serve_config.CANARY not in str(app["name"])]


def _reconfigured(options: Mapping[str, Json]) -> dict[str, Json]:
    return {name: value for name, value in options.items() if name not in ("num_replicas", "autoscaling_config")}
