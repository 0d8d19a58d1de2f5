"""The programs that a kind cluster needs: where they are, and what to do if one is missing."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, Protocol

from pytest_serve_chaos import scratch
from pytest_serve_chaos.cluster import commands
from pytest_serve_chaos.errors import MissingDependency


@dataclass(frozen=True, slots=True)
class Programs:
    """The programs that are needed, as paths."""

    docker: str
    kind: str
    kubectl: str


class Run(Protocol):
    """Runs one of the programs and returns what it printed; raises `CommandFailed`."""

    def __call__(self, program: Literal["docker", "kind", "kubectl"], *arguments: str, timeout: float = 60.0) -> str:
        """Runs it with those arguments, for `timeout` seconds at most."""
        ...


def run_program(
    programs: Programs,
    log: Path,
    program: Literal["docker", "kind", "kubectl"],
    *arguments: str,
    timeout: float = 60.0,
) -> str:
    """Runs one of the programs and returns what it printed; what it says of errors goes into the log, too.

    Raises:
        CommandFailed: It failed, or took too long.
    """
    paths = {"docker": programs.docker, "kind": programs.kind, "kubectl": programs.kubectl}
    # `kind load` writes gigabytes of images, and is killed with the run.
    temporary = scratch.of_this_process()
    return commands.run([paths[program], *arguments], log=log, timeout=timeout, temporary=temporary)


def find_programs() -> Programs:
    """Finds docker, kind and kubectl on the PATH, and asks Docker whether it runs.

    Raises:
        MissingDependency: One of them, or a Python package, is not here; nothing was made.
    """
    missing = [program for program in ("docker", "kind", "kubectl") if shutil.which(program) is None]
    if find_spec("pytest_kind") is None:
        missing.append("the Python package pytest-kind-ng")
    if missing:
        raise MissingDependency(
            f"the kind backend needs {', '.join(missing)}",
            checked=["PATH, and the packages of this Python"],
            fix=[
                "install Docker, kind (https://kind.sigs.k8s.io), kubectl, and pip install 'pytest-serve-chaos[kind]'",
                "or use the backend `local`, which needs none of them",
            ],
        )
    programs = Programs(*(str(shutil.which(program)) for program in ("docker", "kind", "kubectl")))
    _ask_docker(programs.docker)
    return programs


def _ask_docker(docker: str) -> None:
    command = [docker, "version", "--format", "{{.Server.Version}}"]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=20.0, start_new_session=True)
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or str(error).encode()
        raise MissingDependency(
            "Docker does not answer",
            checked=[" ".join(command), bytes(said).decode("utf-8", "replace").strip()[-300:]],
            fix=["start Docker, and see whether this user may use it"],
        ) from error
