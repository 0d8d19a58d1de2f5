"""The containers on a Docker node as the node's own runtime has them, and the processes in them."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_serve_chaos.cluster.kubernetes.kind.programs import Run
from pytest_serve_chaos.errors import CommandFailed


@dataclass(frozen=True, slots=True)
class Task:
    """A container as its runtime has it: the PID of its first process on the node, and its state."""

    pid: str
    state: str


def tasks_on(run: Run, node: str) -> dict[str, Task] | None:
    """Container id -> task of all containers on a node; None where its runtime does not tell.

    It asks containerd itself, since `crictl` is not in every node image.
    """
    try:
        listed = run("docker", "exec", node, "ctr", "--namespace", "k8s.io", "tasks", "ls", timeout=10.0)
    except CommandFailed:
        return None
    header, *tasks = [line.split() for line in listed.splitlines() if line.strip()] or [[]]
    if header[:1] != ["TASK"]:
        return None
    return {task[0]: Task(task[1], task[-1]) for task in tasks if len(task) >= 3}


def status_on(run: Run, node: str, pid: str) -> list[str]:
    """The state of a process on a node, and what follows it in /proc; the 20th of these is its start time.

    Raises:
        CommandFailed: There is no such process.
    """
    status = run("docker", "exec", node, "cat", f"/proc/{pid}/stat", timeout=10.0)
    return status.rpartition(")")[2].split()
