"""What a fake cluster does when something is broken in it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from pytest_serve_chaos.analysis.configuration import Setup
from pytest_serve_chaos.cluster.capabilities import AnyCapability
from pytest_serve_chaos.cluster.waits import Waits

QUICK = Waits(
    stable_for=0.4,
    latest=0.4,
    hangs_after=0.4,
    # A machine that is busy for a minute must not change the verdict.
    steady_within=180.0,
    ask_every=0.1,
    quiet=0.4,
    no_change=0.8,
    whole_within=5.0,
    persistent_until=0.0,
    usage_every=0.02,
    judged_for=0.0,
)
"""Waits that fit a cluster which recovers within a second."""


@dataclass(frozen=True, slots=True)
class FakeBehaviour:
    """What is wrong with a fake cluster; by default nothing. Times are seconds.

    Attributes:
        start_error: The cluster does not start, with this message.
        back_after: The time until what died is back. Actors do not come before the node and the GCS that they need.
        outage: How many requests fail after the head was killed: the next ones, however long they take to come.
        answers_after: How long each answer of the app takes.
        lossy_for: For so long from the first fault on, every second request fails.
        replicas: How many replicas an app has whose config does not name a number.
        harmless: Faults do nothing, and a new Serve config changes no more than apps and their numbers of replicas.
        below: The path below its route at which each app answers, and answers 404 elsewhere; "": the route itself.
        takes: The one method that apps take; another is an error of the app. "": all.
        anonymous: Answers do not name the replica that gave them.
        garbles: From the first fault on, answers are well-formed and wrong.
        forgets: From the first fault on, the proxies send nothing to one of the replicas.
        stale_proxies: Proxies receive no updates from a controller that is a new actor.
        outdated: The node whose proxy knows routes, but for each of them only the first replica.
        leaks: Whenever something dies, the GCS gains an actor without a process.
        grows: What its processes use, where somebody watches them: replicas use more and more from the first fault on,
            or nobody can see what anybody uses. "": always the same.
        keeps_holes: Dead replicas are not replaced.
        blind_gcs: The GCS never notices that something died.
        eats_old: An update to a version that does not work ends one old replica after the other.
        keeps_bad: A bad update cannot be taken back: Serve keeps the new config.
        autoscales: Serve scales the app up with the first request of a client, or with the first fault, or down with
            the first fault.
        takes_along: How many others of its deployment a replica that is lost takes along.
        engine: What becomes of a replica whose child dies: the child is restarted, the replica fails from then on, it
            dies too, or it works on without.
        workers_wait: Workers end when the GCS has been away for so long.
        setup: How it is set up, for the check of the configuration.
        lacks: Capabilities that it does not have, by their keys: ``(KILLS_NODES,)``.
        waits: How long the plugin waits for it.
    """

    start_error: str = ""
    back_after: float = 0.3
    outage: int = 0
    answers_after: float = 0.0
    lossy_for: float = 0.0
    replicas: int = 4
    harmless: bool = False
    below: str = ""
    takes: str = ""
    anonymous: bool = False
    garbles: bool = False
    forgets: bool = False
    stale_proxies: bool = False
    outdated: str = ""
    leaks: bool = False
    grows: Literal["", "after a fault", "unseen"] = ""
    keeps_holes: bool = False
    blind_gcs: bool = False
    eats_old: bool = False
    keeps_bad: bool = False
    autoscales: Literal["", "with traffic", "with a fault", "down with a fault"] = ""
    takes_along: int = 0
    engine: Literal["restarted", "failing", "dying", "unused"] = "restarted"
    workers_wait: float = math.inf
    setup: Setup = field(default_factory=Setup)
    lacks: tuple[AnyCapability, ...] = ()
    waits: Waits = QUICK
