"""Logs of pods while a test runs, on their way into files here: a deleted pod's logs are gone."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pytest_serve_chaos import clock
from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.logs.files import Line, LogFiles
from pytest_serve_chaos.cluster.kubernetes.logs.followers import FileFollower, Follower, OutputFollower, Source
from pytest_serve_chaos.errors import ServeChaosError
from pytest_serve_chaos.model import LogLine
from pytest_serve_chaos.watch_thread import WatchThread

_LOOK_EVERY = 1.0
"""Seconds between two looks for containers that are new, or gone."""
_LINGER = 15.0
"""Seconds for the last words of a container that is gone: one that is deleted by force goes on for a while."""
_ENDS_WITHIN = 5.0


@dataclass(frozen=True, slots=True)
class LogAccess:
    """Which logs may be read.

    Attributes:
        output: Whether the API server may be asked for what containers in the RayService's namespace write to their
            output.
        files: Whether programs may be run in Ray's containers.
        operator_namespace: Where KubeRay's operator is, whose output may be asked for there; None: perhaps in the
            RayService's own namespace.
    """

    output: bool = True
    files: bool = True
    operator_namespace: str | None = None

    def may_have_output(self, source: Source) -> bool:
        """Whether the API server may be asked for what that container writes to its output."""
        return self.output or (source.namespace is not None and source.namespace == self.operator_namespace)


@dataclass(slots=True)
class _Container:
    source: Source
    files: LogFiles
    followers: Sequence[Follower]
    gone_at: float | None = None


class LogStream:
    """Follows all containers that are there, and those that come. Implements `cluster.capabilities.KeptLogs`.

    Args:
        api: The Kubernetes API, in the RayService's namespace.
        access: What may be read.
        sources: Says which containers there are now.
        directory: Where the files go: one directory for each pod, which stays when the pod goes; where its first
            container was started again, another.
    """

    def __init__(
        self, api: KubeApi, access: LogAccess, sources: Callable[[], Sequence[Source]], directory: Path
    ) -> None:
        self._api = api
        self._access = access
        self._sources = sources
        self._directory = directory
        self._begun = clock.now()
        self._first_look = True
        self._lock = threading.Lock()
        self._containers: dict[str, _Container] = {}
        self._look()
        self._thread = WatchThread("serve-chaos-logs", self._turn, again_after=_LOOK_EVERY, first_after=_LOOK_EVERY)
        self._thread.start()

    @property
    def dead(self) -> tuple[str, ...]:
        """Which of its threads ended although nobody stopped them, in words."""
        with self._lock:
            followers = [follower.dead for container in self._containers.values() for follower in container.followers]
        return tuple(filter(None, (self._thread.dead, *followers)))

    # -- capabilities.KeptLogs ----------------------------------------------------------------------------------------

    def keep(self) -> None:
        """Does nothing: they are in files already."""

    def around(self, moment: float, *, before: float, after: float) -> list[LogLine]:
        """Lines of all containers, also of those that are gone, in order of time."""
        with self._lock:
            containers = [(container.source.node, container.files) for container in self._containers.values()]
        found = [
            LogLine(line.at - moment, node, line.file, line.text)
            for node, files in containers
            for line in files.lines(("*",), moment - before)
            if line.at <= moment + after
        ]
        return sorted(found, key=lambda line: line.seconds)

    def close(self) -> None:
        """Ends all that follows; the files stay, and can still be read here."""
        self._thread.stopped.set()
        self._thread.join(_ENDS_WITHIN)
        with self._lock:
            followers = [follower for container in self._containers.values() for follower in container.followers]
        for follower in followers:
            follower.stop()
        deadline = clock.now() + _ENDS_WITHIN
        for follower in followers:
            follower.wait(max(0.0, deadline - clock.now()))

    # -- reading ------------------------------------------------------------------------------------------------------

    def has_all(self, container_id: str, since: float) -> bool:
        """Whether all lines of that container's files since then are here, except for those of the last second."""
        with self._lock:
            container = self._containers.get(container_id)
        if container is None or since < self._begun:
            return False
        return any(isinstance(follower, FileFollower) and follower.up_to_date for follower in container.followers)

    def lines(
        self, patterns: Collection[str], expression: str, since: float, *, node: str | None, but: Collection[str]
    ) -> list[str]:
        """Lines of the files of Ray's containers, those that are gone too, in order of time.

        Args:
            patterns: Of the files' names.
            expression: What is wanted of a line.
            since: Monotonic seconds.
            node: Of which node; None: of all.
            but: Ids of containers that are left out.
        """
        with self._lock:
            containers = [
                container
                for key, container in self._containers.items()
                if key not in but and container.source.has_files and node in (None, container.source.node)
            ]
        wanted = re.compile(expression)
        found: list[tuple[str, Line]] = []
        for container in containers:
            lines = container.files.lines(patterns, since)
            found += [(container.source.node, line) for line in lines if wanted.search(line.text)]
        found.sort(key=lambda entry: entry[1].at)
        return [f"{name}: {line.file.rpartition('/')[2]}: {line.text}" for name, line in found]

    # -- how ----------------------------------------------------------------------------------------------------------

    def _turn(self) -> float:
        self._look()
        return _LOOK_EVERY

    def _look(self) -> None:
        try:
            there = {source.id: source for source in self._sources()}
        except ServeChaosError:
            return  # the API server does not answer
        with self._lock:
            for key, source in there.items():
                if key not in self._containers:
                    self._containers[key] = self._follow(source)
                self._containers[key].source = source  # that of a cluster that serves from now on has another name
            self._first_look = False
            for key, container in self._containers.items():
                if key not in there or there[key].ended:
                    _let_go(container)

    def _follow(self, source: Source) -> _Container:
        files, whole = LogFiles(self._directory / source.directory), not self._first_look
        followers: list[Follower] = []
        if self._access.may_have_output(source) and (whole or not source.ended):
            output = OutputFollower(self._api, source, files, since=self._begun, whole=whole, once=source.ended)
            followers += [output, *self._missed(source)]
        if self._access.files and source.has_files and not source.ended:
            followers.append(FileFollower(self._api, source, files, since=self._begun, whole=whole))
        for follower in followers:
            follower.start()
        return _Container(source, files, followers)

    def _missed(self, source: Source) -> Iterator[Follower]:
        """What gets the output of the container in whose place this one was started, if no look has seen it."""
        before = replace(source, restarts=source.restarts - 1)
        known = {(c.source.pod, c.source.container, c.source.restarts) for c in self._containers.values()}
        if not self._first_look and source.restarts and (before.pod, before.container, before.restarts) not in known:
            files = LogFiles(self._directory / before.directory)
            yield OutputFollower(self._api, before, files, since=self._begun, whole=True, once=True, previous=True)


def _let_go(container: _Container) -> None:
    if container.gone_at is None:
        container.gone_at = clock.now()
        for follower in container.followers:
            follower.let_go()
    elif clock.now() - container.gone_at > _LINGER:
        for follower in container.followers:
            follower.stop()
