"""The app's own code on this machine: which files a pod needs to import it, read so that they can travel there."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_serve_chaos.errors import SettingsError
from pytest_serve_chaos.model import Json

_OURS = "pytest_serve_chaos"
"""This package travels by itself: its apps only, without what they do not need."""
_SHOWN = 4


def search_path() -> tuple[Path, ...]:
    """Where the module of an app is looked for: the current directory, and those on PYTHONPATH."""
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return tuple(dict.fromkeys(Path(directory).absolute() for directory in ("", *given)))


@dataclass(frozen=True, slots=True)
class LocalCode:
    """What the app of one import path needs of this machine.

    Attributes:
        directory: Where it is.
        modules: Path below the directory -> source.
    """

    directory: Path
    modules: Mapping[str, str]

    def __str__(self) -> str:
        shown = sorted(self.modules)
        more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
        return f"{', '.join(shown[:_SHOWN])}{more} of {self.directory}"


def code_of_config(config: Mapping[str, Json], directories: Sequence[Path]) -> dict[str, LocalCode]:
    """The code of a Serve config that is here, by import paths: that of its apps, and what else it names."""
    apps = config.get("applications")
    paths: list[str] = []
    for app in apps if isinstance(apps, list) else []:
        if isinstance(app, dict):
            paths += [str(app.get("import_path", "")), *named_by(app)]
    return {path: code for path in paths if (code := code_of(path, directories)) is not None}


def named_by(app: Mapping[str, Json]) -> Iterator[str]:
    """The import paths of autoscaling policies and request routers: the head imports them with the config."""
    deployments = app.get("deployments")
    for deployment in deployments if isinstance(deployments, list) else []:
        given = deployment if isinstance(deployment, dict) else {}
        scaling, router = given.get("autoscaling_config"), given.get("request_router_config")
        policy = scaling.get("policy") if isinstance(scaling, dict) else None
        for holder, key in ((policy, "policy_function"), (router, "request_router_class")):
            path = holder.get(key) if isinstance(holder, dict) else None
            if isinstance(path, str) and not path.startswith("ray."):
                yield path


def code_of(import_path: str, directories: Sequence[Path]) -> LocalCode | None:
    """The module of an app, what it imports from the same directory, and for a package all of its modules.

    Nothing is imported: who imports whom is read from the source.

    Args:
        import_path: As Serve takes it: ``ranker:app`` or ``ranker.app``.
        directories: Where it is looked for; the first that has it counts.

    Returns:
        None where none of the directories has it.

    Raises:
        SettingsError: A file cannot be read.
    """
    module = module_of(import_path)
    for directory in directories:
        modules = _closure(directory, module)
        if modules:
            return LocalCode(directory, modules)
    return None


class CarriedCode:
    """The code that was brought to a cluster's pods when it started. Has the capability `CarriesCode`.

    Args:
        config: The Serve config with which it started.
        directories: Where the code of its apps was looked for.
    """

    def __init__(self, config: Mapping[str, Json], directories: Sequence[Path]) -> None:
        self._config = dict(config)
        self._directories = tuple(directories)

    def why_not(self, import_path: str) -> str:
        """Why the app of an import path cannot be imported in the pods; "" where nothing is known against it."""
        wanted = code_of(import_path, self._directories)
        if wanted is None:
            return ""
        brought = code_of_config(self._config, self._directories).values()
        there = {(code.directory, path) for code in brought for path in code.modules}
        missing = sorted(path for path in wanted.modules if (wanted.directory, path) not in there)
        return (
            f"{missing[0]} of {wanted.directory} was not brought to the pods when the cluster started"
            if missing
            else ""
        )


def module_of(import_path: str) -> str:
    """The module of an import path as Serve takes it: ``ranker`` of ``ranker:app`` and of ``ranker.app``."""
    module, colon, _ = import_path.partition(":")
    return module if colon else import_path.rpartition(".")[0]


def _closure(root: Path, module: str) -> dict[str, str]:
    found: dict[str, str] = {}
    wanted = [module]
    while wanted:
        for file in _files(root, wanted.pop()):
            path = file.relative_to(root)
            if path.as_posix() not in found:
                found[path.as_posix()] = source = _read(file)
                wanted += _imports(source, path.parts[:-1])
    return found


def _files(root: Path, module: str) -> Iterator[Path]:
    """The files that an import of the module needs: one module, or a whole package."""
    here, parts = root, module.split(".")
    if parts[0] == _OURS or not all(_travels(part) for part in parts):
        return
    for number, part in enumerate(parts, 1):
        if (here / part / "__init__.py").is_file():
            yield from _modules_below(here / part)
            return
        if (here / f"{part}.py").is_file():
            if number == len(parts):  # a module has no modules in it
                yield here / f"{part}.py"
            return
        here = here / part  # a package without __init__.py: of those, only the modules that are imported


def _modules_below(package: Path) -> Iterator[Path]:
    for directory, below, files in os.walk(package):
        below[:] = sorted(name for name in below if _travels(name))
        yield from (Path(directory, name) for name in sorted(files) if name.endswith(".py") and _travels(name[:-3]))


def _travels(name: str) -> bool:
    """Whether `importlib.import_module` takes it: unlike an import statement, any name without a dot."""
    return bool(name) and "." not in name and "/" not in name and name != "__pycache__"


def _imports(source: str, package: Sequence[str]) -> Iterator[str]:
    """The modules that a module names in its imports, by their full names.

    Args:
        source: The module.
        package: The names of the packages that it is in.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return  # Serve will say so, with the line
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from _imported_from(node, package)
        elif isinstance(node, ast.Call):
            yield from _imported_by_name(node, package)


def _imported_from(node: ast.ImportFrom, package: Sequence[str]) -> Iterable[str]:
    base = [*package[: max(0, len(package) - node.level + 1)]] if node.level else []
    module = ".".join([*base, *([node.module] if node.module else [])])
    return [module, *(f"{module}.{name.name}" for name in node.names)] if module else [n.name for n in node.names]


def _imported_by_name(node: ast.Call, package: Sequence[str]) -> Iterable[str]:
    """What a call of `importlib.import_module` with a constant imports: the only way to a module with a hyphen."""
    called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    name = node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else None
    if called not in ("import_module", "__import__") or not isinstance(name, str):
        return []
    dots = len(name) - len(name.lstrip("."))
    base = [*package[: max(0, len(package) - dots + 1)]] if dots else []
    return [".".join([*base, name.lstrip(".")])]


def without_directories(app: Mapping[str, Json], directories: Sequence[Path]) -> tuple[dict[str, Json], str]:
    """The app without directories of this machine in its runtime environment, where its code is found without them.

    Serve refuses such a directory. It is what people write for `serve run`, which uploads it.

    Args:
        app: An app of a Serve config.
        directories: Where its code is looked for.

    Returns:
        The app, and a sentence about what was left out; "" where nothing was.
    """
    given = app.get("runtime_env")
    env = dict(given) if isinstance(given, dict) else {}
    modules = env.get("py_modules")
    local = [key for key in ("working_dir",) if _is_local(env.get(key))]
    local += ["py_modules"] if isinstance(modules, list) and modules and all(map(_is_local, modules)) else []
    import_path = str(app.get("import_path", ""))
    if not local or code_of(import_path, directories) is None:
        return dict(app), ""
    said = " and ".join(f"{key} {env.pop(key)}" for key in local)
    variables = env.get("env_vars")
    if isinstance(variables, dict) and "PYTHONPATH" in variables:  # what is relative is below that directory
        kept = [place for place in str(variables["PYTHONPATH"]).split(os.pathsep) if place.startswith(("/", "$"))]
        others: dict[str, Json] = {key: value for key, value in variables.items() if key != "PYTHONPATH"}
        path: dict[str, Json] = {"PYTHONPATH": os.pathsep.join(["${PYTHONPATH}", *kept])} if kept else {}
        merged: dict[str, Json] = {**others, **path}
        env["env_vars"] = merged
    rest = {key: value for key, value in app.items() if key != "runtime_env"}
    changed: dict[str, Json] = {key: value for key, value in env.items() if value not in ({}, None)}
    note = f"app {import_path}: {said} of its runtime_env is left out: its code is here"
    return (rest | {"runtime_env": changed}) if changed else rest, note


def _is_local(value: Json) -> bool:
    return isinstance(value, str) and bool(value) and "://" not in value


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"the app's code cannot be read: {error}",
            checked=[str(file)],
            fix=["it travels to the pods in a ConfigMap, as text in UTF-8"],
        ) from error
