"""An app that is slow to start and answers with its PID, as that of the guide; it knows nothing of this package."""

from __future__ import annotations

import os
import time
from typing import cast

from ray import serve
from ray.serve import Deployment
from starlette.requests import Request


@serve.deployment
class SleepyPid:
    """Sleeps, then serves."""

    def __init__(self) -> None:
        time.sleep(2)

    def __call__(self, request: Request) -> int:
        """Its PID."""
        return os.getpid()


app = cast("Deployment", SleepyPid).bind()
