"""The Redis under the GCS of a local cluster, and the second cluster that shares it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

from pytest_serve_chaos.cluster.base import Cluster
from pytest_serve_chaos.cluster.local.layout import Layout
from pytest_serve_chaos.cluster.local.node_faults import UnitKills
from pytest_serve_chaos.cluster.local.plan import Plan
from pytest_serve_chaos.cluster.storage import no_redis
from pytest_serve_chaos.errors import ObservationError
from pytest_serve_chaos.model import Evidence

REDIS = "redis"
"""What the supervisor calls it."""


class LocalRedis:
    """A Redis that is a process of this machine. Has the capability `HasRedis`.

    Args:
        plan: What the supervisor runs.
        layout: Its addresses and ports.
        units: Ends what the supervisor runs.
    """

    def __init__(self, plan: Plan, layout: Layout, units: UnitKills) -> None:
        self._plan = plan
        self._layout = layout
        self._units = units

    def check(self) -> None:
        """Makes sure that there is one.

        Raises:
            Unsupported: There is none.
        """
        if not self._plan.has_redis:
            raise no_redis("rocksdb" if self._plan.rocksdb else "none")

    @property
    def redis_namespace(self) -> str:
        """The namespace of this run's GCS."""
        return self._plan.namespace

    @property
    def address(self) -> str:
        """``host:port``."""
        return self._plan.redis_address or f"{self._layout.serve_host}:{self._layout.redis_port}"

    @property
    def password(self) -> str:
        """Its password."""
        return self._plan.redis_password

    def kill_redis(self, *, how: Literal["kill", "stop"], hold: bool) -> Sequence[Evidence]:
        """Ends Redis; returns when nothing of it is left.

        Raises:
            Unsupported: The cluster has no Redis.
            CommandFailed: The supervisor refused it.
        """
        self.check()
        return self._units.kill(REDIS, how, hold=hold)

    def restore_redis(self) -> None:
        """Ends a hold: Redis may be started again now."""
        self._units.restore(REDIS)

    def redis_keys(self) -> tuple[str, ...]:
        """All keys in Redis.

        Raises:
            Unsupported: The cluster has no Redis.
            ObservationError: It gave no usable answer.
        """
        self.check()
        return keys_in(self.address, self.password)


StartSecond: TypeAlias = Callable[[LocalRedis, str], Cluster]
"""Starts a head alone on that Redis: given the namespace of its keys."""


class SharedRedis:
    """Starts additional clusters on the same Redis. Has the capability `SharesRedis`.

    Args:
        redis: The Redis.
        start: Starts a head alone.
    """

    def __init__(self, redis: LocalRedis, start: StartSecond) -> None:
        self._redis = redis
        self._start = start

    def start_alongside(self, namespace: str | None = None) -> Cluster:
        """Starts a head alone on the same Redis.

        Args:
            namespace: Under which its GCS keeps its keys; None: one of its own.

        Raises:
            Unsupported: The cluster has no Redis.
            ClusterStartError: It did not come up; nothing is left of it.
        """
        self._redis.check()
        return self._start(self._redis, namespace or f"{self._redis.redis_namespace}-alongside")


def keys_in(address: str, password: str) -> tuple[str, ...]:
    """All keys in a Redis, by its own protocol (two commands do not need a client library).

    Raises:
        ObservationError: It gave no usable answer.
    """
    host, _, port = address.rpartition(":")
    try:
        with (
            socket.create_connection((host, int(port)), timeout=5.0) as connection,
            connection.makefile("rb") as answers,
        ):
            connection.sendall(f"AUTH {password}\r\nKEYS *\r\n".encode())
            if not answers.readline().startswith(b"+OK"):
                raise ObservationError(f"Redis at {address} refused the password")
            count = int(answers.readline()[1:])
            keys = []
            for _ in range(count):
                length = int(answers.readline()[1:])
                keys.append(answers.read(length + 2)[:-2].decode(errors="replace"))
            return tuple(keys)
    except (OSError, ValueError) as error:
        raise ObservationError(f"Redis at {address} did not answer: {error}") from error
