"""A process that a replica has started itself, such as an inference engine."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from pytest_serve_chaos.model import Identity

_SECRET = re.compile(r"(?i)([\w-]*(?:token|secret|password|api[-_]?key)[\w-]*[= ])\S+")
_LONGEST_TITLE = 40
_LONGEST = 120
"""Characters of a command line that people are shown."""


@dataclass(frozen=True, slots=True)
class ChildProcess:
    """A process below another one, as the kernel shows it.

    Attributes:
        identity: Which process it is, for ever.
        pid: Its PID where it runs, for people.
        parent: The PID of the process that started it.
        name: The kernel's name of it, 15 characters at most.
        command: Its command line, or the title that it gave itself.
    """

    identity: Identity
    pid: int
    parent: int
    name: str
    command: str = field(repr=False)

    @property
    def title(self) -> str:
        """What people call it: the program in its command line, for a script's kernel name is that of its language."""
        return self.command.partition(" ")[0].rpartition("/")[2][:_LONGEST_TITLE] or self.name

    @property
    def line(self) -> str:
        """What it is, for people; what looks like a secret is left out."""
        command = _SECRET.sub(r"\1***", " ".join(self.command.split()))
        short = command if len(command) <= _LONGEST else f"{command[:_LONGEST]}..."
        return f"{self.title} (PID {self.pid}, of PID {self.parent}): {short}"
