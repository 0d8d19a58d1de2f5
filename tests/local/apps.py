"""Apps that only these tests need."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from typing import Any, cast

from fastapi import FastAPI
from ray import serve
from ray.serve import Application, Deployment
from starlette.requests import Request
from starlette.responses import Response

from pytest_serve_chaos.apps.answers import answer


@serve.deployment(
    num_replicas=1,
    ray_actor_options={"num_cpus": 0.1},
    health_check_period_s=1,
    health_check_timeout_s=3,
    graceful_shutdown_timeout_s=1,
)
class NoSwitch:
    """Its health check does not read our flag."""

    def __call__(self, request: Request) -> Response:
        return answer("well")


no_switch = cast("Deployment", NoSwitch).bind()


@serve.deployment(
    num_replicas=2,
    max_replicas_per_node=1,
    max_ongoing_requests=20,
    ray_actor_options={"num_cpus": 0.1},
    graceful_shutdown_timeout_s=5,
)
class Slow:
    """Answers after a second and a half, as a small model on a processor does."""

    async def __call__(self, request: Request) -> Response:
        await asyncio.sleep(1.5)
        return answer("short")


slow = cast("Deployment", Slow).bind()
_ECHO = "import sys\nfor line in sys.stdin: print(line, end='', flush=True)"


@serve.deployment(
    num_replicas=2,
    max_replicas_per_node=1,
    ray_actor_options={"num_cpus": 0.1},
    health_check_period_s=1,
    health_check_timeout_s=3,
    graceful_shutdown_timeout_s=1,
)
class Engine:
    """Answers by a process of its own, in a session of its own, as inference engines do.

    Args:
        watched: Whether its health check fails when that process is gone; else it answers 500 from then on.
    """

    def __init__(self, *, watched: bool) -> None:
        self._watched = watched
        self._lock = threading.Lock()
        self._engine = subprocess.Popen(
            ["echo-engine", "-c", _ECHO],
            executable=sys.executable,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def check_health(self) -> None:
        """Raises when the engine is gone and somebody watches it."""
        if self._watched and self._engine.poll() is not None:
            raise RuntimeError("the engine is gone")

    def __call__(self, request: Request) -> Response:
        assert self._engine.stdin is not None
        assert self._engine.stdout is not None
        with self._lock:
            self._engine.stdin.write("well\n")
            self._engine.stdin.flush()
            said = self._engine.stdout.readline().strip()
        if not said:
            raise RuntimeError("the engine is gone")
        return answer(said)


def engine(args: dict[str, bool]) -> Application:
    """The app with an engine; `watched` as for `Engine`."""
    return cast("Deployment", Engine).bind(watched=args.get("watched", False))


SPREAD: dict[str, Any] = {"num_replicas": 2, "max_replicas_per_node": 1, "ray_actor_options": {"num_cpus": 0.1}}


@serve.deployment(**SPREAD)
class Front:
    """Answers at its route."""

    def __call__(self, request: Request) -> Response:
        return answer("front")


@serve.deployment(**SPREAD)
class Prices:
    """Understands nothing but a list in the body."""

    async def __call__(self, request: Request) -> Response:
        item, number = await request.json()
        return answer(str(len(item) * number))


api = FastAPI()


@serve.deployment(**SPREAD)
@serve.ingress(api)
class Chat:
    """Takes POST below a path and nothing else, and does not say which replica answers."""

    @api.post("/v1/chat/completions")
    async def complete(self, request: Request) -> dict[str, object]:
        asked = await request.json()
        return {"model": asked["model"], "choices": [len(asked["messages"])]}


front = cast("Deployment", Front).bind()
chat = cast("Deployment", Chat).bind()
prices = cast("Deployment", Prices).bind()
