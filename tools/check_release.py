"""Checks a wheel before it is released: ``python tools/check_release.py TAG OWNER/NAME WHEEL``."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Iterator
from email.message import Message
from email.parser import Parser
from pathlib import Path


def metadata_of(wheel: Path) -> Message:
    """The METADATA of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode())


def problems(metadata: Message, tag: str, repository: str) -> Iterator[str]:
    """What speaks against a release of this wheel under that tag of that repository."""
    version = metadata["Version"]
    if tag != f"v{version}":
        yield f"the tag is {tag!r} and the wheel has version {version}: tag v{version}, or set __version__"
    home = f"https://github.com/{repository}".lower()
    urls = [str(value).partition(", ")[2] for value in metadata.get_all("Project-URL", [])]
    if not urls:
        yield "the wheel names no URLs: add [project.urls] to pyproject.toml"
    for url in urls:
        if url.lower() != home and not url.lower().startswith(f"{home}/"):
            yield f"{url} does not lead to {home}: correct [project.urls] in pyproject.toml"


def main(arguments: list[str]) -> int:
    """Prints each problem; the status is 1 if there is one."""
    tag, repository, wheel = arguments
    found = list(problems(metadata_of(Path(wheel)), tag, repository))
    for problem in found:
        print(problem)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
