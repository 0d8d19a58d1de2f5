"""Follows what one container logs: its output by the API server, Ray's and Serve's files by a program in it."""

from __future__ import annotations

import json
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

from pytest_serve_chaos import clock
from pytest_serve_chaos.cluster.kubernetes import in_pod
from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.client.streaming import Answer
from pytest_serve_chaos.cluster.kubernetes.logs.files import LogFiles
from pytest_serve_chaos.cluster.test_logs import name_of_file
from pytest_serve_chaos.watch_thread import WatchThread

CONTAINER_LOG = "container.log"
"""What the first container of a pod writes to its output; each line begins with its time, as Kubernetes has it."""

_LOGS = "/tmp/ray/session_latest/logs"
_LOOK_EVERY = 0.5
_PATIENCE = 20.0
"""Seconds of silence after which the program is restarted; it says something every 5."""
_QUIET = 60.0
"""Seconds without output of a container, after which it is asked for again."""
_CONTEXT = 100
"""Lines of output that a container had written before; where it has always been quiet, they say what it is."""
_AGAIN_AFTER = 5.0
"""Seconds until it is asked for again; by then it is known if the container has ended, or is another one."""
_FIRST_AFTER = 0.5
"""The same, of what has given nothing yet; twice as many each time, up to `_AT_LEAST_EVERY`."""
_AT_LEAST_EVERY = 30.0


@dataclass(frozen=True, slots=True)
class Source:
    """A container whose logs are wanted.

    Attributes:
        node: ``head``, ``worker-1``, ``redis``, ``operator``, or ``head of <cluster>`` where that does not serve yet.
        pod: Its pod.
        container: Its name in the pod.
        id: Its id: one that was started again is another one.
        restarts: How often it was started again.
        has_files: Whether it is one of Ray's, which log into files.
        namespace: Of the pod; None: that of the RayService.
        is_main: Whether it is the first of its pod, and no init container and no sidecar.
        ended: Whether it runs no more; what it wrote can still be read.
        pod_uid: Which pod of that name it is in.
    """

    node: str
    pod: str
    container: str
    id: str
    restarts: int = 0
    has_files: bool = False
    namespace: str | None = None
    is_main: bool = True
    ended: bool = False
    pod_uid: str = ""

    @property
    def directory(self) -> str:
        """The directory for its files: one per pod, except for a first container that was started again."""
        return name_of_file(f"{self.node}_{self.pod}" + (self._again if self.is_main else ""))

    @property
    def output_file(self) -> str:
        """The file for its output."""
        return CONTAINER_LOG if self.is_main else f"container-{self.container}{self._again}.log"

    @property
    def _again(self) -> str:
        return f"_restart-{self.restarts}" if self.restarts else ""


class Follower(ABC):
    """A thread that asks again, less and less often, until there is nothing more to come.

    Args:
        source: Whose logs.
        files: Where to.
        since: When the stream began, monotonic seconds.
        whole: Whether the container was started after that, so that all that it logs is wanted.
    """

    def __init__(self, api: KubeApi, source: Source, files: LogFiles, *, since: float, whole: bool) -> None:
        self._api = api
        self._source = source
        self._files = files
        self._since = since
        self._whole = whole
        self._last_turn = threading.Event()
        self._wait = _FIRST_AFTER
        self._thread = WatchThread(f"serve-chaos-logs-{source.pod}", self._turn, again_after=_AT_LEAST_EVERY)
        self._stopped = self._thread.stopped

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def let_go(self) -> None:
        """The container is gone: what is still on its way is taken, and nothing asked for again."""
        self._last_turn.set()

    def stop(self) -> None:
        """Ends it soon."""
        self._last_turn.set()
        self._stopped.set()

    def wait(self, timeout: float) -> None:
        """Waits until it has ended."""
        self._thread.join(timeout)

    @property
    def dead(self) -> str:
        """Why its thread ended although nobody stopped it, in words; "" if it did not."""
        return self._thread.dead

    def _turn(self) -> float:
        came = False
        try:
            for _ in self._take():
                came = True
        except Exception:
            pass  # a container that was just started takes none yet, one that ends breaks it off, or prints nonsense
        wait, self._wait = self._wait, _FIRST_AFTER if came else min(2 * self._wait, _AT_LEAST_EVERY)
        self._stopped.wait(_AGAIN_AFTER if came else wait)
        if self._last_turn.is_set():
            self._stopped.set()
        return 0.0

    @abstractmethod
    def _take(self) -> Iterator[None]:
        """Takes what comes, with a turn for each piece of it."""


class OutputFollower(Follower):
    """Follows what a container writes to its output. Takes the arguments of `Follower`, too.

    Args:
        once: Whether the container has ended, so that its output is asked for once.
        previous: Whether it is that of the container before, in whose place the source's was started.
    """

    def __init__(
        self,
        api: KubeApi,
        source: Source,
        files: LogFiles,
        *,
        since: float,
        whole: bool,
        once: bool = False,
        previous: bool = False,
    ) -> None:
        super().__init__(api, source, files, since=since, whole=whole)
        self._once = once
        self._previous = previous
        if once:
            self.let_go()
        self._answer: Answer | None = None
        self._last = ""

    def stop(self) -> None:
        """Ends it at once: it may be quiet for long."""
        super().stop()
        if self._answer is not None:
            self._answer.end()

    def _take(self) -> Iterator[None]:
        source, known = self._source, self._last
        age = int(clock.now() - self._since) + 1
        wanted = {"since_seconds": age} if known or self._whole else {"tail_lines": _CONTEXT}
        self._answer = self._api.pod_logs.open(
            source.pod,
            source.namespace or self._api.namespace,
            container=source.container,
            wait=_QUIET,
            follow=not self._once,
            previous=self._previous,
            **wanted,
        )
        if self._stopped.is_set():
            self._answer.end()  # it was not there yet when `stop` wanted to end it
        for batch in self._answer.batches():
            lines = [line.decode("utf-8", "replace") for line in batch]
            new = [line for line in lines if line.partition(" ")[0] > known]
            if new:
                self._last = new[-1].partition(" ")[0]
                self._since = clock.now()
                self._files.add(source.output_file, "\n".join(new) + "\n")
            yield


class FileFollower(Follower):
    """Follows Ray's and Serve's files by a program in the container, which is given what was read before.

    It is not the one that watches processes: thousands of lines must not delay the news of a process that died.
    Arguments: those of `Follower`.

    Attributes:
        up_to_date: Whether all that is in the files is here, except for what was written within the last second.
    """

    def __init__(self, api: KubeApi, source: Source, files: LogFiles, *, since: float, whole: bool) -> None:
        super().__init__(api, source, files, since=since, whole=whole)
        self.up_to_date = False
        self._read: dict[int, int] = {}

    def _take(self) -> Iterator[None]:
        age = -1.0 if self._whole else clock.now() - self._since
        offsets = ",".join(f"{inode}:{offset}" for inode, offset in self._read.items())
        arguments = (_LOGS, str(_LOOK_EVERY), f"{age:.1f}", offsets)
        command = in_pod.command("follow_logs", self._source.pod_uid, *arguments)
        try:
            for line in self._api.follow(
                self._source.pod, self._source.container, command, until=self._stopped, patience=_PATIENCE
            ):
                self._write(line)
                self.up_to_date = True
                yield
        finally:
            self.up_to_date = False

    def _write(self, line: str) -> None:
        now, east, chunks = json.loads(line)
        self._files.tell_clock(float(now), float(east))
        for name, inode, offset, text in chunks:
            self._read[int(inode)] = int(offset)
            self._files.add(str(name), str(text))
