"""The supervisor's input: all that it needs to start Redis and the Ray nodes of one run, as one line of JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

from pytest_serve_chaos.cluster.base import Ingress
from pytest_serve_chaos.model import Json

HEAD_INDEX = 0
CPUS = 4
"""CPUs that a worker offers."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One run's cluster.

    Attributes:
        run: The run's id; each process carries it in its environment.
        directory: The run's directory for Ray, Redis and logs; it goes with the run.
        workers: Number of Ray workers.
        redis_server: Path of the `redis-server` to run; None: none is run.
        redis_address: ``host:port`` of a Redis that somebody else runs, instead.
        redis_password: Redis' password.
        namespace: Under which the GCS keeps its keys in Redis.
        secret: Ray's auth token.
        serve_config: The Serve config that the operator's part keeps deployed, without its address; if it is empty,
            nothing is deployed.
        restart_delay: Seconds until a node or Redis that died is started again.
        termination_grace: Seconds between SIGTERM and SIGKILL for a node that is stopped gracefully.
        rocksdb: The directory in which the GCS has its own RocksDB; None: it has none.
        one_directory: Whether all nodes have the head's temporary directory, whatever `--temp-dir` says.
        head_env, worker_env: Environment of the nodes, in addition to what every node gets.
        ingress: What takes the requests on each node: ``python`` or ``haproxy``.
        cpus: CPUs that a worker offers; the head offers none, so that no replica is on it.
    """

    run: str
    directory: str
    workers: int
    redis_server: str | None
    redis_address: str | None
    redis_password: str = field(repr=False)
    namespace: str
    secret: str = field(repr=False)
    serve_config: dict[str, Json] = field(repr=False)
    restart_delay: float
    termination_grace: float
    head_env: dict[str, str] = field(repr=False)
    worker_env: dict[str, str] = field(repr=False)
    ingress: Ingress = "python"
    cpus: int = CPUS
    rocksdb: str | None = None
    one_directory: bool = False

    @property
    def has_redis(self) -> bool:
        """Whether the GCS keeps its state in a Redis."""
        return self.redis_server is not None or self.redis_address is not None

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
