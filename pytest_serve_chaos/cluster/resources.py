"""What replicas want of Ray, and a cluster that is to be created will never have: they would wait for ever."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath

from pytest_serve_chaos.analysis.words import number
from pytest_serve_chaos.cluster.yaml_lines import Path
from pytest_serve_chaos.model import Json

_CPU, _GPU = "CPU", "GPU"
_OF_A_NODE = ("memory", "object_store_memory")
"""What each node offers in an amount that depends on its machine."""

_OVERRIDE = "RAY_OVERRIDE_RESOURCES"
"""With this variable Ray nodes offer what it says, in addition to what `ray start` is given."""

_DEVICES = ("nvidia*", "kfd", "dxg", "dri/render*", "accel*", "vfio/*", "neuron*", "davinci*", "hl*", "rngd*")
"""Files below /dev of machines on which Ray may find accelerators by itself."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What the nodes of a cluster that is to be created offer to replicas. The head offers none of it.

    Attributes:
        cluster: ``a local cluster``.
        workers: How many there are.
        cpus: CPUs of each.
        others: Whether they may offer GPUs and resources of other names, so that nobody knows which.
    """

    cluster: str
    workers: int
    cpus: float
    others: bool = False

    @property
    def text(self) -> str:
        """What it offers, in words."""
        rest = "" if self.others else ", no GPU and no custom resource"
        each = "its only worker" if self.workers == 1 else f"each of its {self.workers} workers"
        return f"{self.cluster} has no CPU for replicas on its head, and on {each} {_count(self.cpus, 'CPU')}{rest}"


@dataclass(frozen=True, slots=True)
class Shortage:
    """What a deployment wants, and the cluster will not have.

    Attributes:
        app: The name of the app.
        deployment: The deployment; "" where all deployments together want too much.
        path: Where it is, below the options of the deployment.
        what: What is wrong.
        fix: The way out.
    """

    app: str
    deployment: str
    path: Path
    what: str
    fix: str


def has_accelerators(devices: FilePath = FilePath("/dev")) -> bool:
    """Whether Ray may find accelerators on this machine, or the environment names resources for it."""
    return _OVERRIDE in os.environ or any(any(devices.glob(pattern)) for pattern in _DEVICES)


def overrides(env: Mapping[str, str]) -> bool:
    """Whether the environment of the Ray nodes says what they offer."""
    return _OVERRIDE in env


def merged(code: Mapping[str, Json], config: Mapping[str, Json]) -> dict[str, Json]:
    """The options of a deployment by its code, with what the Serve config says otherwise."""
    options = dict(code)
    for given, other in (("num_replicas", "autoscaling_config"), ("autoscaling_config", "num_replicas")):
        if config.get(given) is not None:
            options.pop(other, None)
    return {**options, **config}


def shortages(apps: Mapping[str, Mapping[str, Mapping[str, Json]]], offer: Offer) -> list[Shortage]:
    """What cannot run, however long one waits.

    Args:
        apps: App -> deployment -> its options, as far as they are known.
        offer: What there will be.
    """
    found: list[Shortage] = []
    total = 0.0
    for app, deployments in apps.items():
        for name, options in deployments.items():
            own = [Shortage(app, name, path, what, fix) for path, what, fix in _of_deployment(options, offer)]
            found += own
            total += _replicas(options) * _cpus(options)
    room = offer.workers * offer.cpus
    if not found and total > room + 1e-9:
        what = f"all replicas together want {total:g} CPUs, and there are {room:g}"
        found.append(Shortage("", "", (), what, _more_workers(total, offer)))
    return found


def _of_deployment(options: Mapping[str, Json], offer: Offer) -> Iterator[tuple[Path, str, str]]:
    lacking = False
    for path, name, amount in _wanted(options):
        if name == _CPU and amount > offer.cpus:
            lacking = True
            yield (
                path,
                f"each replica wants {_count(amount, 'CPU')} on one node",
                f"give it {offer.cpus:g} or less for this test",
            )
        elif name not in (_CPU, *_OF_A_NODE) and not offer.others:
            lacking = True
            said = _count(amount, "GPU") if name == _GPU else f"{amount:g} of the resource {name}"
            yield path, f"each replica wants {said}, which no node offers", "leave it out for this test"
    cpus, replicas = _cpus(options), _replicas(options)
    most = options.get("max_replicas_per_node")
    # Without CPUs they can be on the head, too.
    nodes = offer.workers if cpus else offer.workers + 1
    if isinstance(most, int) and replicas > nodes * most:
        lacking = True
        more = math.ceil(replicas / most) - (0 if cpus else 1)
        yield (
            ("max_replicas_per_node",),
            f"{number(replicas, 'replica')} are wanted, {most} at most on a node, and {number(nodes, 'node')} can have"
            " them",
            f"allow more on a node, want no more than {number(nodes * most, 'replica')}, or more workers:"
            f" --serve-chaos-workers={more}",
        )
    if lacking or not cpus or options.get("placement_group_bundles"):
        return
    room = offer.workers * math.floor(offer.cpus / cpus + 1e-9)
    if replicas > room:
        yield (
            ("num_replicas",) if "num_replicas" in options else (),
            f"{number(replicas, 'replica')} of {_count(cpus, 'CPU')} each are wanted, and there is room for {room}",
            f"want no more than {number(room, 'replica')}, or fewer CPUs for each, or {_more_workers(0, offer)}"
            if room
            else "want fewer CPUs for each",
        )


def _more_workers(cpus: float, offer: Offer) -> str:
    needed = max(offer.workers + 1, math.ceil(cpus / offer.cpus))
    return f"more workers: --serve-chaos-workers={needed}"


def _wanted(options: Mapping[str, Json]) -> Iterator[tuple[Path, str, float]]:
    """What one replica wants of one node: the field that says so, what, and how much."""
    bundles = options.get("placement_group_bundles")
    if isinstance(bundles, list) and bundles:
        for index, bundle in enumerate(bundles):
            for name, amount in _amounts(bundle):
                yield ("placement_group_bundles", index, name), name, amount
        return
    actor, at = options.get("ray_actor_options"), "ray_actor_options"
    if not isinstance(actor, dict):
        return
    for field, name in (("num_cpus", _CPU), ("num_gpus", _GPU)):
        amount = _number(actor.get(field))
        if amount:
            yield (at, field), name, amount
    yield from (((at, "resources", name), name, n) for name, n in _amounts(actor.get("resources")))
    if isinstance(actor.get("accelerator_type"), str):
        yield (at, "accelerator_type"), f"accelerator_type:{actor['accelerator_type']}", 0.001


def _amounts(given: Json) -> list[tuple[str, float]]:
    found = given.items() if isinstance(given, dict) else ()
    return [(name, amount) for name, value in found if (amount := _number(value))]


def _number(given: Json) -> float:
    return float(given) if isinstance(given, int | float) else 0.0


def _cpus(options: Mapping[str, Json]) -> float:
    """CPUs of one replica, as far as they are known; where its options do not say so Serve gives it one."""
    bundles = options.get("placement_group_bundles")
    if isinstance(bundles, list) and bundles:
        return sum(amount for bundle in bundles for name, amount in _amounts(bundle) if name == _CPU)
    actor = options.get("ray_actor_options")
    if not isinstance(actor, dict):
        return 0.0
    return 1.0 if actor.get("num_cpus") is None else _number(actor["num_cpus"])


def _replicas(options: Mapping[str, Json]) -> int:
    """The fewest replicas that there must be at first."""
    scaling, fixed = options.get("autoscaling_config"), options.get("num_replicas")
    if isinstance(scaling, dict):
        first = scaling.get("initial_replicas")
        least = scaling.get("min_replicas", 1)
        return max(int(_number(first)), int(_number(least)))
    return fixed if isinstance(fixed, int) else 1


def _count(amount: float, one: str) -> str:
    return f"{amount:g} {one if amount == 1 else one + 's'}"


def named(shortage: Shortage, apps: Sequence[str]) -> str:
    """What a shortage is, with its deployment; the app is named where there are several."""
    if not shortage.deployment:
        return shortage.what
    of = f" of the app {shortage.app}" if len(apps) > 1 else ""
    return f"deployment {shortage.deployment}{of}: {shortage.what}"
