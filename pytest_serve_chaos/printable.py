"""Text of others as it may be shown: nothing in it commands a terminal, a CI system, or the order of what is read.

Names, log lines, answers and errors come from clusters, apps and files. They are kept as they are, and pass here where
they leave: on the terminal, in an error's words, in JUnit XML and in Markdown.
"""

from __future__ import annotations

import re

MOST = 10_000
"""Characters of a line that are shown."""

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
"""What logs have for a terminal that shows colours; it says nothing else."""

_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters but tabs and ends of lines: ESC, CR, BEL, backspace
    "\u061c\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff"  # what turns the direction of text, or has no width
    "\u2028\u2029"  # ends of lines that only some see
    "\ud800-\udfff]"  # halves of characters, which no file takes
)

_COMMAND = re.compile(r"^([^\S\n]*):(?=:)", re.MULTILINE)
"""A line that GitHub's runner would obey: ``::error``, ``::set-output``."""

_OLD_COMMAND = re.compile(r"##(?=\[|vso\[|teamcity\[)")
"""What Azure Pipelines, TeamCity and GitHub's runner would obey, in the middle of a line too."""


def printable(text: str) -> str:
    r"""The text with every character that would do something instead of being seen in place of its escape: ``\x1b``.

    It may have several lines. Each is cut after `MOST` characters.
    """
    seen = _HIDDEN.sub(_escape, _COLOURS.sub("", text))
    seen = _OLD_COMMAND.sub(r"#\\x23", _COMMAND.sub(r"\1\\x3a", seen))
    return seen if len(seen) <= MOST else "\n".join(map(_cut, seen.split("\n")))


def one_line(text: str) -> str:
    r"""The same in one line: where another would begin there is ``\n``."""
    return printable(text.replace("\n", "\\n"))


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape", "surrogatepass").decode("ascii")


def _cut(line: str) -> str:
    return line if len(line) <= MOST else f"{line[:MOST]}..."
