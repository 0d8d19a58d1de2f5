"""What our apps have in common: answers that say who gave them, and a health check that a test can make fail."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping

import ray
from ray import serve
from starlette.responses import Response

from pytest_serve_chaos.apps.health_flags import asked_for

REPLICA_HEADER = "x-serve-chaos-replica"
NODE_HEADER = "x-serve-chaos-node"
PARENT_HEADER = "x-serve-chaos-parent"
VERSION_HEADER = "x-serve-chaos-version"
_LOOK_AGAIN_AFTER = 0.2
"""Seconds between two looks of a check that hangs, whether it still should."""


def answer(body: str, extra: Mapping[str, str] | None = None) -> Response:
    """An answer whose headers say which replica on which node gave it."""
    return Response(body, media_type="text/plain", headers={**who_am_i(), **(extra or {})})


def who_am_i() -> dict[str, str]:
    """The headers that name this replica and its node."""
    return dict(_identity())


@functools.cache
def _identity() -> tuple[tuple[str, str], ...]:
    context = serve.get_replica_context()
    replica = f"{context.app_name}#{context.deployment}#{context.replica_id.unique_id}"
    return (REPLICA_HEADER, replica), (NODE_HEADER, ray.get_runtime_context().get_node_id())


class HealthSwitch:
    """Mix this into a deployment, and its health check can be made to fail replica by replica.

    The flag is a file in the directory that the environment variable SERVE_CHAOS_FLAGS names; its name is the PID of
    the replica, its content what the check should do: ``raise`` or ``hang``. It counts until it is removed, or the time
    that the file ``PID.until`` names.
    """

    def check_health(self) -> None:
        """Does what the flag says; without a flag that counts, the replica is healthy."""
        while (mode := asked_for()) == "hang":
            time.sleep(_LOOK_AGAIN_AFTER)
        if mode:
            raise RuntimeError("serve-chaos: this health check fails because a test asked for it")
