"""Brings a local cluster up, phase by phase, with a line of progress for each."""

from __future__ import annotations

import platform
import secrets
import tempfile
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.cluster import serve_config
from pytest_serve_chaos.cluster.base import ClusterSpec, Progress
from pytest_serve_chaos.cluster.local import preflight
from pytest_serve_chaos.cluster.local.cluster import LocalCluster
from pytest_serve_chaos.cluster.local.layout import Layout
from pytest_serve_chaos.cluster.local.link import SupervisorLink
from pytest_serve_chaos.cluster.local.other_users import check_tokens
from pytest_serve_chaos.cluster.local.parts import local_parts
from pytest_serve_chaos.cluster.local.plan import Plan
from pytest_serve_chaos.cluster.local.redis import LocalRedis
from pytest_serve_chaos.cluster.local.view import LocalView
from pytest_serve_chaos.cluster.profiles import environment, timing
from pytest_serve_chaos.cluster.rest import Dashboard, GivenUp, nodes_with_proxy
from pytest_serve_chaos.errors import ClusterStartError, ObservationError, WaitTimeout
from pytest_serve_chaos.model import ClusterDescription, Json
from pytest_serve_chaos.progress import while_waiting

_NODES_TIMEOUT = 90.0
_APP_TIMEOUT = 180.0


@dataclass(frozen=True, slots=True)
class LocalSettings:
    """The settings of the local backend in addition to the spec.

    Attributes:
        redis_server: Path of `redis-server`; None: it is looked for.
        logs: The directory for the supervisor's own log.
        namespace: Under which the GCS keeps its keys in Redis; None: one of this run's own.
        redis: Address and password of another run's Redis; None: one of this run's own.
        restart_delay: Seconds until a node that died is started again; None: what the profile says.
        allow_ray_without_token: Whether a Ray without tokens may be started although others use this machine.
    """

    redis_server: Path | None = None
    logs: Path = Path(".serve-chaos")
    namespace: str | None = None
    redis: tuple[str, str] | None = field(default=None, repr=False)
    restart_delay: float | None = None
    allow_ray_without_token: bool = False


def start_local_cluster(spec: ClusterSpec, settings: LocalSettings, progress: Progress) -> LocalCluster:
    """Starts Redis, a head and workers, and waits until the app answers from all of them.

    Raises:
        MissingDependency: Something that is needed is not here; nothing was started.
        SafetyError: Others use this machine, and this Ray has no tokens; nothing was started.
        ClusterStartError: A phase did not end in time; nothing is left.
    """
    config = serve_config.serve_config(spec)
    redis = preflight.check(
        workers=spec.workers, redis_server=settings.redis_server, gcs=spec.gcs, ingress=spec.ingress
    )
    known = check_tokens(preflight.ray_version(), allowed=settings.allow_ray_without_token)
    if known:
        progress(known)
    plan = _plan(spec, settings, config, redis)
    return _start(spec, plan, settings.logs / "supervisor.log", progress)


def start_alongside(spec: ClusterSpec, directory: Path, redis: LocalRedis, namespace: str) -> LocalCluster:
    """Starts a head alone, on which nothing is deployed, whose GCS keeps its state in the Redis of another cluster.

    Args:
        spec: What the other cluster is.
        directory: The directory of its run, for the log of the second supervisor.
        redis: Its Redis.
        namespace: Under which the GCS keeps its keys.

    Raises:
        ClusterStartError: It did not come up; nothing is left of it.
    """
    alone = replace(spec, workers=0, gcs="redis")
    settings = LocalSettings(namespace=namespace, redis=(redis.address, redis.password))
    plan = _plan(alone, settings, {}, None)
    return _start(alone, plan, directory / "supervisor-alongside.log", lambda text: None)


def _start(spec: ClusterSpec, plan: Plan, log: Path, progress: Progress) -> LocalCluster:
    link = SupervisorLink(plan, log, progress)
    try:
        view = LocalView(plan, Layout(link.wait_for_slot(20.0)), link)
        description = _description(spec, plan, view.layout)
        offers = local_parts(view, description.ray_version, partial(start_alongside, spec, Path(plan.directory)))
        replicas = _wait_until_up(view, progress)
        return LocalCluster(spec, view, replace(description, replicas=replicas), offers)
    except BaseException:
        link.close()
        raise


def _plan(spec: ClusterSpec, settings: LocalSettings, config: dict[str, Json], redis: Path | None) -> Plan:
    periods, (head_env, worker_env) = timing(spec.profile), environment(spec)
    run = uuid.uuid4().hex[:12]
    restart_delay = periods.restart_delay if settings.restart_delay is None else settings.restart_delay
    # Short: the paths of Ray's sockets lie below it, and a socket's path has at most 107 bytes.
    directory = Path(tempfile.gettempdir()) / f"serve-chaos-{run[:8]}"
    return Plan(
        run=run,
        directory=str(directory),
        workers=spec.workers,
        redis_server=str(redis) if redis else None,
        redis_address=settings.redis[0] if settings.redis else None,
        redis_password=settings.redis[1] if settings.redis else secrets.token_hex(16),
        namespace=settings.namespace or f"serve-chaos-{run}",
        secret=secrets.token_hex(16),
        serve_config=config,
        restart_delay=restart_delay,
        termination_grace=periods.termination_grace,
        # Outside of the head's own directory, so that it outlives the head, and below the run's, with which it goes.
        rocksdb=str(directory / "gcs") if spec.gcs == "rocksdb" else None,
        head_env=head_env,
        worker_env=worker_env,
        ingress=spec.ingress,
        one_directory=preflight.nodes_share_directory(),
    )


def _description(spec: ClusterSpec, plan: Plan, layout: Layout) -> ClusterDescription:
    return ClusterDescription(
        backend="local",
        ray_version=preflight.ray_version(),
        workers=spec.workers,
        gcs=spec.gcs,
        app=spec.app,
        profile=spec.profile,
        replicas=0,
        url=f"http://{layout.serve_host}:{layout.serve_port}",
        ingress=spec.ingress,
        details={
            "python": platform.python_version(),  # Ray's too: its nodes are processes of this interpreter
            "run": plan.run,
            "redis": plan.redis_server,
            **_redis_version(plan),
        },
    )


def _redis_version(plan: Plan) -> dict[str, Json]:
    version = preflight.redis_version(Path(plan.redis_server)) if plan.redis_server else None
    return {"redis version": version} if version else {}


def _wait_until_up(view: LocalView, progress: Progress) -> int:
    """Waits for nodes and app; returns how many replicas there are, 0 where nothing is deployed."""
    begun = clock.now()

    def done(what: str) -> None:
        progress(f"{clock.now() - begun:5.1f} s  {what}")

    phases = [(f"{node.name} up", node.name) for node in view.topology.nodes()]
    if view.plan.redis_server is not None:
        phases.insert(0, ("Redis up", "redis"))
    try:
        for text, name in phases:
            shown = while_waiting(progress, text)
            clock.wait_until(
                text,
                lambda name=name: _unit_up(view, name),  # type: ignore[misc]
                timeout=_NODES_TIMEOUT,
                interval=0.05,
                on_wait=shown,
            )
            done(f"{name} started")
        shown = while_waiting(progress, "all nodes to join")
        clock.wait_until(
            "all nodes to join", lambda: _joined(view), timeout=_NODES_TIMEOUT, interval=0.3, on_wait=shown
        )
        done(f"{view.plan.workers + 1} nodes joined")
        if not view.plan.serve_config:
            return 0
        given_up = GivenUp()
        shown = while_waiting(progress, "the app to run")
        replicas = clock.wait_until(
            "the app to run", lambda: _app_runs(view, given_up), timeout=_APP_TIMEOUT, interval=0.3, on_wait=shown
        )
    except WaitTimeout as error:
        raise did_not_come_up(
            error,
            [*view.link.failed_starts(begun), *_serve_says(view.dashboard)],
            lambda: view.logs.excerpt(begun, pattern=r"ERROR|Error|error", lines=15),
        ) from error
    done(f"app runs, {replicas} replicas")
    return replicas


def did_not_come_up(error: WaitTimeout, said: Sequence[str], logged: Callable[[], Sequence[str]]) -> ClusterStartError:
    """The error if a cluster did not come up in time.

    Args:
        error: What was waited for.
        said: Each `ray start` that gave up, and what Serve says of its apps.
        logged: The last lines of Ray's logs, which are shown only where Serve has no traceback of an app.
    """
    what = f"the local cluster did not come up: {error}"
    if any("Traceback" in line for line in said):
        return ClusterStartError(what, checked=said, fix=["fix the app: Serve's traceback above says why"])
    return ClusterStartError(
        what,
        checked=[*said, *logged()],
        fix=[
            "read the last log lines above, which usually say why, and fix that",
            "or make room: a cluster needs two cores and 3 GiB of free memory",
        ],
    )


def _serve_says(dashboard: Dashboard) -> list[str]:
    """What Serve says of each app that it has something to say of; nothing where it does not answer."""
    try:
        messages = dashboard.serve().messages
    except ObservationError:
        return []
    return [f"{app}: {message}" for app, message in messages.items() if message]


def _unit_up(view: LocalView, name: str) -> bool | NotYet:
    view.link.check_alive()
    unit = view.link.units().get(name)
    if unit is None or unit.state != "up":
        return NotYet(f"{name} is {unit.state if unit else 'not started'}")
    return True


def _joined(view: LocalView) -> bool | NotYet:
    view.link.check_alive()
    try:
        alive = {node.address for node in view.dashboard.nodes() if node.state == "ALIVE"}
    except ObservationError as error:
        return NotYet(str(error))
    # By address: under a namespace that another run has used, the GCS remembers nodes of that run, too.
    missing = [node.name for node in view.topology.nodes() if node.address not in alive]
    return NotYet(f"{', '.join(missing)} not ALIVE") if missing else True


def _app_runs(view: LocalView, given_up: GivenUp) -> int | NotYet:
    """The number of replicas, once all that the config wants are there, and a proxy where one must be."""
    view.link.check_alive()
    try:
        status = view.dashboard.serve()
        with_proxy = nodes_with_proxy(status, view.dashboard.nodes())
    except ObservationError as error:
        return NotYet(str(error))
    given_up.check(status)
    running = [replica for replica in status.replicas if replica.state == "RUNNING"]
    wanted = sum(status.targets.values())
    healthy = {node for node, state in status.proxies.items() if state == "HEALTHY"}
    apps = dict(status.apps)
    up = bool(apps) and all(state == "RUNNING" for state in apps.values())
    if up and len(running) == wanted and with_proxy and with_proxy <= healthy:
        return wanted
    return NotYet(
        f"apps {apps}, {len(running)} of {wanted} replicas RUNNING, {len(with_proxy & healthy)} of {len(with_proxy)}"
        " proxies HEALTHY"
    )
