"""What the replicas of a Serve config want of Ray, and no Ray node of the file offers: they would wait for ever."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pytest_serve_chaos.cluster.kubernetes.client.records import inner, mapped, text
from pytest_serve_chaos.cluster.kubernetes.install.file_objects import PATCH
from pytest_serve_chaos.cluster.kubernetes.install.file_rules import groups
from pytest_serve_chaos.cluster.yaml_lines import Path
from pytest_serve_chaos.json_text import read_json
from pytest_serve_chaos.model import Json

_GPU = "num_gpus"


def ray_resources(ray_service: Mapping[str, Json], config: Mapping[str, Json]) -> Iterator[tuple[Path, str, str]]:
    """What deployments want and nobody offers: where in the config, what, and the way out."""
    cluster = inner(ray_service, "spec", "rayClusterConfig")
    offered = set().union(*(_offered(group) for group in groups(cluster).values()))
    apps = config.get("applications")
    for number, app in enumerate(apps if isinstance(apps, list) else []):
        deployments = mapped(app).get("deployments")
        for index, deployment in enumerate(deployments if isinstance(deployments, list) else []):
            path: Path = ("applications", number, "deployments", index)
            for name, at in _wanted(mapped(deployment)):
                if name not in offered:
                    yield (
                        (*path, *at),
                        f"its replicas want {name}, which no Ray node of the file offers on kind",
                        f"set it to null {PATCH}, or offer it: {_offer(name)} of a group's rayStartParams",
                    )


def _wanted(deployment: Mapping[str, Json]) -> Iterator[tuple[str, Path]]:
    options, at = mapped(deployment.get("ray_actor_options")), "ray_actor_options"
    if _is_some(options.get(_GPU)):
        yield _GPU, (at, _GPU)
    if options.get("accelerator_type"):
        yield f"accelerator_type:{options['accelerator_type']}", (at, "accelerator_type")
    yield from ((name, (at, "resources", name)) for name, n in mapped(options.get("resources")).items() if _is_some(n))
    bundles = deployment.get("placement_group_bundles")
    for number, bundle in enumerate(bundles if isinstance(bundles, list) else []):
        for name, value in mapped(bundle).items():
            if name not in ("CPU", "memory") and _is_some(value):
                yield _GPU if name == "GPU" else name, ("placement_group_bundles", number, name)


def _is_some(value: Json) -> bool:
    return isinstance(value, int | float) and value > 0


def _offered(group: Mapping[str, Json]) -> set[str]:
    """What the nodes of a group offer on kind, which has no GPU: the options of `ray start`."""
    parameters = mapped(group.get("rayStartParams"))
    given = text(parameters, "resources").strip().strip("'").replace('\\"', '"').strip('"')
    try:
        found = mapped(read_json(given or "{}"))
    except ValueError:
        found = {}
    names = {*found, *mapped(group.get("resources"))}
    if text(parameters, "num-gpus") not in ("", "0") or text(mapped(group.get("resources")), "GPU") not in ("", "0"):
        names.add(_GPU)
    return names


def _offer(name: str) -> str:
    return 'num-gpus: "1"' if name == _GPU else f'resources: \'"{{\\"{name}\\": 1}}"\''
