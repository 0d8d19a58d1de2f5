"""The logs of a RayService: read in the pods when they are wanted, or from the files that they were streamed into."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from pytest_serve_chaos import clock
from pytest_serve_chaos.cluster.kubernetes import in_pod
from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.client.records import Container, Pod
from pytest_serve_chaos.cluster.kubernetes.logs.followers import Source
from pytest_serve_chaos.cluster.kubernetes.logs.stream import LogAccess, LogStream
from pytest_serve_chaos.errors import CommandFailed, ObservationError
from pytest_serve_chaos.model import HEAD, Component

ALL = ("*.log", "*.out", "*.err", "serve/*.log")
"""Of Ray's and Serve's files, and the container's output where it was streamed."""


class PodLogs:
    """What the pods of one RayService log. Has the capabilities that read and stream logs.

    Args:
        api: The Kubernetes API, in its namespace.
        access: Which logs may be read.
        sources: Returns the containers whose logs are streamed.
        ray_pods: Returns Ray's pods with their names, head first, of the RayCluster that serves.
        live: Returns the container of a pod that runs, None if none does.
    """

    def __init__(
        self,
        api: KubeApi,
        access: LogAccess,
        *,
        sources: Callable[[], Sequence[Source]],
        ray_pods: Callable[[], Sequence[tuple[str, Pod]]],
        live: Callable[[Pod], Container | None],
    ) -> None:
        self._api = api
        self._access = access
        self._ray_pods = ray_pods
        self._live = live
        self._sources = sources
        self._stream: LogStream | None = None

    def stream_logs(self, directory: Path) -> LogStream:
        """From now on all logs go into files there, since deleted pods take theirs along; an earlier stream ends."""
        self.close()
        self._stream = LogStream(self._api, self._access, self._sources, directory)
        return self._stream

    @property
    def dead(self) -> tuple[str, ...]:
        """Which threads of the stream ended although nobody stopped them, in words."""
        return () if self._stream is None else self._stream.dead

    def close(self) -> None:
        """Ends the stream, if there is one."""
        if self._stream is not None:
            self._stream.close()

    def excerpt(self, since: float, *, pattern: str | None = None, lines: int = 40) -> tuple[str, ...]:
        """The last lines of Ray's and Serve's logs; of pods that are gone, where logs were streamed."""
        return tuple(self.read(ALL, since=since, lines=lines, expression=pattern or "")[-lines:])

    def controller_log(self, *, pattern: str, since: float) -> tuple[str, ...]:
        """Lines of the controller's log after `since` (monotonic seconds) that match `pattern`."""
        return tuple(self.read(["serve/controller_*"], since=since, lines=1000, expression=pattern, node=HEAD))

    def replica_log(self, replica: Component, *, since: float) -> tuple[str, ...]:
        """Lines of that replica's log after `since` (monotonic seconds)."""
        replica_id = (replica.replica or "").rpartition("#")[2]
        files = [f"serve/replica_*_{replica_id}.log"] if replica_id else []
        return tuple(self.read(files, since=since, lines=2000, node=replica.node) if files else ())

    def read(
        self, patterns: Sequence[str], *, since: float, lines: int, expression: str = "", node: str | None = None
    ) -> list[str]:
        """The last lines of Ray's and Serve's logs; those of pods that are gone only where they were streamed.

        Args:
            patterns: Of the files' names, below Ray's directory for logs.
            since: Monotonic seconds.
            lines: Most lines of each pod.
            expression: What is wanted of a line.
            node: Of which node; None: of all.

        Raises:
            ObservationError: The API server does not say which pods there are, and nothing was streamed.
        """
        stream = self._stream
        found: list[str] = []
        asked: set[str] = set()
        for name, pod in self._pods_to_ask():
            container = self._live(pod)
            key = container.id if container is not None else ""
            if node not in (None, name) or (stream is not None and stream.has_all(key, since)):
                continue
            said = self._ask(name, pod, patterns, expression, since, lines)
            if said is not None:
                found += said
                asked.add(key)
        if stream is not None:
            found += stream.lines(patterns, expression, since, node=node, but=asked)
        return found

    def _pods_to_ask(self) -> Sequence[tuple[str, Pod]]:
        try:
            return self._ray_pods()
        except ObservationError:
            if self._stream is None:
                raise
            return ()

    def _ask(
        self, name: str, pod: Pod, patterns: Sequence[str], expression: str, since: float, lines: int
    ) -> list[str] | None:
        """What a program in the pod reads; None if none could be run."""
        age = max(0.0, clock.now() - since)
        arguments = (",".join(patterns), expression, f"{age:.1f}", str(lines))
        command = in_pod.command("read_logs", pod.uid, *arguments)
        try:
            result = self._api.run(pod.name, pod.main.name if pod.main else "", command)
        except CommandFailed:
            return None  # it is on its way out, or its container is; there is nothing to be read
        if result.returncode != 0:
            return None
        return [f"{name}: {line}" for line in result.stdout.splitlines() if line]
