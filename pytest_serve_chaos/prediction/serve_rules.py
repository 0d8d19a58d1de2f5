"""The rules for what Serve runs: controller, proxies, replicas, their health checks and updates of apps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from pytest_serve_chaos.analysis.words import number
from pytest_serve_chaos.model import HEAD
from pytest_serve_chaos.predicted import PredictedStep, Prediction
from pytest_serve_chaos.prediction import settings as names
from pytest_serve_chaos.prediction.situation import Situation
from pytest_serve_chaos.prediction.steps import (
    Losses,
    by,
    dead_proxy_is_found,
    dead_replica_is_found,
    during,
    endpoint_leaves,
    held,
    in_flight,
    is_seen,
    measured,
    no_prediction,
    prediction,
    proxies_follow,
    proxy_starts,
    replica_starts,
    replica_stops,
    sick_replica_is_found,
    sum_of,
    total,
)

NOTHING_LOST = Losses(0.0, 0.0, "nothing that answers requests is hit")

_SCALES = "Serve's autoscaler may want another number of replicas meanwhile"


def replica(s: Situation) -> Prediction:
    """``replica_failure``."""
    if s.how == "freeze":
        return frozen(s, "replica", dead_after=_dead_after(s, names.REPLICA_PERIOD, names.REPLICA_TIMEOUT))
    back = [dead_replica_is_found(s), replica_starts(s), *proxies_follow(s), is_seen()]
    unknown = list(_too_few_are_left(s))
    if _scales(s):
        unknown.append(_SCALES)
        back.append(measured(_SCALES, 0.0, None))
    alone = s.leaves_no_replica
    outage = back[:2] if alone else ()
    losses = in_flight(s)
    if alone:
        losses = during(s, 1.0, outage, f"to {alone}, of which no replica is left")
    return prediction(s, redundancy=back, outage=outage, losses=losses, unknown=unknown)


def _too_few_are_left(s: Situation) -> tuple[str, ...]:
    """Where the other replicas cannot take all requests at once, a router lets some wait until there is another one."""
    name, left = s.others_of_lost
    at_once = s.settings[names.AT_ONCE]
    take, there = left * at_once.seconds, (s.traffic.rate or 0.0) * s.traffic.service_time
    if not 0 < take < there:
        return ()
    text = (
        f"up to {there:.3g} requests are in flight, and what is left of {name} takes {take:.3g} at once"
        f" ({number(left, 'replica')}, {at_once.words}): the others wait until redundancy is back"
    )
    return (text,)


def health_check(s: Situation) -> Prediction:
    """``health_check_failure``: the replica serves on until it is replaced."""
    mode = str(s.options.get("mode", "raise"))
    found, stops, starts = sick_replica_is_found(s, mode), replica_stops(s), replica_starts(s)
    back = (found, stops, starts, *proxies_follow(s), is_seen())
    if not s.leaves_no_replica:
        losses = Losses(0.0, 0.0, "it answers until it is replaced, and is asked to stop gracefully")
        return prediction(s, redundancy=back, losses=losses)
    outage = (stops, starts)
    return prediction(s, redundancy=back, outage=outage, losses=during(s, 1.0, outage, "while no replica is left"))


def proxy(s: Situation) -> Prediction:
    """``proxy_failure``."""
    if s.how == "freeze":
        return frozen(s, "proxy", dead_after=_dead_after(s, names.PROXY_PERIOD, names.PROXY_TIMEOUT))
    back = (dead_proxy_is_found(s), proxy_starts(s), is_seen())
    if s.leaves_no_proxy:
        away = back[:2]
        return prediction(s, redundancy=back, outage=away, losses=during(s, 1.0, away, "while there is no proxy"))
    if s.on_kubernetes:
        outage = (_head_is_left_out(s) if s.victims[0].node == HEAD else endpoint_leaves(s),)
        losses = sum_of(in_flight(s), during(s, s.proxy_share, outage, "to the dead proxy"))
        return prediction(s, redundancy=back, outage=outage, losses=losses)
    # On one machine the kernel takes a dead listener out at once.
    if s.haproxy:
        return prediction(s, redundancy=back, losses=sum_of(in_flight(s), haproxy_without_apps(s)))
    return prediction(s, redundancy=back, losses=in_flight(s))


def haproxy_without_apps(s: Situation) -> Losses:
    """A HAProxy that starts answers 404 until it has got the apps."""
    return during(s, s.proxy_share, (_HAS_NO_APPS,), "to a HAProxy that has no apps yet and answers 404")


_HAS_NO_APPS = measured("a new HAProxy gets the apps", 0.2, 0.6)


def _head_is_left_out(s: Situation) -> PredictedStep:
    reconcile = s.settings[names.RECONCILE]
    text = "KubeRay asks the head's proxy, and takes the head out of the Service"
    return by(text, 0.0, reconcile.seconds + 2.0, reconcile)


def controller(s: Situation) -> Prediction:
    """``controller_failure``: replicas and proxies go on without it."""
    if s.how == "freeze":
        return frozen(s, "controller", dead_after=math.inf)
    starts = measured("the controller starts, and asks all replicas for their state", 0.5, 3.0)
    if s.options.get("replacement") != "new_actor":
        return prediction(s, redundancy=(starts, is_seen()), losses=NOTHING_LOST)
    submits = _config_is_submitted(s)
    stale = (
        "proxies that were there before receive no updates from the new controller (ray#63784), which costs requests"
        " only later"
    )
    return prediction(s, redundancy=(submits, starts, is_seen()), losses=NOTHING_LOST, unknown=(stale,))


def _config_is_submitted(s: Situation) -> PredictedStep:
    """Until a Serve without a controller gets its config again."""
    if not s.on_kubernetes:
        return measured("the supervisor looks twice, 2 s apart, and submits the Serve config again", 2.0, 4.5)
    reconcile = s.settings[names.RECONCILE]
    return by(
        "KubeRay sees that there are no apps, and submits the Serve config", 0.0, reconcile.seconds + 0.5, reconcile
    )


def app_update(s: Situation) -> Prediction:
    """``app_update``: a rolling update, some replicas at a time."""
    if s.options.get("bad"):
        return no_prediction(s, "how far an update to a version that does not work gets is unknown")
    if not _makes_a_version(s):
        in_place = measured("Serve tells the replicas, or starts or stops some", 0.0, 6.0)
        return prediction(s, redundancy=(in_place, is_seen()), losses=NOTHING_LOST)
    there = max(1, len(s.victims))
    share = s.settings[names.ROLLING_SHARE]
    at_a_time = max(1, int(there * share.seconds))
    rounds = math.ceil(there / at_a_time)
    stops, starts = replica_stops(s), replica_starts(s)
    least, most = total((starts,))[0], total((stops, starts))[1]
    text = f"{rounds} times {at_a_time} of {there} replicas stop and are replaced"
    rolls = by(text, rounds * least, None if most is None else rounds * (most + 1.0), share)
    rolls = replace(rolls, decided=rolls.most or rolls.least)  # a share is no time
    alone = there == 1
    losses = (
        during(s, 1.0, (stops, starts), "while no replica is there")
        if alone
        else Losses(0.0, 0.0, "old replicas are asked to stop gracefully, while others answer")
    )
    return prediction(s, redundancy=(rolls, is_seen()), outage=(starts,) if alone else (), losses=losses)


def _makes_a_version(s: Situation) -> bool:
    """Whether the update replaces replicas, and does not only tell them something."""
    change, to = s.options.get("change", "code"), s.options.get("to")
    return change == "code" or (isinstance(to, Mapping) and "ray_actor_options" in to)


def child(s: Situation) -> Prediction:
    """``child_failure``."""
    return no_prediction(s, "what an app does without its child process is unknown")


# -- frozen ----------------------------------------------------------------------------------------------------------


def frozen(s: Situation, what: str, *, dead_after: float) -> Prediction:
    """Something stands still for a while: requests to it wait until it goes on, or their time is up.

    Args:
        s: What is known.
        what: What stands still, in words.
        dead_after: Seconds after which Ray or Serve replaces it.
    """
    lasts = s.lasts or 0.0
    stands = held(f"the {what} stands still", lasts)
    if lasts >= dead_after:
        replaced = measured(f"the {what} was called dead after {dead_after:.3g} s, and is replaced", 0.0, None)
        back: tuple[PredictedStep, ...] = (stands, replaced, is_seen())
    else:
        back = (stands, is_seen())
    return prediction(s, redundancy=back, outage=(stands,) if s.touched else (), losses=_while_frozen(s, lasts))


def _while_frozen(s: Situation, lasts: float) -> Losses:
    """Requests that wait longer than their timeout; the others are answered late."""
    if s.traffic.rate is None or s.traffic.timeout is None:
        return Losses(None, None, "")
    if not s.touched:
        return NOTHING_LOST
    waits = max(0.0, lasts - s.traffic.timeout)
    first = s.proxy_share or s.replica_share
    why = (
        f"what is sent to it in the first {waits:.3g} s of {lasts:.3g} s has no answer after {s.traffic.timeout:g} s,"
        " the rest is answered late"
    )
    mean = s.traffic.rate * first * waits
    return Losses(mean, s.traffic.rate * s.touched * (waits + (1.0 if lasts else 0.0)), why)


def _dead_after(s: Situation, period: str, timeout: str) -> float:
    times = s.settings.seconds(names.PROXY_FAILURES)
    return times * max(s.settings.seconds(timeout), s.settings.seconds(period))


def _scales(s: Situation) -> bool:
    return any(c.deployment in s.autoscaled for c in s.of_lost("replica"))
