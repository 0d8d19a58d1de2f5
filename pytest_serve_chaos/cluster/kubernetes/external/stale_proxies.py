"""Proxies that will not hear the next controller: on record, and marked in their pods, until they were replaced.

A proxy looks healthy, and hangs every request later, so nobody would find them after a forced end (ray#63784).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from signal import SIGKILL

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.cluster.base import Progress
from pytest_serve_chaos.cluster.kubernetes import in_pod
from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.client.records import Pod
from pytest_serve_chaos.cluster.kubernetes.rayservice.pods import RayPods
from pytest_serve_chaos.cluster.kubernetes.rayservice.programs import output_of, run_program
from pytest_serve_chaos.errors import CommandFailed
from pytest_serve_chaos.model import Component

_PROGRAM = "stale"
_IS_IT_THERE = 0
"""The number of the signal that does nothing."""
_REPLACED_WITHIN = 60.0
"""Seconds for Serve to start a new proxy in a pod, and for that to answer."""


class RecordedProxies:
    """Has the capability `RecordsStaleProxies`.

    Args:
        api: The Kubernetes API.
        pods: The pods.
        record: Puts them on record; returns what removes that record.
    """

    def __init__(self, api: KubeApi, pods: RayPods, record: Callable[[], Callable[[], None]]) -> None:
        self._api = api
        self._pods = pods
        self._record = record

    def stale_after(self, controller: Component, proxies: Sequence[Component]) -> Callable[[], None]:
        """Puts proxies on record which will not hear the controller that follows this one.

        Returns:
            What takes them off again, once they were replaced, or hear it.

        Raises:
            NoSuchTarget: The pod of a proxy is gone.
            CommandFailed: One could not be marked.
        """
        by_pod: dict[str, tuple[Pod, list[str]]] = {}
        for proxy in proxies:
            pod = self._pods.with_process(proxy.identity)
            by_pod.setdefault(pod.uid, (pod, []))[1].append("-".join(proxy.identity.parts[2:4]))
        done = self._record()
        for pod, named in by_pod.values():
            output_of(self._api, pod, _PROGRAM, "mark", " ".join(controller.identity.parts), *named)

        def off_record() -> None:
            there = {pod.uid: pod for _, pod, _ in self._pods.live_named()}
            for uid in by_pod:
                if uid in there:  # marks go with their pods
                    output_of(self._api, there[uid], _PROGRAM, "forget")
            done()

        return off_record


@dataclass(frozen=True, slots=True)
class _Marked:
    """A proxy that a run has marked.

    Attributes:
        controller: Pod UID, container, PID and start time of the controller that it hears.
    """

    pod: Pod
    pid: str
    started: str
    controller: tuple[str, ...]


def replace_stale(api: KubeApi, pods: Sequence[Pod], port: int, progress: Progress) -> None:
    """Replaces the marked proxies, each when the one before it is back, if the controller that they hear is gone.

    Args:
        api: The Kubernetes API.
        pods: All pods of the RayService that run.
        port: Serve's, where a proxy says whether it is well.
        progress: Prints a line about each of them.

    Raises:
        CommandFailed: A pod could not be asked, or a proxy not be killed.
        WaitTimeout: No new proxy came.
    """
    for pod in pods:
        marked = _marked(api, pod)
        for proxy in marked:
            if not _is_there(api, pods, proxy.controller):
                progress(f"undo: replace the proxy in the pod {pod.name}, which does not hear the new controller")
                _replace(api, proxy, port)
        if marked:
            output_of(api, pod, _PROGRAM, "forget")


def _marked(api: KubeApi, pod: Pod) -> list[_Marked]:
    said = json.loads(output_of(api, pod, _PROGRAM, "list"))
    return [_Marked(pod, pid, started, tuple(controller.split())) for pid, started, controller in said]


def _is_there(api: KubeApi, pods: Sequence[Pod], process: tuple[str, ...]) -> bool:
    """Whether a process is still there, given as the parts of its identity."""
    uid, container, pid, started = process
    hosts = [pod for pod in pods if pod.uid == uid and pod.main is not None and pod.main.id.startswith(container)]
    return any(_signal(api, pod, pid, started, _IS_IT_THERE) for pod in hosts)


def _signal(api: KubeApi, pod: Pod, pid: str, started: str, number: int) -> bool:
    """Sends a signal to a process; whether it was there."""
    result = run_program(api, pod, "signal_process", pid, started, str(int(number)))
    if result.returncode not in (0, in_pod.GONE):
        raise CommandFailed(
            f"process {pid} of the pod {pod.name} could not be signalled", checked=[result.stderr.strip()[-600:]]
        )
    return result.returncode == 0


def _replace(api: KubeApi, proxy: _Marked, port: int) -> None:
    _signal(api, proxy.pod, proxy.pid, proxy.started, SIGKILL)

    def answers() -> bool | NotYet:
        status, said = api.proxy_get(proxy.pod.name, port, "/-/healthz", timeout=5.0)
        return True if status == 200 else NotYet(f"status {status}: {said[:100]}")

    what = f"a new proxy in the pod {proxy.pod.name}"
    clock.wait_until(what, clock.patient(answers), timeout=_REPLACED_WITHIN, interval=1.0)
