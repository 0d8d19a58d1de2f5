"""What is true of a world, from its parameters and not from the analysis.

**Away.** A user is away who gets no good answer, or waits longer than `limit`: what the test says (`slow_after`), or
the p99 latency of the good answers of the steady seconds, from when they were sent, and half of `longest_outage` on top
(0.05 s at least, 2 s at most); of fewer than 100 answers that p99 is not sure, so what lies between the median and it
is added, the more the fewer they are.

**Outage.** The moments at which a user who asks is away make an outage. It begins with the first of them, but never
before the fault, and lasts until those who ask are answered promptly, by the times of the answers: what waits for the
end of a stall is away until then. So an effect from `a` to `b` is an outage of `b - a` seconds, and of as much more as
the requests took that it met in flight; a stall whose requests all wait no longer than the limit is none. Outages with
less between them than a second, or three spacings of the requests, are one.

**What can be known.** Users ask only every so often. So each figure is true within what lies between two requests that
the effect hits, and 10 ms or 5 %. `Between` holds both ends: what is beyond the lower one is *certain*, what is beyond
the upper one *impossible*. Between them the world says nothing, and each verdict is right.

**Counts** (lost, late, in flight) and latencies are those of the very requests of the world, counted here once more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import accumulate

from tests.adversary.simulator import Asked, AskedPersistently, persistent_requests_of, requests_of
from tests.adversary.worlds import Effect, World

_SLACK = 0.010
_TIE = 1e-7
_LEAST_MARGIN, _MOST_MARGIN = 0.05, 2.0
_ENOUGH = 100
_AT_ONCE = 0.04
"""Seconds within which answers come at the same moment."""
_SHARE = 0.05
_UNSENT = Fraction(1, 1000)
_AFTER_REDUNDANCY = 5.0
_PUNCTUAL = 0.1
_CHANCE = 0.001
"""How many times in an experiment what is no chance comes about by it."""


@dataclass(frozen=True, slots=True)
class Between:
    """A figure that is true from `low` to `high`; infinity stands for *never*."""

    low: float
    high: float

    def holds(self, figure: float | None) -> bool:
        """Whether a measured figure can be right; None is *never*."""
        return self.low <= (math.inf if figure is None else figure) <= self.high


@dataclass(frozen=True, slots=True)
class Away:
    """From when to when users are away.

    Attributes:
        within: Seconds between two requests that feel it.
        total: Whether everybody does.
    """

    begins: float
    ends: float
    within: float
    total: bool = True


class Truth:
    """What is true of a world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.demands = world.demands
        self.asked = requests_of(world)
        self.exposed = [one for one in self.asked if one.due >= 0 or one.finished > 0]

    # -- before the fault ---------------------------------------------------------------------------------------

    @cached_property
    def steady(self) -> list[Asked]:
        """Those of the steady seconds that had ended before the fault."""
        return [one for one in self.asked if -self.world.steady <= one.due < 0 and one.finished <= 0]

    @property
    def was_steady(self) -> bool:
        """Whether there were three answers, and nothing was lost, in the steady seconds: else nothing is broken."""
        return len(self.steady) >= 3 and all(one.error is None for one in self.steady)

    @cached_property
    def p99_before(self) -> float:
        """Of the steady seconds."""
        return p99([one.latency for one in self.steady if one.error is None])

    @cached_property
    def usual(self) -> float:
        """The p99 latency of the app in the steady seconds: that the generator sent late was none of its doing."""
        return p99([one.finished - one.sent for one in self.steady if one.error is None])

    @cached_property
    def limit(self) -> float:
        """Seconds after which a user who waits is away."""
        demands, good = self.demands, sorted(one.finished - one.sent for one in self.steady if one.error is None)
        if demands.slow_after is not None:
            return demands.slow_after
        longest = demands.longest_outage
        margin = _MOST_MARGIN if longest is None else max(_LEAST_MARGIN, min(_MOST_MARGIN, longest / 2))
        median = good[(len(good) + 1) // 2 - 1] if good else 0.0
        return self.usual + margin + (self.usual - median) * max(0.0, 1 - len(good) / _ENOUGH)

    # -- outages ------------------------------------------------------------------------------------------------

    @property
    def merge_gap(self) -> float:
        """Outages that are closer are one."""
        return max(1.0, 3 * self.world.spacing)

    def within(self, every: int = 1) -> float:
        """Seconds between two requests that show something: those that are hit, and between them no long ones."""
        app = self.world.app
        return (every + (1 if app.one_in else 0)) * self.world.spacing

    @property
    def patience(self) -> float:
        """Seconds after which a user who waits is away, or is given up."""
        return min(self.limit, self.world.timeout)

    @cached_property
    def certain(self) -> list[Away]:
        """Away without doubt: the quickest of the usual requests are, though they come as late as they can."""
        app, found = self.world.app, []
        if app.least > self.limit:
            found.append(Away(0.0, math.inf, self.within()))
        for effect in self.world.effects:
            within = self.within(effect.every) + (app.most - app.least if effect.stalls else 0.0)
            begins, ends = self._surely(effect, within)
            if ends > begins:
                found.append(Away(begins, ends, within, effect.every == 1))
        return found

    def _surely(self, effect: Effect, within: float) -> tuple[float, float]:
        """When the first user asks who is away, at the latest, and when the last one does, at the earliest.

        Where some wait for the end of a stall, and others get an answer meanwhile, only that their answers come at the
        same moment shows that the last of them waited too. Those whose answers take each another time do not show it,
        nor do those who are given up before they have waited for too long, or who waited no longer than others do in
        steady state.
        """
        app, begins = self.world.app, max(effect.begins, 0.0)
        if effect.loses:
            return begins, effect.ends
        for span in self.world.unsent:  # whom the generator did not send for does not wait
            begins = span.ends if span.begins <= begins < span.ends else begins
        if effect.does in ("slow", "ramp"):
            return max(begins, self._too_slow(effect, app.least)), effect.ends
        takes, after = app.least if effect.does == "queues" else 0.0, self.world.after
        if effect.ends - begins + takes - within <= self.patience:
            return begins, begins
        # What would have taken longer than until its end is not held up by it.
        ends = effect.ends - (app.most if effect.does == "holds" else 0.0)
        at_once = app.most - app.least < _AT_ONCE and self.usual < app.most + _SLACK
        # It shows it only as long as little time lies between one of them and the next.
        near = min(self.merge_gap, (self.limit - self.usual) / 2) - _SLACK
        together = at_once and self.limit < self.world.timeout and within < near
        if effect.every == 1 or together:
            # Who asks last, and does not wait for too long, shows that it ended.
            return begins, min(ends, after) if effect.ends < after + self.patience + _SLACK else ends
        return begins, effect.ends - self.patience + takes

    @property
    def waits_as_usual(self) -> bool:
        """Whether nothing happened to an app of which a request waits too long now and then.

        Where the test says what is too long, each of them counts. Else it cannot be the fault's doing.
        """
        waits = self.world.app.longest > self.limit >= self.world.app.most
        return waits and self.demands.slow_after is None and not self.world.effects

    @cached_property
    def possible(self) -> list[Away]:
        """All that can be away: the longest requests, and those that were in flight before each effect."""
        world, app, found = self.world, self.world.app, []
        if app.longest > self.limit:
            found.append(Away(0.0, math.inf, self.within()))
        for effect in world.effects:
            begins = self._perhaps_from(effect)
            if begins < min(effect.ends, world.after):
                # Who met it just before the fault, and is given up after it, is away from the fault on.
                within = self.within(effect.every) + app.most - app.least
                found.append(Away(max(begins, 0.0), self._answered_after(max(effect.ends, 0.0), within), within))
        within = self.within() + app.most - app.least
        for span in world.unsent:
            if span.ends > 0:
                found.append(Away(max(span.begins, 0.0), self._answered_after(span.ends, within), within))
        return found

    def _answered_after(self, ends: float, within: float) -> float:
        """When those have their answers, at the latest, who ask next: they may wait a little, and not for too long."""
        latest = ends
        for effect in self.world.effects:
            if not effect.loses and effect.begins - within <= ends < effect.ends:
                latest = max(latest, effect.ends if effect.stalls else ends + effect.by)
        return latest

    def _perhaps_from(self, effect: Effect) -> float:
        """When the first user asks who can be away; infinity where nobody is."""
        takes = self.world.app.longest
        if effect.stalls:
            return effect.begins - takes if effect.ends - effect.begins + takes > self.patience else math.inf
        if effect.cuts:
            return effect.begins - takes
        return effect.begins if effect.loses else self._too_slow(effect, takes)

    def _too_slow(self, effect: Effect, takes: float) -> float:
        """From when on an effect makes those wait too long whose requests take so long by themselves."""
        if effect.does == "slow":
            return effect.begins if takes + effect.by > self.patience else math.inf
        share = (self.patience - takes) / effect.by
        return effect.begins + max(share, 0.0) * (effect.ends - effect.begins) if share < 1 else math.inf

    @cached_property
    def longest_outage(self) -> Between:
        """Seconds."""
        until = self.world.after
        low = max((self._least(span, until) for span in self._merged_for_certain()), default=0.0)
        high = max((self._most(span, until) for span in self._merged_perhaps()), default=0.0)
        return Between(low, high)

    @cached_property
    def traffic_back(self) -> Between:
        """Seconds from the fault; 0: it was never away."""
        end = self.world.after
        certain = [span for span in self.certain if self._is_felt(span)]
        low = max((min(span.ends, end) - span.within - _slack(span.ends) for span in certain), default=0.0)
        # One late answer at the end of traffic leaves no outage open: nothing later can show that all is well again.
        seen = end - max(1.0, 3 * self.world.spacing)
        never = any(span.total and span.ends >= end + _SLACK and span.begins + span.within < seen for span in certain)
        possible = [span for span in self.possible if span.begins < end]
        high = max((span.ends + span.within + _slack(span.ends) for span in possible), default=0.0)
        return Between(math.inf if never else max(0.0, low), math.inf if high >= end - self.within() else high)

    def _is_felt(self, span: Away) -> bool:
        """Whether somebody asks in it."""
        return min(span.ends, self.world.after) - span.begins >= span.within + _SLACK

    def _least(self, span: Away, until: float) -> float:
        # Those who feel it first and last may both be as far from its ends as they can.
        ends = span.ends if span.ends < until else until - self.world.spacing
        length = ends - span.begins - 2 * span.within + self.world.spacing
        return max(0.0, length - _slack(length))

    def _most(self, span: Away, until: float) -> float:
        ends = span.ends
        if ends >= until - self.within():
            # It is not seen to end: it lasts until the last request is given up.
            ends = until + max(self.world.timeout, self.limit)
        length = ends - span.begins + span.within
        return length + _slack(length)

    def _merged_for_certain(self) -> list[Away]:
        """Those that are one outage however the requests fall."""
        parts = [span for span in self.certain if self._is_felt(span) and span.within < self.merge_gap - _SLACK]
        return _merged(parts, lambda gap, within: gap + within < self.merge_gap - _SLACK)

    def _merged_perhaps(self) -> list[Away]:
        return _merged(self.possible, lambda gap, within: gap - within < self.merge_gap + _SLACK)

    # -- counts and latencies -----------------------------------------------------------------------------------

    def is_late(self, one: Asked) -> bool:
        """Whether it was answered well, and too late."""
        return one.error is None and one.latency > self.limit

    def counted(self, seconds: float) -> tuple[int, int, int]:
        """How many requests of the first seconds after the fault there were, how many were lost, and how many late."""
        inside = [one for one in self.exposed if one.due <= seconds + _TIE]
        return len(inside), sum(one.error is not None for one in inside), sum(self.is_late(one) for one in inside)

    @property
    def in_flight(self) -> int:
        """Requests that were on their way through the victim when it ended, and were lost."""
        hit = self.world.hit
        return sum(one.sent <= hit <= one.finished for one in self.exposed if one.error and not one.unsent)

    @property
    def lost(self) -> int:
        """From the fault to the end of the observation."""
        return sum(one.error is not None for one in self.exposed)

    def p99_during(self, seconds: float) -> float:
        """Of the first seconds after the fault."""
        return p99([_as_felt(one) for one in self.exposed if one.due <= seconds + _TIE])

    @property
    def unsent(self) -> int:
        """Requests that were not sent, before and after the fault."""
        return sum(one.unsent for one in self.asked)

    # -- persistent connections ---------------------------------------------------------------------------------

    @cached_property
    def persistent(self) -> list[AskedPersistently]:
        """Those that are judged."""
        persistent = self.world.persistent
        if persistent is None:
            return []
        again = persistent.redundancy + max(f.asked + f.takes for f in self.world.faults) + _AFTER_REDUNDANCY
        exposed = [one for one in persistent_requests_of(self.world) if one.due >= 0 or one.finished > 0]
        return [
            one
            for one in exposed
            if (one.due >= again if one.node == persistent.hit else one.due <= self.demands.window)
        ]

    @property
    def on_persistent_connections(self) -> float | None:
        """The share of good answers that is demanded there: no more than on fresh ones."""
        shares = (self.demands.persistent_availability, self.demands.availability)
        return None if shares[0] is None or shares[1] is None else min(shares[0], shares[1])

    # -- what may be said ---------------------------------------------------------------------------------------

    def nothing_shown(self) -> Iterator[str]:
        """Why it may not be passed, whatever became of the requests: nothing was tested, or nobody could tell."""
        world, demands = self.world, self.demands
        landed = [fault for fault in world.faults if fault.landed]
        if not landed:
            yield "no fault landed"
        if any(fault.must_land and not fault.landed for fault in world.faults):
            yield "a fault that had to land did not"
        if any(fault.served == 0 for fault in landed):
            yield "a victim served nothing"
        if not demands.any_of_the_requests:
            yield "nothing was demanded of the requests"
        if world.after < demands.window - max(1.0, 2 * world.spacing) - _SLACK:
            yield "traffic ended before the window"
        if not self.counted(demands.window)[0]:
            yield "there were no requests in the window"
        if demands.availability is not None and self.counted(demands.window)[0] < _rule_of_three(demands.availability):
            yield "there were too few requests for the share"
        if self.unsent > _UNSENT * len(self.asked):
            yield "too many requests were not sent"
        for allowed in (demands.longest_outage, demands.traffic_back):
            if allowed is not None and allowed < 1.9 * world.spacing:
                yield "the requests were too far apart to show so short an outage"
        if demands.p99_ratio is not None and math.isinf(p99([_as_felt(one) for one in self.steady])):
            yield "there is no p99 before the fault"
        if self.asked[-1].due < world.hit:
            yield "no requests were due since the victim ended"
        for span in world.stood_still:
            lasted = span.ends - span.begins
            in_window = span.begins >= 0 and span.ends <= demands.window
            if in_window and lasted > self.latest + 2 * _PUNCTUAL + world.spacing:
                yield "the load generator stood still in the window"

    @property
    def latest(self) -> float:
        """By how much the load generator may be late, at most."""
        demands = self.demands
        tenth = (demands.longest_outage or demands.traffic_back or 0.0) / 10
        return 0.1 if demands.p99_ratio is not None else min(2.0, max(0.1, tenth))

    def violations(self, *, seen: bool = False) -> Iterator[str]:
        """The demands that were not met, without doubt.

        Args:
            seen: Only where traffic was sent for long enough to see it, and what waits is not so rare that some may
                have waited before.
        """
        demands = self.demands
        if seen and demands.slow_after is None and self._waits_are_rare():
            return
        late = min(self.latest, sum(span.ends - span.begins for span in self.world.stood_still))
        if demands.longest_outage is not None and self.longest_outage.low - late > demands.longest_outage:
            yield f"away for {self.longest_outage.low:.2f} s at least"
        back, allowed = self.traffic_back.low, demands.traffic_back
        if allowed is not None and back - late > allowed and (self.world.after - _SLACK >= allowed or not seen):
            yield f"traffic was not back before {self.traffic_back.low:.2f} s"
        if demands.availability is not None:
            sent, lost, slow = self.counted(demands.window)
            if sent and Fraction(lost + slow) > _allowed(demands.availability) * sent:
                yield f"{lost} lost and {slow} late of {sent} in the window"
            if _worst_share(self._ends_of_outages(), self.counted, demands.availability):
                yield "too many lost up to the end of the last outage"
        if demands.lost_beyond_in_flight is not None and self.lost - self.in_flight > demands.lost_beyond_in_flight:
            yield f"{self.lost - self.in_flight} lost that were not in flight"
        if demands.p99_ratio is not None and self.was_steady:
            before, during = self.p99_before, self.p99_during(demands.window)
            if during > demands.p99_ratio * before + 1e-6:
                yield f"p99 from {before:.3f} s to {during:.3f} s"
        share, judged = self.on_persistent_connections, self.persistent
        if share is not None and len(judged) >= _rule_of_three(share):
            lost = sum(one.lost for one in judged)
            if Fraction(lost) > _allowed(share) * len(judged):
                yield f"{lost} of {len(judged)} lost on persistent connections"

    def _waits_are_rare(self) -> bool:
        """Whether few wait too long, by themselves or in an effect, or few were asked before the fault."""
        if self.world.app.longest > self.limit:
            return True
        waits = [effect for effect in self.world.effects if not effect.loses]
        too_few = len(self.steady) < _ENOUGH or max((effect.every for effect in waits), default=0) > 4
        return bool(waits) and (too_few or any(map(self._may_be_chance, waits)))

    def _may_be_chance(self, effect: Effect) -> bool:
        """Whether as many may wait as close together of an app that nothing happened to.

        Of n steady requests of which none waited, three in n may wait (the rule of three).
        """
        begins, ends = self._surely(effect, 0.0)
        met = math.ceil(max(0.0, ends - begins) / self.world.spacing)
        waiting = met // effect.every
        choices = math.lgamma(met + 1) - math.lgamma(waiting + 1) - math.lgamma(met - waiting + 1)
        chance = choices + waiting * math.log(3 / len(self.steady))
        return math.log(len(self.asked)) + chance > math.log(_CHANCE)

    def _ends_of_outages(self) -> list[float]:
        """When the last outage ended, at the earliest and at the latest, where it is certain and after the window."""
        window, end = self.demands.window, self.world.after
        last = max(self.certain, key=lambda span: span.ends, default=None)
        ends = [self.traffic_back.low, self.traffic_back.high]
        if last is None or not self._is_felt(last) or not window < ends[0] or ends[1] >= end:
            return []
        return ends

    def doubts(self) -> Iterator[str]:
        """The demands that may not have been met: without any the app is sound, and within what is allowed.

        Requests that could not be sent count in the app's favour.
        """
        demands = self.demands
        if not self.was_steady:
            yield "it was not steady before the fault"
        if self.waits_as_usual:
            app, ratio = self.world.app, demands.p99_ratio
            if ratio is not None and app.most > ratio * app.takes * (1 - app.jitter / 2):
                yield "p99"
            return
        if demands.longest_outage is not None and self.longest_outage.high > demands.longest_outage:
            yield f"away for up to {self.longest_outage.high:.2f} s"
        if demands.traffic_back is not None and self.traffic_back.high > demands.traffic_back:
            yield f"traffic was back after up to {self.traffic_back.high:.2f} s"
        if demands.availability is not None and self._share_in_doubt(demands.availability):
            yield "too many may be lost or late"
        beyond = sum(one.error is not None and not one.unsent for one in self.exposed) - self.in_flight
        if demands.lost_beyond_in_flight is not None and beyond > demands.lost_beyond_in_flight:
            yield f"{beyond} lost that were not in flight"
        if demands.p99_ratio is not None:
            allowed = demands.p99_ratio * self.p99_before - 1e-6
            felt = [(one.due, 0.0 if one.unsent else _as_felt(one)) for one in self.exposed]
            if p99(waited for due, waited in felt if due <= demands.window) > allowed:
                yield "p99"
            # Up to the end of a later outage it can only be higher if something in that time is.
            if any(span.ends > demands.window for span in self.possible) and any(
                waited > allowed for due, waited in felt if due > demands.window
            ):
                yield "p99 up to the end of the last outage"
        share, lost = self.on_persistent_connections, sum(one.lost for one in self.persistent)
        if share is not None and Fraction(lost) > _allowed(share) * len(self.persistent):
            yield "losses on persistent connections"

    def _share_in_doubt(self, availability: float) -> bool:
        """Whether the share is too small over the window, or up to any moment after it."""
        bad = [not one.unsent and (one.error is not None or self.is_late(one)) for one in self.exposed]
        window = self.demands.window
        for sent, lost in enumerate(accumulate(bad), start=1):
            following = self.exposed[sent].due if sent < len(self.exposed) else math.inf
            if following <= window:
                continue
            if Fraction(lost) > _allowed(availability) * sent:
                return True
            confidence = self.demands.confidence
            if confidence is not None and _at_most(lost, sent, 1 - availability) > 1 - confidence - 1e-6:
                return True
        return False

    def shown(self) -> bool:
        """Whether the requests show all that is demanded, and with some to spare."""
        world, demands = self.world, self.demands
        if world.unsent or world.stood_still or world.after < demands.window + 2 * world.spacing:
            return False
        if demands.longest_outage is not None and any(e.ends > world.after - self.merge_gap for e in world.effects):
            return False  # an outage that goes on when nobody looks any more may be longer
        for allowed in (demands.longest_outage, demands.traffic_back):
            if allowed is not None and allowed < 2.1 * world.spacing:
                return False
        if not self.counted(demands.window)[0] or self.waits_as_usual:
            return False
        if demands.availability is None:
            return True
        return self.counted(demands.window)[0] >= _enough(demands.availability, demands.confidence)


# -- arithmetic ------------------------------------------------------------------------------------------------------


def p99(latencies: Iterable[float]) -> float:
    """The least of them that 99 in a hundred do not exceed; infinity where there are none."""
    ordered = sorted(latencies)
    return ordered[-(-99 * len(ordered) // 100) - 1] if ordered else math.inf


def _as_felt(one: Asked) -> float:
    return math.inf if one.error is not None else one.latency


def _slack(figure: float) -> float:
    return max(_SLACK, _SHARE * figure) if math.isfinite(figure) else _SLACK


def _allowed(availability: float) -> Fraction:
    return 1 - Fraction(str(availability))


def _rule_of_three(availability: float) -> float:
    return math.inf if availability >= 1 else math.ceil(3 / _allowed(availability))


def _enough(availability: float, confidence: float | None) -> float:
    enough = _rule_of_three(availability)
    if confidence is None or availability >= 1:
        return enough
    return max(enough, math.ceil(math.log(1 - confidence) / math.log(availability)) + 1)


def _at_most(lost: int, sent: int, rate: float) -> float:
    """The probability of that many or fewer losses."""
    logs = (
        math.lgamma(sent + 1) - math.lgamma(k + 1) - math.lgamma(sent - k + 1)
        + k * math.log(rate) + (sent - k) * math.log1p(-rate)
        for k in range(lost + 1)
    )  # fmt: skip
    return math.fsum(math.exp(log) for log in logs)


def _worst_share(ends: Sequence[float], counted: Callable[[float], tuple[int, int, int]], availability: float) -> bool:
    """Whether the share is too small up to each of these moments."""
    shares = [counted(end) for end in ends]
    return bool(shares) and all(Fraction(lost + late) > _allowed(availability) * n for n, lost, late in shares)


def _merged(spans: Iterable[Away], together: Callable[[float, float], bool]) -> list[Away]:
    """Those that are one outage made one."""
    ordered = sorted(spans, key=lambda span: span.begins)
    found: list[Away] = []
    for span in ordered:
        last = found[-1] if found else None
        if last is not None and together(span.begins - last.ends, last.within + span.within):
            found[-1] = Away(last.begins, max(last.ends, span.ends), max(last.within, span.within))
        else:
            found.append(span)
    return found
