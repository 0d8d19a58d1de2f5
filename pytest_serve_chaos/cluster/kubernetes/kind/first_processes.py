"""Which processes of this machine the Docker nodes of a cluster are."""

from __future__ import annotations

import contextlib
from pathlib import Path

from pytest_serve_chaos.cluster.kubernetes.install.stack import Kubectl
from pytest_serve_chaos.cluster.kubernetes.kind.programs import Run
from pytest_serve_chaos.errors import CommandFailed


class FirstProcesses:
    """The first process of each node; it is another one when the node starts again.

    Docker is asked again while a node has none, and when one of them has ended. Where Docker runs elsewhere (in a
    virtual machine, on another host) its PIDs mean nothing here, so only those count that are an `init`.

    Args:
        run: Runs docker.
        kubectl: Runs kubectl against the cluster.
    """

    def __init__(self, run: Run, kubectl: Kubectl) -> None:
        self._run = run
        self._kubectl = kubectl
        self._nodes: tuple[str, ...] = ()
        self._pids: tuple[int, ...] = ()
        self._elsewhere = False

    def pids(self) -> tuple[int, ...]:
        """Their PIDs."""
        if not self._elsewhere and not self._all_run():
            with contextlib.suppress(CommandFailed):
                self._ask()
        return self._pids

    def _all_run(self) -> bool:
        return bool(self._nodes) and len(self._pids) == len(self._nodes) and all(map(_is_init, self._pids))

    def _ask(self) -> None:
        if not self._nodes:  # only once: a node that Kubernetes forgets still has its machine
            found = self._kubectl("get", "nodes", "-o", "name").split()
            self._nodes = tuple(node.removeprefix("node/") for node in found)
        words = self._run("docker", "inspect", "--format", "{{.State.Pid}}", *self._nodes).split()
        if not all(word.isdecimal() for word in words):
            raise CommandFailed(f"Docker does not say which processes the nodes are: {' '.join(words)[:80]!r}")
        said = [int(pid) for pid in words]
        self._pids = tuple(filter(_is_init, said))
        self._elsewhere = all(said) and not self._pids


def _is_init(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip() in ("systemd", "init")
    except OSError:
        return False
