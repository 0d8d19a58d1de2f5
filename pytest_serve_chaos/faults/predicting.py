"""Says what a fault is expected to cost, before it strikes: asks the fault's own rule, and writes down its answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from pytest_serve_chaos import clock
from pytest_serve_chaos.analysis.statistics import percentile
from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.capabilities import IS_EXTERNAL
from pytest_serve_chaos.cluster.own_apps import OWN_APPS
from pytest_serve_chaos.cluster.profiles import environment, timing
from pytest_serve_chaos.cluster.rest import ServeStatus, seconds_of
from pytest_serve_chaos.cluster.waits import HAS_OWN_WAITS
from pytest_serve_chaos.errors import in_one_line
from pytest_serve_chaos.events import Predicted, TrafficBegan
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.model import ClusterDescription, Component, Json, Request, Topology
from pytest_serve_chaos.predicted import Prediction
from pytest_serve_chaos.prediction import settings as names
from pytest_serve_chaos.prediction.settings import Known, Settings
from pytest_serve_chaos.prediction.situation import Situation, TrafficNow
from pytest_serve_chaos.prediction.words import prediction_lines

_OF_A_DEPLOYMENT = (
    names.REPLICA_PERIOD,
    names.REPLICA_TIMEOUT,
    names.STOP_LOOP,
    names.STOP_TIMEOUT,
    names.AT_ONCE,
)

_LATEST = 30.0
"""Seconds before the fault whose requests say what is usual now."""


class Predictable(Protocol):
    """A fault that has been chosen, as far as a prediction needs it."""

    @property
    def kind(self) -> str:
        """The marker's name."""
        ...

    @property
    def options(self) -> Mapping[str, object]:
        """What its marker would say."""
        ...

    @property
    def victims(self) -> tuple[Component, ...]:
        """What it hits."""
        ...


def write_prediction(
    rig: Rig, fault: Predictable, topology: Topology, *, number: int | None = None, lasts: float | None = None
) -> None:
    """Computes, prints and writes down what the fault is expected to cost. It never keeps the fault from striking.

    Of a cluster that lives faster or slower than Ray, as a fake one does, Ray's rules say nothing.

    Args:
        rig: The cluster under test, and what is recorded about it.
        fault: What will be injected.
        topology: Who is alive.
        number: Of the injection in the run.
        lasts: Seconds after which it is healed by itself; None: somebody heals it.
    """
    if rig.cluster.capability(HAS_OWN_WAITS) is not None:
        return
    try:
        prediction = _predict(rig, fault, topology, lasts)
    except Exception as error:  # a rule of a plugin must not cost the experiment
        prediction = Prediction(fault.kind, why_not=f"its rule raised {in_one_line(error)}")
    lines = prediction_lines(prediction)
    for line in lines:
        rig.progress(line)
    rig.log.add(Predicted(lines[0], prediction=prediction, injection=number))


def _predict(rig: Rig, fault: Predictable, topology: Topology, lasts: float | None) -> Prediction:
    rule = rig.run.faults[fault.kind].predict if fault.kind in rig.run.faults else None
    if rule is None:
        return Prediction(fault.kind, why_not="the fault has no rule")
    serve, description = rig.watcher.report.serve, rig.cluster.description
    external = rig.cluster.capability(IS_EXTERNAL) is not None
    own = _options_of(serve, fault.victims)
    situation = Situation(
        fault=fault.kind,
        how=str(fault.options.get("how", "")),
        options=fault.options,
        victims=fault.victims,
        cluster=description,
        topology=topology,
        settings=settings_of(rig.cluster.spec, description, own, external=external),
        traffic=_traffic_now(rig),
        hold=bool(getattr(fault, "hold", False)),
        lasts=lasts,
        autoscaled=tuple(sorted(rig.health.shape.autoscaled)),
    )
    return rule(situation)


# -- settings --------------------------------------------------------------------------------------------------------


def settings_of(
    spec: ClusterSpec,
    description: ClusterDescription,
    options: Mapping[str, Json] | None = None,
    *,
    external: bool = False,
) -> Settings:
    """What decides how long recoveries of such a cluster take.

    Args:
        spec: Which cluster was wanted.
        description: What is under test.
        options: Those of the deployment that is hit, where Serve says them.
        external: Whether the cluster is somebody else's, who chose its settings.
    """
    version = description.details.get("kubernetes version")
    is_ours = not external and spec.app.startswith(OWN_APPS)
    known = Known(
        environment={} if external else _environment(spec),
        deployment=_of_deployment(spec, options, is_ours),
        platform={} if external else _of_platform(spec),
    )
    return Settings(
        given=known.values,
        ray_version=description.ray_version,
        kubernetes_version=version if isinstance(version, str) else "",
        start_delay=_start_delay(spec) if is_ours else None,
        assumed=external,
    )


def _environment(spec: ClusterSpec) -> dict[str, str]:
    head, workers = environment(spec)
    return {**workers, **head}


def _of_platform(spec: ClusterSpec) -> dict[str, float]:
    periods = timing(spec.profile)
    return {
        names.RESTART_DELAY: periods.restart_delay,
        names.TERMINATION_GRACE: periods.termination_grace,
        names.DELETION_DELAY: periods.deletion_delay,
    }


def _of_deployment(spec: ClusterSpec, options: Mapping[str, Json] | None, is_ours: bool) -> dict[str, float]:
    periods = timing(spec.profile)
    ours = {
        names.REPLICA_PERIOD: periods.health_check_period,
        names.REPLICA_TIMEOUT: periods.health_check_timeout,
        names.STOP_TIMEOUT: periods.graceful_shutdown_timeout,
    }
    said = {
        name: seconds_of(options or {}, name, otherwise=-1.0) for name in _OF_A_DEPLOYMENT if name in (options or {})
    }
    return {**(ours if is_ours else {}), **{name: value for name, value in said.items() if value >= 0}}


def _start_delay(spec: ClusterSpec) -> float:
    given = dict(spec.app_args).get("start_delay", timing(spec.profile).start_delay)
    return float(given) if isinstance(given, (int, float)) else timing(spec.profile).start_delay


def _options_of(serve: ServeStatus | None, victims: Iterable[Component]) -> Mapping[str, Json]:
    """The options of the deployment whose replicas are hit; of several, those of any."""
    if serve is None:
        return {}
    hit = (serve.options[name] for victim in victims if (name := victim.deployment or "") in serve.options)
    return next(hit, None) or next(iter(serve.options.values()), {})


# -- traffic ---------------------------------------------------------------------------------------------------------


def _traffic_now(rig: Rig) -> TrafficNow:
    live = rig.traffic
    began = [e for e in rig.history.events if isinstance(e, TrafficBegan) and e.source == live.source]
    if not live.running or not began:
        return TrafficNow()
    sent = rig.history.requests_since(max(live.steady_since, clock.now() - _LATEST), live.source)
    return traffic_of(sent, began[-1])


def traffic_of(requests: Sequence[Request], began: TrafficBegan) -> TrafficNow:
    """The traffic, by its requests in steady state.

    Args:
        requests: What was sent in steady state.
        began: How it began. Of stages, the rate is that of the requests.
    """
    good = [r for r in requests if not r.kept and not r.lost]
    if not good:
        return TrafficNow(rate=began.rate, timeout=began.timeout)
    took = sorted(r.latency for r in good)
    lasted = good[-1].scheduled - good[0].scheduled
    seen = (len(good) - 1) / lasted if lasted > 0 else began.rate
    answers = Counter(name for r in good for name in set(r.replicas))
    return TrafficNow(
        rate=seen if began.stages else began.rate,
        service_time=sum(took) / len(took),
        slowest=percentile(took, 0.99),
        timeout=began.timeout,
        shares={name: number / len(good) for name, number in answers.items()},
    )
