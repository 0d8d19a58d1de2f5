"""An update of a running app: the changed Serve config, and what Serve says when the update is complete."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, cast

from pytest_serve_chaos.cluster.own_apps import OWN_APPS
from pytest_serve_chaos.cluster.rest import ServeStatus, autoscaled
from pytest_serve_chaos.cluster.serve_config import applications, name_of, with_deployment_options
from pytest_serve_chaos.errors import NoSuchTarget, SettingsError, Unsupported, nearest
from pytest_serve_chaos.model import Json

Change = Literal["code", "user_config", "options", "num_replicas"]
Bad = Literal["constructor", "health_check", "answers"]

NEW_VERSION = f"{OWN_APPS}updated:app"
"""The app that is a new version of any other app."""

_RECONFIGURED = f"{OWN_APPS}sleepy_pid:app"
"""The one app whose `user_config` the plugin knows."""

_REPLACING = frozenset({
    "ray_actor_options", "placement_group_bundles", "placement_group_strategy",
    "placement_group_bundle_label_selector", "placement_group_fallback_strategy", "max_replicas_per_node",
    "gang_scheduling_config",
})  # fmt: skip
"""Options whose change replaces replicas: `requires_actor_restart` of ray/serve/_private/version.py (Ray 2.60)."""

OTHER_OPTIONS = frozenset({"name", "num_replicas", "user_config", "autoscaling_config"})
"""What is not changed as an option: other kinds of change do it, or nobody could say what redundancy is then."""

SCALING = ("UPSCALING", "DOWNSCALING")
"""The statuses of a deployment whose number of replicas changes: of one that Serve scales it may at any time."""

_CODE = frozenset({"import_path", "args", "runtime_env"})
"""The fields of an app that make another version of its code (Ray 2.60); others replace no replica."""

_WITHOUT_THIS_PACKAGE = ("container", "image_uri", "conda")
"""Runtime environments in which the package's apps cannot be imported, or may be not."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The update that a test asks for.

    Attributes:
        change: What changes.
        bad: What is wrong with the new version; None: nothing.
        app: The app; None: the first one with a route.
        deployment: The deployment (``SleepyPid`` or ``app#SleepyPid``); None: the one that answers requests.
        to: The new value; None: one that the plugin chooses.
    """

    change: Change = "code"
    bad: Bad | None = None
    app: str | None = None
    deployment: str | None = None
    to: Json = field(default=None, repr=False)

    @property
    def replaces(self) -> bool:
        """Whether Serve replaces the replicas by others."""
        options = self.to if isinstance(self.to, dict) else {}
        return self.change == "code" or (self.change == "options" and not _REPLACING.isdisjoint(options))


@dataclass(frozen=True, slots=True)
class Target:
    """What Serve says once an app is as a config wants it.

    Attributes:
        app: The app.
        code: Fields of its part of the config.
        options: ``app#Deployment`` -> options.
        replicas: ``app#Deployment`` -> how many are wanted.
    """

    app: str
    code: Mapping[str, Json] = field(default_factory=dict, repr=False)
    options: Mapping[str, Mapping[str, Json]] = field(default_factory=dict, repr=False)
    replicas: Mapping[str, int] = field(default_factory=dict)

    def accepted(self, status: ServeStatus) -> list[str]:
        """What Serve does not want yet, in words; empty once it has accepted the update."""
        said = status.configs.get(self.app, {})
        lacking = [f"{name} of the app {self.app} is the old one" for name in self.code if said and
                   (said.get(name) or None) != (self.code[name] or None)]  # fmt: skip
        lacking += [
            f"{name} of {deployment} is the old one"
            for deployment, options in self.options.items()
            for name, value in options.items()
            if not _agrees(status.options.get(deployment, {}).get(name), value)
        ]
        wanted = {name: status.targets.get(name) for name in self.replicas}
        return lacking + [
            f"Serve wants {n} replicas of {name}" for name, n in wanted.items() if n != self.replicas[name]
        ]

    def lacks(self, status: ServeStatus) -> list[str]:
        """What is not complete yet, in words; empty once the update is."""
        lacking = self.accepted(status)
        if status.apps.get(self.app) != "RUNNING":
            said = status.messages.get(self.app, "").strip().splitlines()
            lacking.append(f"the app {self.app} is {status.apps.get(self.app, 'not known')}" + _last(said))
        scaled = autoscaled(status)
        for name, state in status.deployments.items():
            well = state == "HEALTHY" or (name in scaled and state in SCALING)
            if name.startswith(f"{self.app}#") and not well:
                lacking.append(f"{name} is {state}")
        return lacking


@dataclass(frozen=True, slots=True)
class Planned:
    """An update that can be made.

    Attributes:
        wanted: What the test asks for.
        text: What changes, for people.
        config: The whole Serve config with it.
        deployments: ``app#Deployment`` of all whose replicas it concerns.
        new: What Serve says once it is complete.
        old: What Serve says once it is taken back.
    """

    wanted: Wanted
    text: str
    config: Mapping[str, Json] = field(repr=False)
    deployments: Sequence[str]
    new: Target
    old: Target


def makes_a_version(fields: Mapping[str, Json]) -> bool:
    """Whether such fields of an app make another version of its code, so that Serve replaces its replicas."""
    return not _CODE.isdisjoint(fields)


def plan(config: Mapping[str, Json], status: ServeStatus, wanted: Wanted, number: int) -> Planned:
    """The update of an app that runs.

    Args:
        config: The Serve config that the cluster runs.
        status: What Serve says of it.
        wanted: The update.
        number: Tells the updates of a run apart, so that none is what ran before.

    Raises:
        NoSuchTarget: There is no such app or deployment.
        SettingsError: The test has to say more.
        Unsupported: This app cannot be updated so.
    """
    app = _app(config, wanted)
    name = name_of(app)
    if wanted.change == "code":
        return _new_code(config, app, _with_deployment(wanted, name, status), status, number)
    deployment = _deployment(name, status, wanted.deployment)
    if wanted.change == "num_replicas":
        return _other_number(config, deployment, wanted, status)
    options = _new_options(app, deployment, wanted, status, number)
    before = status.options.get(deployment, {})
    return Planned(
        wanted,
        f"{', '.join(options)} of {deployment} {'changes' if len(options) == 1 else 'change'}",
        with_deployment_options(config, deployment, options),
        (deployment,),
        Target(name, options={deployment: options}),
        Target(name, options={deployment: {key: before.get(key) for key in options}}),
    )


# -- the kinds of change ----------------------------------------------------------------------------------------------


def _new_code(
    config: Mapping[str, Json], app: Mapping[str, Json], wanted: Wanted, status: ServeStatus, number: int
) -> Planned:
    name = name_of(app)
    if isinstance(wanted.to, str):
        new: dict[str, Json] = {**app, "import_path": wanted.to}
    elif isinstance(wanted.to, dict):
        new = {**app, **wanted.to}
    else:
        new = {**app, **_version_of(app, wanted, number)}
    changed = sorted(key for key in {*app, *new} if app.get(key) != new.get(key))
    if not changed:
        raise SettingsError(f"the app {name} runs as `to` says, so nothing would change", fix=["say what changes"])
    others = [new if one is app else one for one in applications(config)]
    text = f"a new version of the app {name} is deployed"
    if wanted.bad is not None:
        text += {
            "constructor": ", whose constructor raises",
            "health_check": ", whose health check fails a few seconds after the start",
            "answers": ", which answers with errors",
        }[wanted.bad]
    return Planned(
        wanted,
        text,
        {**config, "applications": cast("list[Json]", others)},
        tuple(n for n in status.targets if n.startswith(f"{name}#")),
        Target(name, code={key: new.get(key) for key in changed}),
        Target(name, code={key: app.get(key) for key in changed}),
    )


def _version_of(app: Mapping[str, Json], wanted: Wanted, number: int) -> dict[str, Json]:
    """The fields of an app that is the same one under another import path."""
    env = cast("dict[str, Json]", app.get("runtime_env") or {})
    found = [key for key in _WITHOUT_THIS_PACKAGE if env.get(key)]
    if "PYTHONPATH" in cast("dict[str, Json]", env.get("env_vars") or {}):
        found.append("PYTHONPATH in env_vars")
    if found:
        raise Unsupported(
            f"a new version of the app {name_of(app)} cannot be made: its runtime_env has {found[0]}, in which"
            f" {NEW_VERSION} is not importable",
            fix=["name a new version of your own: to='module:app'"] if wanted.bad is None else [],
        )
    args: dict[str, Json] = {"import_path": app.get("import_path"), "args": app.get("args") or {}, "version": number}
    if wanted.bad is not None:
        args["bad"] = wanted.bad
        args["deployment"] = (wanted.deployment or "").rpartition("#")[2]
    return {"import_path": NEW_VERSION, "args": args}


def _with_deployment(wanted: Wanted, app: str, status: ServeStatus) -> Wanted:
    """With the full name of the deployment that it names, which must exist."""
    return wanted if wanted.deployment is None else replace(wanted, deployment=_named(app, status, wanted.deployment))


def _new_options(
    app: Mapping[str, Json], deployment: str, wanted: Wanted, status: ServeStatus, number: int
) -> dict[str, Json]:
    if wanted.change == "user_config":
        if wanted.to is None and app.get("import_path") != _RECONFIGURED:
            raise SettingsError(
                f"which user_config {deployment} takes is known to you alone", fix=["give the new one: to={...}"]
            )
        return {"user_config": wanted.to if wanted.to is not None else {"version": number}}
    if isinstance(wanted.to, dict):
        return dict(wanted.to)
    now = status.options.get(deployment, {}).get("max_ongoing_requests")
    if not isinstance(now, int):
        raise SettingsError(
            f"Serve does not say which max_ongoing_requests {deployment} has", fix=["give the new options: to={...}"]
        )
    return {"max_ongoing_requests": now + 1}


def _other_number(config: Mapping[str, Json], deployment: str, wanted: Wanted, status: ServeStatus) -> Planned:
    if status.options.get(deployment, {}).get("autoscaling_config"):
        raise Unsupported(
            f"Serve itself scales {deployment}, so its num_replicas cannot be changed",
            fix=["update something else of it", "or give it num_replicas in place of autoscaling_config for this test"],
        )
    now = status.targets[deployment]
    # One less has room on any cluster. The only replica has to stay.
    new = wanted.to if isinstance(wanted.to, int) else (now - 1 if now > 1 else 2)
    if new == now:
        raise SettingsError(f"{deployment} has {now} replicas already", fix=["give another number: to=N"])
    name = deployment.partition("#")[0]
    return Planned(
        wanted,
        f"num_replicas of {deployment} changes from {now} to {new}",
        with_deployment_options(config, deployment, {"num_replicas": new}),
        (deployment,),
        Target(name, replicas={deployment: new}),
        Target(name, replicas={deployment: now}),
    )


# -- which app, and which deployment ----------------------------------------------------------------------------------


def _app(config: Mapping[str, Json], wanted: Wanted) -> dict[str, Json]:
    apps = applications(config)
    name = wanted.app or ((wanted.deployment or "").partition("#")[0] if "#" in (wanted.deployment or "") else "")
    if not name:
        return next((app for app in apps if app.get("route_prefix", "/")), apps[0])
    for app in apps:
        if name_of(app) == name:
            return app
    names = list(map(name_of, apps))
    raise NoSuchTarget(
        f"there is no app {name!r}",
        checked=[f"the apps are {', '.join(names)}"],
        fix=[f"name one of them, as app={nearest(name, names) or names[0]!r}"],
    )


def _deployment(app: str, status: ServeStatus, name: str | None) -> str:
    """The full name of a deployment; of an app with several the one that no other holds a handle to."""
    if name is not None:
        return _named(app, status, name)
    of_app = [one for one in status.targets if one.startswith(f"{app}#")]
    held = {child for children in status.handles.values() for child in children}
    first = [one for one in of_app if one not in held]
    if len(first) != 1:
        raise SettingsError(
            f"the app {app} has several deployments, and it is unknown which of them answers requests"
            if of_app
            else f"Serve knows no deployment of the app {app}",
            checked=of_app,
            fix=["name one: deployment='...'"],
        )
    return first[0]


def _named(app: str, status: ServeStatus, name: str) -> str:
    full = f"{app}#{name.rpartition('#')[2]}"
    if full not in status.targets:
        names = list(status.targets)
        raise NoSuchTarget(
            f"there is no deployment {full}",
            checked=[f"the deployments are {', '.join(names)}"],
            fix=[f"name one of them, as deployment={(nearest(full, names) or names[0])!r}"] if names else [],
        )
    return full


# -- what Serve says --------------------------------------------------------------------------------------------------


def _agrees(said: Json, wanted: Json) -> bool:
    """Whether Serve says what was wanted; it may say more, with the defaults of what was not given."""
    if isinstance(said, dict) and isinstance(wanted, dict):
        return all(_agrees(said.get(key), value) for key, value in wanted.items())
    return said == wanted


def _last(lines: Collection[str]) -> str:
    return f" ({list(lines)[-1]:.200})" if lines else ""
