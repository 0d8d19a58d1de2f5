"""Restores a Ray pod after a run that ended by force: stopped processes, and health flags."""

from __future__ import annotations

import json

from pytest_serve_chaos.cluster.kubernetes import in_pod
from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.client.records import Pod
from pytest_serve_chaos.errors import CommandFailed


def tidy(api: KubeApi, pod: Pod) -> list[str]:
    """Resumes the stopped processes of a pod's Ray container, and removes the health flags.

    Returns:
        What was repaired, in words.

    Raises:
        CommandFailed: It could not be done.
    """
    container = pod.main.name if pod.main else ""
    result = api.run(pod.name, container, ["python", "-c", in_pod.source("tidy")])
    if result.returncode != 0:
        raise CommandFailed(f"pod {pod.name} could not be restored", checked=[result.stderr.strip()[-600:]])
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
