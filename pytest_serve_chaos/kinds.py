"""Kinds of values that a user gives: what is valid, and what a text becomes."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence


class Kind:
    """A kind of value; this one is any text.

    Attributes:
        must: What a valid value is, as it reads after "it must be".
        metavar: What stands for the value in the help.
        ini: The type in pytest's configuration files.
        repeated: Whether several values can be given.
    """

    ini: Literal["string", "int", "float", "bool", "linelist"] = "string"
    repeated = False

    def __init__(self, must: str, metavar: str = "TEXT") -> None:
        self.must = must
        self.metavar = metavar

    def parse(self, text: str, base: Path) -> object:
        """The value that the text means; relative paths are relative to `base`.

        Raises:
            ValueError: It is not valid.
        """
        if not text.strip():
            raise ValueError(text)
        try:
            return self._parse(text, base)
        except (OSError, RuntimeError) as error:  # a name that no file can have, the home of nobody
            raise ValueError(text) from error

    def split(self, text: str) -> Sequence[str]:
        """The texts of the single values in a text; only for kinds that are repeated."""
        return [line.strip() for line in text.splitlines() if line.strip()]

    def take(self, value: object, base: Path) -> object:
        """The value of a marker's keyword, which is a Python value and not always text.

        Raises:
            ValueError: It is not valid.
        """
        if not isinstance(value, (str, int, float)) or isinstance(value, bool):
            raise ValueError(value)
        return self.parse(str(value), base)

    def of_argument(self, text: str) -> object:
        """The value, where `argparse` reads it: its error says what a valid value is.

        Raises:
            argparse.ArgumentTypeError: It is not valid.
        """
        from argparse import ArgumentTypeError

        try:
            return self.parse(text, Path())
        except ValueError:
            raise ArgumentTypeError(f"{text!r} is not valid: it must be {self.must}") from None

    def _parse(self, text: str, base: Path) -> object:
        return text


class Choice(Kind):
    """One of a few words."""

    def __init__(self, *choices: str) -> None:
        super().__init__(f"one of {', '.join(choices)}", "|".join(choices))
        self.choices = choices

    def _parse(self, text: str, base: Path) -> str:
        if text not in self.choices:
            raise ValueError(text)
        return text


class Words(Choice):
    """Some of a few words; in one text they are separated by commas or white space."""

    ini = "linelist"
    repeated = True

    def __init__(self, *choices: str) -> None:
        super().__init__(*choices)
        self.metavar = "NAME"

    def split(self, text: str) -> Sequence[str]:
        """The words."""
        return [word for word in re.split(r"[\s,]+", text) if word]


class NodeName(Kind):
    """The name of a node, or one of a few words that choose nodes."""

    def __init__(self, *words: str) -> None:
        super().__init__(f"{', '.join(words)} or the name of a node, as worker-1", "NODE")

    def out_of_range(self, value: object, workers: int) -> bool:
        """Whether it is the name of a worker that a cluster with so many workers does not have."""
        number = re.fullmatch(r"worker-(\d+)", str(value))
        return number is not None and not 1 <= int(number[1]) <= workers


class DeploymentName(Kind):
    """The name of a deployment, alone or with its app."""

    def __init__(self) -> None:
        super().__init__("the name of a deployment, as SleepyPid or app#SleepyPid", "DEPLOYMENT")

    def is_none_of(self, value: object, apps: Mapping[str, Collection[str]]) -> bool:
        """Whether these apps with their deployments have no such deployment."""
        app, _, name = str(value).rpartition("#")
        return not any(name in names for one, names in apps.items() if app in ("", one))


class AppName(Kind):
    """The name of an app of the Serve config."""

    def __init__(self) -> None:
        super().__init__("the name of an app", "APP")

    def is_none_of(self, value: object, apps: Mapping[str, Collection[str]]) -> bool:
        """Whether none of these apps has the name."""
        return str(value) not in apps


class Integer(Kind):
    """A whole number."""

    ini = "int"

    def __init__(self, least: int) -> None:
        super().__init__(f"a whole number, {least} or more", "N")
        self.least = least

    def _parse(self, text: str, base: Path) -> int:
        value = int(text)
        if value < self.least:
            raise ValueError(text)
        return value


class Rate(Kind):
    """Requests per second."""

    ini = "float"

    def __init__(self, most: float, *, zero: bool = False) -> None:
        least = "0 or more" if zero else "more than 0"
        super().__init__(f"a number of requests per second, {least} and at most {most:g}", "N")
        self.most = most
        self.zero = zero

    def _parse(self, text: str, base: Path) -> float:
        value = float(text)
        if not 0 <= value <= self.most or (value == 0 and not self.zero):
            raise ValueError(text)
        return value


class Stages(Kind):
    """Rates one after the other, ``20/s for 30s, 100/s for 30s``; the text itself once parsed."""

    def __init__(self, most: float) -> None:
        super().__init__(f"stages as '20/s for 30s, 100/s for 30s', each of more than 0 and at most {most:g}", "STAGES")
        self.most = most

    def _parse(self, text: str, base: Path) -> str:
        from pytest_serve_chaos import errors, schedule

        try:
            found = schedule.Schedule.of(text)
        except errors.SettingsError as error:
            raise ValueError(text) from error
        if found.most > self.most:
            raise ValueError(text)
        return text


class Duration(Kind):
    """A length of time; seconds once parsed."""

    def __init__(self, *, zero: bool = False) -> None:
        self._zero = zero
        least = "0 or more" if zero else "more than 0"
        super().__init__(f"a duration of {least}: a number of seconds (20), or 500ms, 20s, 2m, 1h", "DURATION")

    def _parse(self, text: str, base: Path) -> float:
        from pytest_serve_chaos import clock, errors

        try:
            value = clock.seconds(text)
        except errors.SettingsError as error:
            raise ValueError(text) from error
        if value < 0 or (value == 0 and not self._zero):
            raise ValueError(text)
        return value


class Flag(Kind):
    """On or off."""

    ini = "bool"
    on = ("on", "true", "yes", "1")
    off = ("off", "false", "no", "0")

    def __init__(self) -> None:
        super().__init__(f"one of {', '.join(self.on + self.off)}", "")

    def _parse(self, text: str, base: Path) -> bool:
        if text.lower() not in self.on + self.off:
            raise ValueError(text)
        return text.lower() in self.on


class Bool(Kind):
    """Python's True or False, in a marker."""

    def __init__(self) -> None:
        super().__init__("True or False")

    def take(self, value: object, base: Path) -> bool:
        """The value itself."""
        if not isinstance(value, bool):
            raise ValueError(value)
        return value


class Pattern(Kind):
    """A text that matches a regular expression."""

    def __init__(self, must: str, metavar: str, pattern: str) -> None:
        super().__init__(must, metavar)
        self.pattern = pattern

    def _parse(self, text: str, base: Path) -> str:
        if not re.fullmatch(self.pattern, text):
            raise ValueError(text)
        return text


class Headers(Kind):
    """HTTP headers, one a line; pairs of name and value once parsed."""

    ini = "linelist"
    repeated = True

    def __init__(self) -> None:
        super().__init__("a header as 'Name: value'", "HEADER")

    def _parse(self, text: str, base: Path) -> tuple[str, str]:
        name, colon, value = text.partition(":")
        # The characters of a field name: `token` of RFC 9110, section 5.6.2.
        if not colon or not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
            raise ValueError(text)
        return name, value.strip()


class Variables(Kind):
    """Environment variables, one a line; pairs of name and value once parsed."""

    ini = "linelist"
    repeated = True

    def __init__(self) -> None:
        super().__init__("an environment variable as NAME=VALUE", "NAME=VALUE")

    def _parse(self, text: str, base: Path) -> tuple[str, str]:
        name, equals, value = text.partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z_]\w*", name) or "\0" in value:
            raise ValueError(text)
        return name, value


class File(Kind):
    """A path: relative to the current directory, or in a configuration file to pytest's root directory."""

    def __init__(self, must: str, check: Callable[[Path], bool]) -> None:
        super().__init__(must, "PATH")
        self.check = check

    def _parse(self, text: str, base: Path) -> Path:
        path = base / Path(text).expanduser()
        if not self.check(path):
            raise ValueError(text)
        return path


class FileOr(Kind):
    """A text that matches a regular expression, or the path of a file or directory that exists."""

    def __init__(self, must: str, metavar: str, pattern: str, suffixes: tuple[str, ...] = ()) -> None:
        super().__init__(must, metavar)
        self.pattern = pattern
        self.suffixes = suffixes

    def _parse(self, text: str, base: Path) -> str:
        if re.fullmatch(self.pattern, text):
            return text
        path = base / Path(text).expanduser()
        if not path.exists() or (self.suffixes and path.suffix not in self.suffixes):
            raise ValueError(text)
        return str(path)


def anything(path: Path) -> bool:
    """Any path will do."""
    return True


def is_program(path: Path) -> bool:
    """The path is that of a file that can be run."""
    return path.is_file() and os.access(path, os.X_OK)
