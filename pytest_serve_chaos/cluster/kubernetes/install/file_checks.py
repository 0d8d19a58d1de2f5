"""All that is wrong with the objects of a file for a kind cluster, in the order of the file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path as FilePath

import yaml

from pytest_serve_chaos.cluster import serve_check, yaml_lines, yaml_text
from pytest_serve_chaos.cluster.kubernetes.client.records import inner, listed, mapped, text
from pytest_serve_chaos.cluster.kubernetes.install import crd_schema, file_rules, kuberay, render
from pytest_serve_chaos.cluster.kubernetes.install.file_kinds import kinds
from pytest_serve_chaos.cluster.kubernetes.install.file_needs import needs
from pytest_serve_chaos.cluster.kubernetes.install.file_objects import PATCH, FileObject, KindOffers
from pytest_serve_chaos.cluster.kubernetes.install.file_pod_rules import pod_rules
from pytest_serve_chaos.cluster.kubernetes.install.file_quotas import quotas
from pytest_serve_chaos.cluster.kubernetes.install.file_ray import ray_resources
from pytest_serve_chaos.cluster.kubernetes.install.file_templates import FIX, in_serve_config, templates
from pytest_serve_chaos.cluster.kubernetes.rayservice.existing import read_ray_service
from pytest_serve_chaos.cluster.local_code import without_directories
from pytest_serve_chaos.cluster.problems import Problem
from pytest_serve_chaos.cluster.yaml_lines import Path
from pytest_serve_chaos.errors import ClusterStartError, SettingsError
from pytest_serve_chaos.model import Json

_CONFIG: Path = ("spec", "serveConfigV2")
_REPLICAS: Path = ("spec", "rayClusterConfig", "headGroupSpec", "replicas")
"""What older KubeRays know, and the plugin leaves out by itself."""
_PLACE = re.compile(r"document (\d+)(?:, line (\d+))?")
_STORAGE: Path = ("spec", "rayClusterConfig", "gcsFaultToleranceOptions", "backend")


@dataclass(frozen=True, slots=True)
class FileChecks:
    """With what a file is compared.

    Attributes:
        offers: What the kind cluster has.
        ask_ray: Asks the Ray of this machine about the Serve config.
        ray_version: Which Ray the pods run, where the options say so.
        directories: Where the code of the apps is looked for.
        other_image: Whether the options replace the image of the Ray containers.
    """

    offers: KindOffers = field(default_factory=KindOffers)
    ask_ray: serve_check.AskRay = serve_check.no_ray
    ray_version: str | None = None
    directories: tuple[FilePath, ...] = ()
    other_image: bool = False


def problems_of(objects: Sequence[FileObject], checks: FileChecks, more: Iterable[Problem] = ()) -> list[Problem]:
    """All of them and those that are known already (`more`), one of each kind at each place."""
    found = [*kinds(objects), *templates(objects), *needs(objects, checks.offers)]
    found += [*pod_rules(objects, other_image=checks.other_image), *quotas(objects), *more]
    for item in objects:
        if item.kind == "RayService":
            found += _ray_service(item, checks)
    return sorted(dict.fromkeys(found), key=_place)


def _place(problem: Problem) -> tuple[int, int]:
    """Its document and line."""
    found = _PLACE.match(problem.where)
    return (int(found[1]), int(found[2] or 0)) if found else (0, 0)


def _ray_service(item: FileObject, checks: FileChecks) -> Iterator[Problem]:
    rules = file_rules.problems(item.manifest)
    yield from (item.problem(path, what, fix) for path, what, fix in rules)
    said = {path for path, _, _ in rules}
    new_storage = _storage(item, checks)
    if new_storage is not None:
        yield new_storage
    elif checks.offers.schema is not None:
        for path, what, fix in crd_schema.against(checks.offers.schema, item.manifest):
            if path != _REPLICAS and not {path, path[:-1]} & said:
                yield item.problem(path, what, fix)
    if _CONFIG in said:
        return
    try:
        config = read_ray_service(item.manifest).serve_config
    except ClusterStartError as error:
        yield _no_config(item, error)
        return
    yield from _serve_config(item, config, checks)


def _no_config(item: FileObject, error: ClusterStartError) -> Problem:
    """What is wrong with a Serve config that cannot be read, with the line of the file where it is known."""
    cause, before = error.__cause__, item.lines.inside.get(_CONFIG)
    if not isinstance(cause, yaml.YAMLError) or before is None:
        return item.problem(_CONFIG, error.what, "; ".join(error.fix))
    own = text(mapped(item.manifest.get("spec")), "serveConfigV2")
    fixes = yaml_text.ways_out(own, "correct the YAML; KubeRay reports the error only in the operator's log")
    return item.problem(_CONFIG, f"it is not YAML: {yaml_text.problem(cause, before)}", ", or ".join(fixes))


def _storage(item: FileObject, checks: FileChecks) -> Problem | None:
    """Why the installed KubeRay, or Ray, has no such storage for the GCS."""
    try:
        kuberay.check_file(item.manifest, checks.offers.operator, checks.ray_version)
    except SettingsError as error:
        return item.problem(_STORAGE, "; ".join((error.what, *error.checked)), ", ".join(error.fix))
    return None


def _serve_config(item: FileObject, config: Mapping[str, Json], checks: FileChecks) -> Iterator[Problem]:
    given = config.get("applications")
    apps: list[Json] = [
        without_directories(app, checks.directories)[0] if isinstance(app, dict) else app
        for app in (given if isinstance(given, list) else [])
    ]
    sent = {**config, "applications": apps} if isinstance(given, list) else dict(config)
    own = text(mapped(item.manifest.get("spec")), "serveConfigV2")
    before = item.lines.inside.get(_CONFIG)
    lines = yaml_lines.Lines() if before is None else yaml_lines.document(own).shifted(before)
    shown = [(path, what, FIX) for path, what in in_serve_config(config)]
    shown += file_rules.of_serve_config(config)
    answer = checks.ask_ray(sent)
    version = checks.ray_version or _version(item)
    found, _ = serve_check.binding(sent, answer, version)
    shown += [(one.path, one.what, one.fix) for one in found]
    shown += list(ray_resources(item.manifest, config))
    for path, what, fix in shown:
        line = lines.line(path)
        place = f"document {item.number}" + ("" if line is None else f", line {line}")
        field_of = yaml_lines.shown(path, dict(config))
        yield Problem(what, fix, f"{place}: {item.kind} {item.name}, spec.serveConfigV2 {field_of}".rstrip())
    if answer is not None and answer.start and version is not None and serve_check.same_minor(version, answer.version):
        yield from _start_parameters(item, answer)


def _version(item: FileObject) -> str | None:
    """Which Ray the pods run, as the file says."""
    cluster = inner(item.manifest, "spec", "rayClusterConfig")
    image = text(file_rules.ray_container(mapped(cluster.get("headGroupSpec"))), "image")
    return render.version_of(image) or text(cluster, "rayVersion") or None


def _start_parameters(item: FileObject, answer: serve_check.RayAnswer) -> Iterator[Problem]:
    base: Path = ("spec", "rayClusterConfig")
    cluster = inner(item.manifest, "spec", "rayClusterConfig")
    groups: list[tuple[Path, dict[str, Json]]] = [((*base, "headGroupSpec"), mapped(cluster.get("headGroupSpec")))]
    workers = enumerate(listed(cluster.get("workerGroupSpecs")))
    groups += [((*base, "workerGroupSpecs", number), group) for number, group in workers]
    for path, group in groups:
        for name in mapped(group.get("rayStartParams")):
            if name not in answer.start:
                yield item.problem(
                    (*path, "rayStartParams", name),
                    f"`ray start` of Ray {answer.version} has no option --{name}",
                    f"remove it {PATCH}: {{rayStartParams: {{{name}: null}}}}",
                )
