"""Misspelt options of this plugin: which one was probably meant."""

from __future__ import annotations

from collections.abc import Sequence

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
    for flag in (word.partition("=")[0] for word in unknown if word.startswith("--serve-")):
        meant = _meant_by(flag)
        if meant:
            raise pytest.UsageError(f"unrecognized arguments: {flag}. Did you mean {meant}?")


def _meant_by(flag: str) -> str:
    """The option that it resembles, or "". The prefix that all options share does not count."""
    prefix = names.flag_of("")
    if not flag.startswith(prefix):
        return nearest(flag, names.flags())
    known = {one.removeprefix(prefix): one for one in names.flags() if one.startswith(prefix)}
    return known.get(nearest(flag.removeprefix(prefix), known), "")
