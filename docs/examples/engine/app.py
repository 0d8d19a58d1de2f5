"""An app that answers by a process of its own under each replica."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import cast

from ray import serve
from ray.serve import Application, Deployment
from starlette.requests import Request
from starlette.responses import Response

from pytest_serve_chaos.apps.answers import answer

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
