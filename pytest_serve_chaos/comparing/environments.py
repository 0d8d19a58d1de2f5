"""Python environments with a Ray of a given version and this plugin, made from the package registry and cached."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pytest_serve_chaos import __version__, clock, progress
from pytest_serve_chaos.errors import Locked, MissingDependency, SettingsError
from pytest_serve_chaos.locks import acquire

DEADLINE = 1800.0
"""Seconds in which an environment must be there."""

_STAMP = "serve-chaos-environment.json"
_DISTRIBUTION = "pytest-serve-chaos"
_VERSION = re.compile(r"\d+(\.\d+)*[\w.+-]*")

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Environment:
    """A Python environment.

    Attributes:
        python: Its interpreter.
        ray: The version of Ray in it.
    """

    python: Path
    ray: str


def requirement(ray: str) -> str:
    """What pip installs for ``2.54.1``, ``2.54`` (its newest patch), a wheel's file or its URL.

    Raises:
        SettingsError: It is something else.
    """
    if "://" in ray:
        return f"ray[serve] @ {ray}"
    if ray.endswith(".whl"):
        path = Path(ray).expanduser().resolve()
        if not path.is_file():
            raise SettingsError(f"there is no wheel {ray}", fix=["give the path of a wheel, its URL, or a version"])
        return f"ray[serve] @ {path.as_uri()}"
    if not _VERSION.fullmatch(ray):
        raise SettingsError(f"{ray!r} is not a version of Ray", fix=["give one as 2.60.0 or 2.60, or a wheel"])
    return f"ray[serve]=={ray}" if ray.count(".") >= 2 else f"ray[serve]=={ray}.*"


@contextlib.contextmanager
def environment(ray: str, extra: Sequence[str], log: Path, say: Say) -> Iterator[Environment]:
    """An environment that nobody else changes or uses meanwhile; it is made, or brought up to date, where necessary.

    Args:
        ray: The version of Ray, or a wheel; see `requirement`.
        extra: Further requirements, for the user's own app and tests.
        log: A file for what the programs print that make it.
        say: Prints a line of progress.

    Raises:
        MissingDependency: It could not be made.
        Locked: Another comparison uses it.
    """
    wanted = [requirement(ray), *map(_absolute, extra)]
    of = [sys.version, sys.prefix == sys.base_prefix, wanted, *_state(ray)]
    key = hashlib.sha256(json.dumps(of).encode()).hexdigest()[:12]
    name = f"ray-{re.sub(r'[^0-9A-Za-z.]+', '-', ray)[-30:]}-{key}"
    directory = _cache() / name
    try:
        lock = acquire(f"environment-{key}.lock")
    except Locked as held:
        raise Locked(
            f"another comparison is using the environment with Ray {ray}",
            checked=held.checked,
            fix=["wait for it, or end it: two at a time would also disturb each other's measurements"],
        ) from None
    try:
        yield _ready(directory, wanted, log, say)
    finally:
        lock.release()


def _absolute(extra: str) -> str:
    """A path as it is called from everywhere: ``./my-app`` is another app in another directory."""
    text, bracket, names = extra.partition("[")
    path = Path(text).expanduser()
    return f"{path.resolve()}{bracket}{names}" if os.sep in text and path.exists() else extra


def _state(ray: str) -> tuple[int, ...]:
    """What changes if the same wheel is built again."""
    path = Path(ray).expanduser()
    if not (ray.endswith(".whl") and path.is_file()):
        return ()
    there = path.stat()
    return there.st_size, there.st_mtime_ns


def _cache() -> Path:
    import platformdirs

    return platformdirs.user_cache_path(_DISTRIBUTION, appauthor=False) / "environments"


def _ready(directory: Path, wanted: Sequence[str], log: Path, say: Say) -> Environment:
    wheel = _Wheel.of_this_package()
    python, stamp = directory / "bin" / "python", directory / _STAMP
    there = _stamped(stamp)
    if there.get("package") != wheel.fingerprint or not python.exists():
        builder = _Builder(directory, log, clock.now() + DEADLINE)
        try:
            with progress.still("being installed", say, who=wanted[0]):
                there = builder.build(wheel, wanted, say, again=bool(there) and python.exists())
        except BaseException:
            if not stamp.is_file():
                shutil.rmtree(directory, ignore_errors=True)
            raise
    else:
        changing = [one for one in wanted if one.startswith(os.sep)]
        if changing:
            _Builder(directory, log, clock.now() + DEADLINE).install_again(changing, say)
    return Environment(python, str(there["ray"]))


def _stamped(stamp: Path) -> dict[str, str]:
    """What an environment says of itself; nothing where it is not complete."""
    with contextlib.suppress(OSError, ValueError):
        found: object = json.loads(stamp.read_text())
        if isinstance(found, dict) and {"package", "ray"} <= found.keys():
            return {str(name): str(value) for name, value in found.items()}
    return {}


@dataclass(frozen=True, slots=True)
class _Builder:
    """Makes an environment by the programs that everybody has.

    Attributes:
        directory: Where it shall be.
        log: A file for what the programs print.
        deadline: Until when all must be done.
    """

    directory: Path
    log: Path
    deadline: float

    def build(self, wheel: _Wheel, wanted: Sequence[str], say: Say, *, again: bool) -> dict[str, str]:
        """Makes it, or only installs this package again; returns what its stamp says."""
        (self.directory / _STAMP).unlink(missing_ok=True)
        if not again:
            say(f"makes an environment with {wanted[0]}, which takes some minutes: {self.directory}")
            self.directory.parent.mkdir(parents=True, exist_ok=True)
            self._run("make a virtual environment", sys.executable, "-m", "venv", "--clear", str(self.directory))
        file = wheel.write(self.directory)
        if again:
            say(f"installs this version of pytest-serve-chaos in {self.directory}")
            self._run("install pytest-serve-chaos", *self._pip, "--force-reinstall", "--no-deps", str(file))
        self._run(f"install {', '.join(wanted)}", *self._pip, f"{file}[local]", *wanted)
        version = "import importlib.metadata as m; print(m.version('ray'))"
        ray = self._run("ask for the version of Ray", self._python, "-c", version).strip().splitlines()[-1]
        there = {"package": wheel.fingerprint, "ray": ray}
        (self.directory / _STAMP).write_text(json.dumps(there))
        return there

    def install_again(self, paths: Sequence[str], say: Say) -> None:
        """Installs what is at these paths as it is now: the user's own app changes, and its version seldom does."""
        say(f"installs {', '.join(paths)} again in {self.directory}")
        for more in (("--force-reinstall", "--no-deps"), ()):  # the second brings what they have begun to require
            self._run(f"install {', '.join(paths)}", *self._pip, *more, *paths)

    @property
    def _python(self) -> str:
        return str(self.directory / "bin" / "python")

    @property
    def _pip(self) -> tuple[str, ...]:
        return (self._python, "-m", "pip", "--disable-pip-version-check", "--no-input", "install")

    def _run(self, what: str, *command: str) -> str:
        """Runs a program; returns what it printed.

        Raises:
            MissingDependency: It failed, or took too long.
        """
        environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
        left = max(1.0, self.deadline - clock.now())
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("a+", encoding="utf-8", errors="replace") as log:
            log.write(f"$ {' '.join(command)}\n")
            log.flush()
            begin = log.tell()
            try:
                status = subprocess.run(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    timeout=left,
                    env=environment,
                    check=False,
                ).returncode
            except subprocess.TimeoutExpired:
                raise self._failed(f"could not {what} within {DEADLINE / 60:g} minutes") from None
            except OSError as error:
                raise self._failed(f"could not {what}: {error}") from error
            log.seek(begin)
            printed = log.read()
        if status:
            raise self._failed(f"could not {what}: exit status {status}", printed)
        return printed

    def _failed(self, what: str, printed: str = "") -> MissingDependency:
        lines = [line for line in printed.splitlines() if line.strip()]
        return MissingDependency(
            f"the environment for the comparison is not there: {what}",
            checked=[f"log: {self.log}", *lines[-6:]],
            fix=[
                "see whether that Ray has wheels for this Python: pip index versions ray",
                "make room on the disk, or fix the network or the settings of pip, if the log says so",
                "where venv is missing, install it: apt install python3-venv",
            ],
        )


@dataclass(frozen=True, slots=True)
class _Wheel:
    """This package as it is installed here, as a wheel: the same code runs in each environment.

    Attributes:
        files: Name in the wheel -> content.
        fingerprint: Of all of it.
    """

    files: dict[str, bytes] = field(repr=False)
    fingerprint: str

    @classmethod
    def of_this_package(cls) -> _Wheel:
        """The wheel of the package that runs now, from a checkout, a wheel or an sdist alike."""
        try:
            distribution = importlib.metadata.distribution(_DISTRIBUTION)
        except importlib.metadata.PackageNotFoundError:
            raise MissingDependency(
                "pytest-serve-chaos cannot be installed in another environment, for it is not installed here",
                fix=["install it, also from a checkout: pip install -e '.[local]'"],
            ) from None
        package = Path(__file__).parents[1]
        files = {
            str(path.relative_to(package.parent)): path.read_bytes()
            for path in sorted(package.rglob("*"))
            if path.is_file() and "__pycache__" not in path.parts
        }
        info = f"{package.name}-{__version__}.dist-info"
        for name in ("METADATA", "entry_points.txt"):
            files[f"{info}/{name}"] = (distribution.read_text(name) or "").encode()
        files[f"{info}/WHEEL"] = (
            b"Wheel-Version: 1.0\nGenerator: pytest-serve-chaos\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        digest = hashlib.sha256()
        for name, content in files.items():
            digest.update(f"{name} {len(content)}\n".encode() + content)
        return cls(files, digest.hexdigest())

    def write(self, directory: Path) -> Path:
        """Writes the file into a directory."""
        info = next(name for name in self.files if name.endswith("/WHEEL")).removesuffix("/WHEEL")
        path = directory / f"{info.removesuffix('.dist-info')}-py3-none-any.whl"
        record = [f"{name},sha256={_digest(content)},{len(content)}" for name, content in self.files.items()]
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in self.files.items():
                archive.writestr(name, content)
            archive.writestr(f"{info}/RECORD", "\n".join([*record, f"{info}/RECORD,,"]) + "\n")
        return path


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
