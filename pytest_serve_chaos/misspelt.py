"""Misspelt options of this plugin, and misspelt markers on the command line: which one was probably meant."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

import pytest

from pytest_serve_chaos import names
from pytest_serve_chaos.errors import nearest


def refuse_misspelt(parser: pytest.Parser, words: Sequence[str]) -> None:
    """Refuses an unknown option that resembles one of this plugin.

    Args:
        parser: Knows all options, those of other plugins and of conftest files among them.
        words: The command line.

    Raises:
        pytest.UsageError: The command line has such an option. The message names the one that it resembles.
    """
    unknown = parser.parse_known_and_unknown_args(words)[1]
    for flag in (word.partition("=")[0] for word in unknown if word.startswith("--serve")):
        meant = _meant_by(flag.replace("_", "-"))
        if meant:
            raise pytest.UsageError(f"unrecognized arguments: {flag}. Did you mean {meant}?")


def _meant_by(flag: str) -> str:
    """The option that it resembles, or "". The prefix that all options share does not count."""
    prefix = names.flag_of("")
    if not flag.startswith(prefix):
        return nearest(flag, names.flags())
    known = {one.removeprefix(prefix): one for one in names.flags() if one.startswith(prefix)}
    return known.get(nearest(flag.removeprefix(prefix), known), "")


def misspelt_markers(expression: str, registered: Iterable[str]) -> Iterator[tuple[str, str]]:
    """The names in an expression of ``-m`` that no marker has and that resemble one, each with the one it resembles.

    Args:
        expression: For example ``head_failure and not slow``.
        registered: The lines of pytest's `markers`, each beginning with the name of a marker.
    """
    known = [re.split(r"[(:]", line, maxsplit=1)[0].strip() for line in registered]
    without_strings = re.sub(r"'[^']*'|\"[^\"]*\"", "", expression)
    for name in dict.fromkeys(re.findall(r"[\w:+.\[\]/\\-]+", without_strings)):  # what pytest takes for one name
        meant = "" if name in known else nearest(name, known)
        if meant:
            yield name, meant
