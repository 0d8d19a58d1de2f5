"""Finds option values that pytest took for test paths, so that its root directory is another one."""

from __future__ import annotations

import os
import shlex
from collections.abc import Collection, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest
from _pytest.config.findpaths import determine_setup

from pytest_serve_chaos.backends.registry import backends_of
from pytest_serve_chaos.errors import SettingsError
from pytest_serve_chaos.kinds import Flag


class Place(NamedTuple):
    """Where pytest has its root directory, and which configuration it read."""

    rootdir: Path
    configuration: Path | None


def check_rootdir(config: pytest.Config) -> None:
    """Checks that no value of our options has moved pytest's root directory.

    pytest looks for it before plugins are loaded, so it does not know then that `--option value` is one option, and
    takes the value for a test path if there is such a file or directory. `--option=value` is never taken for one.

    Raises:
        pytest.UsageError: A value has moved it.
    """
    taking = {row.flag for row in backends_of(config.pluginmanager).options if not isinstance(row.kind, Flag)}
    separate = _separate_values(_words(config), taking)
    if not separate:
        return
    tests = list(config.args) if config.args_source is pytest.Config.ArgsSource.ARGS else []
    found, meant, own = Place(config.rootpath, config.inipath), _place(config, tests), _place(config, [])
    if found not in (meant, own) and _place(config, [*tests, *(value for _, value in separate)]) == found:
        raise pytest.UsageError(str(_moved(found, meant, separate)))


def _words(config: pytest.Config) -> list[str]:
    """The command line as pytest reads it."""
    return [*shlex.split(os.environ.get("PYTEST_ADDOPTS", "")), *config.invocation_params.args]


def _separate_values(words: Sequence[str], flags: Collection[str]) -> list[tuple[str, str]]:
    """Our options with their values, where the value is a word of its own and an existing path."""
    return [(flag, value) for flag, value in pairwise(words) if flag in flags and _exists(value)]


def _exists(value: str) -> bool:
    try:
        return Path(value).exists()
    except (OSError, ValueError):  # a name that no file can have
        return False


def _place(config: pytest.Config, paths: Sequence[str]) -> Place:
    """The root directory and configuration that pytest finds with these positional arguments."""
    rootdir, configuration, *_ = determine_setup(
        inifile=config.option.inifilename,
        override_ini=None,
        args=paths,
        rootdir_cmd_arg=config.option.rootdir or None,
        invocation_dir=config.invocation_params.dir,
    )
    return Place(rootdir, configuration)


def _moved(found: Place, meant: Place, separate: Sequence[tuple[str, str]]) -> SettingsError:
    values = ", ".join(value for _, value in separate)
    ignored = "" if meant.configuration == found.configuration else f" and does not read {meant.configuration}"
    return SettingsError(
        f"pytest takes {values} for a test path, so its root directory is {found.rootdir} instead of {meant.rootdir}"
        + (ignored if meant.configuration is not None else ""),
        checked=[f"the words {flag} {value} on the command line" for flag, value in separate],
        fix=["; ".join(f"write {flag}={value} as one word" for flag, value in separate)],
    )
