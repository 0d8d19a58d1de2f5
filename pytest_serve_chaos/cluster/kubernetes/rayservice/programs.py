"""Runs the programs of `in_pod` in a pod's Ray container, the one that restores it after a forced end of a run too."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

from pytest_serve_chaos.cluster.kubernetes import in_pod
from pytest_serve_chaos.cluster.kubernetes.client.api import ExecResult, KubeApi
from pytest_serve_chaos.cluster.kubernetes.client.records import Pod, inner, text
from pytest_serve_chaos.cluster.kubernetes.in_pod import freeze
from pytest_serve_chaos.cluster.watchdog import expiry
from pytest_serve_chaos.errors import CommandFailed, NoSuchTarget
from pytest_serve_chaos.json_text import read_json
from pytest_serve_chaos.model import Json


def run_program(api: KubeApi, pod: Pod, program: str, *arguments: str) -> ExecResult:
    """Runs a program in a pod's Ray container and waits for it; in a pod that has its name by now it does nothing.

    Raises:
        NoSuchTarget: Another pod has its name now.
        CommandFailed: It could not be started, or did not end in time; or it would see processes of others.
    """
    if pod.shares_processes:
        raise CommandFailed(
            f"no program is run in pod {pod.name}: it has {pod.shares_processes}, so it could reach others",
            checked=[f"spec.{pod.shares_processes} of the pod"],
        )
    container = pod.main.name if pod.main else ""
    result = api.run(pod.name, container, in_pod.command(program, pod.uid, *arguments))
    if result.returncode == in_pod.NOT_SHOWN:  # so it did nothing
        if text(inner(api.objects.pod(pod.name), "metadata"), "uid") != pod.uid:
            raise _another(pod)
        result = api.run(pod.name, container, in_pod.command(program, "", *arguments))
    if result.returncode == in_pod.ANOTHER_POD:
        raise _another(pod)
    return result


def _another(pod: Pod) -> NoSuchTarget:
    return NoSuchTarget(f"the pod {pod.name} was replaced by another one of that name", checked=[f"its UID: {pod.uid}"])


def freeze_program(what: Literal["stop", "go"], claim: str, *, lasts: float | None = None) -> tuple[str, ...]:
    """The program that stops or resumes what is claimed, and its arguments; see there what a claim is.

    Args:
        what: What it does. What it stops goes on by itself soon after its time.
        claim: The processes.
        lasts: Seconds that they are to stand still.
    """
    seconds = (f"{expiry(lasts):g}",) if what == "stop" else ()
    return ("freeze", freeze.MARK, what, *seconds, claim)


def output_of(api: KubeApi, pod: Pod, program: str, *arguments: str) -> str:
    """What a program printed.

    Raises:
        CommandFailed: It could not be run, or failed.
    """
    result = run_program(api, pod, program, *arguments)
    if result.returncode != 0:
        raise CommandFailed(
            f"{program} failed in pod {pod.name} with exit status {result.returncode}",
            checked=[" ".join(arguments), result.stderr.strip()[-600:]],
        )
    return result.stdout


def answer_of(api: KubeApi, pod: Pod, program: str, *arguments: str, keys: Collection[str]) -> dict[str, Json]:
    """What a program says as one JSON object.

    Args:
        api: The Kubernetes API.
        pod: Where it runs.
        program: Its name.
        *arguments: Given to it.
        keys: What the object must have.

    Raises:
        CommandFailed: It could not be run, or failed, or says something else.
    """
    return _object(output_of(api, pod, program, *arguments), f"{program} in pod {pod.name}", keys)


def _object(said: str, whose: str, keys: Collection[str]) -> dict[str, Json]:
    try:
        answer = read_json(said)
    except ValueError:
        answer = None
    if not isinstance(answer, dict) or not answer.keys() >= set(keys):
        raise CommandFailed(f"{whose} gave no usable answer: {said[:80]!r}")
    return answer


def tidy(api: KubeApi, pod: Pod) -> list[str]:
    """Resumes the stopped processes of a pod's Ray container, and removes the health flags.

    Returns:
        What was repaired, in words.

    Raises:
        CommandFailed: It could not be done.
    """
    result = run_program(api, pod, "tidy")
    if result.returncode != 0:
        raise CommandFailed(f"pod {pod.name} could not be restored", checked=[result.stderr.strip()[-600:]])
    said = _object(result.stdout, f"tidy in pod {pod.name}", ("stopped", "flags"))
    stopped = [f"{said['stopped']} processes of {pod.name} were stopped"] if said["stopped"] else []
    return stopped + ([f"{pod.name} had {said['flags']} health flags"] if said["flags"] else [])
