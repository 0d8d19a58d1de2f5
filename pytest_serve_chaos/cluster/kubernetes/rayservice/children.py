"""What replicas in pods have started themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from pytest_serve_chaos.cluster.child_process import ChildProcess
from pytest_serve_chaos.cluster.kubernetes import in_pod
from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.rayservice.pods import RayPods
from pytest_serve_chaos.cluster.kubernetes.rayservice.programs import output_of, run_program
from pytest_serve_chaos.errors import CommandFailed, NoSuchTarget, ObservationError
from pytest_serve_chaos.json_text import read_json
from pytest_serve_chaos.model import Identity, Json


class PodChildren:
    """Looks below processes in pods, by a program in their container. Has the capability `SeesChildren`.

    Args:
        api: The Kubernetes API.
        pods: The pods.
    """

    def __init__(self, api: KubeApi, pods: RayPods) -> None:
        self._api = api
        self._pods = pods

    def children(self, parent: Identity) -> tuple[ChildProcess, ...] | None:
        """All processes below that one; None where it is gone.

        Raises:
            ObservationError: The program could not be run.
        """
        try:
            pod = self._pods.with_process(parent)
            result = run_program(self._api, pod, "children", "below", *parent.parts[2:4])
        except NoSuchTarget:
            return None
        except CommandFailed as error:
            raise ObservationError(f"nobody can look below {parent}: {error.what}") from error
        if result.returncode == in_pod.GONE:
            return None
        if result.returncode != 0:
            raise ObservationError(f"nobody can look below {parent}", checked=[result.stderr.strip()[-600:]])
        return tuple(_child(parent, row) for row in _rows(result.stdout, parent, 7))

    def states(self, identities: Sequence[Identity]) -> Mapping[Identity, str]:
        """``running`` or ``frozen``, for those of the processes of one container that are there.

        Raises:
            ObservationError: The program could not be run.
        """
        if not identities:
            return {}
        first = identities[0]
        try:
            pod = self._pods.with_process(first)
            named = [":".join(identity.parts[2:4]) for identity in identities]
            rows = _rows(output_of(self._api, pod, "children", "states", *named), first, 4)
        except NoSuchTarget:
            return {}
        except CommandFailed as error:
            raise ObservationError(f"nobody can look for {first}: {error.what}") from error
        return {_identity(first, row): "frozen" if row[3] in ("T", "t") else "running" for row in rows}


def _rows(said: str, process: Identity, least: int) -> list[list[int | str]]:
    """The rows that the program printed.

    Raises:
        ObservationError: It printed something else.
    """
    try:
        rows = read_json(said)
    except ValueError:
        rows = None
    if not isinstance(rows, list) or not all(_is_row(row, least) for row in rows):
        raise ObservationError(f"nobody can look below {process}: the program said {said[:80]!r}")
    return cast("list[list[int | str]]", rows)


def _is_row(row: Json, least: int) -> bool:
    if not isinstance(row, list) or len(row) < least:
        return False
    return all(isinstance(value, (int, str)) for value in row) and isinstance(row[0], int) and isinstance(row[2], int)


def _child(parent: Identity, row: Sequence[int | str]) -> ChildProcess:
    pid, _, of, _, name, command, age = row[:7]
    seconds = age / 1000 if isinstance(age, int) else 0.0
    return ChildProcess(_identity(parent, row), int(pid), int(of), str(name), str(command), seconds)


def _identity(other: Identity, row: Sequence[int | str]) -> Identity:
    """That of a process in the same container as the other one."""
    return Identity("process", (*other.parts[:2], str(row[0]), str(row[1])))
