"""Puts right what a run that ended by force has left in a Ray pod: stopped processes, and health flags."""

from __future__ import annotations

import json

from pytest_serve_chaos.cluster.kuberay import in_pod
from pytest_serve_chaos.cluster.kuberay.api import KubeApi
from pytest_serve_chaos.cluster.kuberay.records import Pod
from pytest_serve_chaos.errors import CommandFailed


def tidy(api: KubeApi, pod: Pod) -> list[str]:
    """Lets the stopped processes of a pod's Ray container go on, and takes the health flags away.

    Returns:
        What was mended, in words.

    Raises:
        CommandFailed: It could not be done.
    """
    container = pod.main.name if pod.main else ""
    result = api.run(pod.name, container, ["python", "-c", in_pod.source("tidy")])
    if result.returncode != 0:
        raise CommandFailed(f"pod {pod.name} could not be tidied", looked_at=[result.stderr.strip()[-600:]])
    said = json.loads(result.stdout)
    stopped = [f"{said['stopped']} processes of {pod.name} were stopped"] if said["stopped"] else []
    return stopped + ([f"{pod.name} had {said['flags']} health flags"] if said["flags"] else [])


def tidy_by_name(api: KubeApi, name: str) -> None:
    """The same for the pod of that name in the API's namespace; one that is gone, or is going, needs nothing.

    Raises:
        ClusterError: It could not be done, or not be looked at.
    """
    for pod in api.pods():
        if pod.name == name and pod.runs:
            tidy(api, pod)
