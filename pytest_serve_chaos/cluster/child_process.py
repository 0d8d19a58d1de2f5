"""A process that a replica has started itself, such as an inference engine."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from pytest_serve_chaos.model import Identity

_SECRET = re.compile(
    r"(?i)((?:(?<!\S)-[\w-]*(?:token|secret|password|api[-_]?key)[\w-]* "
    r"|[\w-]*(?:token|secret|password|api[-_]?key)[\w-]*=))\S+"
)
_NAMELESS = re.compile(r"(?:\S*/)?(?:python|pypy|sh|bash|dash|node|perl|ruby)[\d.]*(?: -\w+)*? (?:-\w*[ce]|-)(?: |$)")
"""An interpreter that runs a text: neither its name nor its command line says what people call it."""
_OF_PYTHON = re.compile(r" -c from multiprocessing\.(?:resource_tracker|semaphore_tracker|forkserver) import ")
"""What Python starts for itself."""
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
        age: Seconds since it began; 0.0 where that is unknown.
    """

    identity: Identity
    pid: int
    parent: int
    name: str
    command: str = field(repr=False)
    age: float = 0.0

    @property
    def title(self) -> str:
        """What people call it: the program in its command line, for a script's kernel name is that of its language."""
        return self.command.partition(" ")[0].rpartition("/")[2][:_LONGEST_TITLE] or self.name

    @property
    def nameless(self) -> bool:
        """Whether it is a script that an interpreter got as a text, as `multiprocessing` starts them, too."""
        return _NAMELESS.match(self.command) is not None and not self.of_python

    @property
    def of_python(self) -> bool:
        """Whether Python has started it for itself, such as its resource tracker."""
        return _OF_PYTHON.search(self.command) is not None

    @property
    def line(self) -> str:
        """What it is, for people; what looks like a secret is left out."""
        command = _SECRET.sub(r"\1***", " ".join(self.command.split()))
        short = command if len(command) <= _LONGEST else f"{command[:_LONGEST]}..."
        return f"{self.title} (PID {self.pid}, of PID {self.parent}): {short}"
