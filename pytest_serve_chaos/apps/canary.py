"""The smallest app: its route is added after a recovery, to see whether each proxy hears of it."""

from __future__ import annotations

from typing import cast

from ray import serve
from ray.serve import Deployment
from starlette.requests import Request
from starlette.responses import Response


@serve.deployment(num_replicas=1, ray_actor_options={"num_cpus": 0}, graceful_shutdown_timeout_s=0.5)
class Canary:
    """Answers that it is there."""

    def __call__(self, request: Request) -> Response:
        """One word."""
        return Response("chirp")


app = cast("Deployment", Canary).bind()
