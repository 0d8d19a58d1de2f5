"""Checks before there is a cluster that the app's module is found and has the app, in a process of its own."""

from __future__ import annotations

import contextlib
import difflib
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from pytest_serve_chaos.cluster import resources, serve_check, serve_config, yaml_lines
from pytest_serve_chaos.cluster.base import ClusterSpec, Progress
from pytest_serve_chaos.cluster.blind_spots import blind_spots
from pytest_serve_chaos.cluster.local.commands import inherited_environment, python_path
from pytest_serve_chaos.cluster.local.programs import import_app
from pytest_serve_chaos.cluster.local_code import code_of, module_of, named_by, search_path, without_directories
from pytest_serve_chaos.cluster.own_apps import deployments_of, is_own
from pytest_serve_chaos.cluster.problems import Problem, refuse
from pytest_serve_chaos.cluster.resources import Offer
from pytest_serve_chaos.cluster.serve_config import name_of
from pytest_serve_chaos.errors import SettingsError
from pytest_serve_chaos.model import Json
from pytest_serve_chaos.progress import still

IMPORTED_WITHIN = 60.0
"""Seconds that importing an app may take here; one that takes longer is left to the cluster."""

_RAYS_OWN = re.compile(r"(?:docker\.io/)?rayproject/ray(?:-ml|-llm)?(?:[:@].*)?")
"""Images without anybody's app."""
_WITHOUT_A_CLUSTER = {"RAY_ENABLE_AUTO_CONNECT": "0", "RAY_ADDRESS": "127.0.0.1:1"}
"""A module that calls Ray while it is imported must not start a Ray of its own."""


def check_app(
    spec: ClusterSpec,
    progress: Progress,
    *,
    in_image: bool = False,
    ray_version: str | None = None,
    image: str = "",
    offer: Offer | None = None,
) -> dict[str, tuple[str, ...]]:
    """Checks the Serve config of a spec, and its apps by importing them where the cluster would find them.

    Args:
        spec: The cluster that a test wants.
        progress: Prints a line if an import takes long, or shows nothing.
        in_image: Whether the pods have modules that this machine lacks. Then only an app that is missing from a module
            of this machine is an error.
        ray_version: Which Ray the cluster runs; None: that of this machine.
        image: The image of the pods. Ray's own has no app.
        offer: What the cluster will offer to replicas; None: nobody knows.

    Returns:
        The apps with the names of their deployments; nothing if those of one are unknown.

    Raises:
        SettingsError: Serve would refuse the config, a module or its app does not exist, or it cannot be imported, or
            its replicas want what the cluster will not have.
    """
    config = serve_config.serve_config(spec, check=False)
    if spec.app.endswith((".yaml", ".yml")):
        for note in [*serve_config.left_out(spec), *serve_config.repeated(spec)]:
            progress(note)
        for note in blind_spots(config):
            progress(f"{spec.app}: {note}")
        check_config(config, Path(spec.app), progress, ray_version=ray_version)
        _check_resources(spec, config, {}, offer)
    code: dict[str, Json] = {}
    for app in serve_config.applications(config):
        import_path = app.get("import_path")
        if isinstance(import_path, str) and is_own(import_path):
            code[name_of(app)] = deployments_of(app)
            continue
        if not isinstance(import_path, str) or not _comes_from_here(app):
            continue
        _check_module_name(import_path)
        is_here = in_image and code_of(import_path, search_path()) is not None
        if not in_image or is_here:
            answer = _check(import_path, _environment(spec, app), progress, only_attribute=in_image)
            _check_found(spec.app, app, answer)
            code[name_of(app)] = answer.get("deployments")
        else:
            _check_image_may_have_it(import_path, image)
        for named in () if in_image else named_by(app):
            _check(named, _environment(spec, app), progress)
    _check_resources(spec, config, code, offer)
    return _deployments(config, code)


def _deployments(config: Mapping[str, Json], code: Mapping[str, Json]) -> dict[str, tuple[str, ...]]:
    apps = {name_of(app): code.get(name_of(app)) for app in serve_config.applications(config)}
    known = {name: tuple(found) for name, found in apps.items() if isinstance(found, dict)}
    return known if len(known) == len(apps) else {}


def check_apps_of_file(
    config: Mapping[str, Json], file: Path, progress: Progress, *, directories: Sequence[Path], image: str
) -> None:
    """Checks the apps of a RayService file whose code is here; the pods have the others in their image.

    Args:
        config: The Serve config of the RayService.
        file: The file.
        progress: Prints a line if an import takes long.
        directories: Where the code is looked for.
        image: The image of the head's pod. Ray's own has no app.

    Raises:
        SettingsError: An app does not exist, or Serve could not deploy it with the config.
    """
    for given in serve_config.applications(config):
        app, _ = without_directories(given, directories)
        import_path = str(app.get("import_path"))
        if is_own(import_path) or not _comes_from_here(app):
            continue
        if code_of(import_path, directories) is not None:
            places = os.pathsep.join([*map(str, directories), python_path()])
            environment = {**inherited_environment(), "PYTHONPATH": places, **_WITHOUT_A_CLUSTER}
            _check_found(str(file), app, _check(import_path, environment, progress, only_attribute=True))
        else:
            _check_image_may_have_it(import_path, image)


def check_config(
    config: Mapping[str, Json],
    file: Path,
    progress: Progress,
    *,
    ray_version: str | None = None,
    ask: serve_check.AskRay = serve_check.ask_ray,
) -> None:
    """Checks a Serve config by Serve's own schema, where Ray is installed, and by the rules that matter.

    Args:
        config: The config.
        file: Where it comes from.
        progress: Prints what another Ray than the cluster's says, which refuses nothing.
        ray_version: Which Ray the cluster runs; None: that of this machine.
        ask: Asks Ray.

    Raises:
        SettingsError: Serve would refuse it.
    """
    answer = ask(config)
    found, notes = serve_check.binding(config, answer, ray_version)
    for note in notes:
        progress(f"{file}: {note}")
    lines = yaml_lines.document(file.read_text(encoding="utf-8"))
    problems = [Problem(one.what, one.fix, serve_check.place(one.path, lines, dict(config))) for one in found]
    refuse(f"the Serve config {file} cannot be deployed", problems)


def _check(
    import_path: str, environment: Mapping[str, str], progress: Progress, *, only_attribute: bool = False
) -> dict[str, Json]:
    """Refuses an app that cannot be used; what is known of one that is found."""
    answer = _import(import_path, environment, progress)
    outcome = answer.get("outcome")
    if outcome == "no_attribute":
        raise _no_attribute(import_path, answer)
    if only_attribute:
        return answer
    if outcome == "no_module":
        raise _no_module(import_path, answer, environment)
    if outcome == "raised" and answer.get("certain"):
        raise _not_importable(import_path, answer)
    if outcome != "found":
        why = answer.get("error") or "it gave no answer"
        progress(f"the app {import_path} could not be checked before the cluster starts: {why}")
    return answer


def _check_found(source: str, app: Mapping[str, Json], answer: Mapping[str, Json]) -> None:
    """Whether Serve can make an app of what the module has, with the arguments and deployments of the config."""
    import_path, found = app["import_path"], answer.get("is")
    title = f"the app {import_path!r} cannot be deployed"
    names, parameters = answer.get("deployments"), answer.get("parameters")
    if found not in ("app", "builder", None):
        is_unbound = found == "Deployment"
        what = "a deployment that is not bound" if is_unbound else f"of the type {found}, and not a bound deployment"
        raise SettingsError(
            f"{title}: it is {what}",
            checked=[f"the module {module_of(str(import_path))}"],
            fix=["bind it, as in `app = Front.bind()`, and name that"],
        )
    if found == "app" and app.get("args"):
        raise SettingsError(
            f"{title}: it has args, and it is bound already",
            checked=[source],
            fix=["remove args", "or name the function that builds the app, which gets them"],
        )
    if isinstance(parameters, list) and len(parameters) != 1:
        raise SettingsError(
            f"{title}: its builder has {len(parameters)} parameters, and Serve gives it one",
            checked=[f"the parameters of {import_path}: {', '.join(map(str, parameters)) or 'none'}"],
            fix=["give the builder one parameter, for the args of the config"],
        )
    if isinstance(names, dict):
        _check_deployments(source, app, list(names))


def _check_deployments(source: str, app: Mapping[str, Json], there: Sequence[str]) -> None:
    """Whether the app has the deployments whose options a config file sets."""
    given = app.get("deployments")
    wanted = [item.get("name") for item in (given if isinstance(given, list) else []) if isinstance(item, dict)]
    problems: list[Problem] = []
    for name in (str(name) for name in wanted if name not in there):
        close = difflib.get_close_matches(name, there, n=1)
        fix = f"write {close[0]}" if close else f"name one that it has: {', '.join(there)}"
        where = f"applications[{serve_config.name_of(app)}].deployments[{name}]"
        problems.append(Problem(f"the app {app['import_path']} has no deployment {name}", fix, where))
    refuse(f"the Serve config of {source} cannot be deployed", problems)


def _check_resources(
    spec: ClusterSpec, config: Mapping[str, Json], code: Mapping[str, Json], offer: Offer | None
) -> None:
    """Refuses replicas for which there will be no room.

    Args:
        spec: The cluster that a test wants.
        config: The Serve config.
        code: App -> its deployments by its code, where that was imported.
        offer: What the cluster will offer.

    Raises:
        SettingsError: There are such.
    """
    if offer is None or resources.overrides(dict(spec.env)):
        return
    apps: dict[str, dict[str, dict[str, Json]]] = {}
    places: dict[tuple[str, str], yaml_lines.Path] = {}
    for number, app in enumerate(serve_config.applications(config)):
        coded, given = code.get(name_of(app)), app.get("deployments")
        own = {name: dict(options) for name, options in (coded if isinstance(coded, dict) else {}).items()
               if isinstance(options, dict)}  # fmt: skip
        for index, said in enumerate(given if isinstance(given, list) else []):
            if isinstance(said, dict):
                name = str(said.get("name"))
                own[name] = resources.merged(own.get(name, {}), said)
                places[name_of(app), name] = ("applications", number, "deployments", index)
        apps[name_of(app)] = own
    found = resources.shortages(apps, offer)
    if not found:
        return
    is_file = spec.app.endswith((".yaml", ".yml"))
    lines = yaml_lines.document(Path(spec.app).read_text(encoding="utf-8")) if is_file else yaml_lines.Lines()
    problems = []
    for shortage in found:
        at = (*places.get((shortage.app, shortage.deployment), ()), *shortage.path)
        in_config = is_file and (not shortage.deployment or lines.line(at) is not None)
        where = serve_check.place(at, lines, dict(config)) if in_config else f"the code of the app {shortage.app}"
        problems.append(Problem(resources.named(shortage, list(apps)), shortage.fix, where))
    title = f"the Serve config {spec.app}" if is_file else f"the app {spec.app!r}"
    if is_own(spec.app):
        where_to_say = ['say it to the marker: serve_cluster(app_args={"options": {...}})']
    else:
        where_to_say = [] if is_file else ["say it in a Serve config: --serve-chaos-app=config.yaml"]
    ways = [*where_to_say, "test a cluster that offers it: --serve-chaos-backend=kubernetes"]
    refuse(
        f"{title} wants more than there will be ({offer.text})",
        problems,
        ["change what is listed", *(f"or {way}" for way in ways)],
        single="".join(f", or {way}" for way in ways),
    )


def _comes_from_here(app: Mapping[str, Json]) -> bool:
    """Whether a runtime environment brings neither code nor packages, which only the cluster has."""
    return set(_runtime_env(app)) <= {"env_vars"}


def _runtime_env(app: Mapping[str, Json]) -> dict[str, Json]:
    found = app.get("runtime_env")
    return found if isinstance(found, dict) else {}


def _environment(spec: ClusterSpec, app: Mapping[str, Json]) -> dict[str, str]:
    variables = _runtime_env(app).get("env_vars")
    given = {str(k): str(v) for k, v in variables.items()} if isinstance(variables, dict) else {}
    path = {"PYTHONPATH": python_path()}
    return {**inherited_environment(), **path, **dict(spec.env), **given, **_WITHOUT_A_CLUSTER}


def _import(import_path: str, environment: Mapping[str, str], progress: Progress) -> dict[str, Json]:
    """What `programs/import_app.py` says; only an error where it says nothing in time."""
    process = subprocess.Popen(
        [sys.executable, str(import_app.__file__), import_path],
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        with still(f"importing {import_path}", progress, who="app"):
            said, _ = process.communicate(timeout=IMPORTED_WITHIN)
        answer: dict[str, Json] = json.loads(said)
        return answer
    except subprocess.TimeoutExpired:
        return {"error": f"importing it takes more than {IMPORTED_WITHIN:g} s"}
    except ValueError:
        return {"error": f"its import ended the process with status {process.returncode}"}
    finally:
        with contextlib.suppress(ProcessLookupError):  # and what the app has started
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _no_module(import_path: str, answer: Mapping[str, Json], environment: Mapping[str, str]) -> SettingsError:
    places = [place for place in environment.get("PYTHONPATH", "").split(os.pathsep) if place]
    return SettingsError(
        f"the app {import_path!r} cannot be imported: there is no module {answer.get('missing')!r}",
        checked=[*(f"the directory {place}" for place in places), f"the packages of {sys.executable}"],
        fix=[
            "write module:app as for `serve run`, and start pytest in the directory that has the module",
            "or put that directory on PYTHONPATH",
        ],
    )


def _check_module_name(import_path: str) -> None:
    """Refuses the path of a file, which no image can make a module of."""
    module, attribute = module_of(import_path), import_path[len(module_of(import_path)) + 1 :]
    is_file = module.endswith(".py") and code_of(import_path, search_path()) is None
    if "/" not in module and not is_file:
        return
    name = module.removesuffix(".py").lstrip("./").replace("/", ".")
    raise SettingsError(
        f"the app {import_path!r} cannot be imported: it names a file, and not a module",
        checked=[f"the module {module}"],
        fix=[f"write {name}:{attribute}, and start pytest in the directory that has {name.partition('.')[0]}"],
    )


def _is_installed(package: str) -> bool:
    """Whether it may be in Ray's own image: Ray, and what is installed here and may be there."""
    return package == "ray" or importlib.util.find_spec(package) is not None


def _check_image_may_have_it(import_path: str, image: str) -> None:
    """Refuses an app whose code is not here where the pods have Ray's own image, which has no app."""
    if not _RAYS_OWN.fullmatch(image) or _is_installed(module_of(import_path).partition(".")[0]):
        return
    raise SettingsError(
        f"the app {import_path!r} is nowhere: there is no module {module_of(import_path)!r} here, and the pods' image"
        f" {image} is Ray's own",
        checked=[f"the directory {place}" for place in search_path()],
        fix=[
            "start pytest in the directory that has the module, or put that directory on PYTHONPATH: it travels to the"
            " pods",
            "or give the image that has the app: --serve-chaos-ray-image",
        ],
    )


def _importing(module: str) -> str:
    """A command that imports a module, also one that no import statement can name."""
    if all(part.isidentifier() for part in module.split(".")):
        return f"python -c 'import {module}'"
    return f"""python -c 'import importlib; importlib.import_module("{module}")'"""


def _no_attribute(import_path: str, answer: Mapping[str, Json]) -> SettingsError:
    close = answer.get("close")
    module = module_of(import_path)
    return SettingsError(
        f"the app {import_path!r} does not exist: the module {module} has no {import_path[len(module) + 1 :]!r}",
        checked=[f"the module {module}, imported from {answer.get('file')}"],
        fix=[
            *(f"write {module}:{name}, which it has" for name in (close if isinstance(close, list) else [])),
            "name the bound deployment, or the function that builds it",
        ],
    )


def _not_importable(import_path: str, answer: Mapping[str, Json]) -> SettingsError:
    module = module_of(import_path)
    return SettingsError(
        f"the app {import_path!r} cannot be imported: {answer.get('error')}",
        checked=[f"the import of {module} with {sys.executable}:", *str(answer.get("traceback")).splitlines()],
        fix=[f"fix the module, or install what it needs, until this works: {_importing(module)}"],
    )
