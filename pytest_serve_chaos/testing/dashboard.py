"""What the head of a fake cluster answers: Ray's state API and Serve's REST."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from pytest_serve_chaos.cluster import serve_config
from pytest_serve_chaos.cluster.rest import ActorRow, Dashboard, NodeRow, ReplicaRow, ServeStatus
from pytest_serve_chaos.errors import CommandFailed, ObservationError
from pytest_serve_chaos.model import Json
from pytest_serve_chaos.testing.parts import Part
from pytest_serve_chaos.testing.world import World

RAY_VERSION = "2.60.0"
"""The version that a fake cluster claims to have."""


class FakeDashboard(Dashboard):
    """What the head of a fake cluster answers.

    Args:
        world: What lives in the cluster.
    """

    def __init__(self, world: World) -> None:
        self._world = world

    def close(self) -> None:
        """Does nothing: no connection is open."""

    def ray_version(self) -> str:
        """The version of Ray that the cluster claims to have."""
        return RAY_VERSION

    def actors(self, *, class_name: str | None = None) -> tuple[ActorRow, ...]:
        """All actors that the GCS knows."""
        with self._asked():
            return tuple(
                row
                for row in self._world.gcs.actors(self._world.parts.values())
                if class_name in (None, row.class_name)
            )

    def nodes(self) -> tuple[NodeRow, ...]:
        """All nodes, including those that are DEAD."""
        with self._asked():
            return tuple(self._world.gcs.nodes.values())

    def silent_raylets(self) -> int:
        """How many raylets stand still."""
        with self._asked():
            return sum(part.frozen for part in self._world.parts.of("raylet"))

    def serve(self) -> ServeStatus:
        """What the controller reports."""
        with self._asked(controller=True):
            world, plan = self._world, self._world.plan
            controller = next(p.actor_id for p in world.parts.of("controller"))
            apps = set(plan.routes().values())
            updated = world.rollouts.unfinished(world.parts)
            deploying = {name.partition("#")[0] for name in updated}
            healthy = {p.slot.node: "HEALTHY" for p in world.parts.of("proxy")}
            return ServeStatus(
                apps={app: "DEPLOYING" if app in deploying else "RUNNING" for app in apps},
                targets=plan.targets(),
                deployments={name: "UPDATING" if name in updated else "HEALTHY" for name in plan.targets()},
                messages=dict.fromkeys(apps, ""),
                replicas=(
                    *(_replica_row(part) for part in world.parts.of("replica")),
                    *world.rollouts.starting(world.parts),
                    *_canary_rows(plan.canaries()),
                ),
                proxies=healthy,
                controller=controller,
                options=plan.options(),
                proxy_location=plan.proxy_location,
                configs={str(app["name"]): app for app in serve_config.applications(plan.running)},
            )

    def put_serve(self, config: Mapping[str, Json], *, timeout: float = 20.0) -> None:
        """Takes a Serve config.

        Raises:
            CommandFailed: The controller does not answer.
        """
        try:
            with self._asked(controller=True):
                self._world.update(dict(config))
        except ObservationError as error:
            raise CommandFailed(f"the Serve config was not taken: {error}") from error

    @contextmanager
    def _asked(self, *, controller: bool = False) -> Iterator[None]:
        world = self._world
        world.tick()
        with world.lock:
            if not (world.parts.controller_works if controller else world.parts.gcs_answers):
                raise ObservationError(f"the fake {'controller' if controller else 'GCS'} does not answer")
            yield


class DashboardWithoutServe(FakeDashboard):
    """The same for a head on which Serve does not run."""

    def serve(self) -> ServeStatus:
        """An empty status."""
        return ServeStatus({}, {}, {}, {}, (), {}, None)


def _replica_row(part: Part) -> ReplicaRow:
    app, _, deployment = part.slot.deployment.partition("#")
    return ReplicaRow(part.replica_id, app, deployment, "RUNNING", part.actor_id, None, part.pid)


def _canary_rows(canaries: Mapping[str, int]) -> list[ReplicaRow]:
    return [
        ReplicaRow(str(number), app, "Canary", "RUNNING", None, None, None)
        for app, count in canaries.items()
        for number in range(count)
    ]
