"""A composed app: a parent asks a child through a handle, and the answer names both."""

from __future__ import annotations

import os
from typing import cast

from ray import serve
from ray.serve import Application, Deployment
from ray.serve.handle import DeploymentHandle
from starlette.requests import Request
from starlette.responses import Response

from pytest_serve_chaos.apps.answers import PARENT_HEADER, REPLICA_HEADER, HealthSwitch, answer, who_am_i


@serve.deployment
class Child(HealthSwitch):
    """Says who it is."""

    def who(self) -> dict[str, str]:
        """The headers that name this replica, and its PID."""
        return {**who_am_i(), "pid": str(os.getpid())}


@serve.deployment
class Parent(HealthSwitch):
    """Answers with its own PID and that of the child that it reached."""

    def __init__(self, child: DeploymentHandle[object]) -> None:
        self._child = child

    async def __call__(self, request: Request) -> Response:
        """``parent PID child PID``; the headers name the child as the one that answered, and also the parent."""
        child: dict[str, str] = await self._child.who.remote()
        headers = {PARENT_HEADER: who_am_i()[REPLICA_HEADER], REPLICA_HEADER: child[REPLICA_HEADER]}
        return answer(f"parent {os.getpid()} child {child['pid']}", headers)


def app(args: dict[str, object]) -> Application:
    """Builds the app; ``options`` are those of the parent, ``child_options`` those of the child."""
    parent = dict(args.get("options") or {})  # type: ignore[call-overload]
    child = {**parent, **dict(args.get("child_options") or {})}  # type: ignore[call-overload]
    parents, children = cast("Deployment", Parent), cast("Deployment", Child)
    return parents.options(**parent).bind(children.options(**child).bind())
