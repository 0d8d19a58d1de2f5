"""Docker's images, and how they come onto the nodes of kind."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from pytest_serve_chaos import scratch
from pytest_serve_chaos.cluster.kubernetes.kind.programs import Run
from pytest_serve_chaos.errors import CommandFailed
from pytest_serve_chaos.json_text import read_json

_LOADED = 600.0
"""Seconds for copying images onto nodes."""


class DockerImages:
    """The images that Docker has.

    Args:
        run: Runs docker and kind.
        cluster: The name of the kind cluster onto whose nodes they are copied.
    """

    def __init__(self, run: Run, cluster: str) -> None:
        self._run = run
        self._cluster = cluster

    def id_of(self, image: str) -> str:
        """The beginning of Docker's id for an image; "" where it does not have it."""
        try:
            found = self._run("docker", "image", "inspect", "--format", "{{.Id}}", image)
            return found.strip().removeprefix("sha256:")[:16]
        except CommandFailed:
            return ""

    def environment_of(self, image: str) -> dict[str, str] | None:
        """The environment that an image sets; None where Docker does not have that image."""
        try:
            said = self._run("docker", "image", "inspect", "--format", "{{json .Config.Env}}", image)
        except CommandFailed:
            return None
        try:
            variables = read_json(said or "null") or []
        except ValueError:
            variables = None
        if not isinstance(variables, list):
            raise CommandFailed(f"docker does not say what image {image} sets: {said[:80]!r}")
        named = (variable.partition("=") for variable in variables if isinstance(variable, str))
        return {name: value for name, equals, value in named if equals}

    def load(self, images: Sequence[str], nodes: Sequence[str]) -> tuple[str, ...]:
        """Copies those images that Docker has onto nodes; kind leaves out the nodes that have them.

        Returns:
            The images that Docker does not have; the nodes will pull them.

        Raises:
            CommandFailed: They could not be copied.
        """
        here = [image for image in images if self.id_of(image)]
        if here and nodes:
            options = ("--name", self._cluster, "--nodes", ",".join(nodes))
            try:
                self._run("kind", "load", "docker-image", *options, *here, timeout=_LOADED)
            except CommandFailed as error:
                self._load_archive(here, options, error)
        return tuple(image for image in images if image not in here)

    def _load_archive(self, images: Sequence[str], options: Sequence[str], refusal: CommandFailed) -> None:
        """Copies images by way of a file, with this machine's platform alone.

        Docker's containerd image store, the default since Docker 29, saves an image with the index of all its
        platforms, of which it has one. kind wants all: https://github.com/kubernetes-sigs/kind/issues/3795.
        """
        with tempfile.TemporaryDirectory(prefix="images-", dir=scratch.of_this_process()) as directory:
            archive = str(Path(directory, "images.tar"))
            try:
                platform = self._run("docker", "version", "--format", "{{.Server.Os}}/{{.Server.Arch}}").strip()
                save = ("image", "save", "--platform", platform, "--output", archive)
                self._run("docker", *save, *images, timeout=_LOADED)
                self._run("kind", "load", "image-archive", *options, archive, timeout=_LOADED)
            except CommandFailed as error:
                raise CommandFailed(
                    f"{', '.join(images)} could not be copied onto the nodes",
                    checked=[*refusal.checked, *error.checked],
                    fix=["check that the disk has room", "or give images that only the nodes pull, not Docker"],
                ) from refusal
