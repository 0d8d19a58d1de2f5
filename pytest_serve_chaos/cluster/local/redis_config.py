"""The configuration of a local cluster's Redis: a file, for a command line would show the password to everybody."""

from __future__ import annotations

import json
import os
from pathlib import Path

from pytest_serve_chaos.cluster.local.layout import Layout
from pytest_serve_chaos.cluster.local.plan import Plan

DISABLED = ("CONFIG", "MODULE", "DEBUG", "EVAL", "EVALSHA", "SCRIPT", "REPLICAOF", "SLAVEOF")
"""Commands with which a client of Redis writes files, loads code or changes the machine's Redis for others.

Neither Ray nor the plugin sends one (strings of `gcs_server`, Ray 2.60.0). Each of them is in Redis 5 and later, and
Redis does not start with the name of one that it does not have.
"""


def redis_config_path(plan: Plan) -> Path:
    """Where the file is."""
    return Path(plan.directory) / "redis.conf"


def redis_config(plan: Plan, layout: Layout) -> str:
    """What is in it: no persistence, as the guide's RayService has it."""
    lines = (
        f"bind {layout.serve_host}",
        f"port {layout.redis_port}",
        f"requirepass {plan.redis_password}",
        'save ""',
        "appendonly no",
        f"dir {json.dumps(plan.directory)}",
        "daemonize no",
        *(f'rename-command {name} ""' for name in DISABLED),
    )
    return "\n".join(lines) + "\n"


def write_redis_config(plan: Plan, layout: Layout) -> None:
    """Writes the file, for this user alone.

    Raises:
        FileExistsError: Something has its name already.
    """
    handle = os.open(redis_config_path(plan), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(handle, "w", encoding="utf-8") as file:
        file.write(redis_config(plan, layout))
