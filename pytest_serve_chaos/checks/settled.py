"""Whether the post-recovery check was passed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from pytest_serve_chaos.analysis.post_recovery import PostRecovery, post_recovery_of
from pytest_serve_chaos.analysis.words import listing, number
from pytest_serve_chaos.checks.base import Check, Missed, Objection, Observation, Unknown
from pytest_serve_chaos.model import Expectations


@dataclass(frozen=True, slots=True)
class Settled:
    """All proxies, and all that hold handles, receive the controller's updates."""

    name: ClassVar[str] = "settled"
    on_requests: ClassVar[bool] = False

    def needs(self, seen: Observation) -> Iterator[str]:
        """That the post-recovery check was run."""
        if not post_recovery_of(seen.record.events).was_run:
            yield "the post-recovery check did not run, so it is unknown whether all proxies hear their controller"

    def judge(self, seen: Observation) -> Iterator[Objection]:
        """Missed if it was not passed; unknown of what it could not see."""
        found = post_recovery_of(seen.record.events)
        yield from map(Unknown, found.unknown)
        if found.failures and seen.measurement.settled is None:
            # A proxy that answers with old routes is stale, whatever others do on the machine.
            yield Missed(_not_passed(found), whatever_the_load=bool(found.stale_proxies))


def _not_passed(found: PostRecovery) -> str:
    stale, reason = found.stale_proxies, found.failures[-1]
    if not stale:
        return f"the post-recovery check was not passed: {reason}"
    hears = "does not hear its" if len(stale) == 1 else "do not hear their"
    return f"{number(len(stale), 'proxy', 'proxies')} {hears} controller ({listing(stale)}): {reason}"


def demanded(expected: Expectations) -> Iterator[Check]:
    """The check for `settled`, if it is demanded."""
    if expected.settled:
        yield Settled()
