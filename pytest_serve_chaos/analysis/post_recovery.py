"""What the post-recovery checks of an experiment said, and when they ran."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from pytest_serve_chaos.events import (
    Event,
    NotSettled,
    PostRecoveryChecking,
    ProxyStale,
    Settled,
    SettlingUnknown,
    has,
    of_kind,
)


@dataclass(frozen=True, slots=True)
class PostRecovery:
    """What the post-recovery check said.

    Attributes:
        was_run: Whether it said anything.
        failures: Why it was not passed, each time.
        unknown: What it could not see.
        stale_proxies: The names of the proxies that do not receive the controller's updates.
    """

    was_run: bool
    failures: tuple[str, ...]
    unknown: tuple[str, ...]
    stale_proxies: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OwnCheck:
    """When a post-recovery check ran, and whether it replaced replicas that serve."""

    begin: float
    end: float
    replaces: bool


def post_recovery_of(events: Iterable[Event]) -> PostRecovery:
    """What the post-recovery check said, by the events of one experiment."""
    events = tuple(events)
    failures = tuple(event.text for event in of_kind(NotSettled, events))
    unknown = tuple(event.text for event in of_kind(SettlingUnknown, events))
    return PostRecovery(
        was_run=bool(failures or unknown or has(Settled, events)),
        failures=failures,
        unknown=unknown,
        stale_proxies=tuple(dict.fromkeys(event.proxy for event in of_kind(ProxyStale, events))),
    )


def own_checks_of(events: Iterable[Event]) -> tuple[OwnCheck, ...]:
    """When the post-recovery checks ran that the test asked for, by the events of one experiment."""
    seen = of_kind(PostRecoveryChecking, events)
    ends = [event.at for event in seen if not event.begins]
    begun = [event for event in seen if event.begins]
    return tuple(OwnCheck(e.at, next((end for end in ends if end >= e.at), math.inf), e.replaces) for e in begun)
