"""Apps that only these tests need."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from pathlib import Path
from typing import Any, cast

from fastapi import FastAPI
from ray import serve
from ray.serve import Deployment
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


def _controllers() -> set[str]:
    """PIDs of all Serve controllers of this machine."""
    found = set()
    for directory in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if directory.name.isdigit() and b"ray::ServeController" in (directory / "cmdline").read_bytes():
                found.add(directory.name)
    return found


@serve.deployment(**SPREAD)
class Leaky:
    """From the loss of a controller on it keeps 0.6 MiB and five open files more each second."""

    def __init__(self) -> None:
        self._kept: list[object] = []
        threading.Thread(target=self._leak, daemon=True).start()

    def __call__(self, request: Request) -> Response:
        return answer("well")

    def _leak(self) -> None:
        first = _controllers()
        while first <= _controllers():
            time.sleep(0.5)
        while True:
            self._kept += [b"x" * 2**17, os.open("/dev/null", os.O_RDONLY)]
            time.sleep(0.2)


leaky = cast("Deployment", Leaky).bind()


@serve.deployment(**SPREAD)
class Spinning:
    """From the loss of a controller on it keeps a processor busy for half of the time, and does nothing."""

    def __init__(self) -> None:
        threading.Thread(target=self._spin, daemon=True).start()

    def __call__(self, request: Request) -> Response:
        return answer("well")

    def _spin(self) -> None:
        first = _controllers()
        while first <= _controllers():
            time.sleep(0.5)
        while True:
            until = time.monotonic() + 0.03
            while time.monotonic() < until:
                pass
            time.sleep(0.03)


spinning = cast("Deployment", Spinning).bind()
