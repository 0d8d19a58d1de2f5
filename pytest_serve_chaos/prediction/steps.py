"""The steps of which recoveries consist, and how a prediction is made of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from pytest_serve_chaos.analysis.words import limit
from pytest_serve_chaos.predicted import PredictedStep, Prediction
from pytest_serve_chaos.prediction import settings as names
from pytest_serve_chaos.prediction.chance import at_most
from pytest_serve_chaos.prediction.settings import Setting
from pytest_serve_chaos.prediction.situation import Situation

MEASURED = "measured with Ray 2.60.0 on two cores (docs/measured.md)"
"""The source of what no setting decides: how long processes take to start."""

THE_TEST = "the test"
"""The source of how long a fault itself lasts."""

ON_THIS_MACHINE = "processes start as fast as the machine lets them: what was measured on two cores is assumed"

_FELT = 1.0
"""Seconds of an outage from which on what decides its length is what a user wants to know."""

_RANDOM = 1.1
"""Serve waits for 0.9 to 1.1 periods between two health checks of a replica (deployment_state.py)."""

_LOOP = 0.5
"""Seconds by which the controller's loop, and the answer of a call, may delay one look at a replica or a proxy."""


@dataclass(frozen=True, slots=True)
class Losses:
    """Requests that are lost.

    Attributes:
        mean: On average.
        worst: On average in the worst case, from which chance may still differ; None: nobody knows.
        why: In words.
        for_: Seconds in which they are sent, at most.
    """

    mean: float | None
    worst: float | None
    why: str
    for_: float = 0.0


UNKNOWN_LOSSES = Losses(None, None, "")


def by(
    text: str, least: float, most: float | None, setting: Setting, *, times: float = 1, note: str = ""
) -> PredictedStep:
    """A step whose time a setting decides; until `as_outage`, one of the return of redundancy.

    Args:
        text: What happens.
        least: Seconds.
        most: Seconds; None: nobody knows.
        setting: What decides.
        times: How often that time has to pass, for people.
        note: The module that has the rule, if it is another than that of the default.
    """
    often = f", {times:g} times" if times != 1 else ""
    source = f"{note}; {setting.source}" if note else setting.source
    decided = times * setting.seconds if setting.can_be_set else None
    return PredictedStep("redundancy", text, least, most, f"{setting.words}{often}", source, decided)


def measured(text: str, least: float, most: float | None) -> PredictedStep:
    """A step of which only measurements say how long it takes."""
    return PredictedStep("redundancy", text, least, most, "", MEASURED)


def held(text: str, lasts: float, *, later: float = 0.5) -> PredictedStep:
    """A step that lasts as long as the test says (``for_``), and up to so many seconds more."""
    return PredictedStep("redundancy", text, lasts, lasts + later, f"for_ = {lasts:g}", THE_TEST)


def beyond(step: PredictedStep, other: PredictedStep) -> PredictedStep:
    """What is left of a step that begins together with another one, once that is over."""
    most = None if step.most is None or other.most is None else max(0.0, step.most - other.most)
    return replace(step, least=max(0.0, step.least - other.least), most=most)


def as_outage(steps: Iterable[PredictedStep]) -> tuple[PredictedStep, ...]:
    """The same steps as those of an outage."""
    return tuple(replace(step, figure="outage") for step in steps)


# -- Serve -----------------------------------------------------------------------------------------------------------


def dead_replica_is_found(s: Situation) -> PredictedStep:
    """The next health check of an actor that died fails at once, and one such failure is enough."""
    period = s.settings[names.REPLICA_PERIOD]
    text = "the controller's next health check finds the replica dead"
    return by(text, 0.0, _RANDOM * period.seconds + _LOOP, period, note="ray/serve/_private/deployment_state.py")


def sick_replica_is_found(s: Situation, mode: str) -> PredictedStep:
    """A living replica is replaced after several failures in a row, each as long as the check takes to fail."""
    period, timeout = s.settings[names.REPLICA_PERIOD], s.settings[names.REPLICA_TIMEOUT]
    times = int(s.settings.seconds(names.REPLICA_FAILURES))
    hangs = mode == "hang"
    each = max(timeout.seconds, _RANDOM * period.seconds) if hangs else _RANDOM * period.seconds
    least = times * timeout.seconds if hangs else (times - 1) * (2 - _RANDOM) * period.seconds
    first = _RANDOM * period.seconds if hangs else 0.0
    decides = timeout if hangs and timeout.seconds > period.seconds else period
    text = f"{times} health checks in a row fail"
    return by(
        text, least, first + times * each + _LOOP, decides, times=times, note="ray/serve/_private/deployment_state.py"
    )


def replica_stops(s: Situation) -> PredictedStep:
    """A replica that is asked to stop waits one period of its loop, and until its requests are answered."""
    loop, timeout = s.settings[names.STOP_LOOP], s.settings[names.STOP_TIMEOUT]
    least = min(loop.seconds, timeout.seconds)
    most = min(timeout.seconds, loop.seconds + s.traffic.slowest)
    decides = loop if loop.seconds <= timeout.seconds else timeout
    if s.haproxy:
        drain = s.settings[names.INGRESS_DRAIN]
        if drain.seconds > most:
            least, most, decides = max(least, drain.seconds), drain.seconds, drain
    return by("the old replica stops", least, most + _LOOP, decides)


def replica_starts(s: Situation) -> PredictedStep:
    """A process, and the constructor of the app."""
    constructor = s.settings.start_delay
    text = "another replica starts"
    if constructor is None:
        return measured(f"{text}: its process, and its constructor, which takes an unknown time", 0.5, None)
    return measured(f"{text}: its process, and {limit(constructor)} in its constructor", 0.7 + constructor,
                    2.5 + constructor)  # fmt: skip


def dead_proxy_is_found(s: Situation) -> PredictedStep:
    """Several health checks in a row; the next begins a period after the answer to the last."""
    period = s.settings[names.PROXY_PERIOD]
    times = int(s.settings.seconds(names.PROXY_FAILURES))
    text = f"{times} health checks of the proxy in a row fail"
    most = times * (period.seconds + _LOOP)
    least = (times - 1) * period.seconds
    return by(text, least, most, period, times=times, note="ray/serve/_private/proxy_state.py")


def proxies_follow(s: Situation) -> tuple[PredictedStep, ...]:
    """A node without a replica loses its proxy, and the node gets one where the replica comes back."""
    emptied = {c.node for c in s.of_lost("replica")}
    emptied -= {c.node for c in s.topology.of("replica") if c not in s.lost}
    if not emptied:
        return ()
    drain = s.settings[names.PROXY_DRAIN]
    text = "if the replica comes back on another node, the proxy follows it"
    return (by(text, 0.0, drain.seconds + s.settings.seconds(names.DRAIN_CHECK) + 2.5, drain),)


def proxy_starts(s: Situation) -> PredictedStep:
    """Serve's own proxy, or the manager with its HAProxy."""
    return measured("another proxy starts", 0.5, 5.0 if s.haproxy else 2.5)


def is_seen() -> PredictedStep:
    """What the plugin takes to see that all is back."""
    return measured("the plugin sees it: it asks once a second, and a request must be answered", 0.0, 1.5)


# -- nodes -----------------------------------------------------------------------------------------------------------


def node_starts_again(s: Situation) -> tuple[PredictedStep, ...]:
    """Until Ray runs on the node again, with its replicas and its proxy; on Kubernetes until the pod is ready."""
    if s.on_kubernetes:
        return (
            measured("KubeRay makes another pod, and its containers start", 1.0, 9.0),
            pod_is_ready(s),
            is_seen(),
        )
    delay = s.settings[names.RESTART_DELAY]
    return (
        by("the supervisor starts the node again", delay.seconds, delay.seconds + _LOOP, delay),
        measured("Ray starts on it", 0.5, 4.0),
        *_what_was_on_it(s),
        is_seen(),
    )


def _what_was_on_it(s: Situation) -> tuple[PredictedStep, ...]:
    if not s.of_lost("replica"):
        return (proxy_starts(s),)
    constructor = s.settings.start_delay
    if constructor is None:
        return (measured("its replicas start, whose constructors take an unknown time", 1.0, None),)
    text = f"its replicas start, with {limit(constructor)} in each constructor, and its proxy"
    return (measured(text, 1.5 + constructor, 7.0 + constructor),)


def pod_is_ready(s: Situation) -> PredictedStep:
    """KubeRay's readiness probe waits before its first look, and then looks now and then."""
    delay, period = s.settings[names.READY_DELAY], s.settings[names.READY_PERIOD]
    text = "the pod is ready"
    return by(text, delay.seconds, delay.seconds + period.seconds + _LOOP, delay)


def old_head_is_found_dead(s: Situation) -> PredictedStep:
    """A new GCS starts the controller again once it has found the head dead that it knows, whose address is gone."""
    delay, period = s.settings.seconds(names.GCS_DELAY), s.settings[names.GCS_PERIOD]
    times = int(s.settings.seconds(names.GCS_FAILURES))
    most = delay + times * (period.seconds + _ADDRESS_IS_GONE) + 5.0
    text = "meanwhile the GCS finds the old head dead, and the controller and the head's proxy start"
    return by(text, times * period.seconds + 1.0, most, period, times=times, note="measured: 5 to 16 s")


_ADDRESS_IS_GONE = 2.0
"""Seconds that a look takes longer if nobody refuses the connection, as at the address of a pod that is gone."""


def container_starts_again(s: Situation) -> tuple[PredictedStep, ...]:
    """Until a container that ended in its pod is ready again."""
    return (
        measured("the kubelet starts the container again: at once the first time, later after 10 s, 20 s and so on",
                 0.5, 3.0),
        pod_is_ready(s),
        is_seen(),
    )  # fmt: skip


def endpoint_leaves(s: Situation) -> PredictedStep:
    """Until the Service sends nothing any more to a proxy that does not answer."""
    period = s.settings[names.READY_PERIOD]
    text = "a readiness probe fails, and the endpoint leaves the Service"
    return by(text, 0.0, period.seconds + 1.0, period)


def machine_is_not_ready(s: Situation) -> PredictedStep:
    """Until Kubernetes calls a node NotReady that says nothing, counted from its last heartbeat."""
    grace = s.settings[names.NODE_GRACE]
    beat, period = s.settings.seconds(names.HEARTBEAT), s.settings.seconds(names.NODE_PERIOD)
    text = "Kubernetes calls the node NotReady, and its endpoints leave the Service"
    return by(text, max(0.0, grace.seconds - beat), grace.seconds + period + 2.0, grace)


# -- predictions -----------------------------------------------------------------------------------------------------


def in_flight(s: Situation, *, ends_within: float = 0.1) -> Losses:
    """Requests on the victims at the moment of the fault, and those that reach them while their processes end.

    Args:
        s: What is known.
        ends_within: Seconds that the processes take to end, one after the other.
    """
    if s.traffic.rate is None:
        return UNKNOWN_LOSSES
    slow = s.traffic.rate * s.touched * ends_within
    worst = s.in_flight + slow
    why = (
        f"{s.traffic.rate:.3g}/s for {seconds(s.traffic.service_time)} each, of which {share(s.touched)} are on what is"
        " lost"
    )
    return Losses(s.in_flight + slow / 2, worst, why, ends_within)


def during(s: Situation, part: float, steps: Sequence[PredictedStep], where: str) -> Losses:
    """Requests that go to something that does not answer, as long as these steps take.

    Args:
        s: What is known.
        part: The share of the requests, 0 to 1.
        steps: What ends it.
        where: Where these requests go, in words.
    """
    if s.traffic.rate is None:
        return UNKNOWN_LOSSES
    least, most = total(steps)
    why = f"{share(part)} of {s.traffic.rate:.3g}/s {where}"
    if most is None:
        return Losses(None, None, why)
    per_second = s.traffic.rate * part
    return Losses(per_second * (least + most) / 2, per_second * most, f"{why}, for {between(least, most)}", most)


def sum_of(*losses: Losses) -> Losses:
    """All of these together."""
    means = [one.mean for one in losses]
    worst = [one.worst for one in losses]
    return Losses(
        None if None in means else sum(mean for mean in means if mean is not None),
        None if None in worst else sum(one for one in worst if one is not None),
        "; ".join(one.why for one in losses if one.why),
        max(one.for_ for one in losses),
    )


def total(steps: Iterable[PredictedStep]) -> tuple[float, float | None]:
    """Seconds that these take at least and at most; None: nobody knows."""
    listed = tuple(steps)
    most = [step.most for step in listed]
    known = None if None in most else sum(one for one in most if one is not None)
    return sum(step.least for step in listed), known


def prediction(
    s: Situation,
    *,
    redundancy: Sequence[PredictedStep],
    losses: Losses,
    outage: Sequence[PredictedStep] = (),
    unknown: Sequence[str] = (),
) -> Prediction:
    """A prediction of its steps and its losses.

    Args:
        s: What is known.
        redundancy: Until all is back.
        losses: Requests that are lost.
        outage: Until requests are answered again that the fault makes fail; none: only those in flight are lost.
        unknown: What it does not know.
    """
    least, most = total(redundancy)
    outage_least, lasts = total(outage)
    outage_most = None if lasts is None or s.traffic.rate is None else max(lasts, losses.for_) + _until_an_answer(s)
    starts = any(step.source == MEASURED for step in redundancy)
    decides = (dominant(outage) if (lasts or outage_least) >= _FELT else None) or dominant(redundancy)
    return Prediction(
        fault=s.fault,
        lost=losses.mean,
        lost_most=None if losses.worst is None else at_most(losses.worst),
        lost_why=losses.why,
        outage_least=outage_least,
        outage_most=outage_most,
        redundancy_least=least,
        redundancy_most=most,
        steps=(*as_outage(outage), *redundancy),
        dominant="" if decides is None else decides.setting,
        change="" if decides is None else _change(decides),
        unknown=(*unknown, *s.settings.doubts, *((ON_THIS_MACHINE,) if starts else ())),
    )


def no_prediction(s: Situation, why: str) -> Prediction:
    """That there is none."""
    return Prediction(s.fault, why_not=why)


def dominant(steps: Sequence[PredictedStep]) -> PredictedStep | None:
    """The step that takes longest of those that a setting decides which a user can change; None: there is none."""
    return max(
        (step for step in steps if step.decided is not None), key=lambda step: step.most or step.least, default=None
    )


def own_duration(prediction: Prediction) -> str:
    """How long the fault itself lasts, as the test says it, if no setting decides more than that; "": it does not."""
    longest = max((step for step in prediction.steps if step.source == THE_TEST), key=lambda s: s.least, default=None)
    if longest is None:
        return ""
    decided = [step.most or step.least for step in prediction.steps if step.setting == prediction.dominant]
    return longest.setting if max(decided, default=0.0) < longest.least else ""


def _change(step: PredictedStep) -> str:
    """What another value would give: every step grows with its setting, but for the share of a rolling update.

    A step takes longer than its setting says, because its end is found by polling. That part stays.
    """
    lasts = step.most or step.least
    if step.setting.startswith(f"{names.ROLLING_SHARE} = "):
        return f"twice that share would save up to {seconds(lasts / 2)}"
    return f"half of it would save up to {seconds(min(lasts, (step.decided or 0.0) / 2))}"


def _until_an_answer(s: Situation) -> float:
    """From the last request that fails to the answer that ends an outage: that of the first that is due later."""
    return 2 * s.spacing + s.traffic.slowest + 0.2


# -- words -----------------------------------------------------------------------------------------------------------


def seconds(value: float) -> str:
    """Seconds for people: ``0.05 s``, ``12 s``."""
    return f"{value * 1000:.0f} ms" if value < 0.01 else f"{value:.2g} s" if value < 10 else f"{value:.0f} s"


def between(least: float, most: float | None) -> str:
    """A range of seconds for people: ``2 to 6.5 s``, ``at least 40 s``."""
    if most is None:
        return f"at least {seconds(least)}" if least else "an unknown time"
    return f"up to {seconds(most)}" if least < 0.05 else f"{seconds(least).removesuffix(' s')} to {seconds(most)}"


def share(value: float) -> str:
    """A share of the requests: ``33 %``."""
    return f"{100 * value:.0f} %"
