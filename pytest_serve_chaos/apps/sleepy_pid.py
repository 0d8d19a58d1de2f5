"""The app of Ray's fault-tolerance guide: it sleeps when it starts and answers with its PID."""

from __future__ import annotations

import asyncio
import os
import time
from typing import cast

from ray import serve
from ray.serve import Application, Deployment
from starlette.requests import Request
from starlette.responses import Response

from pytest_serve_chaos.apps.answers import VERSION_HEADER, HealthSwitch, answer


@serve.deployment
class SleepyPid(HealthSwitch):
    """Answers with the PID of the replica."""

    def __init__(self, start_delay: float, work: float) -> None:
        self._work = work
        self._version: dict[str, str] = {}
        time.sleep(start_delay)

    def reconfigure(self, config: dict[str, object]) -> None:
        """From now on answers have the ``version`` of this `user_config`."""
        self._version = {VERSION_HEADER: str(config.get("version", ""))}

    async def __call__(self, request: Request) -> Response:
        """The PID, after `work` seconds."""
        if self._work:
            await asyncio.sleep(self._work)
        return answer(str(os.getpid()), self._version)


def app(args: dict[str, object]) -> Application:
    """Builds the app.

    Args:
        args: ``start_delay`` (seconds, 10 in the guide), ``work`` (seconds per request), and under ``options`` those of
            the deployment (``num_replicas``, ``max_replicas_per_node``, ``health_check_period_s``, ...).
    """
    options = dict(args.get("options") or {})  # type: ignore[call-overload]
    start_delay = float(str(args.get("start_delay", 10.0)))
    work = float(str(args.get("work", 0.0)))
    return cast("Deployment", SleepyPid).options(**options).bind(start_delay, work)
