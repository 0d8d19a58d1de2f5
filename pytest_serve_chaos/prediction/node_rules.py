"""The rules for nodes: the head with GCS and Redis, workers, the machines under them, and upgrades of all of them."""

from __future__ import annotations

from dataclasses import replace

from pytest_serve_chaos.model import HEAD
from pytest_serve_chaos.predicted import PredictedStep, Prediction
from pytest_serve_chaos.prediction import settings as names
from pytest_serve_chaos.prediction.serve_rules import NOTHING_LOST, frozen, haproxy_without_apps
from pytest_serve_chaos.prediction.situation import Situation
from pytest_serve_chaos.prediction.steps import (
    UNKNOWN_LOSSES,
    Losses,
    beyond,
    by,
    container_starts_again,
    during,
    held,
    in_flight,
    is_seen,
    machine_is_not_ready,
    measured,
    node_starts_again,
    old_head_is_found_dead,
    pod_is_ready,
    prediction,
    proxy_starts,
    replica_starts,
    sum_of,
)

_HANGS = "requests that hang for seconds when a head or a GCS is replaced, a defect (docs/ray-and-kubernetes.md)"
_NO_FAULT_TOLERANCE = "without GCS fault tolerance all workers end and start again, which no setting decides"
_AT_REST = 4.0
"""Seconds without any change after which the plugin starts again what it kept down (`Waits.no_change`)."""

_POD_ENDS = measured("a pod that is deleted by force gets SIGTERM, and 2 s later SIGKILL", 2.0, 3.5)


# -- the head --------------------------------------------------------------------------------------------------------


def head(s: Situation) -> Prediction:
    """``head_failure``."""
    if s.how == "freeze":
        return frozen(s, "head", dead_after=gcs_takes_it_for_dead(s))
    if not s.survives_the_head:
        return _without_fault_tolerance(s)
    # A killed head has a successor at once: KubeRay does not wait for the end of its pod.
    ends = _asked_to_stop(s) if s.how == "stop" else ()
    back = (*_kept_down(s), *ends, *_head_is_back(s))
    return _of_head(s, back, _lost_with_node(s))


def gcs(s: Situation) -> Prediction:
    """``gcs_failure``: the head ends with its GCS."""
    s = _with_head(s)
    if s.how == "freeze":
        return frozen(s, "GCS", dead_after=s.settings.seconds(names.RECONNECT))
    if not s.survives_the_head:
        return _without_fault_tolerance(s)
    ends = _head_ends(s)
    back = (ends, *(container_starts_again(s) if s.on_kubernetes else _head_is_back(s)))
    hangs = measured("the head's proxy outlives the GCS, and its requests hang", 0.5, 1.0)
    losses = sum_of(in_flight(s), during(s, s.proxy_share, (hangs,), "through the head's proxy"), _starting_proxies(s))
    if s.how == "stop":
        losses = replace(UNKNOWN_LOSSES, why="proxies and replicas wait for the GCS")
        return prediction(s, redundancy=back, outage=(ends,), losses=losses, unknown=(_HANGS,))
    return _of_head(s, back, losses)


def redis(s: Situation) -> Prediction:
    """``redis_failure``: the GCS ends without its store, and the head with it."""
    if s.how == "freeze":
        return prediction(s, redundancy=(held("Redis stands still", s.lasts or 0.0), is_seen()), losses=NOTHING_LOST)
    s = _with_head(s)
    notices = measured("the GCS notices that Redis is gone, and ends", 1.0, 6.0)
    forgets = measured("workers that the new GCS does not know end, and start again with all replicas", 0.0, None)
    back = (*_kept_down(s), notices, *(container_starts_again(s) if s.on_kubernetes else _head_is_back(s)), forgets)
    unknown = ("whether Redis has its data again: without it all workers start again", _HANGS)
    losses = replace(UNKNOWN_LOSSES, why="all requests, as long as the workers start again")
    return replace(prediction(s, redundancy=back, losses=losses, unknown=unknown), outage_most=None)


def _of_head(s: Situation, back: tuple[PredictedStep, ...], losses: Losses) -> Prediction:
    """The loss of a head that comes back with its state: an outage only of what was on it alone."""
    if s.leaves_no_replica or s.leaves_no_proxy:
        outage = back[:-1]
        return prediction(s, redundancy=back, outage=outage, losses=during(s, 1.0, outage, "while nothing answers"))
    return prediction(s, redundancy=back, losses=losses, unknown=(_HANGS, *_updates_come_late(s)))


def _updates_come_late(s: Situation) -> tuple[str, ...]:
    """Where the address of a lost head refuses nothing, proxies call it for a while yet."""
    if not s.on_kubernetes:
        return ()
    connect = s.settings[names.GRPC_CONNECT]
    return (
        f"the workers' proxies receive updates only after {connect.words} s, so the post-recovery check takes longer",
    )


def _head_is_back(s: Situation) -> tuple[PredictedStep, ...]:
    if s.on_kubernetes:
        ready = pod_is_ready(s)
        return (
            measured("KubeRay makes another head, and its container starts", 0.5, 5.0),
            ready,
            beyond(old_head_is_found_dead(s), ready),
            is_seen(),
        )
    delay = s.settings[names.RESTART_DELAY]
    return (
        by("the supervisor starts the head again", delay.seconds, delay.seconds + 0.5, delay),
        measured("the GCS and the raylet start", 1.0, 5.0),
        measured("the controller starts, and asks all replicas for their state", 1.0, 5.0),
        proxy_starts(s),
        is_seen(),
    )


def _head_ends(s: Situation) -> PredictedStep:
    """Until the head ends that has no GCS any more."""
    if s.how != "stop":
        return measured("the head ends without its GCS", 0.2, 2.5)
    # KubeRay, and this package, set it on workers only: the head has Ray's default.
    own = names.DEFAULTS[names.RECONNECT].value
    return PredictedStep(
        "redundancy", "the head looks for its GCS, and ends", own, own + 20.0,
        f"{names.RECONNECT} = {own:g} on the head", "ray_config_def.h (Ray 2.60)", own,
    )  # fmt: skip


def _without_fault_tolerance(s: Situation) -> Prediction:
    back = (
        *_kept_down(s),
        *_head_is_back(s),
        measured("the workers notice that they do not belong to it (46 s were measured), and end", 0.0, None),
        replica_starts(s),
    )
    losses = replace(UNKNOWN_LOSSES, why="all requests, from when the workers end until the app is there again")
    return replace(
        prediction(s, redundancy=back, outage=back[-1:], losses=losses, unknown=(_NO_FAULT_TOLERANCE,)),
        outage_most=None,
    )


def _with_head(s: Situation) -> Situation:
    """The same with the head among the victims, which ends with its GCS."""
    return replace(s, victims=(*s.victims, *s.topology.of("head")))


# -- workers and machines --------------------------------------------------------------------------------------------


def worker(s: Situation) -> Prediction:
    """``worker_failure`` and ``raylet_failure``."""
    if s.how == "freeze":
        return frozen(s, "worker", dead_after=_replaced_after(s))
    back = (*_kept_down(s), *_asked_to_stop(s), *node_starts_again(s))
    return _of_worker(s, back)


def node(s: Situation) -> Prediction:
    """``node_failure``: the machine under a Ray node."""
    if s.how == "freeze":
        return frozen(s, "machine", dead_after=_replaced_after(s))
    on_head = any(c.node == HEAD for c in s.victims)
    if not s.on_kubernetes:
        return head(s) if on_head else worker(s)
    if on_head and not s.survives_the_head:
        return _without_fault_tolerance(s)
    if s.how == "drain":
        return _drained(s)
    if s.how == "delete":
        return _deleted(s)
    return _machine_lost(s)


def _of_worker(s: Situation, back: tuple[PredictedStep, ...]) -> Prediction:
    gone = s.leaves_no_replica
    if gone or s.leaves_no_proxy:
        outage = back[:-1]
        return prediction(s, redundancy=back, outage=outage, losses=during(s, 1.0, outage, "while nothing answers"))
    if s.how in ("stop", "drain"):
        return prediction(s, redundancy=back, losses=Losses(0.0, s.in_flight, "the node drains before it ends"))
    return prediction(s, redundancy=back, losses=_lost_with_node(s))


def _lost_with_node(s: Situation) -> Losses:
    """What is in flight on a node, and on Kubernetes what is sent to replicas whose loss Ray has not noticed yet."""
    losses = sum_of(in_flight(s), _starting_proxies(s))
    if not s.on_kubernetes or not s.both_on_victims:
        return losses
    found = by(
        "the GCS finds the node dead", 0.0,
        s.settings.seconds(names.GCS_FAILURES) * s.settings.seconds(names.GCS_PERIOD), s.settings[names.GCS_PERIOD],
    )  # fmt: skip
    blind = during(s, s.both_on_victims, (found,), "to replicas whose loss Ray has not noticed yet")
    # Most of these wait and are sent again: only those are lost that had been sent already.
    return sum_of(losses, replace(blind, mean=None if blind.mean is None else blind.mean / 4))


def _starting_proxies(s: Situation) -> Losses:
    """On one port a HAProxy that starts gets requests before it has the apps; a Service sends it none."""
    return haproxy_without_apps(s) if s.haproxy and not s.on_kubernetes and s.of_lost("proxy") else Losses(0.0, 0.0, "")


def _machine_lost(s: Situation) -> Prediction:
    found = machine_is_not_ready(s)
    away = s.lasts
    if away is not None and away < found.least:
        found = held("the machine is back before Kubernetes calls it NotReady", away, later=25.0)
        back: tuple[PredictedStep, ...] = (found,)
    elif away is not None:
        back = (held("the machine is away", away),)
    else:
        back = (found, measured("nothing is replaced any more, and the plugin starts the machine", 0.0, 10.0))
    back = (
        *back,
        measured("the machine, its kubelet and Ray's container start", 8.0, 35.0),
        pod_is_ready(s),
        is_seen(),
    )
    losses = sum_of(
        in_flight(s, ends_within=1.0),
        during(s, s.proxy_share, (found,), "to endpoints of the dead machine"),
    )
    return prediction(s, redundancy=back, outage=(found,), losses=losses)


def _drained(s: Situation) -> Prediction:
    drain, grace = s.settings[names.DRAIN], s.settings[names.TERMINATION_GRACE]
    ends = by("the node drains until its time is up, and its pod ends", 2.0,
              min(drain.seconds, grace.seconds) + 5.0, drain if drain.seconds <= grace.seconds else grace)  # fmt: skip
    rest = measured("nothing is replaced any more, and the plugin lets pods onto it again", _AT_REST, _AT_REST + 4.0)
    return _of_worker(s, (ends, rest, *node_starts_again(s)))


def _deleted(s: Situation) -> Prediction:
    collected = measured("the pod garbage collector leaves the pods alone for 40 s, and looks every 20 s", 40.0, 65.0)
    back = (collected, measured("the node registers, and another pod starts on it", 0.0, None), is_seen())
    return prediction(s, redundancy=back, losses=Losses(0.0, s.in_flight, "the pods serve until they are collected"))


def upgrade(s: Situation) -> Prediction:
    """``rayservice_upgrade``: another RayCluster starts, takes the traffic over, and the old one is deleted."""
    deletion = s.settings[names.DELETION_DELAY]
    grace = s.settings.seconds(names.TERMINATION_GRACE)
    back = (
        measured("another RayCluster starts, and its apps run", 15.0, 50.0),
        by("KubeRay deletes the old RayCluster", deletion.seconds, deletion.seconds + 2.5, deletion),
        measured("the old pods end", 2.0, grace + 5.0),
        is_seen(),
    )
    losses = Losses(0.0, 0.0, "the old cluster serves until the new one does")
    return prediction(s, redundancy=back, losses=losses)


# -- what happens first ----------------------------------------------------------------------------------------------


def _kept_down(s: Situation) -> tuple[PredictedStep, ...]:
    """How long the plugin keeps it down, where it does."""
    if s.lasts is not None:
        return (held("it is kept down", s.lasts),)
    if not s.hold:
        return ()
    text = "nothing comes or goes any more, and the plugin lets it come back"
    return (measured(text, _AT_REST, None if s.settings.start_delay is None else _AT_REST + 15.0),)


def _asked_to_stop(s: Situation) -> tuple[PredictedStep, ...]:
    """How long it takes to end: a node that is asked to stop drains, and a pod has two seconds in any case."""
    if s.how != "stop":
        return (_POD_ENDS,) if s.on_kubernetes else ()
    drain, grace = s.settings[names.DRAIN], s.settings[names.TERMINATION_GRACE]
    least = min(drain, grace, key=lambda one: one.seconds)
    return (by("the node drains, and ends", 0.0, least.seconds + 5.0, least),)


def gcs_takes_it_for_dead(s: Situation) -> float:
    """Seconds after which the GCS calls a node dead that does not answer."""
    each = s.settings.seconds(names.GCS_PERIOD) + s.settings.seconds(names.GCS_TIMEOUT)
    return s.settings.seconds(names.GCS_FAILURES) * each


def _replaced_after(s: Situation) -> float:
    """Seconds after which Serve, or the GCS, replaces what is on a node that does not answer."""
    timeout = max(s.settings.seconds(names.REPLICA_TIMEOUT), s.settings.seconds(names.PROXY_TIMEOUT))
    return min(gcs_takes_it_for_dead(s), s.settings.seconds(names.REPLICA_FAILURES) * timeout)
