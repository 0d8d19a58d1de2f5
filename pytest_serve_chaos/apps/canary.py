"""The smallest app: it is added and scaled up after a recovery, to see whether each proxy hears of it."""

from __future__ import annotations

import asyncio
from typing import cast

from ray import serve
from ray.serve import Deployment
from starlette.requests import Request
from starlette.responses import Response

from pytest_serve_chaos.apps.answers import REPLICA_HEADER, answer, who_am_i

WORK = 0.2
"""Seconds for one request: two that a proxy has at the same time need two replicas."""


@serve.deployment(
    num_replicas=1, max_ongoing_requests=1, ray_actor_options={"num_cpus": 0}, graceful_shutdown_timeout_s=0.5
)
class Canary:
    """Answers with its own name, to one request at a time."""

    async def __call__(self, request: Request) -> Response:
        """The name of the replica, after a while."""
        await asyncio.sleep(WORK)
        return answer(who_am_i()[REPLICA_HEADER])


app = cast("Deployment", Canary).bind()
