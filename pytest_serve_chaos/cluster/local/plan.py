"""What the supervisor is told: all that it takes to start Redis and the Ray nodes of one run, as one line of JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from pytest_serve_chaos.model import Json

HEAD_INDEX = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """One run's cluster.

    Attributes:
        run: The run's id; each process carries it in its environment.
        directory: The run's directory for Ray, Redis and logs; it goes with the run.
        workers: Number of Ray workers.
        redis_server: Path of `redis-server`; None means that GCS fault tolerance is off.
        namespace: Under which the GCS keeps its keys in Redis.
        secret: Ray's auth token, and Redis' password.
        serve_config: The Serve config that the operator's part keeps deployed, without its address.
        restart_delay: Seconds until a node or Redis that died is started again.
        termination_grace: Seconds between SIGTERM and SIGKILL for a node that is stopped gracefully.
        head_env, worker_env: Environment of the nodes, beside what every node gets.
        cpus: CPUs that a worker offers; the head offers none, so that no replica is on it.
    """

    run: str
    directory: str
    workers: int
    redis_server: str | None
    namespace: str
    secret: str
    serve_config: dict[str, Json]
    restart_delay: float
    termination_grace: float
    head_env: dict[str, str]
    worker_env: dict[str, str]
    cpus: int = 4

    def line(self) -> str:
        """The plan as one line."""
        return json.dumps(asdict(self)) + "\n"

    @classmethod
    def parse(cls, line: str) -> Plan:
        """Reads what `line` gave."""
        return cls(**json.loads(line))


def node_name(index: int) -> str:
    """The name of node `index`: ``head``, ``worker-1``, ..."""
    return "head" if index == HEAD_INDEX else f"worker-{index}"
